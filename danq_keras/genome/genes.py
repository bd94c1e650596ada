"""Gene models: GTF, GFF3 and BED files, plain or gzip, as far as a picture of a region needs them.

A gene is drawn with all exons of all its transcripts laid over each other, so that is what is read:
where it lies, on which strand, its exons and its coding parts. In GFF3 a part belongs to the gene
that its `Parent` leads to; in GTF to its `gene_id`, also where the file has no lines of genes. In a
BED file every line is one, with the blocks of BED12 as its exons.

Own code: of the libraries, gffutils builds a database of the whole file before the first question,
and pyranges drops the parents of GFF3.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from danq_keras.genome.regions import Region
from danq_keras.system.errors import InputError, shorten
from danq_keras.system.files import open_bytes
from danq_keras.system.inputs import BYTE_ORDER_MARK, input_file
from danq_keras.system.terminal import log

KINDS = {".gtf": "GTF", ".gff": "GFF3", ".gff3": "GFF3", ".bed": "BED", ".bed12": "BED"}
_GTF_ATTRIBUTE = re.compile(r'(\w+)\s+(?:"([^"]*)"|([^\s;"]+))')
_CODING, _EXON = "CDS", ("exon", "five_prime_UTR", "three_prime_UTR", "UTR", "noncoding_exon")
_NOT_GENES = ("chromosome", "region", "contig", "scaffold", "supercontig", "biological_region")

Spans = list[tuple[int, int]]


@dataclass
class Gene:
    """A gene: 0-based, half-open positions; `strand` "+", "-" or "."; `exons`, `coding` merged."""

    name: str
    start: int
    end: int
    strand: str
    exons: Spans = field(default_factory=list)
    coding: Spans = field(default_factory=list)

    def completed(self) -> "Gene":
        """With spans merged and in order; a gene without exons is one of its coding parts."""
        exons = self.exons + self.coding or [(self.start, self.end)]
        return Gene(
            self.name, self.start, self.end, self.strand, _merged(exons), _merged(self.coding)
        )


@dataclass(frozen=True)
class _Feature:
    kind: str
    start: int
    end: int
    strand: str
    attributes: dict[str, str]


def read_genes(path: Path, region: Region) -> list[Gene]:
    """The genes of a file that reach into a region, by where they begin.

    A chromosome that the file has without a leading `chr`, or only with one, is taken for the
    region's, which is said.

    Args:
        path: .gtf, .gff, .gff3, .bed or .bed12 file, also with .gz after it.
        region: chromosome, and the part of it.

    Raises:
        InputError: another ending, a line that is none of its format (the message names it), or a
            file without anything on the region's chromosome.
    """
    name = path.name.lower().removesuffix(".gz")
    kind = KINDS.get(Path(name).suffix)
    if kind is None:
        raise InputError(
            f"{path}: gene models are read from {', '.join(KINDS)} files, plain or .gz. Rename it "
            "by its format."
        )
    lines = _Lines(path, region.chrom)
    genes = _from_bed(lines) if kind == "BED" else _from_features(lines, kind)
    lines.require_chromosome()
    end = region.end if region.end is not None else max((g.end for g in genes), default=0)
    found = [gene.completed() for gene in genes if gene.end > region.start and gene.start < end]
    return sorted(found, key=lambda gene: (gene.start, gene.end, gene.name))


class _Lines:
    """The lines of a file that are on one chromosome, as fields; what else there is, is noted."""

    def __init__(self, path: Path, chrom: str) -> None:
        self.path = path
        self.number = 0
        self._chrom = chrom
        self._twin = chrom.removeprefix("chr") if chrom.startswith("chr") else f"chr{chrom}"
        self._found: dict[str, None] = {}
        self._taken: str | None = None

    def fields(self, least: int, what: str) -> Iterator[list[str]]:
        """Fields of the lines, `least` or more of them; comments and headers are passed over.

        Of the chromosome's two names the one that comes first in the file counts.
        """
        with open_bytes(input_file(self.path)) as file:
            for self.number, line in enumerate(file, start=1):
                if self.number == 1:
                    line = line.removeprefix(BYTE_ORDER_MARK)
                line = line.rstrip(b"\r\n")
                if line.startswith(b"##FASTA") or line.startswith(b">"):
                    return  # a GFF3 file may end with its sequences
                if not line.strip() or line.startswith((b"#", b"track", b"browser")):
                    continue
                parts = line.split(b"\t")
                if len(parts) < least:
                    self.refuse(f"{what} has at least {least} columns between tabs")
                chrom = parts[0].decode(errors="replace")
                self._found.setdefault(chrom)
                if self._taken is None and chrom in (self._chrom, self._twin):
                    self._taken = chrom
                if chrom == self._taken:
                    yield [part.decode(errors="replace") for part in parts]

    def refuse(self, rule: str) -> None:
        """Raise for the line that was read last."""
        raise InputError(f"{self.path}, line {self.number}: {rule}. Correct the line.")

    def span(self, start: str, end: str, *, first: int) -> tuple[int, int]:
        """0-based, half-open, from a start that is counted from `first`."""
        if not (start.isascii() and start.isdecimal() and end.isascii() and end.isdecimal()):
            self.refuse(f"start and end are whole numbers. Received: {start!r}, {end!r}")
        span = int(start) - first, int(end)
        if not 0 <= span[0] < span[1]:
            self.refuse(f"the end is not before the start. Received: {start}, {end}")
        return span

    def require_chromosome(self) -> None:
        """Refuse a file without the chromosome; say when its other name was taken."""
        if self._taken is None:
            names = shorten(list(self._found), 5) if self._found else "none"
            raise InputError(
                f"{self.path}: nothing on {self._chrom}. Its chromosomes: {names}. Give the file "
                "of this genome."
            )
        if self._taken != self._chrom:
            log.info("%s: its %s is taken for %s.", self.path, self._taken, self._chrom)


def _from_bed(lines: _Lines) -> list[Gene]:
    genes = []
    for row in lines.fields(3, "a BED line"):
        start, end = lines.span(row[1], row[2], first=0)
        name, strand = (row[i] if len(row) > i else "." for i in (3, 5))
        gene = Gene(name, start, end, strand)
        if len(row) >= 12:
            sizes, offsets = ([n for n in row[i].split(",") if n] for i in (10, 11))
            if not len(sizes) == len(offsets) == int(row[9] if row[9].isdecimal() else -1):
                lines.refuse("a BED12 line has as many block sizes and starts as blocks")
            for offset, size in zip(offsets, sizes, strict=True):
                if not (offset.isdecimal() and size.isdecimal() and int(size)):
                    lines.refuse(f"a block has a start and a size. Received: {offset!r}, {size!r}")
                gene.exons.append((start + int(offset), start + int(offset) + int(size)))
            if row[6] != row[7]:  # equal ones say that nothing is coding
                thick = lines.span(row[6], row[7], first=0)
                cut = ((max(a, thick[0]), min(b, thick[1])) for a, b in gene.exons)
                gene.coding += [(a, b) for a, b in cut if a < b]
        genes.append(gene)
    return genes


def _from_features(lines: _Lines, kind: str) -> list[Gene]:
    read = _gtf_attributes if kind == "GTF" else _gff_attributes
    features = []
    for row in lines.fields(9, f"a {kind} line"):
        start, end = lines.span(row[3], row[4], first=1)
        if row[2] not in _NOT_GENES:
            features.append(_Feature(row[2], start, end, row[6], read(row[8])))
    return _by_gene_id(features) if kind == "GTF" else _by_parent(features)


def _gtf_attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, quoted, bare in _GTF_ATTRIBUTE.findall(text):
        found.setdefault(name, quoted or bare)
    return found


def _gff_attributes(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(";") if part.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _by_gene_id(features: list[_Feature]) -> list[Gene]:
    genes: dict[str, Gene] = {}
    for each in features:
        identity = each.attributes.get("gene_id", "")
        if not identity:
            continue
        gene = genes.get(identity)
        if gene is None:
            name = each.attributes.get("gene_name") or each.attributes.get("gene") or identity
            gene = genes[identity] = Gene(name, each.start, each.end, each.strand)
        gene.start, gene.end = min(gene.start, each.start), max(gene.end, each.end)
        _add_part(gene, each)
    return list(genes.values())


def _by_parent(features: list[_Feature]) -> list[Gene]:
    parents = {
        each.attributes["ID"]: each.attributes["Parent"].split(",")[0]
        for each in features
        if "ID" in each.attributes and "Parent" in each.attributes
    }
    genes: dict[str, Gene] = {}
    for each in features:
        if each.kind.endswith("gene"):
            attributes = each.attributes
            identity = attributes.get("ID", f"{each.start}-{each.end}")
            name = next((attributes[k] for k in ("gene", "Name", "ID") if attributes.get(k)), ".")
            genes[identity] = Gene(unquote(name), each.start, each.end, each.strand)
    for each in features:
        identity = each.attributes.get("Parent", "").split(",")[0]
        for _ in range(
            10
        ):  # a part, its transcript, the gene: more levels are rare, circles an end
            if identity in genes or identity not in parents:
                break
            identity = parents[identity]
        if identity in genes:
            _add_part(genes[identity], each)
    return list(genes.values())


def _add_part(gene: Gene, part: _Feature) -> None:
    if part.kind == _CODING:
        gene.coding.append((part.start, part.end))
    elif part.kind in _EXON:
        gene.exons.append((part.start, part.end))


def _merged(spans: Spans) -> Spans:
    """Spans that overlap or touch as one, in order."""
    merged: Spans = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def lanes(spans: Spans, gap: int) -> list[int]:
    """For spans in order of their starts, lanes in which none comes within `gap` of another."""
    ends: list[int] = []
    found = []
    for start, end in spans:
        lane = next((i for i, last in enumerate(ends) if last + gap <= start), len(ends))
        if lane == len(ends):
            ends.append(end)
        ends[lane] = max(ends[lane], end)
        found.append(lane)
    return found
