"""Files of kernels' motifs: read back by Biopython, tables and pairs by hand."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from Bio import motifs as bio_motifs

from danq_keras.interpret import kernel_motifs
from danq_keras.motifs import known as known_motifs
from danq_keras.motifs.files import read_meme, write_jaspar, write_meme
from danq_keras.motifs.matching import Match
from danq_keras.motifs.motif import Motif
from danq_keras.system.errors import InputError

COUNTS = np.array(
    [
        [[8, 0, 0, 0], [0, 8, 0, 0], [0, 0, 8, 0], [2, 2, 2, 2]],
        [[0, 0, 0, 0]] * 4,
        [[1, 3, 0, 0], [0, 0, 0, 4], [4, 0, 0, 0], [0, 0, 0, 4]],
    ]
)
N_SITES = np.array([8, 0, 4])


@pytest.fixture
def kernels():
    return kernel_motifs.kernel_motifs(COUNTS, N_SITES)


@pytest.fixture
def known():
    matrices = [kernel.motif.matrix for kernel in kernel_motifs.kernel_motifs(COUNTS, N_SITES)]
    found = (Motif("MA1.1", "One", matrices[0]), Motif("x", "Two", matrices[1]))
    return known_motifs.KnownMotifs(found, ("first", "second"), {"first": 1, "second": 1})


MATCHES = [[Match(1, -2, 3, "-", 2e-6, 4e-6), Match(0, 0, 4, "+", 1e-3, 2e-3)], []]


def test_meme_file_is_read_by_biopython(kernels, tmp_path):
    path = tmp_path / "motifs.meme"
    write_meme(path, [k.motif for k in kernels], [k.n_sites for k in kernels])
    with path.open() as handle:
        read = bio_motifs.parse(handle, "minimal")
    assert [motif.name for motif in read] == ["kernel_0", "kernel_2"]
    assert [motif.num_occurrences for motif in read] == [8, 4]
    assert read[0].background == dict.fromkeys("ACGT", 0.25)
    assert str(read[0].consensus)[:3] == "AGC"
    for motif, kernel in zip(read, kernels, strict=True):
        theirs = np.array([motif.pwm[base] for base in "AGCT"]).T
        np.testing.assert_allclose(theirs, kernel.motif.matrix, atol=1e-6)
    for motif, kernel in zip(read_meme(path), kernels, strict=True):
        np.testing.assert_allclose(motif.matrix, kernel.motif.matrix, atol=1e-6)


def test_a_name_stands_behind_the_id(tmp_path):
    write_meme(tmp_path / "m.meme", [Motif("MA1.1", "One", np.full((5, 4), 0.25))], [3])
    (motif,) = read_meme(tmp_path / "m.meme")
    assert (motif.id, motif.name, motif.width) == ("MA1.1", "One", 5)


def test_kernel_table_by_hand(kernels, known):
    table = kernel_motifs.kernel_table(3, kernels, MATCHES, known)
    assert table["kernel"].tolist() == [0, 1, 2]
    assert table["sites"].tolist() == [8, 0, 4]
    assert table["consensus"].fillna("NA").tolist() == ["AGCA", "NA", "GTAT"]
    assert table["information_bits"].tolist()[0] == 6
    assert table["information_bits"].tolist()[2] == pytest.approx(6 + 2 - 0.8112781, abs=1e-4)
    first = table.iloc[0]
    assert first[["match", "match_name", "match_database"]].tolist() == ["x", "Two", "second"]
    placed = ["match_evalue", "match_offset", "match_overlap", "match_orientation", "matches"]
    assert first[placed].tolist() == [4e-6, -2, 3, "-", 2]
    assert table["match"].isna().tolist() == [False, True, True]
    line = "1 of 3 kernels match a known motif of first (1 motifs), second (1 motifs) at E ≤ 0.01"
    assert kernel_motifs.summary_line(table, known, 0.01) == line + "; 1 without a site"
    assert kernel_motifs.summary_line(table.iloc[[0]], known, 1).startswith("1 of 1 kernels")


def test_files_of_the_folder(kernels, known, tmp_path):
    table = kernel_motifs.kernel_table(3, kernels, MATCHES, known)
    matches = kernel_motifs.match_table(kernels, MATCHES, known)
    kernel_motifs.write_motif_files(tmp_path, kernels, (table, matches), summary={"summary": "Ä"})
    text = pd.read_csv(tmp_path / "motifs.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert text.columns[:7].tolist() == [
        *("kernel", "sites", "information_bits", "consensus"),
        *("match", "match_name", "match_evalue"),
    ]
    assert text.loc[1].tolist() == ["1", "0", *["NA"] * 10]
    assert text.loc[0, ["match_evalue", "match_offset", "matches"]].tolist() == ["4e-06", "-2", "2"]
    assert text.loc[2, ["match", "match_offset", "matches"]].tolist() == ["NA", "NA", "0"]
    rows = pd.read_csv(tmp_path / "matches.tsv", sep="\t")
    assert rows[["kernel", "motif", "name"]].to_numpy().tolist() == [
        [0, "x", "Two"],
        [0, "MA1.1", "One"],
    ]
    assert json.loads((tmp_path / "summary.json").read_text()) == {"summary": "Ä"}
    assert len(list(tmp_path.iterdir())) == 4
    kernel_motifs.draw_motif_files(
        tmp_path, kernels, kernel_motifs.best_pairs(kernels, MATCHES, known)
    )
    names = sorted(path.name for path in (tmp_path / "logos").iterdir())
    assert names == ["kernel_0.png", "kernel_2.png"]
    assert (tmp_path / "matches.png").read_bytes().startswith(b"\x89PNG")


def test_no_sheet_without_a_match(kernels, tmp_path):
    kernel_motifs.draw_motif_files(tmp_path, kernels, [])
    assert [path.name for path in tmp_path.iterdir()] == ["logos"]


def test_best_pairs_by_hand(kernels, known):
    """Motif 1 is the best match of both kernels: it stands with the second, whose E is lower."""
    second = Match(1, 2, 2, "+", 1e-6, 2e-6)
    (pair,) = kernel_motifs.best_pairs(kernels, [MATCHES[0], [second]], known)
    assert (pair.title, pair.subtitle, pair.offset) == ("Two", "E = 2.0e-06", 2)
    assert (pair.upper_label, pair.lower_label) == ("kernel 2", "x")
    assert (pair.upper, pair.lower) == (kernels[1].motif, known.motifs[1])
    turned, other = kernel_motifs.best_pairs(
        kernels, [MATCHES[0], [Match(0, 0, 4, "+", 0.1, 0.2)]], known
    )
    assert (turned.upper_label, turned.lower_label) == ("kernel 0", "x\nrev. comp.")
    np.testing.assert_array_equal(turned.lower.matrix, known.motifs[1].matrix[::-1, ::-1])
    assert (turned.offset, other.title) == (-2, "One")
    assert kernel_motifs.best_pairs(kernels, [[], []], known) == []


def test_no_kernel_with_sites(known):
    assert kernel_motifs.kernel_motifs(COUNTS, np.zeros(3, int)) == []
    assert known_motifs.match_motifs([], known, threshold=1, method="builtin") == []
    table = kernel_motifs.kernel_table(3, [], [], known)
    assert table["sites"].tolist() == [0, 0, 0]
    assert "0 of 3" in kernel_motifs.summary_line(table, known, 0.01)


def test_matches_up_to_the_threshold_best_first(rng):
    matrices = [rng.dirichlet([0.3] * 4, 9) for _ in range(60)]
    motifs = tuple(Motif(f"m{i}", f"m{i}", matrix) for i, matrix in enumerate(matrices))
    known = known_motifs.KnownMotifs(motifs, ("d",) * 60, {"d": 60})
    kernels = [
        kernel_motifs.KernelMotif(0, 5, motifs[7]),
        kernel_motifs.KernelMotif(1, 5, motifs[8]),
    ]
    every = known_motifs.match_motifs(
        [kernel.motif for kernel in kernels], known, threshold=60, method="builtin"
    )
    assert [len(found) for found in every] == [60, 60]
    assert [found[0].target for found in every] == [7, 8]
    for found in every:
        values = [match.e_value for match in found]
        assert values == sorted(values)
    few = known_motifs.match_motifs(
        [kernel.motif for kernel in kernels], known, threshold=0.01, method="builtin"
    )
    assert few == [[m for m in found if m.e_value <= 0.01] for found in every]


def test_databases_are_put_together(tmp_path, caplog):
    assert known_motifs.read_databases(None).sizes == {"jaspar2016_vertebrates": 519}
    write_jaspar(tmp_path / "one.jaspar", [("J1", "j", np.ones((6, 4)))])
    write_meme(tmp_path / "two.meme", [Motif("M1", "M1", np.full((5, 4), 0.25))], [1])
    with caplog.at_level("WARNING", logger="danq_keras"):
        known = known_motifs.read_databases([tmp_path / "one.jaspar", tmp_path / "two.meme"])
    assert [motif.id for motif in known.motifs] == ["J1", "M1"]
    assert known.database == ("one", "two")
    assert known.describe() == "one (1 motifs), two (1 motifs)"
    assert "2 known motifs: p-values of fewer than 50 are coarse." in caplog.text
    with pytest.raises(InputError, match="one is the name of two files"):
        known_motifs.read_databases([tmp_path / "one.jaspar"] * 2)
    with pytest.raises(InputError, match=re.escape("none.meme: no such file")):
        known_motifs.read_databases([tmp_path / "none.meme"])
