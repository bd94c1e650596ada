"""Outputs are on the disk before they have their name."""

import errno
import os
from pathlib import Path

import pytest

from danq_keras.system import files


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is flushed and renamed, in order."""
    noted: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(handle: int) -> None:
        noted.append(f"flush {Path(f'/proc/self/fd/{handle}').readlink().name}")
        fsync(handle)

    def note_replace(path: Path, target: Path) -> Path:
        noted.append(f"rename to {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    return noted


def test_a_file_is_flushed_before_it_is_renamed_and_its_folder_after(
    tmp_path: Path, calls: list[str]
) -> None:
    with files.atomic_output(tmp_path / "o") as temporary:
        temporary.write_text("x")
    assert calls == [f"flush {temporary.name}", "rename to o", f"flush {tmp_path.name}"]
    calls.clear()
    (tmp_path / "part").write_text("y")
    files.replace_durably(tmp_path / "part", tmp_path / "o")
    assert calls == ["flush part", "rename to o", f"flush {tmp_path.name}"]


def test_all_files_of_a_folder_are_flushed_before_it_is_renamed(
    tmp_path: Path, calls: list[str]
) -> None:
    with files.atomic_output(tmp_path / "o") as temporary:
        (temporary / "deep").mkdir(parents=True)
        for name in ("a", "deep/b"):
            (temporary / name).write_text("x")
        (temporary / "link").symlink_to("nowhere")
    before = set(calls[: calls.index("rename to o")])
    assert {"flush a", "flush b", "flush deep"} <= before
    assert calls[-1] == f"flush {tmp_path.name}"


def test_a_disk_that_fails_in_flushing_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "o").write_text("old")

    def refuse(_handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with (
        pytest.raises(OSError, match="Input/output") as caught,
        files.atomic_output(tmp_path / "o", overwrite=True) as temporary,
    ):
        temporary.write_text("new")
    assert caught.value.filename == str(tmp_path / "o")
    assert [path.name for path in tmp_path.iterdir()] == ["o"]
    assert (tmp_path / "o").read_text() == "old"


def test_a_file_system_that_cannot_flush_folders_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def files_only(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", files_only)
    with files.atomic_output(tmp_path / "o") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "o").read_text() == "x"


def test_json_nested_too_deeply_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text("[" * 100_000)
    with pytest.raises(files.InputError, match="not JSON text"):
        files.read_json(path)
