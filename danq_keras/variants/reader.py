"""Variant effects read back from the .h5 file that `effects_files` writes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from danq_keras.system.errors import InputError
from danq_keras.system.hdf5 import array, attribute, open_hdf5, read_array, read_texts
from danq_keras.variants.effects import Probs

FORMAT = "danq_keras variant effects"


@dataclass(frozen=True, eq=False)
class Effects:
    """A file of effects, read back.

    `chrom`, `id`, `ref`, `alt` (V,) str objects, `pos` (V,) int64; `ref_pred` and `alt_pred` (V, T)
    float32; `targets` (T,) names; `model` the network's fingerprint; `strands` predicted.
    """

    path: Path
    chrom: npt.NDArray[np.object_]
    pos: npt.NDArray[np.int64]
    id: npt.NDArray[np.object_]
    ref: npt.NDArray[np.object_]
    alt: npt.NDArray[np.object_]
    ref_pred: Probs
    alt_pred: Probs
    targets: tuple[str, ...]
    model: str
    strands: str


def read_effects(path: Path) -> Effects:
    """Read an .h5 file of effects.

    Raises:
        InputError: no such file, not one, without rows, damaged, or without probabilities.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file. Make it with score_variants.py.")
    with open_hdf5(path, "file of effects", "Score again.") as file:
        if file.attrs.get("format") != FORMAT:
            raise InputError(f"{path}: not effects of score_variants.py in an .h5 file.")
        n = len(array(file, "pos", kinds="iu", shape=(None,)))
        if not n:
            raise InputError(f"{path}: there are no variants in it. Give a file that has some.")
        texts = {
            name: np.array(read_texts(file, name, n), object)
            for name in ("chrom", "id", "ref", "alt")
        }
        effects = Effects(
            path=path,
            **texts,
            pos=read_array(file, "pos"),
            ref_pred=read_array(file, "ref_pred", kinds="f"),
            alt_pred=read_array(file, "alt_pred", kinds="f"),
            targets=read_texts(file, "targets"),
            model=attribute(file, "model_fingerprint", "text"),
            strands=attribute(file, "strands", "text"),
        )
    _check(effects)
    return effects


def _check(effects: Effects) -> None:
    shape = (len(effects.pos), len(effects.targets))
    for name in ("ref_pred", "alt_pred"):
        probs = getattr(effects, name)
        if probs.shape != shape:
            raise InputError(
                f"{effects.path}: {name!r} must have a row for each variant and a column for each "
                f"target, {shape}. Received: {probs.shape}. Score again."
            )
        wrong = ~((probs >= 0) & (probs <= 1)).all(axis=1)
        if wrong.any():
            raise InputError(
                f"{effects.path}: {name!r} must hold probabilities. Received something else in row "
                f"{int(wrong.argmax())}. Score again."
            )
