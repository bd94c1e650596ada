import numpy as np
import pandas as pd
import pytest

from danq_keras.benchmarks import genome, steps
from danq_keras.benchmarks.train import floating_point_operations
from danq_keras.commands import benchmark
from danq_keras.genome.dna import reverse_complement_codes
from danq_keras.motifs.motif import Motif
from danq_keras.recipes.presets import PRESETS, get_preset
from danq_keras.recipes.settings import apply_settings
from danq_keras.system.errors import InputError


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
    assert out.startswith("this machine: ")
    assert "\nKeras/tensorflow demo, float32, batch 4:" in out
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


def test_simulated_batches_have_the_labels_of_deepsea():
    preset = apply_settings(get_preset("demo"), {"window": 200})
    batches = steps.simulated_batches(preset, 30)
    assert len(batches) == 30
    assert {(codes.shape, labels.shape) for codes, labels in batches} == {((100, 200), (100, 919))}
    labels = np.concatenate([labels for _, labels in batches])
    rates = labels.mean(axis=0)
    assert 0.015 < rates.mean() < 0.025
    assert rates.max() > 5 * np.median(rates)  # as uneven as real targets
    again = steps.simulated_batches(preset, 30)
    np.testing.assert_array_equal(again[7][0], batches[7][0])
    np.testing.assert_array_equal(again[7][1], batches[7][1])


def test_planted_sites_stand_where_they_are_said_to_be(monkeypatch):
    """With motifs of one possible site each, a window has a motif exactly where that site is."""
    words = [np.array([0, 1, 2, 3] * 5, np.uint8), np.array([0, 0, 1, 1, 3] * 4, np.uint8)]
    motifs = [Motif(str(i), str(i), np.eye(4)[word]) for i, word in enumerate(words)]
    monkeypatch.setattr(steps, "danq_jaspar_motifs", lambda: motifs)
    monkeypatch.setattr(steps, "_SITES", 1)
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 4, (60, 400), dtype=np.uint8)
    present = steps._plant(codes, rng)
    assert 0.2 < present.mean() < 0.6
    texts = [row.tobytes() for row in codes]
    for number, word in enumerate(words):
        sites = {word.tobytes(), reverse_complement_codes(word).tobytes()}
        found = [any(site in text for site in sites) for text in texts]
        hidden = present[:, number] & ~np.array(found)  # a later site may stand on an earlier one
        assert not np.any(found & ~present[:, number])
        assert hidden.mean() < 0.1


def test_steps_by_their_formulae(tmp_path, capsys):
    """First step: RMSprop moves lr·g / √(0.1 g² + ε), by lr·g / √ε where ε outweighs g²."""
    assert (
        benchmark.main(["steps", "--preset", "demo", "--steps", "2", "--out", str(tmp_path)]) == 0
    )
    table = pd.read_csv(tmp_path / "steps.tsv", sep="\t")
    assert len(table) == len(steps.RULES) * 2 * len(steps.GROUPS)
    first = table[table["step"] == 1].set_index(["rule", "weights"])
    names = [rule.name for rule in steps.RULES]
    for name in names[1:]:  # the same network and batch
        for column in ("loss", "gradient_rms"):
            ours, original = first.loc[name, column], first.loc[names[0], column]
            np.testing.assert_allclose(ours, original, rtol=1e-4)
    danq = first.loc[names[0]].drop("biases")
    assert (danq["share_above_epsilon"] == 0).all()
    np.testing.assert_allclose(danq["step_rms"] / danq["gradient_rms"], 1.0, rtol=0.02)
    pytorch = first.loc[names[3]]  # g / √(0.01 g²) wherever there is a gradient
    expected = 1e-2 * np.sqrt(pytorch["share_above_epsilon"])
    np.testing.assert_allclose(pytorch["step_rms"], expected, rtol=0.05)
    assert capsys.readouterr().out.startswith((tmp_path / "steps.md").read_text())
    assert (tmp_path / "steps.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"steps\.tsv"):
        benchmark.main(["steps", "--preset", "demo", "--out", str(tmp_path)])


def test_steps_needs_steps():
    with pytest.raises(InputError, match="--steps: must be above zero"):
        benchmark.main(["steps", "--steps", "0"])


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
        genome._build(["genome", "out", "--genome", "none.fa", "--peaks", "none.bed"])
    assert "none.fa: no such file" in capfd.readouterr().err


@pytest.mark.slow
def test_the_rehearsal_tells_time_and_memory_of_every_stage(tmp_path, capsys):
    sizes = ["--train", "2000", "--valid", "100", "--test", "100", "--steps", "2"]
    assert benchmark.main(["rehearsal", *sizes, "--preset", "demo", "--dir", str(tmp_path)]) == 0
    table = capsys.readouterr().out.partition("\nstage ")[2].splitlines()[1:-1]
    names = [line[:45].strip() for line in table]
    assert names[:3] == ["conversion", "checksums, network", "baselines"]
    assert names[-2:] == ["tables, comparison with the paper, report", "all"]
    assert len(names) == 10
    seconds, peaks, own = np.array([line[45:].split() for line in table], float).T
    assert (seconds >= 0).all()
    np.testing.assert_allclose(seconds[-1], seconds[:-1].sum(), atol=0.6)
    assert 0.1 < peaks.min() <= peaks.max() == peaks[-1] < 20
    assert (own <= peaks + 0.01).all()
    assert 0.05 < own.min() <= own.max() == own[-1]
    assert not list(tmp_path.iterdir())  # all files are gone
