"""Datasets whose making is killed at any moment: whole or not there, and a second call makes them.

The short form, which always runs, kills at a few moments; `-m campaign` at DANQ_FAULT_TRIALS.
"""

import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import tiny
from campaign import TRIALS, Server, arrays, leftovers

from danq_keras.data.bundle import dataset_to_bundle

KINDS = ("bundle", "genome", "export")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    tiny.make_dataset(folder / "data", n_train=200)
    dataset_to_bundle(folder / "data", folder / "mats")
    with tarfile.open(folder / "bundle.tar.gz", "w:gz") as tar:
        for path in sorted((folder / "mats").iterdir()):
            tar.add(path, path.name)
    rng = np.random.default_rng(5)
    records = {name: "".join(rng.choice(list("ACGT"), 4000)) for name in ("chr1", "chr2", "chr3")}
    (folder / "g.fa").write_text("".join(f">{name}\n{text}\n" for name, text in records.items()))
    peaks = [f"{name}\t{start}\t{start + 100}\n" for name in records for start in (500, 1500, 2500)]
    (folder / "a.bed").write_text("".join(peaks))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    modules = ("danq_keras.commands.make_dataset", "danq_keras.data.bundle", "pandas", "scipy.io")
    with Server(tmp_path_factory.mktemp("logs"), modules) as server:
        yield server


def words(kind: str, sources: Path, out: Path) -> list[object]:
    if kind == "bundle":
        return ["deepsea", out, "--bundle", sources / "bundle.tar.gz"]
    if kind == "export":
        return ["export-mat", out, "--dataset", sources / "data"]
    return [
        *("genome", out, "--genome", sources / "g.fa", "--peaks", sources / "a.bed"),
        *("--window", 200, "--keep-unlabelled", "--test-chroms", "chr3", "--valid-region", "chr2"),
    ]


def content(out: Path) -> dict[str, object]:
    """File → what is in it; an attribute with the time of its making is no part of it."""
    found: dict[str, object] = {}
    for path in sorted(out.iterdir()):
        if path.suffix in (".h5", ".mat") and h5py.is_hdf5(path):
            with h5py.File(path) as file:
                found[path.name] = arrays(file)
        elif path.suffix != ".mat":  # its head holds the time
            found[path.name] = path.read_bytes()
        else:
            found[path.name] = path.read_bytes()[128:]
    return found


@dataclass
class Making:
    """How one kind of dataset is made, and what comes out."""

    server: Server
    words: list[object]
    out: Path
    whole: dict[str, object]
    touched: int

    def kill(self, moment: int) -> None:
        """Kill it before one of its touches of files, and make it again."""
        ended = self.server.run("make_dataset", *self.words, kill_at=moment, watched=self.out)
        ended.require(-signal.SIGKILL, 0)
        if not self.out.exists():
            again = self.server.run("make_dataset", *self.words).require(0)
            assert "already exists" not in again.said
        assert content(self.out) == self.whole
        for name in leftovers(self.out.parent):  # of a kill between its renaming and its end
            assert name.endswith(".lock"), name


def making(kind: str, server: Server, sources: Path, folder: Path) -> Making:
    whole = folder / "whole" / "out"
    done = server.run("make_dataset", *words(kind, sources, whole), watched=whole).require(0)
    (folder / "killed").mkdir()
    out = folder / "killed" / "out"
    return Making(server, words(kind, sources, out), out, content(whole), done.touched)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_some_moments(server: Server, sources: Path, tmp_path: Path, kind: str) -> None:
    made = making(kind, server, sources, tmp_path)
    made.kill(made.touched * 2 // 3)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trial", range(TRIALS))
def test_killed_before_any_touch(
    server: Server, sources: Path, tmp_path: Path, kind: str, trial: int
) -> None:
    made = making(kind, server, sources, tmp_path)
    made.kill(1 + trial * made.touched // TRIALS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_soft_stop_leaves_nothing(
    server: Server, sources: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    ended = server.run("make_dataset", *words("bundle", sources, out), signals={0.02: number})
    ended.require(128 + number, 0, -number)
    if ended.status:
        assert not out.exists()
    assert leftovers(tmp_path) == []


def test_two_conversions_of_one_bundle(sources: Path, tmp_path: Path) -> None:
    """At the same moment: both end well, and there is one dataset."""
    out = tmp_path / "out"
    command = [
        *(sys.executable, "-m", "danq_keras", "make_dataset"),
        *map(str, words("bundle", sources, out)),
    ]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in both]
    statuses = sorted(process.returncode for process in both)
    assert statuses in ([0, 0], [0, 2]), said  # 2: it began when the other had just ended
    assert all("Traceback" not in text for text in said)
    assert (statuses == [0, 2]) == any("already exists" in text for text in said)
    assert leftovers(tmp_path) == []
