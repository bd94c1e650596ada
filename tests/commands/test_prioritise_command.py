"""`prioritise_variants.py` on files as `score_variants.py` writes them."""

import gzip

import h5py
import pandas as pd
import pytest
from simulated_effects import make_effects, write_effects, write_extra

from danq_keras.commands import prioritise_variants

FEW = ("--folds", "3", "--trees", "4", "--max-leaves", "4")


@pytest.fixture
def files(rng, tmp_path):
    positives = make_effects(rng, 60, shift=0.2)
    negatives = make_effects(rng, 90, first=1500, step=6667)
    for name, effects in (("pos", positives), ("neg", negatives)):
        write_effects(tmp_path / f"{name}.h5", effects)
        write_extra(tmp_path / f"{name}.tsv", effects, phylop=rng.normal(size=len(effects.pos)))
    extra = pd.concat([pd.read_csv(tmp_path / f"{name}.tsv", sep="\t") for name in ("pos", "neg")])
    extra.to_csv(tmp_path / "extra.tsv", sep="\t", index=False)
    return positives, negatives


@pytest.fixture
def command(run_script, monkeypatch, capsys, tmp_path):
    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        status = run_script("prioritise_variants.py", prioritise_variants.main, *arguments)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


FIT = ("fit", "--positives", "pos.h5", "--negatives", "neg.h5", "--out", "p.h5", *FEW)


def test_fit_then_apply(command, files, tmp_path):
    status, out, err = command(*FIT)
    assert (status, err) == (0, "")
    assert "p.h5: 60 positives, 90 negatives, 6 features; ROC AUC of held-out folds " in out
    assert "(mean ± sd of 3)" in out
    folds = pd.read_csv(tmp_path / "p.h5.folds.tsv", sep="\t")
    assert folds["positives"].tolist() == [20, 20, 20]
    assert folds["negatives"].sum() == 90
    assert folds["auroc"].min() > 0.9
    assert list(folds.columns) == ["fold", "positives", "negatives", "auroc"]
    held_out = pd.read_csv(tmp_path / "p.h5.heldout.tsv", sep="\t")
    assert held_out["label"].tolist() == [1] * 60 + [0] * 90
    assert held_out["pos"].tolist() == [*files[0].pos, *files[1].pos]
    status, out, err = command("apply", "p.h5", "neg.h5", "--out", "s.tsv.gz")
    assert (status, err) == (0, "")
    assert "s.tsv.gz: 90 variants" in out
    text = gzip.decompress((tmp_path / "s.tsv.gz").read_bytes()).decode()
    assert text.splitlines()[0] == "chrom\tpos\tid\tref\talt\tscore"
    low = pd.read_csv(tmp_path / "s.tsv.gz", sep="\t")["score"]
    command("apply", "p.h5", "pos.h5", "--out", "t.tsv")
    assert pd.read_csv(tmp_path / "t.tsv", sep="\t")["score"].mean() > low.mean() + 0.3


@pytest.mark.usefixtures("files")
def test_extra_columns_have_a_baseline_and_are_asked_for(command, tmp_path):
    status, out, _ = command(*FIT, "--extra", "extra.tsv")
    assert status == 0
    assert "7 features" in out
    assert "extra columns alone (phylop): ROC AUC 0." in out
    folds = pd.read_csv(tmp_path / "p.h5.folds.tsv", sep="\t")
    assert folds["auroc_extra"].mean() < 0.75 < folds["auroc"].mean()
    assert command("apply", "p.h5", "neg.h5", "--out", "s.tsv", "--extra", "neg.tsv")[0] == 0
    status, _, err = command("apply", "p.h5", "neg.h5", "--out", "t.tsv")
    assert status == 2
    assert "fitted with phylop. Received: no extra columns" in err


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "--positives", "pos.h5", "--negatives", "neg.h5", "--out", "pos.h5"], "pos.h5"),
        (["fit", "--positives", "pos.h5", "--negatives", "neg.h5", "--out", "./neg.h5"], "neg.h5"),
        (["apply", "p.h5", "neg.h5", "--out", "neg.tsv", "--extra", "neg.tsv"], "neg.tsv"),
    ],
)
def test_inputs_are_not_written_over(command, tmp_path, words, message):
    before = (tmp_path / message).read_bytes()
    status, _, err = command(*words, "--overwrite")
    assert (status, err) == (
        2,
        f"Error: {message}: is an input itself. Choose another name to write.\n",
    )
    assert (tmp_path / message).read_bytes() == before


@pytest.mark.usefixtures("files")
def test_a_file_that_is_given_twice_is_refused(command):
    words = ["fit", "--positives", "pos.h5", "./pos.h5", "--negatives", "neg.h5", "--out", "p.h5"]
    status, _, err = command(*words)
    assert (status, err) == (2, "Error: pos.h5: is given twice. Name each file once.\n")


@pytest.mark.usefixtures("files")
def test_mistakes_are_one_line(command, rng, tmp_path):
    def says(message, *arguments):
        status, _, err = command(*arguments)
        assert (status, err.count("\n")) == (2, 1), err
        assert message in err

    def fit(*changed, negatives="neg.h5", out="p.h5"):
        return ("fit", "--positives", "pos.h5", "--negatives", negatives, "--out", out, *changed)

    write_effects(tmp_path / "model.h5", make_effects(rng, 9), model_fingerprint="x")
    write_effects(tmp_path / "strand.h5", make_effects(rng, 9), strands="forward")
    write_effects(tmp_path / "two.h5", make_effects(rng, 9, n_targets=2))
    write_effects(tmp_path / "none.h5", make_effects(rng, 0))
    for name, message in (
        ("model", "pos.h5: it holds effects by another model than model.h5 has"),
        ("strand", "effects of other strands than strand.h5"),
        ("two", "effects on other targets than two.h5"),
        ("none", "none.h5: there are no variants in it"),
        ("missing", "missing.h5: no such file"),
        ("extra.tsv", "extra.tsv.h5: no such file"),
        ("pos", "positive or negative. Received 60 as both, first chr1:"),
    ):
        says(message, *fit(negatives=f"{name}.h5"))
    says("extra.tsv: not a readable file of effects", *fit(negatives="extra.tsv"))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["pred"] = 1
    says("other.h5: not effects of score_variants.py", *fit(negatives="other.h5"))
    says("p.tsv: .h5 or .hdf5 is written", *fit(out="p.tsv"))
    says("--folds: at least 2. Received: 1", *fit("--folds", "1"))
    says("--folds: at least 2 and at most the places", *fit("--folds", "61"))
    says("--trees: at least 1", *fit("--trees", "0"))
    says("--learning-rate: above 0", *fit("--learning-rate", "0"))
    assert not list(tmp_path.glob("p.*"))
    assert command(*FIT)[0] == 0
    says("p.h5: already exists", *FIT)
    (tmp_path / "p.h5").rename(tmp_path / "kept.h5")
    says("p.h5.folds.tsv: already exists", *FIT)
    (tmp_path / "kept.h5").rename(tmp_path / "p.h5")
    other = ("apply", "p.h5", "model.h5", "--out", "s.tsv")
    says("p.h5: the prioritiser was fitted to effects by another model", *other)
    says("pos.h5: not a prioritiser", "apply", "pos.h5", "neg.h5", "--out", "s.tsv")
    says("q.h5: no such file", "apply", "q.h5", "neg.h5", "--out", "s.tsv")
    says("extra.tsv: not a readable prioritiser", "apply", "extra.tsv", "neg.h5", "--out", "s.tsv")
    with h5py.File(tmp_path / "p.h5", "a") as file:
        file.attrs["format_version"] = 9
    says("format version 9", "apply", "p.h5", "neg.h5", "--out", "s.tsv")
