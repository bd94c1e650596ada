"""Text files with damage drawn at random: one line, or what a plain reader reads, and nothing else.

The number of mutants a reader is DANQ_FAULT_TRIALS.
"""

import os
import subprocess
import sys
from pathlib import Path

import fuzz
import fuzz_text

TRIALS = os.environ.get("DANQ_FAULT_TRIALS", "12")
HERE = Path(__file__).parent


def test_every_reader_of_text_refuses_damage_in_one_line_or_reads_it_right() -> None:
    command = [sys.executable, str(HERE / "fuzz_text.py"), TRIALS, "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == list(fuzz_text.READERS)


def test_a_reader_that_guesses_is_found_out(tmp_path: Path) -> None:
    """The yardstick itself: one that takes every start for 1-based."""
    sound = fuzz_text.READERS["bed"]

    def guesses(path: Path) -> str:
        return repr([(name, start - 1, end) for name, start, end in fuzz_text.read_bed(path)])

    reader = fuzz.Reader("bed", sound.make, guesses, sound.mutate, plain=sound.plain)
    counts = fuzz.campaign(reader, 20, 0, tmp_path)
    found = sum("a plain reader reads something else" in key for key in counts)
    assert found == counts["compared"] > 3
