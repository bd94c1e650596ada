"""What the version before the folders wrote is read by this one: tests/data/before_the_move."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

import danq_keras as dq
from danq_keras.commands import (
    compare_aucs,
    evaluate,
    explain,
    make_dataset,
    predict,
    prioritise_variants,
    score_variants,
    train,
)
from danq_keras.data.store import SPLITS
from danq_keras.system.errors import InputError
from danq_keras.variants.reader import read_effects

OLD = Path(__file__).parent / "data" / "before_the_move"
NAMES = ("A", "B", "C")


@pytest.fixture(autouse=True)
def old(tmp_path, monkeypatch):
    """A copy of the files, and the place to stand in: the commands name them as they did then."""
    shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


def run(main, *words):
    assert main([str(word) for word in words]) == 0


def test_the_store():
    run(make_dataset.main, "verify", "data")
    data = dq.open_dataset("data")
    assert (data.window, data.targets.names) == (200, NAMES)
    config = json.loads(Path("run/config.json").read_text())
    assert config["dataset"]["windows"] == {s: data.split(s).n_windows for s in SPLITS}
    assert config["dataset"]["fingerprints"] == data.fingerprints()


def test_the_run_and_its_predictions():
    model = dq.load_model("run")
    assert model.targets.names == NAMES
    assert model.config["train"]["epochs"] == 2
    run(predict.main, "run", "data", "again.h5", "--split", "test")
    with h5py.File("predictions.h5") as before, h5py.File("again.h5") as now:
        np.testing.assert_allclose(now["pred"][:], before["pred"][:], atol=1e-6)
        assert now["targets"].asstr()[:].tolist() == before["targets"].asstr()[:].tolist()
    table = pd.read_csv("predictions.tsv", sep="\t")
    with h5py.File("predictions.h5") as before:
        np.testing.assert_allclose(table[list(NAMES)], before["pred"][:], atol=1e-5)


def test_the_run_is_evaluated_with_the_same_figures(old):
    before = pd.read_csv("run/test_aucs.tsv", sep="\t")
    run(evaluate.main, "run", "--data", "data", "--out", "evaluation")
    now = pd.read_csv("evaluation/test_aucs.tsv", sep="\t")
    pd.testing.assert_frame_equal(now, before, atol=1e-6)
    assert (old / "evaluation" / "report.html").is_file()


def test_the_model_file_alone_has_numbers():
    """It does not know its targets yet."""
    shutil.copy("run/model.keras", "alone.keras")
    assert dq.load_model("alone.keras").targets.names == ("0", "1", "2")
    assert dq.load_model("alone.keras", targets=NAMES).targets.names == NAMES


def test_a_stopped_run_goes_on_as_if_nothing_had_been():
    """One epoch before the move and one after it are the two epochs of before."""
    run(train.main, "--out", "stopped", "--data", "data", "--resume", "--epochs", "2")
    columns = ["epoch", "loss", "val_loss"]
    now, before = (pd.read_csv(f"{name}/history.csv")[columns] for name in ("stopped", "run"))
    pd.testing.assert_frame_equal(now, before, rtol=1e-5)


def test_the_set_of_runs(capsys):
    run(compare_aucs.main, "repeats", "--reference", "repeats")
    assert "ROC AUC" in capsys.readouterr().out
    numbers = json.loads(Path("repeats/repeats.json").read_text())["repeats"]
    assert numbers == [0, 1]


def test_effects_and_their_background():
    before = read_effects(Path("effects.h5"))
    run(
        score_variants.main,
        *("run", "variants.vcf", "--genome", "genome.fa", "--out", "again.h5"),
        *("--background", "background.h5"),
    )
    now = read_effects(Path("again.h5"))
    assert now.targets == before.targets == NAMES
    assert now.model == before.model
    np.testing.assert_allclose(now.alt_pred, before.alt_pred, atol=1e-6)
    with h5py.File("effects.h5") as old_file, h5py.File("again.h5") as new_file:
        np.testing.assert_allclose(new_file["evalue"][:], old_file["evalue"][:], atol=1e-6)
    table = pd.read_csv("effects.tsv", sep="\t")
    np.testing.assert_allclose(
        table["A.diff"], before.alt_pred[:, 0] - before.ref_pred[:, 0], atol=1e-6
    )


def test_the_prioritiser_is_refused_with_what_to_do(old):
    words = ["apply", "prioritiser.h5", "effects.h5", "--out", "scores.tsv"]
    with pytest.raises(InputError, match=r"format version 1, .* again with prioritise_variants"):
        prioritise_variants.main(words)
    assert not (old / "scores.tsv").exists()
    run(
        prioritise_variants.main,
        *("fit", "--positives", "effects.h5", "--negatives", "others.h5"),
        *("--out", "new.h5", "--folds", "3", "--trees", "3"),
    )
    run(prioritise_variants.main, "apply", "new.h5", "effects.h5", "--out", "scores.tsv")


def test_explanations_and_motifs():
    run(
        explain.main,
        *("run", "--bed", "A.bed", "--genome", "genome.fa", "--targets", "A", "--limit", "3"),
        *("--pictures", "0", "--out", "again"),
    )
    with (
        h5py.File("explained/contributions.h5") as before,
        h5py.File("again/contributions.h5") as now,
    ):
        assert set(now) == set(before)
        np.testing.assert_allclose(now["gradients"][:], before["gradients"][:], atol=1e-6)
    motifs = dq.first_layer_motifs("run", "data", matcher="builtin", threshold=100)
    table = pd.read_csv("motifs/motifs.tsv", sep="\t")
    assert motifs.motifs["sites"].tolist() == table["sites"].tolist()
    assert motifs.motifs["consensus"].fillna("").tolist() == table["consensus"].fillna("").tolist()
