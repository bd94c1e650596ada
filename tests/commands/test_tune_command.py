"""`tune_danq.py` from its flags to best.json; its processes run inside the test unless stated."""

import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import optuna
import pandas as pd
import pytest
import tiny
from in_process import InProcess
from optuna.trial import TrialState

from danq_keras.commands import train, tune
from danq_keras.system import claims, errors
from danq_keras.training.trainer import Trainer
from danq_keras.tuning import search as tune_session
from danq_keras.tuning import study
from danq_keras.tuning import worker as tune_worker
from danq_keras.tuning.space import DEFAULT_SPACE, space_from_json
from danq_keras.tuning.worker import Worker

BIN = Path(__file__).resolve().parents[2] / "bin"
SETTINGS = [f"{key}={value}" for key, value in tiny.SETTINGS.items() if key != "filters"]
SPACE = {
    "filters": {"low": 2, "high": 8},
    "dropout_pool_low": {"low": 0.0, "high": 0.4},
    "dropout_pool_width": {"low": 0.0, "high": 0.2},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.make_dataset(tmp_path_factory.mktemp("data") / "tiny").folder


@pytest.fixture(scope="module")
def space_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "space.json"
    path.write_text(json.dumps(SPACE))
    return path


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(tune_session, "_start_worker", InProcess)
    monkeypatch.setattr(tune_session, "POLL_SECONDS", 0)


@pytest.fixture
def command(run_script, capsys):
    """Runs the command as its script does; gives (status, what it wrote to stderr)."""

    def run(*arguments):
        status = run_script("tune_danq.py", tune.main, *arguments)
        return status, capsys.readouterr().err

    return run


@pytest.fixture
def begin(data, space_file, command):
    """Starts a tiny search."""

    def run(out, *more):
        arguments = ["--data", data, "--preset", "danq", "--space", space_file]
        arguments += ["--epochs", "2", "--set", *SETTINGS]
        return command(out, *arguments, *more)

    return run


def trials_of(out):
    opened = study.open_study(out, study.read_search(out))
    return opened.get_trials()


# ── a whole search ──────────────────────────────────────────────────────────


@pytest.mark.usefixtures("in_process")
def test_a_search_from_its_flags_to_training_its_best(begin, data, tmp_path):
    out = tmp_path / "search"
    status, err = begin(out, "--trials", "3")
    assert status == 0
    names = {"best.json", "search.json", "search.png", "study.db", "trials", "trials.tsv"}
    names.add(".sessions")
    assert {path.name for path in out.iterdir()} == names
    trials = trials_of(out)
    assert len(trials) == 3
    assert study.n_finished(trials) == 3
    assert begin(tmp_path / "again", "--trials", "2")[0] == 0  # one process alone is repeatable
    for trial, again in zip(trials, trials_of(tmp_path / "again"), strict=False):
        assert (trial.params, trial.values) == (again.params, again.values)

    # The first is the preset itself: 320 filters, for which the range was widened.
    assert trials[0].params == {
        "filters": 320,
        "dropout_pool_low": 0.2,
        "dropout_pool_width": 0.0,
    }
    assert trials[0].user_attrs["reference"] is True
    assert "Ranges widened to hold the preset: filters" in err
    for trial in trials[1:]:
        assert 2 <= trial.params["filters"] <= 320

    # Checkpoints and weights are gone, histories stay.
    for trial in trials:
        assert [path.name for path in study.trial_folder(out, trial).iterdir()] == ["history.csv"]
    history = pd.read_csv(out / "trials/0000/history.csv")
    assert trials[0].value == pytest.approx(history["val_loss"].min())
    assert trials[0].user_attrs["figures"]["epochs"] == len(history) == 2

    # The best is trained again by train_danq.py, with the very same loss.
    best = min(trials, key=lambda trial: trial.value)
    assert f"trial {best.number}:" in json.loads((out / "best.json").read_text())["source"]
    run = tmp_path / "run"
    arguments = ["--config", str(out / "best.json"), "--data", str(data), "--out", str(run)]
    assert train.main(arguments) == 0
    again = pd.read_csv(run / "history.csv")
    assert again["val_loss"].min() == pytest.approx(best.value, abs=1e-12)

    # The summary has both, and says what to do next.
    assert "preset" in err
    assert f"{best.value:.5f}" in err
    assert f"--config {out / 'best.json'}" in err


@pytest.mark.usefixtures("in_process")
def test_resume_goes_on_and_repeats_nothing(begin, command, tmp_path):
    out = tmp_path / "search"
    assert begin(out, "--trials", "2")[0] == 0
    before = trials_of(out)
    assert command(out, "--resume", "--trials", "3")[0] == 0
    after = trials_of(out)
    assert len(after) == 3
    assert [trial.values for trial in after[:2]] == [trial.values for trial in before]
    assert len({trial.params["filters"] for trial in after}) > 1
    assert sum(bool(trial.user_attrs.get("reference")) for trial in after) == 1
    status, err = command(out, "--resume", "--trials", "3")  # complete: only its results again
    assert (status, len(trials_of(out))) == (0, 3)
    assert "3 trials (3 complete)" in err


@pytest.mark.usefixtures("in_process")
def test_objective_can_be_the_pr_auc(begin, tmp_path):
    out = tmp_path / "search"
    status, _ = begin(out, "--trials", "1", "--objective", "val_auprc", "--pruner", "hyperband")
    assert status == 0
    (trial,) = trials_of(out)
    history = pd.read_csv(study.trial_folder(out, trial) / "history.csv")
    assert trial.value == pytest.approx(history["val_auprc"].max())


@pytest.mark.usefixtures("in_process")
def test_points_above_the_cap_are_skipped_and_do_not_count(begin, tmp_path):
    out = tmp_path / "search"
    status, err = begin(out, "--trials", "2", "--max-parameters", "6000")
    assert status == 0
    trials = trials_of(out)
    skipped = [trial for trial in trials if study.state_of(trial) == "skipped"]
    assert skipped
    assert study.n_finished(trials) == 2
    assert all(trial.user_attrs["parameters"] > 6000 for trial in skipped)
    assert "more than 6,000" in skipped[0].user_attrs["reason"]
    assert f"{len(skipped)} skipped" in err
    best = json.loads((out / "best.json").read_text())["source"]
    assert "trial 0:" not in best  # the preset is shown, but is too large itself
    assert not (out / "trials" / f"{skipped[0].number:04d}").exists()


@pytest.mark.usefixtures("in_process")
def test_hardly_any_point_below_the_cap(begin, tmp_path, monkeypatch):
    monkeypatch.setattr(tune_worker, "MOST_SKIPPED", 3)
    monkeypatch.setattr(tune_worker, "count_parameters", lambda _: 10_000)
    status, err = begin(tmp_path / "search", "--trials", "3", "--max-parameters", "900")
    assert status == 2
    assert "--max-parameters: the last 3 points were above 900." in err


@pytest.mark.usefixtures("in_process")
def test_a_loss_that_becomes_infinite_fails_its_trial_only(begin, tmp_path):
    out = tmp_path / "search"
    status, err = begin(out, "--trials", "2", "--set", "learning_rate=1e30")
    assert status == 2
    assert [study.state_of(trial) for trial in trials_of(out)] == ["failed", "failed"]
    assert "failed: The loss became" in err
    assert "no trial is complete yet (2 failed)" in err
    table = pd.read_csv(out / "trials.tsv", sep="\t")
    assert table["reason"].str.startswith("The loss became").all()
    assert not list((out / "trials").glob("*/*"))


# ── a worker by itself ──────────────────────────────────────────────────────


@pytest.fixture
def new_worker(data, tmp_path):
    """Makes workers of new studies, in this process."""

    def make(name):
        dataset = tiny.open_store(data)
        search = study.Search(
            preset=tiny.preset(epochs=4, checkpoint_steps=2, steps_per_call=1),
            space=space_from_json(SPACE, place="test"),
            data=data,
            fingerprints=dataset.fingerprints(),
            pruner="none",
        )
        tune_session._begin(tmp_path / name, search)
        return Worker(tmp_path / name, search, dataset)

    return make


@pytest.fixture
def worker(new_worker):
    return new_worker("study")


def states(worker):
    return [study.state_of(trial) for trial in worker.study.get_trials()]


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM]
)
def test_an_interrupted_trial_continues_at_its_step(new_worker, monkeypatch, number):
    worker, whole = new_worker("study"), new_worker("whole")
    whole.work(1)
    original, steps = Trainer._set_learning_rate, []

    def interrupt_at_step_12(self):
        steps.append(self.state.step)
        if self.state.step == 12 and steps.count(12) == 1:
            os.kill(os.getpid(), number)
        original(self)

    monkeypatch.setattr(Trainer, "_set_learning_rate", interrupt_at_step_12)
    expected = KeyboardInterrupt if number == signal.SIGINT else errors.Terminated
    with pytest.raises(expected):
        worker.work(1)
    assert states(worker) == ["interrupted", "waiting"]
    assert list((worker.out / "trials/0000/checkpoints").glob("*.h5"))
    again = Worker(worker.out, worker.search, worker.dataset)
    again.work(1)
    assert states(again) == ["interrupted", "complete"]
    assert steps == list(range(36))  # 9 steps in each of 4 epochs, none of them twice
    last, alone = again.study.trials[1], whole.study.trials[0]
    assert last.values == alone.values
    assert last.intermediate_values == alone.intermediate_values
    assert last.user_attrs["figures"]["epochs"] == 4
    assert last.user_attrs["reference"] is True
    assert not (worker.out / "trials/0001").exists()


def test_hopeless_trials_are_pruned_but_never_the_preset_nor_in_the_last_epoch(worker, monkeypatch):
    asked = []

    def always(trial):
        asked.append(trial.number)
        return True

    monkeypatch.setattr(optuna.Trial, "should_prune", always)
    worker.work(2)
    assert states(worker) == ["complete", "pruned"]
    assert asked == [1]
    pruned = worker.study.trials[1]
    assert pruned.user_attrs["figures"]["epochs"] == 1
    assert [p.name for p in (worker.out / "trials/0001").iterdir()] == ["history.csv"]


def test_every_epoch_is_reported(worker):
    worker.work(1)
    trial = worker.study.trials[0]
    history = pd.read_csv(worker.out / "trials/0000/history.csv")
    reported = dict(zip(history["epoch"].astype(int), history["val_loss"], strict=True))
    assert trial.intermediate_values == pytest.approx(reported)
    figures = trial.user_attrs["figures"]
    best = history.loc[history["val_loss"].idxmin()]
    assert figures["best_epoch"] == best["epoch"]
    assert figures["loss"] == pytest.approx(best["loss"])
    assert figures["val_auroc"] == pytest.approx(best["val_auroc"])


def test_a_trial_too_many_is_given_back(worker, monkeypatch):
    """Two processes ask at the same moment for the last trial that is wanted."""
    monkeypatch.setattr(tune_worker, "POLL_SECONDS", 0)
    other = study.open_study(worker.out, worker.search)
    taken = []

    original = Worker._require_place

    def late(self, trial):
        if not taken:  # the other process was quicker: its trial is earlier and runs
            taken.append(trial.number)
            other.add_trial(optuna.create_trial(state=TrialState.RUNNING))
            monkeypatch.setattr(self, "n_trials", 0)
        original(self, trial)

    monkeypatch.setattr(Worker, "_require_place", late)
    monkeypatch.setattr(worker, "_orphaned", iter([False, True]).__next__)
    worker.work(1)
    assert states(worker) == ["interrupted", "running", "waiting"]
    assert worker.study.trials[2].user_attrs["reference"] is True


def test_a_worker_without_its_session_stops_and_keeps_the_trial(worker, monkeypatch):
    gone = iter([False, False, True, True])  # before the trial, after two epochs, at last
    monkeypatch.setattr(worker, "_orphaned", gone.__next__)
    worker.work(1)
    assert states(worker) == ["interrupted", "waiting"]
    assert list((worker.out / "trials/0000/checkpoints").glob("*.h5"))


def test_a_worker_waits_for_running_trials_of_others(worker, monkeypatch):
    other = study.open_study(worker.out, worker.search)
    worker.work(1)
    other.add_trial(optuna.create_trial(state=TrialState.RUNNING))
    slept = []

    def sleep(_seconds):
        slept.append(states(worker))
        other.tell(1, values=0.5)

    monkeypatch.setattr(tune_worker, "time", SimpleNamespace(sleep=sleep))
    worker.work(2)
    assert slept == [["complete", "running"]]
    assert states(worker) == ["complete", "complete"]


def test_a_full_disk_ends_the_worker_and_keeps_the_trial(worker, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(worker, "_fit", full)
    with pytest.raises(OSError, match="No space left"):
        worker.work(1)
    assert states(worker) == ["interrupted", "waiting"]


def test_a_folder_in_use_ends_the_worker_and_keeps_the_trial(worker):
    folder = worker.out / "trials/0000"
    folder.mkdir(parents=True)
    with (
        claims.claimed_folder(folder),
        pytest.raises(errors.InputError, match="another process is at work"),
    ):
        worker.work(1)
    assert states(worker) == ["interrupted", "waiting"]


def test_an_objective_that_is_no_number_fails(worker, monkeypatch):
    original = Trainer._validate

    def without(self, interruption):
        return {**original(self, interruption), "val_loss": math.nan}

    monkeypatch.setattr(Trainer, "_validate", without)
    worker.work(1)
    assert states(worker) == ["failed"]
    assert "val_loss is not a number" in worker.study.trials[0].user_attrs["reason"]


# ── mistakes ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "OUT: say which folder"),
        (["OUT"], "--data: say which dataset"),
        (["OUT", "--trials", "0"], "--trials: at least 1. Received: 0."),
        (["OUT", "--jobs", "0"], "--jobs: at least 1. Received: 0."),
        (["OUT", "--max-parameters", "-1"], "--max-parameters: at least 1. Received: -1."),
        (["OUT", "--timeout", "soon"], "--timeout: a time such as 90m, 2h or 1h30m."),
        (["OUT", "--timeout", "0m"], "--timeout: a time"),
        (["OUT", "--resume"], "no search to continue"),
        (["OUT", "--data", "DATA", "--preset", "dank"], "preset: one of"),
        (["OUT", "--data", "DATA", "--preset", "deepsea"], "networks of DanQ's kind"),
        (["OUT", "--data", "DATA", "--epochs", "many"], "epochs: expected a whole number"),
        (["OUT", "--data", "DATA", "--set", "filters"], "--set takes KEY=VALUE"),
        (["OUT", "--data", "DATA", "--set", "filers=3"], "Unknown setting 'filers'"),
        (["OUT", "--data", "DATA", "--set", "window=100"], "has 60"),
        (["OUT", "--data", "DATA"], "window: 60 is too short"),
        (["OUT", "--data", "nowhere"], "nowhere"),
        (["OUT", "--data", "DATA", "--space", "nowhere.json"], "nowhere.json: no such file"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(command, data, tmp_path, arguments, message):
    out = tmp_path / "search"
    places = {"OUT": str(out), "DATA": str(data)}
    status, err = command(*(places.get(argument, argument) for argument in arguments))
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not out.exists()


def test_an_output_that_exists_is_left_alone(begin, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    status, err = begin(tmp_path / "mine")
    assert (status, "already exists. Choose another name." in err) == (2, True)
    assert (tmp_path / "mine" / "file").read_text() == "mine"


@pytest.mark.usefixtures("in_process")
def test_an_unknown_optimizer_leaves_nothing(begin, tmp_path):
    out, space = tmp_path / "search", tmp_path / "optimizers.json"
    space.write_text('{"optimizer": {"choices": ["adam", "best"]}}')
    for more in (["--set", "optimizer=best"], ["--space", space]):
        status, err = begin(out, *more)
        assert status == 2
        assert "optimizer: one of rmsprop, sgd" in err
        assert "Received: 'best'" in err
        assert not out.exists()


@pytest.fixture(scope="module")
def one_trial(data, space_file, tmp_path_factory):
    """A search of the preset alone."""
    out = tmp_path_factory.mktemp("one") / "search"
    arguments = ["--data", data, "--space", space_file, "--epochs", "2", "--set", *SETTINGS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune_session, "_start_worker", InProcess)
        assert tune.main([str(each) for each in (out, "--trials", "1", *arguments)]) == 0
    return out


@pytest.fixture
def finished(one_trial, tmp_path):
    return shutil.copytree(one_trial, tmp_path / "search")


def test_a_search_begins_with_the_recipe_for_the_data(one_trial):
    """As a training does where none is named; what was fitted to the data is remembered."""
    preset = study.read_search(one_trial).preset
    assert preset.name == "danq-fitted"
    assert "warmup_steps" in preset.fitted
    assert "filters" in preset.fitted
    assert "epochs" not in preset.fitted  # said


def test_a_search_is_not_begun_twice(finished, begin):
    status, err = begin(finished)
    assert status == 2
    assert "holds a search. Continue with --resume, or choose another name." in err


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["--data", "other"], "--data"),
        (["--preset", "bioq"], "--preset"),
        (["--epochs", "3"], "--epochs, --seed or --set"),
        (["--seed", "1"], "--epochs, --seed or --set"),
        (["--set", "lstm_units=5"], "--epochs, --seed or --set"),
        (["--objective", "val_auprc"], "--objective"),
        (["--max-parameters", "900"], "--max-parameters"),
        (["--pruner", "none"], "--pruner"),
        (["--space", "space.json"], "--space"),
    ],
)
def test_resume_with_other_settings(finished, command, tmp_path, arguments, flag):
    tiny.make_dataset(tmp_path / "other", seed=1)
    (tmp_path / "space.json").write_text('{"filters": {"low": 2, "high": 9}}')
    places = {"other": tmp_path / "other", "space.json": tmp_path / "space.json"}
    status, err = command(finished, "--resume", *(places.get(each, each) for each in arguments))
    assert status == 2
    assert f"{flag} was another then. Leave it out, or start a new search." in err
    assert len(trials_of(finished)) == 1


@pytest.mark.usefixtures("in_process")
def test_resume_with_the_whole_command_again(finished, data, space_file, command):
    whole = ["--data", data, "--space", space_file, "--epochs", "2", "--set", *SETTINGS]
    status, err = command(finished, *whole, "--trials", "1", "--resume")
    assert (status, "was another then" in err) == (0, False)


@pytest.mark.usefixtures("in_process")
def test_resume_on_other_data(finished, command, data, tmp_path):
    other = tiny.make_dataset(tmp_path / "other", seed=1).folder
    path = finished / "search.json"
    path.write_text(path.read_text().replace(str(data), str(other)))
    status, err = command(finished, "--resume", "--trials", "2")
    assert status == 2
    assert "not the data that the search began with. Restore them." in err
    assert len(trials_of(finished)) == 1


def test_without_optuna_the_extra_is_named(command, monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "optuna" else find(name)
    )
    status, err = command(tmp_path / "out", "--data", tmp_path)
    assert status == 2
    assert err == 'Error: tune_danq.py needs Optuna. Install it: pip install -e ".[tune]".\n'


def test_show_space(capsys, space_file):
    assert tune.main(["--show-space"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert space_from_json(shown, place="shown") == DEFAULT_SPACE
    assert tune.main(["--show-space", "--space", str(space_file)]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(SPACE)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), ("45s", 45)]
)
def test_times(text, seconds):
    assert tune.read_time(text) == seconds


# ── processes ───────────────────────────────────────────────────────────────


class Fake:
    """A process that ended, or that runs until it is told to stop."""

    pid = 7

    def __init__(self, returncode=None, *, stubborn=False):
        self.returncode, self.stubborn, self.asked = returncode, stubborn, []

    def poll(self):
        return self.returncode

    def terminate(self):
        self.asked.append("terminate")
        self.returncode = None if self.stubborn else 143

    def kill(self):
        self.asked.append("kill")
        self.returncode = -9

    def wait(self, timeout=None):
        if self.returncode is None:
            raise subprocess.TimeoutExpired("fake", timeout or 0)
        return self.returncode


def test_the_time_is_up(begin, monkeypatch, tmp_path):
    running = Fake()
    monkeypatch.setattr(tune_session, "_start_worker", lambda *_: running)
    monkeypatch.setattr(tune_session, "has_begun", lambda *_: True)
    status, err = begin(tmp_path / "search", "--timeout", "0.1s")
    assert running.asked == ["terminate"]
    assert "Time is up. Continue with: tune_danq.py" in err
    assert status == 2  # nothing is complete: there is no best
    assert "no trial is complete yet (1 waiting). Continue with --resume" in err


def test_killed_processes_are_told(begin, monkeypatch, tmp_path):
    monkeypatch.setattr(tune_session, "_start_worker", lambda *_: Fake(-9))
    monkeypatch.setattr(tune_session, "has_begun", lambda *_: True)
    status, err = begin(tmp_path / "search")
    assert status == 2
    assert "1 of 1 processes were killed (signal 9)." in err
    assert "every process was killed, perhaps for want of memory" in err


def test_a_process_that_does_not_stop_is_killed(monkeypatch):
    monkeypatch.setattr(tune_session, "STOP_SECONDS", 0)
    stubborn, ended = Fake(stubborn=True), Fake(0)
    tune_session._stop([stubborn, ended])
    assert stubborn.asked == ["terminate", "kill"]
    assert ended.asked == []


def test_no_more_processes_than_trials(begin, monkeypatch, tmp_path):
    started = []

    def start(*arguments):
        started.append(arguments)
        return Fake(2)

    monkeypatch.setattr(tune_session, "_start_worker", start)
    begin(tmp_path / "search", "--jobs", "5", "--trials", "2")
    assert [arguments[2:] for arguments in started] == [(0, 2), (1, 2)]
    assert not (tmp_path / "search").exists()  # they could not begin


@pytest.mark.long
def test_ctrl_c_ends_with_130_and_the_search_goes_on(data, space_file, tmp_path):
    """Two processes, interrupted in mid-trial and continued: nothing lost, nothing twice."""
    out = tmp_path / "search"
    command = [sys.executable, BIN / "tune_danq.py", out]
    start = [*command, "--data", data, "--space", space_file, "--epochs", "60", "--jobs", "2"]
    start += ["--trials", "2", "--pruner", "none", "--set", *SETTINGS]
    process = subprocess.Popen(
        list(map(str, start)),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 180
    while len(list(out.glob("trials/*/checkpoints/step-*.h5"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Stopping. Continue with: tune_danq.py" in err
    assert "Traceback" not in err
    before = study.count_states(trials_of(out))
    assert before["running"] == 0
    assert before["waiting"] == before["interrupted"] > 0
    subprocess.run(
        [*map(str, command), "--resume", "--trials", "2", "--jobs", "2"],
        check=True,
        capture_output=True,
        timeout=300,
    )
    trials = trials_of(out)
    assert study.n_finished(trials) == 2
    assert sum(trial.state == TrialState.COMPLETE for trial in trials) == 2
    assert (out / "best.json").is_file()
