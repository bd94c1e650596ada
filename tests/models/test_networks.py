import dataclasses
import math

import keras
import numpy as np
import pytest

from danq_keras.genome import dna
from danq_keras.models.layers import RandomDropout, unpack, unpack_windows
from danq_keras.models.networks import build_network, logits_model
from danq_keras.motifs.files import resolve_motifs
from danq_keras.recipes.config import ModelConfig
from danq_keras.recipes.presets import PRESETS

FLOAT32 = 1e-6
SMALL = ModelConfig(
    window=200, n_targets=5, filters=8, kernel_size=26, pool_size=13, lstm_units=6, dense_units=7
)


def small(**changes):
    return ModelConfig(**{**SMALL.__dict__, **changes})


def windows(rng, n=4, length=200):
    return dna.onehot_from_codes(rng.integers(0, 5, (n, length), dtype=np.uint8)).astype("f4")


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [  # Source: SPEC §2, counted in the original networks
        ("danq", 46_926_479),
        ("danq-jaspar", 67_892_175),
        ("deepsea", 52_843_119),
        ("bioq", 49_386_639),
        ("random-dropout", 46_926_479),
    ],
)
def test_parameter_counts(preset, parameters):
    config = ModelConfig(**{**PRESETS[preset].model.__dict__, "motif_file": None})
    assert build_network(config, initialise=False).count_params() == parameters


def test_layers_are_those_of_the_paper():
    model = build_network(ModelConfig(), initialise=False)
    shapes = {layer.name: layer.output.shape[1:] for layer in model.layers}
    assert shapes["conv"] == (975, 320)
    assert shapes["pool"] == (75, 320)
    assert shapes["blstm"] == (75, 640)
    assert shapes["flatten"] == (48_000,)
    assert model.output.shape == (None, 919)
    assert model.output.dtype == "float32"


def test_initial_values_have_the_original_limits():
    model = build_network(ModelConfig(n_targets=919), seed=3)
    conv, conv_bias = model.get_layer("conv").get_weights()
    assert 0.0499 < np.abs(conv).max() <= 0.05
    assert not conv_bias.any()
    for name in ("lstm_forward", "lstm_backward"):
        kernel, recurrent, bias = model.get_layer(name).get_weights()
        assert 0.0967 < np.abs(kernel).max() <= 0.0968 + 1e-4  # sqrt(6 / (320 + 320))
        for gate in range(4):
            block = recurrent[:, gate * 320 : (gate + 1) * 320].astype(float)
            np.testing.assert_allclose(block.T @ block, 1.21 * np.eye(320), atol=1e-5)
            part = kernel[:, gate * 320 : (gate + 1) * 320]
            assert np.std(part) == pytest.approx(math.sqrt(6 / 640) / math.sqrt(3), rel=0.02)
        np.testing.assert_array_equal(bias, np.repeat([0, 1, 0, 0], 320))
    forward, backward = (
        model.get_layer(f"lstm_{d}").get_weights() for d in ("forward", "backward")
    )
    assert not np.array_equal(forward[0], backward[0])
    dense = model.get_layer("dense").get_weights()[0]
    limit = math.sqrt(6 / (48_000 + 925))
    assert 0.999 * limit < np.abs(dense).max() <= limit * (1 + FLOAT32)


def test_same_seed_same_weights_other_seed_others():
    first, again, other = (build_network(SMALL, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def lstm_numpy(x, kernel, recurrent, bias, gate):
    units = recurrent.shape[0]
    h, c = np.zeros((len(x), units)), np.zeros((len(x), units))
    outputs = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = gate(f) * c + gate(i) * np.tanh(g)
        h = gate(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, 1)


def forward_numpy(model, x, gate, *, kept_pool, kept_lstm, pool):
    weights = {
        layer.name: [w.astype(float) for w in layer.get_weights()]
        for layer in model.layers
        if layer.get_weights()
    }
    kernel, bias = weights["conv"]
    length = x.shape[1] - kernel.shape[0] + 1
    conv = np.stack(
        [np.tensordot(x[:, t : t + kernel.shape[0]], kernel, 2) for t in range(length)], 1
    )
    conv = np.maximum(conv + bias, 0)
    steps = length // pool
    pooled = conv[:, : steps * pool].reshape(len(x), steps, pool, -1).max(2) * kept_pool
    ahead = lstm_numpy(pooled, *weights["lstm_forward"], gate)
    back = lstm_numpy(pooled[:, ::-1], *weights["lstm_backward"], gate)[:, ::-1]
    flat = np.concatenate([ahead, back], 2).reshape(len(x), -1) * kept_lstm
    dense = np.maximum(flat @ weights["dense"][0] + weights["dense"][1], 0)
    return 1 / (1 + np.exp(-(dense @ weights["logits"][0] + weights["logits"][1])))


@pytest.mark.parametrize("gates", ["sigmoid", "hard"])
@pytest.mark.parametrize("kind", ["classic", "inverted"])
def test_forward_pass_equals_numpy(rng, gates, kind):
    model = build_network(small(gates=gates, dropout_kind=kind), seed=5)
    gate = {
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "hard": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    }[gates]
    for layer in model.layers:  # large enough that gates saturate and differ
        layer.set_weights([5 * w for w in layer.get_weights()])
    x = windows(rng)
    kept = (0.8, 0.5) if kind == "classic" else (1, 1)
    expected = forward_numpy(model, x, gate, kept_pool=kept[0], kept_lstm=kept[1], pool=13)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=2e-6)


def test_classic_dropout_is_not_inverted_and_draws_a_mask_for_each_direction():
    model = build_network(small(dropout_kind="classic"), seed=0)
    masks = [
        np.asarray(
            model.get_layer(f"dropout_pool_{d}_scale").call(
                model.get_layer(f"dropout_pool_{d}")(np.ones((1, 1000, 8), "f4"), training=True)
            )
        )
        for d in ("forward", "backward")
    ]
    for mask in masks:
        assert set(np.unique(mask)) == {0.0, 1.0}
        assert mask.mean() == pytest.approx(0.8, abs=0.02)
    assert not np.array_equal(*masks)


def test_random_dropout_draws_its_rate_anew_and_keeps_the_mean():
    layer = RandomDropout(0.1, 0.3, inverted=True, seed=1)
    ones = np.ones((100, 1000), "f4")
    outputs = [np.asarray(layer(ones, training=True)) for _ in range(6)]
    rates = [float((output == 0).mean()) for output in outputs]
    assert all(0.09 < rate < 0.31 for rate in rates)
    assert max(rates) - min(rates) > 0.02
    assert np.mean(outputs) == pytest.approx(1.0, abs=0.01)
    np.testing.assert_array_equal(layer(ones, training=False), ones)
    classic = RandomDropout(0.1, 0.3, inverted=False, seed=1)
    assert set(np.unique(classic(ones, training=True))) == {0.0, 1.0}
    np.testing.assert_allclose(classic(ones, training=False), 0.8 * ones, rtol=FLOAT32)


def test_random_rate_once_a_run_is_a_plain_dropout():
    model = build_network(small(dropout_pool=(0.1, 0.3), dropout_redraw="run"), seed=0)
    assert 0.1 <= model.get_layer("dropout_pool_forward").rate <= 0.3


@pytest.mark.parametrize("window", [130, 201, 998, 999])
def test_any_window_and_number_of_targets(rng, window):
    model = build_network(small(window=window, n_targets=1), seed=0)
    assert model.predict(windows(rng, 2, window), verbose=0).shape == (2, 1)


def test_saved_model_holds_only_built_in_objects_and_predicts_the_same(tmp_path, rng):
    for name in ("danq", "deepsea"):
        base = PRESETS[name].model
        filters = (4, 5, 6) if name == "deepsea" else 4
        config = ModelConfig(
            **{
                **base.__dict__,
                "filters": filters,
                "lstm_units": 3,
                "dense_units": 4,
                "n_targets": 2,
            }
        )
        model = build_network(config, seed=0)
        path = tmp_path / f"{name}.keras"
        model.save(path)
        assert "danq_keras" not in model.to_json()
        again = keras.saving.load_model(path)
        x = windows(rng, 3, 1000)
        np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_precision_is_a_policy_and_outputs_and_weights_stay_float32(precision):
    model = build_network(SMALL, precision=precision)
    assert model.get_layer("conv").compute_dtype == precision.removeprefix("mixed_")
    for name in ("logits", "probability"):
        assert model.get_layer(name).compute_dtype == "float32"
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_unpacking_in_the_graph_equals_numpy(rng):
    for length in (40, 41):
        codes = rng.integers(0, 5, (3, length), dtype=np.uint8)
        onehot = np.asarray(unpack_windows(dna.pack_codes(codes), length))
        np.testing.assert_array_equal(onehot, dna.onehot_from_codes(codes))
    labels = rng.integers(0, 2, (3, 19), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(unpack(dna.pack_labels(labels), 19)), labels)


def test_logits_model_shares_weights(rng):
    model = build_network(SMALL)
    x = windows(rng)
    logits = logits_model(model).predict(x, verbose=0)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), model.predict(x, verbose=0), atol=FLOAT32)


def test_first_kernels_of_danq_jaspar_are_the_motifs():
    config = ModelConfig(
        **{**PRESETS["danq-jaspar"].model.__dict__, "lstm_units": 2, "dense_units": 2}
    )
    kernel, bias = build_network(config, seed=4).get_layer("conv").get_weights()
    motifs = resolve_motifs("jaspar2016")
    assert len(motifs) == 525
    for number, motif in enumerate(motifs):
        width = len(motif.matrix)
        places = [
            at
            for at in range(30 - width + 1)
            if np.allclose(kernel[at : at + width, :, number], motif.matrix - 0.25, atol=FLOAT32)
        ]
        assert len(places) == 1, motif.id
        assert 3 <= 30 - width - places[0] <= 30 - width - 3
    assert ((bias[:525] > -1) & (bias[:525] < 0)).all()
    assert not bias[525:].any()
    assert np.abs(kernel[..., 525:]).max() <= 0.05


def drawn_rates(model, name, n=8):
    """Shares of zeros that a dropout layer makes of ones in several training steps."""
    layer = model.get_layer(name)
    ones = np.ones((20, *layer.input.shape[1:]), "f4")
    return [float((np.asarray(layer(ones, training=True)) == 0).mean()) for _ in range(n)]


@pytest.mark.parametrize(
    ("name", "low", "high"), [("dropout_pool", 0.1, 0.3), ("dropout_lstm", 0.4, 0.6)]
)
def test_preset_random_dropout_draws_within_its_ranges_at_each_step_or_once(name, low, high):
    preset = PRESETS["random-dropout"].model
    sizes = {"filters": 64, "lstm_units": 32, "dense_units": 4, "n_targets": 3}
    each_step = drawn_rates(build_network(dataclasses.replace(preset, **sizes), seed=1), name)
    assert all(low - 0.01 < rate < high + 0.01 for rate in each_step)
    assert max(each_step) - min(each_step) > 0.05
    once = dataclasses.replace(preset, dropout_redraw="run", **sizes)
    rates = drawn_rates(build_network(once, seed=1), name)
    assert max(rates) - min(rates) < 0.01
    assert low < np.mean(rates) < high
    others = {build_network(once, seed=seed).get_layer(name).rate for seed in range(4)}
    assert len(others) == 4  # another run, another rate


def test_preset_mouse_mel_has_39_targets_of_its_data():
    config = dataclasses.replace(PRESETS["mouse-mel"].model, n_targets=39)
    model = build_network(config, initialise=False)
    assert model.output.shape == (None, 39)
    assert model.count_params() == 46_926_479 - 880 * 926  # danq less 880 targets


def test_preset_bioq_has_two_blstm_layers():
    model = build_network(PRESETS["bioq"].model, initialise=False)
    assert model.get_layer("blstm").output.shape[1:] == (75, 640)
    assert model.get_layer("blstm_2").output.shape[1:] == (75, 640)
    assert len([layer for layer in model.layers if isinstance(layer, keras.layers.LSTM)]) == 4
