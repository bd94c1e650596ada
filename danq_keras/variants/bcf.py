"""BCF files, which are no text, read with pysam.

pysam belongs to the extra `variants`; nothing else in the package imports it.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from danq_keras.system.errors import InputError, optional_module

_DAMAGED = (OSError, ValueError, NotImplementedError)  # what pysam may say of a file

Row = tuple[str, int, str, str, tuple[str, ...], bytes]
"""chrom, pos, id ("" where missing), ref, alternative alleles, and the line."""


def bcf_header(path: Path) -> bytes:
    """The header of a BCF file as the lines of a VCF file, up to and with #CHROM.

    Raises:
        InputError: it is damaged.
    """
    with _open(path) as file:
        return str(file.header).encode()


def bcf_rows(path: Path, *, with_lines: bool) -> Iterator[Row]:
    """The records of a BCF file; their lines as pysam writes them, if they are asked for.

    Raises:
        InputError: a record is damaged, or the file is truncated.
    """
    with _open(path) as file:
        records, n_read = iter(file), 0
        while True:
            try:
                with _silent():
                    record = next(records)
                    line = str(record).encode() if with_lines else b""
            except StopIteration:
                return
            except _DAMAGED as error:
                raise InputError(
                    f"{path}: record {n_read + 1} is malformed, or the file ends in it. Fetch the "
                    "file again."
                ) from error
            n_read += 1
            alts = tuple(record.alts or ())
            yield record.chrom, record.pos, record.id or "", record.ref or "", alts, line


def _open(path: Path) -> Any:
    pysam = optional_module("pysam", "variants")
    try:
        with _silent():
            return pysam.VariantFile(str(path))
    except _DAMAGED as error:
        raise InputError(f"{path}: damaged or truncated BCF. Fetch the file again.") from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Hold back htslib's own messages, such as of contigs that a header leaves out."""
    pysam = optional_module("pysam", "variants")
    before = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(before)
