"""Variants of a table, as a notebook has them, read like a VCF file."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from danq_keras.system.errors import InputError
from danq_keras.system.names import printable
from danq_keras.system.tables import refuse_doubled_columns
from danq_keras.variants.vcf import MISSING, Record

COLUMNS = ("chrom", "pos", "ref", "alt")
_MOST = 2**53  # above it a float has no single bases


class VariantTable:
    """Rows of a table as the records of a VCF file.

    Args:
        table: columns chrom, pos (1-based), ref, alt and, if wanted, id; alt may name several
            alleles, with commas or as a list.

    Raises:
        InputError: a column is missing, or a position is no whole number.
    """

    path = Path("variants")
    header = tail = b""
    notes: tuple[str, ...] = ()

    def __init__(self, table: pd.DataFrame) -> None:
        missing = [name for name in COLUMNS if name not in table]
        if missing:
            raise InputError(
                f"`variants`: a table with the columns {', '.join(COLUMNS)}. Missing: "
                f"{', '.join(missing)}."
            )
        refuse_doubled_columns(table, "`variants`")
        numeric = table["pos"].map(lambda value: not isinstance(value, bool | np.bool_))
        is_time = pd.api.types.is_datetime64_any_dtype(table["pos"])
        positions = pd.to_numeric(table["pos"].where(numeric & (not is_time)), errors="coerce")
        wrong = ~((positions % 1 == 0) & positions.between(0, _MOST))
        if wrong.any():
            raise InputError(
                f"`variants`: pos is a whole number from 1 on. Received: "
                f"{table['pos'][wrong].iloc[0]!r} in row {int(wrong.to_numpy().argmax())}."
            )
        for column in ("chrom", "ref"):
            if table[column].isna().any():
                row = int(table[column].isna().to_numpy().argmax())
                raise InputError(f"`variants`: row {row} has no {column}. Leave it out.")
        self._table = table
        self._alts = [_alleles(value, row) for row, value in enumerate(table["alt"].tolist())]
        self._positions = positions.astype("int64")

    def records(self, *, with_lines: bool = False) -> Iterator[Record]:  # noqa: ARG002  as VcfFile
        """The rows from the first on; each call is a pass of its own."""
        table = self._table
        names = table["id"] if "id" in table else [MISSING] * len(table)
        for chrom, pos, name, ref, alts in zip(
            table["chrom"], self._positions, names, table["ref"], self._alts, strict=True
        ):
            texts = _cell(chrom), _cell(name), _cell(ref)
            yield Record(texts[0], int(pos), texts[1], texts[2], tuple(map(_cell, alts)))

    def digest(self) -> str:
        """Checksum of the table, which tells whether it is still the same."""
        return hashlib.sha256(self._table.to_csv().encode()).hexdigest()


def _alleles(value: Any, row: int) -> tuple[str, ...]:
    """The alternative alleles of a cell: a text with commas, several texts, or none.

    Raises:
        InputError: something else.
    """
    if isinstance(value, str):
        value = [] if value in ("", MISSING) else value.split(",")
    elif value is None or (not isinstance(value, list | tuple) and pd.isna(value) is True):
        value = []
    if isinstance(value, list | tuple | np.ndarray) and all(
        isinstance(each, str) for each in value
    ):
        return tuple(_cell(each) for each in value)
    raise InputError(
        f"`variants`: alt is a text, such as 'A' or 'A,T', or a list of texts. Received: "
        f"{value!r} in row {row}."
    )


def _cell(value: object) -> str:
    """Text that fits into a cell of a table."""
    if not isinstance(value, str) and pd.isna(value):
        return MISSING
    return printable(str(value)).replace("\t", "\\t").replace("\n", "\\n")
