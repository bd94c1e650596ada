import pytest

from danq_keras.commands import benchmark
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
