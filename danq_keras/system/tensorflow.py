"""Starts TensorFlow for a command that needs it."""

import functools
import os
import sys

from danq_keras.system.errors import InputError, one_line
from danq_keras.system.terminal import quiet_native_output


@functools.cache  # the functions of the package each ask for it
def start_tensorflow() -> None:
    """Import TensorFlow and Keras, and find the devices, without the libraries' chatter.

    Keras is set as it comes: what `~/.keras/keras.json` says, perhaps since the times of Theano,
    changes no network. Where Keras is imported already, its settings are its user's.

    Raises:
        InputError: a library cannot be loaded, for want of memory or of a file.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    ours = "keras" not in sys.modules
    try:
        with quiet_native_output():
            _start()
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"TensorFlow cannot be started ({one_line(error)[:300]}). Is memory limited (`ulimit "
            "-v`, the job's memory), or the installation damaged?"
        ) from error
    if ours:
        import keras

        keras.config.set_image_data_format("channels_last")
        keras.config.set_floatx("float32")
        keras.config.set_epsilon(1e-7)


def _start() -> None:
    import keras  # noqa: F401  the import is the purpose
    import tensorflow as tf

    for device in tf.config.list_physical_devices("GPU"):
        # Without it TensorFlow takes all of the card's memory at once.
        tf.config.experimental.set_memory_growth(device, True)
    tf.config.list_logical_devices()
