"""Finds the data files that ship with the package: in a checkout or in an installed wheel."""

from pathlib import Path


def resource_path(name: str) -> Path:
    """Path of a file of `resources/`.

    Raises:
        FileNotFoundError: the package was installed without it.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "resources", package.parent / "resources"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"resources/{name} is missing from this installation of danq_keras.")
