import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tiny

from danq_keras.commands import evaluate, train
from danq_keras.data.store import open_store
from danq_keras.genome.dna import unpack_labels
from danq_keras.system import claims

BIN = Path(__file__).resolve().parents[2] / "bin"
SETTINGS = [f"{key}={value}" for key, value in tiny.SETTINGS.items()]
RUN_FILES = {
    "config.json",
    "environment.json",
    "run.log",
    "history.csv",
    "model.keras",
    "checkpoints",
    "test_aucs.tsv",
    "test_summary.json",
    "report.html",
    "tensorboard",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.make_dataset(tmp_path_factory.mktemp("data") / "tiny").folder


@pytest.fixture
def command(run_script, capsys):
    """Runs a command's main as its script does; gives (status, what it wrote to stderr)."""

    def run(main, *arguments):
        status = run_script("command", main, *arguments)
        return status, capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "finished"
    arguments = [
        "--data",
        data,
        "--out",
        out,
        "--epochs",
        "2",
        "--preset",
        "danq",
        "--set",
        *SETTINGS,
    ]
    assert train.main([str(argument) for argument in arguments]) == 0
    return out


def weights(run):
    return keras.saving.load_model(run / "model.keras", compile=False).get_weights()


def test_a_run_leaves_every_file(finished, data):
    assert {path.name for path in finished.iterdir()} == RUN_FILES
    config = json.loads((finished / "config.json").read_text())
    assert config["preset"] == "danq"
    assert config["synthetic"] is True
    assert config["changed"]["epochs"] == "2 (preset: 60)"
    assert "window" not in config["changed"]
    assert config["model"]["n_targets"] == 3
    assert config["model"]["window"] == tiny.WINDOW
    assert config["train"]["epochs"] == 2
    assert config["targets"] == ["target0", "target1", "target2"]
    assert config["dataset"]["fingerprints"] == open_store(data).fingerprints()
    summary = json.loads((finished / "test_summary.json").read_text())
    assert set(summary["baselines"]) == {"kmer", "hotness", "gc"}
    assert summary["calibration"]["labels"] == 20 * 3
    assert sum(each["labels"] for each in summary["calibration"]["bins"]) == 20 * 3
    test = open_store(data).test
    unlabelled = 100 * float((unpack_labels(test.labels, 3).sum(axis=1) == 0).mean())
    assert f"{unlabelled:.3g} % of the windows" in summary["calibration"]["note"]
    assert "lr/sqrt(eps) = 1 " in (finished / "run.log").read_text()
    assert [row["epoch"] for row in tiny.history(finished)] == ["1", "2"]


def test_resuming_a_complete_run_says_so(finished, command):
    before = (finished / "report.html").stat().st_mtime_ns
    status, _ = command(train.main, "--out", finished, "--resume")
    assert status == 0
    assert (finished / "report.html").stat().st_mtime_ns == before


def test_epochs_may_grow_and_equal_a_longer_run(finished, data, tmp_path, command):
    grown, longer = tmp_path / "grown", tmp_path / "longer"
    shutil.copytree(finished, grown)
    assert command(train.main, "--out", grown, "--resume", "--epochs", "3")[0] == 0
    arguments = [
        "--data",
        data,
        "--out",
        longer,
        "--epochs",
        "3",
        "--preset",
        "danq",
        "--set",
        *SETTINGS,
    ]
    assert command(train.main, *arguments)[0] == 0
    assert tiny.history(grown) == tiny.history(longer)
    for one, other in zip(weights(grown), weights(longer), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_kill_9_and_resume_equals_uninterrupted(data, tmp_path):
    """A process killed in mid-epoch, continued by another one, ends bit-identically.

    With the two settings that have a state of their own; without, see `faults`.
    """
    common = [
        "--data",
        data,
        "--epochs",
        "12",
        "--patience",
        "none",
        *("--restudy", "0.3", "--freeze-conv", "9"),
        "--preset",
        "danq",
        "--set",
        *SETTINGS,
    ]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    start = [sys.executable, BIN / "train_danq.py"]
    subprocess.run([*start, *common, "--out", whole], check=True, capture_output=True)
    process = subprocess.Popen(
        [*start, *common, "--out", parts], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(parts.glob("checkpoints/step-*.h5")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (parts / "report.html").exists()
    assert len(tiny.history(parts) if (parts / "history.csv").exists() else []) < 12
    subprocess.run([*start, "--out", parts, "--resume"], check=True, capture_output=True)
    assert tiny.history(parts) == tiny.history(whole)
    for one, other in zip(weights(parts), weights(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    tables = [(run / "test_aucs.tsv").read_bytes() for run in (parts, whole)]
    assert tables[0] == tables[1]


def test_resuming_and_starting_again_keep_the_number_of_resamples(data, tmp_path, command):
    first, again = tmp_path / "first", tmp_path / "again"
    short = ["--data", data, "--epochs", "1", "--preset", "danq", "--set", *SETTINGS]
    assert command(train.main, *short, "--out", first, "--bootstrap", "9")[0] == 0
    table = (first / "test_aucs.tsv").read_text()
    assert "auroc_low" in table
    (first / "report.html").unlink()
    (first / "test_aucs.tsv").unlink()
    assert command(train.main, "--out", first, "--resume")[0] == 0
    assert (first / "test_aucs.tsv").read_text() == table
    config = ["--config", first / "config.json", "--data", data]
    assert command(train.main, *config, "--out", again)[0] == 0
    assert (again / "test_aucs.tsv").read_text() == table
    (tmp_path / "wrong.json").write_text('{"bootstrap": "many"}')
    config = ["--config", tmp_path / "wrong.json", "--data", data, "--out", tmp_path / "no"]
    status, err = command(train.main, *config)
    assert (status, "bootstrap: a whole number from 0 on. Received: 'many'" in err) == (2, True)


def test_a_run_killed_before_its_first_checkpoint_starts_at_step_0(finished, tmp_path, command):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(finished / "config.json", run)
    status, err = command(train.main, "--out", run, "--resume")
    assert status == 0
    assert "starting at step 0" in err
    assert tiny.history(run) == tiny.history(finished)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "dnaq"], "Received: 'dnaq'. Nearest: danq"),
        (["--set", "dropout_pol=0.1"], "Unknown setting 'dropout_pol'. Nearest: dropout_pool"),
        (["--set", "filters"], "--set takes KEY=VALUE"),
        (["--epochs", "many"], "epochs: expected a whole number. Received: 'many'"),
        (["--optimizer", "adamm"], "optimizer: one of"),
        (["--optimizer", "adam", "--set", "rho=0.5"], "rho: the optimizer adam has no such"),
        (["--train-limit", "44"], "has only 43 windows"),
        (["--targets", "target9"], "Unknown target 'target9'. Nearest: target"),
        (["--targets", "7"], "Target number 7 is not in 0 … 2"),
        (["--set", "n_targets=919"], "has 3"),
        (["--set", "window=1000"], "has 60"),
        (["--set", "motif_file=/no/such.meme"], "such.meme"),
        (["--resume"], "no run to resume"),
        (["--resume", "--overwrite"], "Give one of them"),
        (["--config", "/no/such.json"], "/no/such.json: no such file"),
        (["--precision", "float8"], "precision: one of"),
        (["--restudy", "2"], "restudy: a share of the windows in [0, 1]"),
        (["--restudy", "0.001"], "restudy: 0.001 of 43 windows is none"),
        (["--freeze-conv", "-1"], "freeze_conv_epochs: must not be negative"),
        (["--init", "/no/such/run"], "/no/such/run: no such model"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(data, tmp_path, command, arguments, message):
    out = tmp_path / "run"
    status, err = command(
        train.main, "--data", data, "--out", out, "--preset", "danq", "--set", *SETTINGS, *arguments
    )
    assert status == 2
    lines = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "1"], "seed was 0, received 1"),
        (["--set", "filters=5"], "filters was 4, received 5"),
        (["--epochs", "1"], "epochs was 2, received 1"),
        (["--preset", "deepsea"], "started with --preset danq"),
        (["--targets", "0"], "targets"),
        (["--bootstrap", "9"], "started with --bootstrap 0, received 9"),
    ],
)
def test_resume_refuses_another_run(finished, command, arguments, message):
    status, err = command(train.main, "--out", finished, "--resume", *arguments)
    assert status == 2
    assert message in err


def test_resume_refuses_other_data(finished, tmp_path, command):
    other = tiny.make_dataset(tmp_path / "other", seed=1).folder
    status, err = command(train.main, "--out", finished, "--data", other, "--resume")
    assert status == 2
    assert "holds other data" in err


def test_used_out_is_refused_and_overwrite_replaces_only_runs(finished, data, tmp_path, command):
    arguments = ["--data", data, "--epochs", "1", "--preset", "danq", "--set", *SETTINGS]
    status, err = command(train.main, *arguments, "--out", finished)
    assert (status, "already exists" in err) == (2, True)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    status, err = command(train.main, *arguments, "--out", precious, "--overwrite")
    assert (status, "only a run folder" in err) == (2, True)
    assert (precious / "thesis.tex").exists()
    (precious / "config.json").write_text('{"chapters": 7}')
    status, err = command(train.main, *arguments, "--out", precious, "--overwrite")
    assert (status, "not the settings of a run" in err) == (2, True)
    assert (precious / "thesis.tex").exists()
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    mistake = ["--data", tmp_path / "typo", "--out", copy, "--overwrite"]
    assert command(train.main, *mistake)[0] == 2
    assert tiny.history(copy) == tiny.history(finished)  # nothing is removed before all is checked
    shutil.copytree(data, copy / "demo_data")
    inside = ["--data", copy / "demo_data", "--out", copy, *arguments[2:], "--overwrite"]
    assert command(train.main, *inside)[0] == 0
    assert len(tiny.history(copy)) == 1
    assert (copy / "demo_data" / "train.h5").is_file()


def test_config_json_starts_the_same_run_again(finished, data, tmp_path, command):
    again = tmp_path / "again"
    arguments = ["--data", data, "--out", again, "--config", finished / "config.json"]
    assert command(train.main, *arguments)[0] == 0
    assert tiny.history(again) == tiny.history(finished)


def test_warning_when_batch_size_and_learning_rate_change_apart(data, tmp_path, command):
    arguments = ["--data", data, "--epochs", "1", "--preset", "danq", "--set", *SETTINGS]
    _, err = command(train.main, *arguments, "--out", tmp_path / "apart")
    assert "consider --scale-learning-rate, which takes 0.1 times 0.001." in err
    together = tmp_path / "together"
    _, err = command(train.main, *arguments, "--scale-learning-rate", "--out", together)
    assert "consider" not in err
    trained = json.loads((together / "config.json").read_text())["train"]
    assert trained["learning_rate"] == pytest.approx(0.0001)
    assert trained["warmup_steps"] == 0  # a shorter step needs none


def test_evaluate_gives_the_same_table_with_intervals(finished, data, tmp_path, command):
    out = tmp_path / "evaluation"
    arguments = [finished, "--data", data, "--out", out, "--bootstrap", "20"]
    assert command(evaluate.main, *arguments)[0] == 0
    ours, theirs = (
        list(csv.DictReader((run / "test_aucs.tsv").read_text().splitlines(), delimiter="\t"))
        for run in (out, finished)
    )
    assert "auroc_low" in ours[0]
    for one, other in zip(ours, theirs, strict=True):
        assert {key: one[key] for key in other} == other
        assert float(one["auroc_low"]) <= float(one["auroc"]) <= float(one["auroc_high"])
    summary = json.loads((out / "test_summary.json").read_text())
    ends = summary["bootstrap"]["overall"]["auroc"]
    assert ends["low"] <= summary["overall"]["auroc"]["mean"] <= ends["high"]
    assert (out / "test_bootstrap.h5").is_file()

    # The page is of the evaluation: its command, network and data; the training stands apart.
    about = summary["evaluation"]
    assert about["model"] == [str(finished.resolve())]
    assert about["trained_in"] == str(finished.resolve())
    assert (about["data"], about["split"]) == (str(data.resolve()), "test")
    assert "evaluation" not in json.loads((finished / "test_summary.json").read_text())
    page = (out / "report.html").read_text()
    told = page.partition("This evaluation</h2>")[2].partition("</section>")[0]
    assert f"{finished} --data {data} --out {out} --bootstrap 20" in told
    assert about["weights_sha256"][0] in told
    assert "Settings of the training</h2>" in page
    assert f"Trained in {finished.resolve()}" in page
    assert f"95 % interval of the mean: {ends['low']:.4f} to {ends['high']:.4f}" in page
    assert "This evaluation" not in (finished / "report.html").read_text()


def test_evaluate_refuses_a_dataset_that_does_not_fit(finished, data, tmp_path, command):
    other = tiny.make_dataset(tmp_path / "other", n_targets=2).folder
    out = tmp_path / "out"
    status, err = command(evaluate.main, finished, "--data", other, "--out", out)
    assert status == 2
    assert "lacks 1 of the 3 targets" in err
    copy = tmp_path / "alone.keras"
    shutil.copy(finished / "model.keras", copy)
    status, err = command(evaluate.main, copy, "--data", other, "--out", out)
    assert (status, "lacks 1 of the 3 targets" in err) == (2, True)  # the file knows its own
    assert not out.exists()
    (tmp_path / "text.keras").write_text("no model")
    status, err = command(evaluate.main, tmp_path / "text.keras", "--data", data, "--out", out)
    assert (status, "not a readable Keras model" in err) == (2, True)
    status, err = command(evaluate.main, finished, "--data", data)
    assert (status, "already exists" in err) == (2, True)


def test_negative_bootstrap_is_refused_before_training(data, tmp_path, command):
    out = tmp_path / "run"
    status, err = command(train.main, "--data", data, "--out", out, "--bootstrap", "-1")
    assert (status, err) == (2, "Error: --bootstrap: must not be negative. Received: -1.\n")
    assert not out.exists()


def test_damaged_data_are_noticed_before_training(data, tmp_path, command):
    damaged = tmp_path / "damaged"
    shutil.copytree(data, damaged)
    split = open_store(damaged).valid
    bytes_ = bytearray(split.path.read_bytes())
    bytes_[split.labels.offset] ^= 0x80
    split.path.write_bytes(bytes_)
    out = tmp_path / "run"
    status, err = command(
        train.main, "--data", damaged, "--out", out, "--preset", "danq", "--set", *SETTINGS
    )
    assert status == 2
    assert "valid.h5: wrong checksum of 'labels'" in err
    assert not out.exists()


@pytest.mark.parametrize("arguments", [["--resume"], ["--overwrite"]])
def test_a_run_at_work_is_left_alone(finished, data, tmp_path, command, arguments):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "report.html").unlink()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    more = [
        "--data",
        data,
        "--out",
        run,
        "--epochs",
        "2",
        "--preset",
        "danq",
        "--set",
        *SETTINGS,
        *arguments,
    ]
    with claims.claimed_folder(run):
        status, err = command(train.main, *more)
    assert (status, "another process is at work there" in err) == (2, True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_longer_run_that_is_interrupted_is_not_complete(finished, tmp_path, command, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(finished, run)

    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("danq_keras.training.trainer.Trainer.fit", interrupted)
        assert command(train.main, "--out", run, "--resume", "--epochs", "3")[0] == 130
    status, err = command(train.main, "--out", run, "--resume")
    assert status == 0
    assert "Resuming" in err
    assert len(tiny.history(run)) == 3
    assert (run / "report.html").is_file()


@pytest.mark.parametrize("content", ["{", "[]", "7", '{"preset": "danq"}'])
def test_damaged_config_is_one_line(finished, tmp_path, command, content):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "config.json").write_text(content)
    status, err = command(train.main, "--out", run, "--resume")
    assert (status, err.count("\n")) == (2, 1)
    assert "config.json: not the settings of a run" in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"epoch": 3}', "Unknown setting 'epoch'. Nearest: epochs"),
        ('{"train": 3}', "'train': expected an object of settings"),
        ('{"preset": "dank"}', "Nearest: danq"),
    ],
)
def test_settings_file_is_checked(data, tmp_path, command, content, message):
    file = tmp_path / "settings.json"
    file.write_text(content)
    out = tmp_path / "run"
    status, err = command(train.main, "--data", data, "--out", out, "--config", file)
    assert (status, message in err) == (2, True)
    assert not out.exists()


def test_unwritable_out_is_said_before_the_data_are_read(data, tmp_path, command):
    (tmp_path / "file").touch()
    status, err = command(train.main, "--data", tmp_path / "typo", "--out", tmp_path / "file/run")
    assert (status, "not a folder" in err) == (2, True)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere" / "at all")
    status, err = command(
        train.main, "--data", data, "--out", link, "--preset", "danq", "--set", *SETTINGS
    )
    assert (status, "in the way" in err) == (2, True)


def test_demo_data_of_an_interrupted_start_are_used(data, tmp_path, command):
    out = tmp_path / "run"
    shutil.copytree(data, out / "demo_data")
    status, err = command(
        train.main, "--out", out, "--epochs", "1", "--preset", "danq", "--set", *SETTINGS
    )
    assert (status, "already exists" in err) == (0, False)
    assert len(tiny.history(out)) == 1


def test_evaluate_leaves_the_files_of_another_run_alone(finished, data, tmp_path, command):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("of another run")
    status, err = command(evaluate.main, finished, "--data", data, "--out", other)
    assert (status, "config.json: already exists" in err) == (2, True)
    assert [path.name for path in other.iterdir()] == ["config.json"]
