"""Places of a genome explained into a folder; loads Keras.

What `explain_danq.py` does: one locus or the intervals of a BED file, any number of them, as the
arrays are written while they are made and a stopped explanation goes on where it was.
"""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from danq_keras.data.sequence_inputs import Intervals, Skipped, write_skipped
from danq_keras.genome.bed import CHROM_NAMES, rename_chrom
from danq_keras.genome.dna import Bytes, pack_codes
from danq_keras.genome.fasta import Genome
from danq_keras.genome.regions import Region
from danq_keras.interpret.explainer import Explainer
from danq_keras.interpret.files import (
    Locus,
    create_arrays,
    table_rows,
    write_contributions,
    write_onehot,
    write_summary,
)
from danq_keras.interpret.methods import METHODS, SUMMED, Ways, hypothetical
from danq_keras.interpret.paths import PATHS
from danq_keras.interpret.pictures import (
    LocusPicture,
    locus_png,
)
from danq_keras.models.trained import TrainedModel, weights_digest, window_of
from danq_keras.prediction.growing import (
    Contents,
    GrowingFile,
    growing_output,
    link_complete,
    partial_path,
)
from danq_keras.prediction.outputs import track_names
from danq_keras.system.errors import InputError, shorten
from danq_keras.system.files import atomic_output
from danq_keras.system.inputs import identity
from danq_keras.system.terminal import log, progress


@dataclass(frozen=True)
class PlacesRequest:
    """What is explained, and how it is shown.

    Args:
        out: folder to write the explanation to.
        targets: numbers of the model's targets.
        methods: some of `methods.METHODS`; None for effects and gradients at a locus and
            gradients for intervals.
        ways: how many gradients the methods of `paths` take.
        width: bases in the middle of each interval's window that are explained; None for all.
        limit: number of intervals, from the first; None for all.
        table: "tsv" or "h5"; None for tsv at a locus and h5 for intervals.
        pictures: pictures a target, of the intervals with the highest scores.
        zoom: bases of the stretch whose logo is drawn.
        strands: "both" for the mean of both strands, "forward" for the window as it is.
        batch_size: windows at once; None for what fits.
        resume: whether to go on with a stopped explanation in `out`.
        overwrite: whether an explanation in `out` is replaced.
    """

    out: Path
    targets: tuple[int, ...]
    methods: tuple[str, ...] | None = None
    ways: Ways = field(default_factory=Ways)
    width: int | None = None
    limit: int | None = None
    table: str | None = None
    pictures: int = 5
    zoom: int = 100
    strands: str = "both"
    batch_size: int | None = None
    resume: bool = False
    overwrite: bool = False


def explain_places(
    model: TrainedModel, genome: Genome, place: Region | Intervals, request: PlacesRequest
) -> list[str]:
    """Explain a region or intervals of a genome into a folder.

    Args:
        model: network whose scores are explained.
        genome: open FASTA file that the windows are cut from.
        place: one region, or the intervals of a BED file.
        request: what is explained, and how it is shown.

    Returns:
        Lines that say what was explained; `<out>.skipped.tsv` lists what has no window.

    Raises:
        InputError: a place has no window, or the folder is in use.
    """
    return _Session(request, genome, place, model).explain()


def _tell(line: str | None) -> None:
    if line is not None:
        log.info(line)


def _logistic(score: float) -> float:
    return float(1 / (1 + np.exp(-np.float64(score))))


@dataclass
class _Session:
    """The model, its targets, and what is read."""

    request: PlacesRequest
    genome: Genome
    place: Region | Intervals
    model: TrainedModel
    window: int = field(init=False)
    names: tuple[str, ...] = field(init=False)
    files: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.window = window_of(self.model)
        self.names = self.model.targets.subset(list(self.request.targets)).names
        self.files = track_names(self.names)
        self.explainer = Explainer(
            self.model,
            self.request.targets,
            window=self.window,
            strands=self.request.strands,
            batch_size=self.request.batch_size,
        )

    @property
    def is_locus(self) -> bool:
        """Whether a single region is explained."""
        return isinstance(self.place, Region)

    # ---- places

    def _loci(self) -> tuple[list[Locus], list[Skipped]]:
        if isinstance(self.place, Region):
            return [locus_of(self.place, self.genome, self.window)], []
        bed = self.place.bed
        kept, skipped, starts = self.place.centred(self.window)
        width = self.request.width or self.window
        if width > self.window:
            raise InputError(
                f"`width`: at most the window of {self.window} bases. Received: {width}."
            )
        if self.request.limit is not None and len(kept) > self.request.limit:
            log.info(
                "--limit: %d of %d intervals are left out.",
                len(kept) - self.request.limit,
                len(kept),
            )
            kept, starts = kept[: self.request.limit], starts[: self.request.limit]
        begin = self.window // 2 - width // 2  # where the window is centred
        loci = [
            Locus(bed.names[bed.chrom[i]], int(start), begin, begin + width)
            for i, start in zip(kept, starts, strict=True)
        ]
        return loci, skipped

    def _codes(self, locus: Locus) -> Any:
        return self.genome.fetch(locus.chrom, locus.start, locus.start + self.window)

    # ---- explanation

    def explain(self) -> list[str]:
        """Explain every locus into the folder; lines for the user."""
        request = self.request
        loci, skipped = self._loci()
        values = request.methods or (("effects", "gradients") if self.is_locus else ("gradients",))
        with growing_output(
            request.out,
            self._contents(loci, values),
            create=lambda file: create_arrays(file, loci, self.names, values),
            publish=lambda file: self._publish(file, loci, values),
            resume=request.resume,
            overwrite=request.overwrite,
        ) as growing:
            self._fill(growing, loci, values)
            scores = growing["scores"][:]
            errors = {name: growing[f"{name}_error"][:] for name in values if name in SUMMED}
            left_out = write_skipped(request.out, skipped, "intervals")
        return self._lines(loci, scores, values, errors, left_out)

    def _contents(self, loci: Sequence[Locus], values: Sequence[str]) -> Contents:
        """What decides the values, so that only the same explanation is continued."""
        request: dict[str, Any] = {
            "model": str(self.model.path),
            "weights": weights_digest(self.model.network),
            "genome": identity(self.genome.path),
            "intervals": [self.window, *map(str, loci)],
            "targets": self.names,
            "strands": self.request.strands,
            "method": list(values),
        }
        summed = [name for name in values if name in SUMMED]
        if summed:
            request["ways"] = dataclasses.asdict(self.request.ways)
        errors = (f"{name}_error" for name in summed)
        return Contents(("codes", "scores", *values, *errors), self.names, request)

    def _publish(self, file: h5py.File, loci: Sequence[Locus], values: Sequence[str]) -> None:
        request = self.request
        with atomic_output(request.out, overwrite=request.overwrite or request.resume) as folder:
            folder.mkdir()
            pictures = self._pictures(folder, file, loci, values)
            if not self.is_locus:
                self._write_modisco(folder, file, values)
            self._summarise(folder, loci, pictures, values)
            if (request.table or ("tsv" if self.is_locus else "h5")) == "tsv":
                self._write_table(folder / "contributions.tsv", file, loci, values)
            else:
                link_complete(file, partial_path(request.out), folder / "contributions.h5")

    def _fill(self, growing: GrowingFile, loci: Sequence[Locus], values: Sequence[str]) -> None:
        """Explain the loci that are still to do; without mutagenesis in batches."""
        mutating = "effects" in values
        size = self.explainer.gradient_rows if list(values) == ["gradients"] else 1
        each = 3 * (loci[0].end - loci[0].begin) if mutating else 1
        unit, done = "changes" if mutating else "loci", growing.rows_done
        with progress(
            total=len(loci) * each, desc="explain", unit=unit, initial=done * each
        ) as bar:
            for at in range(done, len(loci), size):
                some = loci[at : at + size]
                codes = np.stack([self._codes(locus) for locus in some])
                advance = bar.update if mutating else lambda _n: None
                found = self._values(codes, (some[0].begin, some[0].end), values, advance)
                growing.append(found, {})
                if not mutating:
                    bar.update(len(some))

    def _values(
        self,
        codes: Bytes,
        region: tuple[int, int],
        values: Sequence[str],
        advance: Callable[[int], object],
    ) -> dict[str, Any]:
        """What the file gets of windows (n, L); of one alone where more than gradients are due."""
        part = slice(*region)
        found = {"codes": codes[:, part], "scores": self.explainer.scores(pack_codes(codes))}
        if "effects" in values:
            found["effects"] = self.explainer.effects(codes[0], region, advance=advance)[None]
        if "gradients" in values:
            found["gradients"] = self.explainer.gradients(codes)[:, :, part]
        for name in PATHS:
            if name in values:
                whole = PATHS[name](self.explainer, codes[0], self.request.ways)
                found[name] = whole.values[None, :, part]
                found[f"{name}_error"] = whole.error[None]
        return found

    def _pictured(self, scores: Any) -> list[list[int]]:
        """For each target the loci that get a picture, highest score first."""
        most = 1 if self.is_locus else self.request.pictures
        return [np.argsort(-column, kind="stable")[:most].tolist() for column in scores.T]

    def _pictures(
        self,
        folder: Path,
        file: h5py.File,
        loci: Sequence[Locus],
        values: Sequence[str],
    ) -> list[dict[str, str]]:
        pictures = []
        chosen = self._pictured(file["scores"][:])
        with progress(total=sum(map(len, chosen)), desc="draw", unit="pictures") as bar:
            # The first of every target, then the second: a report shows those that come first.
            for rank, rows in enumerate(zip(*chosen, strict=True), start=1):
                for number, row in enumerate(rows):
                    target, stem = self.names[number], self.files[number]
                    score = float(file["scores"][row, number])
                    picture = _picture(file, values, row, number, locus=loci[row])
                    subtitle = self._subtitle(score)
                    name = f"{stem}.png" if self.is_locus else f"{stem}.{rank}.png"
                    title = f"{target} at {loci[row]}"
                    drawn = LocusPicture(title=title, subtitle=subtitle, **picture)
                    locus_png(folder / name, drawn, zoom=self.request.zoom)
                    pictures.append({"file": name, "caption": f"{title}, {subtitle}"})
                    bar.update()
        return pictures

    def _subtitle(self, score: float) -> str:
        strands = "both strands" if self.request.strands == "both" else "forward strand"
        return (
            f"{self.model.path.resolve().name}: logit {score:.2f} (probability "
            f"{_logistic(score):.3f}), {strands}"
        )

    def _write_modisco(self, folder: Path, file: h5py.File, values: Sequence[str]) -> None:
        write_onehot(folder / "onehot.npz", file["codes"][:])
        for number, stem in enumerate(self.files):
            for name in values:
                each = hypothetical(name, file[name][:, number])
                write_contributions(folder / f"{stem}.{METHODS[name].flag}.npz", each)

    def _write_table(
        self, path: Path, file: h5py.File, loci: Sequence[Locus], values: Sequence[str]
    ) -> None:
        header = True
        for row, locus in enumerate(loci):
            for number, target in enumerate(self.names):
                found = _picture(file, values, row, number, locus=locus)
                table = table_rows(locus, target, found["codes"], found["values"])
                table.to_csv(
                    path, sep="\t", index=False, mode="a", header=header, float_format="%.6g"
                )
                header = False

    def _what(self, loci: Sequence[Locus]) -> str:
        """What was explained, in a word or two."""
        if isinstance(self.place, Region):
            return str(loci[0])
        records = self.place.bed.path == Path(self.genome.path)
        return f"{len(loci):,} {'records' if records else 'intervals'}"

    def _summarise(
        self,
        folder: Path,
        loci: Sequence[Locus],
        pictures: list[dict[str, str]],
        values: Sequence[str],
    ) -> None:
        places = self._what(loci)
        source = "" if isinstance(self.place, Region) else f" of {self.place.bed.path.name}"
        write_summary(
            folder,
            {
                "title": f"{', '.join(self.names)}: {places}{source}",
                "method": _flags(values),
                "strands": self.request.strands,
                "model": str(self.model.path),
                "genome": str(self.genome.path),
                "targets": list(self.names),
                "pictures": pictures,
            },
        )

    def _lines(
        self,
        loci: Sequence[Locus],
        scores: Any,
        values: Sequence[str],
        errors: Mapping[str, Any],
        left_out: str | None,
    ) -> list[str]:
        width = loci[0].end - loci[0].begin
        what = self._what(loci)
        strands, flags = self.request.strands, _flags(values)
        lines = [f"{what}, {width:,} bases, {flags}, window {self.window}, {strands}"]
        for number, name in enumerate(self.names):
            low, high = (float(f(scores[:, number])) for f in (np.min, np.max))
            span = f"{high:.3f}" if len(scores) == 1 else f"{low:.3f} to {high:.3f}"
            lines.append(f"  {name}: logit {span}")
        for name, error in errors.items():
            mean, most = np.abs(error).mean(), np.abs(error).max()
            lines.append(
                f"  {METHODS[name].flag}: the contributions of a window miss what they should add "
                f"up to by {mean:.2g} on average, {most:.2g} at most"
            )
        _tell(left_out)
        return lines


def require_chrom(region: Region, genome: Genome) -> None:
    """Refuse a region whose chromosome the genome does not have.

    Raises:
        InputError: it does not; the message names near ones.
    """
    if region.chrom not in genome.lengths:
        twins = [rename_chrom(region.chrom, how, genome.lengths) for how in CHROM_NAMES]
        near = [name for name in twins if name in genome.lengths]
        near += difflib.get_close_matches(region.chrom, list(genome.lengths), n=1)
        raise InputError(
            f"`locus`: {region.chrom} is not in {genome.path}, which has "
            f"{shorten(list(genome.lengths), 5)}. "
            + (f"Is it {near[0]}?" if near else "Name one of those.")
        )


def locus_of(region: Region, genome: Genome, window: int) -> Locus:
    """The window centred on a region, and the part of it that the region is.

    Of a region longer than the window the window is explained, which is said.

    Raises:
        InputError: the chromosome is unknown, or the window reaches beyond it.
    """
    require_chrom(region, genome)
    assert region.end is not None
    length = genome.lengths[region.chrom]
    start = (region.start + region.end) // 2 - window // 2
    if region.end > length or start < 0 or start + window > length:
        raise InputError(
            f"`locus`: the window of {window} bases around it, {region.chrom}:{start + 1}-"
            f"{start + window}, is not inside {region.chrom} (1-{length}). Move the locus."
        )
    begin, end = max(0, region.start - start), min(window, region.end - start)
    locus = Locus(region.chrom, start, begin, end)
    if end - begin < region.end - region.start:
        log.info(
            "--locus has %d bases, the model's window %d: %s is explained.",
            region.end - region.start,
            window,
            locus,
        )
    return locus


def _picture(
    file: h5py.File, values: Sequence[str], row: int, number: int, *, locus: Locus
) -> dict[str, Any]:
    """What there is of a locus for one target: see `LocusPicture`."""
    found = {name: file[name][row, number] for name in values}
    return {"start": locus.start + locus.begin, "codes": file["codes"][row], "values": found}


def _flags(values: Sequence[str]) -> str:
    return ",".join(METHODS[name].flag for name in values)
