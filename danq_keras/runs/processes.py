"""Runs of a set as processes, one after the other or several at once; loads no TensorFlow.

Each run is a process of its own, so that it starts as fresh as a run on the command line, and one
that dies takes nothing with it. A stop (Ctrl-C, SIGTERM) is passed on, and waits until all have
saved.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from danq_keras.system.errors import EXIT_INPUT, InputError
from danq_keras.system.signals import Interruption
from danq_keras.system.terminal import log
from danq_keras.system.threads import n_threads

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class RunOrder:
    """A run to make: its folder, and its request as JSON (see `training.request.TrainRequest`).

    `predict_test` asks for the predictions of the test split too.
    """

    folder: Path
    request: str
    predict_test: bool = False

    @property
    def name(self) -> str:
        """What its lines on the terminal begin with."""
        return self.folder.name

    @property
    def plan(self) -> Path:
        """The file that hands the run to its process, beside its folder while that is alive."""
        return self.folder.with_name(f".{self.name}.plan.json")

    def write_plan(self) -> None:
        """Write the plan file, which `one_run` reads."""
        self.plan.parent.mkdir(parents=True, exist_ok=True)
        content = {"request": self.request, "predict_test": self.predict_test}
        self.plan.write_text(json.dumps(content), encoding="utf-8")


def run_all(orders: Sequence[RunOrder], *, at_once: int) -> int:
    """Make all runs.

    With one at a time, a run writes to the terminal itself; with several, their lines are shown
    with the run's name, and the cores are dealt out to them: to as many as there are, where these
    are fewer than `at_once`.

    Returns:
        0, or the status of the first run that failed, which has said why; others are stopped then,
        after saving.

    Raises:
        InputError: a run was killed.
        KeyboardInterrupt: Ctrl-C, after all have saved.
        Terminated: SIGTERM, after all have saved.
    """
    at_once = min(at_once, max(1, len(orders)))
    waiting = deque(enumerate(orders, start=1))
    running: list[_Process] = []
    with Interruption() as interruption, _stopping(running):
        while waiting or running:
            if interruption.signal:
                _stop(running)
                interruption.raise_error()
            while waiting and len(running) < at_once:
                number, order = waiting.popleft()
                log.info("%s (%d of %d)", order.name, number, len(orders))
                running.append(_Process(order, at_once=at_once))
            for process in [each for each in running if each.has_ended()]:
                running.remove(process)
                # after a signal to the whole process group, such as a batch system's, the runs
                # may end before this process has noticed its own
                if process.status and not interruption.signal:
                    return _failed(process)
            time.sleep(_POLL_SECONDS)
    return 0


def _failed(process: "_Process") -> int:
    run = process.order.folder
    if process.status < 0:
        raise InputError(
            f"{run}: the run was killed by {signal.Signals(-process.status).name}. Continue with "
            "`resume=True`; where memory was short, with fewer `jobs`."
        )
    if process.status == EXIT_INPUT:
        log.info("%s: stopped by this error. Complete runs are kept: see --resume.", run)
    return process.status


class _Process:
    """A run that has been started."""

    def __init__(self, order: RunOrder, *, at_once: int) -> None:
        self.order = order
        order.write_plan()
        relayed = at_once > 1
        self._process = subprocess.Popen(
            # -P: the folder that a user stands in is no place to import from
            [sys.executable, "-P", "-m", "danq_keras.runs.one_run", str(order.plan)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # where a complete run says so
            stderr=subprocess.PIPE if relayed else None,
            env=_environment(order.folder.parent.name, at_once),
            process_group=0,  # a terminal's Ctrl-C reaches the parent, which passes it on once
        )
        self._relay = threading.Thread(target=self._relay_lines, daemon=True)
        if relayed:
            self._relay.start()

    @property
    def status(self) -> int:
        """0, the exit status, or minus a signal; only after the end."""
        return int(self._process.returncode)

    def has_ended(self) -> bool:
        """Whether the process is gone and all it said has been shown."""
        if self._process.poll() is None:
            return False
        if self._relay.is_alive():
            self._relay.join()
        self.order.plan.unlink(missing_ok=True)
        return True

    def ask_to_stop(self) -> None:
        """SIGTERM: unlike Ctrl-C's signal it is never ignored, as it is below `nohup`."""
        self._process.terminate()

    def wait(self) -> None:
        """Wait for the end."""
        self._process.wait()

    def _relay_lines(self) -> None:
        errors: IO[bytes] | None = self._process.stderr
        assert errors is not None
        with errors:
            for line in errors:
                log.info("%s: %s", self.order.name, line.decode(errors="replace").rstrip())


def _environment(group: str, at_once: int) -> dict[str, str]:
    """Of a run: its group for wandb, unless the user has named one.

    Of one of several at once also its share of the cores, and no progress bars.
    """
    variables = {"WANDB_RUN_GROUP": group, **os.environ}
    if at_once == 1:
        return variables
    threads = str(max(1, n_threads() // at_once))
    shares = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), threads)
    return {**variables, **shares, "TQDM_DISABLE": "1"}


def _stop(running: Sequence[_Process]) -> None:
    for process in running:
        process.ask_to_stop()
    for process in running:
        process.wait()
        process.order.plan.unlink(missing_ok=True)


@contextlib.contextmanager
def _stopping(running: list[_Process]) -> Iterator[None]:
    """Leave no run behind, however the block ends."""
    try:
        yield
    finally:
        alive = [process for process in running if not process.has_ended()]
        _stop(alive)
        running.clear()
