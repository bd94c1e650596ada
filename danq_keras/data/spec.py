"""What a dataset is built from a genome with: every choice of `make_dataset.py genome`.

A choice that cannot be is refused here, before any file is read.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from danq_keras.system.errors import InputError, shorten

_ALWAYS_SAID = ("bin", "window", "min_overlap")
_NEVER_SAID = ("genome", "peaks", "source", "expect_windows")


@dataclass(frozen=True)
class GenomeSpec:
    """What to build a dataset from, and how.

    Attributes:
        genome: FASTA, plain, bgzip or gzip.
        peaks: BED or narrowPeak files, one a target; may be empty when `targets` names them.
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
        expect_windows: windows in train, valid and test; with other counts nothing is written.
        source: what the dataset is, to stand before the description that every split carries.
    """

    genome: Path
    peaks: tuple[Path, ...] = ()
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
    expect_windows: tuple[int, ...] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if self.bin < 1:
            raise InputError(f"`bin`: must be above zero. Received: {self.bin}.")
        if self.window % 2 or self.window < self.bin or (self.window - self.bin) % 2:
            raise InputError(
                "`window`: must be even, not below the bin, and leave as many bases on either side "
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
        if self.keep_if and self.keep_unlabelled:
            raise InputError("`keep_if` and `keep_unlabelled` exclude each other. Give one.")
        if self.split_table and (self.test_chroms or self.valid_region):
            raise InputError(
                "`split_table` takes the place of `test_chroms` and `valid_region`. Give one kind."
            )

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


def _choice(name: str, value: object) -> str:
    """A choice as one would give it on the command line; of files the name."""
    option = name.replace("_", "-")
    if value is True:
        return option
    if isinstance(value, tuple):
        return f"{option} {shorten(value, 30)}"
    return f"{option} {value.name if isinstance(value, Path) else value}"
