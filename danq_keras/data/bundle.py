"""DeepSEA's bundle of .mat files ↔ a dataset of stores.

What a bundle is: see `bundle_files`. A file whose second half is the reverse complement of its
first, with equal labels, becomes its forward half with strands "both"; every row is compared.
Otherwise the rows are stored "as given". A bundle knows no coordinates.

The dataset folder also gets `bundle.json`: size and time of the source files, by which
`open_dataset` sees whether it must convert again.
"""

import contextlib
import dataclasses
import errno
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from danq_keras.data.bundle_files import file_states, inner_folder, mat_folder, require_mats
from danq_keras.data.deepsea import (
    BIN_ATTRIBUTE,
    TARGETS_FILE,
    SplitMat,
    find_targets,
    labels_key,
    open_split_mat,
    sequence_key,
    write_targets,
)
from danq_keras.data.matlab_writer import (
    MATLAB5_MAX_BYTES,
    BitVariable,
    write_matlab5,
    write_matlab73,
)
from danq_keras.data.store import (
    DATASET_FILES,
    SPLITS,
    STRANDS_AS_GIVEN,
    STRANDS_BOTH,
    Dataset,
    Split,
    StoreHeader,
    is_dataset,
    open_store,
)
from danq_keras.data.store_write import Rows, SplitWriter, new_dataset
from danq_keras.genome.dna import Bytes, reverse_complement
from danq_keras.system.claims import taking_turns
from danq_keras.system.errors import InputError
from danq_keras.system.files import (
    PathLike,
    atomic_output,
    load_json,
    refuse_existing,
    refuse_replacing,
)
from danq_keras.system.terminal import log, progress

STORE_FOLDER = "danq_store"
RECORD_FILE = "bundle.json"
_MAT_FOLDER = r"(train|valid|test)\.mat|targets\.tsv"
_BLOCK_ROWS = 1 << 13


# ── .mat → store ──


def bundle_to_dataset(bundle: PathLike, out: PathLike, *, overwrite: bool = False) -> Dataset:
    """Convert a DeepSEA bundle into a dataset.

    Args:
        bundle: folder or .tar(.gz) with train.mat, valid.mat and test.mat.
        out: the new dataset folder.
        overwrite: whether to replace a dataset that is there.

    Returns:
        The dataset.

    Raises:
        InputError: a file is missing, damaged or not DeepSEA's, the splits disagree, or `out`
            exists.
    """
    bundle, out = Path(bundle), Path(out)
    refuse_replacing(out, "deepsea", overwrite=overwrite, written=DATASET_FILES)
    file_states(bundle)
    with taking_turns(out) as waited:
        if not (waited and _is_converted(bundle, out)):
            refuse_replacing(out, "deepsea", overwrite=overwrite, written=DATASET_FILES)
            _convert(bundle, out, overwrite=overwrite)
    return open_store(out)


def _convert(bundle: Path, out: Path, *, overwrite: bool) -> None:
    record = file_states(bundle)
    with new_dataset(out, overwrite=overwrite) as temporary, mat_folder(bundle, temporary) as mats:
        with contextlib.ExitStack() as stack:
            splits = [
                stack.enter_context(open_split_mat(mats / f"{name}.mat", name, temporary))
                for name in SPLITS
            ]
            _require_agreement(splits)
            header = StoreHeader(
                window=splits[0].window,
                bin=splits[0].bin,
                strands=STRANDS_AS_GIVEN,
                targets=find_targets(mats, splits[0].n_targets),
                source=f"DeepSEA bundle {bundle.name}",
            )
            for split in splits:
                _convert_split(split, temporary / f"{split.split}.h5", header)
        (temporary / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def _require_agreement(splits: list[SplitMat]) -> None:
    first = splits[0]
    for other in splits[1:]:
        for field, what in (("n_targets", "targets"), ("window", "bases")):
            expected, received = getattr(first, field), getattr(other, field)
            if expected != received:
                raise InputError(
                    f"{other.file.path}: the splits must agree, but this has {received} {what} "
                    f"and {first.file.path.name} has {expected}. Use files of one bundle."
                )


def _convert_split(mat: SplitMat, path: Path, header: StoreHeader) -> None:
    """Write one split, as forward half or as given, in one pass over the .mat file."""
    with progress(
        total=mat.n_bytes, desc=f"convert {mat.split}.mat", unit="B", unit_scale=True
    ) as bar:
        strands = write_halves(mat.rows(bar.update), path, header, n_rows=mat.n_rows)
    kept = mat.n_rows // 2 if strands == STRANDS_BOTH else mat.n_rows
    log.info("%s.mat: %d rows, stored %d, strands %r", mat.split, mat.n_rows, kept, strands)


class _RowStream:
    """Blocks of rows, taken by number."""

    def __init__(self, blocks: Iterator[Rows]) -> None:
        self._blocks = blocks
        self._rest: Rows | None = None

    def take(self, n_rows: int) -> Iterator[Rows]:
        """The next `n_rows` rows; the part of a block that is not used waits."""
        while n_rows:
            rows = self._rest or next(self._blocks)
            n = min(n_rows, len(rows.sequence))
            left = n < len(rows.sequence)
            self._rest = Rows(rows.sequence[n:], rows.labels[n:]) if left else None
            n_rows -= n
            yield Rows(rows.sequence[:n], rows.labels[:n])


def write_halves(blocks: Iterator[Rows], path: Path, header: StoreHeader, *, n_rows: int) -> str:
    """Write rows as a split, halved where the second half repeats the first on the other strand.

    Args:
        blocks: packed rows, a block at a time, `n_rows` of them in all.
        path: the new split file, such as `train.h5`.
        header: what the file tells of itself; its `strands` is replaced.
        n_rows: number of rows of both halves together.

    Returns:
        The strands that the split has got.
    """
    stream = _RowStream(blocks)
    half, odd = divmod(n_rows, 2)
    if odd:
        _write(path, header, STRANDS_AS_GIVEN, n_rows, stream.take(n_rows))
        return STRANDS_AS_GIVEN
    _write(path, header, STRANDS_BOTH, half, stream.take(half))
    with h5py.File(path, "r", locking=False) as forward:
        n_matched, different = _compare_reverse(forward, stream.take(half), header.window)
    if different is None:
        return STRANDS_BOTH
    first = path.with_name(f"{path.name}.forward")
    path.rename(first)
    with h5py.File(first, "r", locking=False) as forward:
        rows = itertools.chain(
            _stored(forward, half),
            # What matched so far is known, so that the source need not be read again.
            (_reversed(block, header.window) for block in _stored(forward, n_matched)),
            [different],
            stream.take(half - n_matched - len(different.sequence)),
        )
        _write(path, header, STRANDS_AS_GIVEN, n_rows, rows)
    first.unlink()
    return STRANDS_AS_GIVEN


def _write(
    path: Path, header: StoreHeader, strands: str, n_rows: int, blocks: Iterator[Rows]
) -> None:
    header = dataclasses.replace(header, strands=strands)
    with SplitWriter(path, header, n_windows=n_rows) as writer:
        for rows in blocks:
            writer.append(rows)


def _reversed(rows: Rows, window: int) -> Rows:
    return Rows(reverse_complement(rows.sequence, window), rows.labels)


def _stored(file: h5py.File, n_rows: int) -> Iterator[Rows]:
    """The first rows of a split file; not mapped, since mapped pages count as used memory."""
    for begin in range(0, n_rows, _BLOCK_ROWS):
        rows = slice(begin, min(begin + _BLOCK_ROWS, n_rows))
        yield Rows(file["sequence"][rows], file["labels"][rows])


def _compare_reverse(
    forward: h5py.File, blocks: Iterator[Rows], window: int
) -> tuple[int, Rows | None]:
    """How many rows match the stored ones' reverse complements, and the first block that differs.

    Returns:
        The number of rows before that block, and the block; None where all match.
    """
    begin = 0
    for rows in blocks:
        stored = slice(begin, begin + len(rows.sequence))
        same = np.array_equal(rows.labels, forward["labels"][stored]) and np.array_equal(
            rows.sequence, reverse_complement(forward["sequence"][stored], window)
        )
        if not same:
            return begin, rows
        begin = stored.stop
    return begin, None


# ── once, then reuse ──


def open_dataset(path: PathLike, *, store: PathLike | None = None) -> Dataset:
    """Open a dataset folder, or a DeepSEA bundle, which is converted once.

    Args:
        path: a dataset folder, or a bundle: the folder or .tar(.gz) of train.mat, valid.mat and
            test.mat. A bundle is converted again only when a file of it has another size or time.
        store: the folder where a bundle's dataset is or will be; None: `danq_store` in the bundle's
            folder, `<name>.danq_store` beside a tar.

    Returns:
        The three splits, mapped from the disk.

    Raises:
        InputError: neither of the two, or the place is taken by something else, or see
            `bundle_to_dataset`.

    Example:
        data = open_dataset("deepsea_train_bundle.v0.9.tar.gz")
        print(data.test.n_windows, data.targets.names[:3])
    """
    path = Path(path)
    if is_dataset(path):
        return open_store(path)
    folder = _default_store(path) if store is None else Path(store)
    try:
        _convert_once(path, folder)
    except OSError as error:
        if store is None and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise InputError(
                f"{folder}: cannot be written, and the converted dataset belongs there. Choose "
                "another place with `store=DIR`."
            ) from error
        raise
    return open_store(folder)


def require_data(path: PathLike) -> None:
    """Stop before any work where there is neither a dataset nor what looks like a bundle.

    Raises:
        InputError: nothing is there, the dataset is damaged, or a file of the bundle is missing.
    """
    path = Path(path)
    if is_dataset(path):
        open_store(path)
        return
    file_states(path)
    if path.is_dir():
        require_mats(inner_folder(path), path)


def _convert_once(bundle: Path, folder: Path) -> None:
    """Convert a bundle unless the folder has its dataset already, or another process makes it."""
    if _is_converted(bundle, folder):
        return
    with taking_turns(folder) as waited:
        if waited and _is_converted(bundle, folder):
            return
        _convert_into(bundle, folder)


def _is_converted(bundle: Path, folder: Path) -> bool:
    known = _known_record(folder)
    if known is None or known["files"] != file_states(bundle)["files"]:
        return False
    log.info("%s: reusing the dataset converted from %s", folder, bundle)
    return True


def _convert_into(bundle: Path, folder: Path) -> None:
    """Convert a bundle, in place of an earlier state of it."""
    record, known = file_states(bundle), _known_record(folder)
    if known is None:
        refuse_existing(folder, overwrite=False)
    elif known["bundle"] != record["bundle"]:
        raise InputError(
            f"{folder}: holds the dataset of another bundle, {known['bundle']}. Choose another "
            "place with `store`."
        )
    else:
        log.info("%s: the bundle has changed, converting it again", bundle)
    _convert(bundle, folder, overwrite=known is not None)


def _default_store(bundle: Path) -> Path:
    if bundle.is_dir():
        return bundle / STORE_FOLDER
    stem = bundle.name
    for suffix in (".gz", ".tgz", ".tar"):
        stem = stem.removesuffix(suffix)
    return bundle.with_name(f"{stem}.{STORE_FOLDER}")


def _known_record(store: Path) -> dict[str, Any] | None:
    """What a converted dataset remembers of its bundle; None where it is no such dataset."""
    path = store / RECORD_FILE
    if not path.is_file() or not all((store / f"{split}.h5").is_file() for split in SPLITS):
        return None
    try:
        record = load_json(path)
        return {"bundle": str(record["bundle"]), "files": dict(record["files"])}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a readable record. Delete {store}, or pass `store`.") from (
            error
        )


# ── store → .mat ──


def dataset_to_bundle(dataset: PathLike, out: PathLike, *, overwrite: bool = False) -> None:
    """Write a dataset as DeepSEA's three .mat files and a table of its targets.

    Splits with strands "both" get their forward rows, then the reverse complements. Coordinates
    and `ignore` have no place in these files: what is lost is logged.

    Args:
        dataset: the folder of the dataset to write.
        out: new folder with train.mat (MATLAB 7.3), valid.mat and test.mat (MATLAB 5) and
            targets.tsv.
        overwrite: whether to replace such a folder that is there.

    Raises:
        InputError: not a dataset, a split is too large for MATLAB 5, or `out` exists.
    """
    out = Path(out)
    refuse_replacing(out, "export-mat", overwrite=overwrite, written=_MAT_FOLDER)
    source = open_store(Path(dataset))
    for name in SPLITS[1:]:
        _require_matlab5(source.split(name), out / f"{name}.mat")
    _tell_losses(source)
    with atomic_output(out, overwrite=overwrite) as temporary:
        temporary.mkdir()
        write_targets(temporary / TARGETS_FILE, source.targets)
        for name in SPLITS:
            split = source.split(name)
            total = _n_rows(split) * (4 * source.window + len(source.targets))
            with progress(total=total, desc=f"write {name}.mat", unit="B", unit_scale=True) as bar:
                path, variables = temporary / f"{name}.mat", _variables(split, name)
                if name == "train":
                    attributes = {BIN_ATTRIBUTE: split.header.bin}
                    write_matlab73(path, variables, attributes=attributes, advance=bar.update)
                else:
                    write_matlab5(path, variables, advance=bar.update)


def _n_rows(split: Split) -> int:
    return split.n_windows * (2 if split.both_strands else 1)


def _require_matlab5(split: Split, path: Path) -> None:
    size = _n_rows(split) * max(4 * split.header.window, split.n_targets)
    if size > MATLAB5_MAX_BYTES:
        raise InputError(
            f"{path}: {_n_rows(split)} rows of {4 * split.header.window} values are more than a "
            f"MATLAB 5 file can hold ({MATLAB5_MAX_BYTES} bytes a variable). Build a smaller split."
        )


def _tell_losses(dataset: Dataset) -> None:
    for name in SPLITS:
        split = dataset.split(name)
        if split.ignore is not None:
            n_ignored = sum(
                int(np.bitwise_count(split.ignore[begin : begin + _BLOCK_ROWS]).sum())
                for begin in range(0, split.n_windows, _BLOCK_ROWS)
            )
            log.warning(
                "%s: .mat files cannot mark labels to ignore: %d are written as they stand",
                split.path,
                n_ignored,
            )
        if split.start is not None:
            log.info("%s: .mat files hold no coordinates: chrom and start are left out", split.path)


def _variables(split: Split, name: str) -> list[BitVariable]:
    n_rows = _n_rows(split)
    both, window = split.both_strands, split.header.window
    return [
        BitVariable(
            sequence_key(name),
            (window, 4),
            n_rows,
            itertools.chain(
                _slices(split.sequence),
                (reverse_complement(part, window) for part in _slices(split.sequence))
                if both
                else (),
            ),
        ),
        BitVariable(
            labels_key(name),
            (split.n_targets,),
            n_rows,
            itertools.chain(_slices(split.labels), _slices(split.labels) if both else ()),
        ),
    ]


def _slices(rows: Bytes) -> Iterator[Bytes]:
    for begin in range(0, len(rows), _BLOCK_ROWS):
        yield rows[begin : begin + _BLOCK_ROWS]
