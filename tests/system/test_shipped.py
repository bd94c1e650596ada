"""The files that ship with the package are found, and a missing one is named."""

import tomllib
from pathlib import Path

import pytest

from danq_keras.motifs.files import danq_jaspar_motifs
from danq_keras.system.shipped import resource_path

ROOT = Path(__file__).resolve().parents[2]


def test_shipped_files_are_found_in_a_checkout() -> None:
    shipped = sorted(path.name for path in (ROOT / "resources").iterdir() if path.is_file())
    assert "README.md" in shipped
    for name in shipped:
        assert resource_path(name) == ROOT / "resources" / name


def test_wheel_carries_them_where_they_are_looked_for() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["force-include"] == {"resources": "danq_keras/resources"}


def test_each_file_has_its_origin_written_down() -> None:
    readme = resource_path("README.md").read_text()
    for path in (ROOT / "resources").iterdir():
        assert path.name == "README.md" or path.name in readme


def test_working_folder_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(danq_jaspar_motifs()) == 525


@pytest.mark.parametrize("name", ["nothing.txt", ""])
def test_missing_file_is_named(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"resources/{name} is missing"):
        resource_path(name)
