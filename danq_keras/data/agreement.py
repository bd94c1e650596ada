"""Two datasets side by side: are their sequences equal, how far do their labels agree?

The use is a rebuilt dataset beside the published one. Agreement of a target is the number of bins
that both call positive over the number that either does (intersection over union); the many
labels that both call negative would hide any difference. Rows are matched by coordinates where
both datasets have them, else by their number in the split.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.data.store import SPLITS, Dataset, Split
from danq_keras.genome.dna import unpack_labels
from danq_keras.system.errors import InputError, shorten
from danq_keras.system.files import PathLike, atomic_output
from danq_keras.system.terminal import progress

_BLOCK_ROWS = 1 << 14
_LOWEST_SHOWN = 10

Counts: TypeAlias = npt.NDArray[np.int64]
Indices: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class SplitComparison:
    """A split of A beside that of B.

    `rows_a`, `rows_b` windows, of which `matched` are compared: `equal_sequences` of them have the
    same bases, and in the others `differing_values` one-hot values differ. `positives_a`,
    `positives_b`, `shared` (T,) are positive labels of matched rows, those that do not count in
    either (`ignored`) left out.
    """

    name: str
    rows_a: int
    rows_b: int
    matched: int
    equal_sequences: int
    differing_values: int
    positives_a: Counts
    positives_b: Counts
    shared: Counts
    ignored: int

    @property
    def agreement(self) -> npt.NDArray[np.float64]:
        """Shared over all positives (T,), NaN for a target without any."""
        return _over(self.shared, self.positives_a + self.positives_b - self.shared)


@dataclass(frozen=True, eq=False)
class DatasetComparison:
    """The three splits, and the names of the targets in A's order."""

    names: tuple[str, ...]
    by_coordinates: bool
    splits: tuple[SplitComparison, ...]

    @property
    def totals(self) -> tuple[Counts, Counts, Counts]:
        """Positives of A, of B, and shared (T,), over all splits."""
        parts = [(part.positives_a, part.positives_b, part.shared) for part in self.splits]
        a, b, shared = (np.sum(column, axis=0) for column in zip(*parts, strict=True))
        return a, b, shared

    def describe(self) -> str:
        """The comparison as lines of text."""
        how = "coordinates" if self.by_coordinates else "row number"
        heads = ["rows A", "rows B", "matched", "same bases", "values off"]
        heads += ["positives A", "positives B", "shared", "agreement"]
        lines = [f"Rows matched by {how}.", f"{'split':<6}" + "".join(f"{h:>13}" for h in heads)]
        for part in self.splits:
            a, b, shared = (int(x.sum()) for x in (part.positives_a, part.positives_b, part.shared))
            numbers = [part.rows_a, part.rows_b, part.matched, part.equal_sequences]
            numbers += [part.differing_values, a, b, shared]
            agreement = f"{shared / (a + b - shared):.6f}" if a + b else "NA"
            row = "".join(f"{number:>13,}" for number in numbers)
            lines.append(f"{part.name:<6}{row}{agreement:>13}")
        ignored = sum(part.ignored for part in self.splits)
        if ignored:
            lines.append(f"{ignored:,} labels do not count in A or B and are not compared.")
        return "\n".join([*lines, *self._by_target()])

    def _by_target(self) -> list[str]:
        a, b, shared = self.totals
        agreement = _over(shared, a + b - shared)
        known = np.flatnonzero(~np.isnan(agreement))
        if not len(known):
            return ["No target has a positive in A or B."]
        values = agreement[known]
        lowest = known[np.argsort(values, kind="stable")][:_LOWEST_SHOWN]
        lowest = lowest[agreement[lowest] < 1]
        return [
            f"Agreement of {len(known)} targets with positives (shared over all): median "
            f"{np.median(values):.4f}, lowest {values.min():.4f}, {(values == 1).sum()} agree in "
            f"all.{' The lowest, with positives of A, of B, shared:' if len(lowest) else ''}",
            *(
                f"  {target:>4}  {agreement[target]:.4f}  {a[target]:>9,} {b[target]:>9,} "
                f"{shared[target]:>9,}  {self.names[target]}"
                for target in lowest.tolist()
            ),
        ]

    def to_frame(self) -> pd.DataFrame:
        """A row a target: number, name, positives of A and B, shared ones, agreements."""
        a, b, shared = self.totals
        columns: dict[str, object] = {
            "target": range(len(self.names)),
            "name": self.names,
            "positives_a": a,
            "positives_b": b,
            "shared": shared,
            "agreement": _over(shared, a + b - shared),
        }
        columns |= {f"{part.name}_agreement": part.agreement for part in self.splits}
        return pd.DataFrame(columns)

    def save(self, path: PathLike, *, overwrite: bool = False) -> None:
        """Write the table of the targets, separated by tabs.

        Args:
            path: the file to write.
            overwrite: whether to replace it if it is there.

        Raises:
            InputError: the file exists.
        """
        with atomic_output(Path(path), overwrite=overwrite) as temporary:
            self.to_frame().to_csv(
                temporary, sep="\t", index=False, float_format="%.6f", na_rep="NA"
            )


def compare_datasets(a: Dataset, b: Dataset, *, by_number: bool = False) -> DatasetComparison:
    """Compare labels and sequences of two datasets.

    Args:
        a: open dataset whose order of targets counts.
        b: open dataset with the same windows' length, strands and targets.
        by_number: join the targets by number, where their names differ.

    Raises:
        InputError: windows, strands or targets differ, or rows cannot be matched.
    """
    targets_b = _join_targets(a, b, by_number=by_number)
    for key in ("window", "strands"):
        values = [getattr(dataset.train.header, key) for dataset in (a, b)]
        if values[0] != values[1]:
            raise InputError(
                f"Datasets to compare must have the same {key}. Received: {a.folder} {values[0]}, "
                f"{b.folder} {values[1]}. Build one of them again."
            )
    pairs = [(a.split(name), b.split(name)) for name in SPLITS]
    located = all(split.start is not None for pair in pairs for split in pair)
    matched = [_match(*pair, located=located) for pair in pairs]
    if not any(len(rows) for rows, _ in matched):
        firsts = [
            next((_place(split) for split in each if split.n_windows), "none")
            for each in zip(*pairs, strict=True)
        ]
        raise InputError(
            f"No window of {a.folder} has the split and the place of one of {b.folder}. Received "
            f"first windows: {firsts[0]} and {firsts[1]}. Name the chromosomes alike, and choose "
            "the same bins and splits."
        )
    with progress(
        total=sum(len(rows) for rows, _ in matched), desc="compare", unit="window"
    ) as bar:
        parts = []
        for name, pair, rows in zip(SPLITS, pairs, matched, strict=True):
            parts.append(_compare(name, *pair, rows, targets_b))
            bar.update(len(rows[0]))
    return DatasetComparison(a.targets.names, located, tuple(parts))


def _join_targets(a: Dataset, b: Dataset, *, by_number: bool) -> Indices:
    """For each target of A its number in B."""
    names_a, names_b = a.targets.names, b.targets.names
    if by_number:
        if len(names_a) != len(names_b):
            raise InputError(
                f"`by_number`: both datasets must have as many targets. Received: {len(names_a)} "
                f"and {len(names_b)}. Leave the option out to join them by name."
            )
        return np.arange(len(names_a))
    only = sorted(set(names_a) ^ set(names_b))
    if only:
        raise InputError(
            f"Datasets to compare must have the same targets. Received {len(only)} names that only "
            f"one has: {shorten(only, 5)}. Pass `by_number=True` if they only are named "
            "differently."
        )
    number = {name: i for i, name in enumerate(names_b)}
    return np.array([number[name] for name in names_a])


def _place(split: Split) -> str:
    """Chromosome and 0-based start of the first window."""
    assert split.chrom is not None
    assert split.start is not None
    return f"{split.chrom[0]}:{split.start[0]}"


def _match(a: Split, b: Split, *, located: bool) -> tuple[Indices, Indices]:
    """Rows of A and of B that are the same window."""
    if located:
        tables = [
            pd.DataFrame(
                {"chrom": split.chrom, "start": split.start, "row": range(len(split.labels))}
            )
            for split in (a, b)
        ]
        both = tables[0].merge(tables[1], on=["chrom", "start"], suffixes=("_a", "_b"))
        return both["row_a"].to_numpy(np.intp), both["row_b"].to_numpy(np.intp)
    if a.n_windows != b.n_windows:
        raise InputError(
            "Rows without coordinates are matched by number, so each split must have as many in "
            f"both datasets. Received: {a.path} {a.n_windows:,}, {b.path} {b.n_windows:,}."
        )
    return np.arange(a.n_windows), np.arange(b.n_windows)


def _compare(
    name: str, a: Split, b: Split, rows: tuple[Indices, Indices], targets_b: Indices
) -> SplitComparison:
    positives_a, positives_b, shared = np.zeros((3, a.n_targets), np.int64)
    equal = differing = ignored = 0
    for rows_a, rows_b in _blocks(rows):
        bits = np.bitwise_count(a.sequence[rows_a] ^ b.sequence[rows_b]).sum(axis=1, dtype=np.int64)
        equal += int((bits == 0).sum())
        differing += int(bits.sum())
        labels_a = unpack_labels(a.labels[rows_a], a.n_targets)
        labels_b = unpack_labels(b.labels[rows_b], a.n_targets)[:, targets_b]
        counts = np.ones_like(labels_a)
        if a.ignore is not None:
            counts &= 1 - unpack_labels(a.ignore[rows_a], a.n_targets)
        if b.ignore is not None:
            counts &= 1 - unpack_labels(b.ignore[rows_b], a.n_targets)[:, targets_b]
        ignored += counts.size - int(counts.sum(dtype=np.int64))
        labels_a &= counts
        labels_b &= counts
        positives_a += labels_a.sum(axis=0, dtype=np.int64)
        positives_b += labels_b.sum(axis=0, dtype=np.int64)
        shared += (labels_a & labels_b).sum(axis=0, dtype=np.int64)
    return SplitComparison(
        name=name,
        rows_a=a.n_windows,
        rows_b=b.n_windows,
        matched=len(rows[0]),
        equal_sequences=equal,
        differing_values=differing,
        positives_a=positives_a,
        positives_b=positives_b,
        shared=shared,
        ignored=ignored,
    )


def _blocks(rows: tuple[Indices, Indices]) -> Iterator[tuple[Indices, Indices]]:
    for begin in range(0, len(rows[0]), _BLOCK_ROWS):
        yield rows[0][begin : begin + _BLOCK_ROWS], rows[1][begin : begin + _BLOCK_ROWS]


def _over(part: Counts, whole: Counts) -> npt.NDArray[np.float64]:
    share = np.full(len(part), np.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share
