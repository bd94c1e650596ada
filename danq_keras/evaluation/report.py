"""`report.html`: everything a run folder tells, in one file that opens offline.

Reads the run folder's files, each of which may be missing, and computes nothing but averages. The
motifs are those that `extract_motifs.py` has put into the run's `motifs/`. The page (`templates/`)
has its style, script and plots inside and makes no request.
"""

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markdown_it import MarkdownIt
from markupsafe import Markup

from danq_keras import __version__
from danq_keras.draw import panels
from danq_keras.evaluation.auc_tables import (
    COLUMNS,
    INTERVAL_COLUMNS,
    TEXT_COLUMNS,
    baseline_names,
    counted,
    read_auc_table,
    summarise,
)
from danq_keras.evaluation.baselines import NAMES, kmer_validation
from danq_keras.interpret.files import SUMMARY as EXPLANATION
from danq_keras.interpret.kernel_motifs import SHEET, SUMMARY, TABLE, logo_path
from danq_keras.recipes.monitor import best_epoch, monitor_of
from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output, read_json
from danq_keras.system.tables import read_text_table

PARTS = (
    "config.json",
    "environment.json",
    "history.csv",
    "test_aucs.tsv",
    "test_summary.json",
    "comparison.md",
)

MOTIFS = "motifs"
_MOST_MOTIFS = 40  # logos are the largest part of a page
_MOTIF_COLUMNS = {"kernel", "sites", "information_bits", "consensus"}
_MOTIF_COLUMNS |= {"match", "match_name", "match_evalue"}

_PICTURES = 6  # of one explanation, about 150 kB each
_MOST_PICTURES = 30  # of all: a page of under 7 MB opens at once
_FIGURES = {"auroc": "ROC AUC", "auprc": "PR AUC", "auprc_interpolated": "PR AUC, interpolated"}
_MORE_FIGURES = {"f1": "F1 at 0.5", "accuracy": "accuracy", "f1_at_threshold": "F1 at threshold"}
_TABLE_LABELS = {
    "target": "#",
    "name": "target",
    "cell_type": "cell type",
    "auroc": "ROC AUC",
    "auprc": "PR AUC",
    "auprc_interpolated": "PR AUC interp.",
    "f1": "F1",
    "f1_at_threshold": "F1 at thr.",
    "f1_maximum": "F1 max.",
}


def write_report(run: Path) -> Path:
    """Write `report.html` into a run folder, in place of an earlier one.

    Returns:
        Its path.

    Raises:
        InputError: the folder is missing, has none of the files, or one of them is malformed.
    """
    if not any((run / name).is_file() for name in PARTS):
        raise InputError(
            f"{run}: a report needs a run folder. Received a place with none of "
            f"{', '.join(PARTS)}. Check the path."
        )
    path = run / "report.html"
    write_page(path, "report.html.j2", _context(run))
    return path


def write_page(path: Path, template: str, context: Mapping[str, Any]) -> None:
    """Fill a template of `templates/` and write the page, in place of an earlier one."""
    page = _environment().get_template(template).render(context)
    with atomic_output(path, overwrite=True) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("danq_keras.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    return environment


def _context(run: Path) -> dict[str, Any]:
    config, environment = read_json(run / "config.json"), read_json(run / "environment.json")
    history = _read_history(run / "history.csv")
    table = read_auc_table(run / "test_aucs.tsv") if (run / "test_aucs.tsv").is_file() else None
    summary = read_json(run / "test_summary.json")
    if "overall" not in summary and table is not None:
        summary = summarise(table)
    evaluation = _evaluation(summary, run)
    missing = [name for name in PARTS[:-1] if not (run / name).is_file()]
    return {
        "title": run.resolve().name,
        "version": __version__,
        "synthetic": bool(config.get("synthetic")) or _is_synthetic(summary),
        "preset": config.get("preset"),
        "source": config.get("source"),
        "init": config.get("init"),
        "one_strand": config.get("dataset", {}).get("strands", "").startswith("one"),
        # A network that is evaluated may come without its training.
        "missing": [] if evaluation else missing,
        "settings": settings_sections(config),
        "environment": _flat(environment),
        "summary": summary_section(summary) if "overall" in summary else None,
        "curves": _curves(history, kmer_validation(run, config)),
        "evaluation": evaluation,
        "best_epoch": _best_epoch(history, monitor_of(config)),
        "calibration": _calibration(summary.get("calibration")),
        "plots": [] if table is None else _plots(table, int(summary.get("min_positives") or 1)),
        "table": None if table is None else _table(table),
        "comparison": _comparison(run),
        "motifs": _motifs(run / MOTIFS),
        "explanations": _explanations(run / "explain"),
    }


def _read_history(path: Path) -> pd.DataFrame:
    """Epochs as float columns; without the file, or before the first epoch, no rows."""
    if not path.is_file():
        return pd.DataFrame()
    try:
        history = pd.read_csv(path)
        return history.astype(float) if "epoch" in history else history.iloc[:0]
    except ValueError as error:  # pandas' parser errors are ValueErrors, and so is bad text
        raise InputError(f"{path}: expected numbers, a row per epoch ({error}).") from error


def _best_epoch(history: pd.DataFrame, monitor: str) -> int | None:
    if "val_loss" not in history:
        return None
    best = best_epoch(history.to_dict("records"), monitor)
    return None if best is None else int(history["epoch"].iloc[best])


def _is_synthetic(summary: Mapping[str, Any]) -> bool:
    """Whether the data of an evaluation are simulated."""
    about = summary.get("evaluation") or {}
    return "synthetic" in str(about.get("data_source", "")).lower()


def _evaluation(summary: Mapping[str, Any], run: Path) -> dict[str, Any] | None:
    """What was evaluated on what, where that was done apart from the training."""
    about = summary.get("evaluation")
    if not isinstance(about, dict):
        return None
    trained_in = about.get("trained_in") or ""
    elsewhere = "" if trained_in == str(run.resolve()) else trained_in
    models = about.get("model") or ["a network"]
    return {
        "settings": _flat(about),
        "model": models[0],
        "others": len(models) - 1,
        "split": about.get("split", "test"),
        "data": about.get("data", ""),
        "elsewhere": elsewhere,
    }


def _curves(history: pd.DataFrame, kmer: Mapping[str, float]) -> list[dict[str, Any]]:
    figures = (
        ({"loss": "training", "val_loss": "validation"}, "loss", "Loss (binary cross-entropy)"),
        ({"val_auroc": "validation"}, "ROC AUC", "Validation ROC AUC, mean of the targets"),
        ({"val_auprc": "validation"}, "PR AUC", "Validation PR AUC, mean of the targets"),
        (
            {"val_f1": "at 0.5", "val_best_f1": "at the best threshold"},
            "F1",
            "Validation F1 of all labels together",
        ),
        ({"val_accuracy": "validation"}, "accuracy", "Validation accuracy of all labels, at 0.5"),
    )
    curves = []
    for columns, ylabel, caption in figures:
        shown = {c: label for c, label in columns.items() if c in history and any(history[c] > 0)}
        if shown:
            known = next((kmer[column] for column in shown if column in kmer), None)
            level = None if known is None else ("k-mer baseline", known)
            svg = panels.learning_curves(history, shown, ylabel=ylabel, level=level)
            curves.append({"svg": Markup(svg), "caption": caption})
    return curves


def settings_sections(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Sections of settings as text; the targets, which have a table, are only counted."""
    single = {key: value for key, value in config.items() if not isinstance(value, dict)}
    single.pop("target_numbers", None)
    if isinstance(single.get("targets"), list):
        single["targets"] = len(single["targets"])
    sections = {"run": _flat(single)}
    for key, value in config.items():
        if isinstance(value, dict):
            sections[key] = _flat(value)
    return {name: values for name, values in sections.items() if values}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as `outer.inner` → text."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            flat[prefix + key] = " ".join(map(str, value))
        else:
            flat[prefix + key] = "none" if value is None else str(value)
    return flat


def format_number(value: Any, digits: int = 4) -> str:
    """A figure with fixed decimals, a whole number as it is, NA where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "NA"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def summary_section(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Cards and tables of `test_summary.json`; what it lacks is shown as NA."""
    overall, baselines = summary["overall"], summary.get("baselines") or {}
    drawn = summary.get("bootstrap") or {}
    labels = {name: NAMES.get(name, name) for name in baselines}
    cards = [
        {
            "label": label,
            "mean": _part(overall, figure, "mean"),
            "median": _part(overall, figure, "median"),
            "interval": _interval((drawn.get("overall") or {}).get(figure)),
            "baselines": [
                (labels[name], _part(baseline.get("overall"), figure, "mean"))
                for name, baseline in baselines.items()
            ],
        }
        for figure, label in _FIGURES.items()
        if figure != "auprc_interpolated"
    ]
    groups = {"all targets": overall, **(summary.get("groups") or {})}
    return {
        "rule": summary.get("rule", ""),
        "counted": overall.get("counted"),
        "targets": overall.get("targets"),
        "cards": cards,
        "others": [("loss", overall.get("loss"))]
        + [(label, overall.get(figure)) for figure, label in _MORE_FIGURES.items()]
        + _correlation(overall, drawn),
        "drawn": drawn and f"{drawn['resamples']:,} resamples of {drawn['unit']}",
        "intervals": _group_intervals(drawn),
        "groups": [_summary_row(name, figures) for name, figures in groups.items()],
        "baselines": [_summary_row("this run", overall)]
        + [
            _summary_row(labels[name], baseline.get("overall") or {})
            for name, baseline in baselines.items()
        ],
        "notes": [(labels[name], text["note"]) for name, text in baselines.items() if text["note"]],
        "figures": list(_FIGURES.values()),
    }


def _interval(ends: Mapping[str, float] | None) -> str | None:
    """The ends of an interval as text; None without them."""
    return f"{format_number(ends['low'])} to {format_number(ends['high'])}" if ends else None


def _correlation(
    overall: Mapping[str, Any], drawn: Mapping[str, Any]
) -> list[tuple[str, float | str | None]]:
    """The Matthews correlation as a line of a card, with its interval where there is one."""
    if "mcc" not in overall:  # of a summary that was written without
        return []
    rows: list[tuple[str, float | str | None]] = [("MCC at 0.5", _part(overall, "mcc", "mean"))]
    ends = _interval((drawn.get("overall") or {}).get("mcc"))
    return [*rows, ("MCC, 95 % interval", ends)] if ends else rows


def _group_intervals(drawn: Mapping[str, Any]) -> list[tuple[str, list[str | None]]]:
    """Rows of the table of intervals: all targets, then groups; ROC AUC, PR AUC, MCC."""
    if not drawn:
        return []
    rows = {"all targets": drawn["overall"], **drawn["groups"]}
    return [
        (name, [_interval(figures.get(figure)) for figure in ("auroc", "auprc", "mcc")])
        for name, figures in rows.items()
    ]


def _calibration(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The reliability plot with its figures and note."""
    if not found or not found["labels"]:
        return None
    bins = [each for each in found["bins"] if each["labels"]]
    return {
        "plots": [
            {
                "svg": Markup(panels.reliability(bins)),
                "caption": "Share of positives by probability",
            }
        ],
        "figures": [
            ("Expected calibration error", found["expected_calibration_error"]),
            ("Brier score", found["brier"]),
            ("Brier score of the base rate", found["brier_of_base_rate"]),
        ],
        "labels": f"{found['labels']:,}",
        "note": found["note"],
        "bins": bins,
    }


def _part(figures: Mapping[str, Any] | None, figure: str, how: str) -> float | None:
    value = ((figures or {}).get(figure) or {}).get(how)
    return None if value is None else float(value)


def _summary_row(name: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    values = [_part(figures, figure, how) for figure in _FIGURES for how in ("mean", "median")]
    return {
        "name": name,
        "counted": figures.get("counted"),
        "targets": figures.get("targets"),
        "values": values,
    }


def _plots(table: pd.DataFrame, min_positives: int) -> list[dict[str, Any]]:
    shown = table[counted(table, min_positives=min_positives)]
    if shown.empty:
        return []
    areas = {"auroc": "ROC AUC", "auprc": "PR AUC"}
    figures = [
        (panels.by_group(shown, area, xlabel=label), f"{label} of the targets")
        for area, label in areas.items()
    ]
    figures += [
        (panels.by_positives(shown, area, ylabel=label), f"{label} by number of positives")
        for area, label in areas.items()
    ]
    for name in baseline_names(table)[:1]:  # the paper's baseline stands first
        label = NAMES.get(name, name)
        for area, what in areas.items():
            column = f"baseline_{name}_{area}"
            svg = panels.scatter(shown, column, area, xlabel=f"{label}, {what}", ylabel="this run")
            figures.append((svg, f"{what}: this run against the {label}, one point per target"))
    return [{"svg": Markup(svg), "caption": caption} for svg, caption in figures]


def _table(table: pd.DataFrame) -> dict[str, Any]:
    """Header and rows of the per-target table; empty columns are left away.

    A cell is (text shown, value to sort by: the file's number or lower-case text, "" for NA).
    """
    parts_of_name = ("cell_type", "assay", "treatment")  # at the end: figures come first
    wanted = [c for c in COLUMNS if c not in ("negatives", *parts_of_name)]
    wanted += [c for c in INTERVAL_COLUMNS if c in table]
    wanted += [f"baseline_{name}_auroc" for name in baseline_names(table)]
    wanted += parts_of_name
    columns = [c for c in wanted if not _is_empty(table[c])]
    header = [(_column_label(column), column not in TEXT_COLUMNS) for column in columns]
    rows = [
        [table_cell(value) for value in row]
        for row in table[columns].astype(object).itertuples(index=False, name=None)
    ]
    return {"header": header, "rows": rows}


def _is_empty(values: pd.Series) -> bool:
    return bool(((values == "") | values.isna()).all())


def _column_label(column: str) -> str:
    if column.startswith("baseline_"):
        return column.removeprefix("baseline_").removesuffix("_auroc") + " ROC AUC"
    return _TABLE_LABELS.get(column, column.replace("_", " "))


def table_cell(value: Any) -> tuple[str, str]:
    """What a cell shows, and the value that it is sorted by ("" for NA)."""
    if isinstance(value, str):
        return value, value.casefold()
    text = format_number(value)
    return text, "" if text == "NA" else f"{value:.9g}"


def _comparison(run: Path) -> dict[str, Any] | None:
    """The comparison's Markdown as HTML and its scatter plots, where there is one."""
    path = run / "comparison.md"
    if not path.is_file():
        return None
    # html=False: markup in a target's name is text
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    html = renderer.render(path.read_text(encoding="utf-8"))
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table>')
    html = html.replace("</table>", "</table></div>").replace("h2>", "h3>")
    return {"html": Markup(html), "plots": _comparison_plots(run / "comparison.tsv")}


def _explanations(folder: Path) -> list[dict[str, Any]]:
    """Explained loci and experiments of `explain_danq.py`, their first pictures inside the page."""
    shown: list[dict[str, Any]] = []
    room = _MOST_PICTURES
    for path in sorted(folder.glob(f"*/{EXPLANATION}")):
        summary = read_json(path)
        data = [_image(path.parent / each["file"]) for each in summary["pictures"]]
        pictures = [
            {"data": picture, "caption": each["caption"]}
            for each, picture in zip(summary["pictures"], data, strict=True)
            if picture is not None
        ][: min(room, _PICTURES)]
        room -= len(pictures)
        shown.append(
            {
                "title": summary["title"],
                "pictures": pictures,
                "folder": f"explain/{path.parent.name}",
                "left_out": len(summary["pictures"]) - len(pictures),
            }
        )
    return shown


def _comparison_plots(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = read_text_table(path)
    figures = ("auroc", "auprc", "auprc_interpolated")
    for column in (name for figure in figures for name in (figure, f"reference_{figure}")):
        rows[column] = pd.to_numeric(rows[column], errors="coerce")
    drawn: list[dict[str, Any]] = []
    for (ours, reference), pair in rows[rows["counted"] == "yes"].groupby(
        ["table", "reference"], sort=False
    ):
        published = pair["reference_auprc"].isna().all()
        for figure, label in (
            ("auroc", "ROC AUC"),
            ("auprc_interpolated" if published else "auprc", "PR AUC"),
        ):
            svg = panels.scatter(pair, f"reference_{figure}", figure, xlabel=reference, ylabel=ours)
            drawn.append({"svg": Markup(svg), "caption": f"{label}: {ours} against {reference}"})
    return drawn


def _motifs(folder: Path) -> dict[str, Any] | None:
    """The kernels that match known motifs, best first, with their logos where there are some."""
    if not (folder / TABLE).is_file():
        return None
    rows = read_text_table(folder / TABLE)
    missing = _MOTIF_COLUMNS - set(rows)
    if missing:
        raise InputError(
            f"{folder / TABLE}: lacks {', '.join(sorted(missing))}. Write it with "
            "extract_motifs.py."
        )
    matching = rows[rows["match"] != "NA"]
    evalues = pd.to_numeric(matching["match_evalue"], errors="coerce")
    shown = matching.loc[evalues.sort_values(kind="stable").index].head(_MOST_MOTIFS)
    return {
        "summary": read_json(folder / SUMMARY).get("summary", ""),
        "n_matching": len(matching),
        "sheet": _image(folder / SHEET),
        "rows": [
            row
            | {
                "logo": _image(logo_path(folder, int(row["kernel"]))),
                "evalue": f"{float(row['match_evalue']):.2g}",
                "bits": f"{float(row['information_bits']):.1f}",
            }
            for row in shown.to_dict("records")
        ],
    }


def _image(path: Path) -> str | None:
    """A PNG file as a data URI, where there is one."""
    if not path.is_file():
        return None
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
