"""Variants as text: VCF files (plain, gzip, bgzip, or from a pipe), lists without header, and BCF.

A file is read line by line, in order, as often as wanted; positions are 1-based, as in the file.
Its lines stay bytes, so that what is written back is what was read. What a record's alleles mean is
not judged here (see `windows`), INFO and genotypes are not read, and no index is needed.

A list has the columns chrom, pos, name, ref, alt (and maybe the further ones of a VCF file) and no
header, as DeepSEA takes them; one is made up for it. Whatever is accepted with a doubt is in
`VcfFile.notes`.
"""

import contextlib
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

from danq_keras.system.errors import InputError
from danq_keras.system.files import open_bytes
from danq_keras.system.inputs import BYTE_ORDER_MARK, input_file, is_utf16
from danq_keras.system.names import printable
from danq_keras.variants.bcf import bcf_header, bcf_rows

MISSING = "."
_COLUMNS = (b"CHROM", b"POS", b"ID", b"REF", b"ALT", b"QUAL", b"FILTER", b"INFO", b"FORMAT")
_LEAST, _WITH_INFO = 5, 8  # columns that a line must have, and those of a VCF line
_REF = re.compile(rb"[ACGTUNRYSWKMBDHVacgtunryswkmbdhv]+|[.-]")
_ALT = re.compile(rb"[\w.*,<>:\[\]-]*[A-Za-z.*>\[\]-]")
_POS_DIGITS = 18  # a position is a 64-bit number
_BUFFER = 1 << 20
_NOTES = {
    "text": "{n} records have an identifier or an allele with bytes that are no UTF-8 text, or "
    "control characters: in tables and messages they are written as \\x..",
    "columns": "{n} lines have other numbers of columns than the header; missing ones count as '.'",
    "comments": "{n} lines of comment after the header are not read",
    "blank": "{n} blank lines are not read",
}


class Record(NamedTuple):
    """A line of a VCF file: `pos` is 1-based, `id` "." where it has none, `alts` as written.

    `line` is the whole line with its end, and before it the blank lines and comments between the
    last record and this one; empty where the source has none.
    """

    chrom: str
    pos: int
    id: str
    ref: str
    alts: tuple[str, ...]
    line: bytes = b""


class VcfFile:
    """A file of variants, its header read.

    Args:
        path: VCF file (plain, bgzip or gzip), list of variants, or BCF; or a pipe, of which "-" is
            standard input.

    Attributes:
        path: the file.
        readable: the file, or the copy of a pipe.
        header: its lines up to and with #CHROM, with their ends, made up for a list.
        notes: what was accepted with a doubt, one line each; complete after a pass.
        tail: the blank lines and comments after the last record; known after a pass.

    Raises:
        InputError: no such file, not variants, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tail = b""
        self._notes: list[str] = []
        self._counts: Counter[str] = Counter()
        self.readable = input_file(path)
        self._is_bcf = self._check()
        if self._is_bcf:
            self.header = bcf_header(self.readable)
        else:
            self._read_header()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was accepted with a doubt, one line each."""
        counted = (_NOTES[name].format(n=f"{n:,}") for name, n in self._counts.items())
        return (*self._notes, *counted)

    def records(self, *, with_lines: bool = False) -> Iterator[Record]:
        """The records from the first on; each call is a pass of its own.

        Args:
            with_lines: whether a record of a BCF file has its line too; others always have.

        Raises:
            InputError: a line is malformed, or the file is truncated.
        """
        if self._is_bcf:
            for chrom, pos, name, ref, alts, line in bcf_rows(self.readable, with_lines=with_lines):
                yield Record(chrom, pos, name or MISSING, ref or MISSING, alts, line)
            return
        with self._lines() as lines:
            for _ in range(self._n_header):
                next(lines)
            yield from self._read(lines)

    def digest(self) -> str:
        """Checksum of the file, which tells whether it is still the same."""
        with self.readable.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _check(self) -> bool:
        """Whether it is a BCF file; refuses what is no text."""
        with self._open() as content:
            first = content.read(4096)
        if not first:
            raise InputError(f"{self.path}: the file is empty. Give a VCF file with variants.")
        if first.startswith(b"BCF"):
            return True
        if b"\r" in first and b"\n" not in first:
            raise InputError(
                f"{self.path}: its lines end with a carriage return alone, as on old Macs. Convert "
                "them (`tr '\\r' '\\n'`)."
            )
        if b"\0" in first:
            what = "UTF-16 text" if is_utf16(first) else "binary"
            raise InputError(
                f"{self.path}: not a VCF file: it is {what}. Give plain text (UTF-8), gzip, bgzip "
                "or BCF."
            )
        return False

    @contextlib.contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        """The text, unpacked."""
        with (
            open_bytes(self.path) as content,
            io.BufferedReader(content, _BUFFER) as buffered,  # type: ignore[type-var]
        ):
            yield buffered

    @contextlib.contextmanager
    def _lines(self) -> Iterator[Iterator[bytes]]:
        with self._open() as content:
            if content.peek(len(BYTE_ORDER_MARK)).startswith(BYTE_ORDER_MARK):  # type: ignore[attr-defined]
                content.read(len(BYTE_ORDER_MARK))
            yield iter(content)

    # ---- the header

    def _read_header(self) -> None:
        """Everything up to the first record: sets `header`, and how lines are split."""
        head: list[bytes] = []
        first, names = b"", None
        with self._open() as content:
            self._bom = content.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK
        with self._lines() as lines:
            for line in lines:
                if line[:6].upper() == b"#CHROM":
                    head.append(line)
                    names = self._column_names(line)
                    first = next(lines, b"")
                    break
                if line.strip() and not line.startswith(b"#"):
                    first = line
                    break
                head.append(line)
        self._n_header = len(head)
        self._blanks = False  # whether blanks, not tabs, are between the columns
        if self._bom:
            self._notes.append("begins with a byte order mark")
        self._verbatim = names is not None and len(names) >= _WITH_INFO
        if names is None:
            self._make_header(head, first)
        else:
            self._end = _end_of(head[-1])
            self._n_columns, self._pads = len(names), len(names) < _WITH_INFO
            head[-1] = _padded(head[-1], _COLUMNS) if self._pads else head[-1]
            self.header = BYTE_ORDER_MARK * self._bom + b"".join(head)
            self._note_version(head[0])

    def _column_names(self, line: bytes) -> list[bytes]:
        names = line.strip().lstrip(b"#").split(b"\t")
        upper = tuple(name.upper() for name in names[: len(_COLUMNS)])
        if len(names) < _LEAST or upper != _COLUMNS[: len(upper)]:
            raise InputError(
                f"{self.path}: the columns of its #CHROM line must be CHROM, POS, ID, REF, ALT, "
                "QUAL, FILTER, INFO and then FORMAT and samples, separated by tabs (at least the "
                f"first five). Received: {_shown(line)}. Correct the line."
            )
        return names

    def _note_version(self, first: bytes) -> None:
        if not first.startswith(b"##fileformat=VCFv4"):
            self._notes.append(
                f"does not begin with ##fileformat=VCFv4 but with {_shown(first)}; read as version "
                "4"
            )

    def _make_header(self, head: list[bytes], first: bytes) -> None:
        """The header of a list, which has none."""
        self._check_list(head, first)
        words = first.split() if self._blanks else first.rstrip(b"\r\n").split(b"\t")
        if words[1].lower() in (b"pos", b"position"):  # names of columns, without #
            self._n_header += 1
        self._n_columns, self._pads = len(words), len(words) < _WITH_INFO
        self._end = _end_of(first)
        names = list(_COLUMNS[: max(_WITH_INFO, min(len(words), len(_COLUMNS)))])
        names += [b"SAMPLE%d" % i for i in range(1, len(words) - len(_COLUMNS) + 1)]
        comments = [line for line in head if line.strip()]
        meta = [line for line in comments if line.startswith(b"##")]
        if not any(line.startswith(b"##fileformat=") for line in meta):
            meta.insert(0, b"##fileformat=VCFv4.2" + self._end)
        meta += [b"##comment=" + c[1:].lstrip() for c in comments if not c.startswith(b"##")]
        self.header = b"".join([*meta, b"#" + b"\t".join(names) + self._end])
        columns = "chrom, pos, name, ref, alt" + ", …" * (len(words) > _LEAST)
        blanks = ", separated by blanks" * self._blanks
        self._notes.append(f"has no #CHROM line: read as a list of {columns}{blanks}")

    def _check_list(self, head: list[bytes], first: bytes) -> None:
        if not first and any(line.startswith(b"##fileformat=VCF") for line in head):
            raise InputError(
                f"{self.path}: no variants after the header, which has no #CHROM line. Give a VCF "
                "file that has some."
            )
        self._blanks = b"\t" not in first
        words = first.split() if self._blanks else first.rstrip(b"\r\n").split(b"\t")
        named = len(words) >= _LEAST and words[1].lower() in (b"pos", b"position")
        if named:
            good = (words[0].lower().startswith(b"chr"), *map(bytes.lower, words[3:5])) == (
                *(True, b"ref", b"alt"),
            )
        else:
            good = len(words) >= _LEAST and _is_position(words[1])
            good = good and bool(_REF.fullmatch(words[3]) and _ALT.fullmatch(words[4].rstrip()))
        if not good:
            received = _shown(first or b"".join(head[:1]))
            raise InputError(
                f"{self.path}: not a VCF file (it has no #CHROM line), nor a list of chrom, pos, "
                f"name, ref, alt separated by tabs. Received: {received}. Check the path."
            )
        if (
            not named
            and _is_position(words[2])
            and int(words[2]) - int(words[1]) in (*(len(words[3]) - 1, len(words[3])),)
        ):
            self._notes.append(
                "the third column looks like the end of an interval; it is read as a name, and the "
                "second as the 1-based position"
            )

    # ---- the records

    def _read(self, lines: Iterator[bytes]) -> Iterator[Record]:
        counts: Counter[str] = Counter()
        chroms: dict[bytes, str] = {}
        held, number, n_tabs = b"", self._n_header, self._n_columns - 1
        for line in lines:
            number += 1
            if self._blanks:
                line = b"\t".join(line.split()) + (_end_of(line) if line.endswith(b"\n") else b"")
            fields = line.split(b"\t", _LEAST)
            if len(fields) < _LEAST or line[:1] == b"#":
                passed = self._passed_over(line, number, counts)
                held += passed if self._verbatim else b""
                continue
            chrom, pos, name, ref, alt = fields[:_LEAST]
            if not _is_position(pos) or not chrom:
                self._refuse(number, line)
            if line.count(b"\t") != n_tabs:
                self._check_columns(line, number, counts)
            if chrom not in chroms:
                chroms[chrom] = _text((chrom,), counts)[0]
            try:
                texts = [word.decode("ascii") for word in (name, ref, alt.rstrip())]
                plain = "".join(texts).isprintable()
            except UnicodeDecodeError:
                plain = False
            if not plain:
                texts = _text((name, ref, alt.rstrip()), counts)
            alts = () if texts[2] in (MISSING, "") else tuple(texts[2].split(","))
            if self._pads:
                line = _padded(line, (b".",) * _WITH_INFO)
            if held:
                line, held = held + line, b""
            yield Record(
                chroms[chrom], int(pos), texts[0] or MISSING, texts[1] or MISSING, alts, line
            )
        self.tail, self._counts = held, counts

    def _passed_over(self, line: bytes, number: int, counts: Counter[str]) -> bytes:
        """A blank line or a comment; anything else is refused."""
        if not line.strip():
            counts["blank"] += 1
        elif line.startswith(b"#"):
            counts["comments"] += 1
        else:
            self._refuse(number, line)
        return line

    def _check_columns(self, line: bytes, number: int, counts: Counter[str]) -> None:
        """Other columns than in the header: counted, but a last line that is cut is refused."""
        if line.count(b"\t") < self._n_columns - 1 and not line.endswith(b"\n"):
            raise InputError(
                f"{self.path}: line {number} ends in its {line.count(9) + 1}th of "
                f"{self._n_columns} columns, without a line end: the file is truncated. Fetch it "
                "again."
            )
        counts["columns"] += 1

    def _refuse(self, number: int, line: bytes) -> NoReturn:
        raise InputError(
            f"{self.path}: line {number} is malformed, or the file ends in it: {_shown(line)}. A "
            "record is CHROM, POS (a whole number), ID, REF, ALT, QUAL, FILTER and INFO, "
            "separated by tabs. Correct the file."
        )


def _is_position(word: bytes) -> bool:
    return word.isdigit() and len(word) <= _POS_DIGITS


def _end_of(line: bytes) -> bytes:
    return b"\r\n" if line.endswith(b"\r\n") else b"\n"


def _padded(line: bytes, columns: tuple[bytes, ...]) -> bytes:
    """A line of fewer than eight columns with the missing ones of `columns`; its end stays."""
    body = line.rstrip(b"\r\n")
    words = body.split(b"\t")
    words = [word or b"." for word in words] + list(columns[len(words) : _WITH_INFO])
    return b"\t".join(words) + line[len(body) :]


def _text(values: tuple[bytes, ...], counts: Counter[str]) -> list[str]:
    """Bytes as text that tables and terminals can hold; what is none is counted."""
    texts = [printable(value.decode("utf-8", "backslashreplace")) for value in values]
    if any(text.encode() != value for text, value in zip(texts, values, strict=True)):
        counts["text"] += 1
    return texts


def _shown(line: bytes) -> str:
    """The beginning of a line, as a message may hold it."""
    return (
        f"'{printable(line[:60].decode('utf-8', 'backslashreplace').strip().replace(chr(9), ' '))}'"
    )
