"""Every known mistake of ports is seen by the golden checks; initial values and dropout.

A mistake is put into the arrays, the settings or the optimizer, and the very check of
`test_golden` must then fail by a wide margin.
"""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops
from keras02 import (
    FINAL_WEIGHT_BOUND,
    LOSS_BOUND,
    PREDICTION_BOUND,
    golden_config,
    golden_predictions,
    golden_run,
    golden_step,
    largest_difference,
    take_golden_steps,
)
from scipy import stats

from danq_keras.genome import dna
from danq_keras.models import legacy
from danq_keras.models.networks import build_network
from danq_keras.motifs.files import resolve_motifs
from danq_keras.motifs.kernels import motif_kernels
from danq_keras.recipes.config import ModelConfig
from danq_keras.recipes.presets import PRESETS

MARGIN = 1000  # a mistake must exceed the bound of the check this many times
WEIGHT_MARGIN = 50  # the bound on final weights is the wider one
AS_ACGT = np.array([0, 2, 1, 3], np.uint8)  # codes of A,G,C,T taken for A,C,G,T


# ── mistakes in a prediction ────────────────────────────────────────────────


def swapped(arrays, one, other):
    """Arrays whose names begin with, or end in, `one` and `other` change places."""
    names = {
        name: name.replace(one, "*").replace(other, one).replace("*", other) for name in arrays
    }
    return {name: arrays[names[name]] for name in arrays}


def kernels_not_flipped(arrays):
    return {**arrays, "conv.W": arrays["conv.W"][:, :, ::-1]}


def gates_read_as_icfo(arrays):
    return swapped(arrays, "_f", "_c")


def directions_swapped(arrays):
    return swapped(arrays, "forward", "backward")


def halves(arrays):
    """The rows of the dense layer as (steps, direction, units, dense)."""
    units = len(arrays["forward.b_i"])
    return arrays["dense.W"].reshape(-1, 2, units, arrays["dense.W"].shape[1])


def halves_swapped(arrays):
    rows = halves(arrays)[:, ::-1]
    return {**arrays, "dense.W": rows.reshape(arrays["dense.W"].shape)}


def backward_outputs_not_turned_round(arrays):
    rows = halves(arrays).copy()
    rows[:, 1] = rows[::-1, 1]
    return {**arrays, "dense.W": rows.reshape(arrays["dense.W"].shape)}


def flattened_by_unit(arrays):
    """Flatten with the units outermost, as after a transposition."""
    rows = arrays["dense.W"].reshape(-1, 2 * len(arrays["forward.b_i"]), arrays["dense.W"].shape[1])
    return {**arrays, "dense.W": rows.swapaxes(0, 1).reshape(arrays["dense.W"].shape)}


IN_ARRAYS = [
    kernels_not_flipped,
    gates_read_as_icfo,
    directions_swapped,
    halves_swapped,
    backward_outputs_not_turned_round,
    flattened_by_unit,
]


def prediction_difference(arrays, config, *, onehot, expected, gate=None):
    model = legacy.model_from_old(arrays, config)
    if gate is not None:
        for direction in ("forward", "backward"):
            model.get_layer(f"lstm_{direction}").cell.recurrent_activation = gate
    return largest_difference(model(onehot), expected)


def report(what, difference, bound):
    factor = difference / bound
    line = f"{what}: {difference:.2e}, {factor:.3g} times the bound of {bound:.0e}"
    print(line)  # noqa: T201  shown by pytest -rA
    return factor


@pytest.mark.parametrize("wrapper", ["time", "seya"])
@pytest.mark.parametrize("mistake", IN_ARRAYS, ids=lambda mistake: mistake.__name__)
def test_mistake_in_the_weights_is_seen(mistake, wrapper):
    arrays, onehot, expected = golden_predictions(wrapper)
    config = golden_config(arrays, wrapper)
    difference = prediction_difference(mistake(arrays), config, onehot=onehot, expected=expected)
    assert report(f"{mistake.__name__} ({wrapper})", difference, PREDICTION_BOUND) > MARGIN


@pytest.mark.parametrize("wrapper", ["time", "seya"])
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"gates": "sigmoid"}, id="true sigmoid in the gates"),
        pytest.param({"dropout_kind": "inverted"}, id="no dropout scaling"),
        pytest.param({"dropout_pool": 0.0}, id="no scaling after the pool"),
        pytest.param({"dropout_lstm": 0.0}, id="no scaling after the BLSTM"),
    ],
)
def test_mistake_in_the_settings_is_seen(changes, wrapper):
    arrays, onehot, expected = golden_predictions(wrapper)
    config = golden_config(arrays, wrapper, **changes)
    difference = prediction_difference(arrays, config, onehot=onehot, expected=expected)
    assert report(f"{changes} ({wrapper})", difference, PREDICTION_BOUND) > MARGIN


def test_keras_3_hard_sigmoid_is_seen():
    arrays, onehot, expected = golden_predictions()
    gate = keras.activations.hard_sigmoid
    assert float(gate(1.0)) == pytest.approx(1 / 6 + 0.5)  # another slope than 0.2
    config = golden_config(arrays)
    difference = prediction_difference(arrays, config, onehot=onehot, expected=expected, gate=gate)
    assert report("Keras 3 hard sigmoid", difference, PREDICTION_BOUND) > MARGIN


def test_exchanging_the_gate_alone_changes_nothing():
    """The way in which the gate is exchanged above is not what that check sees."""
    arrays, onehot, expected = golden_predictions()
    difference = prediction_difference(
        arrays,
        golden_config(arrays),
        onehot=onehot,
        expected=expected,
        gate=lambda x: ops.clip(0.2 * x + 0.5, 0.0, 1.0),
    )
    assert difference <= PREDICTION_BOUND


@pytest.mark.parametrize("wrapper", ["time", "seya"])
def test_time_reversal_of_the_other_wrapper_is_seen(wrapper):
    arrays, onehot, expected = golden_predictions(wrapper)
    config = golden_config(arrays, {"time": "seya", "seya": "time"}[wrapper])
    difference = prediction_difference(arrays, config, onehot=onehot, expected=expected)
    assert report(f"reversal is not {wrapper}'s", difference, PREDICTION_BOUND) > MARGIN


@pytest.mark.parametrize("wrapper", ["time", "seya"])
def test_channels_in_alphabetical_order_are_seen(wrapper):
    arrays, onehot, expected = golden_predictions(wrapper)
    config = golden_config(arrays, wrapper)
    difference = prediction_difference(
        arrays, config, onehot=onehot[..., AS_ACGT], expected=expected
    )
    assert report(f"A,C,G,T ({wrapper})", difference, PREDICTION_BOUND) > MARGIN


# ── mistakes in a training ──────────────────────────────────────────────────


class EpsilonOutside(keras.optimizers.RMSprop):
    """PyTorch's form: the step is lr g / (sqrt(a) + eps)."""

    def update_step(self, gradient, variable, learning_rate):
        mean = self._velocities[self._get_variable_index(variable)]
        self.assign(mean, self.rho * mean + (1 - self.rho) * ops.square(gradient))
        step = learning_rate * gradient / (ops.sqrt(mean) + self.epsilon)
        self.assign_sub(variable, step)


class EpsilonInside(EpsilonOutside):
    """The original's form, written the same way: what `EpsilonOutside` must differ from."""

    def update_step(self, gradient, variable, learning_rate):
        mean = self._velocities[self._get_variable_index(variable)]
        self.assign(mean, self.rho * mean + (1 - self.rho) * ops.square(gradient))
        self.assign_sub(variable, learning_rate * gradient / ops.sqrt(mean + self.epsilon))


RUNS = ["default_init", "golden_init"]


def with_optimizer(step, optimizer):
    """The step with another optimizer; it is not compiled before its first batch."""
    optimizer.build(step.model.trainable_variables)
    step.optimizer = optimizer
    return step


def train_settings(**changes):
    return dataclasses.replace(PRESETS["danq"].train, **changes)


MISTAKEN_STEPS = {
    "epsilon 1e-7": lambda initial: golden_step(initial, train_settings(epsilon=1e-7)),
    "epsilon outside the root": lambda initial: with_optimizer(
        golden_step(initial), EpsilonOutside(1e-3, rho=0.9, epsilon=1e-6)
    ),
    "PyTorch's defaults": lambda initial: with_optimizer(
        golden_step(initial), EpsilonOutside(1e-3, rho=0.99, epsilon=1e-8)
    ),
    "rho 0.99": lambda initial: golden_step(initial, train_settings(rho=0.99)),
    "Adam": lambda initial: golden_step(
        initial, train_settings(optimizer="adam", rho=None, epsilon=None)
    ),
    "true sigmoid in the gates": lambda initial: golden_step(initial, gates="sigmoid"),
    "no time reversal": lambda initial: golden_step(initial, wrapper="seya"),
}


IN_THE_ROOT = ("epsilon 1e-7", "epsilon outside the root")  # one starting point is not enough


def run_differences(run, step, **options):
    """Largest differences of losses and of final weights from the old stack's."""
    _, losses, final = golden_run(run)
    ours = take_golden_steps(step, **options)
    return largest_difference(ours[0], losses), largest_difference(ours[1], final)


@pytest.mark.parametrize(
    ("mistake", "run"),
    [
        *((mistake, run) for mistake in IN_THE_ROOT for run in RUNS),
        *((mistake, "golden_init") for mistake in MISTAKEN_STEPS if mistake not in IN_THE_ROOT),
    ],
)
def test_mistake_in_the_training_is_seen(mistake, run):
    loss, weights = run_differences(run, MISTAKEN_STEPS[mistake](golden_run(run)[0]))
    by_loss = report(f"{mistake} ({run}), losses", loss, LOSS_BOUND)
    by_weights = report(f"{mistake} ({run}), final weights", weights, FINAL_WEIGHT_BOUND)
    assert by_loss > MARGIN
    assert by_weights > WEIGHT_MARGIN


@pytest.mark.parametrize("run", RUNS[:1])
def test_training_on_alphabetical_channels_is_seen(run):
    loss, weights = run_differences(run, golden_step(golden_run(run)[0]), recode=AS_ACGT)
    by_loss = report(f"A,C,G,T ({run}), losses", loss, LOSS_BOUND)
    assert by_loss > MARGIN
    assert report(f"A,C,G,T ({run}), final weights", weights, FINAL_WEIGHT_BOUND) > WEIGHT_MARGIN


@pytest.mark.parametrize("run", RUNS)
def test_an_optimizer_exchanged_for_the_same_formula_changes_nothing(run):
    """So the exchange itself is not what the checks above see."""
    step = with_optimizer(
        golden_step(golden_run(run)[0]), EpsilonInside(1e-3, rho=0.9, epsilon=1e-6)
    )
    loss, weights = run_differences(run, step)
    assert report(f"same formula ({run}), losses", loss, LOSS_BOUND) < 1
    assert report(f"same formula ({run}), final weights", weights, FINAL_WEIGHT_BOUND) < 1


# ── initial values ──────────────────────────────────────────────────────────

LEAST_P = 1e-4  # of a Kolmogorov-Smirnov test; the seeds are fixed, so it never flickers
WIDE = ModelConfig(window=200, n_targets=40, filters=60, lstm_units=50, dense_units=70)


def is_uniform(values, limit):
    """Uniform on [-limit, limit]: by its distribution, and by its ends."""
    values = np.ravel(values).astype(float)
    assert np.abs(values).max() <= limit * (1 + 1e-6)
    distribution = stats.uniform(-limit, 2 * limit).cdf
    return stats.kstest(values, distribution).pvalue > LEAST_P


@pytest.fixture(scope="module")
def initialised():
    return build_network(WIDE, seed=11)


def test_the_distribution_test_sees_another_distribution():
    rng = np.random.default_rng(0)
    assert is_uniform(rng.uniform(-0.05, 0.05, 6240), 0.05)
    assert not is_uniform(rng.uniform(-0.045, 0.045, 6240), 0.05)
    assert not is_uniform(np.clip(rng.normal(0, 0.03, 6240), -0.05, 0.05), 0.05)


def test_convolution_is_uniform(initialised):
    kernel, bias = initialised.get_layer("conv").get_weights()
    assert is_uniform(kernel, 0.05)
    assert not bias.any()


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_each_gate_is_glorot_and_orthogonal_by_itself(initialised, direction):
    kernel, recurrent, bias = initialised.get_layer(f"lstm_{direction}").get_weights()
    limit = (6 / (60 + 50)) ** 0.5  # the fused kernel's would be sqrt(6 / (60 + 200))
    for part in np.split(kernel, 4, axis=1):
        assert is_uniform(part, limit)
    for part in np.split(recurrent.astype(float), 4, axis=1):
        np.testing.assert_allclose(part.T @ part, 1.21 * np.eye(50), atol=1e-5)
        np.testing.assert_allclose(part @ part.T, 1.21 * np.eye(50), atol=1e-5)
    np.testing.assert_array_equal(bias, np.repeat([0, 1, 0, 0], 50))


def test_gates_and_directions_are_drawn_independently(initialised):
    parts = [
        part.ravel()
        for direction in ("forward", "backward")
        for weight in initialised.get_layer(f"lstm_{direction}").get_weights()[:1]
        for part in np.split(weight, 4, axis=1)
    ]
    correlations = np.corrcoef(parts)[np.triu_indices(8, 1)]
    assert np.abs(correlations).max() < 5 / len(parts[0]) ** 0.5


@pytest.mark.parametrize(("name", "shape"), [("dense", (1300, 70)), ("logits", (70, 40))])
def test_dense_layers_are_glorot(initialised, name, shape):
    kernel, bias = initialised.get_layer(name).get_weights()
    assert kernel.shape == shape  # 13 steps of 2 × 50
    assert is_uniform(kernel, (6 / sum(shape)) ** 0.5)
    assert not bias.any()


def test_motifs_start_everywhere_in_the_originals_range_and_nowhere_else():
    """All 525 kernels under 300 seeds; an untouched position is NaN, so the window is exact."""
    motifs = resolve_motifs("jaspar2016")
    widths = np.array([motif.width for motif in motifs])
    empty = np.full((30, 4, 1024), np.nan, np.float32)
    drawn, biases = {width: [] for width in set(widths.tolist())}, []
    for seed in range(300):
        kernel, bias, _ = motif_kernels(motifs, empty, seed=seed)
        filled = ~np.isnan(kernel[:, :, :525]).any(axis=1)
        np.testing.assert_array_equal(filled.sum(axis=0), widths)
        starts = 30 - filled.argmax(axis=0) - widths  # the draw of the original's script
        for width, start in zip(widths.tolist(), starts.tolist(), strict=True):
            drawn[width].append(start)
        biases.append(bias[:525])
    for width, starts in drawn.items():
        places, counts = np.unique(starts, return_counts=True)
        assert places.tolist() == list(range(3, 30 - width - 3 + 1)), width
        assert stats.chisquare(counts).pvalue > LEAST_P, width
    biases = np.concatenate(biases).astype(float)
    assert biases.min() > -1
    assert biases.max() < 0
    assert stats.kstest(biases[:20_000], stats.uniform(-1, 1).cdf).pvalue > LEAST_P


# ── dropout in the whole network ────────────────────────────────────────────


@pytest.fixture(scope="module")
def around_dropout():
    """What goes into and comes out of the dropouts of a whole network."""
    model = build_network(WIDE, seed=2)
    layers = [
        model.get_layer("pool").output,
        model.get_layer("lstm_forward").input,
        model.get_layer("lstm_backward").input,
        model.get_layer("blstm").output,
        model.get_layer("flatten").input,
    ]
    return keras.Model(model.input, layers)


def some_windows(n):
    codes = np.random.default_rng(8).integers(0, 4, (n, WIDE.window), dtype=np.uint8)
    return dna.onehot_from_codes(codes).astype(np.float32)


def test_training_multiplies_by_a_mask_of_each_direction(around_dropout):
    first, again = (
        [np.asarray(values) for values in around_dropout(some_windows(40), training=True)]
        for _ in range(2)
    )
    pooled, ahead, back, hidden, flat = first
    masks = []
    for values, source, kept in ((ahead, pooled, 0.8), (back, pooled, 0.8), (flat, hidden, 0.5)):
        mask = values != 0
        np.testing.assert_allclose(values[mask], source[mask], rtol=1e-6)  # not inverted
        counted = mask[source != 0]
        assert abs(counted.mean() - kept) < 5 * (kept * (1 - kept) / counted.size) ** 0.5
        masks.append(mask & (source != 0))
    both = (masks[0] & masks[1])[pooled != 0].mean()
    assert both == pytest.approx(0.64, abs=0.02)  # independent; one mask for both would give 0.8
    # The mean over masks is what is fed at test.
    assert ahead.sum() / pooled.sum() == pytest.approx(0.8, abs=0.01)
    for number in (1, 2, 4):
        assert not np.array_equal(first[number], again[number])  # anew in every step
        assert not np.array_equal(first[number][0] != 0, first[number][1] != 0)  # and sample


def test_test_scales_by_what_is_kept(around_dropout):
    pooled, ahead, back, hidden, flat = (
        np.asarray(values) for values in around_dropout(some_windows(3), training=False)
    )
    assert pooled.any()
    np.testing.assert_allclose(ahead, 0.8 * pooled, rtol=1e-6)
    np.testing.assert_allclose(back, 0.8 * pooled, rtol=1e-6)
    np.testing.assert_allclose(flat, 0.5 * hidden, rtol=1e-6)
