"""Checkpoints: complete or absent, all the state there is, and of this network only."""

import json
import os
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from danq_keras.system.errors import InputError
from danq_keras.training.checkpoints import (
    Snapshot,
    latest_checkpoint,
    load_checkpoint,
)

STATE = {"step": 7, "best_loss": 0.1 + 0.2, "history": [{"epoch": 1, "loss": 0.5}], "done": False}


def make(
    units: int = 3, *, optimizer: str = "rmsprop", seed: int = 0
) -> tuple[keras.Model, keras.optimizers.Optimizer]:
    """A network with dropout, and an optimizer that has taken one step."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dropout(0.5, seed=11), keras.layers.Dense(units)]
    )
    made = keras.optimizers.get(optimizer)
    made.build(model.trainable_variables)
    step(model, made)
    return model, made


def step(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(np.ones((5, 4), np.float32), training=True)))
    variables = model.trainable_variables
    optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)


def save_checkpoint(
    folder: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer, state: dict[str, Any]
) -> Path:
    return Snapshot.of(model, optimizer, state).write(folder)


def values(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(v.value) for v in (*model.variables, *optimizer.variables)]


def assert_same(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    model, optimizer = make()
    before = values(model, optimizer)
    path = save_checkpoint(tmp_path / "checkpoints", model, optimizer, STATE)
    other = make(seed=1)
    assert load_checkpoint(path, *other) == STATE
    assert_same(values(*other), before)


def test_a_snapshot_keeps_its_moment_while_training_goes_on(tmp_path: Path) -> None:
    model, optimizer = make()
    before = values(model, optimizer)
    scores = np.arange(4.0)
    snapshot = Snapshot.of(model, optimizer, {"step": 7, "scores": scores, "history": [{"a": 1}]})
    for variable in (*model.variables, *optimizer.variables):
        variable.assign(keras.ops.ones_like(variable.value))
    scores += 1
    other = make(seed=1)
    state = load_checkpoint(snapshot.write(tmp_path), *other)
    assert_same(values(*other), before)
    np.testing.assert_array_equal(state["scores"], np.arange(4.0))


def test_continued_is_uninterrupted(tmp_path: Path) -> None:
    """Dropout masks, means and weights go on as if nothing had happened."""
    model, optimizer = make()
    path = save_checkpoint(tmp_path, model, optimizer, STATE)
    for _ in range(3):
        step(model, optimizer)
    resumed = make(seed=2)
    step(*resumed)  # its dropout generator has gone elsewhere
    load_checkpoint(path, *resumed)
    for _ in range(3):
        step(*resumed)
    assert_same(values(*resumed), values(model, optimizer))


def test_arrays_of_the_state_come_back_as_they_are(tmp_path: Path) -> None:
    arrays = {
        "scores": np.array([0.1, -np.inf, 3e38], np.float32),
        "again": np.array([2**40, 0]),
        "nothing": np.array([], np.int64),
    }
    made = make()
    path = save_checkpoint(tmp_path, *made, STATE | arrays)
    state = load_checkpoint(path, *made)
    for name, array in arrays.items():
        loaded = state.pop(name)
        assert loaded.dtype == array.dtype
        np.testing.assert_array_equal(loaded, array)
    assert state == STATE


def test_the_generators_state_is_in_the_file(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, *make(), STATE)
    with h5py.File(path) as file:
        paths = [dataset.attrs["path"] for dataset in file["model"].values()]
        assert json.loads(file.attrs["state"]) == STATE
    assert sum("seed_generator" in path for path in paths) == 1


def test_two_are_kept_and_the_latest_found(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "nowhere") is None
    made = make()
    for number in (9, 10, 1000, 99_999):
        path = save_checkpoint(tmp_path, *made, {"step": number})
        assert latest_checkpoint(tmp_path) == path
    assert names(tmp_path) == ["step-000001000.h5", "step-000099999.h5"]


def test_the_same_step_again_replaces(tmp_path: Path) -> None:
    made = make()
    save_checkpoint(tmp_path, *made, {"step": 3, "try": 1})
    path = save_checkpoint(tmp_path, *made, {"step": 3, "try": 2})
    assert names(tmp_path) == ["step-000000003.h5"]
    assert load_checkpoint(path, *made)["try"] == 2


def test_torn_temporary_file_is_no_checkpoint(tmp_path: Path) -> None:
    """What a kill in mid-writing leaves, of early versions: removed at the next start."""
    made = make()
    path = save_checkpoint(tmp_path, *made, STATE)
    (tmp_path / ".partial.h5").write_bytes(path.read_bytes()[:500])
    assert latest_checkpoint(tmp_path) == path
    assert names(tmp_path) == [path.name]
    save_checkpoint(tmp_path, *made, {"step": 8})
    assert names(tmp_path) == ["step-000000007.h5", "step-000000008.h5"]


def test_failure_while_writing_keeps_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make()
    for number in (1, 2):
        save_checkpoint(tmp_path, *made, {"step": number})

    def refuse(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, *made, {"step": 3})
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert load_checkpoint(latest, *made) == {"step": 2}


def refusal(path: Path, *made: Any) -> str:
    before = values(*made)
    with pytest.raises(InputError) as caught:
        load_checkpoint(path, *made)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert_same(values(*made), before)
    return message


def test_another_network_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, *make(), STATE)
    assert "of another network or optimizer" in refusal(path, *make(units=4))


def test_another_optimizer_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, *make(), STATE)
    assert "of another network or optimizer" in refusal(path, *make(optimizer="adam", seed=1))


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_damaged_checkpoint_says_what_to_do(tmp_path: Path, keep: float) -> None:
    made = make()
    path = save_checkpoint(tmp_path, *made, STATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    assert "There is none before it: start the run anew with `overwrite=True`." in refusal(
        path, *made
    )
    before = save_checkpoint(tmp_path, *made, {"step": 5})
    assert f"Delete it to resume from the one before, {before.name}." in refusal(path, *made)
    damage_weight(before)
    assert f"{before.name} before it is damaged too" in refusal(path, *made)


def damage_weight(path: Path) -> None:
    """Flip a bit of the first weight, which HDF5 does not notice."""
    with h5py.File(path) as file:
        at = file["model/0000"].id.get_offset() + file.userblock_size + 3
    content = bytearray(path.read_bytes())
    content[at] ^= 0x7E
    path.write_bytes(content)


def test_one_flipped_bit_is_noticed(tmp_path: Path) -> None:
    made = make()
    path = save_checkpoint(tmp_path, *made, STATE)
    whole = path.read_bytes()
    damage_weight(path)
    assert "the checkpoint is damaged (wrong checksum)" in refusal(path, *made)
    for at in (20, 80, 300, 511, 600, len(whole) // 2, len(whole) - 1):
        content = bytearray(whole)
        content[at] ^= 1
        path.write_bytes(content)
        assert "the checkpoint is damaged (wrong checksum)" in refusal(path, *made)


def test_a_checkpoint_of_an_early_version_loads(tmp_path: Path) -> None:
    """Without the block in front, as they were written before checksums came."""
    made = make()
    path = save_checkpoint(tmp_path, *made, STATE)
    path.write_bytes(path.read_bytes()[512:])
    assert load_checkpoint(path, *make(seed=1)) == STATE


def test_other_hdf5_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "step-000000001.h5"
    with h5py.File(path, "w") as file:
        file["x"] = 1
    assert "not a readable checkpoint" in refusal(path, *make())
