"""Chromosome-wise cross-validation: chromosomes dealt into folds, and the dataset of a fold.

In: an open dataset whose windows have coordinates. Fold k is the test split, the next one (the
first after the last) the validation split, and all others train. A chromosome is in one fold only,
so no training window can overlap a window of the other two splits.

The dataset of a fold is a store of its own, a copy of the rows in another order: every command
works on it, and the run's config.json leads to the very windows that it was tested on.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from danq_keras.data.store import SPLITS, Dataset, Split
from danq_keras.data.store_write import Rows, SplitWriter, new_dataset
from danq_keras.system.errors import InputError

MINIMUM_FOLDS = 3  # one each to test, to validate and to train
_ROWS = 1 << 14


@dataclass(frozen=True)
class Fold:
    """The chromosomes of one fold, in natural order, and their number of windows."""

    chroms: tuple[str, ...]
    n_windows: int


def deal_chromosomes(counts: Mapping[str, int], n_folds: int) -> list[Fold]:
    """Deal chromosomes into folds of about equal numbers of windows.

    The largest chromosome left goes to the fold with the fewest windows; ties go to the first in
    natural order (chr2 before chr10), so that the same counts give the same folds.

    Args:
        counts: name of each chromosome → number of its windows.
        n_folds: number of folds K, from 3 to the number of chromosomes.

    Raises:
        InputError: fewer than three folds, or fewer chromosomes than folds.
    """
    if n_folds < MINIMUM_FOLDS:
        raise InputError(
            f"`folds`: at least {MINIMUM_FOLDS} (to test, to validate, to train). Received: "
            f"{n_folds}."
        )
    if len(counts) < n_folds:
        raise InputError(
            f"`folds={n_folds}`: the dataset has windows on {len(counts)} chromosomes, and a "
            "chromosome is in one fold only. Give a smaller number."
        )
    dealt: list[list[str]] = [[] for _ in range(n_folds)]
    sizes = [0] * n_folds
    for chrom in sorted(counts, key=lambda name: (-counts[name], _natural(name))):
        fold = sizes.index(min(sizes))
        dealt[fold].append(chrom)
        sizes[fold] += counts[chrom]
    return [
        Fold(tuple(sorted(chroms, key=_natural)), size)
        for chroms, size in zip(dealt, sizes, strict=True)
    ]


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts numbers inside names by value."""
    texts_and_numbers = re.split("([0-9]+)", name)  # every second part is a number
    return tuple(
        (int(part), "") if i % 2 else (-1, part) for i, part in enumerate(texts_and_numbers)
    )


def deal_dataset(dataset: Dataset, n_folds: int) -> list[Fold]:
    """The folds of a dataset, over the windows of all its splits.

    Raises:
        InputError: windows without coordinates, splits that differ in strands, or see
            `deal_chromosomes`.
    """
    used = _used(dataset)
    for split in used:
        if split.chrom is None:
            raise InputError(
                f"{split.path}: `folds` deals windows by chromosome, and this split has no "
                "coordinates. Use a dataset built from a genome."
            )
        if split.header.strands != used[0].header.strands:
            raise InputError(
                f"{split.path}: strands are {split.header.strands!r}, those of {used[0].path.name} "
                f"{used[0].header.strands!r}: `folds` would mix them. Build the dataset again."
            )
    chroms = np.concatenate([_chroms(split) for split in used]) if used else np.zeros(0, np.str_)
    names, counts = np.unique(chroms, return_counts=True)
    return deal_chromosomes(dict(zip(names.tolist(), counts.tolist(), strict=True)), n_folds)


def _used(dataset: Dataset) -> list[Split]:
    splits = [dataset.split(name) for name in SPLITS]
    return [split for split in splits if split.n_windows]


def _chroms(split: Split) -> npt.NDArray[np.str_]:
    assert split.chrom is not None
    return split.chrom


def split_of_fold(folds: Sequence[Fold], number: int) -> dict[str, tuple[str, ...]]:
    """The chromosomes of each split when fold `number` (from 0) is the test split."""
    following = (number + 1) % len(folds)
    others = [fold for i, fold in enumerate(folds) if i not in (number, following)]
    return {
        "train": tuple(chrom for fold in others for chrom in fold.chroms),
        "valid": folds[following].chroms,
        "test": folds[number].chroms,
    }


def write_fold(dataset: Dataset, folds: Sequence[Fold], number: int, folder: Path) -> int:
    """Write the dataset of one fold.

    Rows keep their order: those of the source's training split first, then validation, then test.

    Args:
        dataset: open dataset with coordinates, whose rows are copied.
        folds: the chromosomes of every fold, as `deal_dataset` gives them.
        number: number of the fold that is the test split, counted from 0.
        folder: the new dataset folder.

    Returns:
        Bytes on disk.

    Raises:
        InputError: `folder` exists.
    """
    used = _used(dataset)
    header = dataclasses.replace(
        used[0].header, source=f"{used[0].header.source}; fold {number} of {len(folds)}"
    )
    width = max(_chroms(split).dtype.itemsize for split in used)  # 4 bytes a letter: enough
    with new_dataset(folder) as temporary:
        for name, chroms in split_of_fold(folds, number).items():
            rows = [np.flatnonzero(np.isin(_chroms(split), chroms)) for split in used]
            path = temporary / f"{name}.h5"
            with SplitWriter(
                path,
                header,
                n_windows=sum(map(len, rows)),
                with_ignore=any(split.ignore is not None for split in used),
                chrom_width=width,
            ) as writer:
                for block in _blocks(used, rows):
                    writer.append(block)
        n_bytes = sum(path.stat().st_size for path in temporary.iterdir())
    return n_bytes


def _blocks(splits: Sequence[Split], rows: Sequence[npt.NDArray[np.int64]]) -> Iterator[Rows]:
    """The chosen rows of each split, in order, a block at a time."""
    with_ignore = any(split.ignore is not None for split in splits)
    for split, chosen in zip(splits, rows, strict=True):
        for begin in range(0, len(chosen), _ROWS):
            part = chosen[begin : begin + _ROWS]
            labels = split.labels[part]
            ignore = None
            if with_ignore:
                ignore = np.zeros_like(labels) if split.ignore is None else split.ignore[part]
            assert split.start is not None
            yield Rows(
                split.sequence[part],
                labels,
                ignore=ignore,
                chrom=_chroms(split)[part],
                start=split.start[part],
            )
