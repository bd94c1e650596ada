"""Windows explained base by base: what every change of a base does, and the gradients.

`explain` is for arrays that fit into memory; `places` explains any number of places of a genome
into a folder. Loads Keras.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from danq_keras.data.arrays import ArrayWindows, codes_of
from danq_keras.data.targets import TargetChoice
from danq_keras.genome.dna import Bytes, pack_codes
from danq_keras.interpret.explainer import Explainer, contributions, shown_values
from danq_keras.interpret.files import Locus, create_arrays, table_rows
from danq_keras.interpret.pictures import LocusPicture, locus_png
from danq_keras.models.trained import TrainedModel, opened, window_of
from danq_keras.system.arrays import Floats
from danq_keras.system.errors import InputError
from danq_keras.system.files import PathLike, atomic_output
from danq_keras.system.hdf5 import new_hdf5
from danq_keras.system.terminal import progress

METHODS = ("effects", "gradients")


@dataclass(frozen=True, eq=False)
class Explanation:
    """What N windows' scores (logits) of T targets rest on, base by base.

    `effects` (N, T, W, 4) float32: change of the score when a base becomes A, G, C or T (0 where it
    is that base); `gradients` (N, T, W, 4): derivative of the score by the one-hot window; None
    where they were not asked for. `scores` (N, T) are the logits, `codes` (N, W) uint8 the bases of
    the explained part, which begins at base `begin` of the window.
    """

    effects: Floats | None
    gradients: Floats | None
    scores: Floats
    codes: Bytes
    targets: tuple[str, ...]
    begin: int

    def contributions(self) -> Floats:
        """(N, T, W): how far the base that is there lies above the mean of the four.

        Of the effects where there are such, else of the gradients.
        """
        values = self.effects if self.effects is not None else self.gradients
        assert values is not None
        return contributions(values, np.repeat(self.codes[:, None], len(self.targets), axis=1))

    def to_frame(self) -> pd.DataFrame:
        """One row a window, target and base: what its changes do, and what it contributes."""
        frames = []
        for row in range(len(self.codes)):
            for number, target in enumerate(self.targets):
                found = self._of(row, number)
                locus = self._locus(row)
                table = table_rows(
                    locus,
                    target,
                    self.codes[row],
                    effects=found["effects"],
                    contribution=found["contributions"],
                    gradient_x_input=found["gradient_x_input"],
                )
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
            **self._of(window, number),
        )
        with atomic_output(Path(path), overwrite=True) as temporary:
            locus_png(temporary, picture, zoom=zoom)

    def save(self, path: PathLike, *, overwrite: bool = False) -> None:
        """Write an HDF5 file like the contributions.h5 of `explain_danq.py`.

        Raises:
            InputError: the file exists.
        """
        values = {name: getattr(self, name) for name in METHODS if getattr(self, name) is not None}
        loci = [self._locus(row) for row in range(len(self.codes))]
        with (
            atomic_output(Path(path), overwrite=overwrite) as temporary,
            new_hdf5(temporary) as file,
        ):
            create_arrays(file, loci, self.targets, list(values))
            for name, array in {"codes": self.codes, "scores": self.scores, **values}.items():
                file[name][:] = array

    def _locus(self, row: int) -> Locus:
        return Locus(f"window_{row}", 0, self.begin, self.begin + self.codes.shape[1])

    def _of(self, row: int, number: int) -> dict[str, Any]:
        effects = None if self.effects is None else self.effects[row, number]
        gradients = None if self.gradients is None else self.gradients[row, number]
        return shown_values(self.codes[row], effects, gradients)


def explain(
    model: TrainedModel | PathLike,
    windows: ArrayWindows,
    targets: TargetChoice,
    *,
    method: str | Sequence[str] = METHODS,
    region: tuple[int, int] | None = None,
    strands: str | None = None,
    batch_size: int | None = None,
) -> Explanation:
    """Explain the scores of windows base by base.

    Args:
        model: the network, or its run folder or .keras file.
        windows: N windows of the network's length L, as strings, one-hot (N, L, 4), codes (N, L),
            or a split of an open dataset.
        targets: names or numbers of T targets.
        method: "effects" (every change of a single base is predicted: 3 predictions a base),
            "gradients" (a single pass), or both.
        region: [begin, end) of the window, 0-based, that is explained; None for all of it.
        strands: "both" for the mean of both strands, "forward" for the windows as they are; None
            for what the network was trained on.
        batch_size: windows predicted at once; None for what fits into memory.

    Returns:
        The explanation; `.contributions()`, `.plot(0, target, "site.png")`, `.to_frame()`.

    Raises:
        InputError: a window, target or region is not what it should be.

    Example:
        >>> found = dq.explain("runs/mine", [sequence], ["Reb1"], region=(450, 550))
        >>> found.plot(0, "Reb1", "reb1.png")
    """
    chosen = (method,) if isinstance(method, str) else tuple(method)
    if not chosen or not set(chosen) <= set(METHODS):
        raise InputError(f"`method`: some of {', '.join(METHODS)}. Received: {method!r}.")
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
    return Explanation(
        effects=_effects(explainer, codes, (begin, end)) if "effects" in chosen else None,
        gradients=_gradients(explainer, codes)[:, :, begin:end] if "gradients" in chosen else None,
        scores=explainer.scores(pack_codes(codes)),
        codes=codes[:, begin:end],
        targets=trained.targets.subset(numbers).names,
        begin=begin,
    )


def _effects(explainer: Explainer, codes: Bytes, region: tuple[int, int]) -> Floats:
    total = 3 * len(codes) * (region[1] - region[0])
    with progress(total=total, desc="explain", unit="changes") as bar:
        return np.stack([explainer.effects(each, region, advance=bar.update) for each in codes])


def _gradients(explainer: Explainer, codes: Bytes) -> Floats:
    size = explainer.gradient_rows
    parts = []
    with progress(total=len(codes), desc="gradients", unit="windows") as bar:
        for at in range(0, len(codes), size):
            parts.append(explainer.gradients(codes[at : at + size]))
            bar.update(len(parts[-1]))
    return np.concatenate(parts)
