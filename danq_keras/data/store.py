"""The store: a dataset on disk, one HDF5 file a split, read through memory maps.

`train.h5`, `valid.h5` and `test.h5` lie in a dataset folder. Each holds, contiguous and
uncompressed:

- `sequence` (N, ceil(L/2)) uint8: packed one-hot rows, A,G,C,T (see `dna`)
- `labels` (N, ceil(T/8)) uint8: label bits; optional `ignore`, same shape: labels that do not count
- `targets` (T,) UTF-8, unique; optional `target_cell_type`, `target_assay`, `target_treatment`,
  `target_group` (T,)
- optional `chrom` (N,) UTF-8 and `start` (N,) int64, the 0-based start of the window

Attributes: `format`, `format_version`, `window` (L), `bin`, `n_targets` (T), `strands` ("both":
a row stands for its reverse complement too; "as given"), `source`, `created`, `package_version`,
`sequence_sha256`, `labels_sha256` and, with `ignore`, `ignore_sha256`; `targets_sha256` of the
names and what is known of them, and, with coordinates, `chrom_sha256` and `start_sha256`. The last
three are compared whenever a split is opened, the others by `verify`. Stores that were written
before the last three came are read as they are.

The bits are mapped into memory. A file that is cut short under a running program would end it with
SIGBUS and without a word, so each access first compares the file's size with the map's.

Nothing here knows .mat files or genomes: `bundle` and `build` write stores by `store_write`,
`pipeline` reads them.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from danq_keras.data.stored import (
    ADVICE,
    StoredRows,
    compare_digest,
    digest_of_targets,
    map_rows,
    read_coordinates,
    require_digest,
)
from danq_keras.data.targets import TARGET_COLUMNS, Targets
from danq_keras.genome.dna import Bytes, packed_width, unpack_labels
from danq_keras.genome.fasta import Positions
from danq_keras.system.errors import InputError
from danq_keras.system.hdf5 import (
    array,
    attribute,
    open_hdf5,
    read_texts,
)
from danq_keras.system.terminal import progress

if TYPE_CHECKING:
    from danq_keras.data.build_summary import BuildSummary

FORMAT = "danq_keras store"
FORMAT_VERSION = 1
SPLITS = ("train", "valid", "test")
STRANDS_BOTH = "both"
STRANDS_AS_GIVEN = "as given"
STRANDS = {"both": STRANDS_BOTH, "given": STRANDS_AS_GIVEN}  # as a builder's `strands` says it
DATASET_FILES = r"(train|valid|test)\.h5|bundle\.json|baselines_\w+\.json"
_CHECKED = ("sequence", "labels", "ignore")
_DESCRIBED = ("targets", "chrom", "start")
_VERIFY_BYTES = 1 << 24
_COUNT_ROWS = 1 << 16


def check_seed(seed: int) -> None:
    """Refuse a seed that is not a whole number from 0 up.

    Raises:
        InputError: it is not.
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"`seed`: a whole number from 0 up. Received: {seed!r}.")


def check_strands(choice: str) -> None:
    """Refuse what is no key of `STRANDS`.

    Raises:
        InputError: it is none.
    """
    if choice not in STRANDS:
        raise InputError(f"`strands`: one of {', '.join(STRANDS)}. Received: {choice!r}.")


@dataclass(frozen=True)
class StoreHeader:
    """What a split file says of itself: window and bin in bases, strands, targets, origin.

    `strands` says what a row stands for; `one_strand` that the assay sees one strand, as of RNA.
    Rows "as given" alone do not mean that: a DeepSEA file may hold both strands in any order.
    """

    window: int
    bin: int
    strands: str
    targets: Targets
    source: str
    one_strand: bool = False

    def __post_init__(self) -> None:
        if self.window <= 0:
            raise InputError(f"The window length must be positive. Received: {self.window}.")
        if self.strands not in (STRANDS_BOTH, STRANDS_AS_GIVEN):
            raise ValueError(f"strands is 'both' or 'as given'. Received: {self.strands!r}.")

    @property
    def strands_meant(self) -> str:
        """Both, as given, or one where the assay sees no other."""
        return "one, as given" if self.one_strand else self.strands


@dataclass(frozen=True, eq=False)
class Split:
    """One split, memory-mapped.

    `sequence` (N, ceil(L/2)), `labels` and `ignore` (N, ceil(T/8)) are read-only uint8 maps;
    `chrom` (N,) str and `start` (N,) int64 are None where unknown. `unchecked` names the parts that
    have no checksum, as those of a store that an early version wrote.
    """

    path: Path
    header: StoreHeader
    sequence: Bytes
    labels: Bytes
    ignore: Bytes | None
    chrom: npt.NDArray[np.str_] | None
    start: npt.NDArray[np.int64] | None
    checksums: dict[str, str] = field(repr=False)
    created: str = ""
    package_version: str = ""
    unchecked: tuple[str, ...] = ()

    @property
    def n_windows(self) -> int:
        """Number of rows N."""
        return len(self.sequence)

    @property
    def n_targets(self) -> int:
        """Number of targets T."""
        return len(self.header.targets)

    @property
    def both_strands(self) -> bool:
        """Whether each row stands for its reverse complement too."""
        return self.header.strands == STRANDS_BOTH

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the checksums of sequence, labels and ignore, and the targets' names."""
        parts = [self.checksums[name] for name in _CHECKED if name in self.checksums]
        return hashlib.sha256("\n".join([*parts, *self.header.targets.names]).encode()).hexdigest()

    def require_whole(self) -> None:
        """Refuse to go on where the file has been cut short since it was opened.

        Raises:
            InputError: it has been.
        """
        for rows in (self.sequence, self.labels, self.ignore):
            if isinstance(rows, StoredRows):
                rows.require_whole()

    def draw(self, limit: int | None, seed: int) -> npt.NDArray[np.int64]:
        """Rows (n,) int64 in rising order: `limit` of them drawn with `seed`, or all.

        A training run with `train_limit` and the baselines beside it use the same rows.
        """
        if limit is None or limit >= self.n_windows:
            return np.arange(self.n_windows, dtype=np.int64)
        rng = np.random.default_rng([seed, 0xDA7A])
        return np.sort(rng.choice(self.n_windows, limit, replace=False))

    def verify(self) -> None:
        """Read every byte and compare the checksums; those of the rest were compared on opening.

        Raises:
            InputError: a checksum differs, so that the file was changed or damaged.
        """
        arrays = {name: getattr(self, name) for name in self.checksums}
        total = sum(array.nbytes for array in arrays.values())
        with progress(
            total=total, desc=f"verify {self.path.name}", unit="B", unit_scale=True
        ) as bar:
            for name, array in arrays.items():
                digest = hashlib.sha256()
                flat = array.reshape(-1)
                for begin in range(0, flat.size, _VERIFY_BYTES):
                    block = flat[begin : begin + _VERIFY_BYTES]
                    digest.update(block)
                    bar.update(block.size)
                if isinstance(array, StoredRows):
                    array.let_go()
                require_digest(self.path, name, self.checksums[name], digest.hexdigest())


def open_split(path: Path) -> Split:
    """Open one split file.

    Raises:
        InputError: not a store, or one of another format version, truncated or damaged.
    """
    with _opened(path) as file:
        return _read_split(path, file)


def read_header(path: Path) -> StoreHeader:
    """What one split file says of itself; nothing of its rows is read.

    Raises:
        InputError: not a store, or one of another format version, or damaged.
    """
    with _opened(path) as file:
        return _read_header(path, file)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    if not path.is_file():
        raise InputError(f"{path}: no such file. Build the dataset with bin/make_dataset.py.")
    with open_hdf5(path, "store", ADVICE) as file:
        yield file


def _read_split(path: Path, file: h5py.File) -> Split:
    header = _read_header(path, file)
    sequence, labels = (map_rows(path, array(file, name)) for name in ("sequence", "labels"))
    n_targets = len(header.targets)
    expected = (packed_width(header.window), -(-n_targets // 8))
    if (sequence.shape[1:], labels.shape[1:]) != ((expected[0],), (expected[1],)) or len(
        sequence
    ) != len(labels):
        raise InputError(
            f"{path}: sequence {sequence.shape} and labels {labels.shape} do not fit a window of "
            f"{header.window} and {n_targets} targets. {ADVICE}"
        )
    for name in ("ignore", "chrom", "start"):
        if name in file and len(array(file, name)) != len(labels):
            raise InputError(
                f"{path}: {len(file[name])} values of {name!r} for {len(labels)} windows. {ADVICE}"
            )
    chrom, start = read_coordinates(path, file, len(labels))
    ignore = map_rows(path, array(file, "ignore", shape=labels.shape)) if "ignore" in file else None
    return Split(
        path=path,
        header=header,
        sequence=sequence,
        labels=labels,
        ignore=ignore,
        chrom=chrom,
        start=start,
        checksums={
            name: attribute(file, f"{name}_sha256", "text") for name in _CHECKED if name in file
        },
        created=attribute(file, "created", "text"),
        package_version=attribute(file, "package_version", "text"),
        unchecked=tuple(
            name for name in _DESCRIBED if name in file and f"{name}_sha256" not in file.attrs
        ),
    )


def _read_header(path: Path, file: h5py.File) -> StoreHeader:
    if file.attrs.get("format") != FORMAT:
        raise InputError(f"{path}: not a danq_keras store. Build it with bin/make_dataset.py.")
    version = attribute(file, "format_version", "number")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: store format version {version}, this package reads "
            f"version {FORMAT_VERSION}. Use the danq_keras that wrote it, or build it again."
        )
    names = read_texts(file, "targets")
    columns = [f"target_{column}" for column in TARGET_COLUMNS]
    targets = Targets(
        names, *(read_texts(file, name, len(names)) if name in file else () for name in columns)
    )
    if "targets_sha256" in file.attrs:
        compare_digest(path, file, "targets", digest_of_targets(targets))
    window = attribute(file, "window", "number")
    if window <= 0:
        raise ValueError(f"'window' is {window}, which must be positive")
    return StoreHeader(
        window=window,
        bin=attribute(file, "bin", "number"),
        strands=attribute(file, "strands", "text"),
        targets=targets,
        source=attribute(file, "source", "text"),
        one_strand="one_strand" in file.attrs and bool(attribute(file, "one_strand", "number")),
    )


@dataclass(frozen=True)
class Dataset:
    """The three splits of a dataset folder, which agree in window, bin and targets.

    `summary` says what a build left out; None for a dataset that was only opened.
    """

    folder: Path
    train: Split
    valid: Split
    test: Split
    summary: "BuildSummary | None" = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def targets(self) -> Targets:
        """The targets, the same in every split."""
        return self.train.header.targets

    @property
    def window(self) -> int:
        """Window length L in bases."""
        return self.train.header.window

    def split(self, name: str) -> Split:
        """The split called train, valid or test.

        Raises:
            InputError: another name.
        """
        if name not in SPLITS:
            raise InputError(f"`split`: one of {', '.join(SPLITS)}. Received: {name!r}.")
        split: Split = getattr(self, name)
        return split

    def verify(self) -> None:
        """Read every byte of every split and compare the checksums.

        Raises:
            InputError: a checksum differs.
        """
        for name in SPLITS:
            self.split(name).verify()

    def fingerprints(self) -> dict[str, str]:
        """Split name → fingerprint of its content."""
        return {name: self.split(name).fingerprint for name in SPLITS}


def is_dataset(folder: Path) -> bool:
    """Whether `folder` holds the split files of a store."""
    return folder.is_dir() and any((folder / f"{split}.h5").is_file() for split in SPLITS)


def open_store(folder: Path) -> Dataset:
    """Open a dataset folder.

    Raises:
        InputError: a split is missing or unreadable, or the splits disagree.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such dataset folder. Build it with bin/make_dataset.py.")
    train, valid, test = (open_split(folder / f"{name}.h5") for name in SPLITS)
    for other in (valid, test):
        for key in ("window", "bin", "targets"):
            if getattr(other.header, key) != getattr(train.header, key):
                raise InputError(
                    f"{other.path}: its {key} differs from that of train.h5. The splits must come "
                    "from one build: build the dataset again."
                )
    return Dataset(folder, train, valid, test)


def count_positives(split: Split) -> Positions:
    """Positive rows (T,) int64 of each target of a stored split."""
    counts = np.zeros(split.n_targets, np.int64)
    for labels, _ in label_blocks(split):
        counts += unpack_labels(labels, split.n_targets).sum(axis=0, dtype=np.int64)
    return counts


def label_blocks(
    split: Split, windows: Positions | None = None
) -> Iterator[tuple[Bytes, Bytes | None]]:
    """Packed labels, and packed `ignore` or None, of some thousand rows at a time.

    Args:
        split: stored split, N windows.
        windows: (n,) numbers of the windows that are read; None for all.
    """
    n = split.n_windows if windows is None else len(windows)
    for begin in range(0, n, _COUNT_ROWS):
        rows: Any = slice(begin, min(n, begin + _COUNT_ROWS))
        rows = rows if windows is None else windows[rows]
        ignore = None if split.ignore is None else np.asarray(split.ignore[rows])
        yield np.asarray(split.labels[rows]), ignore
