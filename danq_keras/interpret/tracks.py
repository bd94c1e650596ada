"""What networks say along a region: probabilities at steps, and contributions of every base.

A step's probability is that of the window centred on it, as in the tracks of `predict_danq.py`.
Contributions of a region longer than a window come from windows whose starts lie half a window
apart, of each the middle half.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.draw.tracks import Picture, draw_tracks
from danq_keras.genome.bed import Bed
from danq_keras.genome.dna import Bytes, decode, pack_codes
from danq_keras.genome.fasta import Genome
from danq_keras.genome.genes import Gene
from danq_keras.genome.regions import Region
from danq_keras.interpret.explain import explain
from danq_keras.interpret.files import SUMMARY, write_summary
from danq_keras.interpret.methods import METHODS, shown
from danq_keras.interpret.places import require_chrom
from danq_keras.models.trained import TrainedModel, window_of
from danq_keras.prediction.predictor import predictor_of
from danq_keras.system.arrays import Floats
from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output, refuse_unmarked
from danq_keras.system.tables import write_tsv

MOST_BASES = 5_000_000
_STEPS = 500
_WINDOWS_EXPLAINED = 10


@dataclass(frozen=True, eq=False)
class RegionTracks:
    """Tracks of a region; positions are 0-based, steps and bases in order.

    `codes` (W,) uint8 of its bases; `step` bases; `values` label → (S,) float32 probabilities, NaN
    where the window is not inside the chromosome; `contributions` label → (W,) float32, NaN
    likewise; `method` that they are of, or None.
    """

    chrom: str
    start: int
    codes: Bytes
    step: int
    values: Mapping[str, Floats]
    contributions: Mapping[str, Floats]
    method: str | None

    @property
    def end(self) -> int:
        """Where the region ends."""
        return self.start + len(self.codes)

    def __str__(self) -> str:
        """The region, 1-based and inclusive."""
        return f"{self.chrom}:{self.start + 1:,}-{self.end:,}"

    def starts(self) -> npt.NDArray[np.int64]:
        """Where steps begin (S,)."""
        return np.arange(self.start, self.end, self.step)

    def save(
        self,
        folder: str | Path,
        *,
        genes: Sequence[Gene] = (),
        peaks: Mapping[str, Bed] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write tables of the tracks, and the picture as PNG and SVG, into a new folder.

        Args:
            folder: where to; in the `explain` folder of a run its report shows the picture.
            genes: drawn below, see `genome.genes.read_genes`.
            peaks: label → intervals, drawn between tracks and genes.
            overwrite: whether an earlier folder of tracks is replaced.

        Raises:
            InputError: the folder is in use or holds something else.
        """
        refuse_unmarked(Path(folder), "tracks", overwrite=overwrite, marker=SUMMARY)
        with atomic_output(Path(folder), overwrite=overwrite) as place:
            place.mkdir()
            write_tsv(place / "tracks.tsv", self._track_table())
            if self.contributions:
                write_tsv(place / "contributions.tsv", self._contribution_table())
            picture = self._picture(genes, peaks or {})
            draw_tracks(picture, place / "tracks.png", place / "tracks.svg")
            caption = f"{self}: {', '.join(self.values)}"
            pictures = [{"file": "tracks.png", "caption": caption}]
            write_summary(place, {"title": f"Tracks: {self}", "pictures": pictures})

    def _track_table(self) -> pd.DataFrame:
        starts = self.starts()
        ends = np.minimum(starts + self.step, self.end)
        places = {"chrom": self.chrom, "start": starts, "end": ends}
        return pd.DataFrame({**places, **self.values})

    def _contribution_table(self) -> pd.DataFrame:
        positions = np.arange(self.start + 1, self.end + 1)
        places = {"chrom": self.chrom, "pos": positions, "base": list(decode(self.codes))}
        return pd.DataFrame({**places, **self.contributions})

    def _picture(self, genes: Sequence[Gene], peaks: Mapping[str, Bed]) -> Picture:
        lanes = {label: _inside(bed, self) for label, bed in peaks.items()}
        method = "" if self.method is None else METHODS[self.method].label
        return Picture(
            title=str(self),
            start=self.start,
            codes=self.codes,
            step=self.step,
            tracks=self.values,
            contributions=self.contributions,
            method=method,
            peaks=lanes,
            genes=genes,
        )


def region_tracks(
    models: Mapping[str, TrainedModel],
    genome: Genome,
    region: Region,
    targets: Sequence[str],
    *,
    step: int | None = None,
    method: str | None = "",
    strands: str | None = None,
    batch_size: int | None = None,
) -> RegionTracks:
    """Predict a region at steps and, where it is short enough, explain every base of it.

    Args:
        models: name → network; the name stands in labels where there are several.
        genome: open FASTA file.
        region: chromosome, and the part of it.
        targets: by number or name; each network shows those that it has.
        step: bases between predictions; None for about 500 of them.
        method: of the contributions, one of `METHODS`; None for none; "" for gradients of a region
            of up to ten windows.
        strands: "both" or "forward"; None for what each network was trained on.
        batch_size: windows at once; None for what fits.

    Raises:
        InputError: the region is not inside the genome or too long, or a target is in no network.
    """
    require_chrom(region, genome)
    length = genome.lengths[region.chrom]
    start, end = region.start, region.end if region.end is not None else length
    if end > length:
        raise InputError(f"`region`: {region.chrom} has {length:,} bases. Received: {end:,}.")
    if end - start > MOST_BASES:
        raise InputError(
            f"`region`: at most {MOST_BASES:,} bases. Received: {end - start:,}. Write tracks with "
            "predict_danq.py instead."
        )
    step = step or _round(end - start)
    if not 1 <= step <= end - start:
        raise InputError(
            f"`step`: from 1 to the {end - start:,} bases of the region. Received: {step}."
        )
    values: dict[str, Floats] = {}
    contributions: dict[str, Floats] = {}
    chosen = _choose(models, targets)
    if method == "":
        longest = _WINDOWS_EXPLAINED * min(window_of(model) for model in models.values())
        method = "gradients" if end - start <= longest else None
    for name, numbers in chosen.items():
        model = models[name]
        labels = [model.targets.names[i] for i in numbers]
        labels = labels if len(models) == 1 else [f"{label} · {name}" for label in labels]
        stretch = _Stretch(genome, region.chrom, start, end, window_of(model))
        found = stretch.probabilities(model, numbers, step, strands, batch_size)
        values |= dict(zip(labels, found.T, strict=True))
        if method is not None:
            found = stretch.contributions(model, numbers, method, strands, batch_size)
            contributions |= dict(zip(labels, found, strict=True))
    codes = genome.fetch(region.chrom, start, end)
    return RegionTracks(region.chrom, start, codes, step, values, contributions, method)


def _round(n_bases: int) -> int:
    """A step of 1, 2 or 5 times a power of ten that gives some hundred predictions."""
    step = 1
    while n_bases / step > _STEPS:
        step = step * 5 // 2 if str(step).startswith("2") else step * 2
    return step


def _choose(models: Mapping[str, TrainedModel], targets: Sequence[str]) -> dict[str, list[int]]:
    """Network → numbers of the targets that it has."""
    chosen: dict[str, list[int]] = {name: [] for name in models}
    for target in targets:
        faults = []
        for name, model in models.items():
            try:
                numbers = model.targets.find([target])
            except InputError as error:
                faults.append(error)
                continue
            chosen[name] += [number for number in numbers if number not in chosen[name]]
        if len(faults) == len(models):
            raise faults[0]
    return {name: numbers for name, numbers in chosen.items() if numbers}


@dataclass(frozen=True, eq=False)
class _Stretch:
    """A region, and the windows of a network about it."""

    genome: Genome
    chrom: str
    start: int
    end: int
    window: int

    def _inside(self, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        return (starts >= 0) & (starts + self.window <= self.genome.lengths[self.chrom])

    def _codes(self, starts: npt.NDArray[np.int64]) -> Bytes:
        """Windows (n, L) that begin at `starts`, in order and inside the chromosome."""
        if not len(starts):
            return np.empty((0, self.window), np.uint8)
        first = int(starts[0])
        all_codes = self.genome.fetch(self.chrom, first, int(starts[-1]) + self.window)
        return np.lib.stride_tricks.sliding_window_view(all_codes, self.window)[starts - first]

    def probabilities(
        self,
        model: TrainedModel,
        numbers: Sequence[int],
        step: int,
        strands: str | None,
        batch_size: int | None,
    ) -> Floats:
        """Probabilities (S, T) of windows centred on the steps; NaN where there is no window."""
        starts = np.arange(self.start, self.end, step) - (self.window - step) // 2
        inside = self._inside(starts)
        strands = strands or model.strands
        predict = predictor_of(
            model.network, window=self.window, strands=strands, batch_size=batch_size
        )
        found = np.full((len(starts), len(numbers)), np.nan, np.float32)
        rows = np.flatnonzero(inside)
        for at in range(0, len(rows), 4096):
            some = rows[at : at + 4096]
            found[some] = predict(pack_codes(self._codes(starts[some])))[:, numbers]
        return found

    def contributions(
        self,
        model: TrainedModel,
        numbers: Sequence[int],
        method: str,
        strands: str | None,
        batch_size: int | None,
    ) -> Floats:
        """Contributions (T, W) of every base; NaN where there is no window."""
        n_bases = self.end - self.start
        piece = n_bases if n_bases <= self.window else max(1, self.window // 2)
        begin = (self.window - piece) // 2
        starts = np.arange(self.start, self.end, piece) - begin
        inside = np.flatnonzero(self._inside(starts))
        found = np.full((len(numbers), len(starts), piece), np.nan, np.float32)
        if len(inside):
            explained = explain(
                model,
                self._codes(starts[inside]),
                [str(number) for number in numbers],
                method=method,
                region=(begin, begin + piece),
                strands=strands,
                batch_size=batch_size,
            )
            values = explained.values[method]
            for row, number in enumerate(inside.tolist()):
                found[:, number] = shown(method, values[row], explained.codes[row])
        return found.reshape(len(numbers), -1)[:, :n_bases]


def _inside(bed: Bed, tracks: RegionTracks) -> list[tuple[int, int]]:
    """Intervals that reach into the region."""
    if tracks.chrom not in bed.names:
        return []
    here = bed.chrom == bed.names.index(tracks.chrom)
    here &= (bed.ends > tracks.start) & (bed.starts < tracks.end)
    spans = zip(bed.starts[here].tolist(), bed.ends[here].tolist(), strict=True)
    return sorted(spans)
