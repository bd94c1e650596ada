"""What a .keras file says of itself, and names for files that say nothing."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tiny

from danq_keras.data.deepsea import deepsea_targets
from danq_keras.data.targets import Targets
from danq_keras.models import trained
from danq_keras.models.networks import build_model, build_network
from danq_keras.models.trained import MEMBER, describe_network, load_model, save_model
from danq_keras.recipes.config import ModelConfig
from danq_keras.system.errors import InputError

NAMES = ("Reb1", "Abf1", "Rap1")


@pytest.fixture
def network():
    return build_network(tiny.preset().model)


@pytest.fixture
def file(network, tmp_path):
    """A file that knows itself, alone in its folder."""
    about = describe_network(tiny.preset().model, Targets(NAMES), preset="danq")
    save_model(network, tmp_path / "alone" / "net.keras", about=about)
    return tmp_path / "alone" / "net.keras"


@pytest.fixture
def silent(network, tmp_path):
    """A file that says nothing, as those of earlier versions and other programs."""
    network.save(tmp_path / "silent.keras")
    return tmp_path / "silent.keras"


def test_a_file_knows_targets_and_settings(file):
    model = load_model(file)
    assert model.targets.names == NAMES
    assert model.config["preset"] == "danq"
    assert ModelConfig(**model.config["model"]) == tiny.preset().model


def test_plain_keras_opens_it(file, network):
    x = np.eye(4, dtype="f4")[np.random.default_rng(0).integers(0, 4, (3, tiny.WINDOW))]
    plain = keras.models.load_model(file)
    np.testing.assert_array_equal(plain.predict(x, verbose=0), network.predict(x, verbose=0))


def test_saving_again_keeps_it(file, tmp_path):
    load_model(file).save(tmp_path / "again.keras")
    assert load_model(tmp_path / "again.keras").targets.names == NAMES


def test_the_same_network_is_the_same_member(file):
    with zipfile.ZipFile(file) as members:
        content = json.loads(members.read(MEMBER))
    assert content["package"] == "danq_keras"
    assert content["targets"] == list(NAMES)


def test_a_silent_file_has_numbers_or_the_names_of_its_run(silent):
    assert load_model(silent).targets.names == ("0", "1", "2")
    assert "targets" not in load_model(silent).config
    (silent.parent / "config.json").write_text(json.dumps({"targets": NAMES}))
    assert load_model(silent).targets.names == NAMES


def test_names_that_the_user_gives(silent, tmp_path):
    assert load_model(silent, targets=NAMES).targets.names == NAMES
    table = tmp_path / "names.tsv"
    table.write_text("".join(f"{name}\tyeast\n" for name in NAMES))
    assert load_model(silent, targets=table).config["targets"] == list(NAMES)
    with pytest.raises(InputError, match="predicts 3 targets, received 2 names"):
        load_model(silent, targets=NAMES[:2])
    with pytest.raises(InputError, match="predicts 3 targets, received 919 names"):
        load_model(silent, targets="deepsea")
    with pytest.raises(InputError, match="no readable file of target names"):
        load_model(silent, targets=tmp_path / "none.txt")


def test_names_against_the_files_own(file):
    assert load_model(file, targets=NAMES).targets.names == NAMES
    with pytest.raises(InputError, match="number 0 is 'Reb1', received 'Abf1'"):
        load_model(file, targets=("Abf1", "Reb1", "Rap1"))


def test_919_outputs_are_not_deepseas_by_their_number(tmp_path):
    config = tiny.preset(n_targets=919).model
    build_network(config, initialise=False).save(tmp_path / "large.keras")
    assert load_model(tmp_path / "large.keras").targets.names[918] == "918"
    named = load_model(tmp_path / "large.keras", targets="deepsea")
    assert named.targets.names == deepsea_targets().names


def test_a_damaged_member_is_said(silent):
    with zipfile.ZipFile(silent, "a") as members:
        members.writestr(MEMBER, "{")
    with pytest.raises(InputError, match=f"its {MEMBER} is damaged"):
        load_model(silent)


def test_build_model_of_a_recipe():
    model = build_model(window=60, n_targets=2, filters=4, lstm_units=3, dense_units=5)
    assert (model.input_shape, model.output_shape) == ((None, 60, 4), (None, 2))
    with pytest.raises(InputError, match="learning_rate: no setting of a network"):
        build_model(learning_rate=0.1)


@pytest.mark.parametrize(
    "config",
    [{"targets": [0, 1]}, {"targets": [None]}, {"targets": [[1]]}, {"model": [1]}]
    + [{"model": {"window": window}} for window in ("abc", -5, 0, 1.5)],
)
def test_a_damaged_config_beside_a_model_is_one_line(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config.json: damaged: '"):
        trained._read_config(tmp_path / "config.json")
