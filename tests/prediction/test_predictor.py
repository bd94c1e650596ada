"""Predictions of splits, against a network whose arithmetic NumPy repeats in float64."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tiny

from danq_keras.data import store, store_write
from danq_keras.data.deepsea import deepsea_targets
from danq_keras.data.targets import Targets
from danq_keras.genome import dna
from danq_keras.models.networks import build_network
from danq_keras.models.trained import load_model
from danq_keras.prediction import predictor as predict
from danq_keras.prediction.predictor import SplitPredictor
from danq_keras.system.errors import InputError

N_WINDOWS, WINDOW, N_TARGETS = 37, 12, 5
TOLERANCE = 2e-6  # of float32 probabilities

Doubles = npt.NDArray[np.float64]


def make_network(
    n_targets: int = N_TARGETS, *, logits: bool = True, scale: float = 0.5
) -> keras.Model:
    """probability = sigmoid(onehot · weights + bias), not symmetric between the strands."""
    rng = np.random.default_rng(4)
    inputs = keras.Input((WINDOW, 4), name="onehot")
    flat = keras.layers.Flatten()(inputs)
    name = "logits" if logits else "other"
    outputs = keras.layers.Dense(n_targets, name=name)(flat)
    outputs = keras.layers.Activation("sigmoid", name="probability")(outputs)
    model = keras.Model(inputs, outputs)
    kernel = scale * rng.standard_normal((WINDOW * 4, n_targets))
    model.get_layer(name).set_weights([kernel, rng.standard_normal(n_targets)])
    return model


def make_split(path: Path, *, strands: str = "both", with_ignore: bool = False) -> store.Split:
    rng = np.random.default_rng(6)
    targets = Targets(tuple(f"t{i}" for i in range(N_TARGETS)))
    header = store.StoreHeader(WINDOW, 4, strands, targets, "random")
    labels, ignore = rng.integers(0, 2, (2, N_WINDOWS, N_TARGETS), dtype=np.uint8)
    with store_write.SplitWriter(
        path, header, n_windows=N_WINDOWS, with_ignore=with_ignore
    ) as writer:
        writer.append(
            store_write.Rows(
                dna.pack_codes(rng.integers(0, 5, (N_WINDOWS, WINDOW), dtype=np.uint8)),
                dna.pack_labels(labels),
                dna.pack_labels(ignore),
            )
        )
    return store.open_split(path)


@pytest.fixture
def split(tmp_path: Path) -> store.Split:
    return make_split(tmp_path / "test.h5")


def by_numpy(
    model: keras.Model, split: store.Split, columns: list[int] | None = None
) -> tuple[Doubles, Doubles]:
    """Probabilities (S, N, T) and cross-entropies (S, N, T) of each strand, in float64."""
    kernel, bias = (weight.astype(np.float64) for weight in model.get_weights())
    onehot = dna.unpack_onehot(np.asarray(split.sequence), WINDOW).astype(np.float64)
    strands = [onehot, onehot[:, ::-1, ::-1]][: 1 + split.both_strands]
    logits = np.stack([strand.reshape(len(onehot), -1) @ kernel + bias for strand in strands])
    probs = 1 / (1 + np.exp(-logits))
    labels = dna.unpack_labels(split.labels, split.n_targets).astype(np.float64)
    labels = labels if columns is None else labels[:, columns]
    clipped = np.clip(probs, 1e-7, 1 - 1e-7)
    return probs, -labels * np.log(clipped) - (1 - labels) * np.log(1 - clipped)


@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("strands", ["both", "as given"])
def test_probabilities_and_loss(tmp_path: Path, strands: str, logits: bool) -> None:
    """The mean over strands of the probabilities; the mean over strands of the losses."""
    split = make_split(tmp_path / "test.h5", strands=strands)
    model = make_network(logits=logits)
    result = SplitPredictor(model, batch_size=10)(split, desc="test")
    probs, losses = by_numpy(model, split)
    assert result.probs.dtype == np.float32
    np.testing.assert_allclose(result.probs, probs.mean(axis=0), atol=TOLERANCE)
    assert result.loss == pytest.approx(losses.mean(), rel=1e-5)
    np.testing.assert_array_equal(result.labels, dna.unpack_labels(split.labels, N_TARGETS))
    assert result.ignore is None


def test_strand_mean_is_neither_strand(split: store.Split) -> None:
    """This network sees the strands differently, so that the tests above could fail."""
    forward, reverse = by_numpy(make_network(), split)[0]
    assert np.abs(forward - reverse).max() > 0.5


def test_loss_is_per_strand_not_of_the_mean(split: store.Split) -> None:
    model = make_network()
    result = SplitPredictor(model, batch_size=64)(split, desc="test")
    p, y = result.probs.astype(np.float64), result.labels
    of_mean = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    assert result.loss > of_mean + 0.01  # cross-entropy is convex


@pytest.mark.parametrize("batch_size", [1, 7, 37, 64])
def test_batch_size_changes_nothing(split: store.Split, batch_size: int) -> None:
    model = make_network()
    one = SplitPredictor(model, batch_size=64)(split, desc="test")
    other = SplitPredictor(model, batch_size=batch_size)(split, desc="test")
    np.testing.assert_allclose(other.probs, one.probs, atol=TOLERANCE)
    assert other.loss == pytest.approx(one.loss, rel=1e-5)


def test_ignored_labels_do_not_count(tmp_path: Path) -> None:
    split = make_split(tmp_path / "test.h5", with_ignore=True)
    model = make_network()
    result = SplitPredictor(model, batch_size=10)(split, desc="test")
    probs, losses = by_numpy(model, split)
    assert split.ignore is not None
    ignore = dna.unpack_labels(split.ignore, N_TARGETS)
    np.testing.assert_array_equal(result.ignore, ignore)
    np.testing.assert_allclose(result.probs, probs.mean(axis=0), atol=TOLERANCE)
    counted = losses.mean(axis=0)[ignore == 0]
    assert result.loss == pytest.approx(counted.mean(), rel=1e-5)
    assert result.loss != pytest.approx(losses.mean(), rel=1e-3)


def test_split_whose_labels_are_all_ignored(tmp_path: Path) -> None:
    split = make_split(tmp_path / "test.h5", with_ignore=True)
    assert split.ignore is not None
    split = dataclasses.replace(split, ignore=np.full(split.ignore.shape, 255, np.uint8))
    assert SplitPredictor(make_network(), batch_size=10)(split, desc="test").loss == 0


@pytest.mark.parametrize("with_ignore", [False, True])
def test_columns_choose_and_order_the_labels(tmp_path: Path, with_ignore: bool) -> None:
    split = make_split(tmp_path / "test.h5", with_ignore=with_ignore)
    columns = [3, 0]
    model = make_network(n_targets=2)
    result = SplitPredictor(model, batch_size=10, columns=columns)(split, desc="test")
    labels = dna.unpack_labels(split.labels, N_TARGETS)[:, columns]
    np.testing.assert_array_equal(result.labels, labels)
    probs, losses = by_numpy(model, split, columns)
    np.testing.assert_allclose(result.probs, probs.mean(axis=0), atol=TOLERANCE)
    counted = losses.mean(axis=0)
    if split.ignore is not None:
        ignore = dna.unpack_labels(split.ignore, N_TARGETS)[:, columns]
        np.testing.assert_array_equal(result.ignore, ignore)
        counted = counted[ignore == 0]
    assert result.loss == pytest.approx(counted.mean(), rel=1e-5)


def test_hopeless_probabilities_give_a_finite_loss(split: store.Split) -> None:
    """Without logits the old stack's clipping bounds a loss at -log(1e-7)."""
    model = make_network(logits=False, scale=1000)
    result = SplitPredictor(model, batch_size=64)(split, desc="test")
    assert np.isfinite(result.loss)
    assert 1 < result.loss <= -np.log(1e-7) * 1.03  # 1 - 1e-7 is rounded in float32


def test_split_without_windows(split: store.Split) -> None:
    empty = dataclasses.replace(split, sequence=split.sequence[:0], labels=split.labels[:0])
    result = SplitPredictor(make_network(), batch_size=64)(empty, desc="test")
    assert result.probs.shape == (0, N_TARGETS)
    assert result.loss == 0


def test_predictor_follows_the_networks_weights(split: store.Split) -> None:
    """The trainer makes one predictor and goes on training the network."""
    model = make_network()
    predictor = SplitPredictor(model, batch_size=64)
    predictor(split, desc="before")
    model.set_weights([-weight for weight in model.get_weights()])
    after = predictor(split, desc="after")
    np.testing.assert_allclose(after.probs, by_numpy(model, split)[0].mean(axis=0), atol=TOLERANCE)


# ── models from disk ────────────────────────────────────────────────────────


def save_run(folder: Path, n_targets: int, config: dict | None = None) -> Path:
    folder.mkdir()
    make_network(n_targets).save(folder / "model.keras")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_run_folder_gives_network_and_names(tmp_path: Path, split: store.Split) -> None:
    config = {"targets": ["a", "b", "c", "d", "e"], "preset": "danq"}
    run = save_run(tmp_path / "run", N_TARGETS, config)
    for path in (run, run / "model.keras"):
        trained = load_model(path)
        assert trained.targets.names == ("a", "b", "c", "d", "e")
        assert trained.config == config
        assert trained.path == path
    result = SplitPredictor(trained.network, batch_size=64)(split, desc="test")
    expected = by_numpy(make_network(), split)[0].mean(axis=0)
    np.testing.assert_allclose(result.probs, expected, atol=TOLERANCE)


def test_bare_file_has_numbers_for_names(tmp_path: Path) -> None:
    trained = load_model(save_run(tmp_path / "run", 3) / "model.keras")
    assert trained.targets.names == ("0", "1", "2")
    assert trained.config == {}


def test_919_outputs_are_deepseas_when_told(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", 919)
    assert load_model(run).targets.names == tuple(map(str, range(919)))
    assert load_model(run, targets="deepsea").targets == deepsea_targets()


def test_names_of_another_number_are_not_believed(tmp_path: Path) -> None:
    trained = load_model(save_run(tmp_path / "run", 2, {"targets": ["a", "b", "c"]}))
    assert trained.targets.names == ("0", "1")


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_a_network_of_mixed_precision_works_in_float32(precision: str, tmp_path: Path) -> None:
    config = tiny.preset("danq").model
    exact = build_network(config)
    mixed = build_network(config, precision=precision)
    mixed.set_weights(exact.get_weights())
    mixed.save(tmp_path / "mixed.keras")
    onehot = np.eye(4, dtype=np.float32)[np.random.default_rng(0).integers(0, 4, (9, tiny.WINDOW))]
    loaded = load_model(tmp_path / "mixed.keras").network
    expected = np.asarray(exact(onehot, training=False))
    np.testing.assert_array_equal(np.asarray(loaded(onehot, training=False)), expected)
    assert not np.array_equal(np.asarray(mixed(onehot, training=False)), expected)


def test_missing_model(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "x.keras"):
        with pytest.raises(InputError, match=r"\.keras: no such model\. Give a run folder"):
            load_model(path)


def test_a_folder_of_runs_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in ("seed-2", "seed-1"):
        save_run(tmp_path / "set" / name, 2, {})
    with pytest.raises(InputError, match=r"a folder of runs, not a run.*such as .*seed-1\.$"):
        load_model(tmp_path / "set")


@pytest.mark.parametrize("content", [b"", b"not a zip archive"])
def test_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.keras"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a readable Keras model") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_truncated_model(tmp_path: Path) -> None:
    path = save_run(tmp_path / "run", 2) / "model.keras"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a readable Keras model"):
        load_model(path)


def test_model_of_other_shape(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    model.save(tmp_path / "x.keras")
    with pytest.raises(InputError, match=r"maps \(N, L, 4\) to \(N, T\)\. Received: \(None, 8\)"):
        load_model(tmp_path / "x.keras")


def test_exact_float32_is_asked_for_and_given_back():
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    before = enabled()
    with predict.without_tf32():
        assert not enabled()
    assert enabled() == before
