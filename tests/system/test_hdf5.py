"""HDF5 files that claim, link, loop or crash; and what of it is the machine's fault."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np
import pytest

from danq_keras.system import hdf5, hdf5_probe
from danq_keras.system.errors import InputError

KIND = "thing", "Make it again."


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["numbers"] = np.arange(6).reshape(2, 3)
        file.create_dataset("texts", data=np.array(["a", "é"], object), dtype=h5py.string_dtype())
        file.create_group("group")
        file.attrs.update({"word": "w", "count": 3, "bad": np.arange(2)})
    return tmp_path / "f.h5"


def refusal(path: Path, read: Callable[[h5py.File], object]) -> str:
    def run() -> None:
        with hdf5.open_hdf5(path, *KIND) as file:
            read(file)

    with pytest.raises(InputError) as caught:
        run()
    message = str(caught.value)
    assert message.startswith(f"{path}: not a readable thing (")
    assert message.endswith("). Make it again.")
    assert message.isprintable()
    return message


def test_sound_parts_are_read(path: Path) -> None:
    with hdf5.open_hdf5(path, *KIND) as file:
        assert hdf5.read_array(file, "numbers", kinds="i", shape=(2, None)).tolist()[1] == [3, 4, 5]
        assert hdf5.read_texts(file, "texts", 2) == ("a", "é")
        assert hdf5.attribute(file, "word", "text") == "w"
        assert hdf5.attribute(file, "count", "number") == 3


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda file: hdf5.array(file, "group"), "'group' is a group"),
        (lambda file: hdf5.array(file, "none"), "no 'none' in it"),
        (lambda file: hdf5.array(file, "numbers", kinds="f"), "the unexpected type int64"),
        (lambda file: hdf5.array(file, "numbers", shape=(None,)), "must have the shape (any)"),
        (lambda file: hdf5.read_texts(file, "numbers"), "must have the shape"),
        (lambda file: hdf5.read_texts(file, "texts", 3), "must have the shape (3), received (2,)"),
        (lambda file: hdf5.attribute(file, "none", "text"), "no attribute 'none'"),
        (lambda file: hdf5.attribute(file, "bad", "number"), "'bad' must be a number"),
        (lambda file: hdf5.attribute(file, "count", "text"), "'count' must be a text"),
        (lambda file: file["numbers"].asstr(), ""),
        (lambda _file: [].append(1, 2), "append"),
    ],
)
def test_other_parts_are_one_line(
    path: Path, read: Callable[[h5py.File], object], message: str
) -> None:
    assert message in refusal(path, read)


@pytest.mark.parametrize("packed", [{}, {"chunks": (1 << 20,), "compression": "gzip"}])
def test_a_few_bytes_that_claim_gigabytes(path: Path, packed: dict[str, Any]) -> None:
    with h5py.File(path, "a") as file:
        file.create_dataset("huge", (10**10,), "u1", **packed)
    assert path.stat().st_size < 20_000
    assert "'huge' claims 10,000,000,000 bytes, of which the file holds 0" in refusal(
        path, lambda file: hdf5.array(file, "huge")
    )


def test_well_packed_values_are_no_false_claim(path: Path) -> None:
    with h5py.File(path, "a") as file:
        zeros = np.zeros(1 << 26, np.uint8)
        file.create_dataset("zeros", data=zeros, compression="gzip", chunks=(1 << 22,))
    assert path.stat().st_size < 100_000
    with hdf5.open_hdf5(path, *KIND) as file:
        assert hdf5.array(file, "zeros").shape == (1 << 26,)


def test_values_elsewhere_are_not_followed(path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(12))
    with h5py.File(path, "a") as file:
        file["link"] = h5py.ExternalLink("other.h5", "/x")
        file.create_dataset("external", (3,), "i4", external=[(str(secret), 0, 12)])
        layout = h5py.VirtualLayout((2,), "i4")
        layout[:] = h5py.VirtualSource("other.h5", "x", (2,))
        file.create_virtual_dataset("virtual", layout)
    assert "'link' is a link to another file" in refusal(path, lambda f: hdf5.array(f, "link"))
    for name in ("external", "virtual"):
        assert "has its values in another file" in refusal(
            path, lambda file, name=name: hdf5.array(file, name)
        )


def fault(number: int, text: str = "") -> Callable[..., NoReturn]:
    def read(*_arguments: object, **_options: object) -> NoReturn:
        raise OSError(number, os.strerror(number)) if number else RuntimeError(text)

    return read


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOLCK, errno.EFBIG])
def test_a_fault_of_the_machine_is_not_called_damage(path: Path, number: int) -> None:
    def run(read: Callable[..., NoReturn]) -> None:
        with hdf5.open_hdf5(path, *KIND) as file:
            read(file)

    hidden = f"Can't write (file write failed: errno = {number}, error message = 'x')"
    for read in (fault(number), fault(0, hidden)):
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            run(read)
        assert (caught.value.errno, caught.value.filename) == (number, str(path))
    with pytest.raises(OSError, match=os.strerror(number)), hdf5.faults_named(path):
        fault(0, hidden)()


def test_files_are_opened_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, asked = h5py.File, []

    def noting(*arguments: object, locking: object = "asked", **options: object) -> h5py.File:
        asked.append(locking)
        return opened(*arguments, locking=locking, **options)

    monkeypatch.setattr(h5py, "File", noting)
    with hdf5.open_hdf5(path, *KIND):
        pass
    hdf5.new_hdf5(path.with_name("new.h5")).close()
    assert asked == [False, False]


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("loop", "HDF5 comes to no end with it"),
        ("crash", "HDF5 crashes on it"),
        ("memory", "asks for more memory than it can mean"),
        ("nothing", None),
        ("raise", None),
    ],
)
def test_what_no_process_can_catch_happens_to_a_child(
    path: Path, monkeypatch: pytest.MonkeyPatch, does: str, message: str | None
) -> None:
    def look(_path: Path) -> object:
        while does == "loop":
            pass
        if does == "crash":
            os.abort()
        if does == "raise":
            raise OSError("damaged")
        return bytearray(4 << 30) if does == "memory" else None

    monkeypatch.setattr(hdf5_probe, "_look", look)
    monkeypatch.setattr(hdf5_probe, "CPU_SECONDS", 1)
    wrong = hdf5_probe.what_goes_wrong(path)
    assert (wrong is None) if message is None else (message in str(wrong))
    if message is not None:
        assert message in refusal(path, lambda file: file)


def test_a_slow_disk_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_probe, "_look", lambda _path: __import__("time").sleep(100))
    monkeypatch.setattr(hdf5_probe, "WALL_SECONDS", 0.2)
    assert hdf5_probe.what_goes_wrong(path) is None


def test_a_sound_file_is_tried_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(hdf5_probe, "_try", lambda path: tried.append(path))
    for _ in range(3):
        assert hdf5_probe.what_goes_wrong(path) is None
    path.write_bytes(path.read_bytes() + b"x")
    hdf5_probe.what_goes_wrong(path)
    assert len(tried) == 2
