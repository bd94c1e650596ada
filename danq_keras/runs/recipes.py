"""Recipes side by side: presets × datasets × seeds, and one table of what they reach.

Each preset on each dataset is a set of repeats in `OUT/<dataset>/<preset>`, as
`train_danq.py --repeats` makes it. The same call again goes on where a stop left it, and more
seeds, datasets or presets add to what is there. Figures that somebody else published stand beside
ours, with their source and with what is not like for like.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from danq_keras.evaluation.baselines import kmer_validation
from danq_keras.models.networks import build_network
from danq_keras.recipes.presets import get_preset
from danq_keras.runs.page import CUT_NOTE
from danq_keras.runs.sets import read_run_set, set_kind
from danq_keras.runs.statistics import bounds_of, is_cut, read_target_tables, spread
from danq_keras.runs.train_set import Several, TrainedSet, train_set
from danq_keras.system.errors import InputError
from danq_keras.system.files import PathLike, atomic_output
from danq_keras.system.tables import read_table, write_tsv
from danq_keras.system.terminal import log
from danq_keras.training.request import TrainRequest
from danq_keras.training.run_folder import preset_from_config

TABLE = "recipes.tsv"
KMER = "k-mer regression"
ALL = "mean of all"
FIGURES = {"auroc": "test_auroc_mean", "auprc": "test_auprc_mean", "mcc": "test_mcc_mean"}
_PUBLISHED = ("data", "recipe", "source", "but_for")


@dataclass(frozen=True)
class _Cell:
    """A recipe on a dataset: `runs` has a row a seed, `targets` the mean ROC AUC of each target.

    Where the data have no test split, `split` is "valid": the test's columns of `runs` hold the
    figures of each run's best epoch on validation, and there are no figures of single targets.
    """

    runs: pd.DataFrame
    targets: "pd.Series[float]"
    parameters: int
    split: str = "test"


def compare_recipes(
    out: PathLike,
    data: Sequence[PathLike],
    presets: Sequence[str],
    *,
    repeats: int = 3,
    settings: Mapping[str, Any] | None = None,
    published: PathLike | None = None,
    init: PathLike | None = None,
    jobs: int = 1,
) -> pd.DataFrame:
    """Train presets on datasets with several seeds, and write `recipes.tsv`.

    Args:
        out: folder of the comparison; what an earlier call made there is kept and counted.
        data: dataset folders, of different names.
        presets: names of recipes.
        repeats: seeds each; one has no interval.
        settings: settings that replace those of every preset, such as `{"epochs": 5}`.
        published: table with the columns `data` (name of a dataset folder), `recipe`, `source`,
            `but_for` (in what it is not like for like), and `auroc`, `auprc`, `mcc` as far as they
            are known.
        init: run folder or .keras file of the network that every run starts from.
        jobs: runs at once, each with its share of the cores.

    Returns:
        A row a recipe of a dataset, see `recipe_table`.

    Raises:
        InputError: a dataset, a preset, a setting or the table is not what it should be.
        ChildFailedError: a run ended with an error, which it has shown.
    """
    out, folders = Path(out), [Path(folder) for folder in data]
    names = [folder.resolve().name for folder in folders]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"`data`: two datasets are called {twice[0]}. Rename one of the folders.")
    for preset in presets:
        get_preset(preset)
    if repeats < 1:
        raise InputError(f"`repeats`: at least 1. Received: {repeats}.")
    known = None if published is None else read_published(Path(published), names)
    cells: dict[tuple[str, str], _Cell] = {}
    table = pd.DataFrame()
    for name, folder in zip(names, folders, strict=True):
        for preset in presets:
            place = out / name / preset
            log.info("== %s on %s", preset, name)
            resume = set_kind(place) is not None
            asked = TrainRequest(
                data=folder,
                out=place,
                preset=preset,
                settings=dict(settings or {}),
                init=None if init is None else Path(init),
                resume=resume,
            )
            known_repeats = len(read_run_set(place).numbers) if resume else 0
            trained = train_set(
                asked, Several(repeats=max(repeats, known_repeats), jobs=jobs, fewest=1)
            )
            cells[name, preset] = _cell(trained, repeats)
            table = recipe_table(cells, known)
            with atomic_output(out / TABLE, overwrite=True) as temporary:
                write_tsv(temporary, table)
    return table


def _cell(trained: TrainedSet, repeats: int) -> _Cell:
    """The first `repeats` runs of a complete set."""
    chosen = trained.runs[:repeats]
    tables = read_target_tables({run.folder.name: run.folder for run in chosen})
    model = preset_from_config(chosen[0].config).model
    parameters = build_network(model, initialise=False).count_params()
    runs = trained.tables.runs.iloc[:repeats]
    if not tables:
        log.warning(
            "%s: the data have no test split; the table has the validation figures of each run's "
            "best epoch, which are a little high since they chose the epoch.",
            trained.folder,
        )
        kmer = kmer_validation(chosen[0].folder, chosen[0].config)
        return _Cell(_of_validation(runs, kmer), pd.Series(dtype=float), parameters, "valid")
    targets = pd.concat([table.set_index("name")["auroc"] for table in tables], axis=1).mean(axis=1)
    return _Cell(runs, targets, parameters)


def _of_validation(runs: pd.DataFrame, kmer: Mapping[str, float]) -> pd.DataFrame:
    """A run table with the validation figures in the columns of the test."""
    areas = ("auroc", "auprc")
    figures = {FIGURES[area]: runs[f"val_{area}"] for area in areas}
    baselines = {f"baseline_kmer_{area}_mean": kmer.get(f"val_{area}", math.nan) for area in areas}
    return runs.assign(**figures, **baselines)


def read_published(path: Path, names: Sequence[str]) -> pd.DataFrame:
    """Figures that others published, of the datasets `names`.

    Raises:
        InputError: a column is missing, or a figure is no number.
    """
    rows = read_table(path, required=_PUBLISHED)
    for figure in FIGURES:
        texts = rows[figure] if figure in rows else pd.Series("", index=rows.index)
        numbers = pd.to_numeric(texts.replace({"": "nan", "NA": "nan"}), errors="coerce")
        least = -1 if figure == "mcc" else 0
        wrong = rows.index[~numbers.between(least, 1) & ~texts.isin(["", "NA"])]
        if len(wrong):
            raise InputError(
                f"{path}, row {wrong[0] + 1}: {figure} is a number from {least} to 1, or NA. "
                f"Received: {texts[wrong[0]]!r}."
            )
        rows[figure] = numbers.astype(float)
    if not set(rows["data"]) & set(names):
        raise InputError(
            f"{path}: none of its data is among the datasets ({', '.join(names[:5])}). The column "
            "`data` has the names of their folders."
        )
    return rows[rows["data"].isin(names)]


def recipe_table(
    cells: Mapping[tuple[str, str], _Cell], published: pd.DataFrame | None = None
) -> pd.DataFrame:
    """What recipes reach, a row each.

    Args:
        cells: (dataset, recipe) → its runs.
        published: other people's figures, see `read_published`.

    Returns:
        `data`, `recipe`, `split` (test; valid for data without one), `seeds`; mean `auroc`,
        `auprc`, `mcc` over the targets and seeds with `_low` and `_high`, the ends of the 95 %
        t-interval over seeds, cut at what is possible; `best_in`, targets of which the recipe has
        the highest mean ROC AUC (of the rows over all datasets: datasets);
        `parameters`, `epochs` trained, `best_epoch` and `seconds` of training a run; of published
        rows `source` and `but_for`. Last come the means over all datasets.
    """
    datasets = list(dict.fromkeys(name for name, _ in cells))
    rows: list[dict[str, Any]] = []
    for name in datasets:
        own = {recipe: cell for (data, recipe), cell in cells.items() if data == name}
        rows += _rows_of(name, own)
        if published is not None:
            rows += _published_rows(published[published["data"] == name])
    table = pd.DataFrame(rows)
    if len(datasets) > 1:
        table = pd.concat([table, pd.DataFrame(_overall(table, cells, datasets))])
    return table.reset_index(drop=True)


def _rows_of(name: str, cells: Mapping[str, _Cell]) -> list[dict[str, Any]]:
    best = pd.DataFrame({recipe: cell.targets for recipe, cell in cells.items()}).dropna(how="all")
    winners = best.idxmax(axis=1).value_counts() if len(best) else pd.Series(dtype=int)
    one = next(iter(cells.values()))
    first = one.runs.iloc[0]
    rows: list[dict[str, Any]] = [
        {
            "data": name,
            "recipe": KMER,
            "split": one.split,
            **{
                figure: first.get(f"baseline_kmer_{figure}_mean", math.nan)
                for figure in ("auroc", "auprc")
            },
        }
    ]
    for recipe, cell in cells.items():
        rows.append(
            {"data": name, "recipe": recipe, "split": cell.split, "seeds": len(cell.runs)}
            | _intervals(cell.runs)
            | {
                "best_in": int(winners.get(recipe, 0))
                if len(cells) > 1 and len(best)
                else math.nan,
                "parameters": cell.parameters,
                "epochs": cell.runs["epochs_trained"].mean(),
                "best_epoch": cell.runs["best_epoch"].mean(),
                "seconds": cell.runs["seconds"].mean(),
            }
        )
    return rows


def _intervals(runs: pd.DataFrame) -> dict[str, float]:
    found: dict[str, float] = {}
    for figure, column in FIGURES.items():
        values = runs[column].to_numpy(float) if column in runs else np.full(len(runs), math.nan)
        each = spread(values[:, None], bounds_of([figure]))
        parts = {"": each.mean[0], "_low": each.low[0], "_high": each.high[0]}
        found |= {figure + part: float(value) for part, value in parts.items()}
    return found


def _published_rows(rows: pd.DataFrame) -> list[dict[str, Any]]:
    kept = [*_PUBLISHED, *FIGURES]
    return [{key: row[key] for key in kept} for row in rows.to_dict("records")]


def _overall(
    table: pd.DataFrame, cells: Mapping[tuple[str, str], _Cell], datasets: Sequence[str]
) -> list[dict[str, Any]]:
    """The mean over all datasets of every recipe that has them all, and in how many it is best."""
    everywhere = [
        recipe
        for recipe in table["recipe"].unique()
        if set(table.loc[table["recipe"] == recipe, "data"]) >= set(datasets)
    ]
    auroc = table[table["recipe"].isin(everywhere)].pivot_table(
        index="data", columns="recipe", values="auroc"
    )
    winners = auroc.idxmax(axis=1).value_counts()
    rows = []
    for recipe in everywhere:
        own = [cells.get((name, recipe)) for name in datasets]
        row: dict[str, Any] = {"data": f"{ALL} {len(datasets)}", "recipe": recipe}
        if all(cell is not None for cell in own):
            seeds = min(len(cell.runs) for cell in own if cell is not None)
            stacked = [cell.runs.iloc[:seeds] for cell in own if cell is not None]
            columns = [c for c in FIGURES.values() if all(c in runs for runs in stacked)]
            mean = sum(runs[columns].to_numpy(float) for runs in stacked) / len(stacked)
            row |= {"seeds": seeds} | _intervals(pd.DataFrame(mean, columns=columns))
        else:
            of_recipe = table[table["recipe"] == recipe]
            row |= {figure: of_recipe[figure].mean(skipna=False) for figure in FIGURES}
        rows.append(row | {"best_in": int(winners.get(recipe, 0))})
    return rows


def table_text(table: pd.DataFrame) -> str:
    """The table as lines for a terminal, figures to four digits."""
    lines = []
    for name, rows in table.groupby("data", sort=False):
        on_validation = "split" in rows and (rows["split"] == "valid").any()
        lines.append(f"{name} (validation: no test split)" if on_validation else str(name))
        for row in rows.to_dict("records"):
            figures = "  ".join(
                f"{label} {_with_interval(row, figure)}"
                for figure, label in (("auroc", "ROC"), ("auprc", "PR"), ("mcc", "MCC"))
                if not math.isnan(row.get(figure, math.nan))
            )
            more = []
            if not _is_missing(row.get("best_in")):
                more.append(f"best in {row['best_in']:.0f}")
            if not _is_missing(row.get("seconds")):
                more.append(
                    f"{row['parameters']:,.0f} parameters, {row['epochs']:.0f} epochs, "
                    f"{row['seconds']:.0f} s, seeds {row['seeds']:.0f}"
                )
            if not _is_missing(row.get("source")):
                more.append(f"{row['source']}; but for: {row['but_for'] or 'nothing'}")
            lines.append(f"  {row['recipe']:<22} {figures}  {'; '.join(more)}".rstrip())
    ends = [(table[f"{f}_low"], table[f"{f}_high"], bounds_of([f])) for f in FIGURES]
    if any(is_cut(low, high, bounds) for low, high, bounds in ends):
        lines.append(CUT_NOTE)
    return "\n".join(lines)


def _with_interval(row: Mapping[str, Any], figure: str) -> str:
    low, high = row.get(f"{figure}_low"), row.get(f"{figure}_high")
    text = f"{row[figure]:.4f}"
    return text if _is_missing(low) else f"{text} [{low:.4f}, {high:.4f}]"


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
