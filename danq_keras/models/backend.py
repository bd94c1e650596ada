"""Settings of the numerical backend that results depend on."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Exact float32 products: by default TensorFlow rounds their factors to TF32 on newer GPUs."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
