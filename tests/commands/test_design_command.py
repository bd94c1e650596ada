"""`design_danq.py` as its users meet it, on a network that looks for one motif."""

import pandas as pd
import pytest
import toys

from danq_keras.commands import design
from danq_keras.genome import dna
from danq_keras.genome.fasta import Genome
from danq_keras.interpret.sites import SiteFinder

WINDOW = 20
WORD = "GATTACA"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    chrom = "C" * 40 + "GACCACA" + "C" * 53
    toys.write_fasta(folder / "g.fa", {"chr1": chrom})
    toys.write_fasta(folder / "w.fa", {"one": chrom[33:53], "short": "ACG"})
    toys.save(toys.motif_finder(WORD, window=WINDOW, spare=7), folder / "run", ["finder"])
    return folder


@pytest.fixture
def command(run_script, capsys, files):
    def run(*arguments):
        words = [str(word).replace("{}", str(files)) for word in arguments]
        status = run_script("design_danq.py", design.main, files / "run", *words)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


@pytest.mark.parametrize(
    "start", [("--locus", "chr1:41-47", "--genome", "{}/g.fa"), ("--fasta", "{}/w.fa")]
)
def test_the_word_is_made(start, command, tmp_path):
    out = tmp_path / "o"
    status, shown, _ = command(*start, "--higher", "finder", "--strands", "forward", "--out", out)
    assert status == 0
    assert "finder: logit 10.000 → 14.000" in shown
    assert "2 changes" in shown
    assert sorted(path.name for path in out.iterdir()) == [
        "designed.fa", "explanation.json", "path.png", "path.tsv",
    ]  # fmt: skip
    with Genome(out / "designed.fa") as made:
        assert WORD in dna.decode(made.codes("designed"))
        assert WORD not in dna.decode(made.codes("start"))
    assert pd.read_csv(out / "path.tsv", sep="\t")["finder"].tolist() == [10, 12, 14]
    assert command(*start, "--higher", "finder", "--out", out)[0] == 2
    assert command(*start, "--higher", "finder", "--out", out, "--overwrite")[0] == 0


def test_a_random_start_is_that_of_its_seed(command, tmp_path):
    designed = []
    for number, seed in enumerate((3, 3, 4)):
        out = tmp_path / str(number)
        flags = ("--random", 0.5, "--seed", seed, "--shuffle", "--beam", 2, "--out", out)
        assert command(*flags, "--higher", "finder", "--strands", "forward")[0] == 0
        designed.append((out / "designed.fa").read_text())
        letters = dna.encode(designed[-1].split()[-1])[None]
        assert SiteFinder.of(WORD).covered(letters).any()
    assert designed[0] == designed[1] != designed[2]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--random", 0.5), "name at least one target to move"),
        (("--random", 1.5, "--higher", "finder"), "--random: a share of G and C from 0 to 1"),
        (("--locus", "chr1:5-9", "--higher", "finder"), "--locus and --genome go together"),
        (("--fasta", "{}/g.fa", "--higher", "finder"), "one record of the network's 20 bases"),
        (("--random", 0.5, "--higher", "find"), "Nearest: finder"),
        (("--random", 0.5, "--higher", "finder", "--below", "finder"), "--below: TARGET=LOGIT"),
        (("--random", 0.5, "--higher", "finder", "--below", "other=1"), "Unknown target 'other'"),
        (("--random", 0.5, "--higher", "finder", "--change", "5"), "--change: two numbers, A:B"),
        (("--random", 0.5, "--higher", "finder", "--change", "5:99"), "--change: [begin, end)"),
        (("--random", 0.5, "--higher", "finder", "--gc", "0.9:1"), "--gc: from 0 to 1, with the"),
        (("--random", 0.5, "--higher", "finder", "--rounds", 0), "--rounds: at least 1"),
        (("--random", 0.5, "--higher", "finder", "--avoid", "XY"), "neither bases"),
    ],
)
def test_mistakes(flags, message, command, tmp_path):
    status, shown, errors = command(*flags, "--out", tmp_path / "o")
    assert (status, shown, errors.count("\n")) == (2, "", 1)
    assert message in errors
    assert list(tmp_path.iterdir()) == []
