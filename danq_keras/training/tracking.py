"""Runs in Weights & Biases, beside the run folder, where a user asks for it (`--log wandb`).

Each epoch's row of history.csv is logged under its number, the test's figures as the summary, and
the settings as the configuration. A resumed run goes on in the same record, whose identity lies in
`wandb_id` of the run folder. Where the record goes is wandb's own affair: it asks for a login, or
with WANDB_MODE=offline keeps it in the run folder. Runs of a set are a group of the set's name.
"""

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from danq_keras.system.errors import InputError, one_line, optional_module

TRACKERS = ("wandb",)
_IDENTITY = "wandb_id"


class Tracker:
    """What a run tells a tracker; without one it tells nobody."""

    def __init__(self, record: Any = None) -> None:
        self._record = record

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Log a row of the history."""
        if self._record is not None:
            self._record.log(dict(row), step=int(row["epoch"]))

    def test(self, summary: Mapping[str, Any]) -> None:
        """Log the means of the test: `test_auroc_mean` and so on."""
        if self._record is None:
            return
        for figure, values in summary["overall"].items():
            if isinstance(values, Mapping) and values.get("mean") is not None:
                self._record.summary[f"test_{figure}_mean"] = values["mean"]
            elif isinstance(values, int | float):
                self._record.summary[f"test_{figure}"] = values


def require_tracker(kind: str | None) -> None:
    """Refuse a tracker that there is not or that knows no user, before anything is done.

    On a terminal wandb asks for a login.

    Raises:
        InputError: another name than one of `TRACKERS`; its library is not installed; no login.
    """
    if kind is None:
        return
    wandb = _library(kind)
    with _refusals(wandb):
        wandb.login()


def _library(kind: str) -> Any:
    if kind not in TRACKERS:
        raise InputError(f"`log`: one of {', '.join(TRACKERS)}. Received: {kind!r}.")
    return optional_module("wandb", "wandb")


@contextlib.contextmanager
def _refusals(wandb: Any) -> Iterator[None]:
    try:
        yield
    except wandb.Error as error:
        raise InputError(
            f"`log`: wandb refuses: {one_line(error)} Or keep the record in the run folder: set "
            "WANDB_MODE=offline."
        ) from error


@contextlib.contextmanager
def tracked(kind: str | None, out: Path, settings: Mapping[str, Any]) -> Iterator[Tracker]:
    """A tracker for a run; one that is left by an error marks the record as failed.

    Args:
        kind: "wandb", or None for a tracker that tells nobody.
        out: the run folder.
        settings: what the run's config.json holds.

    Raises:
        InputError: see `require_tracker`.
    """
    if kind is None:
        yield Tracker()
        return
    wandb = _library(kind)
    identity = out / _IDENTITY
    if not identity.is_file():
        identity.write_text(uuid.uuid4().hex[:16] + "\n")
    with _refusals(wandb):
        record = wandb.init(
            project="danq_keras",
            name=out.name,
            id=identity.read_text().strip(),
            resume="allow",
            dir=str(out),
            config=dict(settings),
        )
    try:
        yield Tracker(record)
    except BaseException:
        record.finish(exit_code=1)
        raise
    record.finish(exit_code=0)
