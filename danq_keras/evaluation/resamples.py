"""Bootstrap resamples beside an AUC table: kept, read again, and compared in pairs.

`test_bootstrap.h5` holds for each of `bootstrap.FIGURES` the group `figures/NAME` with `resampled`
(T, R) float32 and `observed` (T,) float64, the targets' `names`, and in its attributes what was
drawn (`unit`, `drawn`). It is written where a test was evaluated with a bootstrap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.evaluation.auc_tables import counted, group_masks
from danq_keras.evaluation.bootstrap import CONFIDENCE, FIGURES, Resamples, percentile_interval
from danq_keras.system.arrays import Doubles
from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output
from danq_keras.system.hdf5 import attribute, new_hdf5, open_hdf5, read_array, read_texts

FILE = "test_bootstrap.h5"
FIGURE_LABELS = {"auroc": "ROC AUC", "auprc": "PR AUC", "mcc": "MCC at 0.5"}


@dataclass(frozen=True, eq=False)
class KeptResamples:
    """The resamples of a test with the figures of the test itself.

    `names` of T targets; `observed` figure → (T,) float64, NaN where a target has none.
    """

    names: tuple[str, ...]
    observed: Mapping[str, Doubles]
    resamples: Resamples

    def subset(self, names: Sequence[str]) -> "KeptResamples":
        """The same of some targets, in the order of their names."""
        rows = [self.names.index(name) for name in names]
        drawn = self.resamples
        figures = {figure: values[rows] for figure, values in drawn.figures.items()}
        observed = {figure: values[rows] for figure, values in self.observed.items()}
        return KeptResamples(tuple(names), observed, Resamples(figures, drawn.unit, drawn.drawn))


@dataclass(frozen=True)
class MeanDifference:
    """Of the means over targets of two tests, ours minus the reference.

    `low` and `high` are the ends of its 95 % interval over resamples, the same for both.
    """

    figure: str
    ours: float
    reference: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """Ours minus the reference."""
        return self.ours - self.reference


def bootstrap_summary(
    resamples: Resamples, table: pd.DataFrame, *, min_positives: int
) -> dict[str, Any]:
    """Intervals of means, as test_summary.json holds them under `bootstrap`.

    Args:
        resamples: of T targets.
        table: their AUC table.
        min_positives: targets with fewer positives do not count.

    Returns:
        JSON-ready: what was drawn and how often; overall and by group figure → `low` and `high`.
    """
    keep = counted(table, min_positives=min_positives)

    def intervals(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
        found = {figure: percentile_interval(resamples.means(figure, mask)) for figure in FIGURES}
        return {
            figure: {"low": ends[0], "high": ends[1]}
            for figure, ends in found.items()
            if ends is not None
        }

    return {
        "resamples": resamples.n,
        "unit": resamples.unit,
        "confidence": CONFIDENCE,
        "overall": intervals(keep),
        "groups": {name: intervals(keep & mask) for name, mask in group_masks(table).items()},
    }


def describe_intervals(drawn: Mapping[str, Any]) -> str:
    """The overall intervals of a `bootstrap_summary` as one line."""
    ends = "; ".join(
        f"{FIGURE_LABELS[figure]} {each['low']:.4f} to {each['high']:.4f}"
        for figure, each in drawn["overall"].items()
    )
    return f"{ends or 'NA'} ({drawn['resamples']:,} resamples of {drawn['unit']})"


def paired_differences(ours: KeptResamples, reference: KeptResamples) -> tuple[MeanDifference, ...]:
    """Differences of means over the same targets, with paired intervals.

    Args:
        ours: the test that is judged, of T targets.
        reference: the test it is judged by, of the same targets in the same order.

    Returns:
        One for each figure that both have; none where the two did not meet the same resamples.
    """
    if ours.resamples.drawn != reference.resamples.drawn:
        return ()
    found = []
    for figure in FIGURES:
        observed = [each.observed[figure] for each in (ours, reference)]
        counted = ~np.isnan(observed[0] + observed[1])
        means = [each.resamples.means(figure, counted) for each in (ours, reference)]
        ends = percentile_interval(means[0] - means[1])
        if counted.any() and ends is not None:
            here, there = (float(each[counted].mean()) for each in observed)
            found.append(MeanDifference(figure, here, there, low=ends[0], high=ends[1]))
    return tuple(found)


def write_resamples(path: Path, tested: KeptResamples) -> None:
    """Write resamples, in place of earlier ones."""
    drawn = tested.resamples
    with atomic_output(path, overwrite=True) as temporary, new_hdf5(temporary) as file:
        file["names"] = np.array(tested.names, h5py.string_dtype("utf-8"))
        file.attrs["unit"], file.attrs["drawn"] = drawn.unit, drawn.drawn
        for figure, values in drawn.figures.items():
            group = file.create_group(f"figures/{figure}")
            group.create_dataset("resampled", data=values.astype(np.float32), compression="gzip")
            group["observed"] = np.asarray(tested.observed[figure], np.float64)


def read_resamples(path: Path) -> KeptResamples:
    """Read what `write_resamples` wrote.

    Raises:
        InputError: not a file of resamples, or damaged.
    """
    advice = "Delete the file, or evaluate again with a bootstrap."
    with open_hdf5(path, "file of resamples", advice) as file:
        names = read_texts(file, "names")
        figures = {
            name: read_array(file, f"figures/{name}/resampled", kinds="f").astype(np.float64)
            for name in FIGURES
        }
        observed = {
            name: read_array(file, f"figures/{name}/observed", kinds="f") for name in FIGURES
        }
        unit, drawn_how = (attribute(file, name, "text") for name in ("unit", "drawn"))
        drawn = Resamples(figures, unit, drawn_how)
    shapes = {(len(names), drawn.n)} | {values.shape for values in figures.values()}
    if len(shapes) > 1 or any(values.shape != (len(names),) for values in observed.values()):
        raise InputError(
            f"{path}: resamples of other sizes than its {len(names)} targets. {advice}"
        )
    return KeptResamples(names, observed, drawn)
