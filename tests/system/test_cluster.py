"""TF_CONFIG and Slurm's variables: the cluster they mean, and one line where they mean none."""

import json
import socket

import pytest

from danq_keras.system.cluster import Cluster, worker_number
from danq_keras.system.errors import InputError
from danq_keras.system.slurm import read_cluster


def tf_config(workers, index=0, kind="worker", **more):
    content = {"cluster": {"worker": workers, **more}, "task": {"type": kind, "index": index}}
    return {"TF_CONFIG": json.dumps(content)}


def test_tf_config():
    environ = tf_config(["one:34561", "two:34561", "three:34561"], 2)
    assert worker_number(environ) == 2
    assert read_cluster(environ) == Cluster(("one:34561", "two:34561", "three:34561"), 2)


def test_slurm_by_its_ranks():
    environ = {
        "SLURM_PROCID": "2",
        "SLURM_STEP_NODELIST": "gpu[03-04]",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
        "SLURM_JOB_ID": "1234567",
    }
    assert worker_number(environ) == 2
    port = 20_000 + 1234567 % 20_000
    workers = tuple(f"gpu0{node}:{port + task}" for node in (3, 4) for task in (0, 1))
    assert read_cluster(environ) == Cluster(workers, 2)


def test_tf_config_comes_before_slurm():
    environ = {"SLURM_PROCID": "3", "SLURM_STEP_NODELIST": "a", **tf_config(["a:1024", "b:1"], 1)}
    assert worker_number(environ) == 1


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({}, "no cluster. Start one process a machine with `srun`, or set TF_CONFIG"),
        ({"SLURM_PROCID": "0"}, "no cluster"),
        ({"TF_CONFIG": "{worker"}, "TF_CONFIG: no JSON"),
        ({"TF_CONFIG": "[" * 100_000}, "TF_CONFIG: no JSON"),
        ({"TF_CONFIG": "3"}, "TF_CONFIG: has no 'cluster'"),
        ({"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:1"]}}'}, "has no 'task'"),
        (tf_config([]), "a list of workers and nothing else"),
        (tf_config("one:1"), "a list of workers and nothing else"),
        (tf_config(["a:1", "b:1"], ps=["c:1"]), "a list of workers and nothing else"),
        (tf_config(["a:1", "b"]), "a worker is host:port. Received: 'b'"),
        (tf_config(["a:1", 7]), "a worker is host:port. Received: 7"),
        (tf_config(["a:1", "b:99999"]), "a worker is host:port"),
        (tf_config(["a:1", "a:1"]), "an address of its own"),
        (tf_config(["a:1", "b:1"], 2), "one of the 2 workers, counted from 0"),
        (tf_config(["a:1", "b:1"], "0"), "one of the 2 workers, counted from 0"),
        (tf_config(["a:1", "b:1"], 0, "chief"), "one of the 2 workers, counted from 0"),
        (tf_config(["a:1024"]), "a cluster of 1 worker"),
    ],
)
def test_what_is_no_cluster_is_one_line(environ, line):
    with pytest.raises(InputError, match=line) as caught:
        read_cluster(environ)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"SLURM_STEP_TASKS_PER_NODE": "two"},
        {"SLURM_STEP_TASKS_PER_NODE": "1(x3)"},
        {"SLURM_JOB_ID": ""},
        {"SLURM_PROCID": "9"},
    ],
)
def test_slurm_variables_that_contradict_each_other(wrong):
    environ = {
        "SLURM_PROCID": "0",
        "SLURM_STEP_NODELIST": "gpu[1-2]",
        "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
        "SLURM_JOB_ID": "7",
    }
    with pytest.raises(InputError, match="srun"):
        read_cluster({**environ, **wrong})


def test_a_port_in_use_is_one_line():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=f"{address}: the port of this worker is in use"):
            read_cluster(tf_config([address, "other:1"]))
