"""Sequences that reach wanted predictions, by single changes: greedy evolution and beam search.

In: a window to begin with, and what is wanted of each target's score (logit; of both strands the
mean). Every round predicts all single changes of the best windows so far and keeps the best of
them; it ends when no change gains. Loads Keras.

The objective is the sum of the scores to raise less those to lower. A target to keep may move by
half a logit from where it began, one with a limit must stay below it: a window that breaks this
loses 100, and ten times what is too much, so that it is taken only where the one before broke it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.data.arrays import codes_of
from danq_keras.data.targets import Targets
from danq_keras.genome.dna import ALPHABET, UNKNOWN, Bytes, decode, pack_codes
from danq_keras.interpret.explainer import Explainer, changed_windows, single_changes
from danq_keras.interpret.files import SUMMARY, write_summary
from danq_keras.interpret.pictures import design_png
from danq_keras.interpret.sites import SiteFinder
from danq_keras.models.trained import TrainedModel, opened, window_of
from danq_keras.system.arrays import Doubles
from danq_keras.system.errors import InputError
from danq_keras.system.files import PathLike, atomic_output, refuse_unmarked
from danq_keras.system.tables import write_tsv
from danq_keras.system.terminal import log, progress

KEPT = 0.5  # logits that a target to keep may move
_BROKEN, _BY = 100.0, 10.0  # more than a change gains; and a way back for a start above a limit
_LEAST_GAIN = 1e-4


@dataclass(frozen=True)
class Wanted:
    """What is wanted of the targets, by number or name.

    `higher` and `lower` are moved, `keep` stay within half a logit, `below` maps a target to the
    logit that it must not exceed.
    """

    higher: Sequence[str | int] = ()
    lower: Sequence[str | int] = ()
    keep: Sequence[str | int] = ()
    below: Mapping[str | int, float] = field(default_factory=dict)

    def numbers(self, targets: Targets) -> list[int]:
        """The targets' numbers, in the order of `higher`, `lower`, `keep`, `below`.

        Raises:
            InputError: one is unknown or named twice, or none is to be moved.
        """
        if not self.higher and not self.lower:
            raise InputError("`higher`, `lower`: name at least one target to move.")
        for name, limit in self.below.items():
            if not math.isfinite(limit):
                raise InputError(f"`below`: {name} has a limit of {limit}. Give a finite logit.")
        return targets.find([*self.higher, *self.lower, *self.keep, *self.below])

    def worth(self, scores: Doubles, begun: Doubles) -> Doubles:
        """The objective (n,) of scores (n, T) of those targets, which began at `begun` (T,)."""
        edges = np.cumsum([len(self.higher), len(self.lower), len(self.keep)])
        higher, lower, keep, below = np.split(scores, edges, axis=1)
        limits = np.array(list(self.below.values()), np.float64)
        moved = np.abs(keep - begun[edges[1] : edges[2]]) - KEPT
        over = np.maximum(np.concatenate([moved, below - limits], axis=1), 0)
        cost = _BROKEN * (over > 0).sum(axis=1) + _BY * over.sum(axis=1)
        return np.asarray(higher.sum(axis=1) - lower.sum(axis=1) - cost)

    def broken(self, names: Sequence[str], scores: Doubles, begun: Doubles) -> list[str]:
        """What the scores (T,) of those targets do not keep, in words."""
        first = len(self.higher) + len(self.lower)
        said = []
        for i, name in enumerate(names[first:], start=first):
            if i < first + len(self.keep):
                if abs(scores[i] - begun[i]) > KEPT:
                    said.append(f"{name} is not kept: {begun[i]:.3f} → {scores[i]:.3f}")
            elif scores[i] > (limit := list(self.below.values())[i - first - len(self.keep)]):
                said.append(f"{name} is not below {limit:g}: {scores[i]:.3f}")
        return said


@dataclass(frozen=True)
class Limits:
    """Which windows are allowed.

    `changeable` lists the stretches [begin, end) of the window whose bases may change, None for
    all; `gc` the lowest and highest share of G and C; `avoid` motifs that must not have more sites
    than the window to begin with (see `sites`); `motif_file` where named ones are.
    """

    changeable: Sequence[tuple[int, int]] | None = None
    gc: tuple[float, float] | None = None
    avoid: Sequence[str] = ()
    motif_file: Path | None = None


@dataclass(frozen=True, eq=False)
class Design:
    """A designed sequence: `start` and `sequence`, and how it came about.

    `broken` says in words which limits of targets it does not keep.
    `path` has a row a round, from 0: `change` such as `12A>G` (1-based), `objective`, and a column
    for each target with its logit.
    """

    start: str
    sequence: str
    path: pd.DataFrame
    targets: tuple[str, ...]
    broken: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """The path."""
        return self.path

    def save(self, folder: PathLike, *, title: str = "design", overwrite: bool = False) -> None:
        """Write designed.fa, path.tsv and path.png.

        Args:
            folder: folder for the files, made anew.
            title: what was designed, for the picture and a run's report.
            overwrite: whether an earlier folder of a design is replaced.

        Raises:
            InputError: the folder is in use or holds something else.
        """
        refuse_unmarked(Path(folder), "designs", overwrite=overwrite, marker=SUMMARY)
        with atomic_output(Path(folder), overwrite=overwrite) as place:
            place.mkdir()
            (place / "designed.fa").write_text(
                f">start\n{self.start}\n>designed\n{self.sequence}\n"
            )
            write_tsv(place / "path.tsv", self.path)
            design_png(place / "path.png", self.path, targets=self.targets, title=title)
            caption = f"{title}: logits over the rounds, a single change each"
            caption += "".join(f"; {each}" for each in self.broken)
            write_summary(
                place, {"title": title, "pictures": [{"file": "path.png", "caption": caption}]}
            )


def design(
    model: TrainedModel | PathLike,
    start: str | Bytes,
    wanted: Wanted,
    *,
    limits: Limits | None = None,
    rounds: int = 30,
    beam: int = 1,
    strands: str | None = None,
    batch_size: int | None = None,
) -> Design:
    """Change a window base by base until its predictions are what is wanted.

    Args:
        model: the network, or its run folder or .keras file.
        start: window of the network's length to begin with, as a string or codes (L,).
        wanted: what is wanted of which targets.
        limits: which windows are allowed; None for all.
        rounds: most single changes.
        beam: windows that each round goes on from: 1 is greedy, more look further.
        strands: "both", "forward", or None for what the network was trained on.
        batch_size: windows predicted at once; None for what fits.

    Returns:
        The best window that was met, and the path to it.

    Raises:
        InputError: a target is unknown, the limits exclude the first window or every change, or the
            window is not as long as the network's.

    Example:
        >>> found = design("yeast", "ACGT" * 250, Wanted(higher=["Reb1"], keep=["Abf1"]))
        >>> found.sequence
    """
    for name, value in (("rounds", rounds), ("beam", beam)):
        if value < 1:
            raise InputError(f"`{name}`: at least 1. Received: {value}.")
    trained = opened(model)
    numbers = wanted.numbers(trained.targets)
    window = window_of(trained)
    codes = codes_of([start] if isinstance(start, str) else np.asarray(start)[None], window)[0]
    if (codes == UNKNOWN).any():
        raise InputError("`start`: bases A, C, G and T. Received unknown ones. Replace them.")
    explainer = Explainer(
        trained, numbers, window=window, strands=strands or trained.strands, batch_size=batch_size
    )
    search = _Search(explainer, wanted, _Allowed.of(limits or Limits(), codes), codes)
    with progress(total=rounds, desc="design", unit="rounds") as bar:
        for _ in range(rounds):
            if not search.go_on(beam):
                break
            bar.update()
            bar.set_postfix_str(f"objective {search.best.worth:.3f}", refresh=False)
    names = trained.targets.subset(numbers).names
    path = search.path(names)
    logits = path[list(names)].to_numpy(np.float64)
    broken = wanted.broken(names, logits[-1], logits[0])
    for each in broken:
        log.warning("A limit does not hold: %s.", each)
    return Design(decode(codes), decode(search.best.codes), path, names, tuple(broken))


@dataclass(frozen=True, eq=False)
class _Found:
    """A window that was met, with what it is worth, its scores (T,) and how it came about."""

    codes: Bytes
    worth: float
    scores: Doubles
    change: str
    before: "_Found | None"


@dataclass(frozen=True, eq=False)
class _Allowed:
    """Limits that are ready to be held against windows."""

    places: npt.NDArray[np.bool_]
    gc: tuple[float, float]
    avoid: tuple[SiteFinder, ...]
    sites: tuple[int, ...]

    @classmethod
    def of(cls, limits: Limits, codes: Bytes) -> "_Allowed":
        """Refuse limits that exclude the first window, or every change.

        Raises:
            InputError: they do.
        """
        places = np.full(len(codes), limits.changeable is None)
        for begin, end in limits.changeable or ():
            if not 0 <= begin < end <= len(codes):
                raise InputError(
                    f"`changeable`: [begin, end) inside of {len(codes)} bases. Received: "
                    f"{begin}:{end}."
                )
            places[begin:end] = True
        low, high = limits.gc or (0.0, 1.0)
        share = float(_gc(codes[None])[0])
        if not 0 <= low <= share <= high <= 1:
            raise InputError(
                f"`gc`: from 0 to 1, with the first window's {share:.3f} between them. Received: "
                f"{low:g} to {high:g}."
            )
        avoid = tuple(SiteFinder.of(text, limits.motif_file) for text in limits.avoid)
        sites = tuple(int(each.count(codes[None])[0]) for each in avoid)
        return cls(places, (low, high), avoid, sites)

    def __call__(self, windows: Bytes) -> npt.NDArray[np.bool_]:
        """Which windows (n, L) are allowed, but for where they changed."""
        share = _gc(windows)
        allowed = (share >= self.gc[0] - 1e-9) & (share <= self.gc[1] + 1e-9)
        for finder, most in zip(self.avoid, self.sites, strict=True):
            allowed &= finder.count(windows) <= most
        return np.asarray(allowed)


def _gc(windows: Bytes) -> Doubles:
    """Share of G and C of windows (n, L)."""
    return np.asarray(((windows == 1) | (windows == 2)).mean(axis=1))


class _Search:
    """The best windows so far, and the rounds that made them."""

    def __init__(
        self, explainer: Explainer, wanted: Wanted, allowed: _Allowed, codes: Bytes
    ) -> None:
        self._explainer, self._wanted, self._allowed = explainer, wanted, allowed
        self._begun = self._scores(codes[None])[0]
        worth = float(wanted.worth(self._begun[None], self._begun)[0])
        self.best = _Found(codes, worth, self._begun, "", None)
        self._beam = [self.best]
        self._met = {codes.tobytes()}

    def _scores(self, windows: Bytes) -> Doubles:
        return self._explainer.scores(pack_codes(windows)).astype(np.float64)

    def go_on(self, beam: int) -> bool:
        """Try all single changes of the beam; whether the best of them gains."""
        tried = [found for each in self._beam for found in self._changes(each, beam)]
        tried.sort(key=lambda found: -found.worth)
        chosen: list[_Found] = []
        for found in tried:
            if found.codes.tobytes() not in self._met and len(chosen) < beam:
                self._met.add(found.codes.tobytes())
                chosen.append(found)
        if not chosen:
            if self.best.before is None:
                raise InputError(
                    "`limits`: they exclude every change of the first window. Widen them."
                )
            return False
        self._beam = chosen
        if chosen[0].worth <= self.best.worth + _LEAST_GAIN:
            return False
        self.best = chosen[0]
        return True

    def _changes(self, found: _Found, most: int) -> list[_Found]:
        """The best changes of a window that are allowed."""
        places, bases = single_changes(found.codes, (0, len(found.codes)))
        free = self._allowed.places[places]
        places, bases = places[free], bases[free]
        windows = changed_windows(found.codes, places, bases)
        kept = np.flatnonzero(self._allowed(windows))
        if not len(kept):
            return []
        scores = self._scores(windows[kept])
        worth = self._wanted.worth(scores, self._begun)
        # As many more as windows that were met may stand among them.
        order = np.argsort(-worth, kind="stable")[: most + len(self._met)]
        return [
            _Found(
                windows[kept[i]],
                float(worth[i]),
                scores[i],
                f"{places[kept[i]] + 1}{ALPHABET[found.codes[places[kept[i]]]]}"
                f">{ALPHABET[bases[kept[i]]]}",
                found,
            )
            for i in order.tolist()
        ]

    def path(self, names: Sequence[str]) -> pd.DataFrame:
        """A row a round of the way to the best window."""
        steps: list[_Found] = []
        each: _Found | None = self.best
        while each is not None:
            steps.append(each)
            each = each.before
        rows: list[dict[str, Any]] = [
            {"round": number, "change": step.change, "objective": step.worth}
            | dict(zip(names, step.scores.tolist(), strict=True))
            for number, step in enumerate(reversed(steps))
        ]
        return pd.DataFrame(rows)
