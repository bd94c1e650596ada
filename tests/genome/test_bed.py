"""BED files and interval arithmetic."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from danq_keras.genome.bed import (
    bed_from_frame,
    centres,
    in_genome,
    read_bed,
    read_located,
    rename_chrom,
)
from danq_keras.genome.intervals import covered_bases, merge, overlapped
from danq_keras.system.errors import InputError

NARROW = "chr1\t10\t50\tp1\t100\t.\t7.5\t3.1\t2.2\t15\nchr2\t0\t9\tp2\t1\t.\t0.5\t-1\t-1\t-1\n"


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_columns_are_read_in_the_order_of_the_file(tmp_path: Path, suffix: str) -> None:
    text = '#x\ntrack name="a b"\n\nchr2\t5\t9\nchr1\t1\t4\nchr2\t0\t3\n'
    data = gzip.compress(text.encode(), mtime=0) if suffix else text.encode()
    bed = read_bed(write(tmp_path / f"a.bed{suffix}", data))
    assert [bed.names[c] for c in bed.chrom] == ["chr2", "chr1", "chr2"]
    assert bed.starts.tolist() == [5, 1, 0]
    assert bed.ends.tolist() == [9, 4, 3]
    assert bed.signal is None
    assert bed.summits is None
    assert [part.tolist() for part in bed.on("chr2")] == [[5, 0], [9, 3]]
    assert [part.tolist() for part in bed.on("chrM")] == [[], []]


def test_spaces_blank_lines_and_crlf_are_tolerated(tmp_path: Path) -> None:
    bed = read_bed(write(tmp_path / "a.bed", "chr1 1 4 x\r\n\r\nchr1  7 9 y\r\n"))
    assert (bed.starts.tolist(), bed.ends.tolist()) == ([1, 7], [4, 9])


def test_narrow_peak_has_summits_and_signals(tmp_path: Path) -> None:
    for name in ("a.narrowPeak", "a.bed"):  # ENCODE names its narrowPeak files .bed
        bed = read_bed(write(tmp_path / name, NARROW), with_signal=True)
        assert bed.summits is not None
        assert bed.signal is not None
        assert bed.summits.tolist() == [15, -1]
        assert bed.signal.tolist() == [7.5, 0.5]


def test_score_is_the_signal_of_plain_bed_and_unread_unless_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bed", "chr1\t1\t4\tx\t13\n")
    signal = read_bed(path, with_signal=True).signal
    assert signal is not None
    assert signal.tolist() == [13]
    dotted = write(tmp_path / "b.bed", "chr1\t1\t4\tx\t.\n")
    assert len(read_bed(dotted)) == 1
    with pytest.raises(InputError, match=r"line 1: the signal must be a finite number"):
        read_bed(dotted, with_signal=True)
    with pytest.raises(InputError, match=r"no signal .*`min_signal`. Received: 3 columns"):
        read_bed(write(tmp_path / "c.bed", "chr1\t1\t4\n"), with_signal=True)


def test_broad_peak_signal_is_its_seventh_column(tmp_path: Path) -> None:
    line = "chr1\t10\t50\tp1\t100\t.\t7.5\t3.1\t2.2\n"
    signal = read_bed(write(tmp_path / "a.broadPeak", line), with_signal=True).signal
    assert signal is not None
    assert signal.tolist() == [7.5]


def test_ragged_lines_are_read_while_the_needed_columns_are_there(tmp_path: Path) -> None:
    bed = read_bed(write(tmp_path / "a.bed", "chr1\t1\t5\tx\nchr1\t2\t6\nchr1\t3\t7\tx\t9\n"))
    assert (bed.starts.tolist(), bed.ends.tolist()) == ([1, 2, 3], [5, 6, 7])


@pytest.mark.parametrize("separator", ["\t", " "])
def test_names_and_strands_are_read_where_they_are(separator: str, tmp_path: Path) -> None:
    rows = ["chr1 1 5 NA 0 -", "chr1 2 6", "chr1 3 7 1.0 9 +", "chr2 3 7 β 9 ."]
    text = "\n".join(row.replace(" ", separator) for row in rows)
    bed = read_bed(write(tmp_path / "a.bed", text), with_names=True)
    assert bed.feature_names is not None
    assert bed.feature_names.tolist() == ["NA", ".", "1.0", "β"]
    assert bed.strands is not None
    assert bed.strands.tolist() == ["-", ".", "+", "."]
    unasked = read_bed(tmp_path / "a.bed")
    assert (unasked.feature_names, unasked.strands) == (None, None)


@pytest.mark.parametrize(
    ("text", "names"),
    [("chr1\t1\t5\n", None), ("chr1\t1\t5\tx\n", ["x"]), ("chr1\t1\t5\tx\t1\t7\n", ["x"])],
)
def test_a_sixth_column_of_anything_else_is_no_strand(
    text: str, names: list[str] | None, tmp_path: Path
) -> None:
    bed = read_bed(write(tmp_path / "a.bed", text), with_names=True)
    assert bed.strands is None
    assert (bed.feature_names if names is None else list(bed.feature_names or ())) == names


def test_names_that_look_like_missing_values_stay_text(tmp_path: Path) -> None:
    bed = read_bed(write(tmp_path / "a.bed", "NA\t1\t4\nNone\t1\t4\n"))
    assert set(bed.names) == {"NA", "None"}


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("names", [["1", "01"], ["mark", "1"], ["1", "2"], ["2", "X", "02"]])
def test_names_of_digits_stay_apart_wherever_they_stand(tmp_path, names, end) -> None:
    """Also where only digits stand in the part of the file that pandas reads at a time."""
    path = tmp_path / "x.bed"
    rows = [name for name in names for _ in range(40_000)]
    path.write_text("\n".join(f"{name}\t{i}\t{i + 5}" for i, name in enumerate(rows)) + end)
    bed = read_bed(path)
    assert bed.names == tuple(sorted(names))
    assert [bed.names[code] for code in bed.chrom] == rows
    assert bed.ends.tolist() == [i + 5 for i in range(len(rows))]


@pytest.mark.parametrize("name", ["01", "1e5", "1.50", "True", "0x1"])
def test_names_that_look_like_numbers_stay_text(tmp_path: Path, name: str) -> None:
    bed = read_bed(write(tmp_path / "a.bed", f"{name}\t1\t4\t{name}\n" * 2), with_names=True)
    assert bed.names == (name,)
    assert bed.feature_names is not None
    assert bed.feature_names.tolist() == [name, name]


def test_a_feature_that_is_commented_out_is_none(tmp_path: Path) -> None:
    bed = read_bed(write(tmp_path / "a.bed", "chr1\t1\t4\n#chr1\t7\t9\ntrack\t1\t2\n"))
    assert (bed.names, bed.starts.tolist()) == (("chr1",), [1])


def test_blanks_around_names_do_not_count(tmp_path: Path) -> None:
    bed = read_bed(write(tmp_path / "a.bed", "chr1 \t1\t4\nchr1\t5\t6\n"))
    assert (bed.names, bed.chrom.tolist()) == (("chr1",), [0, 0])


@pytest.mark.parametrize("head", ["", "\r", "\r\r", "#x\r", "\r#x\r", "\ufeff\r"])
def test_no_feature_is_lost_behind_lone_carriage_returns(tmp_path: Path, head: str) -> None:
    bed = read_bed(write(tmp_path / "a.bed", f"{head}chr1\t1\t4\rchr1\t5\t6\r"))
    assert bed.starts.tolist() == [1, 5]


def test_a_byte_0_behind_the_first_lines_is_seen(tmp_path: Path) -> None:
    text = "chr1\t1\t40\n" * 9000
    with pytest.raises(InputError, match="not plain text"):
        read_bed(write(tmp_path / "a.bed", text + "chr1\t1\t4\0\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no features"),
        ("# only\ntrack x\n\n", "no features"),
        ("chr1\t1\n", "at least 3 columns .* Received: 2"),
        ("chr1\t1\t5\nchr1\tone\t5\n", "line 2: the start must be a whole number"),
        ("#\nchr1\t1\tfive\n", "line 2: the end must be a whole number"),
        ("chr1\t1\t5\n\nchr1\t1.5\t5\n", "line 3: the start must be a whole number"),
        ("chr1\t1\t99999999999999999999\n", "line 1: the end must be a whole number"),
        ("chr1\t-1\t5\n", "line 1: the start must not be negative"),
        ("chr1\t5\t5\n", "line 1: the end must be above the start"),
        ("chr1\t1\t5\tx\nchr1\t1\n", "line 2: 2 columns, at least 3 are needed"),
        ("chr1\t1\t5\n\t1\t5\n", "line 2: no chromosome"),
        ("chr1\t1\t5\ntracked again\n", "line 2: 1 columns, at least 3"),
        ("#x\n\nchr1\t1\t5\n#y\nchr1\t1\tx\n", "line 5: the end must be a whole number"),
        ("\ufeff#x\n\n", "no features"),
        ("\ufeffchr1\t1\t5\n".encode("utf-16"), "not a BED file: not plain text"),
        (NARROW.replace("p1", "p\x1b[31m"), "narrowPeak: the name of a feature must not hold"),
        (NARROW.replace("15\n", "1x\n"), "the summit must be a whole number"),
        (gzip.compress(b"chr1\t1\t5\n" * 99, mtime=0)[:-12], "truncated gzip"),
        (b"\x00\x01\xff\xfe" * 9, "BED"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = write(tmp_path / "a.narrowPeak", text)
    with pytest.raises(InputError, match=message) as error:
        read_bed(path, with_names=True)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_bed(tmp_path / "none.bed")


def test_features_must_lie_in_the_genome(tmp_path: Path) -> None:
    bed = read_bed(write(tmp_path / "a.bed", "chr1\t0\t10\nchrX\t0\t99\n"))
    assert in_genome(bed, {"chr1": 10}).tolist() == [True, False]
    with pytest.raises(InputError, match=r"1 of 2 features end beyond .*chr1:0-10 .* has 5 bases"):
        in_genome(bed, {"chr1": 5})
    with pytest.raises(InputError, match=r"none of its chromosomes .*chr1, chrX; .* has 1, X"):
        in_genome(bed, {"1": 100, "X": 100})


@pytest.mark.parametrize(
    ("past", "others", "is_refused"),
    [(1, 0, False), (2, 10, False), (3, 10, True), (3, 400, False), (5, 400, True)],
)
def test_a_few_features_may_end_past_their_chromosome(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, past: int, others: int, *, is_refused: bool
) -> None:
    text = "chr1\t90\t112\n" * past + "chr1\t0\t100\n" * others
    bed = read_bed(write(tmp_path / "a.bed", text.replace("112", "105")))
    if is_refused:
        with pytest.raises(InputError, match=rf"{past} of {past + others} features end beyond"):
            in_genome(bed, {"chr1": 100})
        return
    assert in_genome(bed, {"chr1": 100}).all()
    assert f"{past} of {past + others} features end beyond their chromosome, such as" in caplog.text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("blank", ["\t", " "])
def test_lines_that_are_no_features_may_stand_anywhere(
    tmp_path: Path, end: str, blank: str
) -> None:
    lines = [
        "\ufeff# first",
        "browser position chr1:1-9",
        "chr1 1 4 a",
        "",
        'track name="x y"',
        "track_9 5 9 b",
        "#chr1 6 9 c",
        " ",
        "browser hide all",
        "chr1 7 9 d",
        "track",
    ]
    text = end.join(line.replace(" ", blank) for line in lines)
    bed = read_bed(write(tmp_path / "a.bed", text), with_names=True)
    assert [bed.describe(i) for i in range(len(bed))] == ["chr1:1-4", "track_9:5-9", "chr1:7-9"]
    assert bed.feature_names is not None
    assert bed.feature_names.tolist() == ["a", "b", "d"]


PEAK = ["chr1", "100", "400", ".", "540", ".", "7.5", "3.1", "2.2", "15"]
GAPPED = ["chr1", "100", "400", "g", "5", ".", "100", "400", "0", "2", "50,20", "0,280"]


@pytest.mark.parametrize(
    ("name", "fields", "signal", "summit", "note"),
    [
        ("idr.narrowPeak", PEAK + ["1"] * 10, 7.5, 15, ""),
        ("idr_values.txt", PEAK + ["1"] * 10, 7.5, 15, ""),
        ("x.narrowPeak.gz.bed", [*PEAK, "sample"], 7.5, 15, ""),
        ("x.bed", [*PEAK, "sample"], 7.5, 15, "read as narrowPeak with 1 further columns"),
        ("x.bed", [*PEAK, "1", "2"], 7.5, 15, "read as narrowPeak with 2 further columns"),
        ("x.bed", [*PEAK[:9], "315"], 540, None, "the tenth is no summit"),
        ("x.bed", PEAK[:9], 7.5, None, ""),
        ("x.broadPeak", [*PEAK[:9], "x"], 7.5, None, ""),
        ("idr_broad.txt", PEAK[:9] + ["400.5"] + ["1"] * 7, 7.5, None, ""),
        ("x.bed", [*PEAK[:6], "110", "390", "0"], 540, None, "plain BED: its score"),
        ("x.bed", [*GAPPED, "8.5", "1", "2"], 8.5, None, ""),
        ("x.gappedPeak", [*GAPPED, "8.5", "1", "2"], 8.5, None, ""),
        ("x.bed", GAPPED, 5, None, "plain BED: its score"),
        ("x.narrowPeak", PEAK[:6], 540, None, "which has 10 columns, and has 6"),
        ("x.gappedPeak", GAPPED, 5, None, "which has 15 columns, and has 12"),
    ],
)
def test_signal_and_summit_are_those_of_the_format(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    fields: list[str],
    signal: float,
    summit: int | None,
    note: str,
) -> None:
    caplog.set_level("INFO")
    bed = read_bed(write(tmp_path / name, "\t".join(fields) + "\n"), with_signal=True)
    assert bed.signal is not None
    assert bed.signal.tolist() == [signal]
    assert (None if bed.summits is None else bed.summits.tolist()) == (
        None if summit is None else [summit]
    )
    assert centres(bed).tolist() == [250 if summit is None else 115]
    assert note in caplog.text
    assert bool(caplog.text) == bool(note)


def test_summits_outside_of_their_peak_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inside, outside = "\t".join(PEAK) + "\n", "\t".join([*PEAK[:9], "300"]) + "\n"
    bed = read_bed(write(tmp_path / "a.narrowPeak", inside * 10 + outside))
    assert centres(bed).tolist() == [115] * 10 + [399]
    assert "1 of 11 summits lie outside of their peak" in caplog.text
    with pytest.raises(InputError, match=r"2 of 3 summits lie outside .* chr1:100-400: 300"):
        read_bed(write(tmp_path / "a.narrowPeak", inside + outside * 2))


def random_intervals(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    starts = rng.integers(0, 300, count)
    return starts, starts + rng.integers(1, 40, count)


def mask(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    covered = np.zeros(400, bool)
    for start, end in zip(starts, ends, strict=True):
        covered[start:end] = True
    return covered


@pytest.mark.parametrize("count", [0, 1, 5, 30])
def test_merge_and_coverage_equal_counting_base_by_base(
    count: int, rng: np.random.Generator
) -> None:
    for _ in range(20):
        starts, ends = random_intervals(rng, count)
        merged = merge(starts, ends)
        expected = mask(starts, ends)
        assert np.array_equal(mask(*merged), expected)
        assert (merged[0][1:] > merged[1][:-1]).all()
        bins = np.sort(rng.integers(0, 350, 25))  # overlapping and repeated ones too
        counted = [int(expected[b : b + 17].sum()) for b in bins]
        assert covered_bases(*merged, bins=bins, length=17).tolist() == counted


def test_touching_intervals_become_one() -> None:
    starts, ends = merge(np.array([5, 0]), np.array([9, 5]))
    assert (starts.tolist(), ends.tolist()) == ([0], [9])


def test_overlapped_bins_by_hand() -> None:
    bins = np.array([0, 10, 20, 30])
    first, last = overlapped(
        np.array([9, 10, 12, 40]), np.array([10, 21, 13, 50]), bins=bins, length=10
    )
    assert (first.tolist(), last.tolist()) == ([0, 1, 1, 4], [1, 3, 2, 4])


@pytest.mark.parametrize(
    ("name", "how", "lengths", "expected"),
    [
        ("chr1", "strip", {"1": 9}, "1"),
        ("1", "strip", {"1": 9}, "1"),
        ("1", "add", {"chr1": 9}, "chr1"),
        ("chr1", "add", {"chr1": 9}, "chr1"),
        ("chrM", "strip", {"MT": 9}, "MT"),
        ("chrM", "strip", {"M": 9, "MT": 9}, "M"),
        ("MT", "add", {"chrM": 9}, "chrM"),
        ("chrM", "strip", {"1": 9}, "M"),
    ],
)
def test_chromosomes_are_renamed(
    name: str, how: str, lengths: dict[str, int], expected: str
) -> None:
    assert rename_chrom(name, how, lengths) == expected


def test_two_names_that_become_one_are_one_chromosome(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bed", "1\t1\t4\n2\t5\t6\nchr1\t7\t9\n")
    bed, known = read_located(path, {"chr1": 10}, chrom_names="add")
    assert bed.names == ("chr1", "chr2")
    assert [part.tolist() for part in bed.on("chr1")] == [[1, 7], [4, 9]]
    assert known.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("chroms", "advice"),
    [
        ({"1": 10}, r"Pass `chrom_names='strip'`\."),
        ({"chrchr1": 10}, "Rename one side"),
        ({"II": 10}, "Rename one side"),
    ],
)
def test_no_chromosome_in_common_suggests_what_to_do(
    tmp_path: Path, chroms: dict[str, int], advice: str
) -> None:
    path = write(tmp_path / "a.bed", "chr1\t1\t4\n")
    with pytest.raises(InputError, match=rf"a\.bed: none of its chromosomes .* {advice}"):
        read_located(path, chroms, chrom_names=None)
    path = write(tmp_path / "b.bed", "1\t1\t4\n")
    with pytest.raises(InputError, match=r"Pass `chrom_names='add'`\."):
        read_located(path, {"chr1": 10}, chrom_names=None)


def peaks(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"chrom": ["chr2", "chr1"], "start": [5, 0], "end": [9, 4]} | dict(columns))


def test_a_data_frame_is_like_a_file() -> None:
    bed = bed_from_frame(peaks(signal=[1.5, 2], summit=[-1, 3]), "mine", with_signal=True)
    assert [bed.describe(i) for i in range(2)] == ["chr2:5-9", "chr1:0-4"]
    assert bed.signal is not None
    assert bed.summits is not None
    assert (bed.signal.tolist(), bed.summits.tolist()) == ([1.5, 2.0], [-1, 3])
    plain = bed_from_frame(peaks(signal=[1.5, 2]), "mine")
    assert plain.signal is None
    assert plain.summits is None


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            peaks().drop(columns="end"),
            r"mine: a data frame of peaks has rows with chrom, start, end",
        ),
        (peaks()[:0], "Received: 0 rows with chrom, start, end"),
        (peaks(start=[1.0, 2.0]), "mine: 'start' must be whole numbers. Received: float64"),
        (peaks(start=[5, -1]), r"mine, row 1: the start must not be negative.*chr1:-1-4"),
        (peaks(end=[5, 4]), r"mine, row 0: .*the end must be above it.*chr2:5-5"),
        (peaks(summit=["a", "b"]), "mine: 'summit' must be whole numbers"),
    ],
)
def test_bad_data_frames_are_refused(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bed_from_frame(frame, "mine")


def test_a_signal_that_is_needed_must_be_there() -> None:
    with pytest.raises(
        InputError, match=r"chrom, start, end, signal\. Received: 2 rows with chrom"
    ):
        bed_from_frame(peaks(), "mine", with_signal=True)
    with pytest.raises(InputError, match=r"mine, row 1: .* the signal finite"):
        bed_from_frame(peaks(signal=[1, float("nan")]), "mine", with_signal=True)


@pytest.mark.parametrize("start", ["\x1f05", "\u0665", "\u00a05", "5_0", "5\u2003"])
def test_what_python_but_no_file_takes_for_a_number_is_refused(tmp_path: Path, start: str) -> None:
    path = write(tmp_path / "a.bed", f"chr1\t3\t9\nchr1\t{start}\t70\n")
    with pytest.raises(InputError, match="line 2: the start must be a whole number"):
        read_bed(path)


# ── files that would be read with another meaning ───────────────────────────


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.bedGraph", "chr1\t0\t1000\t0\n"),
        ("x.bdg.gz", "chr1\t0\t1000\t0\n"),
        ("x.bed", "track type=bedGraph name=x\nchr1\t0\t1000\t0\n"),
        ("x.bed", "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\nchr1\t1000\t1200\tA\tT\n"),
    ],
)
def test_values_and_variants_are_no_peaks(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(InputError, match=r"values along the genome|a VCF file"):
        read_bed(write(tmp_path / name, text))


def test_a_long_header_hides_no_summits(tmp_path: Path) -> None:
    """The first 64 KiB end in the middle of the first feature."""
    peaks = "chr1\t1000\t1500\tpeak1\t100\t.\t5.5\t3.1\t2.0\t350\n" * 3
    for cut in (3, 8, 20, 40):
        bed = read_bed(write(tmp_path / "long.bed", "#" * (65_535 - cut) + "\n" + peaks))
        assert centres(bed).tolist() == [1350] * 3


def test_bed_of_twelve_columns_has_no_summits_whatever_its_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    line = "chr1\t1000\t1400\tn\t0\t+\t1000\t1400\t0\t1\t400,\t0,\n"
    assert read_bed(write(tmp_path / "my_narrowPeak_merged.bed", line)).summits is None
    assert "read as such" in caplog.text


def test_what_is_taken_for_a_summit_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        read_bed(write(tmp_path / "counts.bed", "chr1\t1000\t1400\tn\t0\t+\t5\t8\t12\t33\n"))
    assert "summit in column 10" in caplog.text


def test_summits_before_their_peak_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    peak = "chr1\t10\t50\tp\t1\t.\t1\t1\t1\t%d\n"
    good = (peak % 5) * 19
    bed = read_bed(write(tmp_path / "a.narrowPeak", good + peak % -7))
    assert bed.summits is not None
    assert bed.summits[-1] == 0
    assert "1 of 20 summits lie outside" in caplog.text
    with pytest.raises(InputError, match="10 of 20 summits lie outside"):
        read_bed(write(tmp_path / "b.narrowPeak", (peak % 5) * 10 + (peak % -99) * 10))


def test_the_line_at_fault_is_named_beside_odd_but_whole_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bed", "chr1 1e3 1200\nchr1 5 10\nchr1 x 20\n")
    with pytest.raises(InputError, match="line 3: the start must be a whole number"):
        read_bed(path)


def test_a_number_beyond_all_bounds_is_one_line(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(InputError, match="line 1: the start must be a whole number"):
        read_bed(write(tmp_path / "a.bed", "chr1\tinf\t1200\n"))
    assert not list(recwarn)


def test_blanks_in_a_file_of_tabs_are_named_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2: 1 columns, at least 3"):
        read_bed(write(tmp_path / "a.bed", "chr1\t1\t5\nchr1 7 9\n"))


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_a_row_without_chromosome_is_refused(missing: object) -> None:
    frame = pd.DataFrame({"chrom": ["chr1", missing, "chr2"], "start": [1, 5, 7], "end": [3, 6, 8]})
    with pytest.raises(InputError, match="row 1: no chromosome"):
        bed_from_frame(frame, "peaks")


def test_a_renaming_that_was_not_needed_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bed", "chr1\t1\t5\n")
    with pytest.raises(InputError, match="in the FASTA as they are"):
        read_located(path, {"chr1": 100}, chrom_names="strip")
    with pytest.raises(InputError, match="`chrom_names`: one of strip, add"):
        read_located(path, {"chr1": 100}, chrom_names="Add")
