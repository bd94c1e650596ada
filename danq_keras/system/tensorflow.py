"""Starts TensorFlow for a command that needs it."""

import functools
import os

from danq_keras.system.terminal import quiet_native_output


@functools.cache  # the functions of the package each ask for it
def start_tensorflow() -> None:
    """Import TensorFlow and Keras, and find the devices, without the libraries' chatter."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_native_output():
        import keras  # noqa: F401  the import is the purpose
        import tensorflow as tf

        for device in tf.config.list_physical_devices("GPU"):
            # Without it TensorFlow takes all of the card's memory at once.
            tf.config.experimental.set_memory_growth(device, True)
        tf.config.list_logical_devices()
