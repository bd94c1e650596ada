"""Options that several commands share, and how their words are read."""

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from danq_keras.models.shipped import describe_shipped, model_place
from danq_keras.system.errors import InputError

LONGEST = 120
"""Characters of a folder that is named after motifs or targets."""


class _ListModels(argparse.Action):
    """Print the shipped networks and end, as --help does."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(
            option_strings,
            dest,
            nargs=0,
            default=argparse.SUPPRESS,
            help="list the networks that come with the package, and end",
        )

    def __call__(self, parser: argparse.ArgumentParser, *_unused: Any) -> None:
        print(describe_shipped())
        parser.exit()


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the argument MODEL and `--list-models`."""
    parser.add_argument(
        "model",
        type=model_place,
        metavar="MODEL",
        help="run folder, .keras file, or name of a network that comes with the package",
    )
    parser.add_argument("--list-models", action=_ListModels)


def add_set(group: Any, what: str) -> None:
    """Add `--set`, which may be repeated, and `--list-settings`.

    `read_pairs` reads what the one gathers, `list_settings` does what the other asks for.

    Args:
        group: the parser, or a group of its arguments.
        what: help text: which settings.
    """
    group.add_argument(
        "--set",
        dest="pairs",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help=what,
    )
    group.add_argument(
        "--list-settings",
        action="store_true",
        help="list the keys of --set with their types, the preset's values and what they mean, "
        "and end",
    )


def add_ensemble(group: Any, used: str) -> None:
    """Add `--ensemble`; `used` says what is done with the mean of all networks."""
    group.add_argument(
        "--ensemble",
        type=model_place,
        nargs="+",
        default=[],
        metavar="MODEL",
        help="more networks of the same window and targets, such as other seeds: the mean of all "
        f"their probabilities is {used}",
    )


def list_settings(preset: str | None, data: Path | None) -> None:
    """Print every setting with the values of a recipe: the named one, or the one for the data.

    Raises:
        InputError: there is no recipe of that name, or the dataset is damaged.
    """
    # Imported here: they read datasets, which `--help` need not wait for.
    from danq_keras.recipes.fit import preset_for
    from danq_keras.recipes.listing import settings_text
    from danq_keras.recipes.presets import get_preset

    print(settings_text(get_preset(preset or preset_for(data))))


def add_target_names(parser: argparse.ArgumentParser) -> None:
    """Add `--target-names`, for models that do not know the names of their targets."""
    parser.add_argument(
        "--target-names",
        metavar="NAMES",
        help="names of the targets of a model file that has none: a text file with one a line, or "
        "deepsea for the 919 of DeepSEA (default: the model's own, or numbers)",
    )


def read_pairs(pairs: Iterable[str], settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`--set` pairs as settings in text, added to those that flags gave.

    Args:
        pairs: texts of the form KEY=VALUE, as `--set` takes them.
        settings: what other flags say.

    Raises:
        InputError: a pair is malformed, or a key is given twice with different values.
    """
    found = dict(settings or {})
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise InputError(f"--set takes KEY=VALUE. Received: {pair!r}.")
        if found.get(key, value) != value:
            raise InputError(f"{key} is given twice: {found[key]} and {value}. Give it once.")
        found[key] = value
    return found


def print_complete(out: Path) -> None:
    """Say that there is nothing to resume, and what was not looked at."""
    print(
        f"{out}: is complete already. Whether it was made from these inputs was not compared: "
        "--overwrite makes it anew."
    )


def add_databases(parser: argparse.ArgumentParser) -> None:
    """Add `--databases`, `--threshold` and `--matcher`: known motifs, and which of them match."""
    parser.add_argument(
        "--databases",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="MEME, JASPAR, HOMER or TRANSFAC files (default: JASPAR 2016 vertebrates)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.01,
        metavar="E",
        help="largest E-value of a match (default: %(default)s, the paper's)",
    )
    parser.add_argument(
        "--matcher",
        choices=("auto", "tomtom", "builtin"),
        default="auto",
        help="the tomtom program, or the same method here (default: tomtom if it is installed)",
    )


def add_prediction(parser: argparse.ArgumentParser) -> None:
    """Add `--strands` and `--batch-size`, for commands that predict windows of their own."""
    parser.add_argument(
        "--strands",
        choices=("forward", "both"),
        help="forward: the window as it is (default: what the network was trained on)",
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: what fits")


def add_explain_out(parser: argparse.ArgumentParser) -> None:
    """Add `--out`, a folder whose default is `explain_folder`."""
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder to write (default: explain/NAME in a run folder, whose report then shows it, "
        "or here)",
    )


def explain_folder(model: Path, name: str, *, longest: int | None = None) -> Path:
    """Where an explanation goes that was not told: into the run, for its report, or here.

    Args:
        model: run folder or .keras file.
        name: what is explained; what no file name may hold becomes an underscore.
        longest: characters of the folder's name; None for all.
    """
    stem = re.sub(r"[^A-Za-z0-9.+-]+", "_", name).strip("_")[:longest]
    return (model if model.is_dir() else Path()) / "explain" / stem


def require_at_least(args: argparse.Namespace, **least: int) -> None:
    """Refuse numbers that are too small; an option that was not given is none.

    Raises:
        InputError: one is.
    """
    for name, lowest in least.items():
        value = getattr(args, name)
        if value is not None and value < lowest:
            raise InputError(f"--{name.replace('_', '-')}: at least {lowest}. Received: {value}.")


def update_report(out: Path) -> None:
    """Write the report of a run again where an explanation has come into its own folder."""
    # Imported here: it loads what draws the report's plots.
    from danq_keras.evaluation.report import write_report

    folder = out.resolve().parent
    if folder.name == "explain" and (folder.parent / "report.html").is_file():
        print(f"{write_report(folder.parent)}: shows it")
