"""Memory that a step has freed is there for the next one."""

import os
import platform
import subprocess
import sys

import pytest

_STEPS = """
import resource
import numpy as np
from danq_keras.system.tensorflow import _keep_freed_memory
_keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(100 << 20, np.uint8)
before = faults()
for _ in range(5):
    np.ones(100 << 20, np.uint8)
print(faults() - before)
"""
_HUGE_PAGES = 5 * (100 << 20) // (2 << 20)  # the fewest faults that new blocks can cost


def _faults(**environment: str) -> int:
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", _STEPS],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told")
def test_freed_blocks_are_kept() -> None:
    assert _faults() < 0.5 * _HUGE_PAGES


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told")
def test_what_the_environment_says_of_memory_holds() -> None:
    assert _faults(MALLOC_MMAP_THRESHOLD_="1000000") >= _HUGE_PAGES
