"""A training that is killed at any moment and resumed is, bit for bit, the one that was not.

The short form, which always runs, kills at a few moments; `-m campaign` at DANQ_FAULT_TRIALS of
each kind.
"""

import csv
import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny
from campaign import TRIALS, Ended, Server, kill_and_finish, last_checkpoint, leftovers, weights

MODULES = ("keras", "tensorflow", "danq_keras.commands.train", "danq_keras.training.run")
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
TIMES = {"seconds", "samples_per_second"}


def words(data: Path, out: Path) -> list[object]:
    settings = {key: value for key, value in tiny.SETTINGS.items() if key != "checkpoint_steps"}
    return [
        *("--data", data, "--out", out, "--preset", "danq", "--epochs", 2, "--train-limit", 30),
        *("--set", "checkpoint_steps=2", *(f"{key}={value}" for key, value in settings.items())),
    ]


@dataclass
class Campaign:
    """A server, data, and an uninterrupted run to compare with."""

    server: Server
    data: Path
    whole: Path
    seconds: float
    touched: int

    def go_on(self, out: Path, **how: object) -> Ended:
        """Start, or continue where there is something to continue, as a user would."""
        if (out / "config.json").exists():
            return self.server.run("train", "--out", out, "--resume", watched=out, **how)
        return self.server.run("train", *words(self.data, out), watched=out, **how)

    def finish(self, out: Path) -> None:
        """Continue to the end, and compare with the uninterrupted run."""
        self.go_on(out).require(0)
        assert weights(out) == weights(self.whole)
        assert last_checkpoint(out) == last_checkpoint(self.whole)
        assert history(out) == history(self.whole)
        for name in ("test_aucs.tsv", "test_summary.json"):
            assert (out / name).read_bytes() == (self.whole / name).read_bytes()
        ours = json.loads((out / "config.json").read_text())
        assert ours == json.loads((self.whole / "config.json").read_text())
        assert (out / "report.html").stat().st_size > 10_000
        assert leftovers(out.parent) == []


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    folder = tmp_path_factory.mktemp("kills")
    data, whole = folder / "data", folder / "whole" / "run"
    tiny.make_dataset(data)
    (folder / "logs").mkdir()
    with Server(folder / "logs", MODULES) as server:
        begin = time.monotonic()
        done = server.run("train", *words(data, whole), watched=whole).require(0)
        seconds = time.monotonic() - begin
        rows = history(whole)
        assert len(rows) == 2
        yield Campaign(server, data, whole, seconds, done.touched)


def test_killed_at_some_moments(campaign: Campaign, tmp_path: Path) -> None:
    """Before a random touch of a file, and once more on the way of the resumed run."""
    rng = np.random.default_rng(1)
    out = tmp_path / "run"
    first = int(rng.integers(1, campaign.touched))
    campaign.go_on(out, kill_at=first).require(-signal.SIGKILL)
    campaign.go_on(out, kill_at=int(rng.integers(1, 12))).require(-signal.SIGKILL)
    campaign.finish(out)


def test_a_start_that_died_early_is_started_again(campaign: Campaign, tmp_path: Path) -> None:
    """Between the first touch of the folder and config.json: nothing worth keeping is there."""
    out = tmp_path / "run"
    kill_at = 0
    while not (out / "run.log").exists():
        kill_at += 1
        campaign.go_on(out, kill_at=kill_at).require(-signal.SIGKILL)
    assert not (out / "config.json").exists()
    campaign.go_on(out, kill_at=kill_at + 2).require(-signal.SIGKILL)
    refused = campaign.server.run("train", "--out", out, "--resume").require(2)
    assert refused.said.count("\n") == 1


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("trial", range(TRIALS))
def test_killed_before_any_touch(campaign: Campaign, tmp_path: Path, trial: int) -> None:
    kill_and_finish(campaign, tmp_path / "run", trial=trial, seed=2)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("trial", range(TRIALS))
def test_killed_at_any_time(campaign: Campaign, tmp_path: Path, trial: int) -> None:
    """At a random time, by a random signal; soft ones leave nothing of theirs behind."""
    rng = np.random.default_rng([3, trial])
    out = tmp_path / "run"
    number = [signal.SIGKILL, *STATUS][trial % 4]
    ended = campaign.go_on(out, signals={float(rng.random() * campaign.seconds): number})
    if number == signal.SIGKILL:
        ended.require(-number, 0)
    elif ended.status != -number:  # before the command has begun
        ended.require(STATUS[number], 0)
        assert leftovers(tmp_path) == []
    campaign.finish(out)
