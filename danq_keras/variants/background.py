"""E-values: how rare a variant's effect is among those of a background set of variants.

E = (k + 1) / (n + 1), where k of the n background variants of the same kind have a larger effect on
that target; SNVs are compared with SNVs, all other alleles with all others.

A background keeps no effects but their counts, a target a row, in bins whose width is 1/512 of an
effect (the first bits of a float32: sign, exponent, 9 bits of mantissa). Two effects in one bin
count as equal. So it needs 94 kB a target and kind, whatever n is: 87 MB for DeepSEA's 919 targets,
where a million sorted float16 values each would be 1.8 GB; and an E-value is one look-up.

Source: Zhou & Troyanskaya 2015, doi 10.1038/nmeth.3547, E-values from 1000 Genomes variants.
"""

import dataclasses
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

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
from danq_keras.variants.effects import EFFECTS, Probs, effect_size

FORMAT = "danq_keras background"
FORMAT_VERSION = 1
KINDS = ("snv", "other")
SUFFIXES = (".h5", ".hdf5")

Counts: TypeAlias = npt.NDArray[np.uint32]
Flags: TypeAlias = npt.NDArray[np.bool_]

_MANTISSA_BITS = 9
_SHIFT = 23 - _MANTISSA_BITS  # float32 has 23
_LOWEST = int(np.float32(2.0**-40).view(np.uint32)) >> _SHIFT  # below: as good as no effect
_HIGHEST = int(np.float32(64.0).view(np.uint32)) >> _SHIFT  # |log-odds difference| ends at 32.3
N_BINS = _HIGHEST - _LOWEST + 1


def effect_bins(effects: Doubles) -> npt.NDArray[np.int64]:
    """The bin, 0 to N_BINS − 1, of each effect, zero or more; ascending with the effect."""
    bits = effects.astype(np.float32).view(np.uint32) >> _SHIFT
    return np.clip(bits.astype(np.int64) - _LOWEST + 1, 0, N_BINS - 1)


@dataclass(frozen=True)
class Origin:
    """What a background was made with, and what is compared with it must be too.

    `effect` is one of `effects.EFFECTS`; `model` the network's fingerprint; `targets` (T,) names;
    `strands` which strands were predicted; `source` the VCF file.
    """

    effect: str
    model: str
    targets: tuple[str, ...]
    strands: str
    source: str

    def __post_init__(self) -> None:
        if self.effect not in EFFECTS:
            raise InputError(
                f"`effect`: one of {', '.join(EFFECTS)}. Received: {self.effect!r}. Choose one."
            )


@dataclass(eq=False)
class Background:
    """Counts of a background's effects, which grow with `add`.

    `n` (by kind) variants; `counts` (by kind) (T, N_BINS) uint32, missing where there are none.
    """

    origin: Origin
    n: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    counts: dict[str, Counts] = field(default_factory=dict)
    _above: dict[str, Counts] = field(default_factory=dict)

    def add(self, ref: Probs, alt: Probs, is_snv: Flags) -> None:
        """Count more variants.

        Args:
            ref: (V, T) probabilities of the reference windows.
            alt: (V, T) probabilities of the alternative windows.
            is_snv: (V,) whether one base takes the place of one.
        """
        bins = effect_bins(effect_size(self.origin.effect, ref, alt))
        n_targets = len(self.origin.targets)
        for kind, rows in _by_kind(is_snv):
            if not rows.any():
                continue
            counts = self.counts.setdefault(kind, np.zeros((n_targets, N_BINS), np.uint32))
            flat = bins[rows] + np.arange(n_targets) * N_BINS
            np.add.at(counts.reshape(-1), flat.reshape(-1), np.uint32(1))
            self.n[kind] += int(rows.sum())
        self._above.clear()

    def evalues(self, ref: Probs, alt: Probs, is_snv: Flags) -> Doubles:
        """E-values (V, T), NaN where the background has no variant of that kind.

        Args:
            ref: (V, T) probabilities of the reference windows.
            alt: (V, T) probabilities of the alternative windows.
            is_snv: (V,) whether one base takes the place of one.
        """
        bins = effect_bins(effect_size(self.origin.effect, ref, alt))
        result = np.full(bins.shape, np.nan)
        for kind, rows in _by_kind(is_snv):
            if kind in self.counts:
                above = self._counted_above(kind)
                larger = above[np.arange(above.shape[0]), bins[rows]]
                result[rows] = (larger + 1.0) / (self.n[kind] + 1.0)
        return result

    def _counted_above(self, kind: str) -> Counts:
        """How many variants lie in higher bins, (T, N_BINS)."""
        if kind not in self._above:
            downwards = np.cumsum(self.counts[kind][:, ::-1], axis=1, dtype=np.uint32)
            self._above[kind] = downwards[:, ::-1] - self.counts[kind]
        return self._above[kind]

    def check(self, origin: Origin, path: Path) -> None:
        """Refuse effects that cannot be compared with these.

        Args:
            origin: what the effects are made with; its `source` does not matter.
            path: of this background, for the message.

        Raises:
            InputError: another model, other targets, strands or effect.
        """
        words = {
            "targets": "for other targets",
            "model": "with another model",
            "strands": "with other strands",
            "effect": "of another effect",
        }
        for name, difference in words.items():
            here, there = getattr(self.origin, name), getattr(origin, name)
            if here != there:
                shown = f": {here}, not {there}" if name in ("strands", "effect") else ""
                raise InputError(
                    f"{path}: this background was made {difference}{shown}. Make one for this "
                    "model with `save_background`, or use the model and options that it is of."
                )


def _by_kind(is_snv: Flags) -> tuple[tuple[str, Flags], ...]:
    return tuple(zip(KINDS, (is_snv, ~is_snv), strict=True))


def write_background(path: Path, background: Background, *, overwrite: bool = False) -> None:
    """Write a background as HDF5.

    Raises:
        InputError: `path` exists.
    """
    with atomic_output(path, overwrite=overwrite) as temporary:
        content = io.BytesIO()  # a disk that fills up in the middle of HDF5's own writing harms it
        with h5py.File(content, "w") as file:
            origin = dataclasses.asdict(background.origin)
            names = np.array(origin.pop("targets"), object)
            file.create_dataset("targets", data=names, dtype=h5py.string_dtype("utf-8"))
            file.attrs.update(origin)
            file.attrs.update(
                {
                    "format": FORMAT,
                    "format_version": FORMAT_VERSION,
                    "package_version": __version__,
                    "mantissa_bits": _MANTISSA_BITS,
                    **{f"n_{kind}": n for kind, n in background.n.items()},
                }
            )
            for kind, counts in background.counts.items():
                options = {"chunks": (1, N_BINS), "compression": "gzip", "shuffle": True}
                file.create_dataset(f"counts_{kind}", data=counts, **options)
        temporary.write_bytes(content.getvalue())


def is_background(path: Path) -> bool:
    """Whether a file is meant to be a saved background, by its name or its content, not a VCF."""
    return path.suffix in SUFFIXES or (path.is_file() and bool(h5py.is_hdf5(path)))


def read_background(path: Path) -> Background:
    """Read a background.

    Raises:
        InputError: not a background, damaged, or of another format version.
    """
    advice = "Make it again with `save_background`."
    if not path.is_file():
        raise InputError(f"{path}: no such file. Check `background`.")
    with open_hdf5(path, "background", advice) as file:
        if file.attrs.get("format") != FORMAT:
            raise InputError(
                f"{path}: neither a VCF file nor a background of score_variants.py "
                "`save_background`. Check `background`."
            )
        version = attribute(file, "format_version", "number")
        if version != FORMAT_VERSION:
            raise InputError(
                f"{path}: background format version {version}, this package reads version "
                f"{FORMAT_VERSION}. Make it again."
            )
        targets = read_texts(file, "targets")
        names = ("effect", "model", "strands", "source")
        words = {name: attribute(file, name, "text") for name in names}
        if words["effect"] not in EFFECTS:
            raise ValueError(f"'effect' is none of {', '.join(EFFECTS)}")
        origin = Origin(targets=targets, **words)
        n = {kind: attribute(file, f"n_{kind}", "number") for kind in KINDS}
        counts: dict[str, Counts] = {}
        for kind in KINDS:
            if n[kind] or f"counts_{kind}" in file:
                shape = (len(targets), N_BINS)
                counts[kind] = read_array(file, f"counts_{kind}", kinds="u", shape=shape)
                _check_counts(counts[kind], n[kind], kind)
    return Background(origin, n, counts)


def _check_counts(counts: Counts, n: int, kind: str) -> None:
    """Every target has a count for every variant."""
    totals = counts.sum(axis=1, dtype=np.int64)
    if (totals != n).any():
        target = int((totals != n).argmax())
        raise ValueError(
            f"target {target} has {int(totals[target]):,} effects of kind {kind}, not {n:,}"
        )
