"""Finds the files of a DeepSEA bundle: in a folder or in a tar.

A bundle is a folder with train.mat, valid.mat and test.mat, with or without the inner folder
`deepsea_train/`, or a .tar(.gz) of it. What is in the files is `deepsea`'s and `bundle`'s matter.
"""

import contextlib
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from danq_keras.data.deepsea import TARGETS_FILE
from danq_keras.data.store import SPLITS
from danq_keras.system.errors import InputError
from danq_keras.system.inputs import refuse_pipe
from danq_keras.system.terminal import log, progress

INNER_FOLDER = "deepsea_train"
MAT_FILES = tuple(f"{split}.mat" for split in SPLITS)


def inner_folder(folder: Path) -> Path:
    """The folder that holds the .mat files."""
    nested = folder / INNER_FOLDER
    if nested.is_dir() and not (folder / MAT_FILES[0]).is_file():
        return nested
    return folder


@contextlib.contextmanager
def mat_folder(bundle: Path, beside: Path) -> Iterator[Path]:
    """The folder of the .mat files; those of a tar are unpacked inside `beside` meanwhile."""
    if bundle.is_dir():
        require_mats(inner_folder(bundle), bundle)
        yield inner_folder(bundle)
        return
    with tempfile.TemporaryDirectory(dir=beside, prefix=".unpacked-") as name:
        folder = Path(name)
        _unpack(bundle, folder)
        require_mats(folder, bundle)
        try:
            yield folder
        except InputError as error:  # the unpacked files will be gone
            raise InputError(str(error).replace(str(folder), str(bundle))) from error


def require_mats(folder: Path, bundle: Path) -> None:
    """Make sure that the three .mat files are there.

    Raises:
        InputError: one is missing.
    """
    missing = [name for name in MAT_FILES if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{bundle}: neither a dataset of make_dataset.py (train.h5, valid.h5, test.h5) nor a "
            f"DeepSEA bundle ({', '.join(MAT_FILES)}). Missing: {', '.join(missing)}. Give one of "
            "the two."
        )


def _unpack(bundle: Path, folder: Path) -> None:
    """Copy the wanted members of a tar, whatever their folder, into `folder`."""
    wanted = {*MAT_FILES, TARGETS_FILE}
    left_out = 0
    try:
        with (
            bundle.open("rb") as raw,
            tarfile.open(fileobj=raw, mode="r|*") as tar,
            progress(
                total=bundle.stat().st_size,
                desc=f"unpack {bundle.name}",
                unit="B",
                unit_scale=True,
            ) as bar,
        ):
            for member in tar:
                _refuse_outside(member, bundle)
                path = folder / PurePosixPath(member.name).name
                if not member.isfile() or path.name not in wanted:
                    left_out += not member.isdir()
                    continue
                if path.exists():
                    raise InputError(
                        f"{bundle}: holds {path.name} twice. Unpack it and give the folder."
                    )
                for _ in _copy_member(tar, member, path):
                    bar.update(raw.tell() - bar.n)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        reason = str(error) or "it ends too early"
        raise InputError(
            f"{bundle}: expected a folder or a complete .tar.gz, cannot read it ({reason}). "
            "Get the file again."
        ) from error
    if left_out:
        log.info("%s: %d other members were left out", bundle, left_out)


def _copy_member(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> Iterator[None]:
    """Copy a file out of a tar; comes back after each piece."""
    source = tar.extractfile(member)
    if source is None:
        raise tarfile.ReadError(f"{member.name} cannot be read")
    with source, path.open("xb") as target:
        while block := source.read(1 << 22):
            target.write(block)
            yield


def _refuse_outside(member: tarfile.TarInfo, bundle: Path) -> None:
    """Refuse a tar that is made to write elsewhere, even where the member is not wanted."""
    path = PurePosixPath(member.name)
    names = [path]
    if member.issym():
        names.append(path.parent / member.linkname)
    elif member.islnk():
        names.append(PurePosixPath(member.linkname))
    for name in names:
        depth = 0
        for part in name.parts:
            depth += -1 if part == ".." else 1
            if depth < 0 or name.is_absolute():
                raise InputError(
                    f"{bundle}: the member {member.name!r} points outside the archive. "
                    "Do not use this file; get the bundle from its publisher."
                )


def file_states(bundle: Path) -> dict[str, Any]:
    """Where a bundle is, and size and time of its files: equal means unchanged.

    Raises:
        InputError: there is no such file or folder.
    """
    refuse_pipe(bundle)
    if bundle.is_dir():
        folder = inner_folder(bundle)
        files = [folder / name for name in (*MAT_FILES, TARGETS_FILE)]
        files = [file for file in files if file.is_file()]
    elif bundle.is_file():
        files = [bundle]
    else:
        raise InputError(f"{bundle}: no such file or folder. Check the path.")
    states = {file.name: file.stat() for file in files}
    return {
        "bundle": str(bundle.resolve()),
        "files": {name: [state.st_size, state.st_mtime_ns] for name, state in states.items()},
    }
