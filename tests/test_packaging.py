"""Wheel and source archive: what is in them, and a network trained by what they install."""

import os
import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The two archives, built without a network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist"]
    subprocess.run([*command, "-d", folder], cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def site(built, tmp_path_factory):
    """A folder with the wheel installed, and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    (wheel,) = built.glob("*.whl")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*command, "--target", folder, wheel], check=True)
    return folder


def test_the_wheel_says_what_it_is(site):
    (info,) = site.glob("*.dist-info")
    distribution = PathDistribution(info)
    about = distribution.metadata
    assert about["Name"] == "danq_keras"
    assert about["License-Expression"] == "MIT"
    assert about["Requires-Python"] == PROJECT["requires-python"]
    assert about["Description"].startswith("# ")
    assert len(about.get_all("Classifier")) > 3
    assert set(about.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    scripts = {entry.name: entry.value for entry in distribution.entry_points}
    assert scripts == PROJECT["scripts"]
    assert {path.name for path in (site / "bin").iterdir()} >= set(scripts)


def test_the_source_has_what_a_build_and_the_tests_need(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    needed = ["LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "docs/Snakefile"]
    needed += ["resources/models/yeast.keras", "bin/train_danq.py", "tests/conftest.py"]
    assert names >= set(needed)


@pytest.mark.slow
def test_the_installed_package_trains_outside_of_its_source(site, tmp_path):
    """The demo in short form, by the script that the wheel installs."""
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    where = [sys.executable, "-c", "import danq_keras; print(danq_keras.__file__)"]
    found = subprocess.run(where, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout.startswith(str(site))
    command = [sys.executable, site / "bin" / "danq-train", "--epochs", "1"]
    done = subprocess.run(
        [*command, "--train-limit", "200", "--out", "demo"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "demo" / "report.html").is_file()
