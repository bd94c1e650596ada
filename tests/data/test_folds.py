import h5py
import numpy as np
import pytest
import tiny

from danq_keras.data import folds
from danq_keras.data.folds import Fold
from danq_keras.data.store import SPLITS, open_store
from danq_keras.system.errors import InputError


def test_chromosomes_are_dealt_by_hand():
    """10, 9 and 8 open the folds; 4 goes to the 8, 3 to the 9 and 2 to the 10."""
    counts = {"chr2": 9, "chr10": 2, "chr1": 10, "chr3": 8, "chr4": 3, "chrX": 4}
    assert folds.deal_chromosomes(counts, 3) == [
        Fold(("chr1", "chr10"), 12),
        Fold(("chr2", "chr4"), 12),
        Fold(("chr3", "chrX"), 12),
    ]


def test_ties_go_by_natural_order_whatever_the_order_given():
    names = ["chr10", "chr2", "chrX", "chr1", "2L", "scaffold"]
    dealt = folds.deal_chromosomes(dict.fromkeys(names, 5), 3)
    assert dealt == folds.deal_chromosomes(dict.fromkeys(reversed(names), 5), 3)
    first, second, third = (fold.chroms for fold in dealt)
    assert (first, second, third) == (("2L", "chr10"), ("chr1", "chrX"), ("chr2", "scaffold"))


def test_folds_are_about_equal(rng):
    counts = {f"chr{i}": int(n) for i, n in enumerate(rng.integers(1, 1000, 30))}
    dealt = folds.deal_chromosomes(counts, 5)
    assert sorted(chrom for fold in dealt for chrom in fold.chroms) == sorted(counts)
    sizes = [sum(counts[chrom] for chrom in fold.chroms) for fold in dealt]
    assert sizes == [fold.n_windows for fold in dealt]
    assert max(sizes) < 4 / 3 * sum(counts.values()) / 5  # the greedy rule's bound


@pytest.mark.parametrize(
    ("n_folds", "message"),
    [(2, "at least 3 .* Received: 2"), (5, "`folds=5`: the dataset has windows on 4 chromosomes")],
)
def test_too_few_are_refused(n_folds, message):
    with pytest.raises(InputError, match=message):
        folds.deal_chromosomes(dict.fromkeys("abcd", 1), n_folds)


def test_each_fold_is_tested_and_validated_once():
    dealt = [Fold((name,), 1) for name in "abcd"]
    splits = [folds.split_of_fold(dealt, number) for number in range(4)]
    assert [each["test"] for each in splits] == [("a",), ("b",), ("c",), ("d",)]
    assert [each["valid"] for each in splits] == [("b",), ("c",), ("d",), ("a",)]
    assert splits[3]["train"] == ("b", "c")


@pytest.mark.parametrize("ignore", [False, True])
def test_a_folds_dataset_holds_the_rows_of_its_chromosomes(tmp_path, ignore):
    source = tiny.make_dataset(tmp_path / "source", n_chroms=5, ignore=ignore)
    dealt = folds.deal_dataset(source, 3)
    tested = []
    for number in range(3):
        folder = tmp_path / f"fold-{number}"
        n_bytes = folds.write_fold(source, dealt, number, folder)
        assert n_bytes == sum(path.stat().st_size for path in folder.iterdir())
        fold = open_store(folder)
        fold.verify()
        assert fold.targets == source.targets
        assert fold.train.header.source.endswith(f"fold {number} of 3")
        rows_of = {name: set(fold.split(name).chrom) for name in SPLITS}
        assert rows_of == {
            name: set(chroms) for name, chroms in folds.split_of_fold(dealt, number).items()
        }
        assert sum(fold.split(name).n_windows for name in SPLITS) == 83
        tested += rows(fold.test)
        assert sorted(row for name in SPLITS for row in rows(fold.split(name))) == sorted(
            row for name in SPLITS for row in rows(source.split(name))
        )
    assert sorted(tested) == sorted(row for name in SPLITS for row in rows(source.split(name)))


def rows(split):
    """Every row as bytes and coordinates."""
    parts = [split.sequence, split.labels] + ([] if split.ignore is None else [split.ignore])
    packed = np.concatenate(parts, axis=1)
    return [
        (packed[i].tobytes(), str(split.chrom[i]), int(split.start[i])) for i in range(len(packed))
    ]


def test_rows_keep_their_order(tmp_path):
    source = tiny.make_dataset(tmp_path / "source", n_chroms=5)
    folds.write_fold(source, folds.deal_dataset(source, 3), 0, tmp_path / "fold")
    fold = open_store(tmp_path / "fold")
    everything = [row for name in SPLITS for row in rows(source.split(name))]
    chosen = [row for row in everything if row[1] in set(fold.train.chrom)]
    assert rows(fold.train) == chosen


def test_ignore_of_some_splits_is_none_elsewhere(tmp_path):
    source = tiny.make_dataset(tmp_path / "source", n_chroms=3, ignore=True)
    with h5py.File(source.valid.path, "r+") as file:
        del file["ignore"], file.attrs["ignore_sha256"]
    source = open_store(source.folder)
    folds.write_fold(source, folds.deal_dataset(source, 3), 0, tmp_path / "fold")
    fold = open_store(tmp_path / "fold")
    total = sum(int(np.bitwise_count(fold.split(name).ignore).sum()) for name in SPLITS)
    kept = (source.train, source.test)
    assert total == sum(int(np.bitwise_count(split.ignore).sum()) for split in kept)


def test_no_coordinates_or_mixed_strands_are_refused(tmp_path):
    source = tiny.make_dataset(tmp_path / "source", n_chroms=3)
    with h5py.File(source.valid.path, "r+") as file:
        file.attrs["strands"] = "as given"
    with pytest.raises(InputError, match=r"valid.h5: strands are 'as given', those of train.h5"):
        folds.deal_dataset(open_store(source.folder), 3)
    with h5py.File(source.test.path, "r+") as file:
        del file["chrom"], file["start"]
    with h5py.File(source.valid.path, "r+") as file:
        file.attrs["strands"] = "both"
    with pytest.raises(InputError, match=r"test.h5: `folds` deals .* no coordinates"):
        folds.deal_dataset(open_store(source.folder), 3)


def test_nothing_is_written_over(tmp_path):
    source = tiny.make_dataset(tmp_path / "source", n_chroms=3)
    with pytest.raises(InputError, match="already exists"):
        folds.write_fold(source, folds.deal_dataset(source, 3), 0, source.folder)
