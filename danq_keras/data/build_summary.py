"""What a build of a dataset gave, what it left out and why, and where its time went."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.data.targets import Targets
from danq_keras.system.errors import shorten
from danq_keras.system.terminal import log

_TARGETS_SHOWN = 60
_FEWEST_SHOWN = 10


class Stopwatch:
    """Adds up the seconds of each stage, in the order in which stages first end."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block for the stage `name`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - begin
            self.seconds[name] = self.seconds.get(name, 0.0) + taken


@dataclass(eq=False)
class BuildSummary:
    """What a build gave; the build counts into it.

    `n_windows` by split; `positives` (3, T) int64 bins, a row a split, in that order;
    `bins_left_out` and `peaks_left_out` by reason; `n_peaks` read; `ignored` labels of kept bins
    that do not count, and `ignored_positives` of them that peaks cover; `stages` are seconds. Of
    a build from sequences `rows` is "sequences", and there are no peaks.
    """

    targets: Targets
    n_windows: dict[str, int]
    positives: npt.NDArray[np.int64]
    bins_left_out: Counter[str] = field(default_factory=Counter)
    n_peaks: int = 0
    peaks_left_out: Counter[str] = field(default_factory=Counter)
    ignored: int = 0
    ignored_positives: int = 0
    rows: str = "bins"
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)

    @classmethod
    def empty(cls, targets: Targets, splits: Sequence[str]) -> "BuildSummary":
        """Nothing counted yet."""
        positives = np.zeros((len(splits), len(targets)), np.int64)
        return cls(targets, dict.fromkeys(splits, 0), positives)

    @property
    def positive_share(self) -> float:
        """Share of all labels that are positive."""
        labels = sum(self.n_windows.values()) * len(self.targets) - self.ignored
        return float(self.positives.sum()) / labels if labels else 0.0

    def warn_of_gaps(self) -> None:
        """Log which splits are empty, and which targets have no positive in one."""
        for split, positives in zip(self.n_windows, self.positives, strict=True):
            if not self.n_windows[split]:
                log.warning("The %s split has no windows.", split)
                continue
            missing = [self.targets.names[i] for i in np.flatnonzero(positives == 0)]
            if missing:
                log.warning(
                    "%d of %d targets have no positive in the %s split: %s.",
                    len(missing),
                    len(self.targets),
                    split,
                    shorten(missing, 20),
                )

            full = [
                self.targets.names[i] for i in np.flatnonzero(positives == self.n_windows[split])
            ]
            if full and split == "train":
                log.warning(
                    "%d of %d targets have no negative in training (%s): there is nothing to tell "
                    "their windows from. Add some with `negatives` genome or shuffle, or with "
                    "`keep_unlabelled`.",
                    len(full),
                    len(self.targets),
                    shorten(full, 20),
                )

    def to_frame(self) -> pd.DataFrame:
        """A row a target: its number `target`, `name`, and positive bins in each split."""
        columns: dict[str, object] = {
            "target": range(len(self.targets)),
            "name": self.targets.names,
        }
        return pd.DataFrame(columns | dict(zip(self.n_windows, self.positives, strict=True)))

    def describe(self) -> str:
        """The summary as lines of text."""
        n_targets = f"{len(self.targets)} target{'s' if len(self.targets) > 1 else ''}"
        rows = [f"{n_targets}, windows and positive labels by split:"]
        for row, split in enumerate(self.n_windows):
            rows.append(
                f"  {split:<6}{self.n_windows[split]:>12,}{int(self.positives[row].sum()):>14,}"
            )
        rows.append(f"  {self.positive_share:.2%} of the labels are positive.")
        bins = self.rows == "bins"
        if self.ignored and bins:
            rows.append(
                f"  {self.ignored:,} labels do not count (`ignore`); "
                f"{self.ignored_positives:,} of them would be positive."
            )
        elif self.ignored:
            rows.append(f"  {self.ignored:,} further labels are not known and do not count.")
        rows += self._by_target()
        rows += _count_lines(f"{self.rows.capitalize()} left out", self.bins_left_out)
        if bins:
            rows += _count_lines(
                f"Peaks that gave no bin a label, of {self.n_peaks:,}", self.peaks_left_out
            )
        rows.append(f"Built in {self.seconds:.1f} s:")
        rows += [f"  {seconds:>8.1f} s  {stage}" for stage, seconds in self.stages.items()]
        return "\n".join(rows)

    def _by_target(self) -> list[str]:
        """Positive bins of each target; of many targets the range and the rarest."""
        totals = self.positives.sum(axis=0)
        shown, title = range(len(self.targets)), f"Positive {self.rows} by target:"
        if len(self.targets) > _TARGETS_SHOWN:
            shown = np.argsort(totals, kind="stable")[:_FEWEST_SHOWN].tolist()
            title = (
                f"Positive {self.rows} of a target: {totals.min():,} to {totals.max():,}, median "
                f"{int(np.median(totals)):,} (all: make_dataset.py info --targets). The fewest:"
            )
        header = "".join(f"{split:>10}" for split in self.n_windows)
        lines = [title, f"  {'':>4}{header}  target"]
        for target in shown:
            counts = "".join(f"{count:>10,}" for count in self.positives[:, target].tolist())
            lines.append(f"  {target:>4}{counts}  {self.targets.names[target]}")
        return lines


def _count_lines(title: str, counts: Counter[str]) -> list[str]:
    lines = [f"{title}: {counts.total():,}"]
    return lines + [f"  {count:>12,}  {reason}" for reason, count in counts.most_common() if count]
