"""Predictions of windows that a notebook has, in memory; loads Keras.

`predict` is for what fits into memory; `stream.write_predictions` takes any number of windows to a
file, with the same values.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
import pandas as pd

from danq_keras.data.arrays import ArrayWindows, codes_of
from danq_keras.data.inputs import Windows, open_windows
from danq_keras.data.sequence_inputs import Skipped
from danq_keras.data.store import Split
from danq_keras.data.targets import TargetChoice
from danq_keras.genome.dna import Bytes, pack_codes
from danq_keras.models.archive import check_shapes
from danq_keras.models.trained import TrainedModel, numbered_targets, opened, window_of
from danq_keras.prediction.growing import ROWS_AT_ONCE, Contents
from danq_keras.prediction.outputs import growing_file
from danq_keras.prediction.predictor import STRANDS
from danq_keras.prediction.stream import (
    EMBEDDING,
    PROBABILITIES,
    Request,
    Values,
    check_output,
    check_window,
    predicted_batches,
    strands_of,
)
from danq_keras.prediction.windows import GenomeWindows
from danq_keras.system.arrays import Floats
from danq_keras.system.errors import InputError
from danq_keras.system.files import PathLike
from danq_keras.system.terminal import progress

AnyModel: TypeAlias = TrainedModel | keras.Model | PathLike
AnyWindows: TypeAlias = ArrayWindows | GenomeWindows | Windows | PathLike


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network, or the mean of several, says of N windows.

    `values` (N, T) float32 are probabilities, or embeddings (N, U); `spread` the sample standard
    deviation over several networks, else None. `targets` are the names of the columns. `places`
    has one row a window: where it lies (chrom, 0-based start, end, name), as far as that is known;
    `skipped` one row for what has no window, with the reason. `n_unknown` windows have more
    unknown bases than known ones: their predictions say little.
    """

    values: Floats
    spread: Floats | None
    targets: tuple[str, ...]
    places: pd.DataFrame
    skipped: pd.DataFrame
    n_unknown: int
    output: str
    strands: str
    model: str
    source: Windows

    def to_frame(self) -> pd.DataFrame:
        """One row a window: its place, then one column a target."""
        values = pd.DataFrame(self.values, columns=list(self.targets), index=self.places.index)
        return pd.concat([self.places, values], axis=1)

    def save(self, path: PathLike, *, overwrite: bool = False) -> None:
        """Write the file that `predict_danq.py` writes: .h5, .tsv, .tsv.gz, .bw or tracks.

        Raises:
            InputError: it exists, or has a name or content that does not go together.
        """
        arrays = {"pred" if self.output == PROBABILITIES else EMBEDDING: self.values}
        if self.spread is not None:
            arrays["spread"] = self.spread
        check_output(Path(path), self.source, list(arrays), n_targets=len(self.targets))
        described = {"model": self.model, "strands": self.strands}
        contents = Contents(tuple(arrays), self.targets, described)
        with growing_file(
            Path(path), self.source, contents, resume=False, overwrite=overwrite
        ) as file:
            for begin in range(0, len(self.values), ROWS_AT_ONCE):
                end = min(begin + ROWS_AT_ONCE, len(self.values))
                rows = {name: array[begin:end] for name, array in arrays.items()}
                file.append(rows, self.source.columns(begin, end))


def predict(
    model: AnyModel | Sequence[AnyModel],
    windows: AnyWindows,
    *,
    strands: str | None = None,
    targets: TargetChoice | None = None,
    output: str = PROBABILITIES,
    batch_size: int | None = None,
) -> Prediction:
    """Predict windows.

    Args:
        model: the network: a `TrainedModel`, a run folder or .keras file, or a plain Keras model
            (whose targets are numbered); several of them give their mean and spread.
        windows: N windows of the network's length L: strings, one-hot (N, L, 4) with channels
            A,G,C,T, codes (N, L) uint8, a split of an open dataset, `danq_keras.windows(...)` of a
            genome, or a file or dataset folder as `predict_danq.py` reads it.
        strands: "both" for the mean with the reverse complement, "forward" for the windows as they
            are; None for what the network was trained on, unless a split's rows stand for
            themselves only.
        targets: names or numbers of the targets that are wanted; None for all.
        output: "probabilities", or "embedding" for the units of the layer `dense`.
        batch_size: windows at once; None for what fits.

    Returns:
        Values and places; `.to_frame()`, `.save("predictions.h5")`.

    Raises:
        InputError: windows and network do not fit each other, or a target is unknown.

    Example:
        >>> dq.predict("runs/mine", ["ACGT" * 250]).to_frame()
    """
    models = _models(model)
    if output not in (PROBABILITIES, EMBEDDING):
        raise InputError(f"`output`: {PROBABILITIES} or {EMBEDDING}. Received: {output!r}.")
    if output == EMBEDDING and (targets is not None or len(models) > 1):
        raise InputError(
            "`output=embedding`: has no targets and is of one model. Give neither `targets` nor "
            "several models."
        )
    numbers = None
    if targets is not None:
        numbers = tuple(models[0].targets.find(targets))
        if not numbers:
            raise InputError("`targets`: none. Name at least one, or leave the argument out.")
    with _as_windows(windows, models[0]) as (source, skipped):
        check_window(models[0], source)
        source.check()
        chosen = strands or strands_of(source, models[0])
        if chosen not in STRANDS:
            raise InputError(f"`strands`: {' or '.join(STRANDS)}. Received: {strands!r}.")
        values = Values(models, source.window, Request(chosen, output, numbers, batch_size))
        return _collected(values, source, skipped, chosen)


def _models(model: Any) -> list[TrainedModel]:
    many = model if isinstance(model, (list, tuple)) else [model]
    if not many:
        raise InputError("`model`: none. Give a network, or several.")
    return [_model(each) for each in many]


def _model(model: Any) -> TrainedModel:
    if isinstance(model, keras.Model):
        check_shapes(Path(model.name), model)
        return TrainedModel(model, numbered_targets(model.output_shape[1]), Path(model.name), {})
    return opened(model)


@contextlib.contextmanager
def _as_windows(
    windows: AnyWindows, model: TrainedModel
) -> Iterator[tuple[Windows, list[Skipped]]]:
    """The rows to predict, and what has none."""
    if isinstance(windows, Windows):
        yield windows, []
    elif isinstance(windows, GenomeWindows):
        with windows.cut(window_of(model)) as found:
            yield found
    elif isinstance(windows, (str, os.PathLike)):
        if isinstance(windows, str) and windows and set(windows.upper()) <= set("ACGTN"):
            raise InputError("`windows`: a list of sequences. Received a single one: put it in [].")
        yield open_windows(Path(windows)), []
    else:
        both = not isinstance(windows, Split) or windows.both_strands
        yield _in_memory(codes_of(windows, _length(windows, model)), both_strands=both), []


def _length(windows: ArrayWindows, model: TrainedModel) -> int:
    """Bases L of a window: the network's, or the array's own where that takes any."""
    takes_any = model.network.input_shape[1] is None
    if takes_any and isinstance(windows, np.ndarray) and windows.ndim > 1:
        return int(windows.shape[1])
    return window_of(model)


def _in_memory(codes: Bytes, *, both_strands: bool) -> Windows:
    packed = pack_codes(codes)

    def blocks(first: int) -> Iterator[Bytes]:
        yield packed[first:]

    return Windows(
        path=Path("windows"),
        n_windows=len(packed),
        window=codes.shape[1],
        both_strands=both_strands,
        blocks=blocks,
    )


def _collected(
    values: Values, source: Windows, skipped: Sequence[Skipped], strands: str
) -> Prediction:
    parts: dict[str, list[Floats]] = {name: [] for name in values.names}
    n_unknown = 0
    with progress(total=source.n_windows, desc="predict", unit="windows") as bar:
        for batch, unknown in predicted_batches(values, source):
            for name, array in batch.items():
                parts[name].append(array)
            n_unknown += unknown
            bar.update(len(next(iter(batch.values()))))
    arrays = {name: np.concatenate(each) for name, each in parts.items()}
    first = values.names[0]
    columns = source.columns(0, source.n_windows)
    return Prediction(
        values=arrays[first],
        spread=arrays.get("spread"),
        targets=tuple(values.columns),
        places=pd.DataFrame(columns, index=pd.RangeIndex(source.n_windows, name="window")),
        skipped=pd.DataFrame(
            [vars(each) for each in skipped], columns=["name", "start", "end", "reason"]
        ),
        n_unknown=n_unknown,
        output=EMBEDDING if first == EMBEDDING else PROBABILITIES,
        strands=strands,
        model=" ".join(str(each.path) for each in values.models),
        source=source,
    )
