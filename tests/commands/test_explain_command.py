"""`explain_danq.py` as its users meet it, on a network that looks for one motif."""

import json
import shutil
import sys

import h5py
import numpy as np
import pandas as pd
import pytest
import toys
from matplotlib.figure import Figure

from danq_keras.commands import explain
from danq_keras.evaluation.report import write_report
from danq_keras.genome import dna
from danq_keras.genome.fasta import Genome
from danq_keras.interpret import methods, pictures
from danq_keras.interpret.pictures import half_height, stands_out, strongest_stretch

WINDOW = 40
SITE = 101  # 0-based place of the motif on chr1


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    rng = np.random.default_rng(11)
    letters = "".join(rng.choice(list("CG"), 300))  # the motif cannot come by chance
    chr1 = letters[:SITE] + "GATTACA" + letters[SITE + 7 :]
    toys.write_fasta(folder / "g.fa", {"chr1": chr1, "chr2": "".join(rng.choice(list("CG"), 90))})
    toys.save(toys.motif_finder(window=WINDOW), folder / "run", ["finder"])
    (folder / "i.bed").write_text("chr1\t103\t104\nchr1\t5\t6\nchr2\t44\t45\nchr9\t1\t2\n")
    return folder


@pytest.fixture
def command(run_script, capsys, files):
    def run(*arguments):
        genome = () if "--fasta" in arguments else ("--genome", files / "g.fa")
        words = [files / "run", *genome, "--targets", "finder", *arguments]
        status = run_script("explain_danq.py", explain.main, *words)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def refused(result):
    status, shown, errors = result
    assert (status, shown, errors.count("\n")) == (2, "", 1)
    return errors


def is_png(path):
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_locus_as_table_and_picture(command, tmp_path):
    out = tmp_path / "o"
    status, shown, _ = command("--locus", "chr1:91-120", "--out", out, "--zoom", 20)
    assert status == 0
    assert "chr1:91-120, 30 bases, ism,gradient, window 40, both" in shown
    assert sorted(p.name for p in out.iterdir()) == [
        "contributions.tsv", "explanation.json", "finder.png",
    ]  # fmt: skip
    assert is_png(out / "finder.png")
    table = pd.read_csv(out / "contributions.tsv", sep="\t").set_index("position")
    assert table.index.tolist() == list(range(91, 121))
    site = table.loc[SITE + 1 : SITE + 7]
    assert "".join(site["base"]) == "GATTACA"
    # 2 × 0.5 on one of two strands is lost by each of three changes
    np.testing.assert_allclose(site["contribution"], 0.375, atol=1e-5)
    np.testing.assert_allclose(site["gradient_x_input"], 1.0, atol=1e-5)
    others = table.drop(site.index)[["contribution", "gradient_x_input", "to_A", "to_T"]]
    np.testing.assert_allclose(others, 0, atol=1e-6)
    assert site["to_G"].iloc[0] == 0
    np.testing.assert_allclose(site[["to_C"]].iloc[0], -0.5, atol=1e-5)


def test_a_missing_bed(command, tmp_path):
    message = refused(command("--bed", tmp_path / "i.bed", "--out", tmp_path / "o"))
    assert "i.bed: no such file" in message


def test_many_loci(command, files, tmp_path):
    out = tmp_path / "o"
    bed = files / "i.bed"
    flags = ("--method", "both", "--width", 30, "--pictures", 1, "--zoom", 15)
    status, _, errors = command("--bed", bed, "--out", out, *flags)
    assert status == 0
    assert "2 intervals without a prediction" in errors
    assert len((tmp_path / "o.skipped.tsv").read_text().splitlines()) == 3
    with h5py.File(out / "contributions.h5") as file:
        codes, effects, gradients = (file[n][:] for n in ("codes", "effects", "gradients"))
        assert file["chrom"].asstr()[:].tolist() == ["chr1", "chr2"]
        assert file["start"][:].tolist() == [88, 29]
        assert file["end"][:].tolist() == [118, 59]
        assert file.attrs["channels"] == "AGCT"
        assert file["scores"][0, 0] > file["scores"][1, 0] == 0
    assert effects.shape == gradients.shape == (2, 1, 30, 4)
    onehot = np.load(out / "onehot.npz")["arr_0"]
    assert onehot.shape == (2, 4, 30)
    assert onehot.dtype == np.float32
    letters = "".join("ACGT"[code] for code in onehot[0].argmax(axis=0))
    assert letters == dna.decode(codes[0])
    assert letters[SITE - 88 : SITE - 81] == "GATTACA"
    swapped = [0, 2, 1, 3]  # A,G,C,T ↔ A,C,G,T
    for method, values in (("ism", effects), ("gradient", gradients)):
        written = np.load(out / f"finder.{method}.npz")["arr_0"]
        assert written.shape == (2, 4, 30)
        centred = values[:, 0] - values[:, 0].mean(axis=-1, keepdims=True)
        np.testing.assert_allclose(written, centred[..., swapped].transpose(0, 2, 1), atol=1e-6)
        contribution = (written * onehot).sum(axis=1)
        assert contribution[0].argmax() in range(SITE - 88, SITE - 81)
        np.testing.assert_allclose(contribution[1], 0, atol=1e-6)
    summary = json.loads((out / "explanation.json").read_text())
    assert [each["file"] for each in summary["pictures"]] == ["finder.1.png"]
    assert "chr1:89-118" in summary["pictures"][0]["caption"]  # the higher score
    # a table instead, of the first interval only
    flags = ("--table", "tsv", "--limit", 1, "--pictures", 0, "--overwrite")
    status, _, errors = command("--bed", bed, "--out", out, *flags)
    assert status == 0
    assert "--limit: 1 of 2 intervals are left out." in errors
    assert not (out / "contributions.h5").exists()
    table = pd.read_csv(out / "contributions.tsv", sep="\t")
    assert list(table) == ["target", "chrom", "position", "base", "gradient_x_input"]
    assert len(table) == WINDOW


def test_sequences_without_a_genome(command, files, tmp_path):
    """Each record is explained as that place of a genome would be; what is too short is listed."""
    with Genome(files / "g.fa") as genome:
        records = {
            "site": dna.decode(genome.fetch("chr1", 83, 123)),
            "short": "ACGT",
            "empty": "",
            "none": "C" * 45,
        }
    toys.write_fasta(tmp_path / "s.fa", records)
    status, shown, errors = command("--fasta", tmp_path / "s.fa", "--out", tmp_path / "o")
    assert status == 0
    assert "2 records, 40 bases" in shown
    assert "no bases: empty" in errors
    assert "short" in (tmp_path / "o.skipped.tsv").read_text()
    command("--locus", "chr1:84-123", "--method", "gradient", "--out", tmp_path / "l")
    table = pd.read_csv(tmp_path / "l" / "contributions.tsv", sep="\t")
    with h5py.File(tmp_path / "o" / "contributions.h5") as file:
        assert file["chrom"].asstr()[:].tolist() == ["site", "none"]
        codes, gradients = file["codes"][0], file["gradients"][0, 0]
    expected = methods.of_the_base(gradients, codes)
    np.testing.assert_allclose(expected, table["gradient_x_input"], atol=1e-6)
    assert expected.max() > 0.5


def test_gradients_on_ways(command, files, tmp_path):
    out = tmp_path / "o"
    flags = ("--method", "expected,integrated", "--backgrounds", 3, "--points", 200)
    status, shown, _ = command("--bed", files / "i.bed", "--out", out, "--width", 30, *flags)
    assert status == 0
    assert "2 intervals, 30 bases, integrated,expected, window 40" in shown
    assert "  expected: the contributions of a window miss what they should add up to by" in shown
    onehot = np.load(out / "onehot.npz")["arr_0"]
    with h5py.File(out / "contributions.h5") as file:
        for method in ("integrated", "expected"):
            assert np.abs(file[f"{method}_error"][:]).max() < 0.1
            written = np.load(out / f"finder.{method}.npz")["arr_0"]  # hypothetical as they are
            stored = file[method][:, 0][..., [0, 2, 1, 3]].transpose(0, 2, 1)
            np.testing.assert_array_equal(written, stored)
            assert (written * onehot).sum(axis=1)[0].argmax() in range(SITE - 88, SITE - 81)
    assert is_png(out / "finder.1.png")


def test_a_locus_of_unknown_bases(command, tmp_path):
    """Nothing contributes, and nothing is said about it but that."""
    genome = toys.write_fasta(tmp_path / "n.fa", {"chr1": "N" * 300})
    flags = ("--locus", "chr1:91-120", "--out", tmp_path / "o", "--genome", genome)
    status, shown, errors = command(*flags)
    assert (status, "Warning" in errors) == (0, False)
    assert "finder: logit 0.000" in shown
    table = pd.read_csv(tmp_path / "o" / "contributions.tsv", sep="\t")
    assert set(table["base"]) == {"N"}
    assert (table[["contribution", "gradient_x_input"]] == 0).all(axis=None)


def bed_of(n, path):
    path.write_text("".join(f"chr1\t{90 + 7 * i}\t{91 + 7 * i}\n" for i in range(n)))
    return path


def same_files(one, other):
    """Both folders hold the same arrays, byte for byte, and as many files."""
    assert {p.name for p in one.iterdir()} == {p.name for p in other.iterdir()}
    for name in ("onehot.npz", "finder.ism.npz", "finder.gradient.npz"):
        np.testing.assert_array_equal(np.load(one / name)["arr_0"], np.load(other / name)["arr_0"])
    with h5py.File(one / "contributions.h5") as a, h5py.File(other / "contributions.h5") as b:
        assert set(a) == set(b)
        for name in ("codes", "scores", "effects", "gradients", "start", "end", "chrom"):
            assert (a[name][:] == b[name][:]).all()


@pytest.mark.parametrize("how", ["Ctrl-C", "kill -9"])
def test_stopped_and_resumed_is_as_uninterrupted(how, command, tmp_path, monkeypatch):
    """Stopped at the fourth of six loci; `kill -9` leaves the file as it is at that moment."""
    bed, out, partial = bed_of(6, tmp_path / "b.bed"), tmp_path / "o", tmp_path / "o.partial"
    flags = ("--bed", bed, "--method", "both", "--width", 20, "--pictures", 1)
    assert command(*flags, "--out", tmp_path / "whole")[0] == 0
    monkeypatch.setattr("danq_keras.prediction.growing.SAVE_SECONDS", 0)
    from danq_keras.interpret.explainer import Explainer

    gradients, calls = Explainer.gradients, []

    def stopping(self, codes):
        calls.append(len(codes))
        if len(calls) == 4:
            shutil.copy(partial, tmp_path / "left")
            raise KeyboardInterrupt
        return gradients(self, codes)

    monkeypatch.setattr(Explainer, "gradients", stopping)
    status, _, errors = command(*flags, "--out", out)
    assert (status, out.exists(), partial.exists()) == (130, False, True)
    assert "3 of 6 windows are done. --resume goes on." in errors
    if how == "kill -9":
        shutil.copy(tmp_path / "left", partial)
    assert "an unfinished prediction is there" in refused(command(*flags, "--out", out))
    other = refused(command(*flags[:-2], "--strands", "forward", "--out", out, "--resume"))
    assert "was begun with another strands" in other
    status, _, _ = command(*flags, "--out", out, "--resume")
    assert (status, calls, partial.exists()) == (0, [1] * 7, False)
    same_files(out, tmp_path / "whole")
    status, shown, _ = command(*flags, "--out", out, "--resume")
    assert status == 0
    assert shown.startswith(f"{out}: is complete already.")


def test_pictures_are_made_after_a_stop_while_drawing(command, tmp_path, monkeypatch):
    out = tmp_path / "o"
    flags = ("--bed", bed_of(3, tmp_path / "b.bed"), "--pictures", 1, "--out", out)
    from danq_keras.interpret import places

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(places, "locus_png", stop)
        assert command(*flags)[0] == 130
    assert not out.exists()
    assert command(*flags, "--resume")[0] == 0
    assert is_png(out / "finder.1.png")
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_overwrite_replaces_explanations_only(command, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    flags = ("--locus", "chr1:91-120", "--method", "gradient", "--out", other)
    assert "already exists" in refused(command(*flags))
    assert "replaces a folder of explanations" in refused(command(*flags, "--overwrite"))
    assert (other / "thesis.txt").read_text() == "precious"


def test_a_run_s_report_shows_its_explanations(command, files):
    run = files / "run"
    write_report(run)
    status, shown, _ = command("--locus", "chr1:91-120", "--method", "gradient")
    assert status == 0
    folder = run / "explain" / "chr1_91-120_finder"
    assert is_png(folder / "finder.png")
    assert f"{run / 'report.html'}: shows it" in shown
    page = (run / "report.html").read_text()
    assert "finder: chr1:91-120" in page
    assert page.count("data:image/png;base64,") == 1
    assert 'src="http' not in page
    (folder / "finder.png").unlink()  # a picture that the user took away
    write_report(run)
    assert "data:image/png" not in (run / "report.html").read_text()
    assert "already exists" in refused(command("--locus", "chr1:91-120"))


def test_a_locus_longer_than_the_window_is_said(command, tmp_path):
    status, shown, errors = command(
        "--locus", "chr1:81-121", "--out", tmp_path / "o", "--method", "gradient"
    )
    assert status == 0
    assert "--locus has 41 bases, the model's window 40: chr1:81-120 is explained." in errors
    assert "chr1:81-120, 40 bases" in shown


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--locus", "chr1"), "--locus: CHROM:START-END. Received: 'chr1'"),
        (("--locus", "chr1:9-5"), "A region is CHROM or CHROM:START-END"),
        (("--locus", "chr3:90-100"), "--locus: chr3 is not in"),
        (("--locus", "1:91-120"), "has chr1, chr2. Is it chr1?"),
        (("--locus", "plasmid:91-120"), "has chr1, chr2. Name one of those."),
        (("--locus", "chr1:1-10"), "chr1:-14-25, is not inside chr1 (1-300). Move the locus."),
        (("--locus", "chr1:290-299"), "is not inside chr1 (1-300)"),
        (("--locus", "chr1:90-100", "--width", 5), "--width: goes with --bed and --fasta"),
        (("--locus", "chr1:90-100", "--method", "shap"), "--method: some of ism, gradient"),
        (("--locus", "chr1:90-100", "--backgrounds", 1), "--backgrounds: at least 2. Received: 1"),
        (("--locus", "chr1:90-100", "--zoom", 0), "--zoom: at least 1. Received: 0."),
        (("--locus", "chr1:90-100", "--targets", "find"), "Unknown target 'find'. Nearest: finder"),
        (("--bed", "{bed}", "--width", 41), "--width: at most the window of 40 bases"),
        (("--fasta", "{bed}", "--genome", "{bed}"), "--genome: goes with places. Leave it out."),
        (("--fasta", "{bed}", "--chrom-names", "add"), "--chrom-names: goes with places."),
        (("--fasta", "{bed}"), "i.bed: not a FASTA file"),
        (("--bed", "{bed}", "--pictures", -1), "--pictures: at least 0. Received: -1."),
    ],
)
def test_mistakes(flags, message, command, files, tmp_path):
    words = [files / "i.bed" if word == "{bed}" else word for word in flags]
    assert message in refused(command(*words, "--out", tmp_path / "o"))
    assert list(tmp_path.iterdir()) == []


def test_without_logomaker_the_extra_is_named(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "logomaker", None)
    message = refused(command("--locus", "chr1:91-120", "--out", tmp_path / "o"))
    assert "pip install 'danq_keras[logos]'" in message


@pytest.mark.parametrize(
    ("responses", "expected"),
    [
        ([0, 3, 4, 2, 1, 4, 0], (14, 12, 16)),  # the first of two as high, each side of 2 and up
        ([4, 4, 0], (10, 10, 12)),
        ([0, 1, 5], (14, 14, 14)),
        ([-1, -3], (10, 10, 10)),
        ([1, 1, 1], (10, 10, 14)),
        ([7], (10, 10, 10)),
    ],
)
def test_the_stretch_at_half_height(responses, expected):
    spacings = list(range(10, 10 + 2 * len(responses), 2))
    assert half_height(spacings, responses) == expected


def responses_of(means, sd):
    frame = pd.DataFrame({"spacing": range(len(means)), "response": means})
    return frame.assign(response_sd=sd, windows=100)


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        (np.random.default_rng(0).normal(0, 0.1, 100), False),  # the play of the windows
        ([0.0] * 30 + [1.0] + [0.0] * 30, True),
        ([0.0] * 30 + [0.3] + [0.0] * 30, False),  # 0.3 ± 0.2 among 0 ± 0.2
        ([1.0] * 40 + [0.0] * 20, True),  # high nearly everywhere
        ([0.5] * 20, False),
        ([0.5], False),  # beside nothing
    ],
)
def test_a_peak_within_its_band_does_not_stand_out(means, expected):
    assert stands_out(responses_of(means, 1.0)) == expected


def test_only_a_peak_that_stands_out_is_drawn():
    for means, texts in (
        ([0.0] * 9 + [1.0] + [0.0] * 9, ["9 (9 to 9)"]),
        ([0.0] * 9 + [0.1] + [0.0] * 9, ["no spacing stands out of the bands"]),
        ([0.5], []),
    ):
        axes = Figure().add_subplot()
        pictures._response(axes, responses_of(means, 1.0))
        assert [each.get_text() for each in axes.texts] == texts


def test_the_strongest_stretch():
    """A motif of few high values, not a long stretch of low ones."""
    motif = np.array([2, 2, 2, 0, 0, 0, 0, 0, -1, 1, -1, 1, -1, 1, -1, 1.0], np.float32)
    assert strongest_stretch(motif, 8) == (0, 8)
    values = np.array([0, 0, -3, 1, 0, 2, 0.0], np.float32)
    assert strongest_stretch(values, 2) == (2, 4)
    assert strongest_stretch(values, 4) == (2, 6)
    assert strongest_stretch(values, 9) == (0, 7)


@pytest.mark.data
def test_a_reb1_peak_of_yeast_is_cut_where_its_site_is(data_dir, tmp_path):
    """The toy looks for Reb1's TTACCCG; the window of a Reb1 peak on chr9 holds it."""
    run = toys.save(toys.motif_finder("TTACCCG", window=100), tmp_path / "run", ["Reb1"])
    from danq_keras.commands.explain import main

    flags = ("--locus", "chr9:77400-77499", "--method", "ism", "--targets", "Reb1")
    genome = data_dir / "yeast" / "sacCer3.fa.gz"
    assert main([str(run), *flags, "--genome", str(genome), "--out", str(tmp_path / "o")]) == 0
    table = pd.read_csv(tmp_path / "o" / "contributions.tsv", sep="\t")
    assert "".join(table.loc[table["contribution"] > 0.3, "base"]) == "TTACCCG"
