"""Motif files in every form that tools write: read the right way round, warned of, or refused."""

import gzip
import logging

import numpy as np
import pytest
from damaged_text import mutants

from danq_keras.motifs import read_motif_file
from danq_keras.system.errors import InputError

# Positions of the motif GATTC in A, C, G, T, and the same as counts of 20 sites.
GATTC = np.full((5, 4), 0.05) + 0.8 * np.eye(4)[[2, 0, 3, 3, 1]]
ROWS = "".join(" ".join(f"{value:.2f}" for value in row) + "\n" for row in GATTC)
COUNTS = "".join("\t".join(f"{20 * value:.0f}" for value in row) + "\n" for row in GATTC)
BY_BASE = "".join(" ".join(f"{20 * value:.0f}" for value in row) + "\n" for row in GATTC.T)
GATA = "".join(" ".join(map(str, row)) + "\n" for row in 0.1 + 0.6 * np.eye(4)[[2, 0, 3, 0]])
GAAA_BY_BASE = "1 7 7 7\n1 1 1 1\n7 1 1 1\n1 1 1 1\n"
MATRIX = f"letter-probability matrix: alength= 4 w= 5 nsites= 20 E= 1e-9\n{ROWS}"
DNA_LIKE = """ALPHABET "DNA" DNA-LIKE
A "Adenine" CC0000 ~ T "Thymine" 008000
C "Cytosine" 0000CC ~ G "Guanine" FFB300
N "Any base" = ACGT
R = AG
END ALPHABET
"""
STARS = "*" * 80
PROSE = f"""{STARS}
MEME - Motif discovery tool
{STARS}
MEME version 4.11.2 (Release date: none)

REFERENCE
Prose with <brackets> and numbers
1 2 3 4
{STARS}
COMMAND LINE SUMMARY
letter frequencies in dataset:
A 0.250 C 0.250 G 0.250 T 0.250
ALPHABET= ACGT
{STARS}
MOTIF  1	width =   5   sites =  20   llr = 300   E-value = 1.2e-010
{STARS}
	Motif 1 Description
--------------------------------------------------------------------------------
Simplified        A  :a:::
pos.-specific     C  ::::a
	Motif 1 position-specific scoring matrix
log-odds matrix: alength= 4 w= 5 n= 100 bayes= 6 E= 1.2e-010
 -100   200  -300    10
--------------------------------------------------------------------------------
	Motif 1 position-specific probability matrix
--------------------------------------------------------------------------------
{MATRIX}--------------------------------------------------------------------------------
	Motif 1 regular expression
"""
TRANSFAC = """VV  TRANSFAC MATRIX TABLE
XX
//
AC  M00001
XX
ID  V$GATA_01
XX
NA  GATA
BF  T00306; Müller
P0      A      C      G      T
01      1      1     17      1      G
02     17      1      1      1      A
03      1      1      1     17      T
04      1      1      1     17      T
05      1     17      1      1      C
XX
BA  20 sites
//
"""


@pytest.fixture
def read(tmp_path, caplog, monkeypatch):
    """Motifs of a text, and the warnings."""
    monkeypatch.setattr(logging.getLogger("danq_keras"), "propagate", True)

    def run(content, name="m.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        caplog.clear()
        return read_motif_file(path), [record.getMessage() for record in caplog.records]

    return run


FORMS = {
    "meme": f"MEME version 5\n\nALPHABET= ACGT\n\nMOTIF x y\n{MATRIX}",
    "meme without alphabet": f"MEME version 4\nMOTIF x\n{MATRIX}",
    "meme without facts": f"MEME version 4\nMOTIF x\nletter-probability matrix:\n{ROWS}",
    "meme of RNA": f"MEME version 4\nALPHABET= ACGU\nMOTIF x\n{MATRIX}",
    "meme 5": f"MEME version 5.5.5\n{DNA_LIKE}strands: + -\nMOTIF x\n{MATRIX}",
    "meme 5 of RNA": "MEME version 5\n" + DNA_LIKE.replace("DNA", "RNA").replace('T "T', 'U "U')
    + f"MOTIF x\n{MATRIX}",
    "what MEME writes": PROSE,
    "MEME 5 writes": PROSE.replace("MOTIF  1\t", "MOTIF GATTC MEME-1\t"),
    "homer": f">GATTC\tGATTC(Zf)/a b\t6.05\t-12.3\t0\n{ROWS}",
    "cluster-buster": f">x\n{COUNTS}",
    "pcm": f">x y\n{COUNTS}",
    "jaspar": "\n".join([">x y", *(f"{b} [ {row} ]" for b, row in zip("ACGT", BY_BASE.split("\n"),
        strict=False))]),
    "jaspar of RNA": "\n".join([">x", *(f"{b} {row}" for b, row in zip("acgu", BY_BASE.split("\n"),
        strict=False))]),
    "pfm": f">x\n{BY_BASE}",
    "pfm without header": BY_BASE,
    "pfm with letters": "".join(f"{b}|\t{row}\n" for b, row in zip("ACGT", BY_BASE.split("\n"),
        strict=False)),
    "positions without header": ROWS,
    "cisbp": "Pos\tA\tC\tG\tT\n"
    + "".join(f"{i}\t{row}\n" for i, row in enumerate(COUNTS.splitlines(), 1)),
    "cisbp turned": "Pos\tT\tG\tC\tA\n"
    + "".join("\t".join([f"{i}", *row.split()[::-1]]) + "\n"
              for i, row in enumerate(COUNTS.splitlines(), 1)),
    "transfac": TRANSFAC,
    "transfac of jaspar": TRANSFAC.replace("P0 ", "PO ").replace("VV  TRANSFAC MATRIX TABLE\n", ""),
    "transfac without end": TRANSFAC[: TRANSFAC.index("BA")],
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_motif(form, read):
    for content in (FORMS[form], FORMS[form].replace("\n", "\r\n"), "\ufeff" + FORMS[form]):
        (motif,), warnings = read(content)
        assert motif.consensus() == "GATTC"
        np.testing.assert_allclose(motif.matrix[0], [0.05, 0.85, 0.05, 0.05], atol=1e-6)
        assert warnings == []
        assert " " not in motif.id
    (motif,), _ = read(gzip.compress(FORMS[form].encode()))
    assert motif.consensus() == "GATTC"


def test_names_are_those_of_the_files(read):
    def names(form):
        (motif,), _ = read(FORMS[form])
        return motif.id, motif.name

    assert names("what MEME writes") == ("1", "1")
    assert names("MEME 5 writes") == ("GATTC", "MEME-1")
    assert names("homer") == ("GATTC(Zf)/a_b", "GATTC(Zf)/a_b")
    assert names("transfac") == ("M00001", "GATA")
    assert names("pfm without header") == ("m", "m")


@pytest.mark.parametrize(
    ("content", "consensus", "told"),
    [
        (f">GATA\tGATA-1\t5.17\t-342.03\t0\n{GATA}", "GATA", False),
        (f">x\n{GATA}", "GATA", True),
        (f">x\n{GAAA_BY_BASE}", "GAAA", True),
        (f">x\n{GATA}>y\n{ROWS}", "GATA", False),
        (f">x\n{GATA}>y\tz\t1.5\n{GATA}", "GATA", False),
    ],
)
def test_four_rows_of_four_are_read_the_right_way(content, consensus, told, read):
    motifs, warnings = read(content)
    assert motifs[0].consensus() == consensus
    assert [("told from the sums" in line) for line in warnings] == [True] * told


def test_four_rows_of_four_that_tell_nothing_are_refused(read):
    for rows in ("1 2 3 4\n2 3 4 1\n3 4 1 2\n4 1 2 3\n", "1 2 3 4\n2 2 2 2\n9 1 1 1\n0 0 0 1\n"):
        with pytest.raises(InputError, match="nothing tells whether a row is a base or a position"):
            read(f">x\n{rows}")


def test_a_motif_without_matrix_is_left_out_with_a_word(read):
    empty = "MOTIF a\n\nMOTIF b b\nURL x\n"
    for content in (f"{FORMS['meme']}{empty}", FORMS["meme"].replace("MOTIF x", f"{empty}MOTIF x")):
        motifs, warnings = read(content)
        assert [motif.id for motif in motifs] == ["x"]
        assert [line.split(": ", 1)[1] for line in warnings] == [
            "2 motifs have no matrix and are left out, first a"
        ]
    for content in (f">a\n{FORMS['pfm']}", TRANSFAC.replace("AC  M", "AC  N1\n//\nAC  M")):
        motifs, warnings = read(content)
        assert len(motifs) == len(warnings) == 1


def test_doubtful_numbers_are_told(read):
    as_counts = FORMS["meme"].replace(ROWS, COUNTS)
    (motif,), (line,) = read(as_counts)
    assert motif.consensus() == "GATTC"
    assert "1 motifs have counts where frequencies are expected" in line
    (motif,), (line,) = read(f">x\n{ROWS}".replace("0.85 0.05", "0.75 0.05"))
    assert "1 motifs have frequencies that do not sum to 1" in line
    np.testing.assert_allclose(motif.matrix.sum(axis=1), 1)
    latin = TRANSFAC.encode("latin-1")
    (motif,), (line,) = read(latin)
    assert "bytes that are no UTF-8 text" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (FORMS["meme 5"].replace("Any base", "x").replace("C \"C", "Z \"C"), "must be ACGT"),
        (FORMS["meme"].replace("= ACGT", "= ACDEFGHIKLMNPQRSTVWY"), "must be ACGT, received"),
        (FORMS["meme"].replace("= ACGT", "= TGCA"), "must be ACGT, received"),
        (FORMS["meme 5"].split("END")[0].replace("C \"", "D \""), "must be ACGT"),
        ("<!DOCTYPE html>\n<html>", "this is HTML or XML"),
        ("<?xml version='1.0'?>", "this is HTML or XML"),
        (TRANSFAC.replace("17      1      G", "17"), "line 11: a position has 4 numbers"),
        (TRANSFAC.replace("AC  M00001", "XX").replace("ID  V", "XX").replace("NA  ", "XX"),
         "a matrix needs an AC or ID line"),
        (FORMS["homer"].replace("0.85", "-1.2"), "finite and from 0 up"),
        (FORMS["cluster-buster"].replace("\t17", "", 1), "needs 4 rows of counts, it has 5"),
        (FORMS["cisbp"].replace("Pos\tA", "Pos\tE"), "the columns must be A, C, G, T"),
        ("a table\nof 1 2 3 4\n", "a motif file begins with"),
        ("chr1 100 200\nchr1 300 400\n", "a motif file begins with"),
        (">x\x1b[1m\nA 1\n", "needs 4 rows"),
    ],
)  # fmt: skip
def test_what_is_no_motif_is_refused_in_a_line(content, message, read):
    with pytest.raises(InputError) as caught:
        read(content)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("form", FORMS)
def test_damaged_text_is_a_motif_or_refused_in_a_line(form, tmp_path):
    path, unclean = tmp_path / "m.txt", 0
    for mutant in mutants(FORMS[form].encode(), 40):
        path.write_bytes(mutant)
        try:
            motifs = read_motif_file(path)
        except InputError as error:
            refused = str(error).removeprefix(f"{path}")
            unclean += not refused.isprintable()
            continue
        for motif in motifs:
            np.testing.assert_allclose(motif.matrix.sum(axis=1), 1)
            assert f"{motif.id}{motif.name}".isprintable()
    assert unclean == 0  # no message had a control character


# ── motifs that would be read with another meaning ──────────────────────────

NUMBERED = "AC M1\nXX\nP0 A C G T\n01 9 1 1 1\n02 1 9 1 1\n%s 1 1 9 1\n04 1 1 1 9\nXX\n//\n"


def read_text(tmp_path, text):
    path = tmp_path / "m.txt"
    path.write_text(text)
    return {
        motif.id: "".join("AGCT"[i] for i in motif.matrix.argmax(1))
        for motif in read_motif_file(path)
    }


@pytest.mark.parametrize("between", ["\n", "# m2\n", "\n#ID = m2\n"])
def test_motifs_without_headers_are_not_joined(tmp_path, between):
    with pytest.raises(InputError, match="rows of numbers go on behind"):
        read_text(tmp_path, f"{COUNTS}{between}{COUNTS}")
    assert read_text(tmp_path, f"# one\n\n{COUNTS}\n# end\n") == {"m": "GATTC"}


@pytest.mark.parametrize("label", ["3.", "O3", "05", "02"])
def test_rows_of_transfac_that_are_not_numbered_one_by_one_are_refused(tmp_path, label):
    assert read_text(tmp_path, NUMBERED % "03") == {"M1": "ACGT"}
    with pytest.raises(InputError, match="line 6: the rows of a matrix are numbered one by one"):
        read_text(tmp_path, NUMBERED % label)


def test_transfac_without_ends(tmp_path):
    text = "AC M1\nP0 A C G T\n00 9 1 1 1 A\n01 9 1 1 1 A\nAC M2\nP0 A C G T\n01 1 1 9 1 G\n"
    assert read_text(tmp_path, text) == {"M1": "AA", "M2": "G"}


def test_positions_behind_a_letter_or_number(tmp_path):
    """As the ENCODE motifs have them: the letter that stands for the position, then A, C, G, T."""
    rows = [f"{letter} {row}" for letter, row in zip("RATTC", ROWS.splitlines(), strict=True)]
    assert read_text(tmp_path, "\n".join([">m x", *rows])) == {"m": "GATTC"}
    rows = [f"{number} {row}" for number, row in enumerate(ROWS.splitlines(), 1)]
    assert read_text(tmp_path, "\n".join([">m x", *rows])) == {"m": "GATTC"}
    for labels in ("GATC", "1234"):
        rows = [f"{label} {row}" for label, row in zip(labels, GATA.splitlines(), strict=True)]
        with pytest.raises(InputError, match="nothing tells whether a row is a base or a position"):
            read_text(tmp_path, "\n".join([">m x", *rows]))
    assert read_text(tmp_path, ">m\nA 7 1 1 4\nC 1 7 1 2\nG 1 1 7 3\nT 1 1 1 9\n") == {"m": "ACGT"}
