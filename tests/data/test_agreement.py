"""Two datasets side by side, with every count done again by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from danq_keras.data import agreement
from danq_keras.data.agreement import compare_datasets
from danq_keras.data.store import Dataset, StoreHeader, open_store
from danq_keras.data.store_write import Rows, SplitWriter, new_dataset
from danq_keras.data.targets import Targets
from danq_keras.genome import dna
from danq_keras.system.errors import InputError

LENGTH, N_TARGETS = 40, 11
NAMES = tuple(f"t{i}" for i in range(N_TARGETS))
Arrays = dict[str, np.ndarray]


def arrays(rng: np.random.Generator, n: int = 30) -> dict[str, Arrays]:
    return {
        name: {
            "codes": rng.integers(0, 5, (n, LENGTH), dtype=np.uint8),
            "labels": rng.random((n, N_TARGETS)) < 0.3,
            "start": np.arange(n) * 200,
        }
        for name in ("train", "valid", "test")
    }


def store(
    folder: Path,
    splits: dict[str, Arrays],
    *,
    names: tuple[str, ...] = NAMES,
    located: bool = False,
    strands: str = "both",
) -> Dataset:
    header = StoreHeader(LENGTH, 20, strands, Targets(names), "synthetic")
    with new_dataset(folder, overwrite=True) as temporary:
        for name, parts in splits.items():
            n = len(parts["codes"])
            ignore = parts.get("ignore")
            rows = Rows(
                dna.pack_codes(parts["codes"]),
                dna.pack_labels(parts["labels"]),
                ignore=None if ignore is None else dna.pack_labels(ignore),
                chrom=np.full(n, "chr1") if located else None,
                start=parts["start"] if located else None,
            )
            with SplitWriter(
                temporary / f"{name}.h5",
                header,
                n_windows=n,
                with_ignore=ignore is not None,
                chrom_width=4 * located,
            ) as writer:
                writer.append(rows)
    return open_store(folder)


@pytest.mark.parametrize("block", [4, 1 << 14])
def test_rows_without_coordinates_are_matched_by_number(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(agreement, "_BLOCK_ROWS", block)
    first, second = arrays(rng), arrays(rng)
    for name in first:
        second[name]["codes"] = first[name]["codes"].copy()
    first["train"]["codes"][3, 5], second["train"]["codes"][3, 5] = 0, 2  # two values
    first["train"]["codes"][7, 9], second["train"]["codes"][7, 9] = 4, 1  # one value
    for split in (first, second):
        split["valid"]["labels"][:, 4] = split["test"]["labels"][:, 4] = False
        split["train"]["labels"][:, 4] = False
    result = compare_datasets(store(tmp_path / "a", first), store(tmp_path / "b", second))
    train = result.splits[0]
    assert (train.rows_a, train.rows_b, train.matched, train.equal_sequences) == (30, 30, 30, 28)
    assert train.differing_values == 3
    for part in result.splits:
        a, b = first[part.name]["labels"], second[part.name]["labels"]
        assert part.positives_a.tolist() == a.sum(axis=0).tolist()
        assert part.positives_b.tolist() == b.sum(axis=0).tolist()
        assert part.shared.tolist() == (a & b).sum(axis=0).tolist()
    result.save(tmp_path / "agreement.tsv")
    table = pd.read_csv(tmp_path / "agreement.tsv", sep="\t", dtype=str, na_filter=False)
    assert table["name"].tolist() == list(NAMES)
    both, either = (
        sum(operation(first[n]["labels"], second[n]["labels"]).sum(axis=0) for n in first)
        for operation in (np.logical_and, np.logical_or)
    )
    expected = [f"{s / e:.6f}" if e else "NA" for s, e in zip(both, either, strict=True)]
    assert table["agreement"].tolist() == expected
    assert expected[4] == table["test_agreement"][4] == "NA"
    text = result.describe()
    assert "Rows matched by row number." in text
    assert "Agreement of 10 targets with positives" in text


def test_rows_with_coordinates_are_matched_by_them(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    first = arrays(rng)
    second = {
        name: {key: values[::-1][:25] for key, values in parts.items()}
        for name, parts in first.items()
    }
    a = store(tmp_path / "a", first, located=True)
    result = compare_datasets(a, store(tmp_path / "b", second, located=True))
    for part in result.splits:
        assert (part.rows_a, part.rows_b, part.matched, part.equal_sequences) == (30, 25, 25, 25)
        assert np.array_equal(part.shared, part.positives_a)
        assert part.shared.tolist() == second[part.name]["labels"].sum(axis=0).tolist()
    assert "Rows matched by coordinates." in result.describe()
    assert "11 agree in all." in result.describe()
    with pytest.raises(InputError, match=r"matched by number, .*train\.h5 30, .*train\.h5 25"):
        compare_datasets(a, store(tmp_path / "c", second))


def test_datasets_without_a_common_window_are_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    first = arrays(rng)
    moved = {name: {**parts, "start": parts["start"] + 7} for name, parts in first.items()}
    moved["train"] = {key: values[:0] for key, values in moved["train"].items()}
    a, b = (
        store(tmp_path / name, parts, located=True) for name, parts in (("a", first), ("b", moved))
    )
    with pytest.raises(
        InputError, match=r"first windows: chr1:0 and chr1:7\. Name the chromosomes"
    ):
        compare_datasets(a, b)


def test_targets_are_joined_by_name_or_on_request_by_number(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    first = arrays(rng)
    second = {n: {**parts, "labels": parts["labels"][:, ::-1]} for n, parts in first.items()}
    a = store(tmp_path / "a", first)
    same = compare_datasets(a, store(tmp_path / "b", second, names=NAMES[::-1]))
    assert all(np.array_equal(part.shared, part.positives_b) for part in same.splits)
    other = store(tmp_path / "c", first, names=tuple(f"x{i}" for i in range(N_TARGETS)))
    with pytest.raises(
        InputError, match=r"22 names that only one has: t0, .* Pass `by_number=True`"
    ):
        compare_datasets(a, other)
    by_number = compare_datasets(a, other, by_number=True)
    assert all(np.array_equal(part.shared, part.positives_b) for part in by_number.splits)
    fewer = {n: {**parts, "labels": parts["labels"][:, :3]} for n, parts in first.items()}
    with pytest.raises(InputError, match=r"as many targets\. Received: 11 and 3"):
        compare_datasets(a, store(tmp_path / "d", fewer, names=NAMES[:3]), by_number=True)


def test_labels_that_do_not_count_are_not_compared(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    first = arrays(rng)
    second = {n: {**parts, "labels": ~parts["labels"]} for n, parts in first.items()}
    for splits in (first, second):
        for parts in splits.values():
            parts["ignore"] = rng.random((30, N_TARGETS)) < 0.2
    result = compare_datasets(
        store(tmp_path / "a", first), store(tmp_path / "b", second, names=NAMES)
    )
    for part in result.splits:
        counts = ~(first[part.name]["ignore"] | second[part.name]["ignore"])
        assert part.ignored == (~counts).sum()
        expected = (first[part.name]["labels"] & counts).sum(axis=0)
        assert part.positives_a.tolist() == expected.tolist()
        assert part.shared.sum() == 0
    assert "labels do not count in A or B" in result.describe()


def test_other_strands_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    splits = arrays(rng)
    a = store(tmp_path / "a", splits)
    with pytest.raises(
        InputError, match=r"must have the same strands\. Received: .* both, .* as gi"
    ):
        compare_datasets(a, store(tmp_path / "b", splits, strands="as given"))


def test_no_positive_at_all(tmp_path: Path, rng: np.random.Generator) -> None:
    splits = arrays(rng)
    for parts in splits.values():
        parts["labels"][:] = False
    a = store(tmp_path / "a", splits)
    text = compare_datasets(a, a).describe()
    assert "No target has a positive in A or B." in text
    assert text.count("NA") == 3
