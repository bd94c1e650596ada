"""Experiments in silico: what a motif does where it is put in, and what is lost without it.

Effects are differences of scores (logits; of both strands their mean). Every figure stands beside
its 95 % interval over windows and beside what chance does: other sequences of the same letters, or
other places of the same windows. p-values are two-sided; q-values correct all rows of a table for
their number (Benjamini and Hochberg). Loads Keras.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from danq_keras.data.arrays import ArrayWindows, codes_of
from danq_keras.data.targets import TargetChoice
from danq_keras.genome.dna import Bytes, decode, pack_codes
from danq_keras.genome.shuffle import dinucleotide_shuffle
from danq_keras.interpret.explainer import Explainer
from danq_keras.interpret.files import SUMMARY, write_summary
from danq_keras.interpret.insertions import Insert, find_insert, places_of, put_in
from danq_keras.interpret.pictures import effects_png
from danq_keras.interpret.sites import SiteFinder
from danq_keras.models.trained import TrainedModel, opened, window_of
from danq_keras.system.errors import InputError
from danq_keras.system.files import PathLike, atomic_output, refuse_unmarked
from danq_keras.system.terminal import log, progress

Scores: TypeAlias = npt.NDArray[np.float64]
_FEWEST = 2
_FEWEST_ORDERS = 3
_COMPLEMENT = str.maketrans("ACGTRYSWKMBDHVN", "TGCAYRSWMKVHDBN")


@dataclass(frozen=True, eq=False)
class Experiment:
    """The result of an experiment: `table`, and the windows (n, L) uint8 that it was made in.

    `rows` is the column that a row of the table is about, beside its target.
    """

    table: pd.DataFrame
    windows: Bytes
    rows: str

    def to_frame(self) -> pd.DataFrame:
        """The table."""
        return self.table

    def plot(self, path: PathLike, *, title: str = "") -> None:
        """Draw the effects into a PNG file: points with intervals, or a heat map of many targets.

        Args:
            path: PNG file to write.
            title: what stands above.
        """
        with atomic_output(Path(path), overwrite=True) as temporary:
            effects_png(temporary, self.table, rows=self.rows, title=title)

    def save(self, folder: PathLike, *, title: str, overwrite: bool = False) -> None:
        """Write effects.tsv, effects.png, and windows.fa, with which it can be made again.

        Args:
            folder: folder for the files, made anew.
            title: what the experiment was, for the picture and a run's report.
            overwrite: whether an earlier folder of an experiment is replaced.

        Raises:
            InputError: the folder is in use or holds something else.
        """
        with experiment_folder(Path(folder), self.windows, overwrite=overwrite) as place:
            self.table.to_csv(
                place / "effects.tsv", sep="\t", index=False, na_rep="NA", float_format="%.6g"
            )
            effects_png(place / "effects.png", self.table, rows=self.rows, title=title)
            caption = (
                f"{title}: mean effects with 95 % intervals over windows, in grey what chance "
                "does; filled or dotted: q ≤ 0.05"
            )
            pictures = [{"file": "effects.png", "caption": caption}]
            write_summary(place, {"title": title, "pictures": pictures})


@contextlib.contextmanager
def experiment_folder(folder: Path, windows: Bytes, *, overwrite: bool) -> Iterator[Path]:
    """A new folder of an experiment, with its windows (n, L) as windows.fa."""
    refuse_unmarked(folder, "experiments", overwrite=overwrite, marker=SUMMARY)
    with atomic_output(folder, overwrite=overwrite) as place:
        place.mkdir()
        records = (f">window_{row}\n{decode(each)}\n" for row, each in enumerate(windows))
        (place / "windows.fa").write_text("".join(records))
        yield place


def shuffled_windows(codes: Bytes, n: int, *, seed: int = 0) -> Bytes:
    """Draw background windows: shuffles of windows that keep their pairs of neighbouring bases.

    Args:
        codes: (m, L) uint8 base codes.
        n: number of shuffles; the windows are taken in turn.
        seed: number from which they are drawn.
    """
    rng = np.random.default_rng([seed, 0xBAC6])
    return np.stack([dinucleotide_shuffle(codes[row % len(codes)], rng) for row in range(n)])


def marginal_effects(
    model: TrainedModel | PathLike,
    windows: ArrayWindows,
    motifs: Sequence[str],
    targets: TargetChoice | None = None,
    *,
    motif_file: PathLike | None = None,
    controls: int = 20,
    seed: int = 0,
    strands: str | None = None,
    batch_size: int | None = None,
) -> Experiment:
    """Put each motif into the middle of background windows: how far does the score rise?

    Args:
        model: the network, or its run folder or .keras file.
        windows: N background windows of the network's length, at least two: as strings, one-hot or
            codes. A hundred shuffles say what the motif does by itself.
        motifs: bases, IUPAC letters, or ids or names of motifs of `motif_file` (their consensus).
        targets: names or numbers of targets; None for all of them.
        motif_file: file of named motifs, see `read_motif_file`; None for JASPAR 2016 vertebrates.
        controls: for each motif as many other orders of its letters, all different, are put into
            the same windows, or all there are; their mean effects are what chance does.
        seed: number from which the controls are drawn.
        strands: "both" for the mean of both strands, "forward" for the windows as they are; None
            for what the network was trained on.
        batch_size: windows at once; None for what fits.

    Returns:
        `table` with a row a motif and target: `effect` with `low` and `high`, `control` and
        `control_sd` (NA where the letters have no other order), `p_value` and `q_value` (NA of
        fewer than three orders, which do not say what chance is).

    Raises:
        InputError: a motif or target is unknown, a motif is longer than the window, or there are
            fewer than two windows.
    """
    if controls < _FEWEST:
        raise InputError(f"`controls`: at least {_FEWEST}. Received: {controls}.")
    lab = _Lab.of(model, windows, targets, strands, batch_size)
    file = None if motif_file is None else Path(motif_file)
    inserts = [find_insert(text, file) for text in motifs]
    if not inserts:
        raise InputError("`motifs`: none. Name at least one.")
    for insert in inserts:
        if len(insert.letters) > lab.codes.shape[1]:
            raise InputError(
                f"`motifs`: {insert.name} has {len(insert.letters):,} letters, the window "
                f"{lab.codes.shape[1]:,}. Give a shorter one."
            )
    rng = np.random.default_rng([seed, 0xC0])
    rows: list[dict[str, Any]] = []
    total = len(inserts) * (1 + controls) * len(lab.codes)
    with progress(total=total, desc="marginal", unit="windows") as bar:
        before = lab.scores(lab.codes)
        for insert in inserts:
            effects = lab.put_in(insert, before, bar.update)
            others = _other_orders(insert, controls, rng)
            if len(others) < _FEWEST_ORDERS:
                log.warning(
                    "%s: other orders of its letters: %d, too few for a p-value.",
                    insert.name,
                    len(others),
                )
            chance = np.array([lab.put_in(each, before, bar.update).mean(0) for each in others])
            bar.update((controls - len(others)) * len(lab.codes))
            for number, name in enumerate(lab.names):
                found = _interval(effects[:, number])
                beside = _beside_chance(found["effect"], chance, number)
                named = {"motif": insert.name, "letters": insert.letters, "target": name}
                rows.append(named | found | beside)
    return Experiment(_with_q_values(pd.DataFrame(rows)), lab.codes, "motif")


def ablation_effects(
    model: TrainedModel | PathLike,
    windows: ArrayWindows,
    sites: Sequence[str] | tuple[int, int],
    targets: TargetChoice | None = None,
    *,
    motif_file: PathLike | None = None,
    shuffles: int = 10,
    seed: int = 0,
    strands: str | None = None,
    batch_size: int | None = None,
) -> Experiment:
    """Replace a motif's sites, or bases, by shuffles of themselves: how far does the score fall?

    Args:
        model: the network, or its run folder or .keras file.
        windows: windows of the network's length, such as peaks.
        sites: one or two motifs (see `sites` for what is a site), all of whose sites in a window
            are replaced; or [begin, end) of the window's bases, 0-based.
        targets: names or numbers of targets; None for all of them.
        motif_file: file of named motifs; None for JASPAR 2016 vertebrates.
        shuffles: orders of the bases of the sites that are tried; their mean counts.
        seed: number from which they are drawn.
        strands: "both", "forward", or None for what the network was trained on.
        batch_size: windows at once; None for what fits.

    Returns:
        `table` with a row a motif and target over the windows that have a site: `effect`, the score
        with its sites minus that without, with `low` and `high`; `control`, the same of as many
        bases elsewhere in the same windows, `p_value` of the difference of the two (paired t),
        `q_value`. Of two motifs a third set of rows, `first × second`, has the epistasis over the
        windows that have both: score - score without the first - without the second + without
        both; its p-value is that of a mean of 0. `windows` are those that were given.

    Raises:
        InputError: fewer than two windows have a site, or a motif or target is unknown.
    """
    if shuffles < 1:
        raise InputError(f"`shuffles`: at least 1. Received: {shuffles}.")
    lab = _Lab.of(model, windows, targets, strands, batch_size)
    masks = _masks(lab.codes, sites, None if motif_file is None else Path(motif_file))
    rng = np.random.default_rng([seed, 0xAB])
    rows: list[dict[str, Any]] = []
    pair = len(masks) == 2
    total = (2 * len(masks) + pair) * shuffles
    with progress(total=total, desc="ablate", unit="shuffles") as bar:
        before = lab.scores(lab.codes)
        without: list[Scores] = []
        for name, mask in masks.items():
            has = _require_sites(name, mask, lab.codes)
            without.append(lab.without(mask, shuffles, rng, bar.update))
            elsewhere = _moved(mask, rng)
            chance = before - lab.without(elsewhere, shuffles, rng, bar.update)
            effects = before - without[-1]
            free = has & elsewhere.any(axis=1)
            if free.sum() < has.sum():
                log.warning(
                    "%s: %d of %d windows have no room for a control elsewhere.",
                    name,
                    int(has.sum() - free.sum()),
                    int(has.sum()),
                )
            for number, target in enumerate(lab.names):
                there = chance[free, number]
                beside = {"control": np.nan, "p_value": np.nan}
                if free.sum() >= _FEWEST:
                    differs = _differs(effects[free, number] - there)
                    beside = {"control": float(there.mean()), "p_value": differs}
                row = {"sites": name, "target": target} | _interval(effects[has, number])
                rows.append(row | beside)
        if pair:
            first, second = masks.values()
            has = np.asarray(first.any(axis=1) & second.any(axis=1))
            overlap = has & (first & second).any(axis=1)
            if overlap.any():
                log.warning(
                    "%s: in %d of %d windows with both, sites of the two overlap; these are left "
                    "out, as what overlaps is no two sites.",
                    " × ".join(masks),
                    int(overlap.sum()),
                    int(has.sum()),
                )
            has &= ~overlap
            rows += lab.epistasis(
                " × ".join(masks),
                has,
                before,
                without,
                lab.without(first | second, shuffles, rng, bar.update),
            )
    return Experiment(_with_q_values(pd.DataFrame(rows)), lab.codes, "sites")


@dataclass(frozen=True, eq=False)
class _Lab:
    """Windows, targets, and the scores of the network."""

    codes: Bytes
    names: tuple[str, ...]
    explainer: Explainer

    @classmethod
    def of(
        cls,
        model: TrainedModel | PathLike,
        windows: ArrayWindows,
        targets: TargetChoice | None,
        strands: str | None,
        batch_size: int | None,
    ) -> "_Lab":
        trained = opened(model)
        codes = codes_of(windows, window_of(trained))
        if len(codes) < _FEWEST:
            raise InputError(
                f"`windows`: at least {_FEWEST}, as an interval needs them. Received: {len(codes)}."
            )
        numbers = trained.targets.find(() if targets is None else targets)
        numbers = numbers or list(range(len(trained.targets)))
        explainer = Explainer(
            trained,
            numbers,
            window=codes.shape[1],
            strands=strands or trained.strands,
            batch_size=batch_size,
        )
        return cls(codes, trained.targets.subset(numbers).names, explainer)

    def scores(self, codes: Bytes) -> Scores:
        """(n, T) float64."""
        return self.explainer.scores(pack_codes(codes)).astype(np.float64)

    def put_in(self, insert: Insert, before: Scores, tell: Callable[[int], object]) -> Scores:
        """What a motif in the middle changes (n, T)."""
        place = places_of([insert], 0, self.codes.shape[1])[0]
        changed = self.scores(put_in(self.codes, insert, place)) - before
        tell(len(self.codes))
        return changed

    def without(
        self,
        mask: npt.NDArray[np.bool_],
        shuffles: int,
        rng: np.random.Generator,
        tell: Callable[[int], object],
    ) -> Scores:
        """Mean scores (n, T) with the marked bases of each window in other orders."""
        total = np.zeros((len(self.codes), len(self.names)))
        for _ in range(shuffles):
            changed = self.codes.copy()
            for row in np.flatnonzero(mask.any(axis=1)).tolist():
                for begin, end in _stretches(mask[row]):
                    changed[row, begin:end] = _other_order(changed[row, begin:end], rng)
            total += self.scores(changed)
            tell(1)
        return total / shuffles

    def epistasis(
        self,
        name: str,
        has: npt.NDArray[np.bool_],
        before: Scores,
        without: Sequence[Scores],
        neither: Scores,
    ) -> list[dict[str, Any]]:
        """A row a target: what the two sites do beyond the sum of each."""
        if has.sum() < _FEWEST:
            log.warning("%s: %d windows have both; no epistasis.", name, int(has.sum()))
            return []
        beyond = (before - without[0] - without[1] + neither)[has]
        return [
            {"sites": name, "target": target}
            | _interval(beyond[:, number])
            | {"control": np.nan, "p_value": _differs(beyond[:, number])}
            for number, target in enumerate(self.names)
        ]


def _other_orders(insert: Insert, n: int, rng: np.random.Generator) -> list[Insert]:
    """Controls: its letters in `n` different orders, or all there are; not its own on a strand."""
    own = {insert.letters, insert.letters.translate(_COMPLEMENT)[::-1]}
    counts = Counter(insert.letters)
    of_the_same = sum(Counter(each) == counts for each in own)
    n_orders = math.factorial(len(insert.letters))
    for count in counts.values():
        n_orders //= math.factorial(count)
    orders: dict[str, None] = {}
    while len(orders) < min(n, n_orders - of_the_same):
        letters = "".join(rng.permutation(list(insert.letters)))
        if letters not in own:
            orders.setdefault(letters)
    return [Insert(letters, letters) for letters in orders]


def _other_order(bases: Bytes, rng: np.random.Generator) -> Bytes:
    """The bases in an order that is not theirs; as they are where they are all equal."""
    if np.ptp(bases) == 0:
        return bases
    while True:
        order: Bytes = rng.permutation(bases)
        if (order != bases).any():
            return order


def _masks(
    codes: Bytes, sites: Sequence[str] | tuple[int, int], motif_file: Path | None
) -> dict[str, npt.NDArray[np.bool_]]:
    """Name → which bases (n, L) are replaced."""
    if len(sites) == 2 and all(isinstance(each, int | np.integer) for each in sites):
        begin, end = (int(each) for each in sites)
        if not 0 <= begin < end - 1 < codes.shape[1]:
            raise InputError(
                f"`sites`: bases [begin, end), two at least, inside of {codes.shape[1]}. Received: "
                f"{begin}:{end}."
            )
        mask = np.zeros(codes.shape, bool)
        mask[:, begin:end] = True
        return {f"{begin}:{end}": mask}
    names = [str(each) for each in sites]
    if not 1 <= len(names) <= 2 or len(set(names)) < len(names):
        raise InputError(f"`sites`: one or two different motifs. Received: {len(names)}.")
    masks = {name: SiteFinder.of(name, motif_file).covered(codes) for name in names}
    if len(masks) == 2 and (masks[names[0]] == masks[names[1]]).all():
        raise InputError(
            f"`sites`: {names[0]} and {names[1]} have the same sites. Give two different motifs."
        )
    for name, mask in masks.items():
        log.info(
            "%s of %s windows have a site of %s.",
            f"{int(mask.any(axis=1).sum()):,}",
            f"{len(codes):,}",
            name,
        )
    return masks


def _require_sites(name: str, mask: npt.NDArray[np.bool_], codes: Bytes) -> npt.NDArray[np.bool_]:
    """Which windows have a site that another order of its bases changes."""
    marked = np.asarray(mask.any(axis=1))
    has = marked.copy()
    for row in np.flatnonzero(marked).tolist():
        has[row] = any(np.ptp(codes[row, begin:end]) for begin, end in _stretches(mask[row]))
    if has.sum() < marked.sum():
        log.warning(
            "%s: in %d of %d windows its sites have no other order, as all their bases are the "
            "same; these are left out.",
            name,
            int(marked.sum() - has.sum()),
            int(marked.sum()),
        )
    if has.sum() < _FEWEST:
        raise InputError(
            f"`sites`: {name} has a site to change in {int(has.sum())} of {len(mask)} windows, at "
            f"least "
            f"{_FEWEST} are needed. Give other windows or another motif."
        )
    return has


def _stretches(marked: npt.NDArray[np.bool_]) -> list[list[int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]])))
    stretches: list[list[int]] = edges.reshape(-1, 2).tolist()
    return stretches


def _moved(mask: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """The same pattern of marked bases elsewhere in each window, of ten places the best.

    A window where all ten share more than half of the marked bases has none.
    """
    moved = np.zeros_like(mask)
    for row in np.flatnonzero(mask.any(axis=1)).tolist():
        marked = np.flatnonzero(mask[row])
        by = np.arange(-marked[0], mask.shape[1] - marked[-1])
        by = by[by != 0]
        if not len(by):
            continue
        tried = [marked + step for step in rng.choice(by, 10)]
        best = min(tried, key=lambda places: int(mask[row, places].sum()))
        if 2 * mask[row, best].sum() <= len(marked):
            moved[row, best] = True
    return moved


def _interval(values: Scores) -> dict[str, Any]:
    """Mean and 95 % t-interval over windows."""
    mean, n = float(values.mean()), len(values)
    half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return {"windows": n, "effect": mean, "low": mean - half, "high": mean + half}


def _beside_chance(effect: float, chance: Scores, number: int) -> dict[str, Any]:
    """How an effect lies among those of the controls, taken as normal: two-sided p."""
    if not len(chance):
        return {"control": np.nan, "control_sd": np.nan, "p_value": np.nan}
    mean = float(chance[:, number].mean())
    if len(chance) < _FEWEST_ORDERS:
        return {"control": mean, "control_sd": np.nan, "p_value": np.nan}
    sd = float(chance[:, number].std(ddof=1))
    row = {"control": mean, "control_sd": sd}
    away = abs(effect - mean)
    if sd == 0:
        return row | {"p_value": 1.0 if away == 0 else 0.0}
    score = away / (sd * np.sqrt(1 + 1 / len(chance)))
    return row | {"p_value": float(2 * stats.t.sf(score, len(chance) - 1))}


def _differs(difference: Scores) -> float:
    """Two-sided p of a mean of 0; of equal differences 1 where they are 0, else 0."""
    if np.ptp(difference) == 0:
        return 1.0 if difference[0] == 0 else 0.0
    return float(stats.ttest_1samp(difference, 0).pvalue)


def _with_q_values(table: pd.DataFrame) -> pd.DataFrame:
    known = table["p_value"].notna()
    table["q_value"] = np.nan
    if known.any():
        table.loc[known, "q_value"] = stats.false_discovery_control(table.loc[known, "p_value"])
    return table
