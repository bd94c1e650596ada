"""Variants of a table, as a notebook has them, read like a VCF file."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from danq_keras.system.errors import InputError
from danq_keras.system.names import printable
from danq_keras.variants.vcf import MISSING, Record

COLUMNS = ("chrom", "pos", "ref", "alt")


class VariantTable:
    """Rows of a table as the records of a VCF file.

    Args:
        table: columns chrom, pos (1-based), ref, alt and, if wanted, id; alt may name several
            alleles with commas.

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
        positions = pd.to_numeric(table["pos"], errors="coerce")
        wrong = positions.isna() | (positions % 1 != 0)
        if wrong.any():
            raise InputError(
                f"`variants`: pos is a whole number from 1 on. Received: "
                f"{table['pos'][wrong].iloc[0]!r} in row {int(wrong.to_numpy().argmax())}."
            )
        self._table = table
        self._positions = positions.astype("int64")

    def records(self, *, with_lines: bool = False) -> Iterator[Record]:  # noqa: ARG002  as VcfFile
        """The rows from the first on; each call is a pass of its own."""
        table = self._table
        names = table["id"] if "id" in table else [MISSING] * len(table)
        for chrom, pos, name, ref, alt in zip(
            table["chrom"], self._positions, names, table["ref"], table["alt"], strict=True
        ):
            alts = tuple(str(alt).split(",")) if isinstance(alt, str) and alt != MISSING else ()
            texts = _cell(chrom), _cell(name), _cell(ref)
            yield Record(texts[0], int(pos), texts[1], texts[2], tuple(map(_cell, alts)))

    def digest(self) -> str:
        """Checksum of the table, which tells whether it is still the same."""
        return hashlib.sha256(self._table.to_csv().encode()).hexdigest()


def _cell(value: object) -> str:
    """Text that fits into a cell of a table."""
    return printable(str(value)).replace("\t", "\\t").replace("\n", "\\n")
