"""What a dataset is built from a genome with: every choice of `make_dataset.py genome`.

A choice that cannot be is refused here, before any file is read.
"""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypedDict

import pandas as pd

from danq_keras.data.labels import PeakSource
from danq_keras.data.negatives import Negatives
from danq_keras.data.store import check_seed, check_strands
from danq_keras.genome.bed import check_chrom_names
from danq_keras.system.errors import InputError, shorten
from danq_keras.system.files import PathLike

_ALWAYS_SAID = ("bin", "window", "min_overlap")
_NEVER_SAID = ("genome", "peaks", "source", "expect_windows")
_PATHS = ("genome", "exclude", "bins", "ignore", "targets", "split_table")
_NAMES = ("chroms", "test_chroms", "keep_if")


class BuildChoices(TypedDict, total=False):
    """The choices of a `GenomeSpec`, of the same names and meaning, that seldom need saying."""

    bin: int
    window: int
    min_overlap: float
    resize_peaks: int | None
    chrom_names: str | None
    chroms: Sequence[str] | None
    exclude: PathLike | None
    bins: PathLike | None
    ignore: PathLike | None
    keep_if: Sequence[str]
    keep_unlabelled: bool
    min_signal: float | None
    max_unknown: float
    split_table: PathLike | None
    allow_adjacent: bool
    max_train: int | None
    strands: str
    negatives: str | None
    seed: int
    expect_windows: Sequence[int] | None
    source: str


@dataclass(frozen=True)
class GenomeSpec:
    """What to build a dataset from, and how.

    Attributes:
        genome: FASTA, plain, bgzip or gzip.
        peaks: BED or narrowPeak files, one a target, and none where `targets` names them; or
            target → its files and data frames (see `bed.bed_from_frame`).
        bin: bases a bin.
        window: bases a window, the bin in its middle.
        min_overlap: a bin is positive when more than this share of it lies in peaks.
        resize_peaks: bases that each peak gets around its summit or centre.
        chrom_names: "strip" or "add": the fix for files whose chromosomes are named with, or
            without, a leading `chr` that the FASTA's have not, or have.
        chroms: chromosomes in use, in this order; None takes all of the FASTA, in its order.
        test_chroms: chromosomes of the test split.
        valid_region: CHROM or CHROM:START-END (1-based, inclusive) of the validation split.
        exclude: BED of regions; a bin that shares a base with one is left out.
        bins: BED of bins to use in place of all bins of the genome, in its order as far as the
            bins of a chromosome stand together.
        ignore: table of regions in which targets' labels do not count (see
            `labels.load_ignored`); such a label is stored as 0 with its bit in `ignore`.
        keep_if: targets by name or number, or groups; a bin needs a peak of one of them.
        keep_unlabelled: keep bins without a peak.
        min_signal: peaks with a lower signal (of a plain BED: score) are left out.
        max_unknown: windows with a larger share of unknown bases are left out.
        targets: table that names the targets (see `labels.name_targets`).
        split_table: table with the columns `chrom`, `split` and optional `start`, `end` (0-based,
            half-open), in place of `test_chroms` and `valid_region`; what it does not list is in
            no split.
        allow_adjacent: keep training windows that overlap a validation or test bin.
        max_train: keep the first so many training windows, in row order.
        strands: "both"; or "given", where a peak speaks of its own strand alone (BED column 6):
            a window then is the strand that has the peak, read in its direction.
        negatives: windows to add that no peak touches, beside those with one: "shuffle:K", K
            shuffles of each that keep the counts of neighbouring bases, or "genome:K", K windows
            of the genome with the same share of G and C and of unknown bases; None for none.
        seed: number from which those are drawn.
        expect_windows: windows in train, valid and test; with other counts nothing is written.
        source: what the dataset is, to stand before the description that every split carries.
    """

    genome: Path
    peaks: tuple[Path, ...] | Mapping[str, Sequence[PeakSource]] = ()
    bin: int = 200
    window: int = 1000
    min_overlap: float = 0.5
    resize_peaks: int | None = None
    chrom_names: str | None = None
    chroms: tuple[str, ...] | None = None
    test_chroms: tuple[str, ...] = ()
    valid_region: str | None = None
    exclude: Path | None = None
    bins: Path | None = None
    ignore: Path | None = None
    keep_if: tuple[str, ...] = ()
    keep_unlabelled: bool = False
    min_signal: float | None = None
    max_unknown: float = 1.0
    targets: Path | None = None
    split_table: Path | None = None
    allow_adjacent: bool = False
    max_train: int | None = None
    strands: str = "both"
    negatives: str | None = None
    seed: int = 0
    expect_windows: tuple[int, ...] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if self.bin < 1:
            raise InputError(f"`bin`: must be above zero. Received: {self.bin}.")
        if self.window < self.bin or (self.window - self.bin) % 2:
            raise InputError(
                "`window`: must not be below the bin, and leave as many bases on either side "
                f"of it. Received: window {self.window}, bin {self.bin}."
            )
        if not 0 <= self.min_overlap < 1:
            raise InputError(f"`min_overlap`: must be in [0, 1). Received: {self.min_overlap}.")
        if not 0 <= self.max_unknown <= 1:
            raise InputError(f"`max_unknown`: must be in [0, 1]. Received: {self.max_unknown}.")
        if self.resize_peaks is not None and self.resize_peaks < 1:
            raise InputError(f"`resize_peaks`: must be above zero. Received: {self.resize_peaks}.")
        if self.max_train is not None and self.max_train < 1:
            raise InputError(f"`max_train`: must be above zero. Received: {self.max_train}.")
        if self.min_signal is not None and not math.isfinite(self.min_signal):
            raise InputError(f"`min_signal`: must be a finite number. Received: {self.min_signal}.")
        check_chrom_names(self.chrom_names)
        if self.expect_windows is not None and len(self.expect_windows) != 3:
            raise InputError(
                "`expect_windows`: three numbers, of train, valid and test. Received: "
                f"{self.expect_windows}."
            )
        check_seed(self.seed)
        check_strands(self.strands)
        if self.negatives is not None:
            Negatives.parse(self.negatives)
            for name in ("keep_unlabelled", "max_train"):
                if getattr(self, name):
                    raise InputError(f"`negatives` and `{name}` exclude each other. Give one.")
        if self.keep_if and self.keep_unlabelled:
            raise InputError("`keep_if` and `keep_unlabelled` exclude each other. Give one.")
        if self.split_table and (self.test_chroms or self.valid_region):
            raise InputError(
                "`split_table` takes the place of `test_chroms` and `valid_region`. Give one kind."
            )

    @classmethod
    def of(cls, **choices: Any) -> Self:
        """The spec of choices as a caller has them: paths of any kind, one or several of a thing.

        Raises:
            InputError: a choice that cannot be.
        """
        for name in choices.keys() & set(_PATHS):
            choices[name] = None if choices[name] is None else Path(choices[name])
        for name in choices.keys() & set(_NAMES):
            given = choices[name]
            choices[name] = None if given is None else tuple(map(str, _several(given)))
        if choices.get("expect_windows") is not None:
            choices["expect_windows"] = tuple(choices["expect_windows"])
        return cls(**choices | {"peaks": _peaks(choices.get("peaks", ()))})

    @property
    def flank(self) -> int:
        """Bases of the window on either side of the bin."""
        return (self.window - self.bin) // 2

    def describe(self) -> str:
        """One line for the store's `source`: the genome, and every choice that was made."""
        choices = [
            _choice(field.name, value)
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default or field.name in _ALWAYS_SAID
            if field.name not in _NEVER_SAID
        ]
        prefix = f"{self.source}; " if self.source else ""
        return f"{prefix}genome {self.genome.name}; {', '.join(choices)}"


def _several(value: Any) -> tuple[Any, ...]:
    """What was given one of, or several."""
    one = isinstance(value, str | os.PathLike | pd.DataFrame)
    return (value,) if one else tuple(value)


def _peaks(peaks: Any) -> tuple[Path, ...] | Mapping[str, Sequence[PeakSource]]:
    if isinstance(peaks, Mapping):
        return {
            name: tuple(
                each if isinstance(each, pd.DataFrame) else Path(each) for each in _several(sources)
            )
            for name, sources in peaks.items()
        }
    files = _several(peaks)
    if any(isinstance(each, pd.DataFrame) for each in files):
        raise InputError(
            "`peaks`: a data frame has no name of its target. Give a dict, target → data frame."
        )
    return tuple(Path(each) for each in files)


def _choice(name: str, value: object) -> str:
    """A choice as one would give it on the command line; of files the name."""
    option = name.replace("_", "-")
    if value is True:
        return option
    if isinstance(value, tuple):
        return f"{option} {shorten(value, 30)}"
    return f"{option} {value.name if isinstance(value, Path) else value}"
