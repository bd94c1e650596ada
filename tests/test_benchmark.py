import pytest

from danq_keras.commands import benchmark, benchmark_genome
from danq_keras.commands.benchmark_train import floating_point_operations
from danq_keras.console import InputError
from danq_keras.presets import PRESETS


def test_loader_prints_a_ratio_for_every_form(capsys):
    arguments = ["loader", "--windows", "600", "--seconds", "0.05", "--mat-batches", "1"]
    assert benchmark.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1,200 samples of 1000 bases, exactly shuffled")
    assert len([line for line in lines if line.startswith("pipeline") and " x" in line]) == 4


def test_train_prints_speed_and_the_time_of_an_epoch(capsys):
    arguments = ["train", "--preset", "demo", "--batch-sizes", "4", "--steps", "1", "--no-twin"]
    assert benchmark.main([*arguments, "--peak-tflops", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Keras/tensorflow demo, float32, batch 4:")
    assert "4.4 M samples in" in out
    assert "% of the peak" in out


def test_train_refuses_batch_sizes_that_are_no_numbers():
    with pytest.raises(InputError, match="--batch-sizes"):
        benchmark.main(["train", "--batch-sizes", "100,many"])


def test_operations_of_a_training_step_by_hand():
    danq = 975 * 26 * 4 * 320 + 75 * 2 * (320 + 320) * 4 * 320 + 48_000 * 925 + 925 * 919
    assert floating_point_operations(PRESETS["danq"].model) == 3 * 2 * danq
    deepsea = 993 * 8 * 4 * 320 + 241 * 8 * 320 * 480 + 53 * 8 * 480 * 960
    deepsea += 53 * 960 * 925 + 925 * 919
    assert floating_point_operations(PRESETS["deepsea"].model) == 3 * 2 * deepsea


def test_genome_builds_what_it_made_and_compares(tmp_path, capfd):
    arguments = ["genome", "--scale", "0.0005", "--peak-files", "3", "--folder", str(tmp_path)]
    assert benchmark.main(arguments) == 0
    out = capfd.readouterr().out
    for text in ("3 targets", "labelling bins", "peak memory", "GB anonymous", "ratio  "):
        assert text in out
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert set(kept) == {"genome-0.0005.fa", "genome-0.0005.fa.fai", "peaks-0.0005-3"}
    letters = (tmp_path / "genome-0.0005.fa").read_bytes()
    assert letters.count(b">") == 21
    assert all(letters.count(base) > 100_000 for base in (b"A", b"c", b"g", b"T"))
    assert letters.count(b"N") > 10_000
    assert benchmark.main(arguments) == 0  # with the same files
    assert (tmp_path / "genome-0.0005.fa").stat().st_mtime_ns == kept["genome-0.0005.fa"]


def test_genome_refuses_what_cannot_be_made():
    with pytest.raises(InputError, match=r"--scale: above 0, up to 1; .* Received: 0\.0, 39"):
        benchmark.main(["genome", "--scale", "0"])
    with pytest.raises(InputError, match="--peak-files"):
        benchmark.main(["genome", "--peak-files", "0"])


def test_genome_says_when_the_build_fails(capfd):
    with pytest.raises(InputError, match=r"must end with status 0\. Received: 2\. See its message"):
        benchmark_genome._build(["genome", "out", "--genome", "none.fa", "--peaks", "none.bed"])
    assert "none.fa: no such file" in capfd.readouterr().err
