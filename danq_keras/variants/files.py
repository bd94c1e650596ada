"""What files of variant effects hold: HDF5, tab-separated text, and VCF with INFO fields.

A row is an alternative allele, in the order of the VCF file; `targets` are the chosen ones, while
`max_abs_diff` and `max_target` (the largest absolute difference and its target) look at all.

- `.h5`: `chrom`, `pos` (1-based), `id`, `ref`, `alt`, `ref_pred`, `alt_pred`, `diff` and `logodds`
  (V, T) float32, `targets` (T,), `max_abs_diff` (V,) float64, `max_target` (V,) and, with a
  background, `evalue` (V, T) float32, NaN where the background has no variant of that kind.
  Attributes say which model, strands and files.
- `.tsv`, `.tsv.gz`: the first five, `max_abs_diff`, `max_target`, then for each target
  `<target>.diff`, `<target>.logodds` and what else was asked for; NA for an E-value that is not.
  Short forms: `top_up` and `top_down`, the targets that gain and lose most with their differences,
  and for all targets of one assay (or cell type, …) together `<assay>.diff`, that of their largest.
- `.vcf`, `.vcf.gz`: the input's lines, byte for byte, with INFO fields of a value per allele at the
  end of INFO, "." for an allele that was left out. DANQ_DIFF_<target> has the target's name as far
  as a key may hold it (see `info_keys`); the header has it in full.

Left-out alleles are rows of `<OUT>.skipped.tsv`. The files are written by `growing`.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import h5py
import numpy as np
import numpy.typing as npt

from danq_keras import __version__
from danq_keras.data.targets import Targets
from danq_keras.system.arrays import Doubles
from danq_keras.system.errors import InputError
from danq_keras.system.hdf5 import reserve_space
from danq_keras.system.inputs import BYTE_ORDER_MARK
from danq_keras.variants.effects import Probs, difference, log_odds_difference
from danq_keras.variants.reader import FORMAT
from danq_keras.variants.vcf import MISSING
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
    model and files, `source` among them: the VCF file. `vcf_header` and `vcf_tail` are its lines
    before and after the records; `n_letters` those of the texts of all rows.
    """

    targets: Targets
    chosen: tuple[int, ...]
    n_alleles: int
    with_evalues: bool
    with_probs: bool
    attributes: dict[str, str]
    vcf_header: bytes = b""
    vcf_tail: bytes = b""
    n_letters: int = 0
    short: "ShortForm | None" = None


@dataclass(frozen=True)
class ShortForm:
    """A table for people instead of all targets: how many of the `top`, one column `by` kind.

    `by` is one of `TARGET_COLUMNS`, such as "assay", or None.
    """

    top: int = 0
    by: str | None = None

    def kinds(self, targets: Targets) -> dict[str, list[int]]:
        """What `by` tells apart → numbers of its targets, in order; those without are left out.

        Raises:
            InputError: the targets say nothing of it.
        """
        found: dict[str, list[int]] = {}
        for number, text in enumerate(targets.column(self.by) if self.by else ()):
            if text:
                found.setdefault(text, []).append(number)
        if self.by and not found:
            raise InputError(
                f"`by`: the model's targets have no {self.by}. Leave it out, or give the dataset a "
                "table of targets."
            )
        return found


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


class Rows(Protocol):
    """Effects as the lines of a text file."""

    def head(self) -> bytes:
        """What is before the first row."""

    def lines(self, scored: ScoredBlock) -> bytes:
        """The lines of a block."""

    def tail(self) -> bytes:
        """What is after the last row."""


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


def _quoted(name: str) -> str:
    """A target's name among others, without semicolons, colons, commas and equal signs."""
    return quote(name, safe="|#()+-./")


def _line(values: Sequence[str]) -> bytes:
    return ("\t".join(values) + "\n").encode()


class SkippedRows:
    """The list of left-out alleles."""

    def head(self) -> bytes:
        """The names of the columns."""
        return _line(SKIPPED_COLUMNS)

    def lines(self, scored: ScoredBlock) -> bytes:
        """The left-out alleles of a block, each with its reason."""
        rows = []
        for skipped in scored.block.skipped:
            chrom, pos, _, ref, alt = skipped.allele
            rows.append(_line([chrom, str(pos), ref, alt, str(skipped)]))
        return b"".join(rows)

    def tail(self) -> bytes:
        """Nothing."""
        return b""


class TableRows:
    """A table of alleles and the differences of the chosen targets."""

    def __init__(self, header: EffectsHeader) -> None:
        self._header = header
        names = ["diff", "logodds"]
        names += ["evalue"] * header.with_evalues + ["ref_pred", "alt_pred"] * header.with_probs
        chosen = [header.targets.names[i] for i in header.chosen]
        self._numbers = [f"{target}.{name}" for target in chosen for name in names]
        self._format = "".join(f"\t{_NUMBER}" for _ in self._numbers)
        self._short = header.short or ShortForm()
        self._kinds = self._short.kinds(header.targets)

    def head(self) -> bytes:
        """The names of the columns."""
        short = ["top_up", "top_down"] * bool(self._short.top)
        short += [f"{kind}.diff" for kind in self._kinds]
        return _line([*Allele._fields, "max_abs_diff", "max_target", *short, *self._numbers])

    def lines(self, scored: ScoredBlock) -> bytes:
        """A row an allele."""
        sizes, numbers = scored.largest()
        # Target by target, each with all its columns.
        values = np.stack(list(scored.columns(self._header).values()), axis=2)
        values = values.reshape(len(values), values.shape[1] * values.shape[2])
        short: list[list[str]] = [[] for _ in scored.block.alleles]
        if self._header.short is not None:
            self._add_short(short, difference(scored.ref, scored.alt))
        rows = []
        for allele, size, number, row, more in zip(
            scored.block.alleles, sizes, numbers, values.tolist(), short, strict=True
        ):
            texts = [str(value) for value in allele]
            name = self._header.targets.names[number]
            text = (self._format % tuple(row)).replace("nan", "NA")
            rows.append("\t".join([*texts, _NUMBER % size, name, *more]) + text + "\n")
        return "".join(rows).encode()

    def _add_short(self, rows: list[list[str]], diff: Doubles) -> None:
        """Add each allele's targets of the largest differences (V, T), and those of kinds."""
        if self._short.top:
            order = np.argsort(-diff, axis=1, kind="stable")
            for row, numbers, values in zip(rows, order, diff, strict=True):
                ups = numbers[: self._short.top]
                downs = numbers[::-1][: self._short.top]
                row.append(self._named(ups[values[ups] > 0], values))
                row.append(self._named(downs[values[downs] < 0], values))
        for numbers_of_kind in self._kinds.values():
            part = diff[:, numbers_of_kind]
            largest = np.take_along_axis(part, np.abs(part).argmax(axis=1)[:, None], axis=1)
            for row, value in zip(rows, largest[:, 0].tolist(), strict=True):
                row.append(_NUMBER % value)

    def _named(self, numbers: npt.NDArray[np.int64], values: Doubles) -> str:
        """`target:difference` of some targets, between semicolons; NA for none."""
        names = self._header.targets.names
        texts = [f"{_quoted(names[i])}:{values[i]:+.4g}" for i in numbers.tolist()]
        return ";".join(texts) or "NA"

    def tail(self) -> bytes:
        """Nothing."""
        return b""


def info_keys(names: Sequence[str]) -> list[str]:
    """What stands for targets in the keys of INFO fields, where all are different.

    A key may hold letters, digits, dots and underscores: anything else becomes an underscore. A
    name that is not alone with what is left of it gets the target's number behind it.

    Args:
        names: of all targets, so that a key does not depend on which of them are chosen.

    Source: the VCF specification 4.3, 1.6.1, for what a key may hold.
    """
    plain = [re.sub(r"[^0-9A-Za-z_.]+", "_", name).strip("_") for name in names]
    keys = [name or str(number) for number, name in enumerate(plain)]
    while repeated := {key for key, n in Counter(keys).items() if n > 1}:
        keys = [f"{key}_{i}" if key in repeated else key for i, key in enumerate(keys)]
    return keys


class VcfRows:
    """The lines of a VCF file with INFO fields added.

    Raises:
        InputError: the file has such fields of an earlier scoring.
    """

    def __init__(self, header: EffectsHeader) -> None:
        self._header = header
        self._keys = info_keys(header.targets.names)
        if b"\n##INFO=<ID=" + _INFO_PREFIX.encode() in header.vcf_header:
            raise self._scored_before()

    def _scored_before(self) -> InputError:
        return InputError(
            f"{self._header.attributes['source']}: it has {_INFO_PREFIX} fields of an earlier "
            "scoring. Give the VCF file without them."
        )

    def head(self) -> bytes:
        """The header, with the definitions of the fields before its last line, #CHROM."""
        header = self._header.vcf_header
        last = header.rstrip(b"\r\n").rfind(b"\n") + 1
        if not last and header.startswith(BYTE_ORDER_MARK):
            last = len(BYTE_ORDER_MARK)
        end = "\r\n" if header.endswith(b"\r\n") else "\n"
        added = "".join(line + end for line in self._definitions())
        return header[:last] + added.encode() + header[last:]

    def _definitions(self) -> Iterator[str]:
        definition = f'##INFO=<ID={_INFO_PREFIX}%s,Number=A,Type=%s,Description="%s">'
        yield definition % ("MAX_ABS_DIFF", "Float", "largest |P(ALT) - P(REF)| of all targets")
        yield definition % ("MAX_TARGET", "String", "target of the largest difference")
        names = ["diff", "logodds", *["evalue"] * self._header.with_evalues]
        names += ["ref_pred", "alt_pred"] * self._header.with_probs
        for number in self._header.chosen:
            target = self._header.targets.names[number].replace("\\", "\\\\").replace('"', '\\"')
            for name in names:
                described = f"{_DESCRIPTIONS[name]}, target {number}: {target}"
                yield definition % (f"{name.upper()}_{self._keys[number]}", "Float", described)

    def lines(self, scored: ScoredBlock) -> bytes:
        """The lines of a block's records, and what was between them."""
        fields = self._fields(scored)
        parts = []
        for record, indices in scored.block.records:
            if all(index is None for index in indices):
                parts.append(record.line)
                continue
            added = ";".join(
                f"{key}=" + ",".join(MISSING if i is None else texts[i] for i in indices)
                for key, texts in fields.items()
            )
            parts.append(self._with_info(record.line, added.encode()))
        return b"".join(parts)

    def tail(self) -> bytes:
        """The lines after the last record."""
        return self._header.vcf_tail

    def _fields(self, scored: ScoredBlock) -> dict[str, list[str]]:
        """INFO key → text of each allele."""
        sizes, numbers = scored.largest()
        names = [_quoted(self._header.targets.names[i]) for i in numbers]
        fields = {
            f"{_INFO_PREFIX}MAX_ABS_DIFF": [_NUMBER % size for size in sizes],
            f"{_INFO_PREFIX}MAX_TARGET": names,
        }
        columns = scored.columns(self._header)
        for place, number in enumerate(self._header.chosen):
            for name, values in columns.items():
                column = values[:, place].tolist()
                fields[f"{_INFO_PREFIX}{name.upper()}_{self._keys[number]}"] = [
                    MISSING if value != value else _NUMBER % value for value in column
                ]
        return fields

    def _with_info(self, line: bytes, added: bytes) -> bytes:
        """A record's line (its last; there may be comments before it) with more in INFO."""
        body = line.rstrip(b"\r\n")
        begin = body.rfind(b"\n") + 1
        columns = body[begin:].split(b"\t", 8)
        columns += [b"."] * (8 - len(columns))
        info = columns[7]
        if info.startswith(_INFO_PREFIX.encode()) or b";" + _INFO_PREFIX.encode() in info:
            raise self._scored_before()
        if info in (b".", b""):
            columns[7] = added
        else:
            columns[7] = info + (added if info.endswith(b";") else b";" + added)
        return line[:begin] + b"\t".join(columns) + line[len(body) :]


NUMERIC = ("pos", "max_abs_diff", "ref_pred", "alt_pred", "diff", "logodds", "evalue")
TEXTS = ("chrom", "id", "ref", "alt", "max_target")


def create_h5(file: h5py.File, header: EffectsHeader) -> None:
    """All datasets of an HDF5 file of effects, their rows still empty, and its attributes.

    Raises:
        OSError: the disk has not the space of the rows.
    """
    reserve_h5(file, header)
    text = h5py.string_dtype("utf-8")
    n, shape = header.n_alleles, (header.n_alleles, len(header.chosen))
    at_once = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    at_once.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # so that no later stop moves anything
    for name in TEXTS:
        file.create_dataset(name, (n,), text, dcpl=at_once.copy())
    file.create_dataset("pos", (n,), np.int64, dcpl=at_once.copy())
    file.create_dataset("max_abs_diff", (n,), np.float64, dcpl=at_once.copy())
    for name in _wide(header):
        file.create_dataset(name, shape, np.float32, dcpl=at_once.copy())
    chosen = np.array([header.targets.names[i] for i in header.chosen], object)
    file.create_dataset("targets", data=chosen, dtype=text)
    file.attrs.update({"format": FORMAT, "package_version": __version__, **header.attributes})


def _wide(header: EffectsHeader) -> tuple[str, ...]:
    return ("ref_pred", "alt_pred", "diff", "logodds", *["evalue"] * header.with_evalues)


def reserve_h5(file: h5py.File, header: EffectsHeader) -> None:
    """Take the space of all rows, numbers and texts, before hours are spent on them."""
    numbers = header.n_alleles * (8 + 8 + 4 * len(header.chosen) * len(_wide(header)))
    longest = max(map(len, header.targets.names), default=0)
    # HDF5 keeps 16 bytes in a text's row, and 16 before the text, whose length becomes a multiple
    # of 8; up to a third is left free at the ends of its blocks of 4096 bytes.
    texts = header.n_letters + header.n_alleles * (len(TEXTS) * (16 + 16 + 8) + 4 * longest)
    reserve_space(file, numbers + texts + texts // 3)


def h5_rows(scored: ScoredBlock, header: EffectsHeader) -> Mapping[str, Any]:
    """Dataset → the rows of a block, of all datasets that hold numbers."""
    columns: dict[str, Any] = scored.columns(header)
    columns["pos"] = np.array([allele.pos for allele in scored.block.alleles], np.int64)
    columns["max_abs_diff"] = scored.largest()[0]
    return columns
