"""Variants of a data frame: every form of allele that notebooks have, or one line."""

import numpy as np
import pandas as pd
import pytest

from danq_keras.system.errors import InputError
from danq_keras.variants.table import VariantTable

FRAME = pd.DataFrame({"chrom": ["chr1", "chr2"], "pos": [5, 7], "ref": ["A", "C"]})


def alts_of(*cells):
    table = FRAME.assign(alt=pd.Series(list(cells), dtype=object))
    return [record.alts for record in VariantTable(table).records()]


def test_alleles_as_text_or_lists():
    assert alts_of("T", "A,G") == [("T",), ("A", "G")]
    assert alts_of(["T"], ("A", "G")) == [("T",), ("A", "G")]  # pysam's record.alts is a tuple


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, ".", "", []])
def test_no_alternative_allele(missing):
    assert alts_of("T", missing) == [("T",), ()]


@pytest.mark.parametrize("cell", [b"T", 5, [b"T"], {"T": 1}])
def test_alleles_that_are_no_text_are_refused(cell):
    with pytest.raises(InputError, match=r"alt is a text.* in row 1"):
        alts_of("T", cell)


@pytest.mark.parametrize("column", ["chrom", "ref"])
def test_a_missing_cell_is_refused(column):
    table = FRAME.assign(alt="T")
    table.loc[1, column] = None
    with pytest.raises(InputError, match=f"row 1 has no {column}"):
        VariantTable(table)


def test_a_missing_name_is_a_point():
    table = FRAME.assign(alt="T", id=["rs1", None])
    assert [record.id for record in VariantTable(table).records()] == ["rs1", "."]


@pytest.mark.parametrize("pos", [[5, 1e300], [5, 2**63], [True, False], [5, -1], [5, 1.5]])
def test_positions_that_are_none_are_refused(pos):
    with pytest.raises(InputError, match="pos is a whole number"):
        VariantTable(FRAME.assign(alt="T", pos=pd.Series(pos, dtype=object)))


def test_dates_and_doubled_columns_are_refused():
    with pytest.raises(InputError, match="pos is a whole number"):
        VariantTable(FRAME.assign(alt="T", pos=pd.to_datetime(["2020-01-01", "2020-01-02"])))
    twice = pd.concat([FRAME.assign(alt="T"), FRAME[["pos"]]], axis=1)
    with pytest.raises(InputError, match="Received twice: 'pos'"):
        VariantTable(twice)
