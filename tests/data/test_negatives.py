"""Windows without a peak beside those with one, and peaks that speak of their strand alone."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from danq_keras.data.build import build_dataset
from danq_keras.data.negatives import Negatives, composition, draw_matching
from danq_keras.data.store import SPLITS, Dataset, Split
from danq_keras.genome.dna import (
    decode,
    encode,
    reverse_complement_codes,
    unpack_codes,
    unpack_labels,
)
from danq_keras.system.errors import InputError

WINDOW, BIN = 41, 21  # odd: the last half byte must stay empty
LENGTHS = {"a": 3000, "b": 900, "c": 900}


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    """Three chromosomes whose G and C grow along them."""
    rng, path = np.random.default_rng(3), tmp_path / "genome.fa"
    with path.open("w") as fasta:
        for chrom, length in LENGTHS.items():
            rich = rng.random(length) < np.linspace(0.2, 0.8, length)
            letters = np.where(rich, rng.choice(list("GC"), length), rng.choice(list("AT"), length))
            fasta.write(f">{chrom}\n{''.join(letters)}\n")
    return path


@pytest.fixture
def peaks() -> pd.DataFrame:
    rng, rows = np.random.default_rng(5), []
    for chrom, length in LENGTHS.items():
        for start in rng.integers(60, length - 80, length // 120).tolist():
            rows.append((chrom, start, start + 20, "+-"[start % 2]))
    return pd.DataFrame(rows, columns=["chrom", "start", "end", "strand"])


def built(out: Path, genome: Path, peaks: object, **choices: object) -> Dataset:
    return build_dataset(
        out,
        genome=genome,
        peaks=peaks if isinstance(peaks, dict) else {"factor": peaks},
        bin=BIN,
        window=WINDOW,
        valid_region="b",
        test_chroms=["c"],
        **choices,
    )


def rows(split: Split) -> list[tuple[str, int, str, int]]:
    letters = [decode(row) for row in unpack_codes(np.asarray(split.sequence), WINDOW)]
    labels = unpack_labels(split.labels, split.n_targets)[:, 0].tolist()
    return list(zip(split.chrom.tolist(), split.start.tolist(), letters, labels, strict=True))


def pairs(letters: str) -> Counter[tuple[str, str]]:
    return Counter(pairwise(letters))


def test_shuffles_stand_beside_their_windows(tmp_path, genome, peaks):
    plain = built(tmp_path / "plain", genome, peaks)
    dataset = built(tmp_path / "data", genome, peaks, negatives="shuffle:2", seed=1)
    for name in SPLITS:
        bound, every = rows(plain.split(name)), rows(dataset.split(name))
        assert len(every) == 3 * len(bound)
        assert sorted(row for row in every if row[3]) == sorted(bound)
        by_place = {row[:2]: row[2] for row in bound}
        for chrom, start, letters, label in every:
            original = by_place[chrom, start]
            if not label:
                assert pairs(letters) == pairs(original)
        assert sum(row[2] != by_place[row[:2]] for row in every) > 1.8 * len(bound)
    assert dataset.summary.n_windows == {name: dataset.split(name).n_windows for name in SPLITS}
    same = built(tmp_path / "same", genome, peaks, negatives="shuffle:2", seed=1)
    other = built(tmp_path / "other", genome, peaks, negatives="shuffle:2", seed=2)
    assert rows(same.train) == rows(dataset.train) != rows(other.train)


def test_windows_of_the_genome_match_and_stay_away(tmp_path, genome, peaks):
    exclude = tmp_path / "exclude.bed"
    exclude.write_text("a\t1000\t1400\n")
    second = peaks.iloc[::3].assign(start=lambda f: f["start"] + 30, end=lambda f: f["end"] + 30)
    both = {"factor": peaks.iloc[1::3], "other": second}
    plain = built(tmp_path / "plain", genome, both, exclude=exclude)
    dataset = built(tmp_path / "data", genome, both, exclude=exclude, negatives="genome")
    spans = [*peaks.iloc[1::3].itertuples(), *second.itertuples()]
    spans += [pd.Series({"chrom": "a", "start": 1000, "end": 1400})]
    for name in SPLITS:
        split, bound = dataset.split(name), plain.split(name)
        labels = unpack_labels(split.labels, 2).any(axis=1)
        assert labels.sum() == bound.n_windows
        assert (~labels).sum() == bound.n_windows
        starts = list(zip(split.chrom.tolist(), split.start.tolist(), strict=True))
        assert len(set(starts)) == len(starts)
        assert starts == sorted(starts)
        for (chrom, start), positive in zip(starts, labels, strict=True):
            near = any(
                chrom == s.chrom and s.start < start + WINDOW and start < s.end for s in spans
            )
            assert positive or not near
        codes = unpack_codes(np.asarray(split.sequence), WINDOW)
        share = np.isin(codes, (1, 2)).mean(axis=1)
        assert abs(share[labels].mean() - share[~labels].mean()) < 0.05
    assert dataset.summary.n_windows["train"] == dataset.train.n_windows
    reasons = dataset.summary.bins_left_out
    assert reasons["no peak, and not drawn as a negative"] > 0


def test_too_few_windows_are_said(tmp_path, genome, peaks, messages):
    dataset = built(tmp_path / "data", genome, peaks, negatives="genome:50")
    assert "fewer than 50 for each of" in messages.text
    assert (~unpack_labels(dataset.test.labels, 1).astype(bool)).sum() > 0


def test_composition_tells_gc_and_unknown_bases():
    codes = encode("AAAAAGGGGGCCCCCTTTTT" + "N" * 20 + "ACNGT" * 4)
    found = composition(codes, np.array([0, 5, 10, 20, 40]), 10)
    assert found.tolist() == [25, 49, 25, 200, 200 + 25]
    nearly = composition(encode("ACGTACGTAN"), np.array([0]), 10)
    assert nearly.tolist() == [100 + 22]


def test_the_nearest_composition_stands_in():
    rng = np.random.default_rng(0)
    offered = np.array([10, 10, 12, 30, 30, 30, 30], np.int16)
    drawn = draw_matching(np.array([10, 30], np.int16), offered, 3, rng)
    assert offered[drawn].tolist() == [10, 10, 12, 30, 30, 30]
    assert len(draw_matching(np.array([10, 30], np.int16), offered, 9, rng)) == len(offered)


def test_a_window_is_the_strand_that_has_the_peak(tmp_path, genome, peaks):
    dataset = built(tmp_path / "data", genome, peaks, strands="given")
    assert dataset.train.header.one_strand
    assert not dataset.train.both_strands
    forward = built(tmp_path / "forward", genome, peaks[peaks["strand"] == "+"])
    reverse = built(tmp_path / "reverse", genome, peaks[peaks["strand"] == "-"])
    for name in SPLITS:
        expected = rows(forward.split(name)) + [
            (chrom, start, decode(reverse_complement_codes(encode(letters))), label)
            for chrom, start, letters, label in rows(reverse.split(name))
        ]
        assert sorted(rows(dataset.split(name))) == sorted(expected)
    assert dataset.summary.n_windows["test"] == len(rows(dataset.test))


def test_strand_of_a_file(tmp_path, genome, peaks):
    bed = tmp_path / "factor.bed"
    peaks.assign(name="x", score=0)[["chrom", "start", "end", "name", "score", "strand"]].to_csv(
        bed, sep="\t", header=False, index=False
    )
    frame = built(tmp_path / "frame", genome, peaks, strands="given", negatives="genome")
    file = built(tmp_path / "file", genome, {"factor": bed}, strands="given", negatives="genome")
    assert rows(file.train) == rows(frame.train)
    labels = unpack_labels(file.train.labels, 1)[:, 0]
    assert (labels == 0).sum() == (labels == 1).sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="strand"), "needs the strand of every peak, .* Received: none"),
        (lambda f: f.assign(strand=["."] + ["+"] * (len(f) - 1)), "1 of .* peaks without, .* a:"),
    ],
)
def test_peaks_without_a_strand_are_refused(tmp_path, genome, peaks, change, message):
    with pytest.raises(InputError, match=message):
        built(tmp_path / "data", genome, change(peaks), strands="given")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"negatives": "genome:0"}, "`negatives`: shuffle, .* Received: 'genome:0'"),
        ({"negatives": "genome", "keep_unlabelled": True}, "exclude each other"),
        ({"negatives": "shuffle", "max_train": 5}, "exclude each other"),
        ({"strands": "forward"}, "`strands`: one of both, given"),
    ],
)
def test_choices_that_cannot_be(tmp_path, genome, peaks, choices, message):
    with pytest.raises(InputError, match=message):
        built(tmp_path / "data", genome, peaks, **choices)


def test_only_positives_are_warned_of(tmp_path, genome, peaks, messages):
    built(tmp_path / "data", genome, peaks)
    assert "1 of 1 targets have no negative in training (factor)" in messages.text
    assert "`negatives` genome or shuffle" in messages.text
    messages.clear()
    built(tmp_path / "more", genome, peaks, negatives="shuffle")
    assert "no negative" not in messages.text
    assert Negatives.parse("shuffle") == Negatives("shuffle", 1)
