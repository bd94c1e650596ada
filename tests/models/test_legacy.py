"""Weight files of Keras 0.2.0: reading, refusing, importing, exporting."""

import dataclasses
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from keras02 import FULL, SMALL, Size, random_layers, write

from danq_keras.commands import evaluate, import_weights
from danq_keras.genome import dna
from danq_keras.models import float64, legacy
from danq_keras.models.networks import build_network
from danq_keras.models.trained import load_model, save_model
from danq_keras.recipes.config import ModelConfig
from danq_keras.recipes.presets import PRESETS
from danq_keras.system import errors
from danq_keras.training.step import TrainingStep

WINDOW = ["--window", "60", "--pool-size", "5"]
WRAPPERS = ["time", "seya"]
PRESET_NAMES = ["danq", "danq-jaspar"]


@pytest.fixture
def command(run_script, capsys):
    """Runs `import_weights.py`; gives (status, stdout, the last line of stderr)."""

    def run(*arguments, main=import_weights.main):
        status = run_script("import_weights.py", main, *arguments)
        out, err = capsys.readouterr()
        return status, out, err.strip().splitlines()[-1] if err.strip() else ""

    return run


@pytest.fixture(scope="module")
def layers():
    return random_layers()


@pytest.fixture
def old_file(tmp_path, layers):
    return write(tmp_path / "old.hdf5", layers)


@pytest.fixture(scope="module")
def imported(tmp_path_factory, layers):
    """A model of ours from an old file, through the command."""
    folder = tmp_path_factory.mktemp("imported")
    source = write(folder / "old.hdf5", layers)
    import_weights.main([str(source), str(folder / "new.keras"), "--preset", "danq", *WINDOW])
    return folder / "new.keras"


def model_of(path, preset="danq", *, wrapper="time", **changes):
    arrays = legacy.read_old_weights(path, preset)
    base = dataclasses.replace(
        PRESETS[preset].model, window=60, pool_size=5, kernel_size=7, **changes
    )
    sizes = legacy.check_arrays(arrays, path)
    config = legacy.config_of(sizes, base, wrapper=wrapper, path=path)
    return arrays, config, legacy.model_from_old(arrays, config)


def windows(n=3, length=60, seed=1):
    codes = np.random.default_rng(seed).integers(0, 4, (n, length), dtype=np.uint8)
    return dna.onehot_from_codes(codes).astype(np.float32)


# ── reading ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_every_array_is_read_by_its_name(tmp_path, preset):
    layers = random_layers(preset)
    arrays = legacy.read_old_weights(write(tmp_path / "old.hdf5", layers), preset)
    conv, lstm, dense, output = (layer for layer in layers.values() if layer)
    assert len(arrays) == 2 + 24 + 2 + 2
    expected = {  # each place in the file by hand, SPEC §3
        "conv.W": conv[0],
        "conv.b": conv[1],
        "forward.W_i": lstm[0],
        "forward.U_i": lstm[1],
        "forward.b_i": lstm[2],
        "forward.W_c": lstm[3],
        "forward.U_f": lstm[7],
        "forward.b_o": lstm[11],
        "backward.W_i": lstm[12],
        "backward.b_c": lstm[17],
        "backward.W_f": lstm[18],
        "backward.U_o": lstm[22],
        "dense.W": dense[0],
        "dense.b": dense[1],
        "output.W": output[0],
        "output.b": output[1],
    }
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)


def test_sizes_are_those_of_the_arrays(old_file):
    sizes = legacy.check_arrays(legacy.read_old_weights(old_file, "danq"), old_file)
    assert sizes == legacy.Sizes(6, 7, 5, 9, 4, 10)


def test_kernel_and_gates_are_turned_into_todays_layout(old_file, layers):
    model = model_of(old_file)[2]
    old = layers[0][0]
    kernel = model.get_layer("conv").get_weights()[0]
    for position in range(7):
        np.testing.assert_array_equal(kernel[position], old[:, :, 6 - position, 0].T)
    i, c, f, o = (layers[3][12 + 3 * gate] for gate in range(4))
    fused = model.get_layer("lstm_backward").get_weights()[0]
    np.testing.assert_array_equal(fused, np.hstack([i, f, c, o]))


# ── refusals ────────────────────────────────────────────────────────────────


def refused(path, preset="danq"):
    """The one line with which a file is refused."""
    with pytest.raises(errors.InputError) as error:
        legacy.check_arrays(legacy.read_old_weights(path, preset), path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def change(path, edit):
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def replace(name, array):
    def edit(file):
        del file[name]
        file[name] = array

    return edit


def test_missing_and_unreadable_files(tmp_path, old_file):
    assert "no such file" in refused(tmp_path / "nothing.hdf5")
    assert "no such file" in refused(tmp_path / "nothing.keras")
    (tmp_path / "text.hdf5").write_text("weights")
    assert "not a readable HDF5 file" in refused(tmp_path / "text.hdf5")
    (tmp_path / "empty.hdf5").touch()
    assert "not a readable HDF5 file" in refused(tmp_path / "empty.hdf5")
    assert "not a readable HDF5 file" in refused(tmp_path)
    whole = old_file.read_bytes()
    (tmp_path / "cut.hdf5").write_bytes(whole[: len(whole) // 2])
    assert "not a readable HDF5 file" in refused(tmp_path / "cut.hdf5")


def test_an_hdf5_file_damaged_inside(old_file):
    """The table of a layer's arrays is overwritten: the file opens, the layer cannot be read."""
    content = old_file.read_bytes()
    place = content.rfind(b"SNOD")
    old_file.write_bytes(content[:place] + b"XXXX" + content[place + 4 :])
    with h5py.File(old_file) as file:
        assert file.attrs["nb_layers"] == 10
    assert "not a readable HDF5 file" in refused(old_file)


def test_todays_files_are_called_so(tmp_path, imported):
    model = keras.saving.load_model(imported, compile=False)
    model.save_weights(tmp_path / "new.weights.h5")
    assert "a file of today's Keras" in refused(tmp_path / "new.weights.h5")
    (tmp_path / "new.weights.h5").rename(tmp_path / "new.hdf5")
    assert "looks like a .weights.h5 of today's Keras" in refused(tmp_path / "new.hdf5")
    assert "a file of today's Keras" in refused(imported)
    (tmp_path / "renamed.hdf5").write_bytes(imported.read_bytes())
    assert zipfile.is_zipfile(tmp_path / "renamed.hdf5")
    assert "a file of today's Keras" in refused(tmp_path / "renamed.hdf5")


def test_without_nb_layers(old_file):
    change(old_file, lambda file: file.attrs.pop("nb_layers"))
    message = refused(old_file)
    assert "attribute 'nb_layers'" in message
    assert "looks like" not in message


def test_weights_of_keras_1_or_2_are_called_so(tmp_path):
    with h5py.File(tmp_path / "later.h5", "w") as file:
        file.attrs["layer_names"] = np.array([b"conv"])
    assert "looks like a file of Keras 1 or 2" in refused(tmp_path / "later.h5")


@pytest.mark.parametrize(("given", "other"), [PRESET_NAMES, PRESET_NAMES[::-1]])
def test_the_other_presets_file(tmp_path, given, other):
    path = write(tmp_path / "old.hdf5", random_layers(other))
    message = refused(path, given)
    assert f"Try `preset={other}`" in message
    assert f"expected {legacy.LAYERS[given][0]} layers ({given})" in message


@pytest.mark.parametrize("number", [7, "ten"])
def test_another_number_of_layers(old_file, number):
    change(old_file, lambda file: file.attrs.update(nb_layers=number))
    assert f"expected 10 layers (danq), received {number}" in refused(old_file)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda f: f.pop("layer_6"), "the group 'layer_6' is missing"),
        (lambda f: f.pop("layer_9"), "the group 'layer_9' is missing"),
        (replace("layer_9", np.zeros(2)), "the group 'layer_9' is missing"),
        (lambda f: f.pop("layer_3/param_17"), "layer_3: expected 24 arrays, received 23"),
        (lambda f: f.pop("layer_3/param_17"), "missing or extra: param_17"),
        (lambda f: f.pop("layer_0/param_1"), "layer_0: expected 2 arrays, received 1"),
        (lambda f: f.move("layer_0/param_1", "layer_0/bias"), "missing or extra: bias, param_1"),
        (lambda f: f.create_dataset("layer_8/param_2", data=[1.0]), "extra: param_2"),
        (lambda f: f.create_dataset("layer_1/param_0", data=[1.0]), "layer_1: expected 0 arrays"),
        (lambda f: f.create_group("layer_10"), "unexpected group 'layer_10'"),
        (lambda f: f.create_dataset("more", data=[1.0]), "unexpected group 'more'"),
        (replace("layer_6/param_1", "text"), "layer_6/param_1 (dense.b): expected an array of"),
        (replace("layer_6/param_1", np.arange(9)), "expected an array of floating-point numbers"),
        (replace("layer_6/param_1", np.zeros(0, "f4")), "received <HDF5 dataset"),
    ],
)
def test_missing_extra_and_foreign_arrays(old_file, edit, message):
    assert message in refused(change(old_file, edit))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            "layer_0/param_0",
            (6, 5, 7, 1),
            "conv.W: expected shape (filters, 4, width, 1), received (6, 5, 7, 1)",
        ),
        ("layer_0/param_0", (6, 4, 7, 2), "received (6, 4, 7, 2)"),
        ("layer_0/param_0", (6, 4, 7), "received (6, 4, 7)"),
        ("layer_0/param_1", (7,), "conv.b: expected shape (6,), received (7,)"),
        ("layer_3/param_0", (5,), "forward.W_i: expected shape (in, out), received (5,)"),
        ("layer_3/param_3", (6, 4), "forward.W_c: expected shape (6, 5), received (6, 4)"),
        ("layer_3/param_4", (5, 6), "forward.U_c: expected shape (5, 5), received (5, 6)"),
        ("layer_3/param_14", (5, 1), "backward.b_i: expected shape (5,), received (5, 1)"),
        ("layer_6/param_0", (101, 9), "dense.W: expected a multiple of 10 rows"),
        ("layer_6/param_0", (100, 9, 1), "dense.W: expected shape (in, out)"),
        ("layer_6/param_1", (8,), "dense.b: expected shape (9,), received (8,)"),
        ("layer_8/param_0", (8, 4), "output.W: expected shape (9, 4), received (8, 4)"),
        ("layer_8/param_1", (5,), "output.b: expected shape (4,), received (5,)"),
    ],
)
def test_misshapen_arrays(old_file, name, shape, message):
    assert message in refused(change(old_file, replace(name, np.zeros(shape, np.float32))))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "called"),
    [("layer_0/param_0", "conv.W"), ("layer_3/param_23", "backward.b_o")],
)
def test_weights_that_are_not_finite(old_file, name, called, bad):
    def spoil(file):
        array = file[name][:]
        array.flat[-1] = bad
        file[name][...] = array

    assert f"{called} holds NaN or infinite values" in refused(change(old_file, spoil))


# ── importing ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_import_end_to_end(tmp_path, command, preset, wrapper):
    source = write(tmp_path / "old.hdf5", random_layers(preset, seed=4))
    out = tmp_path / "new.keras"
    options = ["--preset", preset, "--wrapper", wrapper, *WINDOW]
    status, printed, _ = command(source, out, *options)
    assert status == 0
    assert "Self-check: 4 random windows, both strands: largest difference" in printed
    assert f"windows of 60 bases, 4 targets, wrapper {wrapper}" in printed
    trained = load_model(out)
    x = windows()
    arrays = legacy.read_old_weights(source, preset)
    expected = legacy.forward_float64(arrays, x, pool_size=5, wrapper=wrapper)
    predicted = trained.network.predict(x, verbose=0)
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=1e-6)
    other = legacy.forward_float64(
        arrays, x, pool_size=5, wrapper=WRAPPERS[1 - WRAPPERS.index(wrapper)]
    )
    assert np.abs(other - expected).max() > 1e-3
    status, _, error = command(source, out, *options)
    assert status == 2
    assert "already exists" in error
    assert command(source, out, *options, "--overwrite")[0] == 0


def test_weights_of_another_window_and_pool(tmp_path, command):
    """A kernel, pool and window of which none is the preset's, and none would fit with it."""
    size = Size(filters=3, width=5, units=2, steps=4, dense=3, targets=2)
    source = write(tmp_path / "old.hdf5", random_layers(size=size))
    out = tmp_path / "new.keras"
    status, _, error = command(source, out, "--preset", "danq")
    assert status == 2
    assert "dense.W means 4 pooled positions; a window of 1000 and a pool of 13 give 76" in error
    assert "Give --window or --pool-size" in error
    for options, steps in ((["--window", "24"], 1), (["--window", "24", "--pool-size", "6"], 3)):
        status, _, error = command(source, out, "--preset", "danq", *options)
        assert status == 2
        assert f"give {steps}" in error
    assert not out.exists()
    options = ["--window", "24", "--pool-size", "5"]
    assert command(source, out, "--preset", "danq", *options)[0] == 0
    assert load_model(out).network.input_shape == (None, 24, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", "6"], "too short for kernel_size=7"),
        (["--window", "60", "--pool-size", "0"], "pool_size: must be above zero"),
    ],
)
def test_impossible_windows(old_file, tmp_path, command, options, message):
    status, _, error = command(old_file, tmp_path / "new.keras", "--preset", "danq", *options)
    assert status == 2
    assert message in error


def test_the_models_name_ends_with_keras(old_file, tmp_path, command):
    status, _, error = command(old_file, tmp_path / "new.h5", "--preset", "danq", *WINDOW)
    assert status == 2
    assert "ends with .keras" in error


@pytest.mark.parametrize("difference", [1.1e-5, np.nan])
def test_nothing_is_written_above_the_tolerance(
    old_file, tmp_path, command, monkeypatch, difference
):
    def shifted(*args, **options):
        return float64.forward_float64(*args, **options) + difference

    monkeypatch.setattr(legacy, "forward_float64", shifted)
    status, printed, error = command(old_file, tmp_path / "new.keras", "--preset", "danq", *WINDOW)
    assert status == 2
    assert "differs from the float64 forward pass" in error
    assert "nothing is written" in error
    assert "Self-check" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["old.hdf5"]


@pytest.mark.parametrize("layer", ["conv", "lstm_forward", "lstm_backward", "dense", "logits"])
def test_the_self_check_sees_a_wrong_weight_in_every_layer(old_file, layer):
    arrays, config, model = model_of(old_file)
    assert legacy.largest_difference(model, arrays, config) < 1e-6
    weights = model.get_layer(layer).get_weights()
    model.get_layer(layer).set_weights([weights[0][::-1], *weights[1:]])
    assert legacy.largest_difference(model, arrays, config) > 100 * legacy.TOLERANCE


def test_loading_needs_the_old_gate(imported, monkeypatch):
    """ARCHITECTURE §6: `import danq_keras.models` first. Here it is made unknown again."""
    x = windows()
    expected = keras.saving.load_model(imported, compile=False).predict(x, verbose=0)
    with monkeypatch.context() as patch:
        patch.delitem(keras.saving.get_custom_objects(), "danq_keras>old_hard_sigmoid")
        with pytest.raises(TypeError, match="old_hard_sigmoid"):
            keras.saving.load_model(imported, compile=False)
    again = keras.saving.load_model(imported, compile=False).predict(x, verbose=0)
    np.testing.assert_array_equal(again, expected)


def test_imported_model_can_be_trained_on_evaluated_and_exported(tmp_path, imported, command):
    dataset = tiny.make_dataset(tmp_path / "data", n_targets=SMALL.targets)
    network = load_model(imported).network
    config = ModelConfig(
        window=60,
        n_targets=4,
        filters=6,
        kernel_size=7,
        pool_size=5,
        lstm_units=5,
        dense_units=9,
        gates="hard",
    )
    step = TrainingStep(config, PRESETS["danq"].train)
    step.model.set_weights(network.get_weights())
    x = windows()
    np.testing.assert_array_equal(step.model.predict(x, verbose=0), network.predict(x, verbose=0))
    batch = (
        tf.constant(np.asarray(dataset.train.sequence[:20])),
        tf.constant(np.asarray(dataset.train.labels[:20])),
    )
    losses = [float(step(batch)[0]) for _ in range(200)]
    assert np.mean(losses[-20:]) < 0.95 * np.mean(losses[:20])  # dropout makes them noisy
    for before, after in zip(network.get_weights(), step.model.get_weights(), strict=True):
        assert not np.array_equal(before, after)
    save_model(step.model, tmp_path / "on.keras")
    status, _, _ = command(
        tmp_path / "on.keras",
        *("--data", dataset.folder, "--out", tmp_path / "evaluation"),
        main=evaluate.main,
    )
    assert status == 0
    summary = json.loads((tmp_path / "evaluation" / "test_summary.json").read_text())
    assert summary
    status, _, _ = command(
        "--export", tmp_path / "on.keras", tmp_path / "back.hdf5", "--preset", "danq"
    )
    assert status == 0
    arrays = legacy.read_old_weights(tmp_path / "back.hdf5", "danq")
    expected = legacy.forward_float64(arrays, x, pool_size=5)
    np.testing.assert_allclose(step.model.predict(x, verbose=0), expected, rtol=0, atol=1e-6)


# ── exporting ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_file_to_model_to_file_is_the_same_to_the_bit(tmp_path, command, preset, wrapper):
    layers = random_layers(preset, seed=9)
    source = write(tmp_path / "old.hdf5", layers)
    options = ["--preset", preset, "--wrapper", wrapper, *WINDOW]
    assert command(source, tmp_path / "new.keras", *options)[0] == 0
    back = tmp_path / "back.hdf5"
    status, printed, _ = command("--export", tmp_path / "new.keras", back, "--preset", preset)
    assert status == 0
    assert "in the layout of Keras 0.2.0" in printed
    with h5py.File(back) as file:
        assert dict(file.attrs) == {"nb_layers": len(layers)}
        assert set(file) == {f"layer_{number}" for number in layers}
        for number, arrays in layers.items():
            group = file[f"layer_{number}"]
            assert dict(group.attrs) == {"nb_params": len(arrays)}
            assert set(group) == {f"param_{i}" for i in range(len(arrays))}
            for i, array in enumerate(arrays):
                assert group[f"param_{i}"].dtype == np.float32
                np.testing.assert_array_equal(group[f"param_{i}"][:], array)
    status, _, error = command("--export", tmp_path / "new.keras", back, "--preset", preset)
    assert status == 2
    assert "already exists" in error
    again = ["--preset", preset, "--overwrite"]
    assert command("--export", tmp_path / "new.keras", back, *again)[0] == 0


def test_a_model_of_ours_goes_out_and_comes_back(tmp_path):
    config = tiny.preset(gates="hard").model
    model = build_network(config, seed=6)
    path = tmp_path / "old.hdf5"
    legacy.write_old_weights(path, legacy.old_from_model(model), "danq")
    arrays = legacy.read_old_weights(path, "danq")
    again = legacy.model_from_old(arrays, config)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("preset", "settings", "message"),
    [
        ("danq", {}, "knows only hard gates; this model has sigmoid"),
        ("danq", {"gates": "hard", "dropout_kind": "inverted"}, "classic dropout of 0.2 and 0.5"),
        ("danq", {"gates": "hard", "dropout_lstm": 0.4}, "classic dropout of 0.2 and 0.5"),
        ("danq", {"gates": "hard", "dropout_pool": 0.1}, "classic dropout of 0.2 and 0.5"),
        ("danq", {"gates": "hard", "dropout_pool": (0.1, 0.3)}, "classic dropout of 0.2 and 0.5"),
        ("danq", {"gates": "hard", "conv_activation": "gelu"}, "has relu after conv"),
        ("danq", {"gates": "hard", "dense_activation": "gelu"}, "has relu after dense"),
        ("bioq", {"gates": "hard", "dropout_kind": "classic"}, "only DanQ and DanQ-JASPAR fit"),
        ("deepsea", {}, "only DanQ and DanQ-JASPAR fit"),
    ],
)
def test_export_refuses_what_the_old_stack_could_not_hold(
    tmp_path, command, preset, settings, message
):
    model = build_network(tiny.preset(preset, **settings).model, seed=0)
    save_model(model, tmp_path / "new.keras")
    out = tmp_path / "old.hdf5"
    status, _, error = command("--export", tmp_path / "new.keras", out, "--preset", "danq")
    assert status == 2
    assert message in error
    assert not out.exists()


def test_export_of_something_else(tmp_path, old_file, command):
    status, _, error = command("--export", old_file, tmp_path / "out.hdf5", "--preset", "danq")
    assert status == 2
    assert "not a readable Keras model" in error


@pytest.mark.parametrize(
    ("option", "value"), [("--wrapper", "seya"), ("--window", "1000"), ("--pool-size", "13")]
)
def test_export_takes_no_option_of_the_import(tmp_path, imported, command, option, value):
    out = tmp_path / "out.hdf5"
    status, _, error = command("--export", imported, out, "--preset", "danq", option, value)
    assert status == 2
    assert f"{option}: with --export the model itself says it. Leave it out." in error
    assert not out.exists()


# ── full size ───────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "wrapper", "parameters", "megabytes"),
    [("danq", "seya", "46,926,479", 188), ("danq-jaspar", "time", "67,892,175", 272)],
)
def test_full_size_files(tmp_path, command, preset, wrapper, parameters, megabytes):
    source = write(tmp_path / "old.hdf5", random_layers(preset, FULL[preset]))
    assert round(source.stat().st_size / 1e6) == megabytes  # SPEC: the size of the published ones
    out = tmp_path / "new.keras"
    status, printed, _ = command(source, out, "--preset", preset, "--wrapper", wrapper)
    assert status == 0
    assert f"{parameters} parameters, windows of 1000 bases, 919 targets" in printed
    assert float(printed.split("forward pass ")[1].split()[0]) <= 1e-5
    x = windows(2, 1000)
    arrays = legacy.read_old_weights(source, preset)
    pool = PRESETS[preset].model.pool_size
    expected = legacy.forward_float64(arrays, x, pool_size=pool, wrapper=wrapper)
    predicted = load_model(out).network.predict(x, verbose=0)
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
