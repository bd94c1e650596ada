"""The cluster of this process, from TF_CONFIG or from a Slurm step."""

import os
from collections.abc import Mapping

from danq_keras.system.cluster import (
    EXAMPLE,
    Cluster,
    from_tf_config,
    require_free,
    slurm_number,
)
from danq_keras.system.errors import InputError

_PORTS = 20_000  # Slurm jobs take one each from here on, by their number


def read_cluster(environ: Mapping[str, str] = os.environ) -> Cluster:
    """The workers, from TF_CONFIG, else from the variables of a Slurm step.

    Raises:
        InputError: there is no cluster, its description is wrong, or this worker's port is taken.
    """
    text = environ.get("TF_CONFIG")
    cluster = from_tf_config(text) if text else _from_slurm(environ)
    if len(cluster.workers) < 2:
        raise InputError(
            f"`distribute=multiworker`: a cluster of {len(cluster.workers)} worker. Give two or "
            "more, or leave `distribute` out (`mirrored` uses all GPUs of one machine)."
        )
    require_free(cluster.workers[cluster.index])
    return cluster


def _from_slurm(environ: Mapping[str, str]) -> Cluster:
    """Nodes and tasks of a Slurm step, in the order of its ranks.

    TensorFlow's SlurmClusterResolver asks nvidia-smi for GPUs and fails on nodes without; its
    readers of Slurm's lists are used here, and which GPUs a task sees is left to Slurm.
    """
    from tensorflow.python.distribute.cluster_resolver.slurm_cluster_resolver import (
        expand_hostlist,
        expand_tasks_per_node,
    )

    number = slurm_number(environ)
    try:
        nodes = expand_hostlist(environ["SLURM_STEP_NODELIST"])
        tasks = expand_tasks_per_node(environ["SLURM_STEP_TASKS_PER_NODE"])
        first = _PORTS + int(environ["SLURM_JOB_ID"]) % _PORTS
        workers = tuple(
            f"{node}:{first + task}"
            for node, many in zip(nodes, tasks, strict=True)
            for task in range(many)
        )
    except (KeyError, ValueError) as error:
        raise InputError(
            f"Slurm's variables of the step cannot be read ({error}). Start with `srun`, or set "
            f"{EXAMPLE}."
        ) from error
    if number >= len(workers):
        raise InputError(f"SLURM_PROCID: {number} of {len(workers)} tasks. Start with `srun`.")
    return Cluster(workers, number)
