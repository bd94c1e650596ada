"""The demo: a small simulated genome with planted JASPAR motifs, built like a real one.

Nothing here is real data, and everything that leaves this module says "synthetic": chromosome
and target names, the README beside the files, the source of the stores.

The genome is a first-order Markov chain whose GC content changes every few thousand bases and in
which CpG is rare, with diverged copies of a repeat. Elements stand every few hundred bases: one
or two motif sites drawn from JASPAR 2016 frequencies, on either strand. `GRAMMAR` says which
elements give a peak of which target. The decoys hold the same sites as the pair and the spacing
targets in another arrangement, so that counting short words cannot tell them apart: those of the
spacing target stand closer or further apart than its own, so that a network must know both sides
of the distance. A few per cent of the peaks are missing and as many are spurious. The files go
through `build`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from danq_keras.data.build import build_from_spec
from danq_keras.data.spec import GenomeSpec
from danq_keras.data.store import DATASET_FILES, Dataset, check_seed, open_store
from danq_keras.genome.dna import ALPHABET, UNKNOWN, Bytes, decode, reverse_complement_codes
from danq_keras.motifs.files import danq_jaspar_motifs
from danq_keras.motifs.motif import Motif
from danq_keras.system.files import PathLike, atomic_output, refuse_replacing

Peaks: TypeAlias = npt.NDArray[np.int64]

TRAIN_CHROMOSOME, VALID_CHROMOSOME, TEST_CHROMOSOME = "synthetic1", "synthetic2", "synthetic3"
CHROMOSOMES: Mapping[str, int] = {
    TRAIN_CHROMOSOME: 1_400_000,
    VALID_CHROMOSOME: 400_000,
    TEST_CHROMOSOME: 600_000,
}
OPEN_TARGET = "synthetic_open"

_ELEMENT_EVERY = (300, 600)
_PEAK_WIDTH = (360, 440)
_PEAK_JITTER = 20
_MISSED = 0.03
_SPURIOUS = 0.03
_GC = (0.36, 0.52)
_GC_STRETCH = 4000
_CPG = 0.25  # observed over expected in bulk mammalian DNA is 0.2 to 0.25
_REPEAT = 300
_REPEAT_EVERY = 8000
_REPEAT_DIVERGENCE = 0.15
_FASTA_LINE = 60
_SOURCE = "source"


@dataclass(frozen=True)
class Element:
    """A kind of element of the grammar.

    Its sites are of the JASPAR matrices `motifs`, in this order (or its mirror image on the other
    strand), with a number of bases between them drawn from `gap` (both ends included). It gives a
    peak of `target`, or of none but the open one if it is a decoy. `weight` is its relative
    frequency.
    """

    motifs: tuple[str, ...]
    target: str | None
    weight: float
    gap: tuple[int, int] = (0, 0)


_CTCF, _REST, _TP53, _RFX5 = "MA0139.1", "MA0138.2", "MA0106.3", "MA0510.2"
_GATA1_TAL1 = "MA0140.2"
_SPI1, _RXRA = "MA0080.4", "MA0512.2"
_SRF, _HSF1 = "MA0083.3", "MA0486.2"
_PAIR, _SPACING = "synthetic_SPI1_and_RXRA", "synthetic_SRF_24bp_HSF1"

GRAMMAR = (
    Element((_CTCF,), "synthetic_CTCF", 1.0),
    Element((_REST,), "synthetic_REST", 1.0),
    Element((_TP53,), "synthetic_TP53", 1.0),
    Element((_RFX5,), "synthetic_RFX5", 1.0),
    Element((_GATA1_TAL1,), "synthetic_GATA1_TAL1", 1.0),
    Element((_SPI1, _RXRA), _PAIR, 1.4, (10, 60)),
    Element((_SPI1, _SPI1), None, 0.7, (10, 60)),
    Element((_RXRA, _RXRA), None, 0.7, (10, 60)),
    Element((_SRF, _HSF1), _SPACING, 1.4, (24, 24)),
    Element((_SRF, _HSF1), None, 0.5, (0, 10)),
    Element((_SRF, _HSF1), None, 0.9, (40, 150)),
)


@dataclass(frozen=True, eq=False)
class SimulatedGenome:
    """`chromosomes`: name → (length,) uint8 codes; `peaks`: target → chromosome → (n, 2) int64.

    Peaks are 0-based and half-open, in order of their start. Every target is there.
    """

    chromosomes: Mapping[str, Bytes]
    peaks: Mapping[str, Mapping[str, Peaks]]


def target_names() -> tuple[str, ...]:
    """The demo's targets, in the order of `GRAMMAR`, the open one last."""
    return (*(element.target for element in GRAMMAR if element.target), OPEN_TARGET)


def simulate(seed: int = 0, *, chromosomes: Mapping[str, int] = CHROMOSOMES) -> SimulatedGenome:
    """Simulate the genome and its peaks; the same seed gives the same ones.

    Args:
        seed: seed of everything that is drawn.
        chromosomes: name → length in bases.
    """
    generator = np.random.default_rng(seed)
    motifs = {motif.id: motif for motif in danq_jaspar_motifs()}
    codes: dict[str, Bytes] = {}
    peaks: dict[str, dict[str, Peaks]] = {name: {} for name in target_names()}
    for chromosome, length in chromosomes.items():
        codes[chromosome] = _background(length, generator)
        kinds, centres = _plant(codes[chromosome], motifs, generator)
        for target in target_names():
            with_peak = [target == OPEN_TARGET or element.target == target for element in GRAMMAR]
            chosen = centres[np.array(with_peak)[kinds]]
            peaks[target][chromosome] = _noisy_peaks(chosen, length, generator)
    return SimulatedGenome(codes, peaks)


def _background(length: int, generator: np.random.Generator) -> Bytes:
    """(length,) uint8 codes: all stretches of equal GC content grow in step, base by base."""
    n_stretches = -(-length // _GC_STRETCH)
    gc = generator.uniform(*_GC, n_stretches)
    base = np.stack([1 - gc, gc, gc, 1 - gc], axis=1) / 2  # A, G, C, T
    after = np.repeat(base[:, None, :], 4, axis=1)
    after[:, ALPHABET.index("C"), ALPHABET.index("G")] *= _CPG
    after /= after.sum(axis=2, keepdims=True)
    thresholds = after.cumsum(axis=2)[:, :, :3]
    draws = generator.random((_GC_STRETCH, n_stretches))
    codes = np.empty((n_stretches, _GC_STRETCH), np.uint8)
    state = np.full(n_stretches, ALPHABET.index("A"))
    rows = np.arange(n_stretches)
    for position in range(_GC_STRETCH):
        state = (draws[position][:, None] >= thresholds[rows, state]).sum(axis=1)
        codes[:, position] = state
    flat = codes.reshape(-1)[:length]
    _scatter_repeats(flat, generator)
    return flat


def _scatter_repeats(codes: Bytes, generator: np.random.Generator) -> None:
    """Write diverged copies of one repeat, on either strand, over `codes`."""
    consensus = generator.integers(0, 4, _REPEAT, dtype=np.uint8)
    n_copies = len(codes) // _REPEAT_EVERY
    for start in generator.integers(0, len(codes) - _REPEAT, n_copies):
        copy = consensus.copy()
        changed = generator.random(_REPEAT) < _REPEAT_DIVERGENCE
        copy[changed] = generator.integers(0, 4, int(changed.sum()), dtype=np.uint8)
        if generator.random() < 0.5:
            copy = reverse_complement_codes(copy)
        codes[start : start + _REPEAT] = copy


def _plant(
    codes: Bytes, motifs: Mapping[str, Motif], generator: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Write elements over `codes`; (E,) int64 numbers in `GRAMMAR` and (E,) int64 centres."""
    steps = generator.integers(*_ELEMENT_EVERY, len(codes) // _ELEMENT_EVERY[0], endpoint=True)
    centres = np.cumsum(steps)
    centres = centres[centres < len(codes) - _ELEMENT_EVERY[0]]
    weights = np.array([element.weight for element in GRAMMAR])
    kinds = generator.choice(len(GRAMMAR), len(centres), p=weights / weights.sum())
    for kind, centre in zip(kinds, centres, strict=True):
        element = _draw_element(GRAMMAR[kind], motifs, generator)
        begin = int(centre) - len(element) // 2
        place = codes[begin : begin + len(element)]
        np.copyto(place, element, where=element != UNKNOWN)
    return kinds, centres


def _draw_element(
    element: Element, motifs: Mapping[str, Motif], generator: np.random.Generator
) -> Bytes:
    """(n,) uint8 codes of the sites on either strand; `UNKNOWN` where the background stays."""
    parts: list[Bytes] = []
    for number, identifier in enumerate(element.motifs):
        if number:
            gap = int(generator.integers(*element.gap, endpoint=True))
            parts.append(np.full(gap, UNKNOWN, np.uint8))
        thresholds = motifs[identifier].matrix.cumsum(axis=1)[:, :3]
        draws = generator.random((len(thresholds), 1))
        # From the threshold on it is the next base, so that a frequency of 0 is never drawn.
        parts.append((draws >= thresholds).sum(axis=1).astype(np.uint8))
    codes = np.concatenate(parts)
    return reverse_complement_codes(codes) if generator.random() < 0.5 else codes


def _noisy_peaks(
    centres: npt.NDArray[np.int64], length: int, generator: np.random.Generator
) -> Peaks:
    """(n, 2) int64 peaks around most of the centres, and some where no element is."""
    seen = centres[generator.random(len(centres)) >= _MISSED]
    spurious = generator.integers(0, length, round(_SPURIOUS * len(centres)))
    middle = np.concatenate([seen, spurious])
    middle += generator.integers(-_PEAK_JITTER, _PEAK_JITTER, len(middle), endpoint=True)
    width = generator.integers(*_PEAK_WIDTH, len(middle), endpoint=True)
    start = np.clip(middle - width // 2, 0, None)
    end = np.clip(middle - width // 2 + width, None, length)
    order = np.argsort(start, kind="stable")
    return np.stack([start, end], axis=1)[order]


def make_demo(
    out: PathLike,
    *,
    seed: int = 0,
    overwrite: bool = False,
    chromosomes: Mapping[str, int] = CHROMOSOMES,
) -> Dataset:
    """Simulate the genome and build the demo dataset from its files.

    Args:
        out: the new dataset folder: train.h5, valid.h5, test.h5 and, in `source/`, genome.fa,
            peaks/*.bed, targets.tsv and README.txt.
        seed: seed of the simulation; the same one gives the same sequences and labels.
        overwrite: whether to replace a demo or dataset that is there.
        chromosomes: lengths in bases of the chromosomes named in `CHROMOSOMES`.

    Returns:
        The dataset; its `summary` says what was left out.

    Raises:
        InputError: `out` is there and may not be replaced, or cannot be made.

    Example:
        data = make_demo("demo")
    """
    check_seed(seed)
    out = Path(out)
    written = f"{DATASET_FILES}|{_SOURCE}"
    refuse_replacing(out, "demo", overwrite=overwrite, written=written)
    with atomic_output(out, overwrite=overwrite) as temporary:
        source = temporary / _SOURCE
        write_source(source, simulate(seed, chromosomes=chromosomes), seed=seed)
        spec = GenomeSpec(
            genome=source / "genome.fa",
            targets=source / "targets.tsv",
            test_chroms=(TEST_CHROMOSOME,),
            valid_region=VALID_CHROMOSOME,
            keep_unlabelled=True,
            source=f"synthetic demo, seed {seed}",
        )
        summary = build_from_spec(temporary / "built", spec)
        for path in sorted((temporary / "built").iterdir()):
            path.rename(temporary / path.name)
        (temporary / "built").rmdir()
    return dataclasses.replace(open_store(out), summary=summary)


def write_source(folder: Path, genome: SimulatedGenome, *, seed: int) -> None:
    """Write a simulated genome as genome.fa, peaks/*.bed, targets.tsv and README.txt."""
    (folder / "peaks").mkdir(parents=True)
    with (folder / "genome.fa").open("w", encoding="ascii") as fasta:
        for chromosome, codes in genome.chromosomes.items():
            letters = decode(codes)
            lines = [letters[i : i + _FASTA_LINE] for i in range(0, len(letters), _FASTA_LINE)]
            fasta.write("\n".join([f">{chromosome} synthetic", *lines, ""]))
    rows = ["file\tname\tcell_type\tgroup"]
    for target, by_chromosome in genome.peaks.items():
        rows.append(f"peaks/{target}.bed\t{target}\tsynthetic\t{_group(target)}")
        lines = [
            f"{chromosome}\t{start}\t{end}\n"
            for chromosome, peaks in by_chromosome.items()
            for start, end in peaks.tolist()
        ]
        (folder / "peaks" / f"{target}.bed").write_text("".join(lines), encoding="ascii")
    (folder / "targets.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "README.txt").write_text(_readme(seed), encoding="utf-8")


def _group(target: str) -> str:
    groups = {_PAIR: "pair", _SPACING: "spacing", OPEN_TARGET: "open"}
    return groups.get(target, "single site")


def _readme(seed: int) -> str:
    names = {motif.id: f"{motif.name} ({motif.id})" for motif in danq_jaspar_motifs()}
    total = sum(element.weight for element in GRAMMAR)
    lines = [
        f"SYNTHETIC DATA: a genome simulated by danq_keras, seed {seed}. No biology is in it.",
        "",
        "Names such as CTCF only say which JASPAR 2016 matrix the planted sites were drawn from.",
        f"Elements stand every {_ELEMENT_EVERY[0]} to {_ELEMENT_EVERY[1]} bases, on either strand:",
        "",
    ]
    for element in GRAMMAR:
        low, high = element.gap
        between = f", {low} bases apart, " if low == high else f", {low} to {high} bases apart, "
        sites = between.join(names[identifier] for identifier in element.motifs)
        meaning = element.target or "decoy"
        lines.append(f"  {element.weight / total:5.1%}  {meaning}: {sites}")
    lines += [
        "",
        f"{OPEN_TARGET} has a peak at every element, decoys included.",
        f"Peaks are {_PEAK_WIDTH[0]} to {_PEAK_WIDTH[1]} bases wide and shifted by up to "
        f"{_PEAK_JITTER}; {_MISSED:.0%} are missing, and {_SPURIOUS:.0%} more lie anywhere.",
        f"Training: {TRAIN_CHROMOSOME}. Validation: {VALID_CHROMOSOME}. Test: {TEST_CHROMOSOME}.",
    ]
    return "\n".join(lines) + "\n"
