"""Motifs: JASPAR and MEME files, the shipped JASPAR 2016 matrices, motifs as convolution kernels.

A motif is a (w, 4) float64 matrix of base frequencies, first base first, columns A,G,C,T (the
files have A,C,G,T). Frequencies are counts over column totals, without pseudocount. Files are
read in their order. Nothing here knows networks: `motif_kernels` takes and returns arrays.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from danq_keras.genome.dna import ALPHABET
from danq_keras.motifs.motif import Matrix, Motif
from danq_keras.system.errors import InputError
from danq_keras.system.inputs import input_file, is_pipe
from danq_keras.system.shipped import resource_path

JASPAR_FILE = "jaspar2016_vertebrates.jaspar"
DANQ_REVERSED = (19, 97, 98, 99, 100, 101)
"""0-based numbers of the motifs that DanQ-JASPAR takes on both strands. Source: its scripts."""

_FILE_ALPHABET = "ACGT"
_FROM_FILE = [_FILE_ALPHABET.index(base) for base in ALPHABET]
_SUM_TOLERANCE = 0.02  # files print rounded frequencies


def resolve_motifs(motif_file: str) -> list[Motif]:
    """The motifs that a `motif_file` setting means.

    Args:
        motif_file: `presets.JASPAR_2016` for DanQ-JASPAR's 525, otherwise the path of a JASPAR or
            MEME file.

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
    """Read a JASPAR or MEME file, whichever its first line says.

    Raises:
        InputError: the file is missing, is neither, or is not valid.
    """
    first = next((line for _, line in _lines(path)), "")
    if first.startswith("MEME version"):
        return read_meme(path)
    if first.startswith(">"):
        return read_jaspar(path)
    raise InputError(
        f"{path}: a motif file begins with 'MEME version 4' or with a JASPAR header such as "
        f"'>MA0139.1 CTCF'. Received: {first[:40]!r}. Convert it to one of the two."
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line, stripped; blank lines and # comments are left out."""
    try:
        text = (input_file(path) if is_pipe(path) else path).read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{path}: no such motif file. Check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: a motif file is text, received other bytes. Give a JASPAR or MEME file, "
            "uncompressed."
        ) from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _refuse(path: Path, number: int, problem: str) -> NoReturn:
    raise InputError(f"{path}, line {number}: {problem} Correct the file.")


def _numbers(path: Path, number: int, words: Sequence[str]) -> list[float]:
    """Finite numbers from 0 up.

    Raises:
        InputError: a word is something else.
    """
    values: list[float] = []
    for word in words:
        try:
            values.append(float(word))
        except ValueError:
            _refuse(path, number, f"expected numbers, received {word[:20]!r}.")
        if not 0 <= values[-1] < math.inf:
            _refuse(path, number, f"counts and frequencies are finite and from 0 up: {word}.")
    return values


def read_jaspar(path: Path) -> list[Motif]:
    """Read count matrices in JASPAR's text format, with or without letters and brackets.

    A record is a header `>ID NAME` and a row for each base: `A [ 1 2 3 ]`, `A 1 2 3`, or bare
    numbers, in which case the rows are A, C, G, T.

    Raises:
        InputError: the file is missing or a record is not valid; the line is named.
    """
    records: list[tuple[int, str, list[tuple[int, str]]]] = []
    for number, line in _lines(path):
        if line.startswith(">"):
            records.append((number, line[1:].strip(), []))
        elif records:
            records[-1][2].append((number, line))
        else:
            _refuse(path, number, f"expected a header such as '>MA0139.1 CTCF', got {line[:40]!r}.")
    if not records:
        raise InputError(f"{path}: holds no motif. Give a file with at least one.")
    return [_jaspar_record(path, *record) for record in records]


def _jaspar_record(path: Path, number: int, header: str, rows: list[tuple[int, str]]) -> Motif:
    if not header:
        _refuse(path, number, "a header needs an ID after '>'.")
    identifier, _, name = header.replace("\t", " ").partition(" ")
    if len(rows) != 4:
        _refuse(path, number, f"motif {identifier} needs 4 rows of counts, it has {len(rows)}.")
    by_base: dict[str, list[float]] = {}
    for default, (row_number, line) in zip(_FILE_ALPHABET, rows, strict=True):
        words = line.replace("[", " ").replace("]", " ").replace(":", " ").split()
        letter = words.pop(0).upper() if words and words[0][0].isalpha() else default
        if letter not in _FILE_ALPHABET or letter in by_base:
            _refuse(path, row_number, f"each of A, C, G, T has one row, received {letter[:20]!r}.")
        by_base[letter] = _numbers(path, row_number, words)
    widths = {len(values) for values in by_base.values()}
    if len(widths) > 1 or widths == {0}:
        received = ", ".join(str(len(by_base[base])) for base in _FILE_ALPHABET)
        _refuse(path, number, f"the rows of motif {identifier} have {received} counts, not one w.")
    counts = np.array([by_base[base] for base in ALPHABET]).T
    totals = counts.sum(axis=1, keepdims=True)
    if (totals == 0).any():
        position = int(totals[:, 0].argmin()) + 1
        _refuse(path, number, f"position {position} of motif {identifier} has no counts.")
    return Motif(identifier, name.strip() or identifier, counts / totals)


def write_jaspar(path: Path, motifs: Sequence[tuple[str, str, Matrix]]) -> None:
    """Write count matrices in JASPAR's text format.

    Args:
        path: the file; replaced if it exists.
        motifs: (id, name, counts), counts (w, 4) float64 of whole numbers, columns A,C,G,T.
    """
    lines: list[str] = []
    for identifier, name, counts in motifs:
        lines.append(f">{identifier} {name}")
        for base, row in zip(_FILE_ALPHABET, counts.T, strict=True):
            lines.append(f"{base} [ {' '.join(f'{value:.0f}' for value in row)} ]")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_meme(path: Path) -> list[Motif]:
    """Read the letter-probability matrices of a MEME text file (version 4 or later, DNA).

    Raises:
        InputError: the file is missing, of another alphabet, or not valid; the line is named.
    """
    motifs: list[Motif] = []
    title: tuple[str, str] | None = None
    lines = list(_lines(path))
    if not lines or not lines[0][1].startswith("MEME version"):
        raise InputError(f"{path}: a MEME file begins with 'MEME version 4'. Give such a file.")
    for index, (number, line) in enumerate(lines):
        if line.startswith("ALPHABET") and line.partition("=")[2].strip() != _FILE_ALPHABET:
            _refuse(path, number, f"the alphabet must be ACGT, received {line[:40]!r}.")
        if line.startswith("MOTIF"):
            if title is not None:
                _refuse(path, number, f"motif {title[0]} has no letter-probability matrix.")
            words = line.split(maxsplit=2)[1:]
            if not words:
                _refuse(path, number, "MOTIF needs a name.")
            title = (words[0], words[-1])
        elif line.startswith("letter-probability matrix"):
            if title is None:
                _refuse(path, number, "a letter-probability matrix follows a MOTIF line.")
            motifs.append(Motif(*title, _meme_matrix(path, number, lines[index:])))
            title = None
    if title is not None or not motifs:
        missing = f"motif {title[0]} has no matrix" if title else "holds no motif"
        raise InputError(f"{path}: {missing}. Give a file with letter-probability matrices.")
    return motifs


def _meme_matrix(path: Path, number: int, lines: list[tuple[int, str]]) -> Matrix:
    """(w, 4) frequencies, columns A,G,C,T, of the matrix whose title is the first of `lines`."""
    words = lines[0][1].partition(":")[2].replace("=", " ").split()
    stated = dict(zip(words[::2], words[1::2], strict=False))
    if stated.get("alength", "4") != "4":
        _refuse(path, number, f"a DNA matrix has alength= 4, received {stated['alength']}.")
    rows: list[list[float]] = []
    for row_number, line in lines[1:]:
        if line[0] not in "0123456789.+-":
            break
        rows.append(_numbers(path, row_number, line.split()))
        if len(rows[-1]) != 4 or abs(sum(rows[-1]) - 1) > _SUM_TOLERANCE:
            _refuse(path, row_number, f"expected 4 frequencies of sum 1, received {line[:60]!r}.")
    if not rows or stated.get("w", str(len(rows))) != str(len(rows)):
        _refuse(path, number, f"w= {stated.get('w', '?')} rows stated, {len(rows)} found.")
    matrix: Matrix = np.array(rows)[:, _FROM_FILE]
    matrix /= matrix.sum(axis=1, keepdims=True)
    return matrix


def write_meme(path: Path, motifs: Sequence[Motif], n_sites: Sequence[int]) -> None:
    """Write motifs as MEME text, version 4, with a uniform background.

    Args:
        path: the file; replaced if it exists.
        motifs: their ids have no spaces; a name that differs from the id stands behind it.
        n_sites: number of sites that each was made of.
    """
    lines = ["MEME version 4", "", f"ALPHABET= {_FILE_ALPHABET}", "", "strands: + -", ""]
    lines += ["Background letter frequencies", "A 0.25 C 0.25 G 0.25 T 0.25", ""]
    for motif, count in zip(motifs, n_sites, strict=True):
        name = "" if motif.name == motif.id else f" {motif.name}"
        lines.append(f"MOTIF {motif.id}{name}")
        lines.append(f"letter-probability matrix: alength= 4 w= {motif.width} nsites= {count} E= 0")
        in_order = motif.matrix[:, [ALPHABET.index(base) for base in _FILE_ALPHABET]]
        lines += [" ".join(f"{value:.6f}" for value in row) for row in in_order]
        lines.append("")
    path.write_text("\n".join(lines), encoding="utf-8")


JASPAR_2016 = "jaspar2016"
