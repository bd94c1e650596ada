"""Files of variant effects: HDF5, tab-separated text, and VCF with INFO fields.

A row is an alternative allele, in the order of the VCF file; `targets` are the chosen ones, while
`max_abs_diff` and `max_target` (the largest absolute difference and its target) look at all.

- `.h5`: `chrom`, `pos` (1-based), `id`, `ref`, `alt`, `ref_pred`, `alt_pred`, `diff` and `logodds`
  (V, T) float32, `targets` (T,), `max_abs_diff` (V,) float64, `max_target` (V,) and, with a
  background, `evalue` (V, T) float32, NaN where the background has no variant of that kind.
  Attributes say which model, strands and files.
- `.tsv`, `.tsv.gz`: the first five, `max_abs_diff`, `max_target`, then for each target
  `<target>.diff`, `<target>.logodds` and what else was asked for; NA for an E-value that is not.
- `.vcf`, `.vcf.gz`: the input's lines with INFO fields of a value per allele, "." for one that was
  left out; DANQ_DIFF_3 is of target number 3, whose name is in the header.

Left-out alleles are rows of `<OUT>.skipped.tsv`.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote

import h5py
import numpy as np

from danq_keras import __version__
from danq_keras.data.targets import Targets
from danq_keras.system.arrays import Doubles
from danq_keras.system.errors import InputError
from danq_keras.system.hdf5 import reserve_space
from danq_keras.system.signals import signals_deferred
from danq_keras.variants.effects import Probs, difference, log_odds_difference
from danq_keras.variants.reader import FORMAT
from danq_keras.variants.vcf import MISSING, Record, text_output
from danq_keras.variants.windows import Allele, VariantBlock

KINDS = (".h5", ".hdf5", ".tsv", ".tsv.gz", ".vcf", ".vcf.gz")
SKIPPED_COLUMNS = ("chrom", "pos", "ref", "alt", "reason")
_NUMBER = "%.9g"
_INFO_PREFIX = "DANQ_"
_DESCRIPTIONS = {
    "diff": "P(ALT) - P(REF)",
    "logodds": "logit P(ALT) - logit P(REF)",
    "evalue": "share of background variants with a larger effect",
    "ref_pred": "P(REF)",
    "alt_pred": "P(ALT)",
}


@dataclass(frozen=True)
class EffectsHeader:
    """What a file of effects says of itself.

    `targets` all of the network's, `chosen` the numbers of those written; `n_alleles` rows;
    `with_evalues` and `with_probs` (of text files; HDF5 always has them); `attributes` texts about
    model and files, `source` among them: the VCF file.
    """

    targets: Targets
    chosen: tuple[int, ...]
    n_alleles: int
    with_evalues: bool
    with_probs: bool
    attributes: dict[str, str]
    vcf_header: str = ""


@dataclass(frozen=True, eq=False)
class ScoredBlock:
    """A block, `ref` and `alt` (V, T) float32 probabilities, `evalue` (V, T) float64 or None."""

    block: VariantBlock
    ref: Probs
    alt: Probs
    evalue: Doubles | None = None

    def columns(self, header: EffectsHeader) -> dict[str, Doubles]:
        """Name → (V, T) values of the chosen targets."""
        chosen = list(header.chosen)
        ref, alt = self.ref[:, chosen], self.alt[:, chosen]
        columns = {"diff": difference(ref, alt), "logodds": log_odds_difference(ref, alt)}
        if self.evalue is not None:
            columns["evalue"] = self.evalue[:, chosen]
        if header.with_probs:
            columns |= {"ref_pred": ref.astype(np.float64), "alt_pred": alt.astype(np.float64)}
        return columns

    def largest(self) -> tuple[Doubles, list[int]]:
        """The largest absolute difference (V,) over all targets, and its target's number."""
        sizes = np.abs(difference(self.ref, self.alt))
        return sizes.max(axis=1), sizes.argmax(axis=1).tolist()


class EffectsWriter(Protocol):
    """Takes blocks of effects in order."""

    def write(self, scored: ScoredBlock) -> None:
        """Write the next block."""


def output_kind(path: Path) -> str:
    """The ending, one of `KINDS`, that says what is written.

    Raises:
        InputError: another ending.
    """
    for kind in KINDS:
        if path.name.endswith(kind) and path.name != kind:
            return kind
    raise InputError(f"{path}: effects are written as {', '.join(KINDS)}. Choose such an ending.")


def skipped_path(out: Path) -> Path:
    """Where the left-out alleles of an output are listed."""
    return out.with_name(f"{out.name}.skipped.tsv")


@contextlib.contextmanager
def effects_writer(path: Path, kind: str, header: EffectsHeader) -> Iterator[EffectsWriter]:
    """A writer of a new file; `kind` is one of `KINDS`."""
    if kind in (".h5", ".hdf5"):
        with _open_h5(path, header) as file:
            yield _H5Writer(file, header)
        return
    writer = _VcfWriter if kind.startswith(".vcf") else _TsvWriter
    with text_output(path, packed=kind.endswith(".gz")) as text:
        yield writer(text, header)


@contextlib.contextmanager
def skipped_writer(path: Path) -> Iterator[EffectsWriter]:
    """A writer of the list of left-out alleles."""
    with text_output(path, packed=False) as text:
        yield _SkippedWriter(text)


def _line(values: list[str]) -> bytes:
    return ("\t".join(values) + "\n").encode()


class _SkippedWriter:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.write(_line(list(SKIPPED_COLUMNS)))

    def write(self, scored: ScoredBlock) -> None:
        for skipped in scored.block.skipped:
            chrom, pos, _, ref, alt = skipped.allele
            self._file.write(_line([chrom, str(pos), ref, alt, str(skipped)]))


class _TsvWriter:
    def __init__(self, file: BinaryIO, header: EffectsHeader) -> None:
        self._file, self._header = file, header
        names = ["diff", "logodds"]
        names += ["evalue"] * header.with_evalues + ["ref_pred", "alt_pred"] * header.with_probs
        chosen = [header.targets.names[i] for i in header.chosen]
        numbers = [f"{target}.{name}" for target in chosen for name in names]
        file.write(_line([*Allele._fields, "max_abs_diff", "max_target", *numbers]))
        self._format = "".join(f"\t{_NUMBER}" for _ in numbers)

    def write(self, scored: ScoredBlock) -> None:
        sizes, numbers = scored.largest()
        # Target by target, each with all its columns.
        values = np.stack(list(scored.columns(self._header).values()), axis=2)
        values = values.reshape(len(values), values.shape[1] * values.shape[2])
        for allele, size, number, row in zip(
            scored.block.alleles, sizes, numbers, values.tolist(), strict=True
        ):
            texts = [str(value) for value in allele]
            name = self._header.targets.names[number]
            text = (self._format % tuple(row)).replace("nan", "NA")
            line = "\t".join([*texts, _NUMBER % size, name]) + text + "\n"
            self._file.write(line.encode())


class _VcfWriter:
    def __init__(self, file: BinaryIO, header: EffectsHeader) -> None:
        self._file, self._header = file, header
        *lines, columns = header.vcf_header.splitlines(keepends=True)
        if any(line.startswith(f"##INFO=<ID={_INFO_PREFIX}") for line in lines):
            raise InputError(
                f"{header.attributes['source']}: it has {_INFO_PREFIX} fields of an earlier "
                "scoring. Give the VCF file without them."
            )
        file.write("".join([*lines, *self._definitions(), columns]).encode())

    def _definitions(self) -> Iterator[str]:
        definition = f'##INFO=<ID={_INFO_PREFIX}%s,Number=A,Type=%s,Description="%s">\n'
        yield definition % ("MAX_ABS_DIFF", "Float", "largest |P(ALT) - P(REF)| of all targets")
        yield definition % ("MAX_TARGET", "String", "target of the largest difference")
        names = ["diff", "logodds", *["evalue"] * self._header.with_evalues]
        names += ["ref_pred", "alt_pred"] * self._header.with_probs
        for number in self._header.chosen:
            target = self._header.targets.names[number].replace("\\", "\\\\").replace('"', '\\"')
            for name in names:
                described = f"{_DESCRIPTIONS[name]}, {target}"
                yield definition % (f"{name.upper()}_{number}", "Float", described)

    def write(self, scored: ScoredBlock) -> None:
        fields = self._fields(scored)
        for record, indices in scored.block.records:
            self._file.write((_with_info(record, indices, fields) + "\n").encode())

    def _fields(self, scored: ScoredBlock) -> dict[str, list[str]]:
        """INFO key → text of each allele."""
        sizes, numbers = scored.largest()
        names = [quote(self._header.targets.names[i], safe="|#()+-./") for i in numbers]
        fields = {"MAX_ABS_DIFF": [_NUMBER % size for size in sizes], "MAX_TARGET": names}
        columns = scored.columns(self._header)
        for place, number in enumerate(self._header.chosen):
            for name, values in columns.items():
                column = values[:, place].tolist()
                fields[f"{name.upper()}_{number}"] = [
                    MISSING if value != value else _NUMBER % value for value in column
                ]
        return fields


def _with_info(
    record: Record, indices: tuple[int | None, ...], fields: dict[str, list[str]]
) -> str:
    """A record's line with the fields of those of its alleles that were scored."""
    if all(index is None for index in indices):
        return record.line
    columns = record.line.split("\t")
    added = [
        f"{_INFO_PREFIX}{key}="
        + ",".join(MISSING if index is None else texts[index] for index in indices)
        for key, texts in fields.items()
    ]
    columns[7] = ";".join([*([] if columns[7] == MISSING else [columns[7]]), *added])
    return "\t".join(columns)


@contextlib.contextmanager
def _open_h5(path: Path, header: EffectsHeader) -> Iterator[h5py.File]:
    """A file with everything but its rows, whose space is taken already."""
    path.touch(exist_ok=False)  # says why, where h5py would only say no
    file = h5py.File(path, "w", libver=("v110", "v110"))
    try:
        with signals_deferred():
            _create(file, header)
        yield file
        size = file.id.get_filesize()
        file.close()
        os.truncate(path, size)  # gives back what was reserved for metadata
    except BaseException:
        with contextlib.suppress(OSError, RuntimeError):  # the first error is the one to show
            file.close()
        raise


def _create(file: h5py.File, header: EffectsHeader) -> None:
    text = h5py.string_dtype("utf-8")
    n, shape = header.n_alleles, (header.n_alleles, len(header.chosen))
    for name in ("chrom", "id", "ref", "alt", "max_target"):
        file.create_dataset(name, (n,), text)
    file.create_dataset("pos", (n,), np.int64)
    file.create_dataset("max_abs_diff", (n,), np.float64)
    names = ["ref_pred", "alt_pred", "diff", "logodds", *["evalue"] * header.with_evalues]
    wide = [file.create_dataset(name, shape, np.float32) for name in names]
    chosen = np.array([header.targets.names[i] for i in header.chosen], object)
    file.create_dataset("targets", data=chosen, dtype=text)
    file.attrs.update({"format": FORMAT, "package_version": __version__, **header.attributes})
    reserve_space(file, sum(dataset.nbytes for dataset in wide))


class _H5Writer:
    def __init__(self, file: h5py.File, header: EffectsHeader) -> None:
        self._file, self._header = file, dataclasses.replace(header, with_probs=True)
        self._n_written = 0

    def write(self, scored: ScoredBlock) -> None:
        alleles = scored.block.alleles
        if not alleles:
            return
        sizes, numbers = scored.largest()
        values: dict[str, Any] = {
            name: list(column)
            for name, column in zip(Allele._fields, zip(*alleles, strict=True), strict=True)
        }
        values["max_abs_diff"] = sizes
        values["max_target"] = [self._header.targets.names[i] for i in numbers]
        values |= scored.columns(self._header)
        rows = slice(self._n_written, self._n_written + len(alleles))
        with signals_deferred():
            for name, column in values.items():
                self._file[name][rows] = column
        self._n_written = rows.stop
