"""Runs of a set and workers of a search in the process of the test: TensorFlow starts once."""

import signal

from danq_keras.runs import one_run
from danq_keras.system import terminal
from danq_keras.system.command import run_command
from danq_keras.tuning import worker


def run_all(orders, *, at_once):
    """As `runs.processes.run_all`, one run after the other."""
    assert at_once >= 1
    for order in orders:
        order.write_plan()
        assert one_run.main([str(order.plan)]) == 0
        order.plan.unlink()
    return 0


class InProcess:
    """A process of a search that has run to its end when it is made."""

    pid = 1

    def __init__(self, out, n_trials, number, _jobs):
        previous, level = signal.getsignal(signal.SIGTERM), terminal.log.level
        arguments = [str(out), str(n_trials), str(number)]
        self.returncode = run_command(lambda _: worker.main(arguments))
        signal.signal(signal.SIGTERM, previous)
        terminal.log.setLevel(level)  # the search has another

    def poll(self):
        return self.returncode

    def wait(self, _timeout=None):
        return self.returncode
