"""What a run was made with: versions, devices, command (environment.json)."""

import platform
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from danq_keras import __version__
from danq_keras.data.store import Dataset
from danq_keras.system.threads import n_threads


def describe_environment(
    dataset: Dataset, precision: str, command: Sequence[str]
) -> dict[str, Any]:
    """The content of environment.json.

    Args:
        dataset: the data of the run.
        precision: dtype policy that the network is trained in.
        command: words of the command line that made the run.
    """
    gpus = [
        tf.config.experimental.get_device_details(device).get("device_name", device.name)
        for device in tf.config.list_physical_devices("GPU")
    ]
    return {
        "danq_keras": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "devices": gpus or [f"CPU ({n_threads()} cores)"],
        "precision": precision,
        "fingerprints": dataset.fingerprints(),
        "command": list(command),
    }
