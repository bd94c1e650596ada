"""Motif files and motif kernels against pyjaspar, Biopython and hand-worked matrices."""

import errno
import math
from pathlib import Path

import numpy as np
import pytest

from danq_keras.genome.dna import encode, onehot_from_codes
from danq_keras.motifs import make_jaspar
from danq_keras.motifs.files import (
    danq_jaspar_motifs,
    read_jaspar,
    read_meme,
    read_motif_file,
    resolve_motifs,
    write_jaspar,
)
from danq_keras.motifs.kernels import motif_kernels
from danq_keras.motifs.motif import Motif
from danq_keras.system.errors import InputError
from danq_keras.system.shipped import resource_path

# Columns of the files are A, C, G, T; counts 1 2 3 4 and 8 0 0 0 become these rows in A, G, C, T.
TWO_POSITIONS = [[0.1, 0.3, 0.2, 0.4], [1, 0, 0, 0]]
JASPAR = ">M1.1 one\nA [ 1 8 ]\nC [ 2 0 ]\nG [ 3 0 ]\nT [ 4 0 ]\n"
MEME = """MEME version 4

ALPHABET= ACGT

strands: + -

Background letter frequencies
A 0.25 C 0.25 G 0.25 T 0.25

MOTIF M1.1 one
letter-probability matrix: alength= 4 w= 2 nsites= 10 E= 0
 0.1 0.2 0.3 0.4
 1.0 0.0 0.0 0.0

URL http://example.org
MOTIF M2
letter-probability matrix: alength= 4 w= 1 nsites= 5
0 0 0.5 0.5
"""


def from_sequence(sequence: str, identifier: str = "M") -> Motif:
    return Motif(identifier, identifier, onehot_from_codes(encode(sequence)).astype(float))


def uninformative(width: int, identifier: str = "U") -> Motif:
    return Motif(identifier, identifier, np.full((width, 4), 0.25))


def write(folder: Path, text: str) -> Path:
    path = folder / "motifs.txt"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def danq_motifs() -> list[Motif]:
    return danq_jaspar_motifs()


def test_motif_properties_by_hand():
    motif = Motif("x", "x", np.array([[0.5, 0.5, 0, 0], [0, 0, 0, 1], [0.25] * 4]))
    np.testing.assert_allclose(motif.information(), [1, 2, 0])
    assert (motif.width, motif.consensus()) == (3, "ATA")
    assert from_sequence("AACGT").reverse_complement().consensus() == "ACGTT"
    twice = motif.reverse_complement().reverse_complement()
    np.testing.assert_array_equal(twice.matrix, motif.matrix)


def test_shipped_motifs_are_danqs(danq_motifs):
    assert len(danq_motifs) == 525
    named = {i: (danq_motifs[i].name, danq_motifs[i].id) for i in (19, 97, 98, 99, 100, 101)}
    assert named == {  # the six of DanQ-JASPAR's script
        19: ("Gata1", "MA0035.3"),
        97: ("REST", "MA0138.2"),
        98: ("CTCF", "MA0139.1"),
        99: ("GATA1::TAL1", "MA0140.2"),
        100: ("ESRRB", "MA0141.3"),
        101: ("Pou5f1::Sox2", "MA0142.1"),
    }
    for reverse, number in zip(danq_motifs[519:], named, strict=True):
        np.testing.assert_array_equal(reverse.matrix, danq_motifs[number].matrix[::-1, ::-1])
        assert reverse.id == f"{danq_motifs[number].id}_rc"
    assert min(m.width for m in danq_motifs) == 6
    assert max(m.width for m in danq_motifs) == 21
    # The known binding site of CTCF, in reading order.
    assert "CCACCAGGGGGCGC" in danq_motifs[98].consensus()


def test_shipped_motifs_equal_pyjaspar(danq_motifs):
    pyjaspar = pytest.importorskip("pyjaspar")
    database = pyjaspar.jaspardb(release="JASPAR2016")
    theirs = database.fetch_motifs(collection="CORE", tax_group=["vertebrates"])
    theirs = sorted(theirs, key=lambda motif: motif.matrix_id)
    assert [m.matrix_id for m in theirs] == [m.id for m in danq_motifs[:519]]
    assert [m.name for m in theirs] == [m.name for m in danq_motifs[:519]]
    for ours, other in zip(danq_motifs, theirs, strict=False):
        expected = np.array([other.pwm[base] for base in "AGCT"]).T
        np.testing.assert_allclose(ours.matrix, expected, atol=1e-12)


def test_make_jaspar_writes_the_shipped_file(tmp_path, capsys):
    pytest.importorskip("pyjaspar")
    out = tmp_path / "motifs.jaspar"
    assert make_jaspar.main([str(out)]) == 0
    assert "519 motifs" in capsys.readouterr().err
    assert out.read_bytes() == resource_path("jaspar2016_vertebrates.jaspar").read_bytes()
    with pytest.raises(InputError, match="already exists"):
        make_jaspar.main([str(out)])


@pytest.mark.parametrize(
    "text",
    [
        JASPAR,
        ">M1.1\tone\nA 1 8\nC 2 0\nG 3 0\nT 4 0\n",
        ">M1.1 one\n1 8\n2 0\n3 0\n4 0\n",
        "# comment\n\n>M1.1 one\nT: [4 0]\nG: [3 0]\nC: [2 0]\nA: [1 8]\n",
        ">M1.1 one\na [1 8]\nc [2 0]\ng [3 0]\nt [4 0]",
    ],
)
def test_jaspar_forms_read_alike(tmp_path, text):
    (motif,) = read_motif_file(write(tmp_path, text))
    assert (motif.id, motif.name) == ("M1.1", "one")
    assert motif.matrix.dtype == np.float64
    np.testing.assert_allclose(motif.matrix, TWO_POSITIONS)


def test_jaspar_keeps_order_and_takes_the_id_for_a_missing_name(tmp_path):
    second = JASPAR.replace("M1.1 one", "B")
    third = JASPAR.replace("M1.1 one", "A two words")
    motifs = read_jaspar(write(tmp_path, JASPAR + second + third))
    assert [(m.id, m.name) for m in motifs] == [("M1.1", "one"), ("B", "B"), ("A", "two words")]


def test_jaspar_written_is_read_back_by_us_and_by_biopython(tmp_path):
    counts = np.array([[1.0, 2, 3, 4], [8, 0, 0, 0]])
    path = tmp_path / "out.jaspar"
    write_jaspar(path, [("M1.1", "one", counts)])
    assert path.read_text() == JASPAR
    biopython = pytest.importorskip("Bio.motifs")
    with path.open() as handle:
        (theirs,) = biopython.parse(handle, "jaspar")
    (ours,) = read_jaspar(path)
    np.testing.assert_allclose(ours.matrix, np.array([theirs.pwm[b] for b in "AGCT"]).T)


def test_meme_by_hand(tmp_path):
    first, second = read_motif_file(write(tmp_path, MEME))
    assert [(m.id, m.name) for m in (first, second)] == [("M1.1", "one"), ("M2", "M2")]
    np.testing.assert_allclose(first.matrix, TWO_POSITIONS)
    np.testing.assert_allclose(second.matrix, [[0, 0.5, 0, 0.5]])


def test_meme_reads_as_biopython_does(tmp_path):
    biopython = pytest.importorskip("Bio.motifs")
    path = write(tmp_path, MEME)
    with path.open() as handle:
        theirs = biopython.parse(handle, "minimal")
    for ours, other in zip(read_meme(path), theirs, strict=True):
        expected = np.array([other.pwm[base] for base in "AGCT"]).T
        np.testing.assert_allclose(ours.matrix, expected, atol=1e-9)


def test_meme_rounded_rows_are_scaled_to_one(tmp_path):
    text = MEME.replace("0.1 0.2 0.3 0.4", "0.333 0.333 0.333 0.000")
    matrix = read_meme(write(tmp_path, text))[0].matrix
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a motif file begins with"),
        ("hello", "Received: 'hello'"),
        (">\nA 1\nC 1\nG 1\nT 1", "line 1: a header needs an ID"),
        (">M\nA 1\nC 1\nG 1", "line 1: motif M needs 4 rows of counts, it has 3"),
        (JASPAR + "A [ 1 1 ]", "it has 5"),
        (JASPAR.replace("C [ 2 0 ]", "C [ 2 ]"), "have 2, 1, 2, 2 counts"),
        (JASPAR.replace("C [ 2 0 ]", "A [ 2 0 ]"), "line 3: each of A, C, G, T has one row"),
        (JASPAR.replace("C [ 2 0 ]", "U [ 2 0 ]"), "received 'T'"),
        (JASPAR.replace("C [ 2 0 ]", "E [ 2 0 ]"), "received 'E'"),
        (JASPAR.replace("2 0", "2 1_0"), "line 3: expected numbers, received '1_0'"),
        (JASPAR.replace("2 0", "2 x"), "line 3: expected numbers, received 'x'"),
        (JASPAR.replace("2 0", "-2 0"), "line 3: counts and frequencies are finite"),
        (JASPAR.replace("2 0", "nan 0"), "line 3: counts and frequencies are finite"),
        (JASPAR.replace("2 0", "inf 0"), "line 3: counts and frequencies are finite"),
        (JASPAR.replace("8", "0"), "position 2 of motif M1.1 has no counts"),
        (">M\nA\nC\nG\nT", "not one w"),
        ("MEME version 4\n", "holds no motif"),
        (MEME.replace("ACGT", "ACDEFGHIKLMNPQRSTVWY"), "line 3: the alphabet must be ACGT"),
        (MEME.replace("MOTIF M2", "MOTIF"), "line 16: MOTIF needs a name"),
        (MEME.replace("MOTIF M2", ""), "line 17: a letter-probability matrix follows"),
        (MEME[: MEME.index("letter-prob")], "motif M1.1 has no matrix"),
        (MEME.replace("w= 2", "w= 3"), "line 11: w= 3 rows stated, 2 found"),
        (MEME.replace("alength= 4 w= 2", "alength= 20 w= 2"), "received 20"),
        (MEME.replace("0.1 0.2", "0.5 0.2"), "line 12: expected 4 frequencies of sum 1"),
        (MEME.replace("0.1 0.2 0.3", "0.3 0.3"), "line 12: expected 4 frequencies of sum 1"),
        (MEME.replace("0.1 0.2", "0.1 y"), "line 12: expected numbers, received 'y'"),
    ],
)
def test_bad_motif_files_give_one_line_with_the_file(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as error:
        read_motif_file(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_reader_and_wrong_bytes(tmp_path):
    with pytest.raises(InputError, match="expected a header"):
        read_jaspar(write(tmp_path, MEME))
    with pytest.raises(InputError, match="begins with 'MEME version 4'"):
        read_meme(write(tmp_path, JASPAR))
    with pytest.raises(InputError, match="holds no motif"):
        read_jaspar(write(tmp_path, "# nothing"))
    (tmp_path / "packed.gz").write_bytes(b"\x1f\x8b\x08\x00\xff\xfe")
    with pytest.raises(InputError, match="damaged or truncated gzip"):
        read_motif_file(tmp_path / "packed.gz")
    (tmp_path / "utf16.meme").write_bytes(MEME.encode("utf-16"))
    with pytest.raises(InputError, match="is text, received other bytes"):
        read_motif_file(tmp_path / "utf16.meme")


def test_resolve_motifs(tmp_path, danq_motifs):
    assert [m.id for m in resolve_motifs("jaspar2016")] == [m.id for m in danq_motifs]
    assert [m.id for m in resolve_motifs(str(write(tmp_path, JASPAR)))] == ["M1.1"]
    for missing in (tmp_path / "nothing", tmp_path):
        with pytest.raises(InputError, match=r"no such file|this is a folder"):
            resolve_motifs(str(missing))


def test_unreadable_motif_file_is_the_systems_error(tmp_path, monkeypatch):
    path = write(tmp_path, JASPAR)

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError):  # which console.run_command tells in one line
        read_motif_file(path)


def test_kernel_by_hand():
    """K = 9 leaves a motif of 3 bases one place: from 3 to 6, whatever is drawn."""
    before = np.arange(9 * 4 * 3, dtype=np.float32).reshape(9, 4, 3)
    kernel, bias, placement = motif_kernels([from_sequence("ACG")], before, seed=5)
    expected = before.copy()
    expected[3:6, :, 0] = [
        [0.75, -0.25, -0.25, -0.25],  # A
        [-0.25, -0.25, 0.75, -0.25],  # C is the third channel
        [-0.25, 0.75, -0.25, -0.25],  # G the second
    ]
    np.testing.assert_array_equal(kernel, expected)
    assert kernel.dtype == bias.dtype == np.float32
    assert before[3, 0, 0] == 3 * 4 * 3  # the argument is not changed
    assert -1 <= bias[0] < 0
    assert bias[1:].tolist() == [0, 0]
    assert (placement.n_placed, placement.trimmed, placement.left_out) == (1, (), ())


def test_kernel_answers_most_to_its_own_motif():
    """The strongest window of a sequence is the motif, read in the same direction."""
    motif = from_sequence("GATTACA")
    kernel, _, _ = motif_kernels([motif], np.zeros((20, 4, 1), np.float32), seed=1)
    sequence = onehot_from_codes(encode("C" * 30 + "GATTACA" + "C" * 30)).astype(float)
    scores = [(sequence[i : i + 20] * kernel[:, :, 0]).sum() for i in range(len(sequence) - 19)]
    begin = int(np.abs(kernel[:, :, 0]).sum(axis=1).argmax())
    assert int(np.argmax(scores)) + begin == 30
    assert max(scores) == pytest.approx(7 * 0.75)


def test_starts_cover_exactly_their_range():
    width, length = 10, 30
    motifs = [from_sequence("ACGTACGTAC")] * 2000
    kernel, bias, _ = motif_kernels(motifs, np.zeros((length, 4, 2000), np.float32), seed=0)
    filled = np.abs(kernel).sum(axis=1) > 0
    assert (filled.sum(axis=0) == width).all()
    begins = filled.argmax(axis=0)
    starts, counts = np.unique(length - begins - width, return_counts=True)
    assert starts.tolist() == list(range(3, length - width - 3 + 1))
    # 15 places for 2000 draws: 133 each, standard deviation 11
    assert abs(counts - 2000 / 15).max() < 5 * math.sqrt(2000 / 15)
    assert bias.min() >= -1
    assert bias.max() < 0
    assert bias.mean() == pytest.approx(-0.5, abs=0.05)


def test_danq_jaspar_kernels(danq_motifs):
    before = np.random.default_rng(0).uniform(-0.05, 0.05, (30, 4, 1024)).astype(np.float32)
    kernel, bias, placement = motif_kernels(danq_motifs, before, seed=3)
    assert (placement.n_placed, placement.trimmed, placement.left_out) == (525, (), ())
    assert placement.summary().startswith("525 kernels start from motifs")
    np.testing.assert_array_equal(kernel[:, :, 525:], before[:, :, 525:])
    assert not bias[525:].any()
    changed = (kernel != before).any(axis=1).sum(axis=0)
    assert changed[:525].tolist() == [m.width for m in danq_motifs]
    again = motif_kernels(danq_motifs, before, seed=3)
    np.testing.assert_array_equal(again[0], kernel)
    np.testing.assert_array_equal(again[1], bias)
    assert (motif_kernels(danq_motifs, before, seed=4)[0] != kernel).any()


def test_wide_motif_is_trimmed_to_its_most_informative_part():
    flat, sharp = uninformative(5).matrix, from_sequence("ACGTACGT").matrix
    motif = Motif("wide", "wide", np.vstack([flat, sharp, flat]))
    kernel, _, placement = motif_kernels([motif], np.zeros((14, 4, 1), np.float32), seed=0)
    np.testing.assert_array_equal(kernel[3:11, :, 0], sharp - 0.25)
    assert placement.trimmed == ("wide",)
    assert placement.left_out == ()


def test_motif_with_little_left_is_left_out_and_the_next_moves_up():
    wide, narrow = from_sequence("ACGT" * 5, "wide"), from_sequence("ACGT", "narrow")
    empty = np.zeros((14, 4, 2), np.float32)
    kernel, bias, placement = motif_kernels([wide, narrow], empty, seed=0)
    assert placement.left_out == ("wide",)  # 8 of 20 equal positions are under half
    assert placement.n_placed == 1
    assert np.abs(kernel[:, :, 0]).sum(axis=1).astype(bool).sum() == narrow.width
    assert (bias != 0).tolist() == [True, False]


def test_trimming_limits():
    """Half of the information is enough; fewer than five positions are not."""
    half = from_sequence("ACGTACGTACGTACGT", "half")
    assert motif_kernels([half], np.zeros((14, 4, 1), np.float32), seed=0)[2].trimmed == ("half",)
    six = from_sequence("ACGTAC", "six")
    small = [six, from_sequence("ACGT", "four")]
    placement = motif_kernels(small, np.zeros((10, 4, 2), np.float32), seed=0)[2]
    assert placement.left_out == ("six",)
    placement = motif_kernels([six], np.zeros((11, 4, 1), np.float32), seed=0)[2]
    assert placement.trimmed == ("six",)


def test_more_motifs_than_filters_and_no_room():
    motif = from_sequence("ACGTACGT")
    with pytest.raises(InputError, match="2 motifs and filters=1"):
        motif_kernels([motif, motif], np.zeros((30, 4, 1), np.float32), seed=0)
    for length in (4, 6, 8):
        with pytest.raises(InputError, match=f"kernel_size={length}"):
            motif_kernels([motif], np.zeros((length, 4, 1), np.float32), seed=0)
