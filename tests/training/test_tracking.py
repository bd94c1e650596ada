"""Runs in a tracker, with a stand-in for wandb that keeps what it is told."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny

from danq_keras.commands import train
from danq_keras.runs import processes
from danq_keras.system import errors
from danq_keras.training.tracking import tracked


class WandbError(Exception):
    """As `wandb.Error`, of which all that wandb raises are kinds."""


class Records(list):
    """What `wandb.init` was called with, and all that came after."""

    logged_in = True

    def login(self):
        if not self.logged_in:
            raise WandbError("No API key configured.")

    def init(self, **options):
        record = SimpleNamespace(options=options, rows=[], summary={}, code=None)
        record.log = lambda row, step: record.rows.append((step, row))
        record.finish = lambda exit_code: setattr(record, "code", exit_code)
        self.append(record)
        return record


@pytest.fixture
def records(monkeypatch):
    made = Records()
    monkeypatch.setitem(sys.modules, "wandb", module(made))
    return made


def module(made):
    return SimpleNamespace(init=made.init, login=made.login, Error=WandbError)


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


@pytest.mark.usefixtures("records")
def test_the_runs_of_a_set_are_a_group(monkeypatch, tmp_path, run_script):
    started = []

    class Ended:
        """A process that has done its work."""

        returncode = 3  # the set stops here

        def __init__(self, command, *, env, **_):
            request = json.loads(json.loads(Path(command[-1]).read_text())["request"])
            started.append((request["log"], env["WANDB_RUN_GROUP"]))

        def poll(self):
            return self.returncode

    data = tiny.make_dataset(tmp_path / "data").folder
    pairs = [f"{key}={value}" for key, value in tiny.SETTINGS.items()]
    words = ["--data", data, "--preset", "danq", "--epochs", "1", "--repeats", "2", "--set", *pairs]
    monkeypatch.setattr(processes.subprocess, "Popen", Ended)
    monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
    run = ("train", train.main, *words, "--log", "wandb", "--out")
    assert run_script(*run, tmp_path / "mine") == 3
    monkeypatch.setenv("WANDB_RUN_GROUP", "hers")
    assert run_script(*run, tmp_path / "other") == 3
    assert started == [("wandb", "mine"), ("wandb", "hers")]


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
    made = Records()
    made.logged_in = False
    monkeypatch.setitem(sys.modules, "wandb", module(made))
    for several in ([], ["--repeats", "2"]):
        assert run_script("train", train.main, *words, *several) == 2
        assert "--log: wandb refuses: No API key configured. Or keep" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    with pytest.raises(errors.InputError, match="`log`: one of wandb"), tracked("x", tmp_path, {}):
        pass
