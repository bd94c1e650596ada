"""Two workers on this machine: one network, equal to that of one device; stops, kills, refusals."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import tiny

from danq_keras.system.errors import EXIT_LOST
from danq_keras.training.checkpoints import checkpoint_step, latest_checkpoint
from danq_keras.training.trainer import Trainer

TRAIN = "from danq_keras.commands.train import cli; cli()"
# Steps enough that the workers ask each other within an epoch, and checkpoints by time between:
# what a worker's own clock says must not move where they ask.
SETTINGS = {
    **tiny.SETTINGS,
    "epochs": 3,
    "batch_size": 2,
    "global_clipnorm": 0.3,
    "restudy": 0.2,
    "checkpoint_steps": 30,
    "checkpoint_minutes": 0.03,
}
SECONDS = 300
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tiny"
    tiny.make_dataset(folder, ignore=True)
    return folder


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Pair:
    """Worker 0 and worker 1 of a training into one folder."""

    def __init__(self, data, out, *words, of_second=(), **settings):
        self.out = out
        addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
        pairs = [f"{key}={value}" for key, value in {**SETTINGS, **settings}.items()]
        command = ["--data", data, "--out", out, *words]
        if "--resume" not in words:
            command += ["--preset", "danq", "--distribute", "multiworker", "--set", *pairs]
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", TRAIN, *command, *(of_second if number else ())],
                env=os.environ
                | {
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    "OMP_NUM_THREADS": "1",
                    "TF_CONFIG": json.dumps(
                        {
                            "cluster": {"worker": addresses},
                            "task": {"type": "worker", "index": number},
                        }
                    ),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for number in (0, 1)
        ]

    def ended(self):
        """Statuses and texts of both."""
        texts = [process.communicate(timeout=SECONDS)[0] for process in self.processes]
        return [process.returncode for process in self.processes], texts

    def wait_for_checkpoint(self, steps):
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if any(
                checkpoint_step(path) >= steps for path in self.out.glob("checkpoints/step-*.h5")
            ):
                return
            assert self.processes[0].poll() is None, self.processes[0].stdout.read()
            time.sleep(0.02)
        raise TimeoutError


def contents(folder):
    """Values of the last checkpoint, and the history but for its times."""
    with h5py.File(latest_checkpoint(folder / "checkpoints")) as file:
        values = [file[group][name][()] for group in ("model", "optimizer") for name in file[group]]
        scores = file["state/scores"][()]
    with (folder / "history.csv").open() as file:
        rows = [
            {key: value for key, value in row.items() if "second" not in key}
            for row in csv.DictReader(file)
        ]
    return values, scores, rows


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    statuses, texts = Pair(data, out, dropout_pool=0, dropout_lstm=0).ended()
    assert statuses == [0, 0], texts
    return out, texts


def test_two_workers_equal_one_device(data, whole, tmp_path):
    out, texts = whole
    assert "2 devices of 2 workers" in texts[0]
    assert "Run " not in texts[1]  # the chief alone tells
    assert (out / "report.html").is_file()
    preset = tiny.preset(**SETTINGS, dropout_pool=0.0, dropout_lstm=0.0)
    one = Trainer(preset, tiny.open_store(data), tmp_path)
    one.fit()
    values, scores, rows = contents(out)
    ours, our_scores, our_rows = contents(tmp_path)
    for a, b in zip(values, ours, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores, our_scores, rtol=1e-3, atol=1e-4)
    for key in ("loss", "val_loss", "gradient_norm"):
        found, expected = ([float(row[key]) for row in each] for each in (rows, our_rows))
        np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("killed", "settings"),
    [
        pytest.param(1, {"dropout_pool": 0, "dropout_lstm": 0}, id="a worker"),
        pytest.param(0, {}, id="the chief, with dropout", marks=pytest.mark.long),
    ],
)
def test_killed_and_started_again_is_the_uninterrupted(data, whole, tmp_path, killed, settings):
    reference = whole[0]
    if not settings:
        reference = tmp_path / "reference"
        assert Pair(data, reference).ended()[0] == [0, 0]
    pair = Pair(data, tmp_path / "run", **settings)
    pair.wait_for_checkpoint(12)
    pair.processes[killed].kill()
    statuses, texts = pair.ended()
    assert statuses[killed] == -signal.SIGKILL
    assert statuses[1 - killed] == EXIT_LOST, texts
    assert "A worker was lost" in texts[1 - killed]
    assert texts[1 - killed].count("Traceback") == 0
    statuses, texts = Pair(data, tmp_path / "run", "--resume").ended()
    assert statuses == [0, 0], texts
    for ours, theirs in zip(contents(tmp_path / "run"), contents(reference), strict=True):
        if isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours, theirs)
        elif isinstance(ours[0], dict):
            assert ours == theirs
        else:
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.long
def test_sigterm_of_one_stops_both_at_the_same_step(data, tmp_path):
    pair = Pair(data, tmp_path / "run", epochs=200, patience=200)
    pair.wait_for_checkpoint(12)
    pair.processes[1].send_signal(signal.SIGTERM)
    statuses, texts = pair.ended()
    assert statuses == [143, 143], texts
    assert "Saved at step" in texts[0]


def test_workers_with_other_settings_are_refused_by_both(data, tmp_path):
    pair = Pair(data, tmp_path / "run", of_second=("--learning-rate", "0.5"))
    statuses, texts = pair.ended()
    assert statuses == [2, 2], texts
    for text in texts:
        assert text.splitlines()[-1].startswith("Error: The workers have not the same settings.")
    assert not (tmp_path / "run").exists()
