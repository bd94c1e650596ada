"""Damaged .keras files and such that are made to do harm: one line, and no memory."""

import json
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from danq_keras.models import archive
from danq_keras.system.errors import InputError


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "sound.keras"
    inputs = keras.Input((20, 4))
    hidden = keras.layers.LSTM(3)(keras.layers.Dropout(0.2)(inputs))
    keras.Model(inputs, keras.layers.Dense(2, name="dense")(hidden)).save(path)
    return path


def rewrite(sound: Path, path: Path, **members: Callable[[bytes], bytes | None]) -> Path:
    """The archive with some members changed, under right checksums; None leaves one out."""
    changes = {name.replace("__", "."): change for name, change in members.items()}
    with zipfile.ZipFile(sound) as file, zipfile.ZipFile(path, "w") as written:
        for name in file.namelist():
            content = changes.get(name, bytes)(file.read(name))
            if content is not None:
                written.writestr(name, content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        archive.load_network(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message


def test_it_is_the_network_that_keras_loads(sound: Path) -> None:
    ours, theirs = archive.load_network(sound), keras.saving.load_model(sound, compile=False)
    for one, two in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two))
    windows = np.random.default_rng(0).random((3, 20, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        ours.predict(windows, verbose=0), theirs.predict(windows, verbose=0)
    )


def test_one_flipped_bit_anywhere_in_the_weights_is_noticed(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(sound) as file:
        begin, size = file.getinfo("model.weights.h5").header_offset, len(sound.read_bytes())
    for at in range(begin + 100, size - 400, (size - begin) // 7):
        content = bytearray(sound.read_bytes())
        content[at] ^= 4
        path.write_bytes(content)
        assert "wrong checksum of model.weights.h5" in refusal(path)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_truncated(sound: Path, tmp_path: Path, keep: float) -> None:
    content = sound.read_bytes()
    path = tmp_path / "m.keras"
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    assert "not a readable Keras model (it is no .keras file" in refusal(path)


def of_config(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def changed(text: bytes) -> bytes:
        config = json.loads(text)
        return json.dumps(change(config) or config).encode()

    return changed


def widen(config: dict[str, Any]) -> None:
    for layer in config["config"]["layers"]:
        if layer["name"] == "dense":
            layer["config"]["units"] = 400_000_000


def with_lambda(config: dict[str, Any]) -> None:
    config["config"]["layers"][1]["class_name"] = "Lambda"


def test_a_layer_that_asks_for_more_than_the_file_holds(sound: Path, tmp_path: Path) -> None:
    path = rewrite(sound, tmp_path / "m.keras", config__json=of_config(widen))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "its layers ask for 6,400,000" in refusal(path)
    archive.load_network(sound)  # nor is it made later
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kB


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_config(with_lambda), "it has a Lambda layer, which is code and is not run"),
        (lambda _text: b"[" * 100_000, "recursion"),
        (lambda _text: b"{}", "not a readable Keras model"),
        (lambda _text: b"3", "no JSON object"),
        (lambda _text: b"\xff\xfe", "not a readable Keras model"),
        (lambda _text: None, "it must hold config.json and model.weights.h5"),
        (of_config(lambda config: config["config"]), "not a readable Keras model"),
    ],
)
def test_a_config_that_is_no_network(
    sound: Path, tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    assert message in refusal(rewrite(sound, tmp_path / "m.keras", config__json=change))


def test_weights_that_are_no_hdf5(sound: Path, tmp_path: Path) -> None:
    path = rewrite(sound, tmp_path / "m.keras", model__weights__h5=lambda _content: b"x" * 999)
    assert "not a readable Keras model" in refusal(path)


def test_models_of_another_form(tmp_path: Path) -> None:
    inputs = keras.Input((20, 4))
    flat = keras.layers.Flatten()(inputs)
    two = keras.Model(inputs, [keras.layers.Dense(2)(flat), keras.layers.Dense(3)(flat)])
    both = keras.Model(
        [inputs, other := keras.Input((20, 4))],
        keras.layers.Dense(1)(keras.layers.Flatten()(keras.layers.Add()([inputs, other]))),
    )
    for name, model in {"two": two, "both": both}.items():
        path = tmp_path / f"{name}.keras"
        model.save(path)
        assert "a model maps (N, L, 4) to (N, T). Received" in refusal(path)


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_a_model_that_was_never_built(tmp_path: Path) -> None:
    path = tmp_path / "unbuilt.keras"
    keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)]).save(path)
    assert "the model was never built" in refusal(path)
