"""What a build of a dataset gave, and what it left out and why."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from danq_keras.store import SPLITS
from danq_keras.targets import Targets


@dataclass(frozen=True, eq=False)
class BuildSummary:
    """What a build gave.

    `n_windows` by split; `positives` (3, T) int64 bins, splits in the order of `SPLITS`;
    `bins_left_out` and `peaks_left_out` by reason; `n_peaks` read.
    """

    targets: Targets
    n_windows: dict[str, int]
    positives: npt.NDArray[np.int64]
    bins_left_out: Counter[str]
    n_peaks: int
    peaks_left_out: Counter[str]
    seconds: float = 0.0

    @property
    def positive_share(self) -> float:
        """Share of all labels that are positive."""
        labels = sum(self.n_windows.values()) * len(self.targets)
        return float(self.positives.sum()) / labels if labels else 0.0

    def describe(self) -> str:
        """The summary as lines of text."""
        rows = [f"{len(self.targets)} targets, windows and positive labels by split:"]
        for row, split in enumerate(SPLITS):
            rows.append(
                f"  {split:<6}{self.n_windows[split]:>12,}{int(self.positives[row].sum()):>14,}"
            )
        rows.append(f"  {self.positive_share:.2%} of the labels are positive.")
        by_target = self.positives.sum(axis=0)
        rows.append(
            f"Positive bins of a target: {by_target.min():,} to {by_target.max():,}, "
            f"median {int(np.median(by_target)):,}."
        )
        rows += _count_lines("Bins left out", self.bins_left_out)
        rows += _count_lines(
            f"Peaks that gave no bin a label, of {self.n_peaks:,}", self.peaks_left_out
        )
        return "\n".join([*rows, f"Built in {self.seconds:.1f} s."])


def _count_lines(title: str, counts: Counter[str]) -> list[str]:
    lines = [f"{title}: {counts.total():,}"]
    return lines + [f"  {count:>12,}  {reason}" for reason, count in counts.most_common() if count]
