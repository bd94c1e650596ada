"""The state to resume from: one HDF5 file a checkpoint, complete or absent.

A checkpoint holds every variable of the model (the state of the dropout layers' seed generators
included, which a .keras file lacks), every variable of the optimizer, and the trainer's own state:
arrays as they are, all else as JSON. It is written under another name, flushed to the disk and
renamed; only then is the older one deleted, so that the last complete one survives anything.
"""

import json
import os
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from danq_keras.system.errors import InputError

_PATTERN = "step-*.h5"
_KEPT = 2


def save_checkpoint(
    folder: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer, state: dict[str, Any]
) -> Path:
    """Write a checkpoint named after `state["step"]`, the number of optimizer steps done."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{state['step']:09d}.h5"
    temporary = folder / ".partial.h5"
    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    with h5py.File(temporary, "w") as file:
        for group, variables in (("model", model.variables), ("optimizer", optimizer.variables)):
            for number, variable in enumerate(variables):
                dataset = file.create_dataset(
                    f"{group}/{number:04d}", data=keras.ops.convert_to_numpy(variable.value)
                )
                dataset.attrs["path"] = variable.path
        for key, value in arrays.items():
            file[f"state/{key}"] = value
        file.attrs["state"] = json.dumps({k: v for k, v in state.items() if k not in arrays})
        file.flush()
    with temporary.open("rb+") as handle:
        os.fsync(handle.fileno())
    temporary.replace(path)
    for old in sorted(folder.glob(_PATTERN))[:-_KEPT]:
        old.unlink()
    return path


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the most steps, or None."""
    return max(folder.glob(_PATTERN), default=None)


def load_checkpoint(
    path: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> dict[str, Any]:
    """Put a checkpoint's values into model and optimizer and return the trainer's state.

    Raises:
        InputError: the checkpoint is of another network or optimizer, or unreadable.
    """
    try:
        with h5py.File(path, "r") as file:
            groups = (("model", model.variables), ("optimizer", optimizer.variables))
            for group, variables in groups:  # all of them first: a refusal changes nothing
                _check_shapes(path, file[group], variables)
            for group, variables in groups:
                for name, variable in zip(file[group], variables, strict=True):
                    variable.assign(np.asarray(file[group][name]))
            state: dict[str, Any] = json.loads(file.attrs["state"])
            state |= {key: array[()] for key, array in file.get("state", {}).items()}
    except (OSError, KeyError) as error:
        raise InputError(
            f"{path}: not a readable checkpoint ({str(error).splitlines()[0]}). Delete it to "
            "resume from the one before."
        ) from error
    return state


def _check_shapes(path: Path, stored: h5py.Group, variables: list[Any]) -> None:
    shapes = [tuple(stored[name].shape) for name in stored]
    if shapes != [tuple(variable.shape) for variable in variables]:
        raise InputError(
            f"{path}: the checkpoint is of another network or optimizer ({len(shapes)} arrays, "
            f"{len(variables)} expected, or of other shapes). Resume with the run's own settings."
        )
