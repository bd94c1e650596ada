"""BED and peak files, and data frames of the same columns, beside the genome that they refer to.

Interval arrays are int64, 0-based and half-open: `starts` (n,), `ends` (n,). What intervals cover
is the matter of `intervals`; nothing here knows targets, labels or splits.
"""

import dataclasses
import functools
import io
import itertools
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.genome.bed_columns import (
    MARK,
    TextOnly,
    feature_lines,
    first_feature,
    is_chromosome,
    is_feature,
    is_number,
    peak_columns,
    refuse_other_format,
    split_line,
)
from danq_keras.genome.fasta import Positions
from danq_keras.system.errors import InputError, one_line, shorten
from danq_keras.system.files import open_bytes
from danq_keras.system.inputs import BYTE_ORDER_MARK
from danq_keras.system.names import refuse_control
from danq_keras.system.tables import refuse_doubled_columns
from danq_keras.system.terminal import log

_HEAD_BYTES = 1 << 16
# what pandas may say of a file; a warning of a number that no int64 holds is made an error
_PARSE_ERRORS = (ValueError, OverflowError, IndexError, RuntimeWarning)
_FEW = 0.1  # share of summits that may be wrong
_FEW_PAST_END = 0.01  # share of features that may end past a chromosome
_NAMES = {"name": 3, "strand": 5}
_NO_TEXT = "."
_MOST = 1e18  # of a number in a file; an int64 holds a little more
CHROM_NAMES = ("strip", "add")
NO_SUMMIT = -1


@dataclass(frozen=True, eq=False)
class Bed:
    """The features of a BED or peak file, or of a data frame, in its order.

    `path` is what errors call it, a mere name of a data frame; `names` are the chromosomes; `chrom`
    (n,) int64 indexes them; `starts`, `ends` (n,) int64; `signal` (n,) float64 is narrowPeak's and
    broadPeak's signalValue, else the score; `summits` (n,) int64 are narrowPeak's, relative to the
    start, -1 for none; `feature_names` and `strands` (n,) str objects, "." for none. Each is None
    where the file has no such column, or it was not asked for.
    """

    path: Path
    names: tuple[str, ...]
    chrom: Positions
    starts: Positions
    ends: Positions
    signal: npt.NDArray[np.float64] | None = None
    summits: Positions | None = None
    feature_names: npt.NDArray[np.object_] | None = None
    strands: npt.NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def on(self, chrom: str) -> tuple[Positions, Positions]:
        """Starts and ends of the features of a chromosome, in the order of the file."""
        here = self._rows.get(chrom, slice(0))
        return self.starts[here], self.ends[here]

    @functools.cached_property
    def _rows(self) -> dict[str, Positions]:
        return self.by_chrom(np.arange(len(self)))

    def by_chrom(self, rows: Positions) -> dict[str, Positions]:
        """Numbers of features, by the chromosomes that have some of them, in their order."""
        rows = rows[np.argsort(self.chrom[rows], kind="stable")]
        edges = np.searchsorted(self.chrom[rows], np.arange(len(self.names) + 1)).tolist()
        pairs = zip(self.names, itertools.pairwise(edges), strict=True)
        return {name: rows[begin:end] for name, (begin, end) in pairs if end > begin}

    def describe(self, index: int) -> str:
        """CHROM:START-END of a feature, as the file has it (0-based, half-open)."""
        return f"{self.names[self.chrom[index]]}:{self.starts[index]}-{self.ends[index]}"


def read_bed(path: Path, *, with_signal: bool = False, with_names: bool = False) -> Bed:
    """Read a BED, narrowPeak, broadPeak or gappedPeak file, plain or gzip, or from a pipe.

    Comments (`#`), `track` and `browser` lines and blank lines are passed over wherever they stand.
    Which of the formats a file has, its name and its columns say (see `peak_columns`).

    Args:
        path: the file.
        with_signal: also read the signal, which must then be there; other BED files have their
            score column read as such.
        with_names: also read names (column 4) and strands (column 6), where they are; a column 6
            with anything but +, - and . is no strand.

    Raises:
        InputError: no features, too few columns, words for numbers, or an end not above its start;
            the message names the line.
    """
    used, table = _read_columns(path, with_signal=with_signal, with_names=with_names)
    columns = {name: table[column] for name, column in used.items()}
    names, codes = _chromosomes(columns["chrom"])
    bed = Bed(
        path=path,
        names=names,
        chrom=codes,
        starts=columns["start"].to_numpy(np.int64),
        ends=columns["end"].to_numpy(np.int64),
        signal=columns["signal"].to_numpy(np.float64) if "signal" in columns else None,
        summits=columns["summit"].to_numpy(np.int64) if "summit" in columns else None,
        feature_names=_texts(columns["name"]) if "name" in columns else None,
        strands=_strands(_texts(columns["strand"])) if "strand" in columns else None,
    )
    bed = _with_bare_names(bed)
    if _unusable(bed).any() or "" in bed.names:
        _explain(path, used)
    refuse_control(bed.names, path, "chromosome")
    if bed.feature_names is not None:
        refuse_control(bed.feature_names, path, "feature")
    return with_summits_inside(bed)


def _read_columns(
    path: Path, *, with_signal: bool, with_names: bool
) -> tuple[dict[str, int], pd.DataFrame]:
    """Which columns a file has, by name, and those columns.

    Most files are features from the first to the last line, perhaps after some comments: they are
    parsed as they are. Only where that fails, or a comment was taken for a feature, lines are
    looked at.
    """

    def columns_of(first: bytes) -> dict[str, int]:
        fields = split_line(first)
        used = peak_columns(path, fields, with_signal=with_signal)
        return used | {name: i for name, i in _NAMES.items() if with_names and i < len(fields)}

    with open_bytes(path) as handle:
        head = handle.read(_HEAD_BYTES)
        refuse_other_format(path, head)
        n_before, first = first_feature(head, is_whole=len(head) < _HEAD_BYTES)
        if first:
            used = columns_of(first)
            handle.seek(0)
            try:
                table = _parse(TextOnly(path, handle, first), first, used, n_before, quick=True)
            except InputError:
                raise
            except _PARSE_ERRORS:
                table = None
            if table is not None and all(map(is_chromosome, table[0].cat.categories)):
                return used, table
    with open_bytes(path) as handle:
        text = feature_lines(path, handle.read())
    line = text[: text.find(b"\n") + 1] or text
    if not first:
        used = columns_of(line)
    try:
        return used, _parse(io.BytesIO(text), line, used, 0)
    except _PARSE_ERRORS as error:
        _explain(path, used, error=error)


def _parse(
    source: Any, first: bytes, used: dict[str, int], n_before: int, *, quick: bool = False
) -> pd.DataFrame:
    """Parse features; `quick` where the source ends with a mark (see `TextOnly`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        table: pd.DataFrame = pd.read_csv(
            source,
            sep="\t" if b"\t" in first else r"\s+",
            header=None,
            skiprows=n_before,
            usecols=list(used.values()),
            dtype={column: _DTYPES[name] for name, column in used.items()}
            | ({used["chrom"]: "category"} if quick else {}),
            na_filter=False,
            quoting=3,
        )
    if quick:
        if table[used["chrom"]].iloc[-1] != MARK:
            raise ValueError("the last line was not read as one")
        return table.iloc[:-1]
    return table


def _chromosomes(column: "pd.Series[Any]") -> tuple[tuple[str, ...], Positions]:
    """The names, and which of them (n,) each feature has."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        found, codes = column.cat.categories, column.cat.codes.to_numpy(np.int64)
        there = np.bincount(codes, minlength=len(found)) > 0  # which the mark of `TextOnly` is not
        return tuple(found[there]), codes if there.all() else (np.cumsum(there) - 1)[codes]
    codes, found = pd.factorize(column.to_numpy(object), sort=True)
    return tuple(found), codes.astype(np.int64)


def _with_bare_names(bed: Bed) -> Bed:
    """The features, their chromosomes' names without blanks around them."""
    if all(name == name.strip() for name in bed.names):
        return bed
    return _named_anew(bed, [name.strip() for name in bed.names])


def _named_anew(bed: Bed, new: list[str]) -> Bed:
    """The features on chromosomes of new names, of which two may have become one."""
    names = tuple(dict.fromkeys(new))
    numbers = {name: number for number, name in enumerate(names)}
    codes = np.array([numbers[name] for name in new], np.int64)
    return dataclasses.replace(bed, names=names, chrom=codes[bed.chrom])


def with_summits_inside(bed: Bed) -> Bed:
    """The features; summits outside of theirs are moved to the nearer end, counted and warned of.

    Raises:
        InputError: more than a tenth are outside, as where they count from the chromosome's start.
    """
    if bed.summits is None:
        return bed
    length = bed.ends - bed.starts
    outside = np.flatnonzero((bed.summits >= length) | (bed.summits < NO_SUMMIT))
    if not len(outside):
        return bed
    first = int(outside[0])
    fact = (
        f"{bed.path}: {len(outside):,} of {len(bed):,} summits lie outside of their peak (they "
        f"count from its start), the first in {bed.describe(first)}: {bed.summits[first]:,}"
    )
    if len(outside) > _FEW * len(bed):
        raise InputError(f"{fact}. Correct column 10, or leave it out.")
    log.warning("%s. Those are taken to be at the nearer end of the peak.", fact)
    inside = np.clip(bed.summits, 0, length - 1)
    return dataclasses.replace(bed, summits=np.where(bed.summits == NO_SUMMIT, NO_SUMMIT, inside))


def centres(bed: Bed) -> Positions:
    """The middle (n,) of each feature: its summit, where it has one, else (start + end) // 2."""
    middle = (bed.starts + bed.ends) // 2
    if bed.summits is None:
        return middle
    return np.where(bed.summits >= 0, bed.starts + bed.summits, middle)


def bed_from_frame(frame: pd.DataFrame, name: str, *, with_signal: bool = False) -> Bed:
    """The features of a data frame, as a notebook has them.

    Args:
        frame: (n, …) columns `chrom`, `start` and `end` (0-based, half-open), and where there
            `signal`, `summit` (bases after the start, -1 for none), `name` and `strand`; a row a
            feature.
        name: what errors call it.
        with_signal: whether there must be a signal.

    Raises:
        InputError: no rows, a column missing or not of numbers, or an end not above its start.
    """
    required = ["chrom", "start", "end", *(["signal"] if with_signal else [])]
    missing = [column for column in required if column not in frame.columns]
    if missing or not len(frame):
        raise InputError(
            f"{name}: a data frame of peaks has rows with {', '.join(required)}. Received: "
            f"{len(frame)} rows with {', '.join(map(str, frame.columns))[:80]}. Rename its columns."
        )
    refuse_doubled_columns(frame, name)
    whole = {column: frame[column] for column in ("start", "end", "summit") if column in frame}
    for column, values in whole.items():
        if not pd.api.types.is_integer_dtype(values) or values.isna().any():
            raise InputError(
                f"{name}: {column!r} must be whole numbers. Received: {values.dtype}. Convert it."
            )
    unnamed = np.flatnonzero(frame["chrom"].isna())
    if len(unnamed):
        raise InputError(
            f"{name}, row {unnamed[0]}: no chromosome, and {len(unnamed) - 1:,} more such rows. "
            "Leave them out."
        )
    chrom, names = pd.factorize(frame["chrom"].astype(str), sort=True)
    numbers = {column: values.to_numpy(np.int64) for column, values in whole.items()}
    signal = frame["signal"].to_numpy(np.float64) if with_signal else None
    bed = Bed(
        path=Path(name),
        names=tuple(names),
        chrom=chrom.astype(np.int64),
        starts=numbers["start"],
        ends=numbers["end"],
        signal=signal,
        summits=numbers.get("summit"),
        feature_names=_named(frame["name"]) if "name" in frame else None,
        strands=_strands(frame["strand"].to_numpy(object)) if "strand" in frame else None,
    )
    refuse_control(bed.names, name, "chromosome")
    if bed.feature_names is not None:
        refuse_control(set(bed.feature_names), name, "feature")
    bad = np.flatnonzero(_unusable(bed))
    if len(bad):
        raise InputError(
            f"{name}, row {bad[0]}: the start must not be negative, the end must be above it, and "
            f"the signal finite. Received: {bed.describe(int(bad[0]))}. Correct the row."
        )
    return with_summits_inside(bed)


def _named(column: "pd.Series[Any]") -> npt.NDArray[np.object_]:
    return np.where(column.isna(), _NO_TEXT, column.astype(str)).astype(object)


def _unusable(bed: Bed) -> npt.NDArray[np.bool_]:
    """Features (n,) that cannot be."""
    bad = (bed.starts < 0) | (bed.ends <= bed.starts)
    return bad if bed.signal is None else bad | ~np.isfinite(bed.signal)


_DTYPES = {
    "chrom": object,
    "start": np.int64,
    "end": np.int64,
    "signal": np.float64,
    "summit": np.int64,
    "name": object,
    "strand": object,
}


def _texts(column: "pd.Series[Any]") -> npt.NDArray[np.object_]:
    """A column of text; what a short line lacks is "." as BED has it."""
    texts: npt.NDArray[np.object_] = column.replace("", _NO_TEXT).to_numpy(object)
    return texts


def _strands(texts: npt.NDArray[np.object_]) -> npt.NDArray[np.object_] | None:
    return texts if set(texts) <= {"+", "-", _NO_TEXT} else None


def _explain(path: Path, used: dict[str, int], *, error: Exception | None = None) -> NoReturn:
    """Find the first line that is at fault; slow, and only for files already found wrong."""
    with open_bytes(path) as handle:
        lines = handle.read().removeprefix(BYTE_ORDER_MARK).splitlines()
    first = next((line for line in lines if is_feature(line)), b"")
    for number, line in enumerate(lines, 1):
        if not is_feature(line):
            continue
        fields = split_line(line, tabs=b"\t" in first)
        if reason := _fault(fields, used):
            raise InputError(
                f"{path}, line {number}: {reason}. Received: {' '.join(fields)[:60]!r}. "
                "Correct the file."
            )
    raise InputError(f"{path}: not a BED file ({one_line(error)}). Correct the file.") from error


def _fault(fields: list[str], used: dict[str, int]) -> str:
    """What is wrong with a feature line, "" for nothing."""
    needed = max(column for name, column in used.items() if name not in _NAMES)
    if len(fields) <= needed:
        return f"{len(fields)} columns, at least {needed + 1} are needed"
    if not fields[0].strip():
        return "no chromosome"
    for name, column in used.items():
        if _DTYPES[name] is np.float64 and not is_number(fields[column]):
            return f"the {name} must be a finite number"
        if _DTYPES[name] is np.int64 and _whole(fields[column]) is None:
            return f"the {name} must be a whole number"
    start, end = _whole(fields[1]), _whole(fields[2])
    assert start is not None
    assert end is not None
    if start < 0:
        return "the start must not be negative (BED counts from 0)"
    return "the end must be above the start" if end <= start else ""


def _whole(text: str) -> int | None:
    """A whole number as pandas takes it, 1e3 and 1000.0 too; None of anything else."""
    if re.fullmatch(r" *-?[0-9]{1,18} *", text):
        return int(text)
    if not re.fullmatch(r"[0-9]{1,18}(\.0*)?([eE]\+?[0-9]{1,2})?", text):
        return None
    value = float(text)
    return int(value) if value.is_integer() and value < _MOST else None


def check_chrom_names(how: str | None) -> None:
    """Refuse what is neither None nor one of `CHROM_NAMES`.

    Raises:
        InputError: it is not.
    """
    if how not in (None, *CHROM_NAMES):
        raise InputError(f"`chrom_names`: one of {', '.join(CHROM_NAMES)}. Received: {how!r}.")


def rename_chrom(name: str, how: str, lengths: dict[str, int]) -> str:
    """A chromosome's name as another source has it.

    Args:
        name: such as chr1 or 1.
        how: one of `CHROM_NAMES`: "strip" takes a leading `chr` away, "add" puts one before a name
            that has none. Where only that is in the genome, M becomes MT and chrMT becomes chrM,
            as Ensembl and UCSC name the mitochondrion.
        lengths: sequence name → length of the genome's sequences.
    """
    bare = name.removeprefix("chr")
    prefix = "chr" if how == "add" else ""
    twin = prefix + {"M": "MT", "MT": "M"}.get(bare, bare)
    return twin if twin in lengths and prefix + bare not in lengths else prefix + bare


def _rename(bed: Bed, how: str, lengths: dict[str, int]) -> Bed:
    return _named_anew(bed, [rename_chrom(name, how, lengths) for name in bed.names])


def _advice(bed: Bed, lengths: dict[str, int]) -> str:
    """What to do about a file that has no chromosome in common with the genome."""
    for how in CHROM_NAMES:
        if any(rename_chrom(name, how, lengths) in lengths for name in bed.names):
            return f"Pass `chrom_names={how!r}`"
    return "Rename one side, or use the genome that the file was made with"


def in_genome(bed: Bed, lengths: dict[str, int]) -> npt.NDArray[np.bool_]:
    """Which features (n,) lie on a sequence of the genome.

    Peak callers lengthen reads, so that a last peak may end some bases past its chromosome. Such
    are counted and warned of; what lies past the end has no bases and so no meaning.

    Raises:
        InputError: none does; one lies past the end of its sequence by half or more; or many end
            past it, as with another assembly: more than one in a hundred, and than two on each
            sequence that has some.
    """
    limit = np.array([lengths.get(name, -1) for name in bed.names], np.int64)[bed.chrom]
    known = limit >= 0
    if not known.any():
        raise InputError(
            f"{bed.path}: none of its chromosomes is in the FASTA. Received: "
            f"{shorten(bed.names, 3)}; the FASTA has {shorten(list(lengths), 3)}. "
            f"{_advice(bed, lengths)}."
        )
    past = np.flatnonzero(known & (bed.ends > limit))
    if not len(past):
        return known
    outside = past[(bed.starts[past] + bed.ends[past]) // 2 >= limit[past]]
    worst = int((outside if len(outside) else past)[0])
    fact = (
        f"{bed.path}: {len(past):,} of {len(bed):,} features end beyond their chromosome, such as "
        f"{bed.describe(worst)} where the chromosome has {limit[worst]:,} bases"
    )
    few = max(_FEW_PAST_END * int(known.sum()), 2 * len(np.unique(bed.chrom[past])))
    if len(outside) or len(past) > few:
        raise InputError(f"{fact}. Use the genome that the file was made with.")
    log.warning("%s. What lies past the end does not count.", fact)
    return known


def read_located(
    path: Path,
    lengths: dict[str, int],
    *,
    chrom_names: str | None,
    with_names: bool = False,
) -> tuple[Bed, npt.NDArray[np.bool_]]:
    """A BED file, its chromosomes renamed if so asked, and which features (n,) the genome has.

    Raises:
        InputError: the file is not BED, or does not fit the genome.
    """
    return locate(read_bed(path, with_names=with_names), lengths, chrom_names=chrom_names)


def locate(
    bed: Bed, lengths: dict[str, int], *, chrom_names: str | None
) -> tuple[Bed, npt.NDArray[np.bool_]]:
    """The features, chromosomes renamed if so asked, and which of them (n,) the genome has.

    Raises:
        InputError: they do not fit the genome.
    """
    check_chrom_names(chrom_names)
    if chrom_names is None:
        return bed, in_genome(bed, lengths)
    renamed = _rename(bed, chrom_names, lengths)
    if not set(renamed.names) & set(lengths) and set(bed.names) & set(lengths):
        raise InputError(
            f"{bed.path}: `chrom_names={chrom_names!r}` makes {shorten(renamed.names, 3)} of "
            f"{shorten(bed.names, 3)}, which are in the FASTA as they are. Leave it out."
        )
    return renamed, in_genome(renamed, lengths)
