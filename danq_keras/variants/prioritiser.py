"""The prioritiser: fold models with what they were made of, in one HDF5 file.

It holds `targets` (T,) and `extra` (E,) names; for each fold a group `fold_<k>` with `mean` and
`scale` (F,) and `trees`, its forest as XGBoost's JSON; attributes: the network's fingerprint, the
strands, and how well the folds did. Nothing in it is executed when it is read. Beside it stand the
tables `<file>.folds.tsv` and `<file>.heldout.tsv`.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from danq_keras import __version__
from danq_keras.system.arrays import Doubles
from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output
from danq_keras.system.hdf5 import (
    attribute,
    open_hdf5,
    read_array,
    read_texts,
)
from danq_keras.system.inputs import refuse_pipe
from danq_keras.variants.boosted_trees import Forest
from danq_keras.variants.folds import FoldModel, mean_probabilities
from danq_keras.variants.reader import Effects

FORMAT = "danq_keras prioritiser"
FORMAT_VERSION = 2  # 1: trees of scikit-learn, in arrays
TABLES = ("folds", "heldout")


@dataclass(frozen=True, eq=False)
class Prioritiser:
    """What is applied to new variants.

    `targets` (T,) names, `model` fingerprint of the network and `strands` of the effects that it
    was fitted to; `extra` (E,) names of the extra columns; `folds` the fold models; `auroc` (K,)
    of held-out variants.
    """

    targets: tuple[str, ...]
    model: str
    strands: str
    extra: tuple[str, ...]
    folds: tuple[FoldModel, ...]
    auroc: Doubles

    def check(self, effects: Effects, path: Path) -> None:
        """Refuse effects of another network, other targets or strands.

        Args:
            effects: effects that are to be prioritised.
            path: of this prioritiser, for the message.

        Raises:
            InputError: they differ.
        """
        same_as(
            effects,
            (self.targets, self.model, self.strands),
            f"{path}: the prioritiser was fitted to",
        )

    def score(self, features: Doubles) -> Doubles:
        """Probabilities (V,) that variants with features (V, F) are functional."""
        return mean_probabilities(self.folds, features)


def same_as(effects: Effects, expected: tuple[tuple[str, ...], str, str], fitted: str) -> None:
    """Refuse effects that were not made as others were.

    Args:
        effects: effects that are compared with the others.
        expected: targets, fingerprint of the network, and strands of the others.
        fitted: the beginning of the message, up to the difference.

    Raises:
        InputError: they differ.
    """
    words = ("effects on other targets", "effects by another model", "effects of other strands")
    received = (effects.targets, effects.model, effects.strands)
    for word, here, there in zip(words, expected, received, strict=True):
        if here != there:
            raise InputError(
                f"{fitted} {word} than {effects.path} has. Score all variants with the same model "
                "and options."
            )


def write_prioritiser(path: Path, prioritiser: Prioritiser, *, overwrite: bool = False) -> None:
    """Write a prioritiser.

    Raises:
        InputError: `path` exists.
    """
    with atomic_output(path, overwrite=overwrite) as temporary:
        content = io.BytesIO()  # a disk that fills up in the middle of HDF5's own writing harms it
        with h5py.File(content, "w") as file:
            text = h5py.string_dtype("utf-8")
            for name in ("targets", "extra"):
                values = np.array(getattr(prioritiser, name), object)
                file.create_dataset(name, data=values, dtype=text)
            file.create_dataset("auroc", data=prioritiser.auroc)
            file.attrs.update(
                {
                    "format": FORMAT,
                    "format_version": FORMAT_VERSION,
                    "package_version": __version__,
                    "model": prioritiser.model,
                    "strands": prioritiser.strands,
                    "n_folds": len(prioritiser.folds),
                }
            )
            for number, fold in enumerate(prioritiser.folds):
                group = file.create_group(f"fold_{number}")
                group["mean"], group["scale"] = fold.mean, fold.scale
                group["trees"] = np.frombuffer(fold.forest.to_json(), np.uint8)
                group.attrs["checksum"] = _checksum(group)
        temporary.write_bytes(content.getvalue())


def read_prioritiser(path: Path) -> Prioritiser:
    """Read a prioritiser.

    Raises:
        InputError: not one, damaged, or of another format version.
    """
    refuse_pipe(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file. Make it with prioritise_variants.py fit.")
    with open_hdf5(path, "prioritiser", "Make it again.") as file:
        if file.attrs.get("format") != FORMAT:
            raise InputError(
                f"{path}: not a prioritiser. Make one with prioritise_variants.py fit."
            )
        version = attribute(file, "format_version", "number")
        if version != FORMAT_VERSION:
            raise InputError(
                f"{path}: prioritiser format version {version}, this package reads version "
                f"{FORMAT_VERSION}. Make it again with prioritise_variants.py fit."
            )
        targets, extra = read_texts(file, "targets"), read_texts(file, "extra")
        auroc = read_array(file, "auroc", kinds="f", shape=(attribute(file, "n_folds", "number"),))
        if not len(auroc):
            raise ValueError("it has no folds")
        n_features = 2 * len(targets) + len(extra)
        return Prioritiser(
            targets=targets,
            model=attribute(file, "model", "text"),
            strands=attribute(file, "strands", "text"),
            extra=extra,
            folds=tuple(_fold(file, f"fold_{number}", n_features) for number in range(len(auroc))),
            auroc=auroc,
        )


def _fold(file: h5py.File, name: str, n_features: int) -> FoldModel:
    """The model of a fold.

    Raises:
        ValueError: it is not one, or not of that many features.
    """
    mean, scale = (
        read_array(file, f"{name}/{part}", kinds="f", shape=(n_features,))
        for part in ("mean", "scale")
    )
    if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError(f"{name!r} scales features by what is no number above 0")
    trees = read_array(file, f"{name}/trees", kinds="u", shape=(None,))
    group = file[name]
    if "checksum" in group.attrs and group.attrs["checksum"] != _checksum(group):
        raise ValueError(f"{name!r} is not what was written: its checksum differs")
    try:
        return FoldModel(mean, scale, Forest.from_json(trees.tobytes(), n_features))
    except InputError as error:
        raise ValueError(f"{name!r}: {error}") from error


def _checksum(group: h5py.Group) -> str:
    parts = (group[name][:].tobytes() for name in ("mean", "scale", "trees"))
    return hashlib.sha256(b"".join(parts)).hexdigest()
