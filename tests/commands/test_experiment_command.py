"""`experiment_danq.py` as its users meet it, on a network that looks for one motif."""

import json

import numpy as np
import pandas as pd
import pytest
import toys

from danq_keras.commands import experiment

WINDOW = 40
WORD = "GATTACA"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    rng = np.random.default_rng(11)
    letters = "".join(rng.choice(list("CG"), 400))
    chrom = letters[:100] + WORD + letters[107:200] + WORD + letters[207:]
    toys.write_fasta(folder / "g.fa", {"chr1": chrom, "chr2": "".join(rng.choice(list("CG"), 300))})
    toys.save(toys.motif_finder(window=WINDOW), folder / "run", ["finder"])
    (folder / "sites.bed").write_text("chr1\t103\t104\nchr1\t203\t204\nchr9\t1\t2\n")
    (folder / "free.bed").write_text("".join(f"chr2\t{i}\t{i + 1}\n" for i in range(30, 250, 20)))
    return folder


@pytest.fixture
def command(run_script, capsys, files):
    def run(kind, windows, *arguments):
        words = [kind, files / "run", files / windows, "--genome", files / "g.fa", *arguments]
        status = run_script("experiment_danq.py", experiment.main, *words)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def test_a_motif_put_in(command, tmp_path):
    out = tmp_path / "o"
    status, shown, _ = command("marginal", "free.bed", "--motifs", WORD, "GGCC", "--out", out)
    assert status == 0
    assert "GATTACA on finder: +0.500 (+0.500 to +0.500), chance +0.000, q 0.0e+00" in shown
    assert "100 windows" in shown  # shuffles of 11
    assert sorted(path.name for path in out.iterdir()) == [
        "effects.png", "effects.tsv", "explanation.json", "windows.fa",
    ]  # fmt: skip
    table = pd.read_csv(out / "effects.tsv", sep="\t")
    assert table["motif"].tolist() == [WORD, "GGCC"]
    assert json.loads((out / "explanation.json").read_text())["pictures"][0]["file"]


def test_the_windows_of_an_experiment_make_it_again(command, files, run_script, tmp_path, capsys):
    first, second = tmp_path / "a", tmp_path / "b"
    assert command("marginal", "free.bed", "--motifs", "GGCC", "--draw", 5, "--out", first)[0] == 0
    words = ["marginal", files / "run", first / "windows.fa", "--motifs", "GGCC"]
    words += ["--background", "genomic", "--out", second]
    assert run_script("experiment_danq.py", experiment.main, *words) == 0
    capsys.readouterr()
    for name in ("effects.tsv", "windows.fa"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_motif_taken_out(command, tmp_path):
    out = tmp_path / "o"
    status, shown, errors = command("ablate", "sites.bed", "--motifs", WORD, "--out", out)
    assert status == 0
    assert "2 of 2 windows have a site of GATTACA." in errors
    assert "1 intervals without a prediction: 1 its chromosome is not in the FASTA" in errors
    assert "GATTACA on finder: +0.500" in shown
    status, shown, _ = command("ablate", "sites.bed", "--bases", "0:9", "--out", tmp_path / "p")
    assert status == 0
    assert "0:9 on finder: +0.000" in shown


def test_all_motifs_of_a_file(command, tmp_path):
    motifs = tmp_path / "m.jaspar"
    motifs.write_text(
        ">M1 good\nA [0 9 0 0 9 0 9]\nC [0 0 0 0 0 9 0]\nG [9 0 0 0 0 0 0]\nT [0 0 9 9 0 0 0]\n"
        ">M2 other\nA [9 0 9]\nC [0 9 0]\nG [0 0 0]\nT [0 0 0]\n"
    )
    flags = ("--motif-file", motifs, "--draw", 4, "--controls", 3, "--out", tmp_path / "o")
    status, shown, _ = command("marginal", "free.bed", *flags)
    assert status == 0
    assert shown.splitlines()[0].startswith("  M1 on finder: +0.500")


def test_the_distance_of_two_motifs(command, tmp_path):
    out = tmp_path / "o"
    flags = ("--motifs", "GATT", "ACA", "--spacing", "0:4", "--out", out)
    status, shown, _ = command("spacing", "free.bed", *flags)
    assert status == 0
    assert "finder: highest at 0 bases, logit +0.50; at 0 to 0 at least half-way up from " in shown
    table = pd.read_csv(out / "spacing.tsv", sep="\t")
    assert table["response"].idxmax() == 0
    assert (table["windows"] == 11).all()
    assert (out / "spacing.png").read_bytes()[:4] == b"\x89PNG"
    status, _, errors = command("spacing", "free.bed", *flags)
    assert (status, errors.count("\n")) == (2, 1)
    assert "already exists" in errors
    assert command("spacing", "free.bed", *flags, "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("kind", "windows", "flags", "message"),
    [
        ("marginal", "free.bed", (), "marginal takes --motifs, or --motif-file"),
        ("marginal", "free.bed", ("--motifs", "NN"), "--motifs: a motif has a letter other than N"),
        ("marginal", "free.bed", ("--motifs", "XY"), "--motifs: 'XY' is neither bases"),
        ("marginal", "free.bed", ("--motifs", "A" * 41), "has 41 letters, the window 40"),
        ("marginal", "free.bed", ("--motifs", "A", "--draw", 1), "--draw: at least 2. Received: 1"),
        ("marginal", "free.bed", ("--motifs", "A", "--controls", 1), "--controls: at least 2"),
        ("marginal", "free.bed", ("--motifs", "A", "--bases", "1:5"), "--bases: goes with ablate"),
        ("marginal", "free.bed", ("--motifs", "A", "--targets", "find"), "Nearest: finder"),
        ("marginal", "g.fa", ("--motifs", "A"), "g.fa is FASTA itself"),
        ("ablate", "sites.bed", (), "ablate takes --motifs or --bases"),
        ("ablate", "sites.bed", ("--bases", "9"), "--bases: A:B, from base A up to B"),
        ("ablate", "sites.bed", ("--bases", "9:99"), "--motifs or --bases: bases [begin, end)"),
        ("ablate", "free.bed", ("--motifs", WORD), "GATTACA has a site to change in 0 of 11"),
        ("spacing", "free.bed", ("--motifs", "A"), "--spacing: needed"),
        ("spacing", "free.bed", ("--motifs", *"ACG", "--spacing", "0:1"), "one or two. Received:"),
        ("spacing", "free.bed", ("--motifs", "A", "--spacing", "0:99"), "at 20 the motifs do not"),
    ],
)  # fmt: skip
def test_mistakes(kind, windows, flags, message, command, tmp_path):
    status, shown, errors = command(kind, windows, *flags, "--out", tmp_path / "o")
    assert (status, shown) == (2, "")
    assert message in errors
    assert errors.strip().count("\n") <= 1  # a line on windows may stand before it
    assert list(tmp_path.iterdir()) == []
