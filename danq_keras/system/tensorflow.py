"""Starts TensorFlow for a command that needs it."""

import contextlib
import ctypes
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

from danq_keras.system.cluster import Cluster
from danq_keras.system.errors import InputError, one_line
from danq_keras.system.terminal import quiet_native_output

# Address space, measured with TensorFlow 2.21 on Linux: of the libraries, of a small network at
# work on two cores (its threads and pools), and of each further core. With less, threads and
# allocations fail inside the libraries, which then end the process without a word.
_LIBRARIES, _AT_WORK, _EACH_CORE = 1600 << 20, 512 << 20, 16 << 20

# Parameters of glibc's mallopt (malloc.h), and the size from which blocks still go back at once.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_LARGE = 1 << 30


_started: list[None] = []
_strategy: list[Any] = []  # of the cluster, once it is joined


def start_tensorflow(*, cluster: Cluster | None = None) -> None:
    """Import TensorFlow and Keras, and find the devices, without the libraries' chatter.

    The functions of the package each ask for it; only the first call does something.

    Keras is set as it comes: what `~/.keras/keras.json` says, perhaps since the times of Theano,
    changes no network. Where Keras is imported already, its settings are its user's.

    Args:
        cluster: machines to train with, which can be joined only now; None for none.

    Raises:
        InputError: a library cannot be loaded, for want of memory or of a file; or the other
            machines do not answer.
    """
    if not _started:
        _start_once(cluster)
        _started.append(None)


def cluster_strategy() -> Any:
    """The strategy of the cluster that `start_tensorflow` joined.

    Raises:
        InputError: it joined none.
    """
    if not _strategy:
        raise InputError(
            "`distribute=multiworker`: a cluster is joined when the process starts, by "
            "train_danq.py; other commands and functions train on one machine."
        )
    return _strategy[0]


def _start_once(cluster: Cluster | None) -> None:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # cuDNN's LSTM in float16 then adds in float32, as everything else in mixed_float16 does.
    os.environ.setdefault("TF_FP16_RNN_USE_FP32_COMPUTE", "1")
    if platform.machine().lower() in ("x86_64", "amd64"):
        # TensorFlow takes oneDNN's kernels by itself only where there is AVX-512. Its own are built
        # for AVX without fused multiply-add: on two cores with AVX2 (140 GFLOP/s in products) a
        # step of `danq` takes 1.8 to 2.0 s with them and 1.34 to 1.41 s with oneDNN's, predictions
        # of `yeast` come at 360 to 390 and 650 windows/s.
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    ours = "keras" not in sys.modules
    _require_address_space()
    _keep_freed_memory()
    try:
        with quiet_native_output():
            _start(cluster)
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


def _require_address_space() -> None:
    """Refuse a limit of memory (`ulimit -v`) under which TensorFlow would crash.

    Raises:
        InputError: there is such a limit.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    if limit == resource.RLIM_INFINITY or not statm.exists():
        return
    used = int(statm.read_text().split()[0]) * resource.getpagesize()
    needed = _AT_WORK + _EACH_CORE * (os.cpu_count() or 1)
    if "tensorflow" not in sys.modules:
        needed += _LIBRARIES
    if used + needed > limit:
        raise InputError(
            f"TensorFlow cannot be started: it needs {(used + needed) / 2**30:.1f} GiB of address "
            f"space at least, this process may have {limit / 2**30:.1f}. Raise the limit (`ulimit "
            "-v`, the job's memory)."
        )


def _keep_freed_memory() -> None:
    """Let glibc keep the blocks of a step for the next one; other C libraries are left alone.

    By default blocks above 32 MB go back to the system and come again as pages of zeros, which cost
    a quarter of a step of `danq-fitted` on yeast: 457 ms with 2.0 million page faults, 333 ms with
    0.36 million (two cores of 71 GFLOP/s together), for a quarter more memory at the peak (1.38 GB,
    not 1.10). Who sets `MALLOC_…` in the environment has decided already.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(AttributeError, OSError):  # macOS, musl
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_TOP_PAD, 64 << 20)
        if not mallopt(_MMAP_THRESHOLD, _LARGE):  # before glibc 2.35 at most 32 MB
            mallopt(_MMAP_MAX, 0)


def _start(cluster: Cluster | None) -> None:
    import keras  # noqa: F401  the import is the purpose
    import tensorflow as tf

    for device in tf.config.list_physical_devices("GPU"):
        # Without it TensorFlow takes all of the card's memory at once.
        tf.config.experimental.set_memory_growth(device, True)
    if cluster is not None:
        _strategy.append(_join(cluster))
    tf.config.list_logical_devices()


def _join(cluster: Cluster) -> Any:
    """The strategy over all workers, once each of them has started.

    Raises:
        InputError: some do not answer.
    """
    import tensorflow as tf

    addresses = {"worker": list(cluster.workers)}
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(addresses),
        task_type="worker",
        task_id=cluster.index,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except tf.errors.OpError as error:
        raise InputError(
            f"Not all of {', '.join(cluster.workers)} answer ({one_line(error)[:200]}). Start one "
            "process a worker, all within some minutes, where the machines reach each other."
        ) from error
