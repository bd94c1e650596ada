"""Variant effects read back from the .h5 file that `effects_files` writes."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from danq_keras.system.errors import InputError
from danq_keras.system.hdf5 import attribute, open_hdf5, read_array, read_texts
from danq_keras.system.inputs import refuse_pipe
from danq_keras.system.names import refuse_control
from danq_keras.variants.effects import Probs

FORMAT = "danq_keras variant effects"
CHECKSUMS = "checksums"
"""Attribute of a file of effects: JSON of the CRC-32 of each array; earlier files have none."""


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
    refuse_pipe(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file. Make it with score_variants.py.")
    with open_hdf5(path, "file of effects", "Score again.") as file:
        if file.attrs.get("format") != FORMAT:
            raise InputError(f"{path}: not effects of score_variants.py in an .h5 file.")
        pos = read_array(file, "pos", kinds="iu", shape=(None,))
        if not len(pos):
            raise InputError(f"{path}: there are no variants in it. Give a file that has some.")
        targets = read_texts(file, "targets")
        shape = (len(pos), len(targets))
        texts = {
            name: np.array(read_texts(file, name, len(pos)), object)
            for name in ("chrom", "id", "ref", "alt")
        }
        effects = Effects(
            path=path,
            **texts,
            pos=pos.astype(np.int64),
            ref_pred=read_array(file, "ref_pred", kinds="f", shape=shape),
            alt_pred=read_array(file, "alt_pred", kinds="f", shape=shape),
            targets=targets,
            model=attribute(file, "model_fingerprint", "text"),
            strands=attribute(file, "strands", "text"),
        )
        if CHECKSUMS in file.attrs:
            _compare(effects, json.loads(attribute(file, CHECKSUMS, "text")))
    _check(effects)
    return effects


def checksum_of_texts(texts: Sequence[str], before: int = 0) -> int:
    """CRC-32 of texts, going on from that of those before them."""
    return zlib.crc32("".join(f"{text}\n" for text in texts).encode(), before)


def _compare(effects: Effects, expected: Mapping[str, int]) -> None:
    """Refuse arrays that are not what was written.

    Raises:
        ValueError: one is not.
    """
    for name in ("chrom", "id", "ref", "alt", "pos", "ref_pred", "alt_pred"):
        values = getattr(effects, name)
        is_text = values.dtype == object
        received = checksum_of_texts(values) if is_text else zlib.crc32(values.tobytes())
        if received != expected[name]:
            raise ValueError(f"{name!r} is not what was written: its checksum differs")


def _check(effects: Effects) -> None:
    for names, what in ((effects.targets, "target"), (set(effects.chrom), "chromosome")):
        refuse_control(names, effects.path, what)
    if (effects.pos < 0).any():
        raise InputError(f"{effects.path}: 'pos' must not be negative. Score again.")
    for name in ("ref_pred", "alt_pred"):
        probs = getattr(effects, name)
        wrong = ~((probs >= 0) & (probs <= 1)).all(axis=1)
        if wrong.any():
            raise InputError(
                f"{effects.path}: {name!r} must hold probabilities. Received something else in row "
                f"{int(wrong.argmax())}. Score again."
            )
