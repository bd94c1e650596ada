"""`discover_motifs.py` and its function: what TF-MoDISco finds, trimmed, looked up, written."""

import json
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest

import danq_keras as dq
from danq_keras.commands import discover_motifs as script
from danq_keras.genome import dna
from danq_keras.interpret.explain import Explanation
from danq_keras.interpret.files import TO_FILE, Locus, create_arrays, write_summary
from danq_keras.motifs.files import read_meme, write_meme
from danq_keras.motifs.motif import Motif

WORD = "GATTACA"
WIDTH = 120


def explanation(folder, n=30, *, width=WIDTH, seed=0):
    """Windows with a word, whose bases have the contributions: 0.75, the other bases -0.25."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (n, width), np.uint8)
    values = rng.normal(0, 0.02, (n, 2, width, 4)).astype(np.float32)
    values -= values.mean(axis=-1, keepdims=True)
    word = dna.encode(WORD)
    for row, place in enumerate(rng.integers(25, width - 40, n) if width > 70 else ()):
        codes[row, place : place + 7] = word
        values[row, 0, place : place + 7] += dna.onehot_from_codes(word) - 0.25
    folder.mkdir(parents=True)
    loci = [Locus("chr1", 200 * row, 0, width) for row in range(n)]
    with h5py.File(folder / "contributions.h5", "w") as file:
        create_arrays(file, loci, ("factor A", "other"), ["gradients"])
        file["codes"][:], file["gradients"][:] = codes, values
        file["scores"][:] = 0
    write_summary(folder, {"title": "t", "pictures": []})
    return codes, values


@pytest.fixture
def known(tmp_path):
    """60 known motifs, of which one is the word's reverse complement."""
    rng = np.random.default_rng(1)
    path = tmp_path / "known.meme"
    word = dna.onehot_from_codes(dna.reverse_complement_codes(dna.encode(WORD)))
    matrices = [word * 0.9 + 0.025, *(rng.dirichlet([0.3] * 4, 8) for _ in range(60))]
    motifs = [Motif(f"M{i}", f"known{i}", matrix) for i, matrix in enumerate(matrices)]
    write_meme(path, motifs, [20] * len(motifs))
    return path


def pattern(word, *, seqlets=40, flank=6, sign=1.0):
    """As TF-MoDISco has one: A,C,G,T, the word among bases that do not contribute."""
    sequence = np.full((len(word) + 2 * flank, 4), 0.25)
    sequence[flank:-flank] = dna.onehot_from_codes(dna.encode(word))[:, TO_FILE]
    contributions = np.zeros(sequence.shape)
    contributions[flank:-flank] = sign * sequence[flank:-flank]
    return SimpleNamespace(
        sequence=sequence, contrib_scores=contributions, seqlets=[None] * seqlets
    )


@pytest.fixture
def modisco(monkeypatch):
    """TF-MoDISco, played: it remembers what it was given."""
    pytest.importorskip("modiscolite")
    given = []

    def find(**arguments):
        given.append(arguments)
        if len(given) > 1:
            return None, None
        return [pattern("CCGCC", seqlets=21), pattern(WORD)], [pattern("TTTTT", sign=-2.0)]

    monkeypatch.setattr("modiscolite.tfmodisco.TFMoDISco", find)
    monkeypatch.setattr("modiscolite.io.save_hdf5", lambda path, *_: open(path, "w").close())  # noqa: PTH123
    return given


@pytest.fixture
def command(run_script, capsys):
    def run(*arguments):
        status = run_script("discover_motifs.py", script.main, *arguments)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def test_patterns_are_trimmed_and_looked_up(modisco, known, command, tmp_path):
    codes, values = explanation(tmp_path / "x")
    status, shown, errors = command(tmp_path / "x", "--databases", known)
    assert status == 0
    first = modisco[0]
    onehot = first["one_hot"]
    assert "".join("ACGT"[i] for i in onehot[3].argmax(axis=1)) == dna.decode(codes[3])
    centred = values[:, 0] - values[:, 0].mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(first["hypothetical_contribs"], centred[..., TO_FILE], atol=1e-6)
    assert "factor_A.raises_1: 40 seqlets, GATTACA: known0, E " in shown
    assert "other: no pattern." in errors
    out = tmp_path / "x.motifs"
    table = pd.read_csv(out / "patterns.tsv", sep="\t").set_index("pattern")
    assert table.index.tolist() == ["factor_A.raises_1", "factor_A.lowers_0", "factor_A.raises_0"]
    assert table["sign"].tolist() == ["+", "-", "+"]
    assert table["consensus"].tolist() == [WORD, "TTTTT", "CCGCC"]
    np.testing.assert_allclose(table["contribution"], [7, -10, 5])
    assert table["match"].iloc[0] == "M0"
    motifs = read_meme(out / "patterns.meme")
    assert [motif.id for motif in motifs] == table.index.tolist()
    assert motifs[0].consensus() == WORD
    matches = pd.read_csv(out / "matches.tsv", sep="\t")
    assert matches["orientation"].iloc[0] == "-"
    assert (out / "patterns.png").read_bytes()[:4] == b"\x89PNG"
    assert (out / "factor_A.modisco.h5").exists()
    assert not (out / "other.modisco.h5").exists()
    summary = json.loads((out / "explanation.json").read_text())
    assert summary["pictures"][0]["file"] == "patterns.png"
    assert command(tmp_path / "x", "--databases", known)[0] == 2  # it is there already


def test_an_explanation_in_memory_is_the_same(modisco, known, tmp_path):
    codes, values = explanation(tmp_path / "x")
    scores = np.zeros((30, 2), np.float32)
    held = Explanation({"gradients": values}, {}, scores, codes, ("factor A", "other"), 0)
    found = dq.discover_motifs(held, targets=["factor A"], databases=[known])
    modisco.clear()
    read = dq.discover_motifs(tmp_path / "x", targets=[0], databases=[known])
    pd.testing.assert_frame_equal(found.to_frame(), read.to_frame())
    assert len(modisco) == 1


def test_nothing_found_is_no_failure(modisco, known, command, tmp_path):
    explanation(tmp_path / "x")
    modisco.append({})  # from the second target on it finds nothing
    status, shown, errors = command(tmp_path / "x", "--databases", known, "--out", tmp_path / "o")
    assert status == 0
    assert errors.count("no pattern. That takes more than 20 stretches") == 2
    assert "0 patterns" in shown
    assert (tmp_path / "o" / "patterns.tsv").read_text().startswith("pattern\t")


@pytest.mark.parametrize(
    ("windows", "said", "fewest"),
    [(50, None, 20), (400, None, 40), (1500, None, 100), (50, 30, 30)],
)
def test_few_windows_need_fewer_seqlets(windows, said, fewest, modisco, known, tmp_path):
    explanation(tmp_path / "x", windows)
    dq.discover_motifs(tmp_path / "x", databases=[known], min_seqlets=said)
    assert [each["min_metacluster_size"] for each in modisco] == [fewest, fewest]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{x}", "--targets", "factor B"), "Unknown target 'factor B'"),
        (("{x}", "--method", "expected"), "--method: x has gradient. Received: 'expected'."),
        (("{x}", "--fdr", 1), "--fdr: above 0 and below 1. Received: 1."),
        (("{x}", "--max-seqlets", 0), "--max-seqlets is at least 1"),
        (("{x}", "--min-seqlets", 19), "--min-seqlets: from 20, the fewest of a pattern, to"),
        (("nowhere",), "nowhere: no such folder or file."),
        (("{tmp}",), "has no contributions.h5. Run explain_danq.py with --bed"),
    ],
)
@pytest.mark.usefixtures("modisco")
def test_mistakes(words, message, command, tmp_path):
    explanation(tmp_path / "x")
    words = [
        str(w).replace("{x}", str(tmp_path / "x")).replace("{tmp}", str(tmp_path)) for w in words
    ]
    status, shown, errors = command(*words, "--out", tmp_path / "o")
    assert (status, shown, errors.count("\n")) == (2, "", 1)
    assert message in errors
    assert not (tmp_path / "o").exists()


@pytest.mark.usefixtures("modisco")
def test_short_windows_are_refused(command, tmp_path):
    explanation(tmp_path / "x", width=30)
    assert "at least 31 bases a window. Received: 30" in command(tmp_path / "x")[2]


def test_without_modisco_the_extra_is_named(command, tmp_path, monkeypatch):
    explanation(tmp_path / "x")
    monkeypatch.setitem(sys.modules, "modiscolite", None)
    status, _, errors = command(tmp_path / "x")
    assert (status, errors.count("\n")) == (2, 1)
    assert "danq_keras[modisco]" in errors


@pytest.mark.long
def test_the_program_finds_the_word(known, tmp_path):
    """TF-MoDISco itself, which compiles for a minute or two."""
    pytest.importorskip("modiscolite")
    explanation(tmp_path / "x", 600)
    found = dq.discover_motifs(tmp_path / "x", targets=["factor A"], databases=[known])
    assert found.table["match_name"].iloc[0] == "known0"
    found.save(tmp_path / "o")
    with h5py.File(tmp_path / "o" / "factor_A.modisco.h5") as file:
        assert "pos_patterns" in file
