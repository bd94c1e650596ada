"""Tab-separated tables read as text and written for people and programs."""

import csv
import warnings
from pathlib import Path
from typing import IO

import pandas as pd

from danq_keras.system.errors import InputError, one_line
from danq_keras.system.inputs import input_file


def read_table(path: Path, *, required: tuple[str, ...]) -> pd.DataFrame:
    """Read a tab- or comma-separated table with a header as text ("NA" is a text too).

    Raises:
        InputError: missing, unreadable, or without one of the `required` columns.
    """
    with input_file(path).open("rb") as file:
        rows = parse_table(path, file)
    missing = [column for column in required if column not in rows.columns]
    if missing:
        raise InputError(
            f"{path}: expected a header with {', '.join(required)}. Missing: {', '.join(missing)}. "
            f"Received: {', '.join(map(str, rows.columns))[:80]}. Add the header line."
        )
    return rows


def parse_table(path: Path, file: IO[bytes]) -> pd.DataFrame:
    """The rows of an open tab- or comma-separated table with a header, as text.

    Raises:
        InputError: not a table, or a row has cells without a column; it names `path`.
    """
    try:
        separator = "\t" if b"\t" in file.readline() else ","
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of cells without a column
            return pd.read_csv(
                file,
                sep=separator,
                dtype=str,
                na_filter=False,
                index_col=False,
                encoding="utf-8-sig",
            )
    except (ValueError, pd.errors.ParserWarning) as error:  # pandas' parser errors are such
        raise InputError(f"{path}: not a table ({one_line(error)}). Correct the file.") from error


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
