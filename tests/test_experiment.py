import dataclasses

import pytest

from danq_keras.console import InputError
from danq_keras.experiment import preset_from_config
from danq_keras.presets import PRESETS, apply_settings, get_preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_file_that_only_names_a_preset_is_that_preset(name):
    assert preset_from_config({"preset": name}) == get_preset(name)


@pytest.mark.parametrize("name", PRESETS)
def test_the_settings_of_a_run_come_back(name):
    preset = apply_settings(get_preset(name), {"epochs": 3, "dense_units": 7})
    sections = {
        "model": dataclasses.asdict(preset.model),
        "train": dataclasses.asdict(preset.train),
    }
    assert preset_from_config({"preset": name, **sections}) == preset


def test_another_optimizer_starts_from_its_own_defaults():
    train = preset_from_config({"preset": "danq", "optimizer": "adam"}).train
    assert (train.optimizer, train.rho, train.epsilon) == ("adam", None, None)
    train = preset_from_config(
        {"preset": "danq", "train": {"optimizer": "adam", "epsilon": 1}}
    ).train
    assert train.epsilon == 1


def test_a_section_that_is_no_object():
    with pytest.raises(InputError, match="'model': expected an object of settings"):
        preset_from_config({"preset": "danq", "model": 3})
