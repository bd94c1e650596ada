"""What an explanation leaves on disk: a table, arrays, and the files that TF-MoDISco reads.

Channels are A,G,C,T in the HDF5 file and A,C,G,T, in columns with their names, elsewhere.
Positions in tables are 1-based, in HDF5 0-based.

Source: TF-MoDISco-lite's README: `modisco motifs -s onehot.npz -a <contributions>.npz`, arrays
(N, 4, L) with the sequence last, of which the second are *hypothetical* contributions, one for
each base at each position.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.genome.dna import ALPHABET, Bytes, decode, onehot_from_codes
from danq_keras.interpret.methods import METHODS, SUMMED, shown
from danq_keras.system.arrays import Floats
from danq_keras.system.hdf5 import reserve_space

BASES = "ACGT"
TO_FILE = [ALPHABET.index(base) for base in BASES]
SUMMARY = "explanation.json"


@dataclass(frozen=True)
class Locus:
    """A window and the part of it that is explained; 0-based, half-open.

    `chrom`, `start`: where the window begins; `begin`, `end`: the part, in the window.
    """

    chrom: str
    start: int
    begin: int
    end: int

    def __str__(self) -> str:
        """The explained part, 1-based and inclusive."""
        return f"{self.chrom}:{self.start + self.begin + 1}-{self.start + self.end}"


def table_rows(
    locus: Locus, target: str, codes: Bytes, values: Mapping[str, Floats]
) -> pd.DataFrame:
    """A row for each base of a locus: what every change of it does, and what it contributes.

    Args:
        locus: window and part that the rows describe.
        target: name of the target.
        codes: (W,) uint8 base codes of the part.
        values: (W, 4) float32 of each method, under its name.
    """
    first = locus.start + locus.begin + 1
    columns: dict[str, Any] = {
        "target": target,
        "chrom": locus.chrom,
        "position": np.arange(first, first + len(codes)),
        "base": list(decode(codes)),
    }
    for name, each in values.items():
        if name == "effects":
            columns |= {f"to_{base}": each[:, i] for base, i in zip(BASES, TO_FILE, strict=True)}
        columns[METHODS[name].column] = shown(name, each, codes)
    return pd.DataFrame(columns)


def create_arrays(
    file: h5py.File, loci: Sequence[Locus], targets: Sequence[str], values: Sequence[str]
) -> None:
    """The datasets of `contributions.h5`, those of the values still empty.

    `codes` (N, W) uint8, `scores` (N, T), a method's values (N, T, W, 4) float32, channels A,G,C,T,
    with `<method>_error` (N, T) where their sum is known; `chrom`, `start`, `end` (N,) of the
    explained parts; `targets`.

    Args:
        file: new, empty HDF5 file, open for writing.
        loci: N of them, their parts of one length W.
        targets: names of the T targets.
        values: names of methods.

    Raises:
        OSError: the disk has not that much space.
    """
    n, width, text = len(loci), loci[0].end - loci[0].begin, h5py.string_dtype("utf-8")
    file.create_dataset("targets", data=np.array(targets, object), dtype=text)
    chroms = np.array([locus.chrom for locus in loci], object)
    file.create_dataset("chrom", data=chroms, dtype=text)
    file["start"] = np.array([locus.start + locus.begin for locus in loci], np.int64)
    file["end"] = np.array([locus.start + locus.end for locus in loci], np.int64)
    file.attrs["channels"] = ALPHABET
    empty = [file.create_dataset("codes", (n, width), np.uint8)]
    empty.append(file.create_dataset("scores", (n, len(targets)), np.float32))
    shape = (n, len(targets), width, 4)
    for name in values:
        empty.append(file.create_dataset(name, shape, np.float32))
        if name in SUMMED:
            empty.append(file.create_dataset(f"{name}_error", shape[:2], np.float32))
    reserve_space(file, sum(dataset.nbytes for dataset in empty))


def write_onehot(path: Path, codes: Bytes) -> None:
    """One-hot windows as TF-MoDISco reads them.

    Args:
        path: .npz file; `arr_0` (N, 4, W) float32, A,C,G,T.
        codes: (N, W) uint8 base codes.
    """
    _write_npz(path, onehot_from_codes(codes))


def write_contributions(path: Path, values: Floats) -> None:
    """Hypothetical contributions as TF-MoDISco reads them.

    Args:
        path: .npz file; `arr_0` (N, 4, W) float32, A,C,G,T.
        values: (N, W, 4), A,G,C,T.
    """
    _write_npz(path, values)


def _write_npz(path: Path, values: npt.NDArray[Any]) -> None:
    ordered = values[..., TO_FILE].transpose(0, 2, 1)
    np.savez_compressed(path, np.ascontiguousarray(ordered, np.float32))


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """What a report shows of an explanation: `title`, `pictures` [{`file`, `caption`}], notes."""
    text = json.dumps(dict(summary), indent=2) + "\n"
    (folder / SUMMARY).write_text(text, encoding="utf-8")
