"""Seeded tiny fixtures shared by the tests."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from danq_keras.system import command
from danq_keras.system.terminal import log

LONGEST = ("test_documentation.py", "test_train_command.py", "test_tune_command.py")
"""Modules of minutes, each the work of one process."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules first, then those with slow tests, so that all processes end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.name not in LONGEST, item.path not in slow))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20160614)


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the package logs; its logger does not pass lines on."""
    log.addHandler(caplog.handler)
    caplog.set_level("INFO", logger=log.name)
    yield caplog
    log.removeHandler(caplog.handler)


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the main of a command as its script does; gives the exit status."""

    def run(name: str, main: Callable[[], int], *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        previous = signal.getsignal(signal.SIGTERM)
        try:
            return command.run_command(main)
        finally:
            signal.signal(signal.SIGTERM, previous)

    return run


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real data of the project's developers; absent for everybody else."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("DANQ_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder} (set DANQ_TEST_DATA)")
    return folder
