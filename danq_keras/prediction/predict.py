"""What `predict_danq.py` does once its input is open; loads Keras."""

import argparse
import time
from collections.abc import Callable

from danq_keras.data.inputs import Windows
from danq_keras.data.sequence_inputs import (
    Intervals,
    Skipped,
    record_windows,
    tiled_windows,
    write_skipped,
)
from danq_keras.genome.fasta import Genome
from danq_keras.models.trained import load_model, window_of
from danq_keras.prediction.outputs import coverage
from danq_keras.prediction.stream import EMBEDDING, Request, check_window, write_predictions
from danq_keras.system.terminal import log

_STRANDS = {
    "forward": "forward strand, rows as given",
    "both": "both strands, mean with the reverse complement",
}


def predict(args: argparse.Namespace, source: Windows | Intervals | Genome) -> int:
    """Load the models, predict, say what was done."""
    begin = time.monotonic()
    models = [load_model(path) for path in (args.model, *args.ensemble)]
    targets = None
    if args.targets is not None:
        targets = tuple(models[0].targets.find(args.targets.split(",")))
    windows, skipped = _cut(args, source, lambda: window_of(models[0]))
    check_window(models[0], windows)
    windows.check()
    strands = args.strands or ("both" if windows.both_strands else "forward")
    request = Request(strands, args.values, targets, args.batch_size)
    n_unknown = write_predictions(
        models,
        windows,
        out=args.output,
        request=request,
        resume=args.resume,
        overwrite=args.overwrite,
    )
    what = "records" if isinstance(source, Genome) else "intervals"
    if (line := write_skipped(args.output, skipped, what)) is not None:
        log.info(line)
    if n_unknown:
        log.info(
            f"{args.output}: {n_unknown:,} windows have more unknown bases (not A, C, G, T) than "
            "known ones: their predictions say little"
        )
    n_targets = len(models[0].targets) if targets is None else len(targets)
    values = "embeddings" if args.values == EMBEDDING else f"{n_targets:,} targets"
    parts = [f"{windows.n_windows:,} windows × {values}", _STRANDS[strands]]
    if len(models) > 1:
        parts.append(f"mean and spread of {len(models)} models")
    if windows.tiling is not None:
        parts.append(coverage(windows.tiling))
    print(f"{args.output}: {', '.join(parts)}, {time.monotonic() - begin:.1f} s")
    return 0


def _cut(
    args: argparse.Namespace, source: Windows | Intervals | Genome, window: Callable[[], int]
) -> tuple[Windows, list[Skipped]]:
    """The windows of what was opened, and what has none."""
    if isinstance(source, Windows):
        return source, []
    if isinstance(source, Intervals):
        return source.windows(window())
    if args.tile is None:
        return record_windows(source, window())
    chroms = None if args.chroms is None else args.chroms.split(",")
    return tiled_windows(source, window(), step=args.tile, chroms=chroms)
