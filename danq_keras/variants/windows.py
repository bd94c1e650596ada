"""Variants: records of a VCF file → reference and alternative windows of a genome.

A window has L bases, packed as in `dna`; POS, the first base of REF, stands at index (L − 1) // 2
(499 of 1000, 50 of 101). The alternative window has ALT in place of REF and is cut, or filled from
the genome, on its right, so that everything left of the variant stays where it is. What cannot be
scored is given back with its reason, allele by allele. Nothing here knows networks.

Source: DeepSEA's example: the four variants of its `example.h5` stand at index 499.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from danq_keras.genome.bed import rename_chrom
from danq_keras.genome.dna import BASES_OF_LETTER, UNKNOWN, Bytes, decode, encode, pack_codes
from danq_keras.genome.fasta import Genome, Positions
from danq_keras.system.terminal import progress
from danq_keras.variants.vcf import MISSING, Record

_LETTERS = re.compile("[ACGTacgt]+")
_SHOWN = 20  # letters of a long allele in a message
_RECORDS_PER_WINDOW = 16  # of a block, when hardly any record can be scored


class Reason(StrEnum):
    """Why an allele is left out."""

    CHROMOSOME = "chromosome not in the genome"
    NO_ALTERNATIVE = "no alternative allele"
    SYMBOLIC = "symbolic allele or breakend"
    SPANNING = "allele missing because of an upstream deletion (*)"
    LETTERS = "allele with other letters than A, C, G, T"
    LONG = "allele longer than the window"
    END = "window reaches past a chromosome end"
    MISMATCH = "REF differs from the genome"


class Allele(NamedTuple):
    """One alternative allele of a record, as the file has it; `pos` is 1-based."""

    chrom: str
    pos: int
    id: str
    ref: str
    alt: str

    @property
    def is_snv(self) -> bool:
        """Whether one base takes the place of one."""
        return len(self.ref) == len(self.alt) == 1


class SkippedAllele(NamedTuple):
    """An allele that is not scored; `detail` says what was expected and found, where that helps."""

    allele: Allele
    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        """The reason with its detail."""
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)


@dataclass(frozen=True, eq=False)
class VariantBlock:
    """Successive records with the windows of their alleles.

    `packed` (n, ceil(L/2)) uint8; `alleles` (V,) are scored, with rows `ref_row` and `alt_row`
    (V,) int64 of `packed`; `skipped` are not; `records` holds each record with, for each of its
    alternative alleles, its index among `alleles` or None.
    """

    packed: Bytes
    alleles: tuple[Allele, ...]
    ref_row: Positions
    alt_row: Positions
    skipped: tuple[SkippedAllele, ...]
    records: tuple[tuple[Record, tuple[int | None, ...]], ...]

    @property
    def is_snv(self) -> npt.NDArray[np.bool_]:
        """(V,) whether one base takes the place of one."""
        return np.array([allele.is_snv for allele in self.alleles], bool)


@dataclass
class Survey:
    """What a file holds: `n_records`, `n_alleles` to be scored, and `n_skipped` by reason.

    `n_cut` alleles reach past the right end of the window, so that only a part of them is in it;
    `first_mismatch` is the first allele whose REF differs from the genome; `first_unsorted` the
    place of the first record that is not in order of position; `n_repeated` alleles stood in an
    earlier record at the same place, next to it; `n_letters` are those of the texts of all alleles
    to be scored; `unknown_chroms` are the chromosomes that the genome has not, in order.
    """

    n_records: int = 0
    n_alleles: int = 0
    n_cut: int = 0
    n_repeated: int = 0
    n_letters: int = 0
    n_skipped: Counter[Reason] = field(default_factory=Counter)
    first_mismatch: SkippedAllele | None = None
    first_unsorted: str = ""
    unknown_chroms: dict[str, None] = field(default_factory=dict)
    _last: tuple[str, int] = ("", -1)
    _here: set[tuple[str, str]] = field(default_factory=set)
    _chroms: set[str] = field(default_factory=set)

    @property
    def is_of_another_genome(self) -> bool:
        """Whether more REFs differ from the genome than agree."""
        return self.n_skipped[Reason.MISMATCH] > self.n_alleles

    def place(self, record: Record) -> None:
        """Count a record, and note whether it stands in order."""
        self.n_records += 1
        (chrom, pos), self._last = self._last, (record.chrom, record.pos)
        if self._last != (chrom, pos):
            self._here = set()
        in_order = record.pos >= pos if record.chrom == chrom else record.chrom not in self._chroms
        self._chroms.add(record.chrom)
        if not in_order and not self.first_unsorted:
            self.first_unsorted = f"{record.chrom}:{record.pos}"

    def count(self, allele: Allele, skipped: SkippedAllele | None, *, is_cut: bool) -> None:
        """Count an allele that `WindowCutter.judge` has judged."""
        if skipped is None:
            self.n_alleles += 1
            chrom, _, name, ref, alt = allele
            self.n_letters += len(chrom) + len(name) + len(ref) + len(alt)
            change = (ref.upper(), alt.upper())
            self.n_repeated += change in self._here
            self._here.add(change)
            self.n_cut += is_cut
            return
        self.n_skipped[skipped.reason] += 1
        if skipped.reason is Reason.MISMATCH and self.first_mismatch is None:
            self.first_mismatch = skipped
        if skipped.reason is Reason.CHROMOSOME:
            self.unknown_chroms[allele.chrom] = None


class WindowCutter:
    """Cuts windows for variants out of a genome.

    Args:
        genome: open FASTA file that the windows are cut from.
        window: bases L of a window.
        chrom_names: None, or how the chromosomes of the VCF are renamed: see `bed.rename_chrom`.
    """

    def __init__(self, genome: Genome, window: int, *, chrom_names: str | None = None) -> None:
        self.genome = genome
        self.window = window
        self.chrom_names = chrom_names

    def _chrom(self, name: str) -> str:
        if self.chrom_names is None:
            return name
        return rename_chrom(name, self.chrom_names, self.genome.lengths)

    def start(self, pos: int) -> int:
        """0-based start of the window of a variant at `pos`, 1-based."""
        return pos - 1 - (self.window - 1) // 2

    def judge(self, record: Record) -> list[tuple[Allele, SkippedAllele | None]]:
        """Each alternative allele of a record, and why it cannot be scored, or None."""
        alleles = [Allele(*record[:4], alt) for alt in record.alts or (MISSING,)]
        length = self.genome.lengths.get(self._chrom(record.chrom))
        if length is None:
            return [(allele, SkippedAllele(allele, Reason.CHROMOSOME)) for allele in alleles]
        reasons = [_written_reason(allele) for allele in alleles]
        detail = "" if all(reasons) else self._mismatch(record, length)
        judged: list[tuple[Allele, SkippedAllele | None]] = []
        for allele, reason in zip(alleles, reasons, strict=True):
            reason = reason or (Reason.MISMATCH if detail else self._misfit(allele, length))
            told = detail if reason is Reason.MISMATCH else ""
            judged.append((allele, SkippedAllele(allele, reason, told) if reason else None))
        return judged

    def _mismatch(self, record: Record, length: int) -> str:
        """What the genome has in place of REF; "" where they agree."""
        first, end = record.pos - 1, record.pos - 1 + len(record.ref)
        if not 0 <= first < end <= length:
            # POS 0 and length + 1 are the telomeres; there is nothing to compare.
            return "" if first in (-1, length) else f"the chromosome has {length} bases"
        chrom, ref = self._chrom(record.chrom), encode(record.ref)
        found = self.genome.fetch(chrom, first, end)
        if np.array_equal(found, ref):
            return ""
        letters = decode(found)
        if UNKNOWN in found and np.array_equal(found[found != UNKNOWN], ref[found != UNKNOWN]):
            letters = self.genome.letters(chrom, first, end).decode("latin-1").upper()
            if all(map(_may_be, letters, record.ref.upper())):
                return ""
        return f"expected {_shown(letters)}, found {_shown(record.ref)}"

    def _misfit(self, allele: Allele, length: int) -> Reason | None:
        if max(len(allele.ref), len(allele.alt)) > self.window:
            return Reason.LONG
        start = self.start(allele.pos)
        fits = start >= 0 and start + self.window + _filling(allele) <= length
        return None if fits else Reason.END

    def is_cut(self, allele: Allele) -> bool:
        """Whether a part of REF or ALT lies beyond the window."""
        return max(len(allele.ref), len(allele.alt)) > self.window - (self.window - 1) // 2

    def windows(self, alleles: list[Allele]) -> list[Bytes]:
        """Codes (L,) of the reference window of a record, then of each allele's window.

        Args:
            alleles: alleles of one record that `judge` lets pass.
        """
        chrom, pos, _, ref, _ = alleles[0]
        start, left = self.start(pos), (self.window - 1) // 2
        filling = max(_filling(allele) for allele in alleles)
        around = self.genome.fetch(self._chrom(chrom), start, start + self.window + filling)
        # which differs where the genome has a letter for several bases
        around[left : left + len(ref)] = encode(ref)[: len(around) - left]
        before, after = around[:left], around[left + len(ref) :]
        changed = (np.concatenate([before, encode(allele.alt), after]) for allele in alleles)
        return [around[: self.window], *(codes[: self.window] for codes in changed)]

    def survey(self, records: Iterable[Record], *, desc: str) -> Survey:
        """Judge all alleles of a file without cutting windows, with a progress bar."""
        found = Survey()
        with progress(total=None, desc=desc, unit="records") as bar:
            for record in records:
                found.place(record)
                for allele, skipped in self.judge(record):
                    found.count(allele, skipped, is_cut=self.is_cut(allele))
                bar.update()
        return found

    def blocks(self, records: Iterable[Record], n_windows: int) -> Iterator[VariantBlock]:
        """Stream the records with their windows, in order.

        A reference window that several alleles share, of one record or of successive ones at one
        place, is cut once a block.

        Args:
            records: of a VCF file.
            n_windows: windows a block, exceeded only by a record that alone has more.
        """
        block = _Block(self.window)
        for record in records:
            judged = self.judge(record)
            usable = [allele for allele, skipped in judged if skipped is None]
            room = n_windows - len(block.codes)
            if block.records and (
                1 + len(usable) > room or len(block.records) >= _RECORDS_PER_WINDOW * n_windows
            ):
                yield block.finish()
                block = _Block(self.window)
            block.add(record, judged, self.windows(usable) if usable else [])
        if block.records:
            yield block.finish()


class _Block:
    """A `VariantBlock` that grows."""

    def __init__(self, window: int) -> None:
        self._window = window
        self.codes: list[Bytes] = []
        self.records: list[tuple[Record, tuple[int | None, ...]]] = []
        self._alleles: list[Allele] = []
        self._skipped: list[SkippedAllele] = []
        self._rows: list[tuple[int, int]] = []
        self._reference: tuple[str, int] | None = None
        self._reference_row = 0

    def add(
        self,
        record: Record,
        judged: list[tuple[Allele, SkippedAllele | None]],
        windows: list[Bytes],
    ) -> None:
        place = (record.chrom, record.pos)
        if windows and place != self._reference:
            self._reference, self._reference_row = place, len(self.codes)
            self.codes.append(windows[0])
        alternatives = iter(windows[1:])
        indices: list[int | None] = []
        for allele, skipped in judged:
            if skipped is not None:
                self._skipped.append(skipped)
                indices.append(None)
                continue
            indices.append(len(self._alleles))
            self._alleles.append(allele)
            self._rows.append((self._reference_row, len(self.codes)))
            self.codes.append(next(alternatives))
        self.records.append((record, tuple(indices)))

    def finish(self) -> VariantBlock:
        codes = np.array(self.codes, np.uint8).reshape(-1, self._window)
        rows = np.array(self._rows, np.int64).reshape(-1, 2)
        return VariantBlock(
            packed=pack_codes(codes),
            alleles=tuple(self._alleles),
            ref_row=rows[:, 0],
            alt_row=rows[:, 1],
            skipped=tuple(self._skipped),
            records=tuple(self.records),
        )


def _may_be(letter: str, base: str) -> bool:
    """Whether REF may have this base where the genome has that letter.

    VCF has the first base in place of a letter for several; N stands for any and says nothing.
    """
    return letter == base or (letter != "N" and base in BASES_OF_LETTER.get(letter, ""))


def _filling(allele: Allele) -> int:
    """Bases right of the reference window that the alternative window is filled with."""
    return max(0, len(allele.ref) - len(allele.alt))


def _written_reason(allele: Allele) -> Reason | None:
    """Why an allele cannot be scored whatever the genome is."""
    alt = allele.alt
    if alt == MISSING:
        return Reason.NO_ALTERNATIVE
    if alt == "*":
        return Reason.SPANNING
    if any(mark in alt for mark in "<>[]."):
        return Reason.SYMBOLIC
    if _LETTERS.fullmatch(alt) and _LETTERS.fullmatch(allele.ref):
        return None
    return Reason.LETTERS


def _shown(letters: str) -> str:
    return letters if len(letters) <= _SHOWN else f"{letters[:_SHOWN]}… ({len(letters)} bases)"
