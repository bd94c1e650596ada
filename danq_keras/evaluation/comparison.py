"""Comparison of AUC tables, target by target: with the paper's three models or with another table.

Against the paper targets are joined **by number**, between two of our tables **by name**. The
paper's PR column is set beside our `auprc_interpolated`, the published kind of area; two of our
tables are compared by `auprc`, average precision.

A `Comparison` keeps every shared target; those that do not count are told by reason. The paired
test does not take the 99 CTCF targets for 99 witnesses: see `summarise_comparison`.
`comparison_text` turns comparisons into Markdown and files.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from danq_keras.data.deepsea import deepsea_targets, published_aucs
from danq_keras.evaluation.auc_tables import AUC_COLUMNS, TEXT_COLUMNS, read_auc_table
from danq_keras.evaluation.resamples import FILE as RESAMPLES
from danq_keras.evaluation.resamples import (
    KeptResamples,
    MeanDifference,
    paired_differences,
    read_resamples,
)
from danq_keras.system.errors import InputError, near_names

PUBLISHED_PREFIX = "published:"
PUBLISHED = {"deepsea": "DeepSEA", "danq": "DanQ", "danq-jaspar": "DanQ-JASPAR"}
ALL = "all"
_IDENTITY = ("target", *TEXT_COLUMNS)


@dataclass(frozen=True)
class AucTable:
    """A table to compare and what to call it; `published` marks a column of the paper's table.

    `frame` as `auc_tables` describes it. The paper's has NaN for what the paper does not give:
    counts and average precision. `resamples` are the bootstrap's, where the test had one.
    """

    label: str
    frame: pd.DataFrame
    published: bool = False
    resamples: KeptResamples | None = None


@dataclass(frozen=True)
class Comparison:
    """Two tables joined.

    `rows` has a row per shared target, in the order of ours: `target`, texts, `positives`, and
    for each of `AUC_COLUMNS` ours, `reference_<column>` and `<column>_difference`, and `counted`.
    `left_out` says by reason how many targets do not count. `means` has the differences of the
    means with paired bootstrap intervals: None without a bootstrap of both, empty where the two did
    not meet the same resamples; `drawn` says how many of what were drawn.
    """

    ours: str
    reference: str
    pr_column: str
    rows: pd.DataFrame
    left_out: dict[str, int]
    notes: tuple[str, ...] = ()
    means: tuple[MeanDifference, ...] | None = None
    drawn: str = ""

    @property
    def counted_rows(self) -> pd.DataFrame:
        """The rows that figures are taken from."""
        return self.rows[self.rows["counted"]]

    @property
    def figures(self) -> dict[str, str]:
        """The two figures compared: what to call it → its column."""
        return {"ROC AUC": "auroc", "PR AUC": self.pr_column}


def load_table(argument: str) -> AucTable:
    """The table that a user names: a file, a run folder, or `published:NAME`.

    Raises:
        InputError: there is no such published model, or the file is not an AUC table.
        OSError: the file cannot be read.
    """
    if argument.startswith(PUBLISHED_PREFIX):
        return published_table(argument.removeprefix(PUBLISHED_PREFIX))
    path = Path(argument)
    if path.is_dir():
        path = path / "test_aucs.tsv"
    label = path.resolve().parent.name if path.name == "test_aucs.tsv" else path.stem
    beside = path.parent / RESAMPLES
    of_run = path.name == "test_aucs.tsv" and beside.is_file()
    return AucTable(
        label, read_auc_table(path), resamples=read_resamples(beside) if of_run else None
    )


def published_table(name: str) -> AucTable:
    """One model of the paper's table of 919 targets (target 598 has no AUC).

    Raises:
        InputError: the paper has no model of that name.

    Source: Quang & Xie 2016, supplementary table of AUCs.
    """
    if name not in PUBLISHED:
        near = near_names(name, list(PUBLISHED))
        hint = f" Nearest: {near[0]}." if near else ""
        raise InputError(
            f"{PUBLISHED_PREFIX}NAME: one of {', '.join(PUBLISHED)}. Received: {name!r}.{hint}"
        )
    paper = published_aucs()
    stem = name.replace("-", "_")
    frame = paper[["target", *TEXT_COLUMNS[1:]]].copy()
    frame.insert(1, "name", list(deepsea_targets().names))
    return AucTable(
        f"{PUBLISHED[name]} (paper)",
        frame.assign(
            positives=np.nan,
            auroc=paper[f"{stem}_auroc"],
            auprc=np.nan,
            auprc_interpolated=paper[f"{stem}_auprc"],
        ),
        published=True,
    )


def has_deepsea_targets(frame: pd.DataFrame) -> bool:
    """Whether a table's target numbers are DeepSEA's, so that the paper can be joined by them.

    The names must be DeepSEA's for those numbers, or, for all 919, be the numbers themselves.
    """
    names = dict(enumerate(deepsea_targets().names))
    numbers = frame["target"].tolist()
    if set(numbers) == set(names) and frame["name"].tolist() == [str(n) for n in numbers]:
        return True
    return bool(numbers) and [names.get(n) for n in numbers] == frame["name"].tolist()


def compare_with_paper(ours: AucTable, *, min_positives: int = 1) -> list[Comparison]:
    """Compare a table with each of the paper's models (but not with itself).

    Raises:
        InputError: its targets are not DeepSEA's.
    """
    references = [published_table(name) for name in PUBLISHED]
    return [
        compare(ours, reference, min_positives=min_positives)
        for reference in references
        if reference.label != ours.label
    ]


def compare(
    ours: AucTable, reference: AucTable, *, common: bool = False, min_positives: int = 1
) -> Comparison:
    """Join two tables and take the differences, ours minus the reference.

    Args:
        ours: the table that is judged.
        reference: the table it is judged by.
        common: between two of our own tables, compare the targets that both have.
        min_positives: targets with fewer positives in ours do not count.

    Raises:
        InputError: the sets of targets differ (or share nothing), or the targets are not
            DeepSEA's when one table is the paper's.
    """
    by_number = ours.published or reference.published
    key = "target" if by_number else "name"
    if by_number:
        for table in (ours, reference):
            if not table.published and not has_deepsea_targets(table.frame):
                raise InputError(
                    f"{table.label}: the paper is joined by target number, which needs DeepSEA's "
                    f"919 targets or some of them. Received {len(table.frame)} other targets. "
                    "Compare with a table of yours: `reference=FILE`."
                )
    elif not common:
        _refuse_different_targets(ours, reference)
    rows = _join(ours, reference, key)
    if rows.empty:
        raise InputError(
            f"{ours.label} and {reference.label}: no target in common. Compare tables of the "
            "same targets."
        )
    has_auc = rows["auroc"].notna() & rows["reference_auroc"].notna()
    enough = ~(rows["positives"] < min_positives)  # the paper gives no counts: NaN passes
    rows["counted"] = has_auc & enough
    means = _mean_differences(ours, reference, list(rows.loc[rows["counted"], "name"]))
    left_out = {
        f"only in {ours.label}": len(ours.frame) - len(rows),
        f"only in {reference.label}": len(reference.frame) - len(rows),
        "without an AUC in one of the two": int((~has_auc).sum()),
        f"with fewer than {min_positives} positives": int((has_auc & ~enough).sum()),
    }
    return Comparison(
        ours.label,
        reference.label,
        "auprc_interpolated" if by_number else "auprc",
        rows,
        {reason: count for reason, count in left_out.items() if count},
        _notes(rows),
        means,
        _drawn(ours) if means else "",
    )


def _mean_differences(
    ours: AucTable, reference: AucTable, names: list[str]
) -> tuple[MeanDifference, ...] | None:
    """Of the means over the targets `names`; see `Comparison.means`."""
    if ours.resamples is None or reference.resamples is None:
        return None
    both = [
        each.resamples.subset(names)
        for each in (ours, reference)
        if each.resamples is not None and set(names) <= set(each.resamples.names)
    ]
    return paired_differences(*both) if len(both) == 2 else ()


def _drawn(table: AucTable) -> str:
    assert table.resamples is not None
    drawn = table.resamples.resamples
    return f"{drawn.n:,} resamples of {drawn.unit}"


def _refuse_different_targets(ours: AucTable, reference: AucTable) -> None:
    names = set(ours.frame["name"]), set(reference.frame["name"])
    only = names[0] - names[1], names[1] - names[0]
    if any(only):
        listed = " and ".join(
            f"{len(some)} only in {table.label} ({', '.join(sorted(some)[:3])}"
            f"{', …' if len(some) > 3 else ''})"
            for some, table in zip(only, (ours, reference), strict=True)
            if some
        )
        raise InputError(
            f"Two tables are compared over the same targets, by name. Received: {listed}. Pass "
            f"`common=True` to compare the {len(names[0] & names[1])} that both have."
        )


def _join(ours: AucTable, reference: AucTable, key: str) -> pd.DataFrame:
    """The shared targets in the order of ours, with differences."""
    identity = ours.frame[[*_IDENTITY, "positives"]]
    left = pd.concat([identity, ours.frame[list(AUC_COLUMNS)]], axis=1)
    right = reference.frame[[key, "positives", *TEXT_COLUMNS[1:], *AUC_COLUMNS]]
    right = right.rename(columns={name: f"reference_{name}" for name in right if name != key})
    rows = left.merge(right, on=key, how="inner", validate="one_to_one")
    for column in TEXT_COLUMNS[1:]:  # a table without cell types or groups borrows the other's
        rows[column] = rows[column].where(rows[column] != "", rows[f"reference_{column}"])
    rows["positives"] = rows["positives"].fillna(rows["reference_positives"])
    for column in AUC_COLUMNS:
        rows[f"{column}_difference"] = rows[column] - rows[f"reference_{column}"]
    figures = [
        column
        for name in AUC_COLUMNS
        for column in (name, f"reference_{name}", f"{name}_difference")
    ]
    joined: pd.DataFrame = rows[[*_IDENTITY, "positives", "reference_positives", *figures]]
    return joined


def _notes(rows: pd.DataFrame) -> tuple[str, ...]:
    both = rows["reference_positives"].notna()
    differing = int((both & (rows["positives"] != rows["reference_positives"])).sum())
    if not differing:
        return ()
    return (
        f"{differing} of {len(rows)} targets have other numbers of positives in the two tables: "
        "they were not tested on the same windows.",
    )


def summarise_comparison(comparison: Comparison) -> pd.DataFrame:
    """Means, medians, wins and a paired test, overall and per group.

    The targets of one factor are not independent (99 of DeepSEA's are CTCF), so differences are
    first averaged over the targets of a unit: an assay within its group, or, for DNase, a cell
    type; a target without an assay is its own unit. The Wilcoxon signed-rank test, two-sided,
    then compares the units' means with zero.

    Returns:
        DataFrame with a row per group and figure: `group`, `figure`, `n` targets, `ours_mean`,
        `reference_mean`, `ours_median`, `reference_median`, `higher`, `equal` (targets), `units`,
        `median_difference` (over units), `p` (NaN where every unit's difference is zero).
    """
    rows = comparison.counted_rows
    groups = [ALL, *(group for group in dict.fromkeys(rows["group"]) if group)]
    records = []
    for group in groups:
        members = rows if group == ALL else rows[rows["group"] == group]
        for figure, column in comparison.figures.items():
            records.append({"group": group, "figure": figure, **_contrast(members, column)})
    return pd.DataFrame(records)


def _contrast(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    ours, theirs = rows[column], rows[f"reference_{column}"]
    units = unit_means(rows, f"{column}_difference")
    return {
        "n": len(rows),
        "ours_mean": ours.mean(),
        "reference_mean": theirs.mean(),
        "ours_median": ours.median(),
        "reference_median": theirs.median(),
        "higher": int((ours > theirs).sum()),
        "equal": int((ours == theirs).sum()),
        "units": len(units),
        "median_difference": float(np.median(units)) if len(units) else np.nan,
        # all differences zero: there is no rank to sign
        "p": float(stats.wilcoxon(units).pvalue) if np.any(units) else np.nan,
    }


def unit_means(rows: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    """(U,) means of a column over the targets of each unit (see `summarise_comparison`)."""
    by_cell = rows["group"].str.casefold().str.startswith("dnase")
    factor = rows["assay"].where(~by_cell, rows["cell_type"])
    unit = factor.where(factor != "", "target " + rows["name"])
    means = rows[column].groupby([rows["group"], unit]).mean()
    return np.asarray(means, np.float64)


def most_changed(comparison: Comparison, column: str, *, n: int = 5) -> pd.DataFrame:
    """The `n` counted targets that gain most, then the `n` that lose most (fewer if few do)."""
    rows = comparison.counted_rows
    ordered = rows.sort_values(f"{column}_difference", ascending=False, kind="stable")
    difference = ordered[f"{column}_difference"]
    return pd.concat([ordered[difference > 0].head(n), ordered[difference < 0].tail(n)])


def relative_gains(comparison: Comparison, *, above: float = 0.5) -> int:
    """Counted targets whose PR AUC is higher than the reference's by more than this share."""
    rows = comparison.counted_rows
    column = comparison.pr_column
    return int((rows[column] > (1 + above) * rows[f"reference_{column}"]).sum())


def distinct_labels(tables: Sequence[AucTable], arguments: Sequence[str]) -> list[AucTable]:
    """The tables, each with a label of its own: where two would share one, the path as given."""
    labels = [table.label for table in tables]
    return [
        AucTable(
            table.label if labels.count(table.label) == 1 else re.sub(r"\s+", " ", argument),
            table.frame,
            table.published,
            table.resamples,
        )
        for table, argument in zip(tables, arguments, strict=True)
    ]
