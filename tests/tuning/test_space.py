"""The space of a search: its JSON, what presets do to it, its corners and its points."""

import dataclasses
import json

import optuna
import pytest
import tiny
from keras import Model

from danq_keras.models.networks import build_network
from danq_keras.recipes.config import ModelConfig
from danq_keras.recipes.presets import PRESETS, get_preset
from danq_keras.recipes.settings import apply_settings
from danq_keras.system.errors import InputError
from danq_keras.tuning import space as search_space
from danq_keras.tuning.space import (
    DEFAULT_SPACE,
    Dimension,
    apply_values,
    check_space,
    count_parameters,
    preset_values,
    read_space,
    space_from_json,
    space_json,
    suggest,
    widened,
    without_fixed,
)

SEARCHED = [name for name in PRESETS if name != "deepsea"]


def fixed_trial(values):
    return optuna.trial.FixedTrial(values)


def test_what_is_shown_can_be_read(tmp_path):
    path = tmp_path / "space.json"
    path.write_text(space_json(DEFAULT_SPACE))
    assert read_space(path) == DEFAULT_SPACE


def test_choices_survive_json():
    space = {"optimizer": Dimension(choices=("adam", "sgd")), "filters": Dimension(choices=(8, 16))}
    assert space_from_json(json.loads(space_json(space)), place="x") == space


@pytest.mark.parametrize("name", SEARCHED)
def test_every_space_holds_its_preset(name):
    """The first trial is the preset itself, exactly."""
    preset = get_preset(name)
    space, _ = widened(DEFAULT_SPACE, preset)
    values = preset_values(space, preset)
    assert apply_values(preset, suggest(space, fixed_trial(values))) == preset
    for key, value in values.items():
        assert space[key].low <= value <= space[key].high


def test_ranges_are_widened_only_where_needed():
    assert widened(DEFAULT_SPACE, get_preset("danq")) == (DEFAULT_SPACE, [])
    space, changed = widened(DEFAULT_SPACE, get_preset("bioq"))
    assert changed == ["learning_rate", "epsilon"]
    assert space["learning_rate"] == Dimension(1e-5, 1e-2, log=True)
    assert space["epsilon"] == Dimension(1e-16, 1e-6, log=True)


def test_a_choice_is_added_and_a_scale_changed_for_the_preset():
    space = {
        "optimizer": Dimension(choices=("adam", "sgd")),
        "weight_decay": Dimension(1e-6, 1e-2, log=True),
    }
    wide, changed = widened(space, get_preset("danq"))
    assert changed == ["optimizer", "weight_decay"]
    assert wide["optimizer"].choices == ("adam", "sgd", "rmsprop")
    assert wide["weight_decay"] == Dimension(0.0, 1e-2)  # a log scale has no 0


def test_epsilon_is_searched_only_where_the_preset_states_one():
    assert "epsilon" in widened(DEFAULT_SPACE, get_preset("danq"))[0]
    assert "epsilon" not in widened(DEFAULT_SPACE, get_preset("mouse-mel"))[0]


def test_a_fitted_warm_up_keeps_its_samples():
    """107 steps of 100 are 21 of 512; one that was said stays."""
    fitted = dataclasses.replace(
        apply_settings(get_preset("danq-fitted"), {"warmup_steps": 107}),
        fitted=("filters", "warmup_steps"),
    )
    moved = apply_values(fitted, {"batch_size": 512, "filters": 64})
    assert moved.train.warmup_steps == 21
    assert moved.fitted == ("warmup_steps",)  # filters are the search's
    said = dataclasses.replace(fitted, fitted=())
    assert apply_values(said, {"batch_size": 512}).train.warmup_steps == 107
    assert apply_values(fitted, {"batch_size": 512, "warmup_steps": 9}).train.warmup_steps == 9


def test_what_is_fixed_is_not_searched():
    rest = without_fixed(DEFAULT_SPACE, {"filters": "64", "dropout_pool": "0.1,0.3"})
    gone = set(DEFAULT_SPACE) - set(rest)
    assert gone == {"filters", "dropout_pool_low", "dropout_pool_width"}
    assert "dropout_lstm_low" not in without_fixed(DEFAULT_SPACE, ["dropout_lstm_low"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"dropout_pool_low": 0.1, "dropout_pool_width": 0.2}, (0.1, 0.3)),
        ({"dropout_pool_low": 0.25, "dropout_pool_width": 0.0}, 0.25),
        ({"dropout_pool_low": 0.3}, 0.3),  # the preset's width, 0
        ({"dropout_pool_width": 0.1}, (0.2, 0.3)),  # above the preset's rate
        ({}, 0.2),
    ],
)
def test_dropout_is_a_range_from_low_to_low_plus_width(values, expected):
    moved = apply_values(get_preset("danq"), values)
    assert moved.model.dropout_pool == expected
    assert moved.model.dropout_lstm == 0.5


def test_every_point_is_a_recipe():
    """Optuna's own sampler, at random: no point of the default space is refused."""
    space, _ = widened(DEFAULT_SPACE, get_preset("danq"))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        values = suggest(space, study.ask())
        assert set(values) == set(space)
        preset = apply_values(get_preset("danq"), values)
        assert preset.model.pooled_length() > 0
        assert isinstance(preset.model.filters, int)
        assert preset.train.epochs == 60


@pytest.mark.parametrize("layers", [1, 2])
def test_parameters_are_those_of_the_network(layers):
    for config in (
        tiny.preset(lstm_layers=layers).model,
        dataclasses.replace(tiny.preset("bioq").model, filters=7, lstm_layers=layers),
    ):
        model: Model = build_network(config, initialise=False)
        assert count_parameters(config) == model.count_params()


# Source: counted in the original networks
@pytest.mark.parametrize(
    ("name", "n_targets", "parameters"),
    [
        ("danq", 919, 46_926_479),
        ("danq-jaspar", 919, 67_892_175),
        ("bioq", 919, 49_386_639),
        ("random-dropout", 919, 46_926_479),
        # 919 - 39 targets fewer, each a weight of the 925 units and a bias
        ("mouse-mel", 39, 46_926_479 - 880 * 926),
    ],
)
def test_parameters_of_the_presets(name, n_targets, parameters):
    config = dataclasses.replace(PRESETS[name].model, n_targets=n_targets)
    assert count_parameters(config) == parameters


def test_the_default_space_suits_the_papers_windows():
    for name in ("danq", "bioq", "mouse-mel", "random-dropout", "demo"):
        preset = get_preset(name)
        check_space(widened(DEFAULT_SPACE, preset)[0], preset, max_parameters=1_000_000)


def test_the_cap_is_compared_with_the_smallest_network():
    preset = get_preset("danq")
    space = {"pool_size": Dimension(4, 30), "filters": Dimension(10, 20)}
    smallest = count_parameters(
        dataclasses.replace(preset.model, pool_size=30, filters=10)  # long pools: few positions
    )
    check_space(space, preset, max_parameters=smallest)
    with pytest.raises(InputError, match=f"has {smallest:,}. Received: {smallest - 1:,}"):
        check_space(space, preset, max_parameters=smallest - 1)


@pytest.mark.parametrize(
    ("space", "settings", "message"),
    [
        ({}, {}, "Nothing is left to search"),
        (
            {"pool_size": Dimension(2, 60)},
            {"window": 60},
            "Search space: window: 60 is too short for kernel_size=26 and pool_size=60",
        ),
        (
            {"dropout_pool_low": Dimension(0, 0.8), "dropout_pool_width": Dimension(0, 0.3)},
            {},
            "Search space: dropout_pool: a rate in",
        ),
        ({"filters": Dimension(0, 8)}, {}, "Search space: filters: must be above zero"),
        (
            {"gates": Dimension(choices=("sigmoid", "soft"))},
            {},
            "Search space: gates: one of sigmoid, hard",
        ),
        (
            {"filters": Dimension(100, 1024)},
            {"motif_file": "jaspar2016", "kernel_size": 30},
            "Search space: motif_file",
        ),
    ],
)
def test_spaces_with_impossible_corners_are_refused(space, settings, message):
    preset = apply_settings(get_preset("danq"), settings)
    with pytest.raises(InputError) as error:
        check_space(space, preset)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_deepsea_is_another_kind_of_network():
    with pytest.raises(InputError, match=r"deepsea: the search is for networks of DanQ's kind"):
        preset_values(DEFAULT_SPACE, get_preset("deepsea"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a JSON file"),
        ("[1]", "expected a JSON object of ranges"),
        ("{}", "expected a JSON object of ranges"),
        ('{"filter": {"low": 1, "high": 2}}', "'filter' cannot be searched. Nearest: filters."),
        ('{"epochs": {"low": 1, "high": 2}}', "'epochs' cannot be searched."),
        ('{"filters": [1, 2]}', 'filters: expected {"low": …, "high": …, "log": false}'),
        ('{"filters": {"low": 1}}', 'filters: expected {"low": …'),
        ('{"gates": {"low": 1, "high": 2}}', 'gates: expected {"choices": […]}'),
        ('{"filters": {"low": 1, "high": 2, "step": 1}}', "has low, high and log"),
        ('{"filters": {"low": 1, "high": 2, "log": 1}}', "has low, high and log"),
        ('{"filters": {"low": 1.5, "high": 2}}', "whole numbers, low below high"),
        ('{"filters": {"low": 1, "high": true}}', "whole numbers, low below high"),
        ('{"filters": {"low": 2, "high": 2}}', "low below high (fix a setting with `settings`)"),
        ('{"learning_rate": {"low": "a", "high": 2}}', "are numbers, low below high"),
        ('{"learning_rate": {"low": 0, "high": 1, "log": true}}', "begins above 0"),
        ('{"gates": {"choices": ["hard"]}}', "a list of two or more"),
        ('{"gates": {"choices": "hard"}}', "a list of two or more"),
        ('{"gates": {"choices": ["hard", 1]}}', "choices are words"),
        ('{"filters": {"choices": [8, "x"]}}', "choices are whole numbers"),
    ],
)
def test_malformed_space_files(tmp_path, content, message):
    path = tmp_path / "space.json"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        read_space(path)
    assert message in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_space_file_that_is_no_text(tmp_path):
    path = tmp_path / "space.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a JSON file"):
        read_space(path)


def test_names_are_settings_of_one_kind():
    names = search_space._NAMES
    assert len(set(names)) == len(names)
    fields = {field.name for field in dataclasses.fields(ModelConfig)}
    train = {field.name for field in dataclasses.fields(type(get_preset("danq").train))}
    assert {search_space._setting(name) for name in names} <= fields | train
