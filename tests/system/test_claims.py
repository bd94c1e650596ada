"""What killed processes leave, folders that one process holds, and turns at one output."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from danq_keras.system import claims
from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output


@pytest.fixture(scope="module")
def dead_pid() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def leftover(folder: Path, pid: int, machine: str | None, *, name: str = "x") -> Path:
    """A folder as a killed conversion leaves it."""
    path = folder / f".{name}.partial-{pid}{'' if machine is None else '@' + machine}"
    (path / ".unpacked-1").mkdir(parents=True)
    (path / ".unpacked-1" / "train.mat").write_bytes(b"0" * 1000)
    return path


def said(messages: pytest.LogCaptureFixture, text: str) -> int:
    """How often that was logged."""
    return len({id(record) for record in messages.records if text in record.getMessage()})


def write(path: Path) -> None:
    with atomic_output(path) as temporary:
        assert claims.is_leftover(temporary.name)
        temporary.write_text("done")


def test_the_next_output_removes_what_a_killed_process_left(
    tmp_path: Path, dead_pid: int, messages: pytest.LogCaptureFixture
) -> None:
    path = leftover(tmp_path, dead_pid, claims.this_machine(), name="another output")
    write(tmp_path / "x")
    assert [each.name for each in tmp_path.iterdir()] == ["x"]
    assert said(messages, f"{path}: left by a killed process, removed.") == 1


def test_what_somebody_may_be_making_stays(
    tmp_path: Path, dead_pid: int, messages: pytest.LogCaptureFixture
) -> None:
    stays = [
        leftover(tmp_path, os.getppid(), claims.this_machine()),
        leftover(tmp_path, dead_pid, "elsewhere.7"),
        leftover(tmp_path, dead_pid, None),  # of an older version, a moment ago
        leftover(tmp_path, 10**30, claims.this_machine()),
    ]
    old = leftover(tmp_path, dead_pid, None, name="old")
    os.utime(old, (time.time() - 1e6,) * 2)
    for name in ("x", "y"):
        write(tmp_path / name)
    assert all((path / ".unpacked-1" / "train.mat").exists() for path in stays)
    assert not old.exists()
    assert said(messages, "of another machine") == 1  # once, and once only


def test_temporary_folders_of_dead_processes_go(
    tmp_path: Path, dead_pid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims.tempfile, "tempdir", str(tmp_path))
    names = [
        f"danq-genome-{dead_pid}@{claims.this_machine()}-abc_1",
        f"danq-pipe-{os.getppid()}@{claims.this_machine()}-abc_1",
        f"danq-pipe-{dead_pid}@elsewhere.7-abc_1",
        "danq-genome-x@y",
    ]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "genome.fa").touch()
    with claims.temporary_folder("pipe") as ours:
        assert sorted(tmp_path.iterdir()) == sorted(
            [*(tmp_path / n for n in names[1:]), Path(ours)]
        )
        with claims.temporary_folder("pipe"):
            assert Path(ours).is_dir()


def test_a_model_under_way_is_a_leftover_too(tmp_path: Path, dead_pid: int) -> None:
    mine = claims.temporary_sibling(tmp_path / "m.keras", ".keras")
    path = tmp_path / mine.name.replace(f"-{os.getpid()}@", f"-{dead_pid}@")
    path.touch()
    write(tmp_path / "x")
    assert not path.exists()


def test_a_claimed_folder_is_refused_early(tmp_path: Path) -> None:
    claims.require_unclaimed(tmp_path / "none yet")
    claims.require_unclaimed(tmp_path)
    with claims.claimed_folder(tmp_path), pytest.raises(InputError, match="at work there"):
        claims.require_unclaimed(tmp_path)
    claims.require_unclaimed(tmp_path)


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has none."""

    def refuse(_descriptor: int, _how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_file_names_who_is_at_work(tmp_path: Path, dead_pid: int) -> None:
    another = claims.claimed_folder(tmp_path)
    with claims.claimed_folder(tmp_path):
        with pytest.raises(InputError, match=rf"at work there \({os.getpid()}@.*delete .*\.claim"):
            another.__enter__()
        assert [path.name for path in tmp_path.iterdir()] == [".claim"]
    assert not list(tmp_path.iterdir())
    (tmp_path / ".claim").write_text(f"{dead_pid}@{claims.this_machine()}")
    with claims.claimed_folder(tmp_path):
        pass
    (tmp_path / ".claim").write_text(f"{dead_pid}@elsewhere")
    with pytest.raises(InputError, match="elsewhere"), claims.claimed_folder(tmp_path):
        pytest.fail("nobody knows whether that process lives")


@pytest.mark.usefixtures("no_locks")
def test_without_locks_nobody_waits(tmp_path: Path) -> None:
    with claims.taking_turns(tmp_path / "x") as first, claims.taking_turns(tmp_path / "x") as other:
        assert not first
        assert not other


def test_the_second_waits_for_the_first(
    tmp_path: Path, messages: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_POLL_SECONDS", 0.005)
    order: list[str] = []
    began = threading.Event()

    def second() -> None:
        began.set()
        with claims.taking_turns(tmp_path / "x") as waited:
            order.append(f"second, waited {waited}")

    thread = threading.Thread(target=second)
    with claims.taking_turns(tmp_path / "x") as waited:
        thread.start()
        began.wait()
        time.sleep(0.05)
        order.append(f"first, waited {waited}")
    thread.join()
    assert order == ["first, waited False", "second, waited True"]
    assert not list(tmp_path.iterdir())
    assert said(messages, "another process is making it") == 1


def test_a_turn_that_was_killed_is_over(tmp_path: Path) -> None:
    (tmp_path / ".x.lock").touch()
    with claims.taking_turns(tmp_path / "x") as waited:
        assert not waited
    assert not list(tmp_path.iterdir())
