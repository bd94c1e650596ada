"""The order of samples, and the batches that reach the network."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from danq_keras.data import store, store_write
from danq_keras.data.targets import Targets
from danq_keras.genome import dna
from danq_keras.system.errors import InputError
from danq_keras.training.pipeline import Order, epoch_batches, read_batch

N_WINDOWS, WINDOW, N_TARGETS = 23, 15, 11


def make_split(
    path: Path, *, strands: str = "both", n_windows: int = N_WINDOWS, with_ignore: bool = False
) -> store.Split:
    rng = np.random.default_rng(5)
    header = store.StoreHeader(
        WINDOW, 4, strands, Targets(tuple(f"t{i}" for i in range(N_TARGETS))), "random"
    )
    labels, ignore = rng.integers(0, 2, (2, n_windows, N_TARGETS), dtype=np.uint8)
    with store_write.SplitWriter(
        path, header, n_windows=n_windows, with_ignore=with_ignore
    ) as writer:
        writer.append(
            store_write.Rows(
                dna.pack_codes(rng.integers(0, 5, (n_windows, WINDOW), dtype=np.uint8)),
                dna.pack_labels(labels),
                dna.pack_labels(ignore),
            )
        )
    return store.open_split(path)


@pytest.fixture
def split(tmp_path: Path) -> store.Split:
    return make_split(tmp_path / "train.h5", with_ignore=True)


def arrays(batches: object) -> list[tuple[np.ndarray, ...]]:
    return [tuple(part.numpy() for part in batch) for batch in batches]  # type: ignore[attr-defined]


# ── order ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("strands", [1, 2])
@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_every_epoch_is_an_exact_permutation(strands: int, seed: int) -> None:
    order = Order(N_WINDOWS, strands, seed)
    assert order.n_samples == N_WINDOWS * strands
    epochs = [order.permutation(epoch) for epoch in range(4)]
    for samples in epochs:
        assert sorted(samples.tolist()) == list(range(order.n_samples))
        assert samples.tolist() != list(range(order.n_samples))
    assert len({tuple(samples) for samples in epochs}) == 4


def test_order_is_a_function_of_seed_and_epoch_alone() -> None:
    wanted = Order(N_WINDOWS, 2, 3).permutation(5)
    other = Order(N_WINDOWS, 2, 3)
    for epoch in (0, 9, 5):  # whatever was asked before
        samples = other.permutation(epoch)
    np.testing.assert_array_equal(samples, wanted)
    assert not np.array_equal(Order(N_WINDOWS, 2, 4).permutation(5), wanted)
    # (seed, epoch) and (epoch, seed) are two addresses
    assert not np.array_equal(Order(N_WINDOWS, 2, 5).permutation(3), wanted)


def test_both_strands_of_each_window_once() -> None:
    order = Order(N_WINDOWS, 2, 0)
    rows, reverse = order.rows(order.permutation(0))
    seen = sorted(zip(rows.tolist(), reverse.tolist(), strict=True))
    assert seen == [(row, strand) for row in range(N_WINDOWS) for strand in (False, True)]


def test_rows_as_given_are_never_reversed() -> None:
    order = Order(N_WINDOWS, 1, 0)
    rows, reverse = order.rows(order.permutation(0))
    assert sorted(rows.tolist()) == list(range(N_WINDOWS))
    assert not reverse.any()


def test_sample_numbers_by_hand() -> None:
    """Sample i of n chosen windows is window i % n, reverse complement when i >= n."""
    order = Order(10, 2, 0, np.array([2, 5, 9]))
    assert order.n_samples == 6
    rows, reverse = order.rows(np.array([0, 2, 3, 5]))
    assert rows.tolist() == [2, 9, 2, 9]
    assert reverse.tolist() == [False, False, True, True]


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 46), (10, 5), (23, 2), (46, 1), (100, 1)])
def test_partial_last_batch_counts(batch_size: int, steps: int) -> None:
    assert Order(N_WINDOWS, 2, 0).steps(batch_size) == steps


def test_limit_keeps_both_strands(split: store.Split) -> None:
    order = Order.of(split, seed=1, limit=7, data_seed=0)
    assert order.windows is not None
    assert len(set(order.windows.tolist())) == 7
    assert order.n_samples == 14
    rows, reverse = order.rows(order.permutation(2))
    for strand in (False, True):
        assert sorted(rows[reverse == strand].tolist()) == order.windows.tolist()


def test_choice_depends_on_data_seed_only(split: store.Split) -> None:
    def chosen(seed: int, data_seed: int) -> list[int]:
        windows = Order.of(split, seed=seed, limit=7, data_seed=data_seed).windows
        assert windows is not None
        return windows.tolist()

    assert chosen(0, 0) == chosen(99, 0)
    assert len({tuple(chosen(0, data_seed)) for data_seed in range(5)}) == 5
    assert chosen(0, 3) == sorted(chosen(0, 3))  # read in the order of the file


def test_without_a_limit_all_windows(split: store.Split, tmp_path: Path) -> None:
    assert Order.of(split, seed=0).n_samples == 2 * N_WINDOWS
    whole = Order.of(split, seed=0, limit=N_WINDOWS)
    assert whole.windows is not None
    assert whole.windows.tolist() == list(range(N_WINDOWS))
    given = make_split(tmp_path / "given.h5", strands="as given")
    assert Order.of(given, seed=0).n_samples == N_WINDOWS


def test_limit_above_the_split_is_refused(split: store.Split) -> None:
    with pytest.raises(InputError, match=r"`train_limit=24`: .*train\.h5 has only 23 windows"):
        Order.of(split, seed=0, limit=24)


def test_split_without_windows_is_refused(tmp_path: Path) -> None:
    empty = make_split(tmp_path / "train.h5", n_windows=0)
    with pytest.raises(InputError, match=r"train\.h5: no windows to train on"):
        Order.of(empty, seed=0)


# ── batches ─────────────────────────────────────────────────────────────────


def test_read_batch_against_onehot(split: store.Split) -> None:
    """Forward rows as they are, the others with both one-hot axes flipped; same labels."""
    order = Order(N_WINDOWS, 2, 0)
    samples = np.array([4, 4 + N_WINDOWS, 0, 45])
    sequence, labels, ignore = read_batch(split, order, samples)
    onehot = dna.unpack_onehot(np.asarray(split.sequence), WINDOW)
    expected = [onehot[4], onehot[4, ::-1, ::-1], onehot[0], onehot[22, ::-1, ::-1]]
    np.testing.assert_array_equal(dna.unpack_onehot(sequence, WINDOW), np.stack(expected))
    np.testing.assert_array_equal(labels, split.labels[[4, 4, 0, 22]])
    assert split.ignore is not None
    np.testing.assert_array_equal(ignore, split.ignore[[4, 4, 0, 22]])


def test_reading_leaves_the_file_alone(split: store.Split) -> None:
    before = split.path.read_bytes()
    read_batch(split, Order(N_WINDOWS, 2, 0), np.arange(2 * N_WINDOWS))
    split.verify()
    assert split.path.read_bytes() == before


@pytest.mark.parametrize("strands", ["both", "as given"])
@pytest.mark.parametrize("with_ignore", [False, True])
def test_an_epoch_is_the_permutation_in_batches(
    tmp_path: Path, strands: str, with_ignore: bool
) -> None:
    split = make_split(tmp_path / "train.h5", strands=strands, with_ignore=with_ignore)
    order = Order.of(split, seed=8)
    dataset = epoch_batches(split, order, 3, batch_size=10)
    widths = [tuple(spec.shape) for spec in dataset.element_spec]
    assert widths == [(None, 8)] + [(None, 2)] * (2 if with_ignore else 1)
    batches = arrays(dataset)
    n_samples = order.n_samples
    sizes = [len(batch[0]) for batch in batches]
    assert sizes == [10] * (n_samples // 10) + [n_samples % 10]
    expected = read_batch(split, order, order.permutation(3))
    for position, part in enumerate(expected):
        joined = np.concatenate([batch[position] for batch in batches])
        assert joined.dtype == np.uint8
        np.testing.assert_array_equal(joined, part)


@pytest.mark.parametrize("first_step", [0, 1, 4, 5])
def test_continuing_gives_the_tail(split: store.Split, first_step: int) -> None:
    order = Order.of(split, seed=0)
    whole = arrays(epoch_batches(split, order, 1, batch_size=10))
    tail = arrays(epoch_batches(split, order, 1, batch_size=10, first_step=first_step))
    assert len(tail) == 5 - first_step
    for got, expected in zip(tail, whole[first_step:], strict=True):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_unpacked_is_float_onehot(split: store.Split) -> None:
    order = Order.of(split, seed=0)
    packed = arrays(epoch_batches(split, order, 0, batch_size=10))
    unpacked = arrays(epoch_batches(split, order, 0, batch_size=10, unpacked=True))
    for (onehot, *rest), (sequence, *expected) in zip(unpacked, packed, strict=True):
        assert onehot.dtype == np.float32
        np.testing.assert_array_equal(onehot, dna.unpack_onehot(sequence, WINDOW))
        for a, b in zip(rest, expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("replicas", [2, 3])
def test_replicas_share_each_batch(split: store.Split, replicas: int) -> None:
    order = Order.of(split, seed=0)
    whole = arrays(epoch_batches(split, order, 0, batch_size=10, first_step=1))
    parts = arrays(epoch_batches(split, order, 0, batch_size=10, first_step=1, replicas=replicas))
    assert len(parts) == replicas * len(whole)
    for step, expected in enumerate(whole):
        dealt = parts[step * replicas : (step + 1) * replicas]
        sizes = [len(part[0]) for part in dealt]
        assert max(sizes) - min(sizes) <= 1
        for position, array in enumerate(expected):
            joined = np.concatenate([part[position] for part in dealt])
            np.testing.assert_array_equal(joined, array)


def test_limited_epoch_holds_the_chosen_windows(split: store.Split) -> None:
    order = Order.of(split, seed=0, limit=3, data_seed=2)
    assert order.windows is not None
    rows = np.concatenate([b[0] for b in arrays(epoch_batches(split, order, 0, batch_size=4))])
    forward = split.sequence[order.windows]
    expected = np.concatenate([forward, dna.reverse_complement(forward, WINDOW)])
    assert sorted(map(bytes, rows)) == sorted(map(bytes, expected))


def test_order_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Order(1, 1, 0).seed = 1  # type: ignore[misc]
