"""Two sets of runs compared: the difference of their means, with an interval, for every figure.

Repeats against repeats: Welch's t-interval, which takes the runs of both sets as independent.
Folds against the same folds: a paired t-interval over folds, since a fold that is hard is hard for
both. The same for every target's test AUCs, where one in twenty intervals of two sets that do not
differ leaves out zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.evaluation.auc_tables import TEXT_COLUMNS
from danq_keras.evaluation.comparison_text import escape, markdown_table
from danq_keras.recipes.settings import setting_text
from danq_keras.runs.page import cut_note, interval, label_of, main_figures, number
from danq_keras.runs.sets import FOLDS, RunSet, read_run_set, read_tables, require_complete
from danq_keras.runs.statistics import (
    SHARE,
    Difference,
    Spread,
    bounds_of,
    figure_names,
    figure_spread,
    paired,
    read_target_tables,
    spread,
    stack,
    welch,
)
from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output, refuse_existing
from danq_keras.system.tables import write_tsv

FILES = ("comparison.md", "comparison.tsv", "comparison_targets.tsv")
_AREAS = {"auroc": "ROC AUC", "auprc": "PR AUC"}
_MOST_CHANGED = 5


@dataclass(frozen=True, eq=False)
class SetComparison:
    """Two sets compared.

    `figures` has a row per figure that both have, `targets` a row per target (None without tests):
    means, standard deviations and numbers of runs of both, `difference` (ours minus the
    reference), `low`, `high`, `p`; for targets with the prefixes `auroc_` and `auprc_`.
    """

    ours: str
    reference: str
    is_paired: bool
    figures: pd.DataFrame
    targets: pd.DataFrame | None
    changed: dict[str, tuple[Any, Any]]
    notes: tuple[str, ...] = ()


def compare_sets(ours: Path, reference: Path, *, common: bool = False) -> SetComparison:
    """Compare two folders of repeats, or of the same folds.

    Args:
        ours: the set that is judged.
        reference: the set it is judged by; epochs are counted to its validation losses too.
        common: compare the targets that both have.

    Raises:
        InputError: a folder is no complete set, one holds folds and the other repeats or other
            folds, or the targets differ.
    """
    sets = [read_run_set(folder) for folder in (ours, reference)]
    for runs in sets:
        require_complete(runs)
    _check_kinds(*sets)
    is_paired = sets[0].kind is FOLDS
    until = tuple(dict.fromkeys((*sets[0].until, *sets[1].until)))
    tables = [read_tables(runs, until=until).runs for runs in sets]
    shared = [name for name in figure_names(tables[0]) if name in tables[1]]
    spreads = [figure_spread(table, shared) for table in tables]
    if is_paired:
        known = ~np.isnan(spreads[0].mean + spreads[1].mean)
        values = [np.where(known, table[shared].to_numpy(np.float64), np.nan) for table in tables]
        difference = paired(values[0], values[1], bounds_of(shared))
    else:
        difference = welch(spreads[0], spreads[1], bounds_of(shared))
    return SetComparison(
        *_labels(ours, reference),
        is_paired,
        pd.DataFrame({"figure": shared, **_columns(spreads, difference)}),
        _compare_targets(sets, is_paired=is_paired, common=common),
        _changed_settings(sets[0].config, sets[1].config),
        _notes(sets),
    )


def _labels(ours: Path, reference: Path) -> tuple[str, str]:
    names = ours.resolve().name, reference.resolve().name
    return names if names[0] != names[1] else (str(ours), str(reference))


def _check_kinds(ours: RunSet, reference: RunSet) -> None:
    if ours.kind is not reference.kind:
        raise InputError(
            f"{ours.folder} holds {ours.kind.name}, {reference.folder} {reference.kind.name}. "
            "Compare repeats with repeats, or folds with folds."
        )
    if ours.folds != reference.folds:
        raise InputError(
            f"{ours.folder} and {reference.folder}: folds are compared one by one, and these are "
            "not the same. Train both with the same `data` and `folds`."
        )


def _columns(
    spreads: Sequence[Spread], difference: Difference, prefix: str = ""
) -> dict[str, npt.NDArray[Any]]:
    columns = {}
    for side, found in zip(("ours", "reference"), spreads, strict=True):
        for part in ("mean", "sd", "n"):
            columns[f"{prefix}{side}_{part}"] = getattr(found, part)
    for part in ("difference", "low", "high", "p"):
        columns[prefix + part] = getattr(difference, part)
    return columns


def _compare_targets(
    sets: Sequence[RunSet], *, is_paired: bool, common: bool
) -> pd.DataFrame | None:
    tables = [read_target_tables(runs.runs) for runs in sets]
    if not all(tables):
        return None
    names = [list(each[0]["name"]) for each in tables]
    both = [name for name in names[0] if name in set(names[1])]
    n_other = len(names[0]) + len(names[1]) - 2 * len(both)
    if (n_other and not common) or not both:
        raise InputError(
            f"{sets[0].folder} and {sets[1].folder}: {n_other} targets are in one of the two only. "
            + (f"Pass `common=True` to compare the {len(both)} that both have." if both else "")
        )
    tables = [
        [table.set_index("name", drop=False).loc[both].reset_index(drop=True) for table in each]
        for each in tables
    ]
    columns: dict[str, Any] = {name: tables[0][0][name] for name in ("target", *TEXT_COLUMNS)}
    positives = stack(tables[0], "positives").astype(np.int64)
    columns["positives"] = positives.sum(axis=0) if is_paired else positives[0]
    for area in _AREAS:
        values = [stack(each, area) for each in tables]
        spreads = [spread(each, SHARE) for each in values]
        difference = (
            paired(values[0], values[1], SHARE)
            if is_paired
            else welch(spreads[0], spreads[1], SHARE)
        )
        columns |= _columns(spreads, difference, f"{area}_")
    return pd.DataFrame(columns)


def _changed_settings(
    ours: Mapping[str, Any], reference: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Setting → (ours, the reference's) where they differ; the seed of repeats is no difference."""
    changed = {}
    if ours["preset"] != reference["preset"]:
        changed["preset"] = (ours["preset"], reference["preset"])
    for section in ("model", "train"):
        for key in dict.fromkeys((*ours[section], *reference[section])):
            values = ours[section].get(key), reference[section].get(key)
            if values[0] != values[1] and key != "seed":
                changed[key] = values
    return changed


def _notes(sets: Sequence[RunSet]) -> tuple[str, ...]:
    notes = []
    prints = [runs.config["dataset"]["fingerprints"] for runs in sets]
    differing = [name for name in prints[0] if prints[0][name] != prints[1].get(name)]
    if differing:
        notes.append(
            f"The data differ ({', '.join(differing)}): so do the figures for that reason."
        )
    if any(len(runs.numbers) < 5 for runs in sets):
        notes.append("With fewer than five runs an interval is wide, and rests on few numbers.")
    return tuple(notes)


def set_markdown(found: SetComparison) -> str:
    """The comparison as Markdown, for terminal and file."""
    rows = found.figures.set_index("figure", drop=False)
    n_runs = [int(rows[f"{side}_n"].max()) for side in ("ours", "reference")]
    how = "the paired t-interval over folds" if found.is_paired else "Welch's t-interval"
    parts = [
        f"## {escape(found.ours)} against {escape(found.reference)}",
        f"{n_runs[0]} runs against {n_runs[1]}. Difference: {escape(found.ours)} minus "
        f"{escape(found.reference)}, with {how} (95 %).",
    ]
    if found.changed:
        listed = "; ".join(
            f"{key} {setting_text(a)} against {setting_text(b)}"
            for key, (a, b) in found.changed.items()
        )
        parts.append(f"Settings that differ: {escape(listed)}.")
    parts += [*found.notes, _figures_table(found, rows)]
    if found.targets is not None:
        parts += [_targets_text(found, area, label) for area, label in _AREAS.items()]
    return "\n\n".join(parts) + "\n"


def _figures_table(found: SetComparison, rows: pd.DataFrame) -> str:
    header = ["figure", f"{found.ours}, mean ± sd", f"{found.reference}, mean ± sd"]
    header += ["difference", "95 % interval", "p"]
    body = []
    for figure in main_figures(list(rows.index)):
        if figure.startswith("baseline_"):  # of the data alone
            continue
        row = rows.loc[figure]
        sides = [_side(row, side, figure) for side in ("ours", "reference")]
        p = "NA" if np.isnan(row["p"]) else f"{row['p']:.2g}"
        ends = interval(row["low"], row["high"], figure)
        body.append([label_of(figure), *sides, number(row["difference"], figure), ends, p])
    shown = rows.loc[[f for f in main_figures(list(rows.index)) if not f.startswith("baseline_")]]
    note = cut_note(shown["low"], shown["high"], bounds_of(list(shown.index)).of_differences())
    return "\n\n".join(filter(None, (markdown_table(header, body), note)))


def _side(row: "pd.Series[Any]", side: str, figure: str) -> str:
    if np.isnan(row[f"{side}_mean"]):
        return f"NA (in {row[f'{side}_n']:.0f} runs)"
    return f"{number(row[f'{side}_mean'], figure)} ± {number(row[f'{side}_sd'], figure)}"


def _targets_text(found: SetComparison, area: str, label: str) -> str:
    """How many targets' intervals leave out zero, and those that change most."""
    assert found.targets is not None
    judged = found.targets[found.targets[f"{area}_low"].notna()]
    n_higher = int((judged[f"{area}_low"] > 0).sum())
    n_lower = int((judged[f"{area}_high"] < 0).sum())
    text = (
        f"{label} by target: the interval lies above zero for {n_higher} and below zero for "
        f"{n_lower} of {len(judged)} targets (where nothing differs, about "
        f"{0.05 * len(judged):.0f} would leave out zero)."
    )
    order = judged.sort_values(f"{area}_difference", ascending=False, kind="stable")
    shown = pd.concat([order.head(_MOST_CHANGED), order.iloc[_MOST_CHANGED:].tail(_MOST_CHANGED)])
    rows = [
        [
            str(row["target"]),
            row["name"],
            str(row["positives"]),
            f"{row[f'{area}_difference']:+.4f}",
            interval(row[f"{area}_low"], row[f"{area}_high"], area),
        ]
        for row in shown.to_dict("records")
    ]
    header = ["target", "name", "positives", "difference", "95 % interval"]
    return f"{text}\n\n{markdown_table(header, rows)}" if rows else text


def write_set_comparison(
    comparisons: Sequence[SetComparison], folder: Path, *, overwrite: bool = False
) -> list[Path]:
    """Write the files `FILES`; without tests there is none of targets.

    Raises:
        InputError: one of the files exists and may not be overwritten.
    """
    for name in FILES:
        refuse_existing(folder / name, overwrite=overwrite)
    written = [folder / FILES[0]]
    with atomic_output(written[0], overwrite=overwrite) as temporary:
        text = "\n".join(set_markdown(found) for found in comparisons)
        temporary.write_text(text, encoding="utf-8")
    for name, part in zip(FILES[1:], ("figures", "targets"), strict=True):
        frames = [
            getattr(found, part).assign(table=found.ours, reference=found.reference)
            for found in comparisons
            if getattr(found, part) is not None
        ]
        if frames:
            with atomic_output(folder / name, overwrite=overwrite) as temporary:
                write_tsv(temporary, pd.concat(frames, ignore_index=True))
            written.append(folder / name)
    return written
