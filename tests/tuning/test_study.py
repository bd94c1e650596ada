"""The study's folder and database, its trials as a table, and trials whose process died."""

import datetime
import json
import logging
import sqlite3
from pathlib import Path

import optuna
import pandas as pd
import pytest
import tiny
from matplotlib.figure import Figure
from optuna.trial import TrialState

from danq_keras.recipes.settings import apply_settings
from danq_keras.system.errors import InputError
from danq_keras.training.run_folder import preset_from_config
from danq_keras.tuning import plot, study
from danq_keras.tuning.space import Dimension, apply_values
from danq_keras.tuning.study import Search

SPACE = {
    "filters": Dimension(4, 16, log=True),
    "dropout_pool_low": Dimension(0.0, 0.4),
    "dropout_pool_width": Dimension(0.0, 0.2),
}
POINT = {"filters": 8, "dropout_pool_low": 0.1, "dropout_pool_width": 0.2}
DISTRIBUTIONS = {
    "filters": optuna.distributions.IntDistribution(4, 16, log=True),
    "dropout_pool_low": optuna.distributions.FloatDistribution(0.0, 0.4),
    "dropout_pool_width": optuna.distributions.FloatDistribution(0.0, 0.2),
}


def make_search(**changes):
    options = {"preset": tiny.preset(epochs=4), "space": SPACE, "data": Path("/data/mine")}
    return Search(**{**options, "fingerprints": {"train": {"sequence": "00"}}, **changes})


def frozen(state=TrialState.COMPLETE, value=None, *, point=POINT, **attrs):
    """A trial as it stands in the database."""
    value = value if state == TrialState.COMPLETE else None
    return optuna.create_trial(
        state=state, value=value, params=point, distributions=DISTRIBUTIONS, user_attrs=attrs
    )


def figures(val_loss, loss=0.5, **others):
    return {
        "epochs": 4,
        "best_epoch": 3,
        "loss": loss,
        "val_loss": val_loss,
        "val_auroc": 0.8,
        "val_auprc": 0.3,
        "seconds_per_epoch": 1.5,
        **others,
    }


@pytest.fixture
def filled(tmp_path):
    """A study with trials of every kind."""
    search = make_search(max_parameters=1000)
    opened = study.open_study(tmp_path, search)
    for trial in (
        frozen(value=0.7, reference=True, parameters=5000, figures=figures(0.7)),
        frozen(value=0.4, parameters=2000, figures=figures(0.4)),  # above the cap
        frozen(value=0.6, parameters=900, figures=figures(0.6)),
        frozen(value=0.6, parameters=900, figures=figures(0.6)),  # a tie: the first one counts
        frozen(TrialState.PRUNED, parameters=800, figures=figures(0.9, epochs=2)),
        frozen(TrialState.PRUNED, parameters=3000, outcome="skipped", reason="too large"),
        frozen(TrialState.PRUNED, parameters=700, outcome="failed", reason="loss nan"),
        frozen(TrialState.FAIL, parameters=700),
        frozen(TrialState.WAITING),
    ):
        opened.add_trial(trial)
    return search, opened, opened.get_trials()


# ── search.json ─────────────────────────────────────────────────────────────


def test_a_search_is_what_was_written(tmp_path):
    for number, search in enumerate(
        (
            make_search(),
            make_search(
                preset=tiny.preset("demo", dropout_pool="0.1,0.3", targets="a,b"),
                columns=[2, 0],
                objective="val_auprc",
                max_parameters=123,
                pruner="hyperband",
            ),
        )
    ):
        out = tmp_path / str(number)
        assert not study.is_study(out)
        study.write_search(out, search)
        assert study.is_study(out)
        assert study.read_search(out) == search


def test_no_search_to_continue(tmp_path):
    with pytest.raises(InputError, match=r"no search to continue \(search.json is missing\)"):
        study.read_search(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda _: "[]",
        lambda _: "{}",
        lambda text: text.replace('"filters"', '"filtres"'),
        lambda text: text.replace('"columns"', '"colums"'),
        lambda text: text.replace('"preset": "danq"', '"preset": "dank"'),
        lambda text: text.replace('"model": {', '"model": 3, "other": {'),
    ],
)
def test_damaged_settings(tmp_path, damage):
    study.write_search(tmp_path, make_search())
    path = tmp_path / "search.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=r"search\.json: not the settings of a search"):
        study.read_search(tmp_path)


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "study.db").write_bytes(b"no database at all, but longer than its header" * 30)
    with pytest.raises(InputError, match=r"study\.db: not a readable study \(.*not a database"):
        study.open_study(tmp_path, make_search())


# ── the study ───────────────────────────────────────────────────────────────


def test_pruners_have_the_stated_settings():
    median = study.make_pruner(make_search())
    assert isinstance(median, optuna.pruners.MedianPruner)
    assert (median._n_startup_trials, median._n_warmup_steps) == (5, 2)
    hyperband = study.make_pruner(make_search(pruner="hyperband"))
    assert isinstance(hyperband, optuna.pruners.HyperbandPruner)
    assert (hyperband._min_resource, hyperband._max_resource) == (1, 4)
    assert hyperband._reduction_factor == 3
    assert isinstance(study.make_pruner(make_search(pruner="none")), optuna.pruners.NopPruner)


def test_direction_is_that_of_the_objective(tmp_path):
    for objective, name in (("val_loss", "MINIMIZE"), ("val_auprc", "MAXIMIZE")):
        (tmp_path / objective).mkdir()
        opened = study.open_study(tmp_path / objective, make_search(objective=objective))
        assert opened.direction.name == name


def test_states_and_what_counts(filled):
    _, _, trials = filled
    assert study.count_states(trials) == {
        "complete": 4,
        "pruned": 1,
        "skipped": 1,
        "failed": 1,
        "interrupted": 1,
        "waiting": 1,
    }
    assert study.n_finished(trials) == 6  # complete, pruned and failed ones


def test_the_best_keeps_to_the_cap(filled):
    search, _, trials = filled
    assert study.best_trial(search, trials).number == 2
    free = make_search(max_parameters=None)
    assert study.best_trial(free, trials).number == 1
    assert study.best_trial(make_search(max_parameters=10), trials) is None


def test_the_best_of_what_is_maximised():
    search = make_search(objective="val_auprc")
    trials = [frozen(value=v, parameters=1) for v in (0.2, 0.5, 0.3)]
    for number, trial in enumerate(trials):
        trial.number = number
    assert study.best_trial(search, trials).number == 1


def test_the_reference_is_the_complete_trial_of_the_preset(filled):
    _, _, trials = filled
    assert study.reference_trial(trials).number == 0
    assert study.reference_trial(trials[1:]) is None
    assert study.reference_trial([frozen(TrialState.FAIL, reference=True)]) is None


def test_table_of_trials(filled, tmp_path):
    search, _, trials = filled
    path = tmp_path / "trials.tsv"
    study.write_trials(path, study.trials_table(search, trials))
    table = pd.read_csv(path, sep="\t", keep_default_na=False, dtype=str)
    assert list(table["trial"]) == [str(number) for number in range(9)]
    states = "complete complete complete complete pruned skipped failed interrupted waiting"
    assert list(table["state"]) == states.split()
    assert list(table["reference"]) == ["yes"] + 8 * ["no"]
    assert list(table["parameters"][:2]) == ["5000", "2000"]
    assert table["value"][4] == "NA"
    assert float(table["gap"][0]) == pytest.approx(0.2)
    assert table["epochs"][4] == "2"
    assert table["reason"][6] == "loss nan"
    assert table["gap"][5] == table["epochs"][5] == "NA"
    assert list(table.columns[-3:]) == list(SPACE)
    assert table["filters"][3] == "8"


def test_best_settings_are_read_by_train(filled, tmp_path):
    search, _, trials = filled
    path = tmp_path / "best.json"
    study.write_best(path, search, trials[2])
    content = json.loads(path.read_text())
    assert {"window", "n_targets"}.isdisjoint(content["model"])
    assert content["source"] == "tune_danq.py, trial 2: val_loss 0.6 on mine"
    wanted = apply_values(search.preset, POINT)
    data = {"window": tiny.WINDOW, "n_targets": 3}  # what train_danq.py takes from the data
    assert apply_settings(preset_from_config(content), data) == wanted
    assert wanted.model.dropout_pool == (0.1, 0.3)
    assert wanted.train.epochs == 4
    read = preset_from_config(content)
    assert read.is_searched  # and so spared the advice that is for presets
    assert read.source == content["source"]
    assert not search.preset.is_searched


def test_importances_need_two_different_values(filled):
    _, opened, _ = filled
    shares = study.importances(opened)
    assert set(shares) == set(SPACE)
    few = optuna.create_study()
    assert study.importances(few) == {}
    few.add_trial(frozen(value=0.5))
    few.add_trial(frozen(value=0.5))
    assert study.importances(few) == {}


@pytest.mark.parametrize("n", [1, 9])
def test_plots_are_drawn_for_any_number_of_trials(filled, tmp_path, n):
    search, _, trials = filled
    path = tmp_path / "search.png"
    table = study.trials_table(search, trials[:n])
    shares = {} if n == 1 else {"filters": 0.8, "dropout_pool_low": 0.2}
    plot.search_png(path, table, shares, objective="val_loss")
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("n", "shares", "text"),
    [
        (3, {"filters": 1.0}, "too few complete trials to rank by:\n3, from 20 on"),
        (19, {"filters": 1.0}, "too few complete trials to rank by:\n19, from 20 on"),
        (20, {}, "the objective does not vary"),
        (20, {"filters": 1.0}, None),
    ],
)
def test_settings_are_ranked_from_enough_trials_on(n, shares, text):
    axes = Figure().add_subplot()
    plot._importances(axes, shares, n_complete=n)
    assert [each.get_text() for each in axes.texts] == ([] if text is None else [text])
    assert len(axes.patches) == (text is None)


# ── trials whose process died ───────────────────────────────────────────────

# `ask` is for tests only: commands call `optimize`, which keeps the heartbeat.
asked = pytest.mark.filterwarnings("ignore:Heartbeat of storage")


@asked
def test_a_stopped_trial_comes_again_with_its_point_and_folder(tmp_path):
    opened = study.open_study(tmp_path, make_search())
    opened.enqueue_trial(POINT, user_attrs={"reference": True})
    first = opened.ask()
    first.set_user_attr("parameters", 7)
    study.requeue(opened, opened.trials[0])
    second = opened.ask()
    assert second.number == 1
    assert second.user_attrs == {"folder": 0, "reference": True, "kills": 0}
    assert study.trial_folder(tmp_path, second) == tmp_path / "trials" / "0000"
    low, high = 4, 16
    assert second.suggest_int("filters", low, high, log=True) == 8
    study.requeue(opened, opened.trials[1], kills=1)
    assert opened.trials[2].user_attrs["folder"] == 0
    assert opened.trials[2].user_attrs["kills"] == 1


@asked
def test_a_trial_without_heartbeat_is_queued_again_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(study, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(study, "GRACE_SECONDS", 1)
    monkeypatch.setattr(logging.getLogger("danq_keras"), "propagate", True)
    opened = study.open_study(tmp_path, make_search())
    trial = opened.ask()
    trial.suggest_int("filters", 4, 16)
    trial.set_user_attr("parameters", 5)
    opened._storage.record_heartbeat(trial._trial_id)
    study.requeue_stale(opened)
    assert [each.state.name for each in opened.trials] == ["RUNNING"]  # its heart beat just now
    age_heartbeat(tmp_path / "study.db")
    study.requeue_stale(opened)
    study.requeue_stale(opened)
    assert [each.state.name for each in opened.trials] == ["FAIL", "WAITING"]
    assert opened.trials[1].params == trial.params
    assert "Trial 0: its process was killed; it is queued again." in caplog.text


def age_heartbeat(database):
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')")
    connection.close()


@asked
def test_a_trial_killed_before_its_first_heartbeat_is_found_too(tmp_path, monkeypatch):
    opened = study.open_study(tmp_path, make_search())
    opened.enqueue_trial(POINT, user_attrs={"reference": True})
    opened.ask()
    study.requeue_stale(opened)
    assert [each.state.name for each in opened.trials] == ["RUNNING"]
    monkeypatch.setattr(study, "GRACE_SECONDS", -1)
    study.requeue_stale(opened)
    assert [each.state.name for each in opened.trials] == ["FAIL", "WAITING"]
    again = opened.ask()
    assert again.suggest_float("dropout_pool_low", 0.0, 0.4) == 0.1
    assert again.user_attrs["reference"]
    assert opened.trials[0].datetime_start <= datetime.datetime.now()


@asked
def test_a_trial_that_kills_its_process_is_given_up(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("danq_keras"), "propagate", True)
    opened = study.open_study(tmp_path, make_search())
    for expected in (1, 2, None):
        trial = opened.ask()
        opened.tell(trial, state=TrialState.FAIL)
        study.requeue_killed(opened, opened.trials[trial.number])
        waiting = opened.get_trials(states=(TrialState.WAITING,))
        assert [each.user_attrs["kills"] for each in waiting] == ([expected] if expected else [])
    assert "Trial 2 is given up: its process was killed 3 times." in caplog.text
    assert study.n_finished(opened.trials) == 0


# ── who may begin, and by which number ──────────────────────────────────────


def begun(out):
    """A study as it is just before its first trial."""
    opened = study.open_study(out, make_search())
    opened.enqueue_trial(POINT, user_attrs={"reference": True})
    study.write_search(out, make_search())
    return opened


@asked
def test_a_start_that_came_to_no_trial_is_in_nobodys_way(tmp_path):
    assert study.is_free(tmp_path / "new")
    assert study.is_free(tmp_path)
    (tmp_path / "study.db").touch()
    (tmp_path / ".search.json.partial-7@here").touch()
    assert study.is_free(tmp_path)
    (tmp_path / "study.db").unlink()
    opened = begun(tmp_path)
    assert study.is_free(tmp_path)
    with (
        study.session_number(tmp_path),
        pytest.raises(InputError, match="another process is at work"),
    ):
        study.is_free(tmp_path)
    assert study.is_free(tmp_path)
    opened.ask()
    assert not study.is_free(tmp_path)


def test_what_is_no_start_of_a_search_is_not_free(tmp_path):
    (tmp_path / "file").touch()
    assert not study.is_free(tmp_path / "file")
    (tmp_path / "study.db").touch()
    assert not study.is_free(tmp_path)


def test_sessions_at_the_same_time_have_numbers_of_their_own(tmp_path):
    with study.session_number(tmp_path) as first:
        with study.session_number(tmp_path) as second:
            assert (first, second) == (0, 1)
        with study.session_number(tmp_path) as third:
            assert third == 1
    with study.session_number(tmp_path) as alone:
        assert alone == 0


def test_a_study_that_is_removed_is_told_in_one_line(tmp_path):
    opened = study.open_study(tmp_path, make_search())
    (tmp_path / "study.db").unlink()
    with (
        pytest.raises(InputError, match=r"not a readable study \(.*\)\. Was it removed\?"),
        study.told_by_name(tmp_path, "Was it removed?"),
    ):
        opened.enqueue_trial(POINT)
