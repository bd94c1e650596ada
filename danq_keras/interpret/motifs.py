"""What `extract_motifs.py` does once its arguments are in order; loads Keras."""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from danq_keras.data.bundle import open_or_convert
from danq_keras.data.store import Split, open_store
from danq_keras.evaluation.report import MOTIFS, write_report
from danq_keras.interpret.first_layer import KernelScanner, KernelSites, first_convolution
from danq_keras.interpret.kernel_motifs import (
    KnownMotifs,
    best_pairs,
    choose_matcher,
    draw_motif_files,
    kernel_motifs,
    kernel_table,
    match_kernels,
    match_table,
    summary_line,
    write_motif_files,
)
from danq_keras.models.trained import TrainedModel, load_model
from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output
from danq_keras.system.terminal import progress


def extract(args: argparse.Namespace, known: KnownMotifs) -> int:
    """Scan the windows, match the motifs, write the folder."""
    begin = time.monotonic()
    model = load_model(args.model)
    dataset = open_store(open_or_convert(args.data, args.store))
    split = dataset.split(args.split)
    columns = dataset.targets.find(args.positives or [])
    rows = _choose_rows(split, columns)
    sites = _scan(model, split, rows, batch_size=args.batch_size)
    kernels = kernel_motifs(sites.counts, sites.n_sites)
    matches = match_kernels(kernels, known, threshold=args.threshold, method=args.matcher)
    table = kernel_table(len(sites.n_sites), kernels, matches, known)
    line = summary_line(table, known, args.threshold)
    summary: dict[str, Any] = {
        "summary": line,
        "model": str(model.path),
        "data": str(split.path),
        "positives": [dataset.targets.names[column] for column in columns],
        "windows": len(rows),
        "sequences": sites.n_sequences,
        "databases": known.sizes,
        "threshold": args.threshold,
        "matcher": choose_matcher(args.matcher),
    }
    with atomic_output(args.out, overwrite=args.overwrite) as folder:
        folder.mkdir()
        tables = (table, match_table(kernels, matches, known))
        write_motif_files(folder, kernels, tables, summary=summary)
        if not args.no_logos:
            draw_motif_files(folder, kernels, best_pairs(kernels, matches, known))
    _renew_report(args.model, args.out)
    seconds = time.monotonic() - begin
    print(f"{line}\n{args.out}: {sites.n_sequences:,} sequences read, {seconds:.1f} s")
    return 0


def _choose_rows(split: Split, columns: list[int]) -> npt.NDArray[np.int64]:
    """Rows that are positive for one of the targets; all rows when there is none.

    Raises:
        InputError: there is no such row.
    """
    if not columns:
        chosen = np.ones(split.n_windows, bool)
    else:
        bits = [split.labels[:, column // 8] & (128 >> column % 8) for column in columns]
        chosen = np.any(bits, axis=0)
    if not chosen.any():
        names = ", ".join(split.header.targets.names[column] for column in columns)
        wanted = f"is positive for {names}" if columns else "is there"
        raise InputError(
            f"{split.path}: no window {wanted}. Choose another --split or other --positives."
        )
    return np.flatnonzero(chosen)


def _scan(
    model: TrainedModel, split: Split, rows: npt.NDArray[np.int64], *, batch_size: int
) -> KernelSites:
    conv = first_convolution(model)
    window = model.network.input_shape[1]
    if window not in (None, split.header.window):
        raise InputError(
            f"{split.path}: windows of {split.header.window} bases, but {model.path} takes "
            f"{window}. Use windows of that length, or a model of the other."
        )
    split.verify()
    scanner = KernelScanner(conv, window=split.header.window, both_strands=split.both_strands)
    with progress(total=len(rows), desc="scan", unit="windows") as bar:
        for first in range(0, len(rows), batch_size):
            batch = rows[first : first + batch_size]
            scanner.add(split.sequence[batch])
            bar.update(len(batch))
    return scanner.result()


def _renew_report(run: Path, out: Path) -> None:
    """The report of a run shows the motifs in its own folder."""
    if out.resolve() == (run / MOTIFS).resolve() and (run / "report.html").is_file():
        write_report(run)
