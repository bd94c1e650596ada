"""Tables read as text and written for people and programs."""

import csv
import io
import sys
import warnings
from pathlib import Path
from typing import IO

import pandas as pd

from danq_keras.system.errors import InputError, one_line, shorten
from danq_keras.system.files import open_bytes
from danq_keras.system.inputs import BYTE_ORDER_MARK, input_file

_SEPARATORS = ("\t", ",", ";")
_EXCEL = len("sep=;")


def read_table(path: Path, *, required: tuple[str, ...]) -> pd.DataFrame:
    """Read a table with a header, plain or gzip, as text ("NA" is a text too).

    Raises:
        InputError: missing, unreadable, or without one of the `required` columns.
    """
    with open_bytes(path) as file:
        rows = parse_table(path, file)
    missing = [column for column in required if column not in rows.columns]
    if missing:
        raise InputError(
            f"{path}: expected a header with {', '.join(required)}. Missing: {', '.join(missing)}. "
            f"Received: {', '.join(map(str, rows.columns))[:80]}. Add the header line."
        )
    return rows


def parse_table(path: Path, file: IO[bytes]) -> pd.DataFrame:
    """The rows of an open table with a header, as text; blank lines are passed over.

    Cells stand between tabs where the header has one, else between commas, else between semicolons,
    or between what a first line `sep=;` names, as Excel writes it. They may stand in quotes.

    Raises:
        InputError: not a table: a row is not as long as the header, a column has no name of its
            own, or a quote that is never closed makes one cell of several lines; it names `path`.
    """
    content = file.read().removeprefix(BYTE_ORDER_MARK)
    if (frame := _plain(content)) is not None:
        return frame
    try:
        rows = _cells(path, content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a table ({one_line(error)}). Correct the file.") from error
    if not rows:
        raise InputError(f"{path}: not a table: it is empty. Give one with a header.")
    names, body = rows[0], rows[1:]
    # spreadsheets write the separators of columns that nobody has filled
    while names[-1] == "" and len(names) > 1 and not any(row[-1] for row in body):
        names, body = names[:-1], [row[:-1] for row in body]
    if twice := sorted({repr(name) for name in names if names.count(name) > 1}):
        raise InputError(
            f"{path}: columns must have names of their own. Received twice: {shorten(twice)}."
        )
    return pd.DataFrame(body, columns=names, dtype=object)


def _plain(content: bytes) -> pd.DataFrame | None:
    """A table without quotes whose rows are all as long as its header, in a third of the time."""
    header = content[: content.find(b"\n") + 1].rstrip(b"\n")
    if not header or any(mark in content for mark in (b'"', b"\r", b"\0")):
        return None
    separator = _separator(header.decode("utf-8", "replace"))
    names = header.decode("utf-8", "replace").split(separator)
    if separator == header[-1:].decode("latin-1") or len(set(names)) < len(names):
        return None
    try:
        with warnings.catch_warnings():  # of lines of another length, which are looked at below
            warnings.simplefilter("ignore", pd.errors.ParserWarning)
            frame = pd.read_csv(
                io.BytesIO(content),
                sep=separator,
                dtype=str,
                na_filter=False,
                index_col=False,
                quoting=csv.QUOTE_NONE,
            )
    except ValueError:  # pandas' parser errors are such
        return None
    n_separators = (len(names) - 1) * (len(frame) + 1)
    is_whole = list(frame) == names and content.count(separator.encode()) == n_separators
    return frame if is_whole else None


def _separator(header: str) -> str:
    return next((each for each in _SEPARATORS if each in header), ",")


def _cells(path: Path, text: str) -> list[list[str]]:
    """The cells of a table's lines, the header's first.

    Raises:
        InputError: see `parse_table`.
    """
    lines = io.StringIO(text, newline="")
    header = next((line for line in lines if line.strip()), "")
    separator = _separator(header)
    if header.lower().startswith("sep=") and len(header.rstrip("\r\n")) == _EXCEL:
        separator = header[_EXCEL - 1]
    else:
        lines.seek(0)
    rows: list[list[str]] = []
    limit = csv.field_size_limit(sys.maxsize)  # a sequence may be longer than its 131,072
    reader, before = csv.reader(lines, delimiter=separator, strict=True), 0
    try:
        for row in reader:
            begin, before = before + 1, reader.line_num
            if before > begin:
                raise InputError(
                    f"{path}: a cell must not hold a line break. One that begins in row {begin} of "
                    "the file does: is there a quote that is not closed? Correct the file."
                )
            if not row or (len(row) == 1 and not row[0].strip(" ")):
                continue
            if rows and len(row) != len(rows[0]):
                raise InputError(
                    f"{path}: not a table: row {begin} of the file has {len(row)} cells, the "
                    f"header has {len(rows[0])}. Is the file cut short, or a quote not closed?"
                )
            rows.append(row)
    except csv.Error as error:
        raise InputError(
            f"{path}: not a table: row {before + 1} of the file ({one_line(error)}). Correct it."
        ) from error
    finally:
        csv.field_size_limit(limit)
    return rows


def refuse_doubled_columns(frame: pd.DataFrame, where: str) -> None:
    """Refuse a data frame two of whose columns have one name.

    Raises:
        InputError: they have; it begins with `where`.
    """
    if twice := sorted({repr(column) for column in frame.columns[frame.columns.duplicated()]}):
        raise InputError(f"{where}: columns must differ. Received twice: {shorten(twice)}.")


def write_tsv(path: Path, frame: pd.DataFrame) -> None:
    """Write any of the project's tables: tabs, header, NA, nine digits, UTF-8."""
    frame.to_csv(path, sep="\t", index=False, na_rep="NA", float_format="%.9g", encoding="utf-8")


def read_text_table(path: Path) -> pd.DataFrame:
    """A tab-separated file with header, every cell as text ("NA" and "None" stay what they are).

    Raises:
        InputError: the file is empty, not UTF-8 text, or has rows of differing lengths.
        OSError: the file cannot be read.
    """
    try:
        with input_file(path).open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file, delimiter="\t", strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a table of tab-separated text ({error}).") from error
    if not rows:
        raise InputError(f"{path}: an AUC table starts with a header. Received an empty file.")
    header, body = rows[0], rows[1:]
    for line, row in enumerate(body, 2):
        if len(row) != len(header):
            raise InputError(
                f"{path}: every row has the header's {len(header)} columns. Row {line} has "
                f"{len(row)}. Is the file cut short?"
            )
    if len(set(header)) < len(header):
        raise InputError(f"{path}: column names must be unique. Received: {', '.join(header)}.")
    return pd.DataFrame(body, columns=header, dtype=object)
