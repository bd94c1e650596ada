"""Motifs: files of every form the field writes, and the shipped JASPAR 2016 matrices.

A motif is a (w, 4) float64 matrix of base frequencies, first base first, columns A,G,C,T (the
files have A,C,G,T). Frequencies are counts over column totals, without pseudocount. Files are
read in their order. The forms themselves are read in `meme` and `matrices`.
"""

from collections.abc import Sequence
from pathlib import Path

from danq_keras.genome.dna import ALPHABET
from danq_keras.motifs.lines import FILE_ALPHABET, motif_lines
from danq_keras.motifs.matrices import (
    BASES,
    is_transfac,
    parse_bare,
    parse_records,
    parse_transfac,
)
from danq_keras.motifs.meme import is_meme, parse_meme
from danq_keras.motifs.motif import Matrix, Motif
from danq_keras.system.errors import InputError
from danq_keras.system.shipped import resource_path

JASPAR_FILE = "jaspar2016_vertebrates.jaspar"
DANQ_REVERSED = (19, 97, 98, 99, 100, 101)
"""0-based numbers of the motifs that DanQ-JASPAR takes on both strands. Source: its scripts."""


def resolve_motifs(motif_file: str) -> list[Motif]:
    """The motifs that a `motif_file` setting means.

    Args:
        motif_file: `presets.JASPAR_2016` for DanQ-JASPAR's 525, otherwise the path of a motif
            file, see `read_motif_file`.

    Raises:
        InputError: the file is missing or is not a valid motif file.
    """
    if motif_file == JASPAR_2016:
        return danq_jaspar_motifs()
    return read_motif_file(Path(motif_file))


def danq_jaspar_motifs() -> list[Motif]:
    """DanQ-JASPAR's 525 motifs.

    Returns:
        The 519 matrices of JASPAR 2016 CORE vertebrates, non-redundant, in order of matrix ID,
        then the reverse complements of the numbers in `DANQ_REVERSED`.

    Source: Mathelier et al., NAR 44:D110, 2016; Quang & Xie, NAR 44(11):e107, 2016, and scripts.
    """
    motifs = read_jaspar(resource_path(JASPAR_FILE))
    return motifs + [motifs[number].reverse_complement() for number in DANQ_REVERSED]


def read_motif_file(path: Path) -> list[Motif]:
    """Read motifs, whatever of the known forms their file has: see `meme` and `matrices`.

    What is accepted with a doubt is warned of with a count.

    Raises:
        InputError: the file is missing, of no known form, or not valid; the line is named.
    """
    lines = motif_lines(path)
    first = lines[0][1] if lines else ""
    if first.startswith(">"):
        return parse_records(path, lines)
    if is_meme(lines):
        return parse_meme(path, lines)
    if is_transfac(lines):
        return parse_transfac(path, lines)
    if first.startswith("<"):
        raise InputError(
            f"{path}: this is HTML or XML. Give the text that the same program writes, such as "
            "meme.txt."
        )
    motifs = parse_bare(path, lines) if lines else None
    if motifs is None:
        raise InputError(
            f"{path}: a motif file begins with 'MEME version 4' or with a header such as "
            "'>MA0139.1 CTCF' (JASPAR, HOMER and their like), or is TRANSFAC text. Received: "
            f"{first[:40]!r}. Convert it to one of them."
        )
    return motifs


def read_jaspar(path: Path) -> list[Motif]:
    """Read count matrices in JASPAR's text format, with or without letters and brackets.

    A record is a header `>ID NAME` and a row for each base: `A [ 1 2 3 ]`, `A 1 2 3`, or bare
    numbers, in which case the rows are A, C, G, T.

    Raises:
        InputError: the file is missing or a record is not valid; the line is named.
    """
    return parse_records(path, motif_lines(path), rows_are=BASES)


def read_meme(path: Path) -> list[Motif]:
    """Read the letter-probability matrices of a MEME text file (DNA or RNA).

    Raises:
        InputError: the file is missing, of another alphabet, or not valid; the line is named.
    """
    lines = motif_lines(path)
    if not is_meme(lines):
        raise InputError(f"{path}: a MEME file begins with 'MEME version 4'. Give such a file.")
    return parse_meme(path, lines)


def write_jaspar(path: Path, motifs: Sequence[tuple[str, str, Matrix]]) -> None:
    """Write count matrices in JASPAR's text format.

    Args:
        path: the file; replaced if it exists.
        motifs: (id, name, counts), counts (w, 4) float64 of whole numbers, columns A,C,G,T.
    """
    lines: list[str] = []
    for identifier, name, counts in motifs:
        lines.append(f">{identifier} {name}")
        for base, row in zip(FILE_ALPHABET, counts.T, strict=True):
            lines.append(f"{base} [ {' '.join(f'{value:.0f}' for value in row)} ]")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_meme(path: Path, motifs: Sequence[Motif], n_sites: Sequence[int]) -> None:
    """Write motifs as MEME text, version 4, with a uniform background.

    Args:
        path: the file; replaced if it exists.
        motifs: their ids have no spaces; a name that differs from the id stands behind it.
        n_sites: number of sites that each was made of.
    """
    lines = ["MEME version 4", "", f"ALPHABET= {FILE_ALPHABET}", "", "strands: + -", ""]
    lines += ["Background letter frequencies", "A 0.25 C 0.25 G 0.25 T 0.25", ""]
    for motif, count in zip(motifs, n_sites, strict=True):
        name = "" if motif.name == motif.id else f" {motif.name}"
        lines.append(f"MOTIF {motif.id}{name}")
        lines.append(f"letter-probability matrix: alength= 4 w= {motif.width} nsites= {count} E= 0")
        in_order = motif.matrix[:, [ALPHABET.index(base) for base in FILE_ALPHABET]]
        lines += [" ".join(f"{value:.6f}" for value in row) for row in in_order]
        lines.append("")
    path.write_text("\n".join(lines), encoding="utf-8")


JASPAR_2016 = "jaspar2016"
