"""What the kernels of the first layer have learned: sites, motifs, and known motifs they match.

`first_layer_motifs` is for a notebook and for `extract_motifs.py`; loads Keras.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.data.bundle import open_dataset
from danq_keras.data.store import Dataset, Split
from danq_keras.data.targets import TargetChoice
from danq_keras.interpret.first_layer import KernelScanner, KernelSites, first_convolution
from danq_keras.interpret.kernel_motifs import (
    SUMMARY,
    KernelMotif,
    best_pairs,
    draw_motif_files,
    kernel_motifs,
    kernel_table,
    match_table,
    summary_line,
    write_motif_files,
)
from danq_keras.models.trained import TrainedModel, opened
from danq_keras.motifs.known import (
    KnownMotifs,
    Method,
    choose_matcher,
    match_motifs,
    read_databases,
)
from danq_keras.motifs.matching import Match
from danq_keras.system.errors import InputError
from danq_keras.system.files import PathLike, atomic_output, refuse_unmarked
from danq_keras.system.terminal import progress


@dataclass(frozen=True, eq=False)
class KernelMotifs:
    """The motifs of the first layer's kernels.

    `motifs` has one row a kernel: sites, information, consensus, best match. `matches` has one row
    a match of a known motif, best first. `kernels` holds the count matrices of the kernels that
    have sites; `summary` says what was read and compared.
    """

    motifs: pd.DataFrame
    matches: pd.DataFrame
    kernels: tuple[KernelMotif, ...]
    summary: dict[str, Any]
    known: KnownMotifs
    pairs: tuple[tuple[Match, ...], ...]

    def to_frame(self) -> pd.DataFrame:
        """The table of motifs, one row a kernel."""
        return self.motifs

    def save(self, folder: PathLike, *, logos: bool = True, overwrite: bool = False) -> None:
        """Write motifs.meme, motifs.tsv, matches.tsv, summary.json, and pictures if asked for.

        Args:
            folder: folder for the files, made anew.
            logos: whether to draw the logos and matches.png, which needs logomaker.
            overwrite: whether an earlier folder of motifs is replaced.

        Raises:
            InputError: the folder is in use or holds something else, or logomaker is missing.
        """
        refuse_unmarked(Path(folder), "motifs", overwrite=overwrite, marker=SUMMARY)
        with atomic_output(Path(folder), overwrite=overwrite) as place:
            place.mkdir()
            tables = (self.motifs, self.matches)
            write_motif_files(place, self.kernels, tables, summary=self.summary)
            if logos:
                draw_motif_files(
                    place, self.kernels, best_pairs(self.kernels, self.pairs, self.known)
                )


def first_layer_motifs(
    model: TrainedModel | PathLike,
    data: Dataset | PathLike,
    *,
    split: str = "test",
    positives: TargetChoice | None = None,
    databases: Sequence[PathLike] | None = None,
    threshold: float = 0.01,
    matcher: Method = "auto",
    batch_size: int = 100,
) -> KernelMotifs:
    """Count the bases under the sites of each kernel, and look the motifs up.

    A kernel's site in a sequence is where its activation is highest, if that is above zero. Both
    strands of a window are sequences of their own where the dataset's rows stand for both.

    Args:
        model: the network, or its run folder or .keras file.
        data: an open dataset, or the folder of one; its windows are as long as the network's.
        split: split whose windows are read, "train", "valid" or "test".
        positives: names or numbers of targets; only windows positive for one of them are read.
            None for all windows.
        databases: files of known motifs, see `read_motif_file`; None for JASPAR 2016 vertebrates.
        threshold: largest E-value of a match.
        matcher: "tomtom" for that program, "builtin" for the same method here, "auto" for tomtom
            where it is installed.
        batch_size: windows that are read at once.

    Returns:
        Motifs and matches; `.save(folder)` writes them.

    Raises:
        InputError: there is no such target or window, or the network has no first convolution.

    Example:
        >>> found = dq.first_layer_motifs("runs/mine", "my_dataset", databases=["fungi.meme"])
        >>> found.motifs.head()
    """
    if batch_size < 1:
        raise InputError(f"`batch_size`: at least 1. Received: {batch_size}.")
    if not threshold > 0:
        raise InputError(f"`threshold`: an E-value above 0. Received: {threshold:g}.")
    known = read_databases(None if databases is None else [Path(path) for path in databases])
    trained = opened(model)
    dataset = data if isinstance(data, Dataset) else open_dataset(data)
    part = dataset.split(split)
    columns = dataset.targets.find(() if positives is None else positives)
    rows = _choose_rows(part, columns)
    sites = _scan(trained, part, rows, batch_size=batch_size)
    kernels = kernel_motifs(sites.counts, sites.n_sites)
    queries = [kernel.motif for kernel in kernels]
    matches = match_motifs(queries, known, threshold=threshold, method=matcher)
    table = kernel_table(len(sites.n_sites), kernels, matches, known)
    summary: dict[str, Any] = {
        "summary": summary_line(table, known, threshold),
        "model": str(trained.path),
        "data": str(part.path),
        "positives": [dataset.targets.names[column] for column in columns],
        "windows": len(rows),
        "sequences": sites.n_sequences,
        "databases": known.sizes,
        "threshold": threshold,
        "matcher": choose_matcher(matcher),
    }
    return KernelMotifs(
        table,
        match_table(kernels, matches, known),
        tuple(kernels),
        summary,
        known,
        tuple(tuple(each) for each in matches),
    )


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
            f"{split.path}: no window {wanted}. Choose another `split` or other `positives`."
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
