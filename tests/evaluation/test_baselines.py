"""Oracles: counting words one by one, scikit-learn's LogisticRegression, and planted signals."""

import dataclasses
import json
import shutil
from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from danq_keras.data import store, store_write
from danq_keras.data.targets import Targets
from danq_keras.evaluation import baselines, kmers, metrics
from danq_keras.genome import dna
from danq_keras.training.pipeline import Order

WINDOW = 60
TARGETS = ("planted", "noise", "empty", "rich")


def random_codes(rng, n_windows, *, unknown=0.0):
    codes = rng.integers(0, 4, (n_windows, WINDOW)).astype(np.uint8)
    codes[rng.random(codes.shape) < unknown] = dna.UNKNOWN
    return codes


def plant(rng, n_windows):
    """Half the windows hold GATAA on either strand ("planted"); "rich" is few G and C."""
    codes = random_codes(rng, n_windows)
    word = dna.encode("GATAA")
    words = np.stack([word, dna.reverse_complement_codes(word)])
    chosen = rng.random(n_windows) < 0.5
    for row in np.flatnonzero(chosen):
        codes[row, 20:40:5] = 0
        for place in (5, 15, 25, 35):
            codes[row, place : place + 5] = words[rng.integers(2)]
    labels = np.zeros((n_windows, len(TARGETS)), np.uint8)
    labels[:, 0] = chosen
    labels[:, 1] = rng.random(n_windows) < 0.3
    labels[:, 3] = np.isin(codes, (0, 3)).mean(axis=1) > 0.55
    return codes, labels


def write_dataset(folder, rng, *, sizes=(600, 150, 200), strands=store.STRANDS_BOTH, ignore=False):
    header = store.StoreHeader(WINDOW, 20, strands, Targets(TARGETS), "simulated")
    with store_write.new_dataset(folder) as temporary:
        for name, size in zip(store.SPLITS, sizes, strict=True):
            codes, labels = plant(rng, size)
            masked = dna.pack_labels(rng.random(labels.shape) < 0.2) if ignore else None
            with store_write.SplitWriter(
                temporary / f"{name}.h5", header, n_windows=size, with_ignore=ignore
            ) as writer:
                packed = dna.pack_codes(codes)
                writer.append(store_write.Rows(packed, dna.pack_labels(labels), masked))
    return store.open_store(folder)


@pytest.mark.parametrize("training", [store.STRANDS_BOTH, store.STRANDS_AS_GIVEN])
def test_splits_of_other_strands_are_counted_as_the_training_was(tmp_path, rng, training):
    """As of a bundle whose test.mat alone lacks the reverse complements."""
    others = {store.STRANDS_BOTH, store.STRANDS_AS_GIVEN} - {training}
    mixed = write_dataset(tmp_path / "data", rng, strands=training)
    other = write_dataset(tmp_path / "other", rng, strands=others.pop())
    fitted = baselines.fit_baselines(mixed)
    mixed = dataclasses.replace(mixed, valid=other.valid, test=other.test)
    result = dataclasses.replace(fitted, dataset=mixed).score("test")
    assert result.figures["kmer"].auroc[0] > 0.8
    assert baselines.fit_baselines(mixed).score("valid").figures["kmer"].auroc[0] > 0.8


@pytest.fixture
def dataset(tmp_path, rng):
    return write_dataset(tmp_path / "data", rng)


def count_by_hand(codes, k):
    """(N, 4**k) counts, one word at a time, as text."""
    letters = [dna.decode(np.array([code], np.uint8)) for code in range(4)]
    words = [""]
    for _ in range(k):
        words = [word + letter for word in words for letter in letters]
    counts = np.zeros((len(codes), len(words)), np.int64)
    for row, window in enumerate(codes):
        text = dna.decode(window)
        found = Counter(text[place : place + k] for place in range(len(text) - k + 1))
        counts[row] = [found[word] for word in words]
    return counts


@pytest.mark.parametrize("unknown", [0.0, 0.1, 1.0])
def test_counts_equal_counting_words(rng, unknown):
    codes = random_codes(rng, 7, unknown=unknown)
    for k, counts in enumerate(kmers.count_kmers(codes, 5), start=1):
        assert counts.tolist() == count_by_hand(codes, k).tolist()


def test_windows_shorter_than_the_kmers(rng):
    codes = random_codes(rng, 3)[:, :2]
    assert [part.sum() for part in kmers.count_kmers(codes, 5)] == [6, 3, 0, 0, 0]


def test_reverse_complement_kmers_by_hand():
    assert kmers.reverse_complement_kmers(1).tolist() == [3, 2, 1, 0]  # A,G,C,T
    partner = kmers.reverse_complement_kmers(2)
    assert partner[0 * 4 + 1] == 2 * 4 + 3  # AG, CT
    assert partner[0 * 4 + 3] == 0 * 4 + 3  # AT is its own
    five = kmers.reverse_complement_kmers(5)
    assert five[five].tolist() == list(range(1024))


def test_features_of_both_strands(rng):
    packed = dna.pack_codes(random_codes(rng, 9, unknown=0.05))
    reverse = dna.reverse_complement(packed, WINDOW)
    both = kmers.kmer_features(packed, window=WINDOW, both_strands=True)
    assert both.shape == (9, 692)
    assert both.dtype == np.float32
    assert np.array_equal(both, kmers.kmer_features(reverse, window=WINDOW, both_strands=True))
    forward = kmers.kmer_features(packed, window=WINDOW, both_strands=False)
    assert forward.shape == (9, 1364)
    assert not np.array_equal(
        forward, kmers.kmer_features(reverse, window=WINDOW, both_strands=False)
    )
    # A 1-mer feature: A with T, then G with C.
    assert both[:, 0].tolist() == (forward[:, 0] + forward[:, 3]).tolist()
    assert both[:, 1].tolist() == (forward[:, 1] + forward[:, 2]).tolist()


def test_features_do_not_depend_on_blocks(rng, monkeypatch):
    packed = dna.pack_codes(random_codes(rng, 11))
    whole = kmers.kmer_features(packed, window=WINDOW, both_strands=True)
    monkeypatch.setattr(kmers, "_ROWS", 4)
    assert np.array_equal(whole, kmers.kmer_features(packed, window=WINDOW, both_strands=True))
    assert kmers.kmer_features(packed[:0], window=WINDOW, both_strands=True).shape == (0, 692)


@pytest.mark.parametrize("with_ignore", [False, True])
def test_regression_equals_scikit_learn(rng, monkeypatch, with_ignore):
    monkeypatch.setattr(kmers, "_ITERATIONS", 500)
    monkeypatch.setattr(kmers, "_TOLERANCE", 1e-12)
    n, penalty = 300, 0.05
    mixing = rng.normal(size=(12, 12))
    features = (rng.normal(size=(n, 12)) @ mixing + 5).astype(np.float32)
    logits = 0.5 * features[:, :3] - 2.5
    labels = (rng.random((n, 3)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    keep = rng.random((n, 3)) < 0.7 if with_ignore else None
    problem = kmers.KmerProblem(kmers.Examples(features, labels, keep))
    problem.solve(1.0)  # the next call starts from here
    found = problem.solve(penalty).logits(features)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    for t in range(3):
        rows = slice(None) if keep is None else keep[:, t]
        x, y = scaled[rows], labels[rows, t]
        oracle = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-8, max_iter=1000).fit(x, y)
        np.testing.assert_allclose(found[:, t], oracle.decision_function(scaled), atol=5e-3)


def test_target_with_one_label_keeps_a_flat_score(rng):
    features = rng.normal(size=(50, 4)).astype(np.float32)
    labels = np.zeros((50, 3), np.float32)
    labels[:, 1], labels[:25, 2] = 1, 1
    solved = kmers.KmerProblem(kmers.Examples(features, labels, None)).solve(0.1)
    logits = solved.logits(features)
    assert np.ptp(logits[:, 0]) == np.ptp(logits[:, 1]) == 0
    assert logits[0, 0] < 0 < logits[0, 1]
    assert np.ptp(logits[:, 2]) > 0


def test_hotness_counts_the_other_targets():
    labels = np.array([[1, 1, 0], [0, 0, 0], [1, 1, 1]], np.uint8)
    found = baselines.hotness(labels)
    assert found.tolist() == [[0.5, 0.5, 1.0], [0, 0, 0], [1, 1, 1]]
    ignore = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0]], np.uint8)
    assert baselines.hotness(labels, ignore=ignore)[0].tolist() == [0.5, 0.0, 0.5]
    assert baselines.hotness(labels[:, :1]).tolist() == [[0], [0], [0]]


@pytest.mark.parametrize("strands", [store.STRANDS_BOTH, store.STRANDS_AS_GIVEN])
@pytest.mark.parametrize("ignore", [False, True])
def test_planted_signals_are_found(tmp_path, rng, strands, ignore):
    dataset = write_dataset(tmp_path / "data", rng, strands=strands, ignore=ignore)
    found = baselines.compute_baselines(dataset)
    assert list(found.figures) == list(found.notes) == list(baselines.NAMES)
    assert found.fingerprints == dataset.fingerprints()
    kmer, gc = found.figures["kmer"], found.figures["gc"]
    assert kmer.auroc[0] > 0.98
    assert 0.3 < kmer.auroc[1] < 0.7
    assert np.isnan(kmer.auroc[2])  # no positive
    assert gc.auroc[3] > 0.95  # although its positives are poor in G and C
    labels = dna.unpack_labels(dataset.test.labels, 4)
    hidden = None
    if dataset.test.ignore is not None:
        hidden = dna.unpack_labels(dataset.test.ignore, 4)
    expected = metrics.evaluate(labels, baselines.hotness(labels, ignore=hidden), ignore=hidden)
    assert found.figures["hotness"].auroc.tolist()[:2] == expected.auroc.tolist()[:2]
    assert "600 of 600 training windows" in found.notes["kmer"]
    assert "chosen on the validation split" in found.notes["kmer"]


def test_same_seed_same_figures_and_the_cap_is_said(dataset):
    one, two, other = (
        baselines.compute_baselines(dataset, train_limit=200, seed=seed) for seed in (0, 0, 1)
    )
    assert "200 of 600 training windows (drawn with seed 0)" in one.notes["kmer"]
    assert one.figures["kmer"].auroc.tolist()[0] == two.figures["kmer"].auroc.tolist()[0]
    assert one.figures["kmer"].auroc[1] != other.figures["kmer"].auroc[1]


def test_other_split(dataset):
    found = baselines.compute_baselines(dataset, split="valid")
    assert found.split == "valid"
    assert found.figures["kmer"].positives.sum() == dna.unpack_labels(dataset.valid.labels, 4).sum()
    assert "it was trained on" not in found.notes["kmer"]
    optimistic = baselines.compute_baselines(dataset, split="train")
    assert "scored on the rows it was trained on" in optimistic.notes["kmer"]
    assert optimistic.figures["kmer"].auroc[1] > found.figures["kmer"].auroc[1]


def test_splits_without_rows(tmp_path, rng):
    no_valid = baselines.compute_baselines(
        write_dataset(tmp_path / "no_valid", rng, sizes=(300, 0, 100))
    )
    assert "cannot choose one" in no_valid.notes["kmer"]
    assert no_valid.figures["kmer"].auroc[0] > 0.95
    no_train = baselines.compute_baselines(
        write_dataset(tmp_path / "no_train", rng, sizes=(0, 100, 100))
    )
    assert list(no_train.figures) == ["hotness"]
    assert "left out: the training split has no rows" in no_train.notes["kmer"]
    no_test = baselines.compute_baselines(
        write_dataset(tmp_path / "no_test", rng, sizes=(90, 90, 0))
    )
    assert np.isnan(no_test.figures["kmer"].auroc).all()
    one_row = baselines.compute_baselines(write_dataset(tmp_path / "one", rng, sizes=(1, 9, 90)))
    assert one_row.figures["kmer"].auroc[0] == 0.5  # nothing learned, every window ties


def same(one, two):
    return one.notes == two.notes and all(
        np.array_equal(getattr(one.figures[name], column), value, equal_nan=True)
        for name, found in two.figures.items()
        for column, value in vars(found).items()
    )


def refuse(*_args, **_options):
    raise AssertionError("computed again")


def test_computed_once_per_dataset(dataset, tmp_path, monkeypatch):
    first = baselines.load_or_compute(dataset, tmp_path, splits=("valid", "test"))
    assert list(first) == ["valid", "test"]
    assert first["valid"].figures["kmer"].positives.sum() < 2 * dataset.valid.n_windows
    for split in first:
        kept = baselines.cache_path(dataset, split)
        json.loads(kept.read_text(), parse_constant=refuse)  # no NaN
        assert not (tmp_path / kept.name).exists()
    alone = baselines.compute_baselines(dataset, split="valid")
    assert same(alone, first["valid"])
    monkeypatch.setattr(baselines, "fit_baselines", refuse)
    for split in first:
        again = baselines.load_or_compute(dataset, None, splits=(split,))
        assert same(again[split], first[split])
    assert first["test"].figures["kmer"].positives.dtype == np.int64


def test_read_only_dataset_uses_the_folder(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(baselines.os, "access", lambda *_: False)
    first = baselines.load_or_compute(dataset, tmp_path)["test"]
    assert (tmp_path / "baselines_test.json").is_file()
    assert not baselines.cache_path(dataset).exists()
    monkeypatch.setattr(baselines, "fit_baselines", refuse)
    assert same(baselines.load_or_compute(dataset, tmp_path)["test"], first)


def test_limited_runs_have_baselines_of_their_own(dataset, tmp_path, monkeypatch):
    """Of the very windows that the network gets, and never those of the whole dataset."""
    every = baselines.load_or_compute(dataset, tmp_path)["test"]
    few = baselines.load_or_compute(dataset, tmp_path, train_limit=60, seed=3)["test"]
    assert "60 of 600 training windows (drawn with seed 3)" in few.notes["kmer"]
    assert few.figures["kmer"].auroc[1] != every.figures["kmer"].auroc[1]
    rows = Order.of(dataset.train, seed=0, limit=60, data_seed=3).windows
    assert rows.tolist() == dataset.train.draw(60, 3).tolist()
    assert same(baselines.load_or_compute(dataset, tmp_path)["test"], every)
    other = baselines.load_or_compute(dataset, tmp_path, train_limit=60, seed=4)["test"]
    assert not same(other, few)
    monkeypatch.setattr(baselines, "fit_baselines", refuse)
    again = baselines.load_or_compute(dataset, tmp_path, train_limit=60, seed=4)["test"]
    assert same(again, other)


def without_checksum(text):
    content = json.loads(text)
    del content["sha256"]
    return json.dumps(content)


def test_a_cache_of_an_early_version_is_read(dataset, monkeypatch):
    first = baselines.load_or_compute(dataset, None)["test"]
    kept = baselines.cache_path(dataset)
    kept.write_text(without_checksum(kept.read_text()))
    monkeypatch.setattr(baselines, "fit_baselines", None)
    assert same(baselines.load_or_compute(dataset, None)["test"], first)


DAMAGE = {
    "not JSON": lambda _text: "{",
    "no keys": lambda _text: "{}",
    "list": lambda _text: "[1]",
    "deep": lambda _text: "[" * 100_000,
    "another figure": lambda text: text.replace("0.", "0.1", 1),
}


@pytest.mark.parametrize("damage", ["other data", "other split", *DAMAGE])
def test_stale_or_damaged_cache_is_replaced(dataset, tmp_path, rng, damage):
    kept = baselines.cache_path(dataset)
    first = baselines.load_or_compute(dataset, None)["test"]
    if damage == "other data":
        other = write_dataset(tmp_path / "other", rng)
        baselines.load_or_compute(other, None)
        shutil.copy(baselines.cache_path(other), kept)
    elif damage == "other split":
        shutil.copy(kept, baselines.cache_path(dataset, "valid"))
        found = baselines.load_or_compute(dataset, None, splits=("valid",))
        assert found["valid"].split == "valid"
        return
    else:
        kept.write_text(DAMAGE[damage](kept.read_text()))
    assert same(baselines.load_or_compute(dataset, None)["test"], first)
    assert json.loads(kept.read_text())["fingerprints"] == dataset.fingerprints()
