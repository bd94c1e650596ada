"""Shares of positives, and output biases that start at them."""

import numpy as np
import pytest
import tiny

from danq_keras.data.prevalence import prevalences
from danq_keras.genome import dna
from danq_keras.training.trainer import Trainer


@pytest.mark.parametrize("limit", [None, 20])
@pytest.mark.parametrize("columns", [None, [2, 0]])
@pytest.mark.parametrize("ignore", [False, True])
def test_shares_are_those_of_the_labels_that_count(tmp_path, limit, columns, ignore) -> None:
    split = tiny.make_dataset(tmp_path / "data", ignore=ignore).train
    rows = None if limit is None else split.draw(limit, 0)
    chosen = np.arange(split.n_windows) if rows is None else rows
    labels = dna.unpack_labels(np.asarray(split.labels), 3)[chosen].astype(float)
    if ignore:
        labels[dna.unpack_labels(np.asarray(split.ignore), 3)[chosen] > 0] = np.nan
    expected = np.nanmean(labels, axis=0)
    shares = prevalences(split, rows, columns)
    np.testing.assert_allclose(shares, expected if columns is None else expected[columns])


def test_blocks_of_rows_add_up(tmp_path, monkeypatch) -> None:
    split = tiny.make_dataset(tmp_path / "data", ignore=True).train
    whole = prevalences(split)
    monkeypatch.setattr("danq_keras.data.store._COUNT_ROWS", 7)
    np.testing.assert_array_equal(prevalences(split), whole)


def test_a_target_of_one_label_has_a_finite_bias(tmp_path) -> None:
    split = tiny.make_dataset(tmp_path / "data").train
    labels = dna.unpack_labels(np.asarray(split.labels), 3)
    row = int(np.flatnonzero(labels.any(axis=1))[0])
    shares = prevalences(split, np.array([row]))
    np.testing.assert_array_equal(shares, 0.5)  # half a label of one on either side
    expected = np.where(labels[row] > 0, 3.5 / 4, 0.5 / 4)
    np.testing.assert_allclose(prevalences(split, np.array([row] * 4)), expected)


def test_a_new_network_starts_there_and_others_at_zero(tmp_path) -> None:
    dataset = tiny.make_dataset(tmp_path / "data")
    plain = Trainer(tiny.preset(), dataset, tmp_path)
    assert not plain.model.get_layer("logits").get_weights()[1].any()
    trainer = Trainer(tiny.preset(output_bias="prevalence"), dataset, tmp_path)
    shares = prevalences(dataset.train, trainer.order.windows)
    bias = trainer.model.get_layer("logits").get_weights()[1]
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), shares, rtol=1e-6)
    for one, other in zip(
        plain.model.get_weights()[:-1], trainer.model.get_weights(), strict=False
    ):
        np.testing.assert_array_equal(one, other)
