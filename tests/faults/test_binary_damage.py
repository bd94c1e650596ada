"""Binary files with damage drawn at random: one line, or the right content, and nothing else.

A few mutants a reader in every run; `-m campaign` 2,000, or DANQ_FAULT_MUTANTS.
"""

import os
import subprocess
import sys
from pathlib import Path

import fuzz
import fuzz_binary
import pytest

FEW, MANY = "4", os.environ.get("DANQ_FAULT_MUTANTS", "2000")
HERE = Path(__file__).parent


def campaign(mutants: str, *names: str) -> str:
    """What the script says; it runs by itself, as a process that forks must not use TensorFlow."""
    command = [sys.executable, str(HERE / "fuzz_binary.py"), mutants, "0", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def test_every_reader_of_binary_files_refuses_damage_in_one_line() -> None:
    shown = campaign(FEW)
    assert [line.split(":")[0] for line in shown.splitlines()] == list(fuzz_binary.READERS)
    assert shown.count("wrong 0") == len(fuzz_binary.READERS)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("name", fuzz_binary.READERS)
def test_a_reader_of_binary_files_refuses_all_damage_in_one_line(name: str) -> None:
    assert "wrong 0" in campaign(MANY, name)


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
