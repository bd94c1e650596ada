"""BED and peak files, and data frames of the same columns, beside the genome that they refer to.

Interval arrays are int64, 0-based and half-open: `starts` (n,), `ends` (n,). What intervals cover
is the matter of `intervals`; nothing here knows targets, labels or splits.
"""

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.genome.fasta import Positions
from danq_keras.system.errors import InputError, one_line, shorten
from danq_keras.system.files import open_bytes

_HEADER_WORDS = ("#", "track", "browser")
_NARROW_PEAK_COLUMNS = 10  # Source: UCSC, ENCODE narrowPeak is BED6+4
_BROAD_PEAK_COLUMNS = 9  # Source: UCSC, ENCODE broadPeak is BED6+3
_SCORE, _SIGNAL, _SUMMIT = 4, 6, 9
_NAMES = {"name": 3, "strand": 5}
_NO_TEXT = "."
CHROM_NAMES = ("strip", "add")


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
        here = self.chrom == self.names.index(chrom) if chrom in self.names else slice(0)
        return self.starts[here], self.ends[here]

    def describe(self, index: int) -> str:
        """CHROM:START-END of a feature, as the file has it (0-based, half-open)."""
        return f"{self.names[self.chrom[index]]}:{self.starts[index]}-{self.ends[index]}"


def read_bed(path: Path, *, with_signal: bool = False, with_names: bool = False) -> Bed:
    """Read a BED, narrowPeak or broadPeak file, plain or gzip.

    Leading `#`, `track` and `browser` lines are passed over. A narrowPeak is recognised by its ten
    columns, the last four numbers, a broadPeak by its name and nine columns.

    Args:
        path: BED, narrowPeak or broadPeak, plain or gzip.
        with_signal: also read the signal, which must then be there; other BED files have their
            score column read as such.
        with_names: also read names (column 4) and strands (column 6), where they are; a column 6
            with anything but +, - and . is no strand.

    Raises:
        InputError: no features, too few columns, words for numbers, or an end not above its start;
            the message names the line.
    """
    try:
        with open_bytes(path) as handle:
            n_header, first = _pass_header(handle)
            handle.seek(0)
            fields = _split(first)
            used = _columns(path, fields, with_signal=with_signal)
            if with_names:
                used |= {name: i for name, i in _NAMES.items() if i < len(fields)}
            table = pd.read_csv(
                handle,
                sep="\t" if b"\t" in first else r"\s+",
                header=None,
                skiprows=n_header,
                usecols=list(used.values()),
                dtype={column: _DTYPES[name] for name, column in used.items()},
                na_filter=False,
                quoting=3,
            )
    except (ValueError, OverflowError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        _explain(path, with_signal=with_signal, error=error)
    columns = {name: table[column] for name, column in used.items()}
    names, chrom = columns["chrom"].cat.categories, columns["chrom"].cat.codes
    bed = Bed(
        path=path,
        names=tuple(str(name) for name in names),
        chrom=chrom.to_numpy(np.int64),
        starts=columns["start"].to_numpy(np.int64),
        ends=columns["end"].to_numpy(np.int64),
        signal=columns["signal"].to_numpy(np.float64) if "signal" in columns else None,
        summits=columns["summit"].to_numpy(np.int64) if "summit" in columns else None,
        feature_names=_texts(columns["name"]) if "name" in columns else None,
        strands=_strands(_texts(columns["strand"])) if "strand" in columns else None,
    )
    if _unusable(bed).any() or "" in bed.names:
        _explain(path, with_signal=with_signal)
    return bed


def bed_from_frame(frame: pd.DataFrame, name: str, *, with_signal: bool = False) -> Bed:
    """The features of a data frame, as a notebook has them.

    Args:
        frame: (n, …) columns `chrom`, `start` and `end` (0-based, half-open), and where there
            `signal`, `summit` (bases after the start, -1 for none) and `strand`; a row a feature.
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
    whole = {column: frame[column] for column in ("start", "end", "summit") if column in frame}
    for column, values in whole.items():
        if not pd.api.types.is_integer_dtype(values) or values.isna().any():
            raise InputError(
                f"{name}: {column!r} must be whole numbers. Received: {values.dtype}. Convert it."
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
        strands=_strands(frame["strand"].to_numpy(object)) if "strand" in frame else None,
    )
    bad = np.flatnonzero(_unusable(bed))
    if len(bad):
        raise InputError(
            f"{name}, row {bad[0]}: the start must not be negative, the end must be above it, and "
            f"the signal finite. Received: {bed.describe(int(bad[0]))}. Correct the row."
        )
    return bed


def _unusable(bed: Bed) -> npt.NDArray[np.bool_]:
    """Features (n,) that cannot be."""
    bad = (bed.starts < 0) | (bed.ends <= bed.starts)
    return bad if bed.signal is None else bad | ~np.isfinite(bed.signal)


_DTYPES = {
    "chrom": "category",
    "start": np.int64,
    "end": np.int64,
    "signal": np.float64,
    "summit": np.int64,
    "name": "category",
    "strand": "category",
}


def _texts(column: "pd.Series[Any]") -> npt.NDArray[np.object_]:
    """A column of text; what a short line lacks is "." as BED has it."""
    texts = np.array([str(text) or _NO_TEXT for text in column.cat.categories], object)
    named: npt.NDArray[np.object_] = texts[column.cat.codes.to_numpy()]
    return named


def _strands(texts: npt.NDArray[np.object_]) -> npt.NDArray[np.object_] | None:
    return texts if set(texts) <= {"+", "-", _NO_TEXT} else None


def _pass_header(handle: IO[bytes]) -> tuple[int, bytes]:
    """Number of lines before the first feature, and that feature's line (b"" for none)."""
    n_header = 0
    for line in handle:
        if line.strip() and not line.decode("utf-8", "replace").startswith(_HEADER_WORDS):
            return n_header, line
        n_header += 1
    return n_header, b""


def _split(line: bytes) -> list[str]:
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    return text.split("\t") if "\t" in text else text.split()


def _columns(path: Path, fields: list[str], *, with_signal: bool) -> dict[str, int]:
    """Which columns to read of a file whose first feature has these fields.

    Raises:
        InputError: the file has no features, too few columns, or no signal where one is needed.
    """
    if not fields:
        raise InputError(f"{path}: no features. A BED file needs at least one line.")
    if len(fields) < 3:
        raise InputError(
            f"{path}: a BED file has at least 3 columns (chromosome, start, end). "
            f"Received: {len(fields)}. Separate the columns with tabs."
        )
    used = {"chrom": 0, "start": 1, "end": 2}
    named = path.name.lower()
    narrow = "narrowpeak" in named or all(_is_number(field) for field in fields[_SIGNAL:])
    narrow &= len(fields) == _NARROW_PEAK_COLUMNS
    broad = "broadpeak" in named and len(fields) == _BROAD_PEAK_COLUMNS
    if narrow:
        used["summit"] = _SUMMIT
    if with_signal:
        used["signal"] = _SIGNAL if narrow or broad else _SCORE
        if used["signal"] >= len(fields):
            raise InputError(
                f"{path}: no signal (narrowPeak, broadPeak) and no score (BED column 5) for "
                f"`min_signal`. Received: {len(fields)} columns. Leave the option out."
            )
    return used


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _explain(path: Path, *, with_signal: bool, error: Exception | None = None) -> NoReturn:
    """Find the first line that is at fault; slow, and only for files already found wrong."""
    used: dict[str, int] = {}
    with open_bytes(path) as handle:
        for number, line in enumerate(handle, 1):
            fields = _split(line)
            if not used:
                if not line.strip() or fields[0].startswith(_HEADER_WORDS):
                    continue
                used = _columns(path, fields, with_signal=with_signal)
            # pandas passes over blank lines too.
            reason = line.strip() and _fault(fields, used)
            if reason:
                raise InputError(
                    f"{path}, line {number}: {reason}. Received: {' '.join(fields)[:60]!r}. "
                    "Correct the file."
                )
    raise InputError(f"{path}: not a BED file ({one_line(error)}). Correct the file.") from error


def _fault(fields: list[str], used: dict[str, int]) -> str:
    """What is wrong with a feature line, "" for nothing."""
    if len(fields) <= max(used.values()):
        return f"{len(fields)} columns, at least {max(used.values()) + 1} are needed"
    if not fields[0]:
        return "no chromosome"
    for name, column in used.items():
        if _DTYPES[name] is np.float64 and not _is_number(fields[column]):
            return f"the {name} must be a finite number"
        if _DTYPES[name] is np.int64 and not re.fullmatch(r"-?\d{1,18}", fields[column]):
            return f"the {name} must be a whole number"
    if int(fields[1]) < 0:
        return "the start must not be negative (BED counts from 0)"
    return "the end must be above the start" if int(fields[2]) <= int(fields[1]) else ""


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
    renamed = [rename_chrom(name, how, lengths) for name in bed.names]
    names = tuple(dict.fromkeys(renamed))  # two names may have become one
    codes = np.array([names.index(name) for name in renamed], np.int64)
    return dataclasses.replace(bed, names=names, chrom=codes[bed.chrom])


def _advice(bed: Bed, lengths: dict[str, int]) -> str:
    """What to do about a file that has no chromosome in common with the genome."""
    for how in CHROM_NAMES:
        if any(rename_chrom(name, how, lengths) in lengths for name in bed.names):
            return f"Pass `chrom_names={how!r}`"
    return "Rename one side, or use the genome that the file was made with"


def in_genome(bed: Bed, lengths: dict[str, int]) -> npt.NDArray[np.bool_]:
    """Which features (n,) lie on a sequence of the genome.

    Raises:
        InputError: none does, or one ends beyond its sequence.
    """
    limit = np.array([lengths.get(name, -1) for name in bed.names], np.int64)[bed.chrom]
    known = limit >= 0
    if not known.any():
        raise InputError(
            f"{bed.path}: none of its chromosomes is in the FASTA. Received: "
            f"{shorten(bed.names, 3)}; the FASTA has {shorten(list(lengths), 3)}. "
            f"{_advice(bed, lengths)}."
        )
    beyond = np.flatnonzero(known & (bed.ends > limit))
    if len(beyond):
        worst = int(beyond[0])
        raise InputError(
            f"{bed.path}: {len(beyond)} features end beyond their chromosome, the first is "
            f"{bed.describe(worst)} where the chromosome has {limit[worst]} bases. "
            "Use the genome that the file was made with."
        )
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
    if chrom_names is not None:
        bed = _rename(bed, chrom_names, lengths)
    return bed, in_genome(bed, lengths)
