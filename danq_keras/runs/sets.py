"""The folder of a set of runs: repeats over seeds, or the folds of a cross-validation.

    repeats.json (folds.json)    the runs, and the settings they share (as config.json)
    seed-0/ … (fold-0/ …)        run folders
    repeats.tsv                  a row per run, every figure
    repeats_summary.tsv          a row per figure: mean, standard deviation, 95 % interval
    test_aucs_repeats.tsv        a row per target: the same of its test AUCs

Figures are `repeats`'s; the page is `repeats_report`'s.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from danq_keras.runs.statistics import (
    DEFAULT_UNTIL,
    Until,
    read_target_tables,
    run_table,
    summarise_runs,
    target_table,
)
from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output, load_json
from danq_keras.system.tables import write_tsv
from danq_keras.training.run_folder import is_complete


@dataclass(frozen=True)
class Kind:
    """Repeats or folds: what the files are called, and what one run is called."""

    name: str
    unit: str

    @property
    def record(self) -> str:
        """The file that makes a folder a set of this kind."""
        return f"{self.name}.json"

    @property
    def table(self) -> str:
        """The file with a row per run."""
        return f"{self.name}.tsv"

    @property
    def summary(self) -> str:
        """The file with a row per figure."""
        return f"{self.name}_summary.tsv"

    @property
    def targets(self) -> str:
        """The file with a row per target."""
        return f"test_aucs_{self.name}.tsv"


REPEATS = Kind("repeats", "seed")
FOLDS = Kind("folds", "fold")


def set_kind(folder: Path) -> Kind | None:
    """Of which kind the set in a folder is; None when there is no set."""
    return next((kind for kind in (REPEATS, FOLDS) if (folder / kind.record).is_file()), None)


@dataclass(frozen=True)
class RunSet:
    """A set of runs.

    `numbers` are the seeds, or the 0-based folds; `config` is the description of the runs, as in
    config.json (of folds: of the whole dataset); `folds` says which chromosomes are in which.
    """

    folder: Path
    kind: Kind
    numbers: tuple[int, ...]
    config: dict[str, Any]
    until: tuple[str, ...] = DEFAULT_UNTIL
    folds: list[dict[str, Any]] = field(default_factory=list)

    @property
    def runs(self) -> dict[str, Path]:
        """Name → folder of each run."""
        names = [f"{self.kind.unit}-{number}" for number in self.numbers]
        return {name: self.folder / name for name in names}

    @property
    def seeds(self) -> list[int]:
        """The seed of each run: folds share one."""
        if self.kind is REPEATS:
            return list(self.numbers)
        return [int(self.config["train"]["seed"])] * len(self.numbers)

    def data(self, number: int) -> Path:
        """The dataset folder of a fold."""
        return self.folder / "data" / f"{self.kind.unit}-{number}"

    def record(self) -> dict[str, Any]:
        """The content of repeats.json or folds.json."""
        content: dict[str, Any] = {self.kind.name: list(self.numbers), "until_loss": self.until}
        if self.folds:
            content["chromosomes"] = self.folds
        return {**content, "config": self.config}


def read_run_set(folder: Path) -> RunSet:
    """The set of runs in a folder.

    Raises:
        InputError: there is none, or its record is damaged.
    """
    kind = set_kind(folder)
    if kind is None:
        raise InputError(
            f"{folder}: no set of runs (repeats.json or folds.json is missing). Train one with "
            "`repeats` or `folds`."
        )
    path = folder / kind.record
    try:
        content = load_json(path)
        return RunSet(
            folder=folder,
            kind=kind,
            numbers=tuple(int(number) for number in content[kind.name]),
            config=dict(content["config"]),
            until=tuple(content["until_loss"]),
            folds=content.get("chromosomes", []),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not the record of a set of runs, or damaged ({error}). Start a new one."
        ) from error


def require_complete(runs: RunSet) -> None:
    """Make sure that every run has come to its end.

    Raises:
        InputError: some have not; they are named.
    """
    missing = [name for name, run in runs.runs.items() if not is_complete(run, runs.config)]
    if missing:
        raise InputError(
            f"{runs.folder}: {len(missing)} of {len(runs.numbers)} runs are not complete "
            f"({', '.join(missing[:5])}). Continue with `resume=True`."
        )


@dataclass(frozen=True, eq=False)
class SetTables:
    """The three tables of a set (see `repeats`); `targets` is None where nothing was tested."""

    runs: pd.DataFrame
    summary: pd.DataFrame
    targets: pd.DataFrame | None


def read_tables(runs: RunSet, *, until: tuple[str, ...] | None = None) -> SetTables:
    """Compute the tables from the run folders.

    Args:
        runs: a set whose runs are complete.
        until: other validation losses to wait for than the set's own.

    Raises:
        InputError: a file of a run is missing or damaged.
    """
    waited = [Until.parse(text) for text in until or runs.until]
    table = run_table(runs.runs, seeds=runs.seeds, until=waited)
    per_run = read_target_tables(runs.runs)
    targets = target_table(per_run, same_windows=runs.kind is REPEATS) if per_run else None
    return SetTables(table, summarise_runs(table), targets)


def write_tables(runs: RunSet) -> SetTables:
    """Write the tables of a complete set, in place of earlier ones.

    Raises:
        InputError: a run is not complete, or a file of it is damaged.
    """
    require_complete(runs)
    tables = read_tables(runs)
    frames = {
        runs.kind.table: tables.runs,
        runs.kind.summary: tables.summary,
        runs.kind.targets: tables.targets,
    }
    for name, frame in frames.items():
        if frame is not None:
            with atomic_output(runs.folder / name, overwrite=True) as temporary:
                write_tsv(temporary, frame)
    return tables
