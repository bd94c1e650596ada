"""Runs in a tracker, with a stand-in for wandb that keeps what it is told."""

import sys
from types import SimpleNamespace

import pytest
import tiny

from danq_keras.commands import train
from danq_keras.system import errors
from danq_keras.training.tracking import tracked


class Records(list):
    """What `wandb.init` was called with, and all that came after."""

    def init(self, **options):
        record = SimpleNamespace(options=options, rows=[], summary={}, code=None)
        record.log = lambda row, step: record.rows.append((step, row))
        record.finish = lambda exit_code: setattr(record, "code", exit_code)
        self.append(record)
        return record


@pytest.fixture
def records(monkeypatch):
    made = Records()
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=made.init))
    return made


def test_epochs_test_and_resuming_in_the_same_record(records, tmp_path, run_script):
    data = tiny.make_dataset(tmp_path / "data").folder
    pairs = [f"{key}={value}" for key, value in tiny.SETTINGS.items()]
    words = ["--data", data, "--preset", "danq", "--epochs", "2", "--set", *pairs]
    out = tmp_path / "run"
    assert run_script("train", train.main, *words, "--out", out, "--log", "wandb") == 0
    (first,) = records
    assert first.options["name"] == "run"
    assert first.options["config"]["train"]["epochs"] == 2
    assert [step for step, _ in first.rows] == [1, 2]
    assert first.rows[1][1]["val_loss"] > 0
    assert 0 <= first.summary["test_auroc_mean"] <= 1
    assert first.code == 0
    words = ["--out", out, "--resume", "--epochs", "3", "--log", "wandb"]
    assert run_script("train", train.main, *words) == 0
    assert [step for step, _ in records[1].rows] == [3]
    assert records[1].options["id"] == first.options["id"]


def test_a_run_that_fails_is_marked_so(records, tmp_path):
    with pytest.raises(OSError, match="full"), tracked("wandb", tmp_path, {}):
        raise OSError("full")
    assert records[0].code == 1


def test_nobody_is_told_unless_asked(records, tmp_path):
    with tracked(None, tmp_path, {}) as tracker:
        tracker.epoch({"epoch": 1})
        tracker.test({"overall": {}})
    assert records == []
    assert list(tmp_path.iterdir()) == []


def test_mistakes(monkeypatch, tmp_path, run_script, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    words = ["--data", tmp_path, "--out", tmp_path / "run", "--log", "wandb"]
    assert run_script("train", train.main, *words) == 2
    assert "pip install 'danq_keras[wandb]'" in capsys.readouterr().err
    assert run_script("train", train.main, *words, "--repeats", "2") == 2
    assert "--log: for a single run" in capsys.readouterr().err
    with pytest.raises(errors.InputError, match="`log`: one of wandb"), tracked("x", tmp_path, {}):
        pass
