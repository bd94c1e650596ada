"""Windows explained base by base: what every change of a base does, and the gradients.

`explain` is for arrays that fit into memory; `places` explains any number of places of a genome
into a folder. Loads Keras.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from danq_keras.data.arrays import ArrayWindows, codes_of
from danq_keras.data.targets import TargetChoice
from danq_keras.genome.dna import Bytes, pack_codes
from danq_keras.interpret.explainer import Explainer
from danq_keras.interpret.files import Locus, create_arrays, table_rows
from danq_keras.interpret.methods import (
    Ways,
    chosen_methods,
    contributions,
    preferred,
)
from danq_keras.interpret.paths import PATHS
from danq_keras.interpret.pictures import LocusPicture, locus_png
from danq_keras.models.trained import TrainedModel, opened, window_of
from danq_keras.system.arrays import Floats
from danq_keras.system.errors import InputError
from danq_keras.system.files import PathLike, atomic_output
from danq_keras.system.hdf5 import new_hdf5
from danq_keras.system.terminal import progress

_DEFAULT = ("effects", "gradients")


@dataclass(frozen=True, eq=False)
class Explanation:
    """What N windows' scores (logits) of T targets rest on, base by base.

    `values` has an array (N, T, W, 4) float32 for each method: `effects`, change of the score when
    a base becomes A, G, C or T (0 where it is that base); `gradients`, derivative of the score by
    the one-hot window; `integrated` and `expected`, hypothetical contributions of integrated and of
    expected gradients. `errors` (N, T) of the last two: by how much the contributions of a whole
    window miss the difference that they should add up to. `scores` (N, T) are the logits, `codes`
    (N, W) uint8 the bases of the explained part, which begins at base `begin` of the window.
    """

    values: dict[str, Floats]
    errors: dict[str, Floats]
    scores: Floats
    codes: Bytes
    targets: tuple[str, ...]
    begin: int

    @property
    def effects(self) -> Floats | None:
        """(N, T, W, 4), None where they were not asked for; so the others."""
        return self.values.get("effects")

    @property
    def gradients(self) -> Floats | None:
        """(N, T, W, 4)."""
        return self.values.get("gradients")

    @property
    def integrated(self) -> Floats | None:
        """(N, T, W, 4)."""
        return self.values.get("integrated")

    @property
    def expected(self) -> Floats | None:
        """(N, T, W, 4)."""
        return self.values.get("expected")

    def contributions(self, method: str | None = None) -> Floats:
        """What each base contributes to the score, (N, T, W); see `methods` for what that means.

        Args:
            method: one that was asked for; None for the first of effects, expected, integrated and
                gradients that there is.

        Raises:
            InputError: it was not asked for.
        """
        name = preferred(self.values) if method is None else method
        if name not in self.values:
            raise InputError(f"`method`: one of {', '.join(self.values)}. Received: {method!r}.")
        codes = np.repeat(self.codes[:, None], len(self.targets), axis=1)
        return contributions(name, self.values[name], codes)

    def to_frame(self) -> pd.DataFrame:
        """One row a window, target and base: what its changes do, and what it contributes."""
        frames = []
        for row in range(len(self.codes)):
            for number, target in enumerate(self.targets):
                found = self._of(row, number)
                table = table_rows(self._locus(row), target, self.codes[row], found)
                table.insert(0, "window", row)
                frames.append(table.drop(columns="chrom"))
        return pd.concat(frames, ignore_index=True)

    def plot(self, window: int, target: str, path: PathLike, *, zoom: int = 100) -> None:
        """Draw one window for one target: whole, logo of the strongest stretch, heat map.

        Args:
            window: number of the window, from 0.
            target: name of the target.
            path: PNG file to write.
            zoom: bases of the stretch whose logo is drawn.

        Raises:
            InputError: there is no such window or target, or logomaker is not installed.
        """
        if target not in self.targets or not 0 <= window < len(self.codes):
            raise InputError(
                f"`target`: one of {', '.join(self.targets)}; `window`: 0 to {len(self.codes) - 1}."
                f" Received: {target!r}, {window}."
            )
        number = self.targets.index(target)
        picture = LocusPicture(
            title=f"{target}, window {window}",
            subtitle=f"logit {self.scores[window, number]:.2f}",
            start=self.begin,
            codes=self.codes[window],
            values=self._of(window, number),
        )
        with atomic_output(Path(path), overwrite=True) as temporary:
            locus_png(temporary, picture, zoom=zoom)

    def save(self, path: PathLike, *, overwrite: bool = False) -> None:
        """Write an HDF5 file like the contributions.h5 of `explain_danq.py`.

        Raises:
            InputError: the file exists.
        """
        arrays = {"codes": self.codes, "scores": self.scores, **self.values}
        arrays |= {f"{name}_error": error for name, error in self.errors.items()}
        loci = [self._locus(row) for row in range(len(self.codes))]
        with (
            atomic_output(Path(path), overwrite=overwrite) as temporary,
            new_hdf5(temporary) as file,
        ):
            create_arrays(file, loci, self.targets, list(self.values))
            for name, array in arrays.items():
                file[name][:] = array

    def _locus(self, row: int) -> Locus:
        return Locus(f"window_{row}", 0, self.begin, self.begin + self.codes.shape[1])

    def _of(self, row: int, number: int) -> dict[str, Floats]:
        return {name: array[row, number] for name, array in self.values.items()}


def explain(
    model: TrainedModel | PathLike,
    windows: ArrayWindows,
    targets: TargetChoice,
    *,
    method: str | Sequence[str] = _DEFAULT,
    region: tuple[int, int] | None = None,
    strands: str | None = None,
    backgrounds: int = Ways.backgrounds,
    points: int | None = None,
    seed: int = Ways.seed,
    batch_size: int | None = None,
) -> Explanation:
    """Explain the scores of windows base by base.

    Args:
        model: the network, or its run folder or .keras file.
        windows: N windows of the network's length L, as strings, one-hot (N, L, 4), codes (N, L),
            or a split of an open dataset.
        targets: names or numbers of T targets.
        method: some of "effects" (every change of a single base is predicted: 3 predictions a
            base), "gradients" (a single pass), "integrated" (50 gradients on the way from an empty
            window) and "expected" (200 on the ways from 20 shuffles of the window).
        region: [begin, end) of the window, 0-based, that is explained; None for all of it.
        strands: "both" for the mean of both strands, "forward" for the windows as they are; None
            for what the network was trained on.
        backgrounds: shuffles of each window from which expected gradients begin.
        points: gradients along each way; None for 50 of integrated and 10 of expected gradients.
        seed: number from which, with the window itself, its shuffles are drawn.
        batch_size: windows predicted at once; None for what fits into memory.

    Returns:
        The explanation; `.contributions()`, `.plot(0, target, "site.png")`, `.to_frame()`.

    Raises:
        InputError: a window, target or region is not what it should be.

    Example:
        >>> found = dq.explain("runs/mine", [sequence], ["Reb1"], region=(450, 550))
        >>> found.plot(0, "Reb1", "reb1.png")
    """
    chosen = chosen_methods(method)
    ways = Ways(backgrounds=backgrounds, points=points, seed=seed)
    if strands not in (None, "both", "forward"):
        raise InputError(f"`strands`: both or forward. Received: {strands!r}.")
    trained = opened(model)
    strands = strands or trained.strands
    window = window_of(trained)
    codes = codes_of(windows, window)
    begin, end = (0, window) if region is None else region
    if not 0 <= begin < end <= window:
        raise InputError(f"`region`: [begin, end) inside of {window} bases. Received: {region}.")
    numbers = trained.targets.find(targets)
    explainer = Explainer(trained, numbers, window=window, strands=strands, batch_size=batch_size)
    values, errors = {}, {}
    for name in chosen:
        values[name], found = _values(explainer, name, codes, (begin, end), ways)
        if found is not None:
            errors[name] = found
    return Explanation(
        values=values,
        errors=errors,
        scores=explainer.scores(pack_codes(codes)),
        codes=codes[:, begin:end],
        targets=trained.targets.subset(numbers).names,
        begin=begin,
    )


def _values(
    explainer: Explainer, name: str, codes: Bytes, region: tuple[int, int], ways: Ways
) -> tuple[Floats, Floats | None]:
    """A method's values of the region of all windows, and the errors of their sums."""
    part = slice(*region)
    if name == "effects":
        total = 3 * len(codes) * (region[1] - region[0])
        with progress(total=total, desc="explain", unit="changes") as bar:
            each = [explainer.effects(window, region, advance=bar.update) for window in codes]
        return np.stack(each), None
    with progress(total=len(codes), desc=name, unit="windows") as bar:
        if name in PATHS:
            found = []
            for window in codes:
                found.append(PATHS[name](explainer, window, ways))
                bar.update()
            errors = np.stack([each.error for each in found])
            return np.stack([each.values[:, part] for each in found]), errors
        size, parts = explainer.gradient_rows, []
        for at in range(0, len(codes), size):
            parts.append(explainer.gradients(codes[at : at + size])[:, :, part])
            bar.update(len(parts[-1]))
    return np.concatenate(parts), None
