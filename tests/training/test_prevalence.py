"""Output biases that start at the share of positives."""

import numpy as np
import pytest
import tiny

from danq_keras.genome import dna
from danq_keras.training.pipeline import Order
from danq_keras.training.prevalence import prevalences
from danq_keras.training.trainer import Trainer


@pytest.mark.parametrize("limit", [None, 20])
@pytest.mark.parametrize("columns", [None, [2, 0]])
@pytest.mark.parametrize("ignore", [False, True])
def test_shares_are_those_of_the_labels_that_count(tmp_path, limit, columns, ignore) -> None:
    split = tiny.make_dataset(tmp_path / "data", ignore=ignore).train
    order = Order.of(split, seed=0, limit=limit)
    rows = slice(None) if limit is None else split.draw(limit, 0)
    labels = dna.unpack_labels(np.asarray(split.labels), 3)[rows].astype(float)
    if ignore:
        labels[dna.unpack_labels(np.asarray(split.ignore), 3)[rows] > 0] = np.nan
    expected = np.nanmean(labels, axis=0)
    shares = prevalences(split, order, columns)
    np.testing.assert_allclose(shares, expected if columns is None else expected[columns])


def test_blocks_of_rows_add_up(tmp_path, monkeypatch) -> None:
    split = tiny.make_dataset(tmp_path / "data", ignore=True).train
    order = Order.of(split, seed=0)
    whole = prevalences(split, order)
    monkeypatch.setattr("danq_keras.training.prevalence._ROWS", 7)
    np.testing.assert_array_equal(prevalences(split, order), whole)


def test_a_target_of_one_label_has_a_finite_bias(tmp_path) -> None:
    split = tiny.make_dataset(tmp_path / "data").train
    labels = dna.unpack_labels(np.asarray(split.labels), 3)
    row = int(np.flatnonzero(labels.any(axis=1))[0])
    order = Order(split.n_windows, 2, 0, np.array([row]))
    shares = prevalences(split, order)
    np.testing.assert_array_equal(shares, 0.5)  # half a label of one on either side
    order = Order(split.n_windows, 2, 0, np.array([row] * 4))
    expected = np.where(labels[row] > 0, 3.5 / 4, 0.5 / 4)
    np.testing.assert_allclose(prevalences(split, order), expected)


def test_a_new_network_starts_there_and_others_at_zero(tmp_path) -> None:
    dataset = tiny.make_dataset(tmp_path / "data")
    plain = Trainer(tiny.preset(), dataset, tmp_path)
    assert not plain.model.get_layer("logits").get_weights()[1].any()
    trainer = Trainer(tiny.preset(output_bias="prevalence"), dataset, tmp_path)
    shares = prevalences(dataset.train, trainer.order)
    bias = trainer.model.get_layer("logits").get_weights()[1]
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), shares, rtol=1e-6)
    for one, other in zip(
        plain.model.get_weights()[:-1], trainer.model.get_weights(), strict=False
    ):
        np.testing.assert_array_equal(one, other)
