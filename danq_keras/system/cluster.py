"""Which machines train together, as TF_CONFIG says; loads no TensorFlow.

`slurm.read_cluster` reads Slurm's variables too.
"""

import errno
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from danq_keras.system.errors import InputError

EXAMPLE = (
    'TF_CONFIG=\'{"cluster": {"worker": ["one:12345", "two:12345"]}, "task": {"type": "worker", '
    '"index": 0}}\''
)
_NONE = (
    "`distribute=multiworker`: no cluster. Start one process a machine with `srun`, or set "
    f"TF_CONFIG in each, as in {EXAMPLE}."
)


@dataclass(frozen=True)
class Cluster:
    """Workers as host:port, in the order of their numbers, and the number of this one."""

    workers: tuple[str, ...]
    index: int


def worker_number(environ: Mapping[str, str] = os.environ) -> int:
    """The number of this process among the workers; 0 is the chief, which alone writes.

    Raises:
        InputError: neither TF_CONFIG nor Slurm tells of a cluster, or TF_CONFIG is wrong.
    """
    if environ.get("TF_CONFIG"):
        return from_tf_config(environ["TF_CONFIG"]).index
    return slurm_number(environ)


def from_tf_config(text: str) -> Cluster:
    """The cluster that the text of TF_CONFIG describes.

    Raises:
        InputError: it describes none.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"TF_CONFIG: no JSON ({error}). Such as {EXAMPLE}.") from error
    cluster, task = (_member(content, name) for name in ("cluster", "task"))
    workers = cluster.get("worker")
    if not isinstance(workers, list) or not workers or set(cluster) != {"worker"}:
        raise InputError(
            f"TF_CONFIG: its cluster is a list of workers and nothing else. Received: "
            f"{cluster!r}. Such as {EXAMPLE}."
        )
    for worker in workers:
        host, _, port = worker.rpartition(":") if isinstance(worker, str) else ("", "", "")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise InputError(f"TF_CONFIG: a worker is host:port. Received: {worker!r}.")
    if len(set(workers)) < len(workers):
        raise InputError(f"TF_CONFIG: each worker has an address of its own. Received: {workers}.")
    index: Any = task.get("index")
    is_number = isinstance(index, int) and not isinstance(index, bool)
    if task.get("type") != "worker" or not is_number or not 0 <= index < len(workers):
        raise InputError(
            f"TF_CONFIG: the task is one of the {len(workers)} workers, counted from 0. Received: "
            f"{task!r}."
        )
    return Cluster(tuple(workers), int(index))


def _member(content: Any, name: str) -> dict[str, Any]:
    member = content.get(name) if isinstance(content, dict) else None
    if not isinstance(member, dict):
        raise InputError(f"TF_CONFIG: has no {name!r}. Such as {EXAMPLE}.")
    return member


def slurm_number(environ: Mapping[str, str]) -> int:
    """The rank of this task of a Slurm step.

    Raises:
        InputError: this is none.
    """
    number = environ.get("SLURM_PROCID", "")
    if not number.isdecimal() or "SLURM_STEP_NODELIST" not in environ:
        raise InputError(_NONE)
    return int(number)


def require_free(address: str) -> None:
    """Refuse a port that another process of this machine has; TensorFlow would abort.

    Raises:
        InputError: it is in use.
    """
    port = int(address.rpartition(":")[2])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise InputError(
                f"{address}: the port of this worker is in use or not allowed. Choose another one "
                "for it, in the TF_CONFIG of every worker."
            ) from error
