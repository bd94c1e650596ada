"""Labelled sequences → store: splits without twins on both sides, contradictions, made negatives.

Rows keep the order of their sources. Sequences that are equal, or nearly so (see `duplicates`), on
either strand, get the same split where the splits are drawn here; where the source says the splits,
those that training shares with another split are counted and, if asked for, taken out of training.
"""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.data.build_summary import BuildSummary, Stopwatch
from danq_keras.data.duplicates import find_twins, group_twins
from danq_keras.data.labelled import (
    UNSAID,
    Columns,
    Labelled,
    from_frame,
    join,
    name_of_file,
    read_fasta,
    read_tables,
)
from danq_keras.data.negatives import Negatives
from danq_keras.data.store import (
    DATASET_FILES,
    SPLITS,
    STRANDS,
    Dataset,
    StoreHeader,
    check_seed,
    check_strands,
    open_store,
)
from danq_keras.data.store_write import Rows, SplitWriter, new_dataset
from danq_keras.data.targets import Targets
from danq_keras.genome.dna import pack_codes, pack_labels, reverse_complement_codes
from danq_keras.genome.shuffle import dinucleotide_shuffle
from danq_keras.system.errors import InputError, shorten
from danq_keras.system.files import PathLike, refuse_existing, refuse_replacing
from danq_keras.system.terminal import log, progress

Integers: TypeAlias = npt.NDArray[np.int64]

_BLOCK_ROWS = 8192
CONFLICTS = ("refuse", "drop", "keep")
# Why a sequence is left out.
CONTRADICTORY = "same sequence with another label"
IN_OTHER_SPLIT = "training sequence that is in validation or test too, or nearly"
# Below this share of a split, what training shares with it is told without a warning.
_WARN_SHARED = 0.01


@dataclass(frozen=True)
class SequenceSpec:
    """How labelled sequences become a dataset.

    Attributes:
        valid_fraction: share of the sequences for validation, drawn where the source has none; None
            for 0.1.
        test_fraction: the same for testing; None for 0.1.
        seed: number from which the splits and the made negatives are drawn.
        strands: "both": the reverse complement of a sequence has the same labels; "given": only the
            sequence as it stands has a meaning, as in RNA.
        negatives: negatives to make, see `negatives.Negatives`.
        conflicts: what becomes of equal sequences with different labels: "refuse", "drop" or
            "keep" them.
        drop_shared: leave out training sequences that are in validation or test too, equal or
            nearly so, on either strand.
    """

    valid_fraction: float | None = None
    test_fraction: float | None = None
    seed: int = 0
    strands: str = "both"
    negatives: str | None = None
    conflicts: str = "refuse"
    drop_shared: bool = False

    def __post_init__(self) -> None:
        for name in ("valid_fraction", "test_fraction"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise InputError(f"`{name}`: a share in [0, 1). Received: {value}.")
        if (self.valid_fraction or 0) + (self.test_fraction or 0) >= 1:
            raise InputError(
                "`valid_fraction` and `test_fraction`: together below 1. Received: "
                f"{self.valid_fraction} and {self.test_fraction}."
            )
        check_seed(self.seed)
        check_strands(self.strands)
        if self.conflicts not in CONFLICTS:
            raise InputError(
                f"`conflicts`: one of {', '.join(CONFLICTS)}. Received: {self.conflicts!r}."
            )
        if self.negatives is not None and Negatives.parse(self.negatives).kind != "shuffle":
            raise InputError(
                "`negatives`: shuffle or shuffle:K for sequences without a genome. Received: "
                f"{self.negatives!r}."
            )


def build_dataset_from_sequences(
    out: PathLike,
    sequences: pd.DataFrame | PathLike | Sequence[PathLike] | Mapping[str, pd.DataFrame] = (),
    *,
    positives: PathLike | None = None,
    negatives: PathLike | None = None,
    target: str | None = None,
    sequence_column: str | None = None,
    split_column: str | None = None,
    label_columns: str | Sequence[str] | None = None,
    targets_column: str | None = None,
    window: int | None = None,
    valid_fraction: float | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
    strands: str = "both",
    conflicts: str = "refuse",
    drop_shared: bool = False,
    overwrite: bool = False,
) -> Dataset:
    """Build a dataset from sequences with labels.

    Args:
        out: the new dataset folder.
        sequences: a data frame, a table (tab- or comma-separated, plain or gzip) or several, or
            target → data frame. Columns are found by name: `sequence`, `split` (train, valid,
            test), and every column of 0 and 1 is a target; empty cells are not known. A single
            column `label` takes the file's name as its target. Several tables join: what one says
            nothing about does not count. Files named train, valid (dev, val) and test are splits.
        positives: FASTA file of bound sequences, in place of `sequences`.
        negatives: FASTA file of unbound ones, with `positives`; or "shuffle" or "shuffle:K", which
            makes K shuffles of every positive sequence, with the same counts of neighbouring bases.
        target: name of the target of a column `label` or of FASTA files; None takes the file's, and
            "label" of a data frame.
        sequence_column: name of the column of sequences; None finds it.
        split_column: name of the column of splits; None finds it.
        label_columns: names of the columns of labels; None takes every column of 0 and 1.
        targets_column: name of a column that lists the positive targets of a row, separated by
            commas or semicolons; None takes one called `targets`, if there is one.
        window: bases L to which every sequence is cut or filled around its middle; None refuses
            sequences of unequal length.
        valid_fraction: share of validation, where no split is given; None for 0.1.
        test_fraction: share of testing; None for 0.1.
        seed: number from which splits and made negatives are drawn.
        strands: "both", or "given" where only the strand as it stands has a meaning (RNA).
        conflicts: what to do with equal sequences of different labels: "refuse", "drop" or "keep".
        drop_shared: leave out training sequences that are in validation or test too, equal or
            nearly so, on either strand (see `danq_keras.data.duplicates`).
        overwrite: whether to replace `out` if it is there.

    Returns:
        The dataset; its `summary` says what was left out, and why.

    Raises:
        InputError: the sequences, labels or choices are unusable; nothing is written.

    Example:
        data = dq.build_dataset_from_sequences("data/gabpa", "GABPA.tsv.gz")
        print(data.summary.describe())
    """
    out = Path(out)
    refuse_replacing(out, "sequences", overwrite=overwrite, written=DATASET_FILES)
    refuse_existing(out, overwrite=overwrite)
    begin, watch = time.perf_counter(), Stopwatch()
    made = str(negatives) if Negatives.is_one(negatives) else None
    unbound = None if made else negatives
    spec = SequenceSpec(valid_fraction, test_fraction, seed, strands, made, conflicts, drop_shared)
    columns = Columns(
        sequence_column,
        split_column,
        (label_columns,) if isinstance(label_columns, str) else _tuple(label_columns),
        targets_column,
    )
    with watch.stage("reading sequences"):
        if positives is not None:
            if not _is_none(sequences):
                raise InputError("`positives` takes the place of `sequences`. Give one kind.")
            fasta = [Path(positives)] + ([] if unbound is None else [Path(unbound)])
            name = target or name_of_file(fasta[0], (".fa", ".fasta", ".fna"))
            found = join(
                [read_fasta(path, name, 1 - i, window=window) for i, path in enumerate(fasta)]
            )
            described = ", ".join(path.name for path in fasta)
        elif unbound is not None:
            raise InputError(
                f"`negatives`: shuffle or shuffle:K, or a FASTA file with `positives`. Received: "
                f"{unbound}."
            )
        else:
            found, described = _read(sequences, columns, target, window)
    summary = _build(out, found, spec, described, watch=watch, overwrite=overwrite)
    summary.seconds, summary.stages = time.perf_counter() - begin, watch.seconds
    return dataclasses.replace(open_store(out), summary=summary)


def _tuple(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _is_none(sequences: object) -> bool:
    return isinstance(sequences, (tuple, list, Mapping)) and not sequences


def _read(
    sequences: object, columns: Columns, target: str | None, window: int | None
) -> tuple[Labelled, str]:
    """The sequences of tables or data frames, and what to call them."""
    if _is_none(sequences):
        raise InputError("`sequences`: none. Give a table, a data frame, or FASTA `positives`.")
    if isinstance(sequences, pd.DataFrame):
        frame = from_frame(sequences, "`sequences`", target or "label", columns, window=window)
        return frame, "a data frame"
    if isinstance(sequences, Mapping):
        parts = [
            from_frame(frame, str(name), str(name), columns, window=window)
            for name, frame in sequences.items()
        ]
        return join(parts), f"data frames {shorten(list(map(str, sequences)), 10)}"
    paths = (
        [Path(sequences)]
        if isinstance(sequences, (str, Path))
        else [Path(each) for each in sequences]  # type: ignore[attr-defined]
    )
    parts = read_tables(paths, columns, window=window)
    if target is not None:
        if any(len(part.names) > 1 for part in parts):
            raise InputError(
                f"`target`: the tables have several targets ({shorten(parts[0].names, 5)}). "
                "Leave it out."
            )
        parts = [dataclasses.replace(part, names=(target,)) for part in parts]
    return join(parts), f"tables {shorten([path.name for path in paths], 10)}"


def _build(
    out: Path,
    found: Labelled,
    spec: SequenceSpec,
    described: str,
    *,
    watch: Stopwatch,
    overwrite: bool,
) -> BuildSummary:
    targets = Targets(found.names)
    summary = BuildSummary.empty(targets, SPLITS)
    summary.rows = "sequences"
    both = spec.strands == "both"
    with watch.stage("comparing sequences"):
        twins = _twins(found, both=both)
        kept = _settle_conflicts(found, twins, spec, summary)
        found = found.at(kept)
        split = _splits(found, spec)
        memory = ""
        if found.split is not None and spec.drop_shared:
            alone = _without_shared(found, split)
            summary.bins_left_out[IN_OTHER_SPLIT] += int((~alone).sum())
            found, split = found.at(alone), split[alone]
        elif found.split is not None:
            memory = _tell_shared(found, split)
    if spec.negatives is not None:
        with watch.stage("shuffling"):
            found, split = _with_shuffles(found, split, spec)
    _count(found, split, summary)
    _require_classes(summary, found, split)
    # What the choices were, in the words of the command.
    choices = [f"strands {spec.strands}"]
    if spec.negatives is not None:
        choices.append(f"negatives {spec.negatives}, seed {spec.seed}")
    if found.split is None:
        choices.append(f"splits drawn with seed {spec.seed}")
    if memory:
        choices.append(memory)
    source = f"{described}; {', '.join(choices)}"
    length = found.codes.shape[1]
    header = StoreHeader(
        length, length, STRANDS[spec.strands], targets, source, one_strand=spec.strands == "given"
    )
    with watch.stage("writing"), new_dataset(out, overwrite=overwrite) as folder:
        _write(folder, header, found, split)
    summary.warn_of_gaps()
    return summary


def _twins(found: Labelled, *, both: bool) -> Integers:
    """A number (N,) for each sequence, the same for equal ones (on either strand with `both`)."""
    packed = pack_codes(found.codes)
    if both:
        other = pack_codes(reverse_complement_codes(found.codes))
        first = np.argmax(packed != other, axis=1)
        rows = np.arange(len(packed))
        turned = packed[rows, first] > other[rows, first]
        packed[turned] = other[turned]
    whole = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1])))[:, 0]
    return np.unique(whole, return_inverse=True)[1].astype(np.int64)


def _settle_conflicts(
    found: Labelled, twins: Integers, spec: SequenceSpec, summary: BuildSummary
) -> npt.NDArray[np.bool_]:
    """Which sequences to keep: equal ones must not say 0 and 1 of the same target."""
    n_groups = int(twins.max()) + 1
    contradictory = np.zeros(n_groups, bool)
    for column in found.labels.T:
        said = [np.bincount(twins[column == value], minlength=n_groups) > 0 for value in (0, 1)]
        contradictory |= said[0] & said[1]
    wrong = contradictory[twins]
    if not wrong.any():
        return ~wrong
    first, second = np.flatnonzero(twins == twins[np.argmax(wrong)])[:2]
    fact = (
        f"{int(contradictory.sum()):,} sequences stand there with different labels, such as "
        f"{found.place(first)} and {found.place(second)}"
    )
    if spec.conflicts == "refuse":
        raise InputError(
            f"{fact}. Correct them, or give `conflicts` as drop (leave them out) or keep."
        )
    log.warning("%s: %s.", fact, "left out" if spec.conflicts == "drop" else "kept")
    if spec.conflicts == "keep":
        return np.ones(len(wrong), bool)
    summary.bins_left_out[CONTRADICTORY] += int(wrong.sum())
    return ~wrong


def _splits(found: Labelled, spec: SequenceSpec) -> npt.NDArray[np.int8]:
    """Split (N,) of each sequence, a number into `SPLITS`."""
    if found.split is not None:
        split = np.array([SPLITS.index(word) for word in found.split.tolist()], np.int8)
        given = [name for code, name in enumerate(SPLITS) if (split == code).any()]
        if spec.test_fraction is not None or (spec.valid_fraction is not None and "valid" in given):
            raise InputError(
                "`valid_fraction`, `test_fraction`: the sequences have their splits "
                f"({', '.join(given)}). Leave the fractions out."
            )
        if "train" not in given:
            raise InputError(
                f"The splits have no training sequences. Received: {', '.join(given)}."
            )
        if "valid" not in given and spec.valid_fraction != 0:
            share = 0.1 if spec.valid_fraction is None else spec.valid_fraction
            train = np.flatnonzero(split == 0)
            split[train] = _drawn(found.at(train), (share, 0.0), spec)
            log.info("No validation split: %.0f %% of training, drawn.", 100 * share)
        return split
    fractions = [0.1 if f is None else f for f in (spec.valid_fraction, spec.test_fraction)]
    return _drawn(found, (fractions[0], fractions[1]), spec)


def _drawn(
    found: Labelled, fractions: tuple[float, float], spec: SequenceSpec
) -> npt.NDArray[np.int8]:
    """Splits (N,) by chance, equal and nearly equal sequences together; large families train."""
    groups = group_twins(pack_codes(found.codes), found.codes.shape[1])
    sizes = np.bincount(groups)
    wanted = [round(share * len(found)) for share in fractions]
    of_group = np.zeros(len(sizes), np.int8)
    filled = [0, 0]
    for group in np.random.default_rng([spec.seed, 0x5E0]).permutation(len(sizes)).tolist():
        for i in (1, 0):  # test first, then validation
            if filled[i] + sizes[group] <= wanted[i]:
                filled[i] += int(sizes[group])
                of_group[group] = i + 1
                break
        if filled == wanted:
            break
    return of_group[groups]


def _tell_shared(found: Labelled, split: npt.NDArray[np.int8]) -> str:
    """Say how much of validation and test is in training too; the line, empty if little is."""
    packed, window = pack_codes(found.codes), found.codes.shape[1]
    train, said, most = packed[split == 0], [], 0.0
    for code, name in list(enumerate(SPLITS))[1:]:
        rows = packed[split == code]
        n_shared = int(find_twins(rows, train, window).sum())
        if n_shared:
            share = n_shared / len(rows)
            said.append(f"{n_shared:,} of {len(rows):,} {name} sequences ({share:.1%})")
            most = max(most, share)
    if not said:
        return ""
    line = f"{' and '.join(said)} are in training too, or nearly"
    if most < _WARN_SHARED:
        log.info("%s.", line)
        return ""
    log.warning(
        "%s: their scores owe something to memory. Leave those out of training with `drop_shared`, "
        "or have the splits drawn, by tables without the column.",
        line,
    )
    return line


def _without_shared(found: Labelled, split: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """Which sequences (N,) stay when training gives up those that another split holds too.

    Raises:
        InputError: none is left to train on.
    """
    packed, train = pack_codes(found.codes), np.flatnonzero(split == 0)
    stay = np.ones(len(found), bool)
    stay[train] = ~find_twins(packed[train], packed[split != 0], found.codes.shape[1])
    if not stay[train].any():
        raise InputError(
            f"`drop_shared`: each of the {len(train):,} training sequences is in validation or "
            "test too, or nearly. Leave the flag out, or have the splits drawn, by tables without "
            "the column."
        )
    return stay


def _with_shuffles(
    found: Labelled, split: npt.NDArray[np.int8], spec: SequenceSpec
) -> tuple[Labelled, npt.NDArray[np.int8]]:
    """The sequences, and after them the shuffles of all positive ones, in their splits."""
    copies = Negatives.parse(str(spec.negatives)).copies
    rows = np.repeat(np.flatnonzero((found.labels == 1).any(axis=1)), copies)
    codes = found.codes[rows]
    rng = np.random.default_rng([spec.seed, 0x5F1])
    with progress(total=len(codes), desc="shuffle", unit="sequence") as bar:
        for row in codes:
            row[:] = dinucleotide_shuffle(row, rng)
            bar.update()
    # A shuffle is bound by none of the targets that its sequence says something about.
    labels = np.where(found.labels[rows] == UNSAID, UNSAID, 0).astype(np.int8)
    shuffled = dataclasses.replace(found.at(rows), codes=codes, labels=labels, listed=False)
    return join([found, shuffled]), np.concatenate([split, split[rows]])


def _count(found: Labelled, split: npt.NDArray[np.int8], summary: BuildSummary) -> None:
    for code, name in enumerate(SPLITS):
        labels = found.labels[split == code]
        summary.n_windows[name] = len(labels)
        summary.positives[code] = (labels == 1).sum(axis=0)
    summary.ignored = int((found.labels == UNSAID).sum())


def _require_classes(summary: BuildSummary, found: Labelled, split: npt.NDArray[np.int8]) -> None:
    """Refuse a split in which no target has both classes: nothing could be learned or measured.

    Raises:
        InputError: such a split.
    """
    for code, name in enumerate(SPLITS):
        labels = found.labels[split == code]
        if not len(labels):
            continue
        negatives = (labels == 0).any(axis=0)
        positives = summary.positives[code] > 0
        if (negatives & positives).any():
            continue
        lacking = "negative" if positives.any() else "positive"
        cure = (
            "Add unbound sequences, or make some: `negatives` shuffle"
            if lacking == "negative"
            else "Add some, or move them between the splits"
        )
        raise InputError(
            f"The {name} split has no {lacking} of any target that has the other class "
            f"({len(labels):,} sequences). {cure}."
        )


def _write(folder: Path, header: StoreHeader, found: Labelled, split: npt.NDArray[np.int8]) -> None:
    unsaid = bool((found.labels == UNSAID).any())
    for code, name in enumerate(SPLITS):
        rows = np.flatnonzero(split == code)
        path = folder / f"{name}.h5"
        with SplitWriter(path, header, n_windows=len(rows), with_ignore=unsaid) as writer:
            for block in _blocks(found, rows, unsaid=unsaid):
                writer.append(block)


def _blocks(found: Labelled, rows: Integers, *, unsaid: bool) -> Iterator[Rows]:
    for begin in range(0, len(rows), _BLOCK_ROWS):
        block = rows[begin : begin + _BLOCK_ROWS]
        labels = found.labels[block]
        yield Rows(
            pack_codes(found.codes[block]),
            pack_labels(labels == 1),
            pack_labels(labels == UNSAID) if unsaid else None,
        )
