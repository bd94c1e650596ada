"""`draw_locus.py` as its users meet it."""

import numpy as np
import pandas as pd
import pytest
import toys
from PIL import Image

from danq_keras.commands import draw_locus
from danq_keras.genome import dna


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, 3000, dtype=np.uint8)
    codes[1000:1007] = dna.encode("GATTACA")
    toys.write_fasta(folder / "g.fa", {"chr1": dna.decode(codes)})
    for name in ("run", "other"):
        toys.save(toys.motif_finder("GATTACA"), folder / name, ["finder$1"])
    (folder / "a.bed").write_text("chr1\t1000\t1001\nchr2\t1\t5\n")
    row = 'chr1\tx\tgene\t{}\t{}\t.\t-\t.\tgene_id "g{}";\n'
    (folder / "genes.gtf").write_text("".join(row.format(901 + n, 1100, n) for n in range(20)))
    return folder


@pytest.fixture
def command(run_script, capsys, files):
    def run(*arguments):
        words = [str(word).replace("{}", str(files)) for word in arguments]
        status = run_script("draw_locus.py", draw_locus.main, files / "run", *words)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


HERE = ("--locus", "chr1:901-1,100", "--genome", "{}/g.fa", "--targets", "finder$1")


def test_tables_and_pictures_of_two_networks(command, tmp_path):
    out = tmp_path / "o"
    more = ("--with", "{}/other", "--peaks", "{}/a.bed", "--genes", "{}/genes.gtf")
    status, shown, _ = command(*HERE, *more, "--out", out)
    assert status == 0
    assert "2 tracks every 1 bases, 20 genes" in shown
    table = pd.read_csv(out / "tracks.tsv", sep="\t")
    assert list(table) == ["chrom", "start", "end", "finder$1 · run", "finder$1 · other"]
    best = table["finder$1 · run"]
    assert table["start"][best.idxmax()] in range(990, 1014)
    contributions = pd.read_csv(out / "contributions.tsv", sep="\t").set_index("pos")
    assert "".join(contributions["base"].loc[1001:1007]) == "GATTACA"
    with Image.open(out / "tracks.png") as picture:
        assert picture.size[0] == 1650
    svg = (out / "tracks.svg").read_text()
    assert "8 more genes find no place" in svg
    assert "finder$1 · run" in svg
    assert command(*HERE, "--out", out)[0] == 2
    assert command(*HERE, "--out", out, "--overwrite", "--method", "none")[0] == 0
    assert not (out / "contributions.tsv").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--locus", "chr1:9-"), "A region is CHROM or CHROM:START-END"),
        (("--locus", "chr1:2991-3001"), "--locus: chr1 has 3,000 bases. Received: 3,001"),
        (("--targets", "finders"), "finder"),
        (("--step", "0"), "--step: at least 1"),
        (("--with", "{}/run"), "run is given twice"),
        (("--genes", "{}/g.fa"), "gene models are read from"),
    ],
)
def test_one_line_for_a_mistake(command, tmp_path, change, message):
    status, _, shown = command(*HERE, *change, "--out", tmp_path / "o")
    assert status == 2
    assert message in shown
    assert not (tmp_path / "o").exists()
