"""`train_danq.py --repeats` and `--folds`; the runs are made in this process, which is quicker."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import in_process
import numpy as np
import pytest
import tiny
from sklearn.metrics import roc_auc_score

from danq_keras.commands import train
from danq_keras.data.store import open_store
from danq_keras.evaluation.auc_tables import read_auc_table
from danq_keras.genome.dna import unpack_labels
from danq_keras.runs import processes, train_set
from danq_keras.runs.pooling import PREDICTIONS
from danq_keras.system import claims, errors, terminal
from danq_keras.system.tables import read_text_table
from danq_keras.training.request import TrainRequest

BIN = Path(__file__).resolve().parents[2] / "bin"
SETTINGS = [f"{key}={value}" for key, value in tiny.SETTINGS.items()]
SHORT = ["--epochs", "2", "--set", *SETTINGS]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.make_dataset(tmp_path_factory.mktemp("data") / "tiny", n_chroms=5).folder


@pytest.fixture
def made(monkeypatch):
    """Names of the runs made, each in this process."""
    names = []

    def run_all(orders, *, at_once):
        names.extend(order.name for order in orders)
        return in_process.run_all(orders, at_once=at_once)

    monkeypatch.setattr(train_set, "run_all", run_all)
    return names


@pytest.fixture
def copied(monkeypatch, repeats):
    """Orders of runs that are not trained but copied: (name, resume) of each."""
    names = []

    def run_all(orders, **_):
        for order in orders:
            names.append((order.name, json.loads(order.request)["resume"]))
            shutil.copytree(repeats / "seed-3", order.folder, dirs_exist_ok=True)
            path = order.folder / "config.json"
            config = json.loads(path.read_text())
            config["train"] |= {key: setting(order, key) for key in ("seed", "epochs")}
            path.write_text(json.dumps(config))
        return 0

    monkeypatch.setattr(train_set, "run_all", run_all)
    return names


def setting(order, key):
    """A number among the settings of a run's request."""
    return int(json.loads(order.request)["settings"][key])


@pytest.fixture
def command(run_script, capsys):
    """Runs train_danq.py's main; gives (status, what it wrote to stderr)."""

    def run(*arguments):
        status = run_script("command", train.main, *arguments)
        return status, capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def _finished(tmp_path_factory):
    return tmp_path_factory.mktemp("sets")


@pytest.fixture
def repeats(_finished, data, made, command):
    """Two complete repeats, seeds 3 and 4; made once."""
    out = _finished / "repeats"
    if not out.is_dir():
        status, _ = command("--data", data, "--out", out, "--repeats", 2, "--seed", 3, *SHORT)
        assert status == 0
        assert made == ["seed-3", "seed-4"]
        made.clear()
    return out


@pytest.fixture
def crossed(_finished, data, made, command):
    """A complete cross-validation of two of three targets; made once."""
    out = _finished / "crossed"
    if not out.is_dir():
        more = ["--targets", "2,0", "--bootstrap", "5"]
        status, _ = command("--data", data, "--out", out, "--folds", 3, *SHORT, *more)
        assert status == 0
        assert made == ["fold-0", "fold-1", "fold-2"]
        made.clear()
    return out


def test_repeats_are_ordinary_runs_that_differ_in_the_seed(repeats, data, tmp_path, command):
    assert {path.name for path in repeats.iterdir()} == {
        *("seed-3", "seed-4", "repeats.json", "repeats.tsv", "repeats_summary.tsv"),
        *("test_aucs_repeats.tsv", "report.html", "run.log"),
    }
    single = tmp_path / "single"
    assert command("--data", data, "--out", single, "--seed", 4, *SHORT)[0] == 0
    assert tiny.history(repeats / "seed-4") == tiny.history(single)
    assert tiny.history(repeats / "seed-3") != tiny.history(single)
    configs = [json.loads((repeats / f"seed-{n}" / "config.json").read_text()) for n in (3, 4)]
    assert [config["train"].pop("seed") for config in configs] == [3, 4]
    assert configs[0]["train"] == configs[1]["train"]
    assert (repeats / "seed-4" / "test_aucs.tsv").read_bytes() == (
        single / "test_aucs.tsv"
    ).read_bytes()
    rows = read_text_table(repeats / "repeats.tsv")
    assert list(rows["seed"]) == ["3", "4"]
    best = min(float(row["val_loss"]) for row in tiny.history(repeats / "seed-4"))
    assert float(rows["val_loss"][1]) == pytest.approx(best, rel=1e-8)
    assert "epochs_within_1pct" in rows


def test_resuming_a_complete_set_makes_no_run(repeats, made, command):
    before = (repeats / "repeats.tsv").read_bytes()
    status, err = command("--out", repeats, "--resume", "--until-loss", "5%", "0.3")
    assert (status, made) == (0, [])
    assert "2 of 2 runs are complete" in err
    header = (repeats / "repeats.tsv").read_text().splitlines()[0].split("\t")
    assert {"epochs_within_5pct", "epochs_until_0.3"} <= set(header)
    assert command("--out", repeats, "--resume", "--until-loss", "1%")[0] == 0
    assert (repeats / "repeats.tsv").read_bytes() == before


def test_a_larger_number_adds_seeds(repeats, tmp_path, copied, command):
    out = shutil.copytree(repeats, tmp_path / "more")
    assert command("--out", out, "--resume", "--repeats", 3)[0] == 0
    assert copied == [("seed-5", False)]
    assert list(read_text_table(out / "repeats.tsv")["run"]) == ["seed-3", "seed-4", "seed-5"]
    assert json.loads((out / "repeats.json").read_text())["repeats"] == [3, 4, 5]


def test_only_the_unfinished_is_continued(repeats, tmp_path, copied, command):
    out = shutil.copytree(repeats, tmp_path / "cut")
    (out / "seed-4" / "report.html").unlink()
    (out / "seed-3" / "config.json").unlink()  # killed before it had one
    (out / "report.html").unlink()
    status, err = command("--out", out, "--resume", "--repeats", 3)
    assert status == 0
    assert copied == [("seed-3", False), ("seed-4", True), ("seed-5", False)]
    assert (out / "report.html").is_file()
    assert "Report: " in err


def test_a_resumed_run_ends_as_if_uninterrupted(repeats, tmp_path, made, command):
    out = shutil.copytree(repeats, tmp_path / "cut")
    (out / "seed-4" / "report.html").unlink()
    (out / "seed-4" / "test_aucs.tsv").unlink()
    assert command("--out", out, "--resume")[0] == 0
    assert made == ["seed-4"]
    for name in ("repeats.tsv", "test_aucs_repeats.tsv"):
        assert (out / name).read_bytes() == (repeats / name).read_bytes()


def test_epochs_may_grow(repeats, tmp_path, copied, command):
    out = shutil.copytree(repeats, tmp_path / "longer")
    assert command("--out", out, "--resume", "--epochs", 3)[0] == 0
    assert copied == [("seed-3", True), ("seed-4", True)]
    assert json.loads((out / "repeats.json").read_text())["config"]["train"]["epochs"] == 3


def test_a_set_has_a_name_beside_a_single_runs(data, tmp_path, copied, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("--data", data, "--repeats", 2, *SHORT)[0] == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["danq-fitted-tiny-repeats"]
    assert command("--data", data, "--repeats", 2, "--resume", *SHORT)[0] == 0
    assert len(copied) == 2


def test_a_failed_run_ends_the_command_with_its_status(repeats, tmp_path, command, monkeypatch):
    out = shutil.copytree(repeats, tmp_path / "failed")
    monkeypatch.setattr(train_set, "run_all", lambda *_, **__: 2)
    assert command("--out", out, "--resume")[0] == 2
    assert not (out / "report.html").exists()


def test_folds_are_pooled_exactly(crossed, data):
    source = open_store(data)
    assert {path.name for path in crossed.iterdir()} == {
        *("fold-0", "fold-1", "fold-2", "data", "folds.json", "folds.tsv", "folds_summary.tsv"),
        *("test_aucs_folds.tsv", "test_aucs.tsv", "test_summary.json", PREDICTIONS),
        *("report.html", "run.log"),
    }
    with h5py.File(crossed / PREDICTIONS) as file:
        pred, chrom, start = file["pred"][:], file["chrom"].asstr()[:], file["start"][:]
        assert list(file["targets"].asstr()[:]) == ["target2", "target0"]
    tests = [open_store(crossed / "data" / f"fold-{n}").test for n in range(3)]
    labels = np.concatenate([unpack_labels(test.labels, 3) for test in tests])[:, [2, 0]]
    assert len(pred) == sum(source.split(name).n_windows for name in ("train", "valid", "test"))
    np.testing.assert_array_equal(chrom, np.concatenate([test.chrom for test in tests]))
    np.testing.assert_array_equal(start, np.concatenate([test.start for test in tests]))
    table = read_auc_table(crossed / "test_aucs.tsv")
    for column in range(2):
        expected = roc_auc_score(labels[:, column], pred[:, column])
        assert table.loc[column, "auroc"] == pytest.approx(expected)
    assert "auroc_low" in table
    assert list(table["positives"]) == list(labels.sum(axis=0))


def test_each_fold_run_was_tested_on_its_own_chromosomes(crossed):
    record = json.loads((crossed / "folds.json").read_text())
    assert record["folds"] == [0, 1, 2]
    assert sum(fold["windows"] for fold in record["chromosomes"]) == 83
    for number, fold in enumerate(record["chromosomes"]):
        config = json.loads((crossed / f"fold-{number}" / "config.json").read_text())
        dataset = open_store(Path(config["dataset"]["path"]))
        assert set(dataset.test.chrom) == set(fold["chromosomes"])
        assert not set(dataset.train.chrom) & set(dataset.test.chrom)
        assert not set(dataset.valid.chrom) & set(dataset.test.chrom)
        assert config["train"]["seed"] == 0


def test_a_set_is_resumed_with_the_resamples_of_its_start(crossed, command):
    status, err = command("--out", crossed, "--resume", "--bootstrap", 6)
    assert (status, "started with --bootstrap 5, received 6" in err) == (2, True)


def test_lost_predictions_and_fold_data_are_made_again(crossed, tmp_path, made, command):
    out = shutil.copytree(crossed, tmp_path / "copy")
    whole = (out / "test_aucs.tsv").read_bytes()
    (out / "fold-1" / PREDICTIONS).unlink()
    for name in ("fold-1", "fold-2"):  # fold 2 is complete, its data are needed to pool
        shutil.rmtree(out / "data" / name)
    assert command("--out", out, "--resume")[0] == 0
    assert made == ["fold-1"]
    assert (out / "test_aucs.tsv").read_bytes() == whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repeats", "1"], "--repeats: at least 2. Received: 1"),
        (["--repeats", "2", "--folds", "3"], "Give one of them"),
        (["--folds", "2"], "--folds: at least 3"),
        (["--folds", "6"], "--folds 6: the dataset has windows on 5 chromosomes"),
        (["--repeats", "2", "--jobs", "0"], "--jobs: at least 1. Received: 0"),
        (["--jobs", "2"], "--jobs: for several runs"),
        (["--until-loss", "1%"], "--until-loss: for several runs"),
        (["--repeats", "2", "--until-loss", "low"], "--until-loss: a loss above zero"),
        (["--repeats", "2", "--train-limit", "44"], "has only 43 windows"),
        (["--folds", "3", "--train-limit", "35"], "the training split of a fold has only 1"),
        (["--repeats", "2", "--set", "motif_file=/no/such.meme"], "such.meme"),
        (["--folds", "3", "--set", "motif_file=/no/such.meme"], "such.meme"),
        (["--folds", "3", "--set", "filtres=3"], "Unknown setting 'filtres'"),
        (["--repeats", "3", "--resume"], "no repeats or folds to resume; start without --resume"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(data, tmp_path, command, arguments, message):
    out = tmp_path / "set"
    status, err = command("--data", data, "--out", out, "--set", *SETTINGS, *arguments)
    assert status == 2
    lines = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not out.exists()


def test_folds_need_coordinates(data, tmp_path, command):
    bare = shutil.copytree(data, tmp_path / "bare")
    for path in bare.glob("*.h5"):
        with h5py.File(path, "r+") as file:
            del file["chrom"], file["start"]
    status, err = command("--data", bare, "--out", tmp_path / "set", "--folds", 3)
    assert (status, "has no coordinates" in err, err.count("\n")) == (2, True, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repeats", "1"], "at least 2"),
        (["--folds", "3"], "holds repeats. Resume with --repeats"),
        (["--seed", "0"], "seed was 3, received 0"),
        (["--epochs", "1"], "epochs was 2, received 1"),
    ],
)
def test_resume_refuses_another_set(repeats, command, arguments, message):
    status, err = command("--out", repeats, "--resume", *arguments)
    assert (status, message in err) == (2, True)
    assert (repeats / "report.html").is_file()


def test_resume_refuses_fewer_repeats_and_other_folds(repeats, crossed, tmp_path, command):
    more = shutil.copytree(repeats, tmp_path / "more")
    record = json.loads((more / "repeats.json").read_text())
    record["repeats"] = [3, 4, 5]
    (more / "repeats.json").write_text(json.dumps(record))
    status, err = command("--out", more, "--resume", "--repeats", 2)
    assert (status, "--repeats was 3 and can only grow, received 2" in err) == (2, True)
    status, err = command("--out", crossed, "--resume", "--folds", 4)
    assert (status, "--folds was 3 and cannot change, received 4" in err) == (2, True)
    status, err = command("--out", repeats / "seed-3", "--resume", "--repeats", 2)
    assert (status, "it holds a single run" in err) == (2, True)


def test_overwrite_replaces_only_a_set(repeats, data, tmp_path, copied, command):
    arguments = ["--data", data, "--repeats", 2, *SHORT]
    status, err = command(*arguments, "--out", repeats)
    assert (status, "already exists" in err) == (2, True)
    status, err = command(*arguments, "--out", repeats / "seed-3", "--overwrite")
    assert (status, "replaces only a folder of repeats" in err) == (2, True)
    status, err = command("--data", data, *SHORT, "--out", repeats, "--overwrite")
    assert (status, "--overwrite replaces only a run folder" in err) == (2, True)
    copy = shutil.copytree(repeats, tmp_path / "copy")
    assert command(*arguments, "--out", copy, "--overwrite")[0] == 0
    assert copied == [("seed-0", False), ("seed-1", False)]
    assert not (copy / "seed-3").exists()


def order(data, out, *settings):
    """A run as the session orders it."""
    pairs = dict(pair.split("=", 1) for pair in (*SETTINGS, *settings))
    request = TrainRequest(data=data, out=out, settings=pairs)
    return processes.RunOrder(out, request.to_json())


@pytest.mark.slow
def test_runs_in_processes_of_their_own(data, tmp_path, capsys):
    orders = [order(data, tmp_path / name, "epochs=1") for name in ("a", "b")]
    terminal.set_up_logging()
    assert processes.run_all(orders, at_once=2) == 0
    err = capsys.readouterr().err
    assert tiny.history(tmp_path / "a") == tiny.history(tmp_path / "b")
    assert "a: epoch 1: loss" in err
    assert "b: epoch 1: loss" in err
    environment = json.loads((tmp_path / "a" / "environment.json").read_text())
    words = ["--data", str(data), "--out", str(tmp_path / "a"), "--set", *SETTINGS]
    assert environment["command"][: len(words) + 1] == ["train_danq.py", *words]
    assert not list(tmp_path.glob(".*.plan.json"))


@pytest.mark.slow
def test_a_failing_run_stops_the_others(data, tmp_path, capsys):
    """One is refused at once, the other would train for very long."""
    orders = [order(data, tmp_path / "long", "epochs=100000", "patience=none")]
    orders += [order(data, tmp_path / "refused", "train_limit=44")]
    terminal.set_up_logging()
    assert processes.run_all(orders, at_once=2) == 2
    err = capsys.readouterr().err
    assert "refused: Error: --train-limit 44" in err
    assert not (tmp_path / "long" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long)],
)
def test_a_stopped_set_is_saved_and_continues(data, tmp_path, number, status):
    out = tmp_path / "set"
    arguments = [
        "--data",
        data,
        "--out",
        out,
        "--repeats",
        "2",
        "--jobs",
        "2",
        "--patience",
        "none",
    ]
    arguments += ["--epochs", "100000", "--set", *SETTINGS]
    process = subprocess.Popen(
        [sys.executable, BIN / "train_danq.py", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob("seed-*/checkpoints/step-*.h5"))) < 2 or not (
        (out / "seed-1" / "history.csv").exists() and (out / "seed-0" / "history.csv").exists()
    ):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert err.count("Saved at step") == 2
    assert f"Continue the set with: train_danq.py --out {out} --resume" in err
    for seed in (0, 1):
        with claims.claimed_folder(out / f"seed-{seed}"):  # nobody is at work there any more
            assert (out / f"seed-{seed}" / "checkpoints").is_dir()


def test_a_killed_run_is_told(data, tmp_path, monkeypatch):
    process = processes._Process
    monkeypatch.setattr(processes, "_Process", killed(process))
    with pytest.raises(errors.InputError, match=r"run was killed by SIGKILL. Continue with `re"):
        processes.run_all([order(data, tmp_path / "a")], at_once=1)


def killed(process):
    def start(*arguments, **options):
        started = process(*arguments, **options)
        os.kill(started._process.pid, signal.SIGKILL)
        return started

    return start
