"""What is looked at in a .keras file before Keras builds a network of it.

A .keras file is a zip archive of `config.json` (the layers) and `model.weights.h5`. Keras takes
both at their word: it allocates what the layers ask for, and reads weights without comparing the
archive's checksums. So here all members are read once and compared, code is refused (Lambda
layers), and the layers are built without values at first, to see whether the weights are as many
bytes as they ask for. Nothing in a file is executed; there is no pickle.
"""

import contextlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state

from danq_keras.system.errors import InputError
from danq_keras.system.hdf5 import HDF5_DAMAGE, machine_fault, reason_of

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_SPARE = 1 << 20
_LARGEST_TEXT = 1 << 26
_ADVICE = "Copy the file again, or train the network again."
DAMAGE = (
    *HDF5_DAMAGE,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    AssertionError,
    ImportError,
)


@contextlib.contextmanager
def model_damage_told(file: Path) -> Iterator[None]:
    """Turn what zip, JSON, HDF5 and Keras say of a damaged file into one line.

    Raises:
        InputError: the file is damaged or no model.
        OSError: the machine is at fault.
    """
    try:
        yield
    except InputError:
        raise
    except DAMAGE as error:
        fault = machine_fault(error, file)
        if fault is not None:
            raise fault from error
        raise InputError(
            f"{file}: not a readable Keras model ({_first_words(error)}). {_ADVICE}"
        ) from error


def _first_words(error: BaseException) -> str:
    """The first line of an error, as Keras' go on over many."""
    lines = str(error).strip().splitlines()
    return reason_of(lines[0] if lines else type(error).__name__)


def load_network(file: Path) -> keras.Model:
    """Load the network of a .keras file that may be damaged, or made to do harm.

    Raises:
        InputError: it is damaged, holds code, asks for more memory than its weights take, or does
            not map (N, L, 4) to (N, T).
    """
    with model_damage_told(file):
        if file.suffix != ".keras" or not zipfile.is_zipfile(file):
            raise ValueError("it is no .keras file, or its name does not end so")
        with zipfile.ZipFile(file) as members:
            _check_members(members)
            config = json.loads(members.read(_CONFIG))
            if not isinstance(config, dict):
                raise ValueError(f"its {_CONFIG} is no JSON object")
            n_bytes = members.getinfo(_WEIGHTS).file_size
        _refuse_code(config)
        network = _build(config, n_bytes)
        check_shapes(file, network)
        network.load_weights(file)
    return network


def _check_members(members: zipfile.ZipFile) -> None:
    names = members.namelist()
    missing = {_CONFIG, _WEIGHTS} - set(names)
    if missing or len(names) != len(set(names)):
        raise ValueError(f"it must hold {_CONFIG} and {_WEIGHTS}, each once")
    large = [info.filename for info in members.infolist() if _is_large_text(info)]
    if large:
        raise ValueError(f"{large[0]} is larger than any network's")
    damaged = members.testzip()
    if damaged is not None:
        raise ValueError(f"wrong checksum of {damaged}")


def _is_large_text(info: zipfile.ZipInfo) -> bool:
    return info.filename.endswith(".json") and info.file_size > _LARGEST_TEXT


def _refuse_code(config: Any) -> None:
    """Refuse layers that carry code, wherever they are; a loop, as JSON may be nested deeply."""
    waiting = [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            if item.get("class_name") in ("Lambda", "__lambda__"):
                raise ValueError("it has a Lambda layer, which is code and is not run")
            waiting += item.values()


def _build(config: dict[str, Any], n_bytes: int) -> Any:
    """The network with initial values, once what it asks for is known to be in the file."""
    with keras.StatelessScope():  # within it variables have a shape and no value
        try:
            network = keras.saving.deserialize_keras_object(
                config | {"compile_config": None}, safe_mode=True
            )
            if not isinstance(network, keras.Model):
                raise ValueError("it holds no model")
            asked = sum(_n_bytes(variable) for variable in network.variables)
            if asked > n_bytes + _SPARE:
                raise ValueError(f"its layers ask for {asked:,} bytes, its weights are {n_bytes:,}")
        except BaseException:  # or their values would be made at the end of the scope
            global_state.set_global_attribute("uninitialized_variables", [])
            raise
    return network


def _n_bytes(variable: Any) -> int:
    size = 1
    for n in variable.shape:
        size *= int(n)
    return size * np.dtype(keras.backend.standardize_dtype(variable.dtype)).itemsize


def check_shapes(file: Path, network: Any) -> None:
    """Refuse a network that does not map (N, L, 4) to (N, T).

    Raises:
        InputError: it does not, or was never built; it names `file`.
    """
    if not network.built or not network.inputs:
        raise InputError(f"{file}: the model was never built: it has no weights. Build it first.")
    shapes = network.input_shape, network.output_shape
    single = all(isinstance(shape, tuple) for shape in shapes)
    if not single or [len(shape) for shape in shapes] != [3, 2] or shapes[0][2] != 4:
        raise InputError(
            f"{file}: a model maps (N, L, 4) to (N, T). Received: {shapes[0]} to {shapes[1]}. "
            "Give a model with one input and one output."
        )
