"""Windows that two splits share: planted ones are found, by an independent count of k-mers too."""

from pathlib import Path

import numpy as np
import pytest

from danq_keras.data import duplicates
from danq_keras.data.duplicates import KMER, SKETCH, Overlap, count_duplicates, describe_overlaps
from danq_keras.data.store import Dataset, StoreHeader, open_store
from danq_keras.data.store_write import Rows, SplitWriter, new_dataset
from danq_keras.data.targets import Targets
from danq_keras.genome import dna
from danq_keras.genome.dna import Bytes, decode, encode, reverse_complement_codes

LENGTH = 400


def store(folder: Path, **splits: Bytes) -> Dataset:
    """A dataset of windows given as codes (n, LENGTH); a split without any is empty."""
    header = StoreHeader(LENGTH, 200, "both", Targets(("t",)), "synthetic")
    with new_dataset(folder, overwrite=True) as temporary:
        for name in ("train", "valid", "test"):
            codes = splits.get(name, np.zeros((0, LENGTH), np.uint8))
            labels = np.zeros((len(codes), 1), np.uint8)
            with SplitWriter(temporary / f"{name}.h5", header, n_windows=len(codes)) as writer:
                writer.append(Rows(dna.pack_codes(codes), labels))
    return open_store(folder)


def random_codes(rng: np.random.Generator, n: int) -> Bytes:
    return rng.integers(0, 4, (n, LENGTH), dtype=np.uint8)


def mutate(rng: np.random.Generator, codes: Bytes, n: int) -> Bytes:
    changed = codes.copy()
    for at in rng.choice(LENGTH, n, replace=False):
        changed[at] = (changed[at] + 1) % 4
    return changed


def canonical_kmers(codes: Bytes) -> set[str]:
    """Canonical k-mers as text, the slow way."""
    letters, other = decode(codes), decode(reverse_complement_codes(codes))[::-1]
    pairs = [
        (letters[i : i + KMER], other[i : i + KMER][::-1]) for i in range(len(letters) - KMER + 1)
    ]
    return {min(pair) for pair in pairs if "N" not in pair[0]}


def test_planted_copies_are_counted(tmp_path: Path, rng: np.random.Generator) -> None:
    train, test = random_codes(rng, 300), random_codes(rng, 60)
    test[0] = train[17]
    test[1] = reverse_complement_codes(train[290])
    test[2] = mutate(rng, train[5], 1)
    test[3] = mutate(rng, reverse_complement_codes(train[100]), 2)
    test[4, 60:] = train[200, :-60]  # shifted
    valid = np.concatenate([test[:1], random_codes(rng, 9)])
    counted = count_duplicates(store(tmp_path / "d", train=train, valid=valid, test=test))
    assert counted == [
        Overlap("valid", "train", 10, 1, 1),
        Overlap("test", "train", 60, 2, 5),
        Overlap("test", "valid", 60, 1, 1),
    ]


@pytest.mark.parametrize("smaller", [True, False])
def test_counts_equal_those_of_all_pairs(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, smaller: bool
) -> None:
    """Sketches of all pairs are compared as sets, one by one."""
    if smaller:
        for name, value in {"_BLOCK_ROWS": 7, "_INDEX_ROWS": 11, "_QUERY_ROWS": 5}.items():
            monkeypatch.setattr(duplicates, name, value)
    train = random_codes(rng, 40)
    test = np.stack([mutate(rng, train[i], int(rng.integers(0, 40))) for i in range(40)])
    test[::3] = reverse_complement_codes(test[::3])
    counted = count_duplicates(store(tmp_path / "d", train=train, test=test))

    sketches = [[set(row.tolist()) for row in duplicates._sketch(codes)] for codes in (train, test)]
    near = sum(any(len(a & b) * 2 >= SKETCH for a in sketches[0]) for b in sketches[1])
    assert 5 < near < 35
    assert counted[0].near == near


def test_sketch_is_of_the_lowest_canonical_kmers(rng: np.random.Generator) -> None:
    codes = random_codes(rng, 5)
    codes[1, 100:300] = codes[1, 100]  # a run of one base: few distinct k-mers
    codes[2, ::40] = 4
    codes[3, :390] = 4  # too few known bases for any k-mer
    codes[4, 30:] = 4
    hash_of = {}
    for row, letters in zip(codes, map(decode, codes), strict=True):
        hashes = duplicates._hash_kmers(row[None])[0]
        for at, value in enumerate(hashes.tolist()):
            kmer = letters[at : at + KMER]
            if "N" not in kmer:
                twin = decode(reverse_complement_codes(encode(kmer)))
                hash_of[min(kmer, twin)] = value
            else:
                assert value == duplicates._NONE
    sketches = duplicates._sketch(codes)
    assert sketches.shape == (5, SKETCH)
    for row, sketch in zip(codes, sketches, strict=True):
        expected = sorted({hash_of[kmer] for kmer in canonical_kmers(row)})[:SKETCH]
        assert [value for value in sketch.tolist() if value != duplicates._NONE] == expected
    other_strand = duplicates._sketch(reverse_complement_codes(codes))
    assert np.array_equal(sketches, other_strand)
    assert (sketches[3] == duplicates._NONE).all()
    assert 0 < (sketches[4] != duplicates._NONE).sum() < SKETCH


def test_windows_shorter_than_a_kmer_have_an_empty_sketch(rng: np.random.Generator) -> None:
    for length in (2, KMER - 2, KMER):
        sketch = duplicates._sketch(random_codes(rng, 3)[:, :length])
        assert sketch.shape == (3, SKETCH)
        assert (sketch != duplicates._NONE).sum() == 3 * (length == KMER)


def test_windows_without_a_known_base_are_not_counted(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    train, test = random_codes(rng, 5), random_codes(rng, 4)
    train[0] = test[0] = 4
    counted = count_duplicates(store(tmp_path / "d", train=train, test=test))
    assert counted == [Overlap("test", "train", 3, 0, 0)]


def test_row_hashes_differ_in_every_single_base(rng: np.random.Generator) -> None:
    codes = np.repeat(random_codes(rng, 1), 3 * LENGTH + 1, axis=0)
    for at in range(LENGTH):
        for change in range(3):
            codes[3 * at + change, at] = (codes[-1, at] + change + 1) % 4
    assert len(np.unique(duplicates._hash_rows(dna.pack_codes(codes)))) == 3 * LENGTH + 1


def test_large_repeat_families_are_found(tmp_path: Path, rng: np.random.Generator) -> None:
    unit = random_codes(rng, 1)
    train = np.concatenate([random_codes(rng, 20), np.repeat(unit, 500, axis=0)])
    test = np.stack([mutate(rng, unit[0], 1) for _ in range(30)])
    counted = count_duplicates(store(tmp_path / "d", train=train, test=test))
    assert counted == [Overlap("test", "train", 30, 0, 30)]


def test_splits_without_windows_are_passed_over(tmp_path: Path, rng: np.random.Generator) -> None:
    assert count_duplicates(store(tmp_path / "d", train=random_codes(rng, 3))) == []
    assert "only one split has windows" in describe_overlaps([])
    text = describe_overlaps([Overlap("test", "train", 200, 1, 3)])
    assert "test in train: 1 (0.50%) equal, 3 (1.50%) equal or near, of 200" in text
