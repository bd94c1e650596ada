"""Starting from a trained network: whose sizes, which layers, what a resumed run needs."""

import dataclasses
import json
import os
import shutil
import signal

import keras
import numpy as np
import pytest
import tiny

from danq_keras.commands import train
from danq_keras.data.deepsea import deepsea_targets
from danq_keras.data.targets import Targets
from danq_keras.models.networks import build_network
from danq_keras.models.trained import save_model
from danq_keras.recipes.presets import get_preset
from danq_keras.system import errors, terminal
from danq_keras.training.fine_tuning import (
    copy_weights,
    describe_start,
    network_settings,
    new_layers,
    open_source,
    reopen_source,
    take_over,
)
from danq_keras.training.step import TrainingStep

NAMES = ("target0", "target1", "target2")
HARD = {"gates": "hard", "dropout_pool": (0.1, 0.3), "lstm_layers": 2}


def source_of(folder, config, names=NAMES, seed=3):
    """A run folder with untrained weights, and what a run leaves beside them."""
    folder.mkdir()
    save_model(build_network(config, seed=seed), folder / "model.keras")
    (folder / "config.json").write_text(json.dumps({"preset": "danq", "targets": list(names)}))
    return open_source(folder)


def predictions(model, rng):
    onehot = np.eye(4, dtype="f4")[rng.integers(0, 4, (5, model.input_shape[1]))]
    return model.predict(onehot, verbose=0)


# ── whose network ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("danq", {}),
        ("danq", {**HARD, "wrapper": "seya"}),
        ("danq", {"dropout_kind": "inverted", "dropout_lstm": 0.0}),
        ("danq-fitted", {}),
        ("random-dropout", {"dropout_pool": 0.25}),
        ("bioq", {}),
        ("deepsea", {}),
        ("deepsea", {"dropout_pool": (0.1, 0.3), "dropout_kind": "inverted"}),
        ("deepsea", {"dropout_pool": (0.1, 0.3), "dropout_lstm": 0.1}),
    ],
)
def test_a_network_tells_its_settings(tmp_path, name, settings):
    """All but those of initial values, from the file alone, under another preset."""
    config = tiny.preset(name, **settings).model
    source = source_of(tmp_path / "run", config)
    recipe = get_preset("deepsea" if name == "deepsea" else "danq-jaspar")
    shown = dataclasses.asdict(take_over(recipe, source, {}).model)
    expected = dataclasses.asdict(config)
    unseen = ["conv_init", "recurrent_gain", "dropout_redraw"]
    if name == "deepsea":
        unseen += ["conv_activation", "lstm_units", "lstm_layers", "gates", "wrapper"]
    for values in (shown, expected):
        for key in unseen:
            values.pop(key)
    # the data's, set later
    assert {**shown, "window": 60, "n_targets": 3} == expected


def test_what_the_user_sets_wins_and_is_said(tmp_path, monkeypatch, caplog):
    source = source_of(tmp_path / "run", tiny.preset().model)
    monkeypatch.setattr(terminal.log, "propagate", True)
    with caplog.at_level("INFO"):
        preset = take_over(get_preset("danq"), source, {"dropout_pool": "0.1,0.4", "epochs": "7"})
    assert preset.model.dropout_pool == (0.1, 0.4)
    assert preset.model.filters == 4
    assert preset.train.epochs == 7
    assert "dropout_pool (0.1, 0.4) (not 0.2)" in caplog.text
    fixed = tiny.preset(gates="hard")
    assert take_over(fixed, source, {}, fixed=["gates"]).model.gates == "hard"
    assert take_over(fixed, source, {}).model.gates == "sigmoid"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"filters": "5", "kernel_size": 9},
            r"layer conv: expected weights of shapes \[\(8, 4, 4\), \(4,\)\], received weights of "
            r"shapes \[\(9, 4, 5\), \(5,\)\]\. Leave filters, kernel_size to the model, or give "
            r"filters=4 kernel_size=8\.",
        ),
        ({"dense_units": 7}, r"layer dense: expected .* give dense_units=6"),
        ({"pool_size": 6}, r"layer dense: expected .* give pool_size=5"),
        ({"lstm_units": 4}, r"layer lstm_backward: expected .* give lstm_units=3"),
        ({"lstm_layers": 2}, r"layer lstm_backward_2: expected no such layer, .* lstm_layers=1"),
        (
            {"architecture": "deepsea", "filters": "4,4,4", "kernel_size": 4, "pool_size": 2},
            "layer conv: expected .* received no such layer",
        ),
        ({"motif_file": "jaspar2016"}, "motif_file: `init` takes the first layer's kernels"),
    ],
)
def test_other_shapes_are_one_line(tmp_path, settings, message):
    source = source_of(tmp_path / "run", tiny.preset().model)
    with pytest.raises(errors.InputError, match=message) as caught:
        take_over(get_preset("danq"), source, settings)
    assert "\n" not in str(caught.value)


def test_a_recipe_for_a_network_of_another_kind(tmp_path):
    source = source_of(tmp_path / "run", tiny.preset().model)
    message = r"is of the kind danq, that of preset deepsea is deepsea\. Give a preset"
    with pytest.raises(errors.InputError, match=message):
        take_over(get_preset("deepsea"), source, {})


def foreign(hidden, *, units=3):
    inputs = keras.Input((60, 4))
    flat = keras.layers.Flatten()(hidden(inputs))
    return keras.Model(inputs, keras.layers.Dense(units, "sigmoid")(flat))


def test_foreign_networks_are_refused(tmp_path):
    save_model(foreign(keras.layers.Conv1D(2, 5)), tmp_path / "other.keras")
    with pytest.raises(errors.InputError, match=r"other\.keras: `init` takes a network that"):
        open_source(tmp_path / "other.keras")
    save_model(foreign(keras.layers.LSTM(2, name="conv")), tmp_path / "named.keras")
    with pytest.raises(errors.InputError, match="layers of this one are others"):
        open_source(tmp_path / "named.keras")
    model = build_network(tiny.preset().model)
    hidden = keras.layers.Dense(3, name="logits")(
        keras.layers.Dense(6, name="extra")(model.get_layer("dense").output)
    )
    save_model(keras.Model(model.input, hidden), tmp_path / "more.keras")
    source = open_source(tmp_path / "more.keras")
    with pytest.raises(errors.InputError, match=r"more\.keras: .* are others \(extra\)"):
        take_over(get_preset("danq"), source, {})


# ── which layers ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "settings"), [("danq", HARD), ("deepsea", {}), ("random-dropout", {})]
)
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_same_targets_give_the_same_predictions(tmp_path, rng, name, settings, precision):
    config = tiny.preset(name, **settings).model
    source = source_of(tmp_path / "run", config)
    step = TrainingStep(config, tiny.preset(precision=precision, seed=9).train)
    assert new_layers(source, config, Targets(NAMES)) == ()
    copy_weights(source, step.model, Targets(NAMES), new=())
    for ours, theirs in zip(
        step.model.get_weights(), source.trained.network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    seed = int(rng.integers(1000))
    ours, theirs = (
        predictions(model, np.random.default_rng(seed))
        for model in (step.model, source.trained.network)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6 if precision == "float32" else 0.02)


def test_the_same_targets_in_another_order(tmp_path):
    config = tiny.preset().model
    source = source_of(tmp_path / "run", config)
    targets = Targets(("target2", "target0", "target1"))
    assert new_layers(source, config, targets) == ()
    model = build_network(config, seed=9)
    copy_weights(source, model, targets, new=())
    ours, theirs = (
        predictions(each, np.random.default_rng(0)) for each in (model, source.trained.network)
    )
    np.testing.assert_allclose(ours, theirs[:, [2, 0, 1]], atol=1e-7)


def test_some_of_the_targets_keep_their_outputs(tmp_path):
    source = source_of(tmp_path / "run", tiny.preset().model)
    config = tiny.preset(n_targets=2).model
    targets = Targets(("target2", "target0"))
    assert new_layers(source, config, targets) == ()
    model = build_network(config, seed=9)
    copy_weights(source, model, targets, new=())
    ours, theirs = (
        predictions(each, np.random.default_rng(0)) for each in (model, source.trained.network)
    )
    np.testing.assert_allclose(ours, theirs[:, [2, 0]], atol=1e-7)


@pytest.mark.parametrize(
    ("changes", "names", "new"),
    [
        ({}, ("target0", "target1", "CTCF"), ("logits",)),
        ({"n_targets": 2}, (NAMES[0], "CTCF"), ("logits",)),
        ({"window": 80}, NAMES, ("dense", "logits")),
    ],
)
def test_new_layers_keep_their_initial_values(tmp_path, changes, names, new):
    source = source_of(tmp_path / "run", tiny.preset().model)
    config = dataclasses.replace(tiny.preset().model, **changes)
    assert new_layers(source, config, Targets(names)) == new
    model, untouched = build_network(config, seed=9), build_network(config, seed=9)
    copy_weights(source, model, Targets(names), new=new)
    for layer in model.layers:
        if not layer.weights:
            continue
        origin = untouched if layer.name in new else source.trained.network
        for ours, theirs in zip(
            layer.get_weights(), origin.get_layer(layer.name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_a_file_alone_has_no_names(tmp_path):
    """Numbers stand for unknown names, and fit no dataset's; not even 919 are DeepSEA's."""
    config = tiny.preset().model
    save_model(build_network(config), tmp_path / "alone.keras")
    source = open_source(tmp_path / "alone.keras")
    assert new_layers(source, config, Targets(NAMES)) == ("logits",)
    large = tiny.preset(n_targets=919).model
    save_model(build_network(large), tmp_path / "deepsea.keras")
    source = open_source(tmp_path / "deepsea.keras")
    assert source.trained.targets.names[0] == "0"
    assert new_layers(source, large, deepsea_targets()) == ("logits",)


def test_the_header_says_what_is_new(tmp_path):
    source = source_of(tmp_path / "run", tiny.preset().model)
    config = tiny.preset(n_targets=2, window=80).model
    lines = [describe_start(source.record(new), config) for new in ((), ("logits",))]
    lines.append(describe_start(source.record(("dense", "logits")), config))
    assert "all layers are copied" in lines[0]
    assert "output layer is new, as not all targets here (2) are among those there (3)" in lines[1]
    assert "dense and output layer are new, as windows have 80 bases here and 60" in lines[2]
    assert all(str(tmp_path / "run") in line and source.fingerprint[:12] in line for line in lines)


def test_a_recorded_model_must_be_the_same(tmp_path):
    config = tiny.preset().model
    source = source_of(tmp_path / "run", config)
    record = json.loads(json.dumps(source.record(())))
    assert reopen_source(record, tmp_path / "c.json").fingerprint == source.fingerprint
    save_model(build_network(config, seed=4), tmp_path / "run" / "model.keras")
    with pytest.raises(errors.InputError, match=r"not the model that .*c\.json names"):
        reopen_source(record, tmp_path / "c.json")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(errors.InputError, match=r"c\.json: the run starts from .*not there"):
        reopen_source(record, tmp_path / "c.json")


def test_settings_read_from_a_model_in_memory(tmp_path):
    assert network_settings(build_network(tiny.preset().model), tmp_path)["motif_file"] is None


# ── the command ─────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.make_dataset(tmp_path_factory.mktemp("data") / "tiny").folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "source"
    settings = [f"{key}={value}" for key, value in (tiny.SETTINGS | {"gates": "hard"}).items()]
    settings += ["dropout_pool=0.1,0.3", "learning_rate=0.01"]
    arguments = ["--data", data, "--out", out, "--epochs", "2", "--set", *settings]
    assert train.main([str(argument) for argument in arguments]) == 0
    return out


@pytest.fixture
def command(run_script, capsys):
    """Runs the command as its script does; gives (status, what it wrote to stderr)."""

    def run(*arguments):
        status = run_script("train_danq.py", train.main, *arguments)
        return status, capsys.readouterr().err

    return run


def best_loss(run):
    lines = [line.split(",") for line in (run / "history.csv").read_text().splitlines()]
    return min(float(line[lines[0].index("val_loss")]) for line in lines[1:])


def weights(run):
    return keras.saving.load_model(run / "model.keras", compile=False).get_weights()


OPTIONS = ["--epochs", "2", "--set", "batch_size=10", "checkpoint_steps=3", "steps_per_call=1"]


def test_same_targets_go_on_from_the_source_and_resume_without_it(
    data, trained, tmp_path, command, monkeypatch
):
    """The first validation loss is the source's; a stopped run ends bit-identically without it."""
    source = tmp_path / "source"
    shutil.copytree(trained, source)
    common = ["--data", data, "--init", source, "--freeze-conv", "1", "--restudy", "0.2", *OPTIONS]
    status, err = command(*common, "--out", tmp_path / "whole")
    assert status == 0
    assert "all layers are copied" in err
    assert f"Validation loss before the first step: {best_loss(source):.6f}" in err
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert config["model"]["gates"] == "hard"
    assert config["model"]["dropout_pool"] == [0.1, 0.3]
    assert config["init"]["model"] == str(source.resolve())
    assert len(config["init"]["fingerprint"]) == 64
    page = (tmp_path / "whole" / "report.html").read_text()
    assert (
        f"Fine-tuned from <b>{source.resolve()}</b> (preset danq-fitted): all layers are copied"
        in page
    )

    step, calls = TrainingStep.__call__, []

    def stopping(self, batch):
        calls.append(batch)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch)

    parts = tmp_path / "parts"
    with monkeypatch.context() as patched:
        patched.setattr(TrainingStep, "__call__", stopping)
        assert command(*common, "--out", parts)[0] == errors.EXIT_TERMINATE
    shutil.move(source, tmp_path / "elsewhere")
    status, err = command("--out", parts, "--resume", "--init", tmp_path / "elsewhere")
    assert (status, f"was started with --init {source}" in err) == (2, True)
    # The flag may be repeated, and nothing of the model is read.
    status, err = command("--out", parts, "--resume", "--init", source)
    assert status == 0
    assert "Resuming at step 1 " in err
    for one, other in zip(weights(parts), weights(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert json.loads((parts / "config.json").read_text()) == config


def test_other_targets_and_a_run_without_checkpoint(trained, tmp_path, command):
    other = tiny.make_dataset(tmp_path / "other", n_targets=4).folder
    tuned = tmp_path / "tuned"
    status, err = command("--data", other, "--init", trained, *OPTIONS, "--out", tuned)
    assert status == 0
    assert "the output layer is new, as not all targets here (4) are among those there (3)" in err
    assert "before the first step" not in err
    assert "new are the layers logits" in (tuned / "report.html").read_text()

    # A run that was killed before its first checkpoint, and the same settings for a new run
    killed, again = tmp_path / "killed", tmp_path / "again"
    killed.mkdir()
    shutil.copy(tuned / "config.json", killed)
    assert command("--out", killed, "--resume")[0] == 0
    config = ["--config", tuned / "config.json"]
    assert command("--data", other, *config, "--out", again)[0] == 0
    for run in (killed, again):
        for one, expected in zip(weights(run), weights(tuned), strict=True):
            np.testing.assert_array_equal(one, expected)
    lost = json.loads((tuned / "config.json").read_text())
    lost["init"]["model"] = str(tmp_path / "nowhere")
    shutil.rmtree(killed)
    killed.mkdir()
    (killed / "config.json").write_text(json.dumps(lost))
    status, err = command("--out", killed, "--resume")
    assert (status, "starts from" in err) == (2, True)
    assert not (killed / "checkpoints").exists()


def test_mistakes_of_the_command(data, trained, tmp_path, command):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    status, err = command("--data", data, "--init", copy, "--out", copy, "--overwrite")
    assert (status, "is in the folder of the new run" in err) == (2, True)
    assert (copy / "model.keras").exists()
    status, err = command("--out", copy, "--resume", "--init", trained)
    assert (status, "was started without --init" in err) == (2, True)
    out = tmp_path / "out"
    status, err = command("--data", data, "--init", trained, "--set", "filters=9", "--out", out)
    assert (status, "layer conv: expected" in err) == (2, True)
    status, err = command("--data", data, "--init", tmp_path, "--out", out)
    assert (status, f"{tmp_path}: a folder of runs, not a run. Give one" in err) == (2, True)
    (tmp_path / "empty").mkdir()
    status, err = command("--data", data, "--init", tmp_path / "empty", "--out", out)
    assert (status, "model.keras: no such model" in err) == (2, True)
    assert not out.exists()
