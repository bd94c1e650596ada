"""The study behind `tune_danq.py`: folder, database, trials as a table, the best as a preset.

A study folder holds `search.json` (everything that a process needs to join), `study.db` (Optuna's
trials in SQLite), `trials/` (a folder per trial), and at the end `trials.tsv`, `best.json` and
`search.png`. Several processes may work on one study. A process that dies leaves a trial without a
heartbeat; the next process to look marks it failed and puts it back into the queue, where it keeps
its folder and so its checkpoint: it is neither lost nor counted twice.

Needs Optuna (the extra `tune`); loads no TensorFlow.
"""

import contextlib
import dataclasses
import datetime
import itertools
import json
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from danq_keras.recipes.config import SEARCHED, Preset
from danq_keras.recipes.presets import get_preset
from danq_keras.recipes.settings import apply_settings
from danq_keras.system.claims import CLAIM, claimed_folder, is_leftover, require_unclaimed
from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output, load_json
from danq_keras.system.terminal import log
from danq_keras.tuning.space import Space, apply_values, space_from_json

DIRECTIONS: Mapping[str, Literal["minimize", "maximize"]] = {
    "val_loss": "minimize",
    "val_auprc": "maximize",
}
PRUNERS = ("median", "hyperband", "none")
STARTUP_TRIALS = 5  # of the median pruner: trials that are never stopped
WARMUP_EPOCHS = 2  # of the median pruner: the first epoch after which a trial may be stopped
REDUCTION_FACTOR = 3  # of the hyperband pruner
HEARTBEAT_SECONDS = 20
GRACE_SECONDS = 60
MOST_KILLS = 2  # a trial that ends its process more often, say for want of memory, is given up
_DATABASE = "study.db"
_SETTINGS = "search.json"
SESSIONS = ".sessions"  # a folder each, which the session at work holds
_OF_A_START = {_SETTINGS, SESSIONS, CLAIM} | {
    _DATABASE + ending for ending in ("", "-journal", "-wal", "-shm")
}
_INHERITED = ("folder", "reference")
EPOCH_FIGURES = ("loss", "val_loss", "val_auroc", "val_auprc")


@dataclass(frozen=True)
class Search:
    """What is searched: the recipe to start from, fitted to the data, and how points are judged.

    `columns` are the numbers of the dataset's targets, None for all; `fingerprints` the dataset's.
    """

    preset: Preset
    space: Space
    data: Path
    fingerprints: Mapping[str, Any]
    columns: list[int] | None = None
    objective: str = "val_loss"
    max_parameters: int | None = None
    pruner: str = "median"

    def as_json(self) -> dict[str, Any]:
        """The content of search.json."""
        own = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("preset", "space", "data")
        }
        return {
            **recipe_json(self.preset),
            "data": str(self.data.resolve()),
            "space": {name: each.as_json() for name, each in self.space.items()},
            **own,
        }


def recipe_json(preset: Preset) -> dict[str, Any]:
    """A recipe as `train_danq.py --config` reads it."""
    return {
        "preset": preset.name,
        **({"fitted": list(preset.fitted)} if preset.fitted else {}),
        "model": dataclasses.asdict(preset.model),
        "train": dataclasses.asdict(preset.train),
    }


def write_search(out: Path, search: Search) -> None:
    """Write search.json into a new study folder."""
    with atomic_output(out / _SETTINGS) as temporary:
        temporary.write_text(json.dumps(search.as_json(), indent=2) + "\n", encoding="utf-8")


def is_study(out: Path) -> bool:
    """Whether a folder holds a study."""
    return (out / _SETTINGS).is_file()


def read_search(out: Path) -> Search:
    """The search of a study folder.

    Raises:
        InputError: there is no study, or its settings are damaged.
    """
    path = out / _SETTINGS
    if not is_study(out):
        raise InputError(f"{out}: no search to continue ({_SETTINGS} is missing). Drop `resume`.")
    try:
        content = load_json(path)
        preset = apply_settings(
            get_preset(content.pop("preset")), content.pop("model") | content.pop("train")
        )
        preset = dataclasses.replace(preset, fitted=tuple(content.pop("fitted", ())))
        space = space_from_json(content.pop("space"), place=str(path))
        return Search(preset, space, Path(content.pop("data")), **content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not the settings of a search, or damaged ({error}). Start a new search."
        ) from error


@contextlib.contextmanager
def told_by_name(path: Path, advice: str) -> Iterator[None]:
    """Say in one line what is the matter with a database that cannot be read or written.

    Raises:
        InputError: it is damaged, was removed, or has no room.
    """
    try:
        yield
    except (optuna.exceptions.StorageInternalError, _database_error()) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise InputError(f"{path}: not a readable study ({reason}). {advice}") from error


def is_free(out: Path) -> bool:
    """Whether a search may begin in a folder: new, empty, or left by a start without a trial.

    Raises:
        InputError: another process is about to begin its first trial there.
    """
    if not out.is_dir():
        return not out.exists()
    names = {path.name for path in out.iterdir() if not is_leftover(path.name)}
    if not names <= _OF_A_START:
        return False
    for session in (out / SESSIONS).glob("*"):
        require_unclaimed(session)
    return _SETTINGS not in names or not has_begun(out, read_search(out))


def has_begun(out: Path, search: Search) -> bool:
    """Whether any trial of a study has been begun."""
    trials = open_study(out, search).get_trials(deepcopy=False)
    return any(state_of(trial) != "waiting" for trial in trials)


@contextlib.contextmanager
def session_number(out: Path) -> Iterator[int]:
    """A number that no other session at work on the study has; that of a lone one is 0."""
    for number in itertools.count():
        folder = out / SESSIONS / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(claimed_folder(folder))
            except InputError:
                continue
            yield number
            return


def open_study(out: Path, search: Search, *, sampler_seed: int | None = None) -> optuna.Study:
    """Open the study in a folder, or begin it, with a heartbeat for the trials of this process.

    Args:
        out: folder of the study.
        search: what the study searches, as it began.
        sampler_seed: of the points that this process will propose; None for a process that only
            looks.

    Raises:
        InputError: the database is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with told_by_name(out / _DATABASE, "Start a new search."):
        with warnings.catch_warnings():  # Optuna calls heartbeats experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{out.resolve() / _DATABASE}",
                engine_kwargs={"connect_args": {"timeout": 120}},  # others may be writing
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
                heartbeat_stale_trial_callback=requeue_killed,
            )
        return optuna.create_study(
            study_name="danq",
            storage=storage,
            direction=DIRECTIONS[search.objective],
            sampler=optuna.samplers.TPESampler(seed=sampler_seed),
            pruner=make_pruner(search),
            load_if_exists=True,
        )


def _database_error() -> type[Exception]:
    from sqlalchemy.exc import DatabaseError

    return DatabaseError


def make_pruner(search: Search) -> optuna.pruners.BasePruner:
    """The rule that ends hopeless trials early, from the objective after each epoch."""
    if search.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=1,
            max_resource=search.preset.train.epochs,
            reduction_factor=REDUCTION_FACTOR,
        )
    if search.pruner == "median":
        return optuna.pruners.MedianPruner(
            n_startup_trials=STARTUP_TRIALS, n_warmup_steps=WARMUP_EPOCHS
        )
    return optuna.pruners.NopPruner()


def requeue_stale(study: optuna.Study) -> None:
    """Queue the trials of processes that died again, see `requeue_killed`."""
    with warnings.catch_warnings():  # as in `open_study`
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    # One that was killed between its creation and its first heartbeat; others have their size.
    oldest = datetime.datetime.now() - datetime.timedelta(seconds=GRACE_SECONDS)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        born = trial.datetime_start
        if "parameters" not in trial.user_attrs and born is not None and born < oldest:
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            requeue_killed(study, trial)


def requeue(study: optuna.Study, trial: FrozenTrial, *, kills: int = 0) -> None:
    """Queue a trial again that was stopped: the same point, the same folder."""
    kept = {key: trial.user_attrs[key] for key in _INHERITED if key in trial.user_attrs}
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={"folder": trial.number, **kept, "kills": kills},
            system_attrs=trial.system_attrs,
        )
    )


def requeue_killed(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a trial again whose process died without a word, unless it always does."""
    kills = trial.user_attrs.get("kills", 0) + 1
    if kills > MOST_KILLS:
        log.warning("Trial %d is given up: its process was killed %d times.", trial.number, kills)
        return
    log.warning("Trial %d: its process was killed; it is queued again.", trial.number)
    requeue(study, trial, kills=kills)


def trial_folder(out: Path, trial: FrozenTrial | optuna.Trial) -> Path:
    """Where a trial trains: that of its first attempt."""
    return out / "trials" / f"{trial.user_attrs.get('folder', trial.number):04d}"


def state_of(trial: FrozenTrial) -> str:
    """A word for the table: complete, pruned, failed, skipped, interrupted, running or waiting."""
    if trial.state == TrialState.FAIL:
        return "interrupted"
    if trial.state == TrialState.PRUNED:
        return str(trial.user_attrs.get("outcome", "pruned"))
    return trial.state.name.lower()


def count_states(trials: Sequence[FrozenTrial]) -> Counter[str]:
    """How many trials are in which state."""
    return Counter(map(state_of, trials))


def n_finished(trials: Sequence[FrozenTrial]) -> int:
    """Trials that count towards --trials; those that are skipped or interrupted do not."""
    counts = count_states(trials)
    return counts["complete"] + counts["pruned"] + counts["failed"]


def best_trial(search: Search, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The complete trial with the best objective that keeps to the cap on parameters."""
    cap = math.inf if search.max_parameters is None else search.max_parameters
    allowed = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE and trial.user_attrs["parameters"] <= cap
    ]
    sign = 1 if DIRECTIONS[search.objective] == "minimize" else -1
    return min(allowed, key=lambda trial: (sign * _value(trial), trial.number), default=None)


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def reference_trial(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The trial of the preset itself, where it is complete."""
    found = (trial for trial in trials if trial.user_attrs.get("reference"))
    return next((trial for trial in found if trial.state == TrialState.COMPLETE), None)


def trials_table(search: Search, trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    """A row per trial: state, objective, size, figures of its best epoch, its point in the space.

    `gap` is val_loss − loss: over-fitting, as far as dropout, which only `loss` has, lets it show.
    """
    rows = []
    for trial in trials:
        attrs = trial.user_attrs
        figures = trial.user_attrs.get("figures", {})
        loss = figures.get("loss")
        rows.append(
            {
                "trial": trial.number,
                "state": state_of(trial),
                "reference": "yes" if attrs.get("reference") else "no",
                "value": trial.value if trial.state == TrialState.COMPLETE else None,
                "parameters": attrs.get("parameters"),
                "epochs": figures.get("epochs"),
                "best_epoch": figures.get("best_epoch"),
                **{name: figures.get(name) for name in EPOCH_FIGURES},
                "gap": None if loss is None else figures["val_loss"] - loss,
                "seconds_per_epoch": figures.get("seconds_per_epoch"),
                "reason": attrs.get("reason", ""),
                **{name: trial.params.get(name) for name in search.space},
            }
        )
    return pd.DataFrame(rows)


def write_trials(path: Path, table: pd.DataFrame) -> None:
    """Write trials.tsv; NA where a trial did not get so far."""
    whole = ["parameters", "epochs", "best_epoch"]
    with atomic_output(path, overwrite=True) as temporary:
        table.astype(dict.fromkeys(whole, "Int64")).to_csv(
            temporary, sep="\t", index=False, na_rep="NA"
        )


def best_preset(search: Search, trial: FrozenTrial) -> Preset:
    """The recipe of a trial."""
    return apply_values(search.preset, trial.params)


def write_best(path: Path, search: Search, trial: FrozenTrial) -> None:
    """Write the recipe of a trial for `train_danq.py --config`.

    Window and number of targets are the data's, and are left out.
    """
    content = recipe_json(best_preset(search, trial))
    for name in ("window", "n_targets"):
        del content["model"][name]
    content["source"] = (
        f"{SEARCHED} {trial.number}: {search.objective} {_value(trial):.6g} on {search.data.name}"
    )
    with atomic_output(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of each dimension in the spread of the objective; empty for a handful of trials."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len({trial.value for trial in complete}) < 2:
        return {}
    return optuna.importance.get_param_importances(study)
