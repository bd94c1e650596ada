"""Windows of one split that another split holds too: what a test score owes to memory.

Two measures, both blind to the strand. Windows are *equal* when they, or one and the reverse
complement of the other, have the same bases. They are *near-duplicates* when they share at least
half of their sketches; a sketch is the `SKETCH` lowest hashes of a window's canonical `KMER`-mers
(bottom-k MinHash), so that shared repeats, paralogues and shifted windows show. Unknown bases
make no k-mer; a window without any known base is not counted. Where a k-mer stands in more than
`_MATES` windows, the first of them are looked at, so that windows of large repeat families are
counted when they resemble one of those.

Source: the sketch, Broder, On the resemblance and containment of documents, 1997.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from danq_keras.data.store import SPLITS, Dataset, Split
from danq_keras.genome.dna import UNKNOWN, Bytes, reverse_complement, unpack_codes
from danq_keras.system.terminal import progress

KMER = 16
SKETCH = 16
_BLOCK_ROWS = 1024
_INDEX_ROWS = 1 << 20  # bounds the memory of the index, 134 MB
_QUERY_ROWS = 8192
_MATES = 64  # windows that are looked at for one k-mer: a repeat may have many thousands
_THREADS = 2
_HALF = np.uint64(32)
_NONE = np.uint32(0xFFFFFFFF)  # fills the sketch of a window with few k-mers

Hashes: TypeAlias = npt.NDArray[np.uint64]
Sketches: TypeAlias = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Overlap:
    """Windows of `split` that have an equal, or a near-duplicate, in `other`.

    `near` counts the equal ones too. `n_windows` of `split` have a known base.
    """

    split: str
    other: str
    n_windows: int
    equal: int
    near: int


@dataclass(frozen=True, eq=False)
class _Marks:
    """What stands for windows: `equal` (n,) hashes, `sketch` (n, SKETCH) ascending."""

    equal: Hashes
    sketch: Sketches


def count_duplicates(dataset: Dataset) -> list[Overlap]:
    """Count the windows that two splits share; splits without windows are passed over.

    Returns:
        Validation beside training, test beside training, test beside validation.
    """
    filled = [name for name in SPLITS if dataset.split(name).n_windows]
    if len(filled) < 2:
        return []
    with progress(
        total=sum(dataset.split(name).n_windows for name in filled),
        desc="look for duplicates",
        unit="window",
        unit_scale=True,
    ) as bar:
        marks = {name: _mark(dataset.split(name), bar) for name in filled}
    return [
        _overlap(split, other, marks[split], marks[other])
        for split, other in (("valid", "train"), ("test", "train"), ("test", "valid"))
        if split in filled and other in filled
    ]


def describe_overlaps(overlaps: Sequence[Overlap]) -> str:
    """The counts as lines of text."""
    if not overlaps:
        return "windows that two splits share: only one split has windows"
    lines = [f"windows that two splits share (near: half of {SKETCH} lowest {KMER}-mers):"]
    for overlap in overlaps:
        equal, near = (
            f"{n:,} ({n / max(1, overlap.n_windows):.2%})" for n in (overlap.equal, overlap.near)
        )
        lines.append(
            f"  {overlap.split} in {overlap.other}: {equal} equal, {near} equal or near, "
            f"of {overlap.n_windows:,}"
        )
    return "\n".join(lines)


def _overlap(split: str, other: str, marks: _Marks, others: _Marks) -> Overlap:
    equal = np.isin(marks.equal, others.equal)
    near = equal.copy()
    with progress(total=len(others.equal), desc=f"{split} beside {other}", unit="window") as bar:
        for begin in range(0, len(others.equal), _INDEX_ROWS):
            sketches = others.sketch[begin : begin + _INDEX_ROWS]
            rows = np.flatnonzero(~near)  # those found need no second look
            near[rows] = _has_mate(marks.sketch[rows], sketches)
            bar.update(len(sketches))
    return Overlap(split, other, len(equal), int(equal.sum()), int(near.sum()))


def group_twins(packed: Bytes, window: int) -> npt.NDArray[np.int64]:
    """A number (N,) for each packed window, the same for equal and near-duplicate ones.

    A window that resembles two others brings them together, however little they resemble.
    """
    marks = _mark_rows(packed, window)
    first = np.unique(marks.equal, return_index=True, return_inverse=True)[1:]
    pairs = [np.stack([np.arange(len(packed)), first[0][first[1]]])]
    pairs += [np.stack(each) for each in _mates(marks.sketch, marks.sketch)]
    query, mate = np.concatenate(pairs, axis=1)
    links = coo_array((np.ones(len(query), bool), (query, mate)), (len(packed),) * 2)
    groups: npt.NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    return groups


def find_twins(packed: Bytes, others: Bytes, window: int) -> npt.NDArray[np.bool_]:
    """Which packed windows (N,) have an equal or near-duplicate one among `others` (M, same width).

    Windows without a known base are equal to each other here.
    """
    marks, those = _mark_rows(packed, window), _mark_rows(others, window)
    found = np.isin(marks.equal, those.equal)
    rows = np.flatnonzero(~found)
    found[rows] = _has_mate(marks.sketch[rows], those.sketch)
    return found


def _mark_rows(packed: Bytes, window: int) -> _Marks:
    """Marks of all rows, also of those without a known base."""
    parts = [
        _mark_block(packed[at : at + _BLOCK_ROWS], window, keep_empty=True)
        for at in range(0, max(1, len(packed)), _BLOCK_ROWS)
    ]
    return _Marks(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _has_mate(sketches: Sketches, others: Sketches) -> npt.NDArray[np.bool_]:
    """Which sketches (n, SKETCH) share half of the larger one with one of `others`."""
    found = np.zeros(len(sketches), bool)
    for query, _ in _mates(sketches, others):
        found[query] = True
    return found


def _mates(
    sketches: Sketches, others: Sketches
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Pairs of rows of sketches (n, SKETCH) and of `others` that share half of the larger one."""
    index = _index(others)
    sizes, other_sizes = (np.count_nonzero(table != _NONE, axis=1) for table in (sketches, others))
    for begin in range(0, len(sketches), _QUERY_ROWS):
        wanted = sketches[begin : begin + _QUERY_ROWS].reshape(-1)
        order = np.argsort(wanted)  # ascending needles are found much faster
        order = order[: np.count_nonzero(wanted != _NONE)]
        needles = wanted[order].astype(np.uint64)
        first = np.searchsorted(index, needles << _HALF)
        mates = np.searchsorted(index, needles + np.uint64(1) << _HALF) - first
        mates = np.minimum(mates, _MATES)
        query = np.repeat(order // SKETCH, mates)
        within = np.arange(len(query)) - np.repeat(np.cumsum(mates) - mates, mates)
        mate = index[np.repeat(first, mates) + within].astype(np.uint32)  # the lower half
        pairs, shared = np.unique(query * len(others) + mate, return_counts=True)
        query, mate = begin + pairs // len(others), pairs % len(others)
        alike = 2 * shared >= np.maximum(sizes[query], other_sizes[mate])
        yield query[alike], mate[alike]


def _index(sketches: Sketches) -> Hashes:
    """All values of sketches (n, SKETCH), ascending, each with its row in the lower 32 bits."""
    index = sketches.astype(np.uint64) << _HALF
    index |= np.arange(len(sketches), dtype=np.uint64)[:, None]
    index = index.reshape(-1)
    index.sort()
    return index


def _mark(split: Split, bar: Any) -> _Marks:
    """Marks of all windows with a known base; two threads, since NumPy lets them run."""
    blocks = range(0, split.n_windows, _BLOCK_ROWS)

    def mark(first: int) -> tuple[Hashes, Sketches]:
        return _mark_block(split.sequence[first : first + _BLOCK_ROWS], split.header.window)

    with ThreadPoolExecutor(_THREADS) as pool:
        parts = []
        for part in pool.map(mark, blocks):
            parts.append(part)
            bar.update(len(part[0]))
    return _Marks(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _mark_block(packed: Bytes, window: int, *, keep_empty: bool = False) -> tuple[Hashes, Sketches]:
    packed = np.asarray(packed if keep_empty else packed[packed.any(axis=1)])
    equal = np.minimum(_hash_rows(packed), _hash_rows(reverse_complement(packed, window)))
    return equal, _sketch(unpack_codes(packed, window))


def _hash_rows(packed: Bytes) -> Hashes:
    """A 64-bit hash (n,) of each row: the sum of its mixed words, each with its own offset."""
    words = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), np.uint8)
    words[:, : packed.shape[1]] = packed
    mixed = words.view(np.uint64)
    mixed += np.arange(1, mixed.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    # Source: the finaliser of MurmurHash3, 64 bits, https://github.com/aappleby/smhasher
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed ^= mixed >> np.uint64(33)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(33)
    hashes: Hashes = mixed.sum(axis=1, dtype=np.uint64)
    return hashes


def _sketch(codes: Bytes) -> Sketches:
    """The lowest distinct hashes (n, SKETCH) of the canonical k-mers of codes (n, L)."""
    if codes.shape[1] < KMER:
        return np.full((len(codes), SKETCH), _NONE)
    hashes = _hash_kmers(codes)
    lowest = min(4 * SKETCH, hashes.shape[1])
    hashes = np.sort(np.partition(hashes, lowest - 1, axis=1)[:, :lowest], axis=1)
    hashes[:, 1:][hashes[:, 1:] == hashes[:, :-1]] = _NONE
    hashes = np.sort(hashes, axis=1)[:, :SKETCH]
    missing = SKETCH - hashes.shape[1]
    return np.pad(hashes, ((0, 0), (0, missing)), constant_values=_NONE) if missing else hashes


def _hash_kmers(codes: Bytes) -> Sketches:
    """Hashes (n, L - KMER + 1) of the canonical k-mers; `_NONE` where a base is unknown."""
    forward, reverse = codes.astype(np.uint32), 3 - codes.astype(np.uint32)
    size = 1
    while size < KMER:  # words of twice the length from two that stand side by side
        shift = np.uint32(2 * size)
        forward = forward[:, :-size] << shift | forward[:, size:]
        reverse = reverse[:, size:] << shift | reverse[:, :-size]
        size *= 2
    hashes = np.minimum(forward, reverse)
    # Source: the finaliser of MurmurHash3, 32 bits
    for bits, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        hashes ^= hashes >> np.uint32(bits)
        hashes *= np.uint32(factor)
    hashes ^= hashes >> np.uint32(16)
    if (codes == UNKNOWN).any():
        before = np.pad(np.cumsum(codes == UNKNOWN, axis=1), ((0, 0), (1, 0)))
        hashes[before[:, KMER:] > before[:, :-KMER]] = _NONE
    return hashes
