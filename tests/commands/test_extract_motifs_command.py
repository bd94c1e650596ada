"""`extract_motifs.py` on a tiny dataset whose first target is GATTACA."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tiny

from danq_keras.commands import extract_motifs
from danq_keras.genome import dna
from danq_keras.models.networks import build_network
from danq_keras.models.trained import save_model
from danq_keras.motifs.files import read_meme, write_meme
from danq_keras.motifs.motif import Motif
from danq_keras.system.errors import InputError

BIN = Path(__file__).resolve().parents[2] / "bin"
WORD = "GATTACA"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.make_dataset(tmp_path_factory.mktemp("data") / "tiny", n_train=200).folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder whose kernel 2 is above zero on GATTACA alone; the others are below."""
    network = build_network(tiny.preset().model)
    conv = network.get_layer("conv")
    kernel, bias = conv.get_weights()
    kernel[:] = 0
    kernel[: len(WORD), :, 2] = dna.onehot_from_codes(dna.encode(WORD))
    bias[:] = [-1, -1, 0.5 - len(WORD), -1]
    conv.set_weights([kernel, bias])
    folder = tmp_path_factory.mktemp("runs") / "run"
    save_model(network, folder / "model.keras")
    (folder / "config.json").write_text(json.dumps({"preset": "danq"}))
    return folder


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A database of 60 motifs, number 17 of which is GATTACA's reverse complement."""
    rng = np.random.default_rng(3)
    motifs = [Motif(f"K{i}", f"name{i}", rng.dirichlet([0.3] * 4, 9)) for i in range(60)]
    word = dna.onehot_from_codes(dna.encode(WORD)).astype(float)
    motifs[17] = Motif("K17", "reversed_word", word[::-1, ::-1])
    path = tmp_path_factory.mktemp("known") / "known.meme"
    write_meme(path, motifs, [1] * 60)
    return path


def call(run, data, known, *options):
    arguments = [run, "--data", data, "--databases", known, "--matcher", "builtin", *options]
    return extract_motifs.main([str(argument) for argument in arguments])


def sequences(data, split):
    opened = tiny.open_store(data).split(split)
    codes = dna.unpack_codes(opened.sequence, opened.header.window)
    labels = dna.unpack_labels(opened.labels, opened.n_targets)
    return codes, labels


def test_planted_motif_is_extracted_and_matched(run, data, known, tmp_path, capsys):
    out = tmp_path / "motifs"
    assert call(run, data, known, "--out", out, "--split", "train") == 0
    codes, _ = sequences(data, "train")
    both = [*codes, *dna.reverse_complement_codes(codes)]
    n_sites = sum(WORD in dna.decode(sequence) for sequence in both)
    table = pd.read_csv(out / "motifs.tsv", sep="\t")
    assert table["sites"].tolist() == [0, 0, n_sites, 0]
    assert table["match_name"].fillna("").tolist() == ["", "", "reversed_word", ""]
    assert table.loc[2, "match_orientation"] == "-"
    assert table.loc[2, "match_evalue"] < 1e-3
    (motif,) = read_meme(out / "motifs.meme")
    word = dna.onehot_from_codes(dna.encode(WORD))
    np.testing.assert_allclose(motif.matrix[: len(WORD)], word, atol=1e-6)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["windows"], summary["sequences"]) == (200, 400)
    assert (summary["databases"], summary["matcher"]) == ({"known": 60}, "builtin")
    line = "1 of 4 kernels match a known motif of known (60 motifs) at E ≤ 0.01; 3 without a site"
    assert summary["summary"] == line
    assert line in capsys.readouterr().out
    assert [path.name for path in (out / "logos").iterdir()] == ["kernel_2.png"]


def test_positives_of_any_of_the_targets(run, data, known, tmp_path):
    _, labels = sequences(data, "test")
    for wanted, rows in ((["1"], labels[:, 1]), (["target0", "2"], labels[:, [0, 2]].any(axis=1))):
        out = tmp_path / "-".join(wanted)
        call(run, data, known, "--out", out, "--no-logos", "--positives", *wanted)
        summary = json.loads((out / "summary.json").read_text())
        assert summary["windows"] == rows.sum()
        assert summary["positives"] == [f"target{one[-1]}" for one in wanted]
        assert not (out / "logos").exists()


def test_report_of_the_run_shows_the_motifs(run, data, known):
    (run / "report.html").write_text("earlier")
    assert call(run, data, known, "--split", "train") == 0
    page = (run / "report.html").read_text()
    assert "Motifs of the first layer" in page
    assert "1 of 4 kernels match a known motif of known" in page
    assert "reversed_word (K17)" in page
    assert page.count('<img class="logo" src="data:image/png;base64,') == 1
    assert call(run, data, known, "--no-logos", "--overwrite", "--threshold", "1e-30") == 0
    page = (run / "report.html").read_text()
    assert "0 of 4 kernels match" in page
    assert "reversed_word" not in page
    (run / "report.html").unlink()


def test_batches_do_not_change_anything(run, data, known, tmp_path):
    for size in ("1", "64"):
        call(run, data, known, "--out", tmp_path / size, "--no-logos", "--batch-size", size)
    assert (tmp_path / "1/motifs.meme").read_text() == (tmp_path / "64/motifs.meme").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-size", "0"], "--batch-size: at least 1. Received: 0"),
        (["--threshold", "0"], "--threshold: an E-value above 0. Received: 0"),
        (["--threshold", "nan"], "--threshold: an E-value above 0. Received: nan"),
        (["--positives", "targte1"], "Unknown target 'targte1'. Nearest: target1"),
        (["--positives", "7"], "Target number 7 is not in 0 … 2"),
        (["--positives", "1", "target1"], "named twice"),
        (["--databases", "none.meme"], "none.meme: no such file"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_leave_nothing(options, message, run, data, known, tmp_path):
    with pytest.raises(InputError) as error:
        call(run, data, known, "--out", tmp_path / "out", *options)
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_ambiguous_target_lists_what_it_fits(run, known, tmp_path, monkeypatch):
    names = ("cell|CTCF|None", "cell|CTCF|None#2", "other")
    monkeypatch.setattr(tiny, "Targets", lambda _: tiny_targets(names))
    data = tiny.make_dataset(tmp_path / "data").folder
    with pytest.raises(InputError, match=r"fits several: 0 \(cell\|CTCF\|None\), 1 \("):
        call(run, data, known, "--out", tmp_path / "out", "--positives", "cell|CTCF|None")


def tiny_targets(names):
    from danq_keras.data.targets import Targets

    return Targets(names)


def test_no_positive_window(run, known, tmp_path, monkeypatch):
    monkeypatch.setattr(dna, "pack_labels", lambda labels: np.packbits(labels & False, axis=-1))
    data = tiny.make_dataset(tmp_path / "data").folder
    with pytest.raises(InputError, match=r"test\.h5: no window is positive for target1, target2\."):
        call(run, data, known, "--out", tmp_path / "out", "--positives", "target1", "target2")
    assert not (tmp_path / "out").exists()


def test_model_of_other_windows_or_first_layer(data, known, tmp_path):
    wide = keras.Sequential(
        [
            keras.Input((80, 4)),
            keras.layers.Conv1D(2, 5, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    save_model(wide, tmp_path / "wide.keras")
    with pytest.raises(InputError, match=r"windows of 60 bases, but .*wide\.keras takes 80"):
        call(tmp_path / "wide.keras", data, known, "--out", tmp_path / "out")
    flat = keras.Sequential(
        [keras.Input((60, 4)), keras.layers.Flatten(), keras.layers.Dense(3, name="d")]
    )
    save_model(flat, tmp_path / "flat.keras")
    with pytest.raises(InputError, match="first layer that is a convolution"):
        call(tmp_path / "flat.keras", data, known, "--out", tmp_path / "out")
    with pytest.raises(InputError, match="no such model"):
        call(tmp_path / "none.keras", data, known, "--out", tmp_path / "out")
    with pytest.raises(InputError, match=r"--out: needed, as .* is not a run folder"):
        call(tmp_path / "wide.keras", data, known)


def test_overwrite_replaces_motifs_only(run, data, known, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="already exists"):
        call(run, data, known, "--out", other)
    with pytest.raises(InputError, match="replaces a folder of motifs"):
        call(run, data, known, "--out", other, "--overwrite")
    assert (other / "thesis.txt").read_text() == "precious"


def test_missing_logomaker_names_the_extra(run, data, known, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "logomaker" else find(name, *rest),
    )
    with pytest.raises(InputError, match=r"danq_keras\[logos\], or pass --no-logos"):
        call(run, data, known, "--out", tmp_path / "out")
    assert call(run, data, known, "--out", tmp_path / "out", "--no-logos") == 0


def test_script_reports_a_mistake_in_one_line(run, tmp_path):
    arguments = [run, "--data", tmp_path / "none", "--out", tmp_path / "out", "--no-logos"]
    result = subprocess.run(
        [sys.executable, BIN / "extract_motifs.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
