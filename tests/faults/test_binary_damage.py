"""Binary files with damage drawn at random: one line, or the right content, and nothing else.

The number of mutants a reader is DANQ_FAULT_TRIALS.
"""

import os
import subprocess
import sys
from pathlib import Path

import fuzz
import fuzz_binary
import pytest

TRIALS = os.environ.get("DANQ_FAULT_TRIALS", "4")
HERE = Path(__file__).parent


def campaign(*names: str) -> str:
    """What the script says; it runs by itself, as a process that forks must not use TensorFlow."""
    command = [sys.executable, str(HERE / "fuzz_binary.py"), TRIALS, "0", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def test_every_reader_of_binary_files_refuses_damage_in_one_line() -> None:
    shown = campaign()
    assert [line.split(":")[0] for line in shown.splitlines()] == list(fuzz_binary.READERS)
    assert shown.count("wrong 0") == len(fuzz_binary.READERS)


def test_the_campaign_sees_tracebacks_crashes_and_loops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The yardstick itself: a reader that fails in each way is found out."""
    monkeypatch.setattr(fuzz, "SECONDS", 1)

    def fail(how: str) -> str:
        def read(path: Path) -> object:
            if how == "traceback":
                return {}[how]
            if how == "crash":
                os.abort()
            while how == "loop":
                pass
            return np_full if (np_full := bytearray(3 << 30)) else path

        return fuzz.outcome(read, tmp_path)

    assert "KeyError: 'traceback'" in fail("traceback")
    assert fail("crash") == "ended by SIGABRT"
    assert fail("loop") in ("ended by SIGKILL", "ended by SIGXCPU")
    assert "MemoryError" in fail("memory")
