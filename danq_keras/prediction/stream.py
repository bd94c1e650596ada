"""Predictions of any number of windows, streamed from `inputs.Windows` into a file.

An HDF5 file holds `pred` (N, T) float32 in the input's order, or `embedding` (N, U) float32,
`targets` (T,) UTF-8 and, where the input knows them, `name` (N,), or `chrom` (N,) UTF-8 and
`start`, `end` (N,) int64 of the windows, 0-based and half-open; of a BED file's features also their
`name` and `strand` (N,) UTF-8. With several models `pred` is
their mean and `spread` (N, T) float32 their sample standard deviation. Its attributes say which
strands were predicted and what from. `prediction_files` makes tables and tracks of it. Memory
does not grow with N: a batch is read, predicted and written before the next.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from danq_keras.data.inputs import Windows
from danq_keras.genome.dna import Bytes
from danq_keras.models.trained import TrainedModel, check_ensemble, embedding_model, weights_digest
from danq_keras.prediction.growing import Contents
from danq_keras.prediction.outputs import growing_file, prediction_kind
from danq_keras.prediction.predictor import predictor_of, require_probabilities
from danq_keras.system.arrays import Floats
from danq_keras.system.errors import InputError, optional_module
from danq_keras.system.inputs import identity
from danq_keras.system.terminal import progress

PROBABILITIES, EMBEDDING = "probabilities", "embedding"


def strands_of(windows: Windows, model: TrainedModel) -> str:
    """The strands that are predicted when nothing is said, "both" or "forward"."""
    return model.strands if windows.both_strands else "forward"


@dataclass(frozen=True)
class Request:
    """What is predicted.

    `strands`: see `Predictor`; `output`: `PROBABILITIES`, or `EMBEDDING` for the units of
    the layer `dense`; `targets`: their numbers, None for all; `batch_size`: windows at once, None
    for what fits the network and the device.
    """

    strands: str
    output: str = PROBABILITIES
    targets: tuple[int, ...] | None = None
    batch_size: int | None = None


def check_window(model: TrainedModel, windows: Windows) -> None:
    """Refuse windows of another length than the network's.

    Raises:
        InputError: the lengths differ.
    """
    length = model.network.input_shape[1]
    if length not in (None, windows.window):
        raise InputError(
            f"{windows.path}: windows of {windows.window} bases, but {model.path} takes {length}. "
            "Use windows of that length, or a model of the other."
        )


class Values:
    """Everything that one request asks for of a batch of rows."""

    def __init__(self, models: Sequence[TrainedModel], window: int, request: Request) -> None:
        self.models = models
        self._orders = check_ensemble(models)
        networks = [model.network for model in models]
        self.names = ("pred",) if len(models) == 1 else ("pred", "spread")
        wanted = request.targets or range(len(models[0].targets))
        self.columns = models[0].targets.subset(list(wanted)).names
        self._numbers = [[order[i] for i in wanted] for order in self._orders]
        if request.output == EMBEDDING:
            networks = [embedding_model(models[0])]
            units = networks[0].output_shape[-1]
            self.names, self.columns = (EMBEDDING,), tuple(f"unit{i}" for i in range(units))
            self._numbers = [list(range(units))]
        self._predictors = [
            predictor_of(
                network, window=window, strands=request.strands, batch_size=request.batch_size
            )
            for network in networks
        ]
        self.batch_size = max(predictor.batch_size for predictor in self._predictors)

    def __call__(self, packed: Bytes) -> dict[str, Floats]:
        """Name → (n, K) float32."""
        each = [
            predictor(packed)[:, numbers]
            for predictor, numbers in zip(self._predictors, self._numbers, strict=True)
        ]
        if len(each) == 1:
            return {self.names[0]: each[0]}
        values = np.stack(each).astype(np.float64)
        return {
            "pred": values.mean(axis=0).astype(np.float32),
            "spread": values.std(axis=0, ddof=1).astype(np.float32),
        }


def write_predictions(
    models: Sequence[TrainedModel],
    windows: Windows,
    *,
    out: Path,
    request: Request,
    resume: bool = False,
    overwrite: bool = False,
    at_end: Callable[[], object] = lambda: None,
) -> int:
    """Predict all windows into `out`, which appears complete or not at all.

    Args:
        models: the network and the names of its targets; several give their mean and spread.
        windows: windows to predict, streamed in blocks.
        out: .h5, .tsv, .tsv.gz, .bw, or a folder of tracks.
        request: strands, kind of values, targets, batch size.
        resume: go on with an unfinished `out`, see `prediction_files.growing_file`.
        overwrite: whether an `out` that exists is replaced.
        at_end: called when all is predicted, before `out` appears: what else belongs to it.

    Returns:
        How many windows have more unknown bases than known ones.

    Raises:
        InputError: the windows do not fit the network or are damaged, `out` exists, or a
            prediction is not a finite number.
    """
    check_window(models[0], windows)
    values = Values(models, windows.window, request)
    check_output(out, windows, values.names, n_targets=len(values.columns))
    described = {
        **_describe(models, windows),
        "strands": request.strands,
        "targets": values.columns,
    }
    contents = Contents(values.names, values.columns, described)
    with growing_file(out, windows, contents, resume=resume, overwrite=overwrite) as file:
        begin = file.rows_done
        with progress(
            total=windows.n_windows, desc="predict", unit="windows", initial=begin
        ) as bar:
            for batch, n_unknown in predicted_batches(values, windows, begin):
                n_rows = len(next(iter(batch.values())))
                file.n_unknown += n_unknown
                file.append(batch, windows.columns(begin, begin + n_rows))
                begin += n_rows
                bar.update(n_rows)
        at_end()
    if begin != windows.n_windows:
        raise ValueError(f"{begin} rows predicted, {windows.n_windows} announced.")
    return file.n_unknown


def predicted_batches(
    values: Values, windows: Windows, begin: int = 0
) -> Iterator[tuple[dict[str, Floats], int]]:
    """The values of windows from row `begin` on, batch by batch.

    Yields:
        Name → (n, K) float32, and how many of the rows have more unknown bases than known ones.

    Raises:
        InputError: a value is not a finite number.
    """
    for packed in _batches(windows.blocks(begin), values.batch_size):
        batch = values(packed)
        _check_values(batch, windows, begin)
        yield batch, _mostly_unknown(packed)
        begin += len(packed)


def check_output(out: Path, windows: Windows, values: Sequence[str], *, n_targets: int) -> None:
    """Refuse bigWig tracks of what has no place along chromosomes.

    Raises:
        InputError: the windows are not tiles, tiles leave gaps, one file is asked to hold more than
            one track, or pyBigWig is not installed.
    """
    kind = prediction_kind(out)
    if kind not in ("track", "tracks"):
        return
    if windows.tiling is None or EMBEDDING in values:
        raise InputError(
            f"{out}: bigWig tracks are of probabilities along a FASTA with `tile=STEP`. Add that, "
            "or choose a name that ends in .h5 or .tsv."
        )
    if windows.tiling.step > windows.window:
        raise InputError(
            f"`tile`: at most the window of {windows.window} bases for bigWig tracks. Received: "
            f"{windows.tiling.step}. Choose a smaller step."
        )
    if kind == "track" and (n_targets > 1 or len(values) > 1):
        raise InputError(
            f"{out}: a .bw file is one track; {n_targets} targets × {len(values)} values were "
            "asked for. Choose one with `targets`, or give a folder (a name without ending)."
        )
    optional_module("pyBigWig", "tracks")  # before hours of predictions


def _describe(models: Sequence[TrainedModel], windows: Windows) -> dict[str, Any]:
    """What decides the predictions, so that only the same are continued."""
    tiling = windows.tiling
    return {
        "model": " ".join(str(model.path) for model in models),
        "weights": [weights_digest(model.network) for model in models],
        "input": identity(windows.path),
        "windows": [windows.n_windows, windows.window],
        "tile": None if tiling is None else [tiling.step, *tiling.lengths],
    }


def _batches(blocks: Iterable[Bytes], size: int) -> Iterator[Bytes]:
    """The rows of blocks of any length, `size` at a time."""
    held: list[Bytes] = []
    n_held = 0
    for block in blocks:
        held.append(block)
        n_held += len(block)
        if n_held < size:
            continue
        rows = held[0] if len(held) == 1 else np.concatenate(held)
        whole = len(rows) - len(rows) % size
        yield from (rows[at : at + size] for at in range(0, whole, size))
        held, n_held = [rows[whole:]], len(rows) - whole
    if n_held:
        yield np.concatenate(held)


def _mostly_unknown(packed: Bytes) -> int:
    """Rows (n, ceil(L/2)) with fewer known bases, each a bit, than unknown ones."""
    known = np.bitwise_count(packed).sum(axis=1, dtype=np.int64)
    return int((known < packed.shape[1]).sum())


def _check_values(batch: dict[str, Floats], windows: Windows, begin: int) -> None:
    for values in batch.values():
        wrong = ~np.isfinite(values).all(axis=1)
        if wrong.any():
            raise InputError(
                f"{windows.path}: the model's prediction of row {begin + int(wrong.argmax())} is "
                "not a finite number. Its weights are damaged: use another model."
            )
    if "pred" in batch:
        require_probabilities(batch["pred"], windows.path)
