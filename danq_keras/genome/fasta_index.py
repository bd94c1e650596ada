"""The index (.fai) of a FASTA file with regular lines, made in blocks of bytes.

A `.fai` is text, a line a sequence: name, bases, offset of the first base, bases a line, bytes a
line. pyfaidx makes one too, line by line in Python, which for a mammalian genome takes most of a
minute; here a file is only compared with the shape that its lines must have. What has not that
shape (Windows line ends, blanks, lines of unequal length) is left to pyfaidx and its judgement.
An index that is there already is compared with the places of its sequences before it is used.

Source: the format, https://www.htslib.org/doc/faidx.html
"""

import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from danq_keras.genome.dna import Bytes
from danq_keras.system.files import atomic_output
from danq_keras.system.terminal import progress

_BLOCK = 1 << 24
_LINE_FEED, _BLANK, _RECORD = b"\n"[0], b" "[0], b">"[0]
_AFTER_SEQUENCE = re.compile(rb"\s*(>|\Z)")


def fits(fasta: Path, index: Path) -> bool:
    """Whether each sequence of an index begins and ends in the file where the index says.

    That of a file which was changed, or an index cut short, hardly ever does; what is between the
    ends of a sequence is not looked at.

    Args:
        fasta: the FASTA file, uncompressed and not empty.
        index: the `.fai` that is said to be of that file.
    """
    try:
        rows = [line.split("\t") for line in index.read_text(encoding="utf-8").splitlines()]
        places = {name: [int(number) for number in numbers] for name, *numbers in rows}
    except ValueError:  # of int, or of UTF-8
        return False
    if not places or len(places) < len(rows) or any(len(place) != 4 for place in places.values()):
        return False
    with fasta.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return all(_stands(mapped, name.encode(), *place) for name, place in places.items())


def _stands(
    mapped: mmap.mmap, name: bytes, n_bases: int, offset: int, bases: int, width: int
) -> bool:
    """Whether a sequence has its header before `offset`, and nothing but a header after its end."""
    if n_bases < 0 or offset < 1 or (n_bases and not 0 < bases <= width):
        return False
    header = mapped[mapped.rfind(b"\n", 0, offset - 1) + 1 : offset]
    end = offset
    if n_bases:
        end += (n_bases - 1) // bases * width + (n_bases - 1) % bases + 1
    return (
        header[:1] == b">"
        and header[1:].split()[:1] == [name]
        and end <= len(mapped)
        and _AFTER_SEQUENCE.match(mapped, end) is not None
    )


def write_index(fasta: Path, index: Path) -> bool:
    """Write the index of a FASTA file.

    Args:
        fasta: the FASTA file, uncompressed and not empty.
        index: the new file; replaced when it is there.

    Returns:
        False, with nothing written, where the lines are not regular or a name is repeated.
    """
    lines: dict[str, str] = {}
    with (
        fasta.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        progress(total=len(mapped), desc=f"index {fasta.name}", unit="B", unit_scale=True) as bar,
    ):
        data = np.frombuffer(mapped, np.uint8)
        try:
            for begin, end in _records(data):
                bar.set_postfix_str(f"{len(lines)} sequences", refresh=False)
                name, text = _index_line(mapped, data, begin, end, bar)
                if not text or name in lines:
                    return False
                lines[name] = text
        finally:
            del data  # a mapping with a view of it cannot be closed
    with atomic_output(index, overwrite=True) as temporary:
        temporary.write_text("".join(lines.values()), encoding="utf-8")
    return True


def _records(data: Bytes) -> Iterator[tuple[int, int]]:
    """First byte and end of each sequence with its header."""
    starts: list[int] = []
    for at in range(0, len(data), _BLOCK):
        found = at + np.flatnonzero(data[at : at + _BLOCK] == _RECORD)
        starts += [int(i) for i in found if i == 0 or data[i - 1] == _LINE_FEED]
    yield from zip(starts, [*starts[1:], len(data)], strict=True)


def _index_line(mapped: mmap.mmap, data: Bytes, begin: int, end: int, bar: Any) -> tuple[str, str]:
    """Name and index line of the record in bytes [begin, end); an empty line if irregular."""
    offset = mapped.find(b"\n", begin, end) + 1
    first_end = mapped.find(b"\n", offset, end) + 1
    words = mapped[begin + 1 : offset].split()
    width = first_end - offset
    if not offset or not first_end or width < 2 or not words:
        return "", ""
    ends = data[offset + width - 1 : end : width]
    short = (end - offset) % width
    # The last line may be shorter; at the end of the file it may lack its line feed.
    n_ends = len(ends) + bool(short and data[end - 1] == _LINE_FEED)
    n_blank = 0
    for at in range(offset, end, _BLOCK):
        block = data[at : min(at + _BLOCK, end)]
        n_blank += int(np.count_nonzero(block <= _BLANK))
        bar.update(len(block))
    unfinished = short and data[end - 1] != _LINE_FEED and end < len(data)
    if n_blank != n_ends or short == 1 or unfinished or not (ends == _LINE_FEED).all():
        return "", ""
    name = words[0].decode("utf-8", "replace")
    return name, f"{name}\t{end - offset - n_ends}\t{offset}\t{width - 1}\t{width}\n"
