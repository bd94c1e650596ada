"""The small trained networks that come with the package, by name.

Each is a file `resources/models/NAME.keras`, written by `TrainedModel.save(…, half=True)`, a row of
`models.tsv`, a test table `NAME.tsv` and a section of the README.md there.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from danq_keras.system.errors import InputError
from danq_keras.system.files import PathLike
from danq_keras.system.inputs import refuse_pipe
from danq_keras.system.shipped import resource_path

_TABLE = "models/models.tsv"


@dataclass(frozen=True)
class ShippedModel:
    """A row of models.tsv: what a shipped network was trained on, and its test figures."""

    name: str
    data: str
    window: int
    targets: int
    auroc: float
    auprc: float
    licence: str

    @property
    def path(self) -> Path:
        """Its .keras file."""
        return resource_path(f"models/{self.name}.keras")


def shipped_models() -> dict[str, ShippedModel]:
    """The networks that come with the package: name → what is known of it."""
    with resource_path(_TABLE).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {
        row["name"]: ShippedModel(
            name=row["name"],
            data=row["data"],
            window=int(row["window"]),
            targets=int(row["targets"]),
            auroc=float(row["auroc"]),
            auprc=float(row["auprc"]),
            licence=row["licence"],
        )
        for row in rows
    }


def describe_shipped() -> str:
    """The list of them as text."""
    lines = [f"{'name':<10}{'window':>7}{'targets':>9}{'ROC AUC':>9}{'PR AUC':>8}  data"]
    lines += [
        f"{model.name:<10}{model.window:>7}{model.targets:>9}{model.auroc:>9.4f}"
        f"{model.auprc:>8.4f}  {model.data} ({model.licence})"
        for model in shipped_models().values()
    ]
    return "\n".join(lines)


def model_file(path: PathLike) -> Path:
    """The .keras file of a run folder, of a shipped network, or the file itself.

    Raises:
        InputError: there is none.
    """
    place = model_place(path)
    file = place / "model.keras" if place.is_dir() else place
    refuse_pipe(file)
    if file.is_file():
        return file
    runs = sorted(model.parent for model in place.glob("*/model.keras"))
    if runs:
        raise InputError(
            f"{place}: a folder of runs, not a run. Give one of those in it, such as {runs[0]}."
        )
    raise InputError(
        f"{file}: no such model. Give a run folder, a .keras file, or the name of a network "
        f"that comes with the package: {', '.join(shipped_models())}."
    )


def model_place(path: PathLike) -> Path:
    """Where a model lies: a path as it is, or the file of a shipped network that is named so.

    A run folder or file of that name comes first; a folder without a model, such as a dataset's,
    does not stand in the way.
    """
    place = Path(path)
    if place.name != str(path) or place.is_file():
        return place
    if (place / "model.keras").is_file() or any(place.glob("*/model.keras")):
        return place
    known = shipped_models()
    return known[place.name].path if place.name in known else place
