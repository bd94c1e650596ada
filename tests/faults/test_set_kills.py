"""Sets of runs and searches that are killed at any moment go on and come to their end.

Their runs are made inside the killed process, so that a kill falls between any two touches of the
folder; that runs in processes of their own are stopped and go on is seen in the tests of their
commands.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import tiny
from campaign import TRIALS, Ended, Server, kill_and_finish, leftovers, weights

MODULES = (
    *("keras", "tensorflow", "optuna", "in_process", "danq_keras.commands.train"),
    *("danq_keras.training.run", "danq_keras.runs.train_set", "danq_keras.tuning.search"),
)
WITHIN = {
    "runs.train_set.run_all": "in_process:run_all",
    "tuning.search._start_worker": "in_process:InProcess",
    "tuning.search.POLL_SECONDS": 0,
}
KINDS = ("repeats", "folds", "search")
N_TRIALS = 3
SPACE = {"dense_units": {"low": 4, "high": 8}}
SETTINGS = [f"{key}={value}" for key, value in tiny.SETTINGS.items() if key != "dense_units"]


@dataclass
class Work:
    """One kind of set: how it is begun and continued, and an uninterrupted one."""

    server: Server
    kind: str
    sources: Path
    whole: Path
    touched: int

    def go_on(self, out: Path, **how: object) -> Ended:
        """Start, or continue where there is something to continue, as a user would."""
        name, words = begin(self.kind, self.sources, out)
        if self.kind == "search" and (out / "search.json").exists():
            words = [out, "--resume", "--trials", N_TRIALS]
        elif (out / f"{self.kind}.json").exists():
            words = ["--out", out, "--resume"]
        return self.server.run(name, *words, watched=out, settings=WITHIN, **how)

    def finish(self, out: Path) -> None:
        """To its end, and compare with the uninterrupted one as far as chance is the same."""
        self.go_on(out).require(0)
        if self.kind == "search":
            trials = pd.read_csv(out / "trials.tsv", sep="\t")
            assert (trials["state"] == "complete").sum() >= N_TRIALS
            assert not trials["state"].isin(["running", "failed"]).any()
            assert json.loads((out / "best.json").read_text())
        else:
            table = f"{self.kind}.tsv"
            ours, whole = (pd.read_csv(run / table, sep="\t") for run in (out, self.whole))
            same = [t.loc[:, ~t.columns.str.contains("second")] for t in (ours, whole)]
            pd.testing.assert_frame_equal(*same)
            for run in sorted(self.whole.glob(f"{self.kind[:-1]}-*")):
                assert weights(out / run.name) == weights(run)
            assert (out / "report.html").stat().st_size > 10_000
        assert [name for name in leftovers(out.parent) if ".sessions" not in name] == []


def begin(kind: str, sources: Path, out: Path) -> tuple[str, list[object]]:
    """Name and words of the command that begins a set."""
    shared: list[object] = ["--data", sources / "data", "--preset", "danq", "--epochs", 1]
    if kind == "search":
        words = [out, *shared, "--space", sources / "space.json", "--trials", N_TRIALS]
        return "tune", [*words, "--set", *SETTINGS]
    several = ["--repeats", 2] if kind == "repeats" else ["--folds", 3]
    return "train", ["--out", out, *shared, *several, "--set", *SETTINGS, "dense_units=6"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("logs"), MODULES) as server:
        yield server


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    tiny.make_dataset(folder / "data", n_chroms=4)
    (folder / "space.json").write_text(json.dumps(SPACE))
    return folder


@pytest.fixture(scope="module", params=KINDS)
def work(
    request: pytest.FixtureRequest,
    server: Server,
    sources: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Work:
    whole = tmp_path_factory.mktemp("whole") / "set"
    name, words = begin(request.param, sources, whole)
    done = server.run(name, *words, watched=whole, settings=WITHIN).require(0)
    return Work(server, request.param, sources, whole, done.touched)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("trial", range(TRIALS))
def test_killed_before_any_touch(work: Work, tmp_path: Path, trial: int) -> None:
    kill_and_finish(work, tmp_path / "set", trial=trial, seed=4)
