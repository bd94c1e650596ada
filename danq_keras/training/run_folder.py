"""The folder of a run: its description (config.json), and what `resume` may continue.

Loads neither TensorFlow nor Keras.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from danq_keras.data.store import Dataset
from danq_keras.recipes.config import ModelConfig, Preset, TrainConfig
from danq_keras.recipes.presets import get_preset
from danq_keras.recipes.settings import apply_settings, changed_settings
from danq_keras.system.claims import remove
from danq_keras.system.errors import InputError
from danq_keras.system.files import load_json

_MAY_GROW = "epochs"
_MARKS = ("config.json", "repeats.json", "folds.json", "run.log")
_OF_RUNS = ("run.log", "history.csv", "checkpoints")
_SECTIONS = ("preset", "dataset", "model", "train", "targets")
_DESCRIPTION = (
    "changed",
    "fitted",
    *_SECTIONS,
    "source",
    "synthetic",
    "target_numbers",
    "init",
    "bootstrap",
)


def describe_run(preset: Preset, dataset: Dataset, columns: list[int] | None) -> dict[str, Any]:
    """The content of config.json: enough to start the run again."""
    targets = dataset.targets if columns is None else dataset.targets.subset(columns)
    header = dataset.train.header
    return {
        "preset": preset.name,
        "source": preset.source,
        "changed": {
            key: f"{now} (preset: {before})"
            for key, (before, now) in changed_settings(preset).items()
        },
        **({"fitted": list(preset.fitted)} if preset.fitted else {}),
        "synthetic": "synthetic" in header.source.lower(),
        "dataset": {
            "path": str(dataset.folder.resolve()),
            "name": dataset.name,
            "source": header.source,
            "strands": header.strands_meant,
            "windows": {name: dataset.split(name).n_windows for name in ("train", "valid", "test")},
            "fingerprints": dataset.fingerprints(),
        },
        "model": dataclasses.asdict(preset.model),
        "train": dataclasses.asdict(preset.train),
        "targets": list(targets.names),
        "target_numbers": list(range(len(targets))) if columns is None else columns,
    }


def read_config(run: Path) -> dict[str, Any]:
    """config.json of a run folder.

    Raises:
        InputError: there is no such run.
    """
    path = run / "config.json"
    if not path.is_file():
        raise InputError(f"{run}: no run to resume (config.json is missing). Leave out `resume`.")
    try:
        config: dict[str, Any] = load_json(path)
        complete = all(section in config for section in _SECTIONS)
    except (ValueError, TypeError):
        complete = False
    if not complete:
        raise InputError(f"{path}: not the settings of a run, or damaged. Start a new run.")
    return config


def preset_from_config(config: Mapping[str, Any]) -> Preset:
    """The recipe that a config.json, or a JSON file of settings, describes.

    Raises:
        InputError: an unknown preset or setting.
    """
    base = get_preset(config.get("preset", "danq"))
    settings: dict[str, Any] = {}
    for section in ("model", "train"):
        if not isinstance(config.get(section, {}), dict):
            raise InputError(f"{section!r}: expected an object of settings in the JSON file.")
        settings |= config.get(section, {})
    settings |= {key: value for key, value in config.items() if key not in _DESCRIPTION}
    if "dataset" in config:  # a run's: settings that came later were as the defaults have them
        before = dataclasses.asdict(ModelConfig()) | dataclasses.asdict(TrainConfig())
        settings = before | settings
    fitted = tuple(map(str, config.get("fitted", ())))
    source = str(config.get("source", base.source))
    return dataclasses.replace(apply_settings(base, settings), fitted=fitted, source=source)


def check_resumable(config: Mapping[str, Any], wanted: Mapping[str, Any], run: Path) -> None:
    """Compare what a run was started with and what it is resumed with.

    Args:
        config: config.json of the run.
        wanted: the same description of the resumed run; only its epochs may be more.
        run: folder of the run, for the message.

    Raises:
        InputError: the first setting that differs.
    """
    for section in ("model", "train"):
        for key, old in config[section].items():
            new = wanted[section][key]
            new = list(new) if isinstance(new, tuple) else new
            grown = key == _MAY_GROW and new >= old
            if new != old and not grown:
                raise InputError(
                    f"{run}: `resume` continues a run as it was started: {key} was {old}, "
                    f"received {new}. Leave the setting out, or start a new run."
                )
    if wanted["dataset"]["fingerprints"] != config["dataset"]["fingerprints"]:
        raise InputError(
            f"{run}: `resume` needs the data of the run's start ({config['dataset']['path']}); "
            f"{wanted['dataset']['path']} holds other data. Give the same `data`, or start a new "
            "run."
        )
    if wanted["targets"] != config["targets"] or wanted["preset"] != config["preset"]:
        raise InputError(
            f"{run}: `resume` needs the preset ({config['preset']}) and targets of the run's "
            "start. Leave `preset` and `targets` out, or start a new run."
        )


def require_run(run: Path) -> None:
    """Make sure that `overwrite` will remove a run, and nothing that is not one.

    Raises:
        InputError: the folder holds something else.
    """
    if not (run / "config.json").is_file():
        raise InputError(
            f"{run}: `overwrite` replaces only a run folder (with config.json), and this is none. "
            "Choose another `out`."
        )
    if not any((run / name).exists() for name in _OF_RUNS):  # a damaged config.json is no matter
        read_config(run)


def clear_run(run: Path, *, keep: Path) -> None:
    """Empty a run folder.

    Args:
        run: folder of the run, which stays, empty.
        keep: what in it leads to this path stays: the data of the new run.

    Raises:
        InputError: the run folder itself is to be kept.
    """
    kept = keep.resolve()
    if kept == run.resolve():
        raise InputError(f"{run}: the data are there. Choose another `out`.")
    # last what makes it a run folder: whoever is stopped here can do it again
    for child in sorted(run.iterdir(), key=lambda child: child.name in _MARKS):
        if not kept.is_relative_to(child.resolve()):
            remove(child)


class SameFolder:
    """A run folder that must stay what it is while a run writes into it.

    Args:
        run: folder of the run, which exists or will soon.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._identity: tuple[int, int] | None = None

    def require(self) -> None:
        """Make sure that the folder is the one it was when this was called first.

        Raises:
            InputError: it was removed, renamed or replaced.
        """
        try:
            state = self._run.stat()
        except (FileNotFoundError, NotADirectoryError):
            found = None
        else:
            found = (state.st_dev, state.st_ino)
        self._identity = self._identity or found
        if found is None or found != self._identity:
            raise InputError(
                f"{self._run}: the run folder was removed or renamed while the run was at work. "
                "Nothing more is written. Put it back and continue with `resume`, or start anew."
            )


def is_complete(run: Path, config: Mapping[str, Any]) -> bool:
    """Whether a run folder has come to its report with the settings of the set.

    Only the number of epochs can differ between a run and its set.
    """
    path = run / "config.json"
    if not (path.is_file() and (run / "report.html").is_file()):
        return False
    try:
        epochs = load_json(path)["train"]["epochs"]
    except (ValueError, KeyError, TypeError):
        return False
    return bool(epochs == config["train"]["epochs"])
