"""Motifs put into backgrounds, with a network that wants them 5 bases apart."""

import numpy as np
import pytest
import toys

from danq_keras.genome import dna
from danq_keras.interpret.explainer import Explainer
from danq_keras.interpret.insertions import (
    Insert,
    find_insert,
    parse_spacing,
    places_of,
    put_in,
    response_table,
)
from danq_keras.motifs.files import danq_jaspar_motifs
from danq_keras.system.errors import InputError

WINDOW = 60


def insert(letters):
    return Insert(letters, letters)


def test_bases_are_taken_as_they_are():
    found = find_insert("ganNtt")
    assert found.name == "GANNTT"
    assert found.letters == "GANNTT"


def test_ids_names_and_reverse_complements_of_jaspar():
    motif = next(m for m in danq_jaspar_motifs() if m.id == "MA0139.1")
    for text in ("MA0139.1", "CTCF", "ctcf"):
        assert find_insert(text).letters == motif.consensus()
    reverse = dna.encode(find_insert("MA0139.1_rc").letters)
    np.testing.assert_array_equal(
        reverse, dna.reverse_complement_codes(dna.encode(motif.consensus()))
    )


def test_iupac_letters_unless_they_are_a_motif_s_name():
    assert find_insert("cggrtaa").letters == "CGGRTAA"
    motif = next(m for m in danq_jaspar_motifs() if m.name == "SRY")
    assert find_insert("SRY").letters == motif.consensus()


@pytest.mark.parametrize("text", ["", "N", "nnnn"])
def test_nothing_to_put_in(text):
    with pytest.raises(InputError, match=r"`insert`: a motif has a letter other than N"):
        find_insert(text)


def test_a_file_that_holds_no_motifs_is_refused_where_letters_need_none(tmp_path):
    (tmp_path / "peaks.bed").write_text("chr1\t1\t9\n")
    with pytest.raises(InputError, match=r"peaks\.bed"):
        find_insert("GATTACA", tmp_path / "peaks.bed")


def test_what_each_base_becomes_is_allowed_and_the_same_on_both_strands():
    """A base that is allowed stays; the reverse complement's letters do the same to its bases."""
    allowed = "A:A C:C G:G T:T R:AG Y:CT S:CG W:AT K:GT M:AC B:CGT D:AGT H:ACT V:ACG N:ACGT"
    sets = dict(pair.split(":") for pair in allowed.split())
    complement = dict(zip("ACGTRYSWKMBDHVN", "TGCAYRSWMKVHDBN", strict=True))
    for letter, bases in sets.items():
        (here,) = insert(letter).becomes()
        (other,) = insert(complement[letter]).becomes()
        for base in "ACGT":
            code = dna.ALPHABET.index(base)
            result = dna.ALPHABET[here[code]]
            assert result in bases
            assert result == base or base not in bases
            assert here[code] == 3 - other[3 - code]
        unknown = dna.decode(here[[dna.UNKNOWN]])
        assert unknown == "N" if letter == "N" else unknown in bases


def test_motifs_of_a_file(tmp_path):
    path = tmp_path / "m.jaspar"
    rows = "\n".join(
        f"{base} [ {counts} ]"
        for base, counts in zip("ACGT", ("9 0", "0 9", "0 0", "0 0"), strict=True)
    )
    path.write_text(f">X1 same\n{rows}\n>X2 same\n{rows}\n")
    assert find_insert("X1", path).letters == "AC"
    with pytest.raises(InputError, match=r"'same' fits several motifs: X1, X2. Give the id"):
        find_insert("same", path)
    with pytest.raises(InputError, match=r"neither bases .* nor a motif of .*m.jaspar, such as X1"):
        find_insert("X3", path)


def test_unknown_motifs_name_the_nearest():
    with pytest.raises(InputError, match=r"'CTCFx' is neither .*; nearest: CTCF"):
        find_insert("CTCFx")


@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [("0:3", 2, [0, 1, 2, 3]), ("-4:4:4", 1, [-4, 0, 4]), ("5:5", 2, [5]), ("0:9:4", 2, [0, 4, 8])],
)
def test_spacings(text, n, expected):
    assert list(parse_spacing(text, n_inserts=n)) == expected


@pytest.mark.parametrize("text", ["", "5", "a:b", "4:3", "0:9:0", "0:9:1:1", "1.5:3"])
def test_spacings_of_another_form(text):
    with pytest.raises(InputError, match=r"`spacing`: A:B or A:B:STEP"):
        parse_spacing(text, n_inserts=2)


def test_two_motifs_do_not_overlap():
    with pytest.raises(InputError, match="must not overlap"):
        parse_spacing("-1:3", n_inserts=2)


def test_places_by_hand():
    assert places_of([insert("GATT")], 0, 20) == [8]
    assert places_of([insert("GATT")], -8, 20) == [0]
    assert places_of([insert("GATT"), insert("CC")], 4, 20) == [5, 13]
    for spacing in (-9, 9):
        with pytest.raises(InputError, match="do not fit into the window of 20 bases"):
            places_of([insert("GATT")], spacing, 20)
    with pytest.raises(InputError, match="at 15 the motifs do not fit"):
        places_of([insert("GATT"), insert("CC")], 15, 20)


def test_put_in_keeps_the_background_under_n():
    codes = np.stack([dna.encode("AAAAAA"), dna.encode("CCCCCC")])
    changed = put_in(codes, insert("GNT"), 2)
    assert [dna.decode(row) for row in changed] == ["AAGATA", "CCGCTC"]
    assert dna.decode(codes[0]) == "AAAAAA"
    changed = put_in(np.stack([dna.encode("AAAAA"), dna.encode("CNCCC")]), insert("RYW"), 1)
    assert [dna.decode(row) for row in changed] == ["AATAA", "CACTC"]


def test_the_wanted_spacing_is_the_highest(rng):
    network = toys.pair_finder("GATTACA", "CTGCAT", 5, window=WINDOW)
    explainer = Explainer(toys.trained(network, ["wants 5"]), [0], window=WINDOW)
    backgrounds = rng.integers(0, 4, (6, WINDOW), dtype=np.uint8)
    inserts = [insert("GATTACA"), insert("CTGCAT")]
    table = response_table(
        explainer, backgrounds, inserts=inserts, spacings=range(0, 11), names=["wants 5"]
    )
    assert table["spacing"].tolist() == list(range(11))
    assert (table["windows"] == 6).all()
    response = table.set_index("spacing")["response"]
    assert response[5] == pytest.approx(6 * 0.5 / 2)  # the match is half over, on one strand
    assert response.drop(5).abs().max() < 1e-6
    here = table[table["spacing"] == 5].iloc[0]
    assert here["first"] == pytest.approx(0, abs=1e-6)
    assert here["beyond_sum"] == pytest.approx(1.5)
    assert here["response_sd"] == pytest.approx(0, abs=1e-6)


def test_one_motif_responds_by_its_place():
    """A linear network that reads A at position 30 only."""
    weights = np.zeros((1, WINDOW, 4), np.float32)
    weights[0, 30, 0] = 2.0
    explainer = Explainer(toys.trained(toys.linear(weights)), [0], window=WINDOW, strands="forward")
    backgrounds = np.full((3, WINDOW), 1, np.uint8)
    table = response_table(
        explainer, backgrounds, inserts=[insert("A")], spacings=range(-2, 3), names=["t0"]
    )
    assert table["response"].tolist() == [0, 0, 2, 0, 0]
    assert set(table) == {"target", "spacing", "windows", "response", "response_sd"}
