"""The text of BED and peak files: which lines are features, and what stands in which column.

BED has three columns and more. ENCODE's peak files go on from its first six: broadPeak has three
more (signal, p, q), narrowPeak a fourth (the summit), and `idr` writes its own columns behind
those; gappedPeak has three behind BED's twelve. A column that is taken for one that it is not would
move labels without a trace, so that a file whose name and columns do not agree is told of.

Source: https://genome.ucsc.edu/FAQ/FAQformat.html (BED, narrowPeak, broadPeak, gappedPeak);
https://github.com/nboley/idr (columns of `idr`)
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from danq_keras.system.errors import InputError
from danq_keras.system.inputs import BYTE_ORDER_MARK, is_utf16
from danq_keras.system.terminal import log

_NO_FEATURE = rb"(?:#|(?:track|browser)(?:[ \t]|$)|[ \t]*$)"
_LONE_RETURN = re.compile(rb"\r(?!\n)")
_NO_FEATURE_LINE = re.compile(_NO_FEATURE)
_NO_FEATURE_LINES = re.compile(rb"^" + _NO_FEATURE + rb"[^\n]*\n?", re.MULTILINE)

_VALUES_TRACK = re.compile(
    rb"^track[^\r\n]*[ \t]type=[\"']?(bedGraph|wiggle_0|bigWig)", re.MULTILINE | re.IGNORECASE
)
_WHOLE = re.compile(r"-?[0-9]{1,18}")

_SCORE, _SIGNAL, _SUMMIT, _GAPPED_SIGNAL = 4, 6, 9, 12
_NARROW, _BROAD, _BED12, _GAPPED = 10, 9, 12, 15  # columns
_IDR_NARROW, _IDR_BROAD = 20, 17  # narrowPeak or broadPeak, two of IDR, those of two replicates


def feature_lines(path: Path, content: bytes) -> bytes:
    """The lines of a file that are features, each with a line feed, without a byte order mark.

    Raises:
        InputError: there are none, or the file is not text of a byte a letter.
    """
    if is_binary(content):
        raise _no_text(path)
    content = content.removeprefix(BYTE_ORDER_MARK)
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    content = _NO_FEATURE_LINES.sub(b"", content)
    if not content:
        raise InputError(f"{path}: no features. A BED file needs at least one line.")
    return content


def refuse_other_format(path: Path, head: bytes) -> None:
    """Refuse what has chromosomes and numbers, and other things than features behind them.

    Args:
        path: the file, whose name counts.
        head: the beginning of its content.

    Raises:
        InputError: it is a bedGraph, a wiggle or a VCF file.
    """
    name = path.name.lower().removesuffix(".gz")
    track = _VALUES_TRACK.search(head)
    if track or name.endswith((".bedgraph", ".bdg", ".wig")):
        kind = track.group(1).decode() if track else name.rpartition(".")[2]
        raise InputError(
            f"{path}: {kind} has values along the genome, those of 0 too, and no peaks. Call peaks "
            "on it; where each line is one, save it as BED."
        )
    if head.removeprefix(BYTE_ORDER_MARK).startswith(b"##fileformat=VCF"):
        raise InputError(f"{path}: a VCF file, where BED or peaks are needed. Give such a file.")


def first_feature(head: bytes, *, is_whole: bool) -> tuple[int, bytes]:
    """How many lines stand before the first feature, and that feature's line.

    Args:
        head: the beginning of a file.
        is_whole: whether that is all of it; else its last line may be cut.

    Returns:
        The line is empty where there is none, or where the file needs a closer look.
    """
    # pandas counts the lines to skip otherwise where a lone carriage return ends them.
    if head.startswith(BYTE_ORDER_MARK) or is_binary(head) or _LONE_RETURN.search(head):
        return 0, b""
    for number, line in enumerate(head.splitlines(keepends=True)):
        if is_feature(line):
            return (number, line) if is_whole or line.endswith((b"\n", b"\r")) else (0, b"")
    return 0, b""


def is_binary(content: bytes) -> bool:
    """Whether a file with this in it is not text of a byte a letter."""
    return is_utf16(content) or b"\0" in content


def is_chromosome(name: object) -> bool:
    """Whether a first field is a chromosome's name, no comment and no line for a browser."""
    if not isinstance(name, str):
        return False
    return not name.startswith("#") and name not in ("track", "browser")


MARK = "mark"


class TextOnly:
    """A file of bytes for pandas that stops at what no text has, and ends with a mark.

    The mark is a line like `first`, on the chromosome `MARK`, whose name is no number: pandas makes
    numbers of categories that are all digits, of 01 and 1 the same one, but not where one is a
    word. Names that are read as text take 1.6 times as long.

    Raises:
        InputError: there is a byte 0, which would end a number before its time.
    """

    def __init__(self, path: Path, handle: IO[bytes], first: bytes) -> None:
        self._path, self._handle = path, handle
        tab = b"\t" if b"\t" in first else None
        rest = first.rstrip(b"\r\n").split(tab)[1:]
        self._mark = b"\n" + b"\t".join([MARK.encode(), *rest]) + b"\n"

    def read(self, n_bytes: int = -1) -> bytes:
        """The next bytes."""
        block = self._handle.read(n_bytes)
        if b"\0" in block:
            raise _no_text(self._path)
        if not block and n_bytes:
            block, self._mark = self._mark, b""
        return block

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._handle)


def _no_text(path: Path) -> InputError:
    return InputError(f"{path}: not a BED file: not plain text. Save it as text (UTF-8).")


def is_feature(line: bytes) -> bool:
    """Whether a line is neither blank, nor a comment, nor a line for a genome browser."""
    return _NO_FEATURE_LINE.match(line.rstrip(b"\r\n")) is None


def split_line(line: bytes, *, tabs: bool | None = None) -> list[str]:
    """The fields of a line: between tabs, or between blanks where it (or its file) has no tab."""
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    return text.split("\t") if ("\t" in text if tabs is None else tabs) else text.split()


def is_number(text: str) -> bool:
    """Whether a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def peak_columns(path: Path, fields: list[str], *, with_signal: bool) -> dict[str, int]:
    """Which columns to read of a file.

    Args:
        path: the file, whose name counts.
        fields: of its first feature.
        with_signal: whether the signal is needed.

    Returns:
        chrom, start, end, and where they are to be read signal and summit, each with its column.

    Raises:
        InputError: too few columns, or no signal where one is needed.
    """
    if len(fields) < 3:
        raise InputError(
            f"{path}: a BED file has at least 3 columns (chromosome, start, end). "
            f"Received: {len(fields)}. Separate the columns with tabs."
        )
    used = {"chrom": 0, "start": 1, "end": 2}
    kind = _kind_by_name(path, fields) or _kind_by_columns(path, fields)
    if kind == "narrowPeak":
        used["summit"] = _SUMMIT
    if with_signal:
        signals = {"narrowPeak": _SIGNAL, "broadPeak": _SIGNAL, "gappedPeak": _GAPPED_SIGNAL}
        used["signal"] = signals.get(kind, _SCORE)
        if used["signal"] >= len(fields):
            raise InputError(
                f"{path}: no signal (narrowPeak, broadPeak) and no score (BED column 5) for "
                f"`min_signal`. Received: {len(fields)} columns. Leave the option out."
            )
        if kind not in signals:
            log.info("%s: plain BED: its score, column 5, is taken for its signal.", path)
    return used


def _kind_by_name(path: Path, fields: list[str]) -> str:
    """The format that a file's name says and its columns allow; "" where it says none."""
    columns = {"narrowPeak": _NARROW, "broadPeak": _BROAD, "gappedPeak": _GAPPED}
    said = next((kind for kind in columns if kind.lower() in path.name.lower()), "")
    if said and len(fields) < columns[said]:
        log.warning(
            "%s: called %s, which has %d columns, and has %d: read as plain BED, without its "
            "signal%s.",
            path,
            said,
            columns[said],
            len(fields),
            " and summits" if said == "narrowPeak" else "",
        )
        return "BED"
    if said == "narrowPeak" and _is_bed12(fields):
        log.warning(
            "%s: called narrowPeak, and its columns are those of BED of 12 columns: read as such, "
            "without signal and summits.",
            path,
        )
        return "BED"
    return said


def _kind_by_columns(path: Path, fields: list[str]) -> str:
    """The format of a file that does not say it."""
    n = len(fields)
    if n == _GAPPED and _is_bed12(fields) and _are_numbers(fields[_BED12:]):
        return "gappedPeak"
    if n < _BROAD or _is_bed12(fields) or not _are_numbers(fields[_SIGNAL:_NARROW]):
        return "BED"
    if n == _BROAD:
        return "BED" if _has_thick_part(fields) else "broadPeak"
    if n == _IDR_BROAD and _are_numbers(fields[_SIGNAL:]) and not _is_summit(fields):
        return "broadPeak"
    if not _is_summit(fields):
        log.warning(
            "%s: %d columns, and the tenth is no summit, a whole number of bases from the start: "
            "read as plain BED.",
            path,
            n,
        )
        return "BED"
    if n == _NARROW:
        log.info("%s: read as narrowPeak: signal in column 7, summit in column 10.", path)
    elif n != _IDR_NARROW:
        log.warning(
            "%s: read as narrowPeak with %d further columns: signal in column 7, summit in "
            "column 10.",
            path,
            n - _NARROW,
        )
    return "narrowPeak"


def _are_numbers(texts: list[str]) -> bool:
    return all(map(is_number, texts))


def _has_thick_part(fields: list[str]) -> bool:
    """Whether columns 7 and 8 are positions inside the feature, as in BED of nine columns."""
    texts = fields[1], fields[_SIGNAL], fields[_SIGNAL + 1], fields[2]
    if not all(_WHOLE.fullmatch(text) for text in texts):
        return False
    places = [int(text) for text in texts]
    return places == sorted(places)


def _is_bed12(fields: list[str]) -> bool:
    if len(fields) < _BED12:
        return False
    blocks = all("," in field for field in fields[_BED12 - 2 : _BED12])
    return blocks or _has_thick_part(fields)


def _is_summit(fields: list[str]) -> bool:
    """Whether column 10 is a whole number inside the feature, or -1 for none."""
    texts = fields[1], fields[2], fields[_SUMMIT]
    if not all(_WHOLE.fullmatch(text) for text in texts):
        return False
    start, end, summit = map(int, texts)
    return -1 <= summit < end - start
