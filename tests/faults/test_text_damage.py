"""Text files with damage drawn at random: one line, or what a plain reader reads, and nothing else.

A few mutants a reader in every run; `-m campaign` 10,000, or DANQ_FAULT_MUTANTS.
"""

import os
import subprocess
import sys
from pathlib import Path

import fuzz
import fuzz_text
import pytest

FEW, MANY = "12", os.environ.get("DANQ_FAULT_MUTANTS", "10000")
HERE = Path(__file__).parent


def campaign(mutants: str, *names: str) -> list[str]:
    """The readers that the script went through without a fault."""
    command = [sys.executable, str(HERE / "fuzz_text.py"), mutants, "0", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return [line.split(":")[0] for line in done.stdout.splitlines()]


def test_every_reader_of_text_refuses_damage_in_one_line_or_reads_it_right() -> None:
    assert campaign(FEW) == list(fuzz_text.READERS)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("name", fuzz_text.READERS)
def test_a_reader_of_text_refuses_all_damage_in_one_line_or_reads_it_right(name: str) -> None:
    assert campaign(MANY, name) == [name]


def test_a_reader_that_guesses_is_found_out(tmp_path: Path) -> None:
    """The yardstick itself: one that takes every start for 1-based."""
    sound = fuzz_text.READERS["bed"]

    def guesses(path: Path) -> str:
        return repr([(name, start - 1, end) for name, start, end in fuzz_text.read_bed(path)])

    reader = fuzz.Reader("bed", sound.make, guesses, sound.mutate, plain=sound.plain)
    counts = fuzz.campaign(reader, 20, 0, tmp_path)
    found = sum("a plain reader reads something else" in key for key in counts)
    assert found == counts["compared"] > 3
