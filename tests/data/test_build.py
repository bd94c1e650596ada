"""FASTA + BED → store, against a build that goes base by base."""

import contextlib
import dataclasses
import gzip
import hashlib
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from danq_keras.data import build, build_write
from danq_keras.data.build import BuildSummary, build_dataset, build_from_spec
from danq_keras.data.labels import NOT_IN_GENOME
from danq_keras.data.spec import BuildChoices, GenomeSpec
from danq_keras.data.store import SPLITS, Dataset, count_positives, open_store
from danq_keras.genome.dna import decode, unpack_codes, unpack_labels
from danq_keras.system.errors import InputError
from danq_keras.system.files import PathLike
from danq_keras.system.shipped import resource_path

BIN, WINDOW, FLANK = 20, 60, 20
LENGTHS = {"a": 1010, "b": 605, "c": 400}
N_TARGETS = 10


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with genome.fa and t0.bed … t9.bed."""
    rng = np.random.default_rng(7)
    folder = tmp_path / "sources"
    folder.mkdir()
    with (folder / "genome.fa").open("w") as fasta:
        for chrom, length in LENGTHS.items():
            letters = "".join(rng.choice(list("ACGTacgtN"), length))
            fasta.write(f">{chrom}\n{letters}\n")
    for target in range(N_TARGETS):
        with (folder / f"t{target}.bed").open("w") as bed:
            bed.write("a\t0\t15\n")  # a bin that has no room for its window
            for chrom, length in LENGTHS.items():
                for start in rng.integers(0, length - 40, 5):
                    bed.write(f"{chrom}\t{start}\t{start + rng.integers(5, 40)}\n")
    return folder


def spec_of(sources: Path, **changes: object) -> GenomeSpec:
    spec = GenomeSpec(
        genome=sources / "genome.fa",
        peaks=tuple(sources / f"t{i}.bed" for i in range(N_TARGETS)),
        bin=BIN,
        window=WINDOW,
        test_chroms=("c",),
        valid_region="a:401-600",
    )
    return dataclasses.replace(spec, **changes)  # type: ignore[arg-type]


def built(tmp_path: Path, spec: GenomeSpec) -> tuple[Dataset, BuildSummary]:
    summary = build_from_spec(tmp_path / "out", spec, overwrite=True)
    return open_store(tmp_path / "out"), summary


def read_genome(sources: Path) -> dict[str, str]:
    lines = (sources / "genome.fa").read_text().split()
    return {name[1:]: letters for name, letters in zip(lines[::2], lines[1::2], strict=True)}


def slow_labels(sources: Path) -> dict[str, np.ndarray]:
    """Chromosome → (length, T) bool, whether each base lies in a peak."""
    covered = {chrom: np.zeros((n, N_TARGETS), bool) for chrom, n in LENGTHS.items()}
    for target in range(N_TARGETS):
        for line in (sources / f"t{target}.bed").read_text().splitlines():
            chrom, start, end = line.split("\t")[:3]
            covered[chrom][int(start) : int(end), target] = True
    return covered


def slow_build(sources: Path) -> tuple[dict[str, list[tuple[str, int, str, list[int]]]], Counter]:
    """Rows (chrom, window start, letters, labels) by split, and reasons, one bin at a time."""
    genome, covered = read_genome(sources), slow_labels(sources)
    rows: dict[str, list[tuple[str, int, str, list[int]]]] = {name: [] for name in SPLITS}
    reasons: Counter = Counter()
    for chrom, length in LENGTHS.items():
        for start in range(0, length, BIN):
            labels = (covered[chrom][start : start + BIN].sum(axis=0) > BIN / 2).astype(int)
            first, last = start - FLANK, start + BIN + FLANK
            split = "train"
            if chrom == "c":
                split = "test"
            elif chrom == "a" and start >= 400 and start + BIN <= 600:
                split = "valid"
            if start + BIN > length:
                reasons[build.SHORT] += 1
            elif first < 0 or last > length:
                reasons[build.PAST_END] += 1
            elif not labels.any():
                reasons[build.UNLABELLED] += 1
            else:
                letters = "".join(
                    x if x in "ACGT" else "N" for x in genome[chrom][first:last].upper()
                )
                rows[split].append((chrom, first, letters, labels.tolist()))
    held = [(row[0], row[1] + FLANK) for row in rows["valid"] + rows["test"]]
    near = [
        row
        for row in rows["train"]
        if any(row[0] == c and row[1] < s + BIN and row[1] + WINDOW > s for c, s in held)
    ]
    rows["train"] = [row for row in rows["train"] if row not in near]
    reasons[build.ADJACENT] += len(near)
    return rows, +reasons


def rows_of(dataset: Dataset, name: str) -> list[tuple[str, int, str, list[int]]]:
    split = dataset.split(name)
    assert split.chrom is not None
    assert split.start is not None
    codes = unpack_codes(np.asarray(split.sequence), split.header.window)
    letters = [decode(row) for row in codes]
    labels = unpack_labels(np.asarray(split.labels), split.n_targets).tolist()
    return list(zip(split.chrom.tolist(), split.start.tolist(), letters, labels, strict=True))


def test_build_equals_the_slow_one(tmp_path: Path, sources: Path) -> None:
    dataset, summary = built(tmp_path, spec_of(sources))
    expected, reasons = slow_build(sources)
    for row, name in enumerate(SPLITS):
        assert rows_of(dataset, name) == expected[name]
        assert len(expected[name]) > 3
        assert summary.n_windows[name] == len(expected[name])
        assert summary.positives[row].tolist() == np.sum([r[3] for r in expected[name]], 0).tolist()
        assert np.array_equal(count_positives(dataset.split(name)), summary.positives[row])
        assert dataset.split(name).both_strands
        dataset.split(name).verify()
    assert reasons[build.ADJACENT] > 0
    assert summary.bins_left_out == reasons
    n_bins = sum(-(-length // BIN) for length in LENGTHS.values())
    assert sum(summary.n_windows.values()) + summary.bins_left_out.total() == n_bins


def test_peaks_without_a_label_are_counted(tmp_path: Path, sources: Path) -> None:
    _, summary = built(tmp_path, spec_of(sources))
    kept = {
        (row[0], row[1] + FLANK, target)
        for rows in slow_build(sources)[0].values()
        for row in rows
        for target in np.flatnonzero(row[3])
    }
    covered = slow_labels(sources)
    counts: Counter = Counter()
    for target in range(N_TARGETS):
        for line in (sources / f"t{target}.bed").read_text().splitlines():
            chrom, start, end = line.split("\t")
            bins = range(int(start) // BIN * BIN, int(end), BIN)
            whole = [b for b in bins if b + BIN <= LENGTHS[chrom]]
            if any((chrom, b, target) in kept for b in whole):
                continue
            any_bin = any(covered[chrom][b : b + BIN, target].sum() > BIN / 2 for b in whole)
            counts[build.BINS_LEFT_OUT if any_bin else build.NO_BIN] += 1
    assert counts[build.NO_BIN] > 0
    assert counts[build.BINS_LEFT_OUT] > 0
    assert summary.peaks_left_out == counts
    assert summary.n_peaks == (5 * len(LENGTHS) + 1) * N_TARGETS


def test_gzip_and_plain_give_the_same(tmp_path: Path, sources: Path) -> None:
    dataset, _ = built(tmp_path, spec_of(sources))
    plain = dataset.fingerprints()
    packed = sources / "packed.fa.gz"
    packed.write_bytes(gzip.compress((sources / "genome.fa").read_bytes()))
    for target in range(N_TARGETS):
        bed = sources / f"t{target}.bed"
        bed.with_name(f"t{target}.bed.gz").write_bytes(gzip.compress(bed.read_bytes()))
    again, _ = built(
        tmp_path,
        spec_of(
            sources,
            genome=packed,
            peaks=tuple(sources / f"t{i}.bed.gz" for i in range(N_TARGETS)),
        ),
    )
    assert again.fingerprints() == plain


def test_chromosomes_and_peaks_in_any_order_give_the_same(
    tmp_path: Path, sources: Path, rng: np.random.Generator
) -> None:
    before = built(tmp_path, spec_of(sources))[0]
    rows = {name: rows_of(before, name) for name in SPLITS}
    for target in range(N_TARGETS):
        lines = (sources / f"t{target}.bed").read_text().splitlines(keepends=True)
        (sources / f"t{target}.bed").write_text("".join(rng.permutation(lines)))
    assert built(tmp_path, spec_of(sources))[0].fingerprints() == before.fingerprints()
    genome = read_genome(sources)
    (sources / "genome.fa").write_text("".join(f">{c}\n{genome[c]}\n" for c in ("c", "b", "a")))
    turned = built(tmp_path, spec_of(sources))[0]
    for name in SPLITS:
        assert sorted(rows_of(turned, name)) == sorted(rows[name])
        chroms = [row[0] for row in rows_of(turned, name)]
        assert chroms == sorted(chroms, reverse=True)


def test_small_blocks_give_the_same(
    tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = built(tmp_path, spec_of(sources))[0].fingerprints()
    monkeypatch.setattr(build_write, "_BLOCK_ROWS", 3)
    assert built(tmp_path, spec_of(sources))[0].fingerprints() == plain


def test_adjacent_windows_can_be_kept(tmp_path: Path, sources: Path) -> None:
    dataset, summary = built(tmp_path, spec_of(sources, allow_adjacent=True))
    strict, reasons = slow_build(sources)
    assert dataset.train.n_windows == len(strict["train"]) + reasons[build.ADJACENT]
    assert build.ADJACENT not in summary.bins_left_out


def test_keep_unlabelled_keeps_every_whole_bin(tmp_path: Path, sources: Path) -> None:
    _, summary = built(tmp_path, spec_of(sources, keep_unlabelled=True, allow_adjacent=True))
    whole = sum(length // BIN for length in LENGTHS.values())
    # The first and the last bin have no room for the window; of a, 1010 = 50 * 20 + 10 leaves
    # 10 bases after the last whole bin, too few as well.
    assert sum(summary.n_windows.values()) == whole - 2 * len(LENGTHS)


def test_keep_if_by_name_number_and_group(tmp_path: Path, sources: Path) -> None:
    table = sources / "targets.tsv"
    table.write_text(
        "file\tname\tgroup\n"
        + "".join(f"t{i}.bed\tT{i}\t{'TF' if i in (2, 5) else 'DNase'}\n" for i in range(N_TARGETS))
    )
    spec = spec_of(sources, peaks=(), targets=table)
    seen = []
    for keep_if in (("T2", "5"), ("TF",)):
        dataset, summary = built(tmp_path, dataclasses.replace(spec, keep_if=keep_if))
        rows = [row for name in SPLITS for row in rows_of(dataset, name)]
        assert all(row[3][2] or row[3][5] for row in rows)
        assert summary.bins_left_out[build.UNWANTED] > 0
        assert dataset.targets.group[2] == "TF"
        seen.append(dataset.fingerprints())
    assert seen[0] == seen[1]
    with pytest.raises(InputError, match=r"Unknown target 'T77'"):
        built(tmp_path, dataclasses.replace(spec, keep_if=("T77",)))


def test_excluded_bins_are_left_out(tmp_path: Path, sources: Path) -> None:
    (sources / "bad.bed").write_text("a\t119\t121\nb\t0\t300\n")
    spec = spec_of(sources, exclude=sources / "bad.bed", keep_unlabelled=True)
    dataset, summary = built(tmp_path, spec)
    bins = {(row[0], row[1] + FLANK) for name in SPLITS for row in rows_of(dataset, name)}
    assert ("a", 100) not in bins  # base 119 is its last
    assert ("a", 120) not in bins
    assert ("a", 140) in bins
    assert min(start for chrom, start in bins if chrom == "b") == 300
    assert summary.bins_left_out[build.EXCLUDED] == 2 + 14  # bin 0 of b has no room anyway


def test_windows_with_too_many_unknown_bases_are_left_out(tmp_path: Path, sources: Path) -> None:
    letters = {"a": "ACGTA" * 100 + "N" * 30 + "ACGTA" * 100}
    (sources / "genome.fa").write_text(f">a\n{letters['a']}\n")
    (sources / "t0.bed").write_text("a\t100\t200\n")
    spec = spec_of(
        sources,
        peaks=(sources / "t0.bed",),
        test_chroms=(),
        valid_region=None,
        keep_unlabelled=True,
    )
    for share in (0.0, 0.25, 0.5, 0.3):
        dataset, summary = built(tmp_path, dataclasses.replace(spec, max_unknown=share))
        counts = [letters["a"][s : s + WINDOW].count("N") for s in range(0, 1030 - WINDOW + 1, BIN)]
        # In whole bases, so that no rounding decides: 0.3 * 60 = 18.
        most = round(share * WINDOW)
        assert dataset.train.n_windows == sum(n <= most for n in counts)
        assert summary.bins_left_out[build.UNKNOWN_BASES] == sum(n > most for n in counts)


def test_listed_bins_come_in_their_order(tmp_path: Path, sources: Path) -> None:
    listed = ["b 300 320", "b 100 120", "b 103 123", "b 100 120", "a 700 720", "x 5 25", "c 40 60"]
    (sources / "bins.bed").write_text("".join(line.replace(" ", "\t") + "\n" for line in listed))
    spec = spec_of(sources, bins=sources / "bins.bed", keep_unlabelled=True)
    dataset, summary = built(tmp_path, spec)
    rows = rows_of(dataset, "train")
    assert [(row[0], row[1] + FLANK) for row in rows] == [
        ("b", 300),
        ("b", 100),
        ("b", 103),
        ("a", 700),
    ]
    covered, genome = slow_labels(sources), read_genome(sources)
    for chrom, start, letters, labels in rows:
        counts = covered[chrom][start + FLANK : start + FLANK + BIN].sum(axis=0)
        assert labels == (counts > BIN / 2).astype(int).tolist()
        assert letters[FLANK] in (genome[chrom][start + FLANK].upper(), "N")
    assert summary.bins_left_out == {build.TWICE: 1, NOT_IN_GENOME: 1}


def test_listed_bins_of_another_length_are_refused(tmp_path: Path, sources: Path) -> None:
    (sources / "bins.bed").write_text("a\t0\t20\na\t20\t41\n")
    with pytest.raises(InputError, match=r"every bin must have 20 bases. Received a:20-41"):
        built(tmp_path, spec_of(sources, bins=sources / "bins.bed"))


def test_chosen_chromosomes_and_their_order(tmp_path: Path, sources: Path) -> None:
    spec = spec_of(sources, chroms=("c", "a"))
    dataset, summary = built(tmp_path, dataclasses.replace(spec, test_chroms=()))
    assert list(dict.fromkeys(row[0] for row in rows_of(dataset, "train"))) == ["c", "a"]
    assert summary.bins_left_out[build.NOT_CHOSEN] == -(-LENGTHS["b"] // BIN)
    with pytest.raises(InputError, match=r"splits name chromosomes that are not in `chroms`: c"):
        built(tmp_path, dataclasses.replace(spec, chroms=("a", "b")))
    with pytest.raises(InputError, match=r"`chroms`: genome\.fa has no chr1"):
        built(tmp_path, dataclasses.replace(spec, chroms=("chr1",)))


def test_split_table_takes_the_place_of_the_options(tmp_path: Path, sources: Path) -> None:
    table = sources / "splits.tsv"
    table.write_text("chrom\tsplit\tstart\tend\na\ttest\t0\t310\nb\ttrain\t\t\n")
    spec = spec_of(sources, test_chroms=(), valid_region=None, split_table=table)
    dataset, summary = built(tmp_path, dataclasses.replace(spec, keep_unlabelled=True))
    assert {row[0] for row in rows_of(dataset, "train")} == {"b"}
    assert [row[1] + FLANK for row in rows_of(dataset, "test")] == list(range(20, 300, 20))
    assert dataset.valid.n_windows == 0
    assert summary.bins_left_out[build.BORDER] == 1  # the bin at 300
    assert summary.bins_left_out[build.SPLITLESS] == (48 - 15) + 18  # of a after 320, all of c


def test_overlap_is_compared_exactly(tmp_path: Path, sources: Path) -> None:
    # 0.29 * 100 is 28.999… in floating point: 29 covered bases are not more than 29 %.
    (sources / "genome.fa").write_text(f">a\n{'ACGT' * 200}\n")
    (sources / "t0.bed").write_text("a\t200\t229\na\t300\t330\n")
    spec = spec_of(
        sources,
        peaks=(sources / "t0.bed",),
        bin=100,
        window=100,
        min_overlap=0.29,
        test_chroms=(),
        valid_region=None,
    )
    dataset, _ = built(tmp_path, spec)
    assert dataset.train.start is not None
    assert dataset.train.start.tolist() == [300]


def test_targets_without_a_positive_are_named(
    tmp_path: Path, sources: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("danq_keras"), "propagate", True)
    (sources / "t3.bed").write_text("b\t100\t140\nzz\t5\t9\n")
    built(tmp_path, spec_of(sources))
    assert "1 of 10 targets have no positive in the test split: t3." in caplog.text
    assert (
        "1 peaks lie on 1 chromosomes that the FASTA lacks and are left out: zz (1)" in caplog.text
    )
    caplog.clear()
    built(tmp_path, spec_of(sources, valid_region=None))
    assert "The valid split has no windows." in caplog.text


def test_summary_tells_all(tmp_path: Path, sources: Path) -> None:
    _, summary = built(tmp_path, spec_of(sources))
    text = summary.describe()
    for count in (*summary.bins_left_out.items(), *summary.peaks_left_out.items()):
        assert f"{count[1]}  {count[0]}" in text
    labels = sum(summary.n_windows.values()) * N_TARGETS
    assert f"{summary.positives.sum() / labels:.2%} of the labels" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bin": 0}, "`bin`: must be above zero"),
        ({"window": 61}, "as many bases on either side"),
        ({"window": 10}, "`window`: must not be below the bin"),
        ({"bin": 21}, "as many bases on either side"),
        ({"min_overlap": 1.0}, r"`min_overlap`: must be in \[0, 1\)"),
        ({"min_overlap": float("nan")}, "`min_overlap`"),
        ({"max_unknown": 1.5}, "`max_unknown`"),
        ({"resize_peaks": 0}, "`resize_peaks`"),
        ({"keep_if": ("t0",), "keep_unlabelled": True}, "exclude each other"),
        ({"split_table": Path("x")}, "`split_table` takes the place"),
        ({"chrom_names": "both"}, "`chrom_names`: one of strip, add. Received: 'both'"),
        ({"expect_windows": (1, 2)}, "`expect_windows`: three numbers"),
    ],
)
def test_bad_choices_are_refused(sources: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        spec_of(sources, **changes)


def test_a_store_says_every_choice_it_was_built_with(sources: Path) -> None:
    plain = spec_of(sources, test_chroms=(), valid_region=None, source="mine")
    common = f"bin {plain.bin}, window {plain.window}, min-overlap 0.5"
    assert plain.describe() == f"mine; genome genome.fa; {common}"
    changed = dataclasses.replace(
        plain,
        chroms=("a", "b"),
        chrom_names="strip",
        keep_if=("t1",),
        max_unknown=0.1,
        exclude=sources / "bad.bed",
        allow_adjacent=True,
        expect_windows=(1, 2, 3),
    )
    assert set(changed.describe().removeprefix(plain.describe() + ", ").split(", ")) == {
        "chroms a",
        "b",
        "chrom-names strip",
        "keep-if t1",
        "max-unknown 0.1",
        "exclude bad.bed",
        "allow-adjacent",
    }


def test_files_named_with_chr_fit_a_genome_without(tmp_path: Path, sources: Path) -> None:
    """Every file of the build may be named the other way; the result is the same."""
    lines = {
        "bins.bed": "b\t100\t120\na\t420\t440\na\t20\t40\nc\t40\t60\n",
        "bad.bed": "a\t20\t25\n",
        "splits.tsv": "chrom\tsplit\na\ttrain\nb\tvalid\nc\ttest\n",
        "ignore.tsv": "target\tfile\nt1\tunjudged.bed\n",
        "unjudged.bed": "b\t0\t600\n",
    }
    options = {"bins": "bins.bed", "exclude": "bad.bed", "split_table": "splits.tsv"}
    options["ignore"] = "ignore.tsv"
    for name, text in lines.items():
        (sources / name).write_text(text)
    spec = spec_of(
        sources,
        test_chroms=(),
        valid_region=None,
        keep_unlabelled=True,
        **{option: sources / name for option, name in options.items()},
    )
    dataset, summary = built(tmp_path, spec)
    plain = dataset.fingerprints()
    assert sum(summary.n_windows.values()) == 3
    for path in [*sources.glob("*.bed"), sources / "splits.tsv"]:
        path.write_text(re.sub(r"^([abc]\t)", r"chr\1", path.read_text(), flags=re.MULTILINE))
    for option in ("bins", "exclude", "split_table", "ignore"):
        with pytest.raises(InputError, match=r"`chrom_names='strip'`|has no chra"):
            built(tmp_path, dataclasses.replace(spec, **{o: None for o in options if o != option}))
    again, _ = built(tmp_path, dataclasses.replace(spec, chrom_names="strip"))
    assert again.fingerprints() == plain


def test_ignored_labels_neither_count_nor_keep_a_bin(tmp_path: Path, sources: Path) -> None:
    spec = spec_of(sources, allow_adjacent=True)
    plain, _ = built(tmp_path, spec)
    before = {name: rows_of(plain, name) for name in SPLITS}
    assert plain.train.ignore is None
    (sources / "unjudged.bed").write_text("a\t219\t500\nb\t0\t605\n")
    (sources / "ignore.tsv").write_text("target,file\nt2,unjudged.bed\n7,unjudged.bed\n")
    dataset, summary = built(tmp_path, dataclasses.replace(spec, ignore=sources / "ignore.tsv"))
    n_ignored = n_positive = 0
    for name in SPLITS:
        split, expected, expected_ignore = dataset.split(name), [], []
        for chrom, start, letters, labels in before[name]:
            bin_start, judged = start + FLANK, list(labels)
            out = chrom == "b" or (chrom == "a" and 200 <= bin_start < 500)
            if out:
                judged[2] = judged[7] = 0
            if any(judged):
                expected.append((chrom, start, letters, judged))
                expected_ignore.append([int(out and t in (2, 7)) for t in range(N_TARGETS)])
                n_ignored += 2 * out
                n_positive += sum(labels) - sum(judged)
        assert rows_of(dataset, name) == expected
        assert split.ignore is not None
        assert unpack_labels(np.asarray(split.ignore), N_TARGETS).tolist() == expected_ignore
        split.verify()
    assert n_positive > 0
    assert (summary.ignored, summary.ignored_positives) == (n_ignored, n_positive)
    assert summary.peaks_left_out[build.IGNORED] > 0
    assert f"{n_ignored:,} labels do not count (`ignore`); {n_positive:,} of" in summary.describe()


def test_first_training_windows_are_those_of_the_list(tmp_path: Path, sources: Path) -> None:
    listed = ["b 300 320", "b 100 120", "c 40 60", "c 20 40", "a 700 720", "a 420 440", "a 40 60"]
    (sources / "bins.bed").write_text("".join(line.replace(" ", "\t") + "\n" for line in listed))
    spec = spec_of(sources, bins=sources / "bins.bed", keep_unlabelled=True)
    for most, expected in ((1, ["b300"]), (3, ["b300", "b100", "a700"]), (9, None)):
        dataset, summary = built(tmp_path, dataclasses.replace(spec, max_train=most))
        rows = [f"{row[0]}{row[1] + FLANK}" for row in rows_of(dataset, "train")]
        assert rows == (expected or ["b300", "b100", "a700", "a40"])
        assert summary.bins_left_out[build.BEYOND_FIRST] == 4 - len(rows)
        assert [f"{r[0]}{r[1] + FLANK}" for r in rows_of(dataset, "test")] == ["c40", "c20"]
        assert [f"{r[0]}{r[1] + FLANK}" for r in rows_of(dataset, "valid")] == ["a420"]


def test_unexpected_numbers_of_windows_leave_nothing(tmp_path: Path, sources: Path) -> None:
    _, summary = built(tmp_path, spec_of(sources))
    counts = tuple(summary.n_windows.values())
    built(tmp_path, spec_of(sources, expect_windows=counts))
    wrong = (counts[0] + 1, *counts[1:])
    message = rf"expected {wrong[0]} train, .* Received {counts[0]} train, {counts[1]} valid"
    with pytest.raises(InputError, match=message):
        build_from_spec(tmp_path / "other", spec_of(sources, expect_windows=wrong))
    assert not (tmp_path / "other").exists()


def test_a_mixed_list_of_bins_is_grouped_and_says_so(
    tmp_path: Path, sources: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("danq_keras"), "propagate", True)
    (sources / "bins.bed").write_text("b\t300\t320\na\t700\t720\nb\t100\t120\n")
    spec = spec_of(sources, bins=sources / "bins.bed", keep_unlabelled=True)
    dataset, _ = built(tmp_path, spec)
    assert [row[1] + FLANK for row in rows_of(dataset, "train")] == [300, 100, 700]
    assert "bins.bed: the bins of a chromosome do not stand together" in caplog.text


# Source: UCSC, hg19.chrom.sizes
HG19 = {
    "chr1": 249_250_621,
    "chr2": 243_199_373,
    "chr3": 198_022_430,
    "chr4": 191_154_276,
    "chr5": 180_915_260,
    "chr6": 171_115_067,
    "chr7": 159_138_663,
    "chrX": 155_270_560,
    "chr8": 146_364_022,
    "chr9": 141_213_431,
    "chr10": 135_534_747,
    "chr11": 135_006_516,
    "chr12": 133_851_895,
    "chr13": 115_169_878,
    "chr14": 107_349_540,
    "chr15": 102_531_392,
    "chr16": 90_354_753,
    "chr17": 81_195_210,
    "chr18": 78_077_248,
    "chr20": 63_025_520,
    "chrY": 59_373_566,
    "chr19": 59_128_983,
    "chr22": 51_304_566,
    "chr21": 48_129_895,
}
# Source: DeepSEA's files have 4,400,000, 8,000 and 455,024 rows, both strands of each window.
DEEPSEA_WINDOWS = (2_200_000, 4_000, 227_512)


def bins_like_deepsea(rng: np.random.Generator, surplus: int) -> pd.DataFrame:
    """A list of bins of the shape of DeepSEA's, `surplus` more of them before the validation."""
    order = sorted(HG19)  # chr1, chr10, … chr19, chr2, chr20, … chr9, chrX, chrY
    before = [chrom for chrom in order if chrom[3:] not in ("7", "8", "9", "X", "Y")]
    each = 2_150_000 // len(before)
    parts = [(chrom, 1000, HG19[chrom] - 1000, each) for chrom in before]
    parts += [
        ("chr7", 1000, 30_508_800, DEEPSEA_WINDOWS[0] - each * len(before) + surplus),
        ("chr7", 30_508_800, 35_296_800, DEEPSEA_WINDOWS[1]),
        ("chr7", 35_296_800, 159_000_000, 1000),
        ("chr8", 1000, 146_000_000, 127_512),
        ("chr9", 1000, 141_000_000, 100_000),
        ("chrX", 1000, 155_000_000, 1000),
        ("chrY", 1000, 59_000_000, 1000),
    ]
    tables = []
    for chrom, first, last, n in parts:
        starts = np.sort(rng.choice((last - first) // 200, n, replace=False)) * 200 + first
        tables.append(pd.DataFrame({"chrom": chrom, "start": starts, "end": starts + 200}))
    return pd.concat(tables)


def test_deepsea_splits_and_counts_come_from_its_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """The README's recipe at its full number of bins; only sequences are left out."""

    class LengthsOnly(contextlib.nullcontext[None]):
        def __init__(self, path: Path) -> None:
            self.path, self.lengths = path, HG19

        def __enter__(self) -> "LengthsOnly":  # type: ignore[override]
            return self

    seen = []
    monkeypatch.setattr(build, "Genome", LengthsOnly)
    monkeypatch.setattr(build, "write_splits", lambda *args, **_: seen.extend(args[2]))
    bins = bins_like_deepsea(rng, surplus=7)
    bins.to_csv(tmp_path / "allTFs.pos.bed", sep="\t", header=False, index=False)
    (tmp_path / "peaks.bed").write_text("chr1\t1000\t90000\n")
    spec = GenomeSpec(
        genome=tmp_path / "hg19.fa",
        peaks=(tmp_path / "peaks.bed",),
        bins=tmp_path / "allTFs.pos.bed",
        split_table=resource_path("deepsea_splits.tsv"),
        keep_unlabelled=True,
        allow_adjacent=True,
        max_train=2_200_000,
        expect_windows=DEEPSEA_WINDOWS,
    )
    summary = build_from_spec(tmp_path / "out", spec)
    assert tuple(summary.n_windows.values()) == DEEPSEA_WINDOWS
    assert summary.bins_left_out == {build.SPLITLESS: 3000, build.BEYOND_FIRST: 7}
    for code, rows in enumerate(
        (
            bins[:2_200_000],
            bins[2_200_007 : 2_200_007 + 4000],
            bins[bins["chrom"].isin(["chr8", "chr9"])],
        )
    ):
        starts = np.concatenate([part.starts[part.split == code] for part in seen])
        chroms = [part.chrom for part in seen for _ in range((part.split == code).sum())]
        assert np.array_equal(starts, rows["start"])
        assert chroms == rows["chrom"].tolist()
    with pytest.raises(InputError, match="`expect_windows`: expected 2,200,000 train"):
        build_from_spec(tmp_path / "out2", dataclasses.replace(spec, max_train=None))


def test_nothing_left_is_an_error_that_leaves_nothing(tmp_path: Path, sources: Path) -> None:
    (sources / "t0.bed").write_text("a\t0\t5\n")
    with pytest.raises(InputError, match=r"No bin is left \(.* no peak.*\)"):
        build_from_spec(tmp_path / "out", spec_of(sources, peaks=(sources / "t0.bed",)))
    assert [path.name for path in tmp_path.iterdir()] == ["sources"]


def test_a_failure_in_writing_leaves_nothing_and_keeps_the_old(
    tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(sources)
    build_from_spec(tmp_path / "old", spec)
    before = hashlib.sha256((tmp_path / "old" / "train.h5").read_bytes()).digest()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("danq_keras.data.store_write.SplitWriter.append", full)
    for name in ("new", "old"):
        with pytest.raises(OSError, match="No space left"):
            build_from_spec(tmp_path / name, spec, overwrite=name == "old")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "sources"]
    assert hashlib.sha256((tmp_path / "old" / "train.h5").read_bytes()).digest() == before


def read_peaks(sources: Path, target: int) -> pd.DataFrame:
    columns = ["chrom", "start", "end"]
    return pd.read_csv(sources / f"t{target}.bed", sep="\t", header=None, names=columns)


def test_build_dataset_takes_paths_and_data_frames_alike(tmp_path: Path, sources: Path) -> None:
    expected, summary = built(tmp_path, spec_of(sources))
    choices: dict[str, Any] = {
        "genome": str(sources / "genome.fa"),
        "test_chroms": "c",
        "valid_region": "a:401-600",
        "bin": BIN,
        "window": WINDOW,
    }
    files = [str(sources / f"t{i}.bed") for i in range(N_TARGETS)]
    halves = [read_peaks(sources, 1).iloc[:4], read_peaks(sources, 1).iloc[4:]]
    as_dict = {f"t{i}": file for i, file in enumerate(files)}
    mixed = as_dict | {"t0": Path(files[0]), "t1": halves, "t2": read_peaks(sources, 2)}
    for number, peaks in enumerate((files, as_dict, mixed)):
        dataset = build_dataset(str(tmp_path / f"p{number}"), peaks=peaks, **choices)
        assert dataset.fingerprints() == expected.fingerprints()
        assert dataset.train.header == expected.train.header
        assert dataset.summary is not None
        assert dataset.summary.bins_left_out == summary.bins_left_out
        assert dataset.summary.peaks_left_out == summary.peaks_left_out
        table = dataset.summary.to_frame()
        assert table["name"].tolist() == [f"t{i}" for i in range(N_TARGETS)]
        assert table[list(SPLITS)].to_numpy().T.tolist() == summary.positives.tolist()
        assert open_store(dataset.folder).summary is None
    one = build_dataset(tmp_path / "one", peaks=files[3], keep_if=[0], **choices)
    assert one.targets.names == ("t3",)
    with pytest.raises(InputError, match="`overwrite=True`"):
        build_dataset(tmp_path / "one", peaks=files[3], **choices)
    with pytest.raises(
        InputError, match=r"replaces only what 'genome' writes\. Received: genome\.fa"
    ):
        build_dataset(sources, peaks=files, overwrite=True, **choices)
    with pytest.raises(InputError, match="a data frame has no name"):
        build_dataset(tmp_path / "x", peaks=halves, **choices)
    with pytest.raises(InputError, match="these `peaks` name their targets"):
        build_dataset(tmp_path / "x", peaks=as_dict, targets="t.tsv", **choices)
    with pytest.raises(InputError, match="No peak file was given"):
        build_dataset(tmp_path / "x", peaks={"t0": []}, **choices)
    with pytest.raises(TypeError, match="windwo"):
        build_dataset(tmp_path / "x", peaks=files, windwo=3, **choices)  # type: ignore[call-arg]


def test_build_choices_are_the_fields_of_the_spec() -> None:
    named = {"genome", "peaks", "targets", "test_chroms", "valid_region"}
    fields: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(GenomeSpec)}
    choices = BuildChoices.__annotations__
    assert choices.keys() == fields.keys() - named
    # What a caller may give in place of what the spec holds.
    wider = [(Path, PathLike), (tuple[str, ...], Sequence[str]), (tuple[int, ...], Sequence[int])]
    for name, kind in choices.items():
        held = fields[name]
        same = [held]
        for strict, wide in wider:
            same += [wide] * (strict == held) + [wide | None] * ((strict | None) == held)
        assert kind in same, name


@pytest.mark.data
def test_yeast_has_the_expected_windows(tmp_path: Path, data_dir: Path) -> None:
    spec = GenomeSpec(
        genome=data_dir / "yeast" / "sacCer3.fa.gz",
        peaks=tuple(sorted((data_dir / "yeast" / "peaks").glob("*.bed"))),
        resize_peaks=200,
        chroms=tuple(f"chr{i}" for i in range(1, 17)),
        test_chroms=("chr8", "chr9"),
        valid_region="chr7",
    )
    summary = build_from_spec(tmp_path / "yeast", spec)
    # Counted independently for the data's own description.
    assert summary.n_windows == {"train": 16_110, "valid": 1_804, "test": 1_598}
    assert (summary.positives[2] < 25).sum() == 51
    assert summary.seconds < 20
