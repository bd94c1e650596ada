"""Restudy: scores against an oracle, who comes again, and that it all survives an interruption."""

import csv
import dataclasses
import math

import numpy as np
import pytest
import tiny

from danq_keras.genome import dna
from danq_keras.system.errors import InputError
from danq_keras.training.optimizers import learning_rate_at
from danq_keras.training.pipeline import Order, read_batch
from danq_keras.training.restudy import (
    count_positives_of_windows,
    excess_scores,
    hardest_windows,
    match_positives,
    windows_to_restudy,
)
from danq_keras.training.trainer import Trainer


def oracle(labels, probs, valid):
    """Loss minus entropies, over the root of the summed variances, label by label in float64."""
    scores = []
    for y, p, counts in zip(labels, probs.astype(float), valid, strict=True):
        y, p = y[counts == 1], p[counts == 1]
        loss = -np.where(y == 1, np.log(p), np.log1p(-p)).sum()
        entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p)).sum()
        # of a Bernoulli variable whose values are -log p and -log (1 - p)
        variance = (p * np.log(p) ** 2 + (1 - p) * np.log1p(-p) ** 2).sum() - (
            (p * np.log(p) + (1 - p) * np.log1p(-p)) ** 2
        ).sum()
        scores.append((loss - entropy) / math.sqrt(variance))
    return np.array(scores)


def scores_of(labels, probs, valid=None):
    probs = np.asarray(probs, np.float64)
    logits = np.log(probs / (1 - probs)).astype("f4")
    labels = np.asarray(labels, np.float32)
    valid = np.ones_like(labels) if valid is None else np.asarray(valid, np.float32)
    return excess_scores(labels, logits, valid).numpy()


# ── scores ──────────────────────────────────────────────────────────────────


def test_scores_against_the_definition(rng):
    probs = rng.uniform(0.01, 0.99, (50, 7))
    labels = (rng.random((50, 7)) < 0.3).astype("f4")
    valid = (rng.random((50, 7)) < 0.8).astype("f4")
    valid[:, 0] = 1
    np.testing.assert_allclose(
        scores_of(labels, probs, valid), oracle(labels, probs, valid), rtol=1e-4, atol=1e-5
    )


def test_scores_by_hand():
    """p = 0.8: the loss is -log 0.2 or -log 0.8, log 4 apart, with deviation 0.4 log 4."""
    found = scores_of([[0], [1]], [[0.8], [0.8]])
    np.testing.assert_allclose(found, [0.8 / 0.4, -0.2 / 0.4], rtol=1e-5)


def test_ignored_labels_do_not_count(rng):
    probs = rng.uniform(0.1, 0.9, (9, 4))
    labels = (rng.random((9, 4)) < 0.5).astype("f4")
    valid = np.ones((9, 4), np.float32)
    valid[:, 2] = 0
    flipped = labels.copy()
    flipped[:, 2] = 1 - flipped[:, 2]
    np.testing.assert_array_equal(scores_of(labels, probs, valid), scores_of(flipped, probs, valid))
    valid[3] = 0
    found = scores_of(labels, probs, valid)
    assert found[3] == -np.inf
    assert np.isfinite(np.delete(found, 3)).all()


def test_a_network_without_doubt_has_finite_scores():
    logits = np.array([[200.0], [200.0], [0.0]], np.float32)
    labels = np.array([[1.0], [0.0], [1.0]], np.float32)
    found = excess_scores(labels, logits, np.ones_like(labels)).numpy()
    assert np.isfinite(found).all()
    assert found[0] == found[2] == 0
    assert found[1] > 1e3


def test_windows_with_many_well_predicted_positives_are_not_simply_repeated(rng):
    """Labels drawn from the predicted probabilities: nothing is hard, whatever its positives."""
    n, n_targets = 4000, 50
    hot = np.arange(n) < 400  # a tenth of the windows
    probs = np.where(hot[:, None], rng.uniform(0.5, 0.95, (n, n_targets)), 0.03)
    labels = rng.random((n, n_targets)) < probs
    loss = -np.where(labels, np.log(probs), np.log1p(-probs)).sum(1)
    assert labels[hot].mean() > 15 * labels[~hot].mean()
    by_loss = hardest_windows(loss.astype("f4"), 400)
    by_score = hardest_windows(scores_of(labels, probs), 400)
    assert hot[by_loss].mean() > 0.9
    assert 0.03 < hot[by_score].mean() < 0.2


def test_windows_that_contradict_the_network_come_first(rng):
    """Hot windows of which the network knows, and as many of which it does not."""
    probs = np.full((300, 40), 0.05)
    probs[:100] = 0.8
    labels = rng.random((300, 40)) < probs
    labels[100:200] = rng.random((100, 40)) < 0.8
    chosen = hardest_windows(scores_of(labels, probs), 100)
    np.testing.assert_array_equal(chosen, np.arange(100, 200))


def test_hardest_windows_by_hand():
    scores = np.array([0.5, -np.inf, 2.0, 0.5, 1.0, 0.5], np.float32)
    assert hardest_windows(scores, 3).tolist() == [0, 2, 4]  # the first of the equal ones
    assert hardest_windows(scores, 5).tolist() == [0, 2, 3, 4, 5]  # nothing counts in number 1
    assert hardest_windows(scores, 3).dtype == np.int64


def test_matched_scores_compare_windows_with_as_many_positives(rng):
    """Hot windows that the network does not know: all hard, and yet a fair share when matched."""
    positives = np.repeat([0, 1, 2, 20, 21], [900, 400, 100, 150, 150])
    scores = (rng.normal(size=len(positives)) + positives).astype("f4")
    matched = match_positives(scores, positives)
    groups = [positives == 0, positives == 1, positives >= 2]  # too few with 2 alone
    for group in groups:
        expected = (scores[group] - scores[group].mean()) / scores[group].std()
        np.testing.assert_allclose(matched[group], expected, rtol=1e-4, atol=1e-5)
    hot = positives >= 20
    assert hot[hardest_windows(scores, 300)].mean() == 1
    assert hot[hardest_windows(match_positives(scores, positives * 0 + hot), 300)].mean() < 0.3


def test_matched_scores_of_windows_without_labels_that_count(rng):
    positives = np.zeros(500, np.int64)
    scores = rng.normal(size=500).astype("f4")
    scores[:5] = -np.inf
    matched = match_positives(scores, positives)
    assert (matched[:5] == -np.inf).all()
    np.testing.assert_allclose(matched[5:].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(matched[5:].std(), 1, rtol=1e-5)


def test_matched_scores_of_equal_windows_are_finite():
    matched = match_positives(np.ones(7, np.float32), np.arange(7))
    np.testing.assert_array_equal(matched, np.zeros(7))


@pytest.mark.parametrize(("columns", "limit"), [(None, None), ([2, 0], None), (None, 9)])
def test_positives_of_windows(tmp_path, columns, limit):
    train = tiny.make_dataset(tmp_path / "data", ignore=True).train
    order = Order.of(train, seed=0, limit=limit)
    labels = dna.unpack_labels(np.asarray(train.labels), 3)
    ignore = dna.unpack_labels(np.asarray(train.ignore), 3)
    rows = range(train.n_windows) if limit is None else order.windows
    expected = [
        sum(int(labels[row, t]) * (1 - int(ignore[row, t])) for t in (columns or range(3)))
        for row in rows
    ]
    found = count_positives_of_windows(train, order, columns)
    assert found.tolist() == expected


def test_share_of_windows():
    order = Order(43, 2, 0)
    train = tiny.preset(restudy=0.25).train
    assert windows_to_restudy(train, order) == 11
    assert windows_to_restudy(dataclasses.replace(train, restudy=0.0), order) == 0
    assert windows_to_restudy(train, Order(43, 1, 0, np.arange(8))) == 2
    with pytest.raises(InputError, match=r"restudy: 0\.01 of 43 windows is none"):
        windows_to_restudy(dataclasses.replace(train, restudy=0.01), order)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"restudy": -0.1}, r"in \[0, 1\] .*Received: -0\.1"),
        ({"restudy": 1.5}, r"in \[0, 1\]"),
        ({"restudy": 0.6, "restudy_mode": "replace"}, r"in \[0, 0\.5\] with restudy_mode=replace"),
        ({"restudy_mode": "swap"}, "restudy_mode: one of extra, replace"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(InputError, match=message):
        tiny.preset(**settings)


# ── order ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("strands", [1, 2])
def test_hard_windows_come_twice_and_all_others_once(strands):
    order = Order(23, strands, 3, again=np.array([2, 22]))
    samples = order.permutation(4)
    counts = np.bincount(samples, minlength=order.n_samples).reshape(strands, 23)
    assert (counts[:, [2, 22]] == 2).all()
    assert (np.delete(counts, [2, 22], axis=1) == 1).all()
    assert len(samples) == order.epoch_samples == strands * 25
    assert order.steps(10) == math.ceil(strands * 25 / 10)
    assert order.n_samples == strands * 23  # sample numbers stay what they are
    places = [np.flatnonzero(np.isin(order.permutation(e), [2, 22])) for e in range(300)]
    middle = (len(samples) - 1) / 2
    assert np.mean(places) == pytest.approx(middle, rel=0.1)  # shuffled in, not appended


def test_replacing_keeps_the_number_of_samples():
    again = np.array([1, 5, 6])
    order = Order(23, 2, 0, again=again, replace=True)
    left_out = []
    for epoch in range(30):
        counts = np.bincount(order.permutation(epoch), minlength=46)
        assert counts.sum() == order.epoch_samples == 46
        assert (counts.reshape(2, 23)[:, again] == 2).all()
        left_out.append(frozenset(np.flatnonzero(counts == 0).tolist()))
        assert len(left_out[-1]) == 6
    assert len(set(left_out)) > 20  # others in each epoch
    assert len(set().union(*left_out)) == 40  # none is left out for ever, none is always there


@pytest.mark.parametrize("replace", [False, True])
def test_order_is_a_function_of_seed_epoch_and_windows(replace):
    def order(seed, windows):
        return Order(23, 2, seed, again=np.array(windows), replace=replace)

    first = order(1, [3, 4]).permutation(2)
    np.testing.assert_array_equal(order(1, [3, 4]).permutation(2), first)
    for other in (order(2, [3, 4]).permutation(2), order(1, [3, 4]).permutation(3)):
        assert not np.array_equal(other, first)
    assert not np.array_equal(np.sort(order(1, [3, 5]).permutation(2)), np.sort(first))


def test_no_hard_windows_is_the_order_without_restudy():
    plain = Order(23, 2, 5)
    np.testing.assert_array_equal(
        plain.permutation(1), dataclasses.replace(plain, replace=True).permutation(1)
    )


# ── training ────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny.make_dataset(tmp_path_factory.mktemp("data") / "tiny", ignore=True)


def trained(folder, dataset, columns=None, **settings):
    folder.mkdir()
    trainer = Trainer(tiny.preset(**settings), dataset, folder, columns=columns)
    trainer.fit()
    return trainer


def test_scores_are_those_of_the_very_samples(tmp_path, dataset):
    """A network that stands still: each sample's score from its own prediction and labels."""
    trainer = trained(
        tmp_path / "run",
        dataset,
        columns=[2, 0],
        n_targets=2,
        epochs=2,
        optimizer="sgd",
        learning_rate=1e-30,
        dropout_pool=0.0,
        dropout_lstm=0.0,
        train_limit=21,
        restudy=0.2,
    )
    order, split = trainer.order, dataset.train
    sequence, labels, ignore = read_batch(split, order, np.arange(order.n_samples))
    onehot = dna.unpack_onehot(sequence, dataset.window).astype("f4")
    probs = trainer.model.predict(onehot, verbose=0)
    labels, ignore = (dna.unpack_labels(part, 3)[:, [2, 0]] for part in (labels, ignore))
    none = ignore.all(axis=1)
    expected = np.full(42, -np.inf)
    expected[~none] = oracle(labels[~none], probs[~none], 1 - ignore[~none])
    np.testing.assert_allclose(trainer.curriculum.scores, expected, rtol=1e-3, atol=1e-3)
    windows = expected.reshape(2, 21).mean(axis=0)
    assert len(trainer.curriculum.again) == 4
    assert windows[trainer.curriculum.again].min() >= np.sort(windows)[-4] - 1e-3


@pytest.mark.parametrize(("mode", "samples"), [("extra", 108), ("replace", 86)])
def test_steps_schedule_and_history(tmp_path, dataset, mode, samples, monkeypatch):
    """11 of 43 windows again: 86 samples in the first epoch, then 108 or 86; the cosine ends."""
    rates = []

    def recorded(*arguments, **options):
        rates.append(learning_rate_at(*arguments, **options))
        return rates[-1]

    monkeypatch.setattr("danq_keras.training.trainer.learning_rate_at", recorded)
    trainer = trained(
        tmp_path / "run", dataset, epochs=3, restudy=0.25, restudy_mode=mode, schedule="cosine"
    )
    steps = 9 + 2 * math.ceil(samples / 10)
    assert trainer.state.step == trainer.total_steps == len(rates) == steps
    assert rates[-1] == pytest.approx(0.001 * (1 + math.cos(math.pi * (1 - 1 / steps))) / 2)
    with (tmp_path / "run" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["samples"]) for row in rows] == [86, samples, samples]
    assert [int(row["restudied"]) for row in rows] == [0, 22, 22]


def test_without_restudy_the_history_is_as_before(tmp_path, dataset):
    trainer = trained(tmp_path / "run", dataset, epochs=1)
    assert "restudied" not in (tmp_path / "run" / "history.csv").read_text()
    assert trainer.curriculum.scores is None


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("danq", {"gates": "hard", "precision": "mixed_float16"}),
        pytest.param("random-dropout", {"precision": "mixed_bfloat16"}, marks=pytest.mark.long),
        ("deepsea", {}),
    ],
)
def test_every_kind_of_network_is_restudied_and_thawed(tmp_path, dataset, name, settings):
    config = tiny.preset(name, epochs=2, restudy=0.3, freeze_conv_epochs=1, **settings)
    (tmp_path / "run").mkdir()
    trainer = Trainer(config, dataset, tmp_path / "run")
    convolutions = [layer for layer in trainer.model.layers if layer.name.startswith("conv")]
    before = [layer.get_weights()[0] for layer in convolutions]
    seen = []
    finish = trainer._finish_epoch

    def look(row):
        seen.append([layer.get_weights()[0] for layer in convolutions])
        finish(row)

    trainer._finish_epoch = look
    trainer.fit()
    assert len(convolutions) == (3 if name == "deepsea" else 1)
    for start, frozen, moved in zip(before, *seen, strict=True):
        np.testing.assert_array_equal(start, frozen)
        assert not np.array_equal(frozen, moved)
    assert [row["restudied"] for row in trainer.state.history] == [0, 26]
