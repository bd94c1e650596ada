"""Where the bases of each record of a FASTA file stand: read from its `.fai`, or found anew.

A record whose lines have one length is `Lines`, which a line of a `.fai` describes: name, bases,
offset of the first base, bases a line, bytes a line. What ends a line may be any blanks: line
feeds, those of Windows, a lone carriage return, spaces before them. Every other record is `Pieces`,
for which there is no `.fai`: blank lines inside, lines of unequal length, comments (`;`).

An index that is there already is compared with the file before it is used: from the first byte to
the last, every one must belong to a header or a sequence that it lists.

The reading is ours, as pyfaidx counts blanks at the ends of lines as bases, trusts an index that
lacks a record, and ends in a traceback on headers without bases; the tests compare with it on files
that it reads right, and windows take 0.85 times its time.

Source: the format, https://www.htslib.org/doc/faidx.html
"""

import mmap
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from danq_keras.genome.dna import Bytes
from danq_keras.system.errors import InputError
from danq_keras.system.inputs import BYTE_ORDER_MARK
from danq_keras.system.terminal import progress

BLANKS = b"\t\n\v\f\r "  # what may stand between bases without being one
Reader: TypeAlias = Callable[[int, int], bytes]  # position and number of bytes → those bytes

_BLOCK = 1 << 24
_PIECE = 1 << 16
_LINE_ENDS, _BLANK, _RECORD = b"\r\n", b" "[0], b">"[0]
_LINE_END = re.compile(rb"\r\n|\n|\r")
_COMMENT = re.compile(rb"(?<=[\r\n]);[^\r\n]*")
_MOST_BETWEEN = 1 << 16  # bytes of a header with the blanks around it
_LINES_PROBED = 4


class Lines(NamedTuple):
    """A record of `n_bases` in lines of `bases`, each of `width` bytes, the first at `offset`."""

    n_bases: int
    offset: int
    bases: int
    width: int

    def place(self, base: int) -> int:
        """Position of a base in the file."""
        return self.offset + base // self.bases * self.width + base % self.bases

    def ranges(self, start: int, end: int) -> tuple[list[tuple[int, int]], int]:
        """Byte ranges that hold the bases [start, end), and how many others come first."""
        offset, bases, width, last = self.offset, self.bases, self.width, end - 1
        first = offset + start // bases * width + start % bases  # as `place`, without its calls
        return [(first, offset + last // bases * width + last % bases + 1)], 0


@dataclass(frozen=True, eq=False)
class Pieces:
    """A record in pieces of bytes [begins, ends) (k,), which hold bases [bases[i], bases[i + 1]).

    `bases` (k + 1,) int64 ascends from 0 to the length of the sequence.
    """

    begins: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    bases: npt.NDArray[np.int64]

    @property
    def n_bases(self) -> int:
        """Length of the sequence."""
        return int(self.bases[-1])

    def ranges(self, start: int, end: int) -> tuple[list[tuple[int, int]], int]:
        """Byte ranges that hold the bases [start, end), and how many others come first."""
        first, last = np.searchsorted(self.bases, [start, end - 1], "right").tolist()
        chosen = slice(first - 1, last)
        pairs = zip(self.begins[chosen].tolist(), self.ends[chosen].tolist(), strict=True)
        return list(pairs), start - int(self.bases[first - 1])


Layout: TypeAlias = Lines | Pieces


def begins_as_fasta(first: bytes) -> bool:
    """Whether a file with these first bytes is FASTA: its first record, or comments before it."""
    lines = first.removeprefix(BYTE_ORDER_MARK).splitlines()
    text = [line for line in lines if line.strip() and not line.startswith(b";")]
    return bool(text) and text[0].startswith(b">")


def read_index(index: Path, read: Reader, size: int) -> dict[str, Lines] | None:
    """The records of a `.fai` in the order of the file; None where it is not that file's.

    Args:
        index: the `.fai`.
        read: reads the unpacked FASTA file.
        size: its bytes.
    """
    places = _parse(index, size)
    if not places:
        return None
    end, is_empty = 0, True
    for name, lines in places.items():
        between = lines.offset - end
        if not 0 < between <= _MOST_BETWEEN:
            return None
        header = read(end, between)
        if lines.offset == size and header[-1:] not in _LINE_ENDS:
            header += b"\n"  # the file ends in the header
        if not _is_header(header, name.encode(), at_line_start=is_empty):
            return None
        if not _stands(lines, read):
            return None
        is_empty = not lines.n_bases
        end = lines.offset if is_empty else lines.place(lines.n_bases - 1) + 1
    rest = size - end
    return places if 0 <= rest <= _MOST_BETWEEN and not read(end, rest).strip() else None


def _parse(index: Path, size: int) -> dict[str, Lines]:
    """What the lines of a `.fai` say, in the order of the file of `size` bytes; empty if none."""
    try:
        rows = [row.split("\t") for row in index.read_text(encoding="utf-8").split("\n") if row]
        places = {name: Lines(*map(int, numbers)) for name, *numbers in rows}
    except (ValueError, TypeError, OSError):  # of int, of UTF-8, of Lines; it may not be read
        return {}
    wrong = len(places) < len(rows) or any(
        lines.n_bases < 0
        or max(lines) > size + 2  # the last line may have no end
        or (lines.n_bases and not 0 < lines.bases <= lines.width)
        for lines in places.values()
    )
    return {} if wrong else dict(sorted(places.items(), key=lambda item: item[1].offset))


def _is_header(between: bytes, name: bytes, *, at_line_start: bool) -> bool:
    """Whether all that stands between two sequences is the header of the second."""
    if not at_line_start and not between[:1].isspace():
        return False
    *before, header = between.removeprefix(BYTE_ORDER_MARK).splitlines() or [b""]
    return (
        between[-1:] in (b"\r", b"\n")
        and header.startswith(b">")
        and header[1:].split()[:1] == [name]
        and all(not line.strip() or line.startswith(b";") for line in before)
    )


def _stands(lines: Lines, read: Reader) -> bool:
    """Whether the first line, the last base and some line ends are where the index says."""
    if not lines.n_bases:
        return True
    first = read(lines.offset, min(lines.width, lines.n_bases))
    if first[: lines.bases].translate(None, BLANKS) != first[: lines.bases]:
        return False
    if not read(lines.place(lines.n_bases - 1), 1).strip():
        return False
    n_lines = (lines.n_bases - 1) // lines.bases
    for line in {n_lines * i // _LINES_PROBED for i in range(_LINES_PROBED)} if n_lines else ():
        last = lines.place((line + 1) * lines.bases - 1)
        around = read(last, lines.width - lines.bases + 2)  # that base, blanks, and the next base
        if len(around) < 3 or len(around.strip()) < len(around) or len(around.split()) != 2:
            return False
    return True


def index_text(layouts: dict[str, Layout]) -> str | None:
    """The `.fai` of these records; None where one of them has none."""
    if not all(isinstance(layout, Lines) for layout in layouts.values()):
        return None
    rows = ("\t".join(map(str, (name, *layout))) for name, layout in layouts.items())  # type: ignore[misc]
    return "".join(f"{row}\n" for row in rows)


def find_records(fasta: Path, shown: Path) -> dict[str, Layout]:
    """Go through a FASTA file and find its records.

    Args:
        fasta: the file, uncompressed and not empty.
        shown: what messages call it.

    Returns:
        Name → where its bases are, in the order of the file.

    Raises:
        InputError: a record without a name, two of one name, or a header that begins inside a
            line.
    """
    layouts: dict[str, Layout] = {}
    with (
        fasta.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        progress(total=len(mapped), desc=f"index {shown.name}", unit="B", unit_scale=True) as bar,
    ):
        data = np.frombuffer(mapped, np.uint8)
        try:
            for begin, end, inside in _records(data):
                bar.set_postfix_str(f"{len(layouts)} sequences", refresh=False)
                offset = _header_end(mapped, begin, end)
                name = _name(mapped[begin + 1 : offset], len(layouts) + 1, shown)
                if name in layouts:
                    raise InputError(
                        f"{shown}: names of records must be unique. Received twice: {name!r}. "
                        "Rename one."
                    )
                _refuse_inside(mapped, inside[inside >= offset].tolist(), name, shown)
                layouts[name] = _layout(mapped, data, offset, end)
                bar.update(end - begin)
        finally:
            del data  # a mapping with a view of it cannot be closed
    return layouts


def _records(data: Bytes) -> Iterator[tuple[int, int, npt.NDArray[np.int64]]]:
    """First byte and end of each record, and the further `>` between them."""
    found = [
        at + np.flatnonzero(data[at : at + _BLOCK] == _RECORD) for at in range(0, len(data), _BLOCK)
    ]
    marks = np.concatenate(found).astype(np.int64)
    before = data[np.maximum(marks - 1, 0)]
    first = len(BYTE_ORDER_MARK) if data[:3].tobytes() == BYTE_ORDER_MARK else 0
    is_start = np.isin(before, list(_LINE_ENDS)) | (marks == first)
    starts = np.flatnonzero(is_start)
    ends = [*marks[starts[1:]].tolist(), len(data)]
    for number, begin, end in zip(starts.tolist(), marks[starts].tolist(), ends, strict=True):
        following = number + 1
        while following < len(marks) and not is_start[following]:
            following += 1
        yield begin, end, marks[number + 1 : following]


def _refuse_inside(mapped: mmap.mmap, marks: list[int], name: str, shown: Path) -> None:
    """Refuse a `>` among bases: files were joined without a line break, and a name is hidden."""
    for mark in marks:
        line = max(mapped.rfind(end, 0, mark) for end in (b"\n", b"\r")) + 1
        if mapped[line : line + 1] != b";":
            raise InputError(
                f"{shown}: a '>' stands inside a line of {name!r} (byte {mark + 1:,} of the file): "
                "a line break is missing before it. Correct the file."
            )


def _header_end(mapped: mmap.mmap, begin: int, end: int) -> int:
    found = _LINE_END.search(mapped, begin, end)
    return end if found is None else found.end()


def _name(header: bytes, number: int, shown: Path) -> str:
    """The first word of a header."""
    words = header.split()
    if not words:
        raise InputError(f"{shown}: record {number} has no name after its '>'. Give it one.")
    try:
        return words[0].decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{shown}: the name of record {number} is not UTF-8 text. Received: "
            f"{words[0][:40]!r}. Rename it."
        ) from error


def _layout(mapped: mmap.mmap, data: Bytes, offset: int, end: int) -> Layout:
    """Where the bases of the record are whose header ends at `offset`."""
    stop = _stripped(mapped, offset, end)
    if stop == offset:
        return Lines(0, offset, 0, 0)
    return _lines(mapped, data, offset, stop) or _pieces(mapped, offset, stop)


def _stripped(mapped: mmap.mmap, begin: int, end: int) -> int:
    """End of the bytes [begin, end) without the blanks behind them."""
    while end > begin:
        first = max(begin, end - 64)
        if kept := mapped[first:end].rstrip(BLANKS):
            return first + len(kept)
        end = first
    return begin


def _lines(mapped: mmap.mmap, data: Bytes, offset: int, stop: int) -> Lines | None:
    """The sequence in bytes [offset, stop), from the first base to the last, if it is regular."""
    line_end = _LINE_END.search(mapped, offset, stop)
    if line_end is None:
        bases, width = stop - offset, stop - offset + 1
    else:
        bases = len(mapped[offset : line_end.start()].rstrip(BLANKS))
        width = line_end.end() - offset
    if not bases or mapped[offset : offset + 1] == b";":
        return None
    n_full, rest = divmod(stop - offset, width)
    n_blank = 0
    for at in range(offset, stop, _BLOCK):
        n_blank += int(np.count_nonzero(data[at : min(at + _BLOCK, stop)] <= _BLANK))
    if rest > bases or n_blank != n_full * (width - bases):
        return None
    for column in range(bases, width):
        ends = data[offset + column : offset + n_full * width : width]
        if n_full and not (ends == data[offset + column]).all():
            return None
    return Lines(n_full * bases + rest, offset, bases, width)


def _pieces(mapped: mmap.mmap, offset: int, stop: int) -> Pieces:
    """The sequence in bytes [offset, stop), whatever its lines are."""
    bounds = [offset]
    for comment in _COMMENT.finditer(mapped, offset - 1, stop):
        bounds += [comment.start(), comment.end()]
    bounds.append(stop)
    begins, ends, bases = [], [], [0]
    for first, last in zip(bounds[::2], bounds[1::2], strict=True):
        for begin in range(first, last, _PIECE):
            end = min(begin + _PIECE, last)
            n_bases = len(mapped[begin:end].translate(None, BLANKS))
            if n_bases:
                begins.append(begin)
                ends.append(end)
                bases.append(bases[-1] + n_bases)
    return Pieces(*(np.array(numbers, np.int64) for numbers in (begins, ends, bases)))
