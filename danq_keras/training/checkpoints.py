"""The state to resume from: one HDF5 file a checkpoint, complete or absent.

A checkpoint holds every variable of the model (the state of the dropout layers' seed generators
included, which a .keras file lacks), every variable of the optimizer, and the trainer's own state:
arrays as they are, all else as JSON. It is written under another name, flushed to the disk and
renamed; only then is the older one deleted, so that the last complete one survives anything.

The file begins with a block that HDF5 passes over, in which the SHA-256 of all the rest stands. It
is compared before HDF5 sees a byte; checkpoints of early versions have none and are read as they
are.
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import numpy.typing as npt

from danq_keras.system.claims import remove_leftovers
from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output
from danq_keras.system.hdf5 import array, attribute, faults_named, new_hdf5, open_hdf5, read_array

_PATTERN = "step-*.h5"
_KEPT = 2
_EARLY_PARTIAL = ".partial.h5"  # which early versions left after a kill
_BLOCK = 512  # the smallest that HDF5 passes over
_MAGIC = b"danq_keras checkpoint, SHA-256 of what follows byte 512: "


@dataclass(frozen=True)
class Snapshot:
    """The values of a moment, copied to the host: training can go on while they are written.

    `variables` has the paths and values of the model's and of the optimizer's variables, `state`
    what else the trainer must know, with `step`, the number of optimizer steps done.
    """

    variables: Mapping[str, Sequence[tuple[str, npt.NDArray[np.generic]]]]
    state: Mapping[str, Any]

    @classmethod
    def of(
        cls, model: keras.Model, optimizer: keras.optimizers.Optimizer, state: Mapping[str, Any]
    ) -> "Snapshot":
        """Copy all variables and the arrays of the state."""
        variables = {
            group: [(variable.path, _copied(variable)) for variable in owned]
            for group, owned in (("model", model.variables), ("optimizer", optimizer.variables))
        }
        return cls(variables, copy.deepcopy(dict(state)))

    def write(self, folder: Path) -> Path:
        """Write the checkpoint, named after its step, and delete all but the one before it.

        Raises:
            OSError: the disk is full or fails; the earlier checkpoints are still there.
        """
        path = checkpoint_path(folder, self.state["step"])
        arrays = {key: each for key, each in self.state.items() if isinstance(each, np.ndarray)}
        others = {key: each for key, each in self.state.items() if key not in arrays}
        with atomic_output(path, overwrite=True) as temporary:
            with faults_named(temporary), new_hdf5(temporary, userblock_size=_BLOCK) as file:
                for group, variables in self.variables.items():
                    for number, (name, values) in enumerate(variables):
                        dataset = file.create_dataset(f"{group}/{number:04d}", data=values)
                        dataset.attrs["path"] = name
                for key, value in arrays.items():
                    file[f"state/{key}"] = value
                file.attrs["state"] = json.dumps(others)
            digest = _digest(temporary)
            with temporary.open("rb+") as handle:
                handle.write(_MAGIC + digest.encode())
        for old in sorted(folder.glob(_PATTERN))[:-_KEPT]:
            old.unlink()
        return path


def _copied(variable: keras.Variable) -> npt.NDArray[np.generic]:
    """On a CPU the array would be the variable's own memory."""
    return np.array(keras.ops.convert_to_numpy(variable.value))


def _digest(path: Path) -> str:
    """SHA-256 of a file from the end of the first block on."""
    with path.open("rb") as handle:
        handle.seek(_BLOCK)
        return hashlib.file_digest(handle, "sha256").hexdigest()


def checkpoint_path(folder: Path, step: int) -> Path:
    """The file of the checkpoint after so many steps."""
    return folder / f"step-{step:09d}.h5"


def checkpoint_step(path: Path) -> int:
    """The number of steps that a checkpoint's name tells."""
    return int(path.stem.removeprefix("step-"))


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the most steps, or None; what a killed process left is removed."""
    remove_leftovers(folder)
    (folder / _EARLY_PARTIAL).unlink(missing_ok=True)
    return max(folder.glob(_PATTERN), default=None)


def load_checkpoint(
    path: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> dict[str, Any]:
    """Put a checkpoint's values into model and optimizer and return the trainer's state.

    Raises:
        InputError: the checkpoint is damaged or unreadable, or of another network or optimizer.
    """
    advice = _advice(path)
    if not _is_as_written(path):
        raise InputError(f"{path}: the checkpoint is damaged (wrong checksum). {advice}")
    groups = (("model", model.variables), ("optimizer", optimizer.variables))
    with open_hdf5(path, "checkpoint", advice) as file:
        values = {group: _read_values(path, file, group, group_of) for group, group_of in groups}
        state = _read_state(file)
    for group, variables in groups:  # all were read first: a refusal changes nothing
        for value, variable in zip(values[group], variables, strict=True):
            variable.assign(value)
    return state


def _is_as_written(path: Path) -> bool:
    """Whether the checksum is right; true where an early version wrote none."""
    with path.open("rb") as handle:
        head = handle.read(_BLOCK)
    if not head.startswith(_MAGIC[:10]):
        return True
    return head == (_MAGIC + _digest(path).encode()).ljust(_BLOCK, b"\0")


def _advice(path: Path) -> str:
    """What to do about a damaged checkpoint: the one before, if there is one."""
    earlier = [other for other in path.parent.glob(_PATTERN) if other.name < path.name]
    if not earlier:
        return "There is none before it: start the run anew with `overwrite=True`."
    before = max(earlier)
    if not _is_as_written(before):
        return f"{before.name} before it is damaged too: start anew with `overwrite=True`."
    return f"Delete it to resume from the one before, {before.name}."


def _read_values(path: Path, file: h5py.File, group: str, variables: list[Any]) -> list[Any]:
    stored = file[group]
    shapes = [tuple(array(stored, name).shape) for name in stored]
    if shapes != [tuple(variable.shape) for variable in variables]:
        raise InputError(
            f"{path}: the checkpoint is of another network or optimizer ({len(shapes)} arrays, "
            f"{len(variables)} expected, or of other shapes). Resume with the run's own settings."
        )
    return [read_array(stored, name, kinds="buifV") for name in stored]


def _read_state(file: h5py.File) -> dict[str, Any]:
    state = json.loads(attribute(file, "state", "text"))
    if not isinstance(state, dict):
        raise ValueError("its state is no JSON object")
    arrays = file.get("state", {})
    return state | {key: read_array(arrays, key, kinds="buif") for key in arrays}
