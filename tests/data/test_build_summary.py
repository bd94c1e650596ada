"""The summary is readable with few targets and with many."""

from collections import Counter

import numpy as np
import pytest

from danq_keras.data.build_summary import BuildSummary, Stopwatch
from danq_keras.data.targets import Targets


def summary(n_targets: int) -> BuildSummary:
    positives = np.arange(3 * n_targets).reshape(3, n_targets) * 1000
    return BuildSummary(
        targets=Targets(tuple(f"target{i}" for i in range(n_targets))),
        n_windows={"train": 2_200_000, "valid": 4000, "test": 227_512},
        positives=positives,
        bins_left_out=Counter({"no peak": 12_000_000, "in no split": 0}),
        n_peaks=1_500_000,
        peaks_left_out=Counter(),
        seconds=61.0,
        stages={"labelling bins": 12.34},
    )


def test_few_targets_are_all_listed() -> None:
    text = summary(39).describe()
    for i in range(39):
        columns = f"{i * 1000:,} {(i + 39) * 1000:,} {(i + 78) * 1000:,} target{i}"
        assert f"{i} {columns}" in " ".join(text.split())
    assert "12,000,000  no peak" in text
    assert "in no split" not in text
    assert "Peaks that gave no bin a label, of 1,500,000: 0" in text
    assert "12.3 s  labelling bins" in text
    assert max(map(len, text.splitlines())) <= 100


def test_of_many_targets_the_rarest_are_listed() -> None:
    text = summary(919).describe()
    assert len(text.splitlines()) < 35
    assert "target9" in text
    assert "target10" not in text
    assert "Positive bins of a target: 2,757,000 to 5,511,000, median 4,134,000 (all:" in text


def test_stages_add_up_even_when_one_fails() -> None:
    watch = Stopwatch()
    for _ in range(2):
        with watch.stage("a"):
            pass
    with pytest.raises(KeyError), watch.stage("b"):
        raise KeyError
    assert list(watch.seconds) == ["a", "b"]
    assert all(seconds >= 0 for seconds in watch.seconds.values())
