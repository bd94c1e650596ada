"""A training whose files are damaged under it, or before it goes on."""

import json
import os
from pathlib import Path

import h5py
import pytest
import tiny

from danq_keras.system.errors import InputError
from danq_keras.training.trainer import Trainer


def test_a_store_cut_short_in_mid_training_is_one_line(tmp_path: Path) -> None:
    dataset = tiny.make_dataset(tmp_path / "data", n_train=400)
    trainer = Trainer(tiny.preset(epochs=2), dataset, tmp_path)

    def cut(_row: object) -> None:
        os.truncate(dataset.train.path, 700)

    with pytest.raises(InputError, match=r"train\.h5: the file was cut short while it was in use"):
        trainer.fit(cut)
    assert list((tmp_path / "checkpoints").glob("step-*.h5"))


def test_an_early_checkpoint_with_another_state_is_one_line(tmp_path: Path) -> None:
    dataset = tiny.make_dataset(tmp_path / "data")
    trainer = Trainer(tiny.preset(epochs=1), dataset, tmp_path)
    trainer.save(wait=True)
    path = next((tmp_path / "checkpoints").glob("step-*.h5"))
    path.write_bytes(path.read_bytes()[512:])
    for change in ({"sums": 3}, {"unknown": 1}, {"sums": None}):
        with h5py.File(path, "r+") as file:
            before = file.attrs["state"]
            file.attrs["state"] = json.dumps(json.loads(before) | change)
        with pytest.raises(InputError, match="its state is damaged"):
            trainer.resume()
        with h5py.File(path, "r+") as file:
            file.attrs["state"] = before
    assert trainer.resume()
