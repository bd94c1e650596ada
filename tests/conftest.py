"""Seeded tiny fixtures shared by the tests."""

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20160614)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real data of the project's developers; absent for everybody else."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("DANQ_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder} (set DANQ_TEST_DATA)")
    return folder
