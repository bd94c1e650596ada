"""The recipes' published numbers, and settings from the command line and from JSON."""

import dataclasses
import json
from typing import Any

import pytest

from danq_keras.motifs.files import JASPAR_2016
from danq_keras.recipes.config import ModelConfig, Preset, TrainConfig
from danq_keras.recipes.listing import MEANINGS, settings_text
from danq_keras.recipes.presets import PRESETS, get_preset
from danq_keras.recipes.settings import MODEL_FIELDS, TRAIN_FIELDS, apply_settings, changed_settings
from danq_keras.system.errors import InputError

DANQ = PRESETS["danq"]


# ── published numbers ───────────────────────────────────────────────────────


def count_parameters(config: ModelConfig) -> int:
    """Parameters by the book: kernels and biases; an LSTM has four gates and two directions."""
    filters = (config.filters,) if isinstance(config.filters, int) else config.filters
    total, width = 0, 4
    for n_filters in filters:
        total += config.kernel_size * width * n_filters + n_filters
        width = n_filters
    if config.architecture == "danq":
        for _ in range(config.lstm_layers):
            units = config.lstm_units
            total += 2 * 4 * units * (width + units + 1)
            width = 2 * units
    flat = config.pooled_length() * width
    total += (flat + 1) * config.dense_units
    return total + (config.dense_units + 1) * config.n_targets


# Source: Quang & Xie 2016 and its scripts; BioQ's from its layers.
@pytest.mark.parametrize(
    ("name", "pooled", "parameters"),
    [
        ("danq", 75, 46_926_479),
        ("danq-jaspar", 64, 67_892_175),
        ("deepsea", 53, 52_843_119),
        ("bioq", 75, 49_386_639),
    ],
)
def test_sizes_are_the_published_ones(name: str, pooled: int, parameters: int) -> None:
    config = PRESETS[name].model
    assert (config.window, config.n_targets) == (1000, 919)
    assert config.pooled_length() == pooled
    assert count_parameters(config) == parameters


# Source: the scripts published with the paper; patience 5 of Keras 0.2.0 stops on the 6th epoch.
EXPECTED: dict[str, dict[str, Any]] = {
    "danq": {
        "filters": 320,
        "kernel_size": 26,
        "pool_size": 13,
        "lstm_units": 320,
        "lstm_layers": 1,
        "dense_units": 925,
        "dropout_pool": 0.2,
        "dropout_lstm": 0.5,
        "dropout_kind": "classic",
        "gates": "sigmoid",
        "conv_init": "uniform",
        "recurrent_gain": 1.1,
        "motif_file": None,
        "optimizer": "rmsprop",
        "learning_rate": 0.001,
        "rho": 0.9,
        "epsilon": 1e-6,
        "batch_size": 100,
        "epochs": 60,
        "patience": 6,
        "global_clipnorm": None,
        "schedule": "constant",
        "precision": "float32",
    },
    "danq-jaspar": {
        "filters": 1024,
        "kernel_size": 30,
        "pool_size": 15,
        "lstm_units": 512,
        "dense_units": 925,
        "dropout_kind": "classic",
        "motif_file": JASPAR_2016,
        "optimizer": "rmsprop",
        "epsilon": 1e-6,
        "batch_size": 100,
        "epochs": 32,
        "patience": None,
    },
    "deepsea": {
        "architecture": "deepsea",
        "filters": (320, 480, 960),
        "kernel_size": 8,
        "pool_size": 4,
        "dropout_pool": 0.2,
        "dropout_lstm": 0.5,
        "conv_init": "glorot",
        "optimizer": "rmsprop",
    },
    "bioq": {
        "lstm_layers": 2,
        "optimizer": "rmsprop",
        "learning_rate": 1e-5,
        "rho": 0.99,  # PyTorch's defaults; its epsilon 1e-8 is outside the root
        "epsilon": 1e-16,
        "batch_size": 100,
        "epochs": 55,
        "global_clipnorm": 1.0,
    },
    "mouse-mel": {
        "optimizer": "adam",
        "learning_rate": 0.001,
        "batch_size": 200,
        "epochs": 30,
        "conv_init": "uniform",
    },
    "random-dropout": {"dropout_pool": (0.1, 0.3), "dropout_lstm": (0.4, 0.6)},
    "danq-fitted": {
        "filters": 128,
        "kernel_size": 19,
        "conv_activation": "gelu",
        "dense_activation": "gelu",
        "optimizer": "adamw",
        "weight_decay": 0.1,
        "weight_average": 0.99,
        "output_bias": "prevalence",
        "schedule": "cosine",
    },
    "demo": {},
}


def flat(preset: Preset) -> dict[str, Any]:
    return {**dataclasses.asdict(preset.model), **dataclasses.asdict(preset.train)}


def test_presets_are_the_documented_ones() -> None:
    assert list(PRESETS) == list(EXPECTED)
    assert all(preset.name == name for name, preset in PRESETS.items())


@pytest.mark.parametrize("name", EXPECTED)
def test_recipes(name: str) -> None:
    settings = flat(get_preset(name))
    assert {key: settings[key] for key in EXPECTED[name]} == EXPECTED[name]


def test_each_recipe_says_where_it_comes_from() -> None:
    for preset in PRESETS.values():
        assert len(preset.source) > 20
    assert "DIFFERS" in PRESETS["deepsea"].source
    assert "DIFFERS" in PRESETS["bioq"].source


def test_configs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DANQ.model.filters = 1  # type: ignore[misc]


def test_settings_have_one_owner() -> None:
    """A key of --set is unambiguous."""
    assert not set(MODEL_FIELDS) & set(TRAIN_FIELDS)


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"Received: 'danq_jaspar'\. Nearest: danq-jaspar\."):
        get_preset("danq_jaspar")


# ── settings ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("filters", "64", 64),
        ("window", "600", 600),
        ("dropout_pool", "0", 0.0),
        ("dropout_pool", "0.1,0.3", (0.1, 0.3)),
        ("dropout_lstm", " 0.4 , 0.6 ", (0.4, 0.6)),
        ("motif_file", "my.meme", "my.meme"),
        ("gates", "hard", "hard"),
        ("learning_rate", "1e-4", 1e-4),
        ("global_clipnorm", "1", 1.0),
        ("patience", "none", None),
        ("patience", "None", None),
        ("train_limit", "40000", 40000),
        ("targets", "CTCF", ("CTCF",)),
        ("targets", "3,K562|CTCF|None", ("3", "K562|CTCF|None")),
        ("seed", "0", 0),
        ("momentum", "0.9", 0.9),
        ("distribute", "none", "none"),  # a text, not an absent value
    ],
)
def test_settings_from_text(key: str, text: str, expected: Any) -> None:
    value = flat(apply_settings(DANQ, {key: text}))[key]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("name", EXPECTED)
def test_settings_survive_json(name: str) -> None:
    """config.json gives the same recipe again, pairs and tuples included."""
    preset = get_preset(name)
    settings = json.loads(json.dumps(flat(preset)))
    assert apply_settings(DANQ, settings) == dataclasses.replace(
        DANQ, model=preset.model, train=preset.train
    )


def test_whole_floats_of_json_are_whole_numbers() -> None:
    preset = apply_settings(DANQ, {"epochs": 3.0, "learning_rate": 1})
    assert repr((preset.train.epochs, preset.train.learning_rate)) == "(3, 1.0)"


def test_settings_leave_the_rest_alone() -> None:
    changed = apply_settings(DANQ, {"seed": "7", "filters": "8"})
    assert changed.model == dataclasses.replace(DANQ.model, filters=8)
    assert changed.train == dataclasses.replace(DANQ.train, seed=7)
    assert apply_settings(DANQ, {}) == DANQ


def test_another_optimizer_starts_from_its_own_defaults() -> None:
    train = apply_settings(DANQ, {"optimizer": "adam"}).train
    assert (train.rho, train.epsilon, train.momentum) == (None, None, None)
    train = apply_settings(DANQ, {"optimizer": "adam", "epsilon": "1e-4"}).train
    assert (train.rho, train.epsilon) == (None, 1e-4)
    assert apply_settings(DANQ, {"optimizer": "rmsprop"}) == DANQ


def refusal(settings: dict[str, Any], preset: Preset = DANQ) -> str:
    with pytest.raises(InputError) as caught:
        apply_settings(preset, settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("dropuot_pool", "dropout_pool"),
        ("batchsize", "batch_size"),
        ("lr_schedule", "schedule"),
        ("batch", "batch_size"),
        ("units", "lstm_units, dense_units"),
    ],
)
def test_unknown_setting_names_the_nearest(key: str, nearest: str) -> None:
    assert refusal({key: "1"}) == f"Unknown setting {key!r}. Nearest: {nearest}."


@pytest.mark.parametrize("key", ["zzzzqqqq", "lr", "shuffle", "resume", "jitter", "l2"])
def test_unknown_setting_like_no_other(key: str) -> None:
    """Nothing far off is suggested, but where all of them stand."""
    assert refusal({key: "1"}) == (f"Unknown setting {key!r}. `list_settings` shows all there are.")


def test_every_setting_has_a_meaning() -> None:
    """One sentence each, and no sentence of a setting that there is not."""
    assert set(MEANINGS) == {*MODEL_FIELDS, *TRAIN_FIELDS}
    assert all(text.endswith(".") and text.count("\n") == 0 for text in MEANINGS.values())


def test_settings_are_listed_with_type_value_and_meaning() -> None:
    lines = settings_text(get_preset("mouse-mel")).splitlines()
    of = {line.split("=")[0].strip(): line for line in lines if line.endswith("]")}
    assert set(of) == set(MEANINGS)
    assert "batch_size=200  " in of["batch_size"]
    assert "[a whole number]" in of["batch_size"]
    assert "[a number or none]" in of["epsilon"]
    assert "epsilon=none  " in of["epsilon"]
    assert "(the data's)" in of["window"]
    assert "(the data's)" not in of["warmup_steps"]
    fitted = settings_text(get_preset("danq-fitted"))
    assert fitted.count("(the data's)") == 13  # window and targets, and eleven by `fitted_sizes`


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("epochs", "ten", "expected a whole number"),
        ("epochs", "1.5", "expected a whole number"),
        ("epochs", 1.5, "expected a whole number"),
        ("epochs", True, "expected a whole number"),
        ("epochs", [3], "expected a whole number"),
        ("epochs", "none", "a value is needed"),
        ("epochs", None, "a value is needed"),
        ("learning_rate", "fast", "expected a number"),
        ("learning_rate", "nan", "expected a number"),
        ("learning_rate", "inf", "expected a number"),
        ("patience", "soon", "expected a whole number or none"),
        ("filters", "many", "a whole number or several of them"),
        ("dropout_pool", "a,b", "a number or several of them"),
        ("dropout_pool", {"low": 0.1}, "a number or several of them"),
    ],
)
def test_values_of_the_wrong_kind(key: str, value: Any, expected: str) -> None:
    message = refusal({key: value})
    assert message.startswith(f"{key}: ")
    assert expected in message


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("window", "30", "too short for kernel_size=26 and pool_size=13"),
        ("window", "0", "above zero"),
        ("filters", "0", "above zero"),
        ("filters", "1,2,3", "one number for danq, three for deepsea"),
        ("architecture", "transformer", "one of danq, deepsea"),
        ("gates", "hardd", "Nearest: hard"),
        ("dropout_kind", "none at all", "one of classic, inverted"),
        ("conv_init", "zero", "one of uniform, glorot"),
        ("dropout_redraw", "epoch", "one of step, run"),
        ("dropout_pool", "1", "a rate in [0, 1)"),
        ("dropout_pool", "-0.1", "a rate in [0, 1)"),
        ("dropout_pool", "0.3,0.1", "a pair low,high"),
        ("dropout_pool", "0.1,0.2,0.3", "a pair low,high"),
        ("epochs", "0", "above zero"),
        ("batch_size", "-1", "above zero"),
        ("patience", "0", "above zero"),
        ("train_limit", "0", "above zero"),
        ("learning_rate", "0", "above zero"),
        ("epsilon", "0", "above zero"),
        ("seed", "-1", "must not be negative"),
        ("weight_decay", "-1", "must not be negative"),
        ("rho", "1", "must be in [0, 1)"),
        ("momentum", "-0.1", "must be in [0, 1)"),
        ("plateau_factor", "1", "must be in (0, 1)"),
        ("schedule", "cosin", "Nearest: cosine"),
        ("precision", "mixed_float61", "Nearest: mixed_float16"),
        ("distribute", "horovod", "one of none, mirrored"),
    ],
)
def test_values_out_of_range(key: str, value: str, expected: str) -> None:
    message = refusal({key: value})
    assert message.startswith(f"{key}: ")
    assert expected in message


def test_deepsea_needs_three_convolutions() -> None:
    assert "three for deepsea" in refusal({"filters": "320"}, PRESETS["deepsea"])


@pytest.mark.parametrize(("window", "fits"), [(38, True), (36, False)])
def test_shortest_window_of_danq(window: int, fits: bool) -> None:
    """26 + 13 - 1 bases give one pooled position."""
    if fits:
        assert ModelConfig(window=window).pooled_length() == 1
    else:
        with pytest.raises(InputError, match="too short"):
            ModelConfig(window=window)


def test_defaults_are_danq() -> None:
    assert DANQ.model == ModelConfig()
    assert dataclasses.replace(DANQ.train, epochs=60, patience=6) == TrainConfig()


def test_changed_settings_are_those_that_differ_from_the_preset():
    preset = apply_settings(
        get_preset("danq"), {"epochs": 8, "epsilon": "1e-8", "window": 600, "seed": 0}
    )
    assert changed_settings(preset) == {"epsilon": (1e-6, 1e-8), "epochs": (60, 8)}
    assert changed_settings(get_preset("danq-jaspar")) == {}
