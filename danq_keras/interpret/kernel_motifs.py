"""The motifs of a first layer's kernels: count matrices, known motifs that match, the files.

In: counts of bases under each kernel and databases of known motifs. Out: a folder with

- `motifs.meme`: the kernels that have sites, A,C,G,T, uniform background
- `motifs.tsv`: a row per kernel with its best match up to the threshold, NA where there is none
- `matches.tsv`: a row per kernel and known motif that match, best first
- `summary.json`: what was read and compared, and the line for the screen
- `logos/`: a PNG per kernel that has sites
- `matches.png`: the known motifs that match best, each under its best kernel

Nothing here knows networks.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from danq_keras.draw.logos import AlignedPair, logo_png, matches_png
from danq_keras.motifs.files import write_meme
from danq_keras.motifs.known import KnownMotifs
from danq_keras.motifs.matching import Match
from danq_keras.motifs.motif import Motif
from danq_keras.system.terminal import progress

TABLE, MATCHES, SUMMARY, MEME, LOGOS, SHEET = (
    "motifs.tsv",
    "matches.tsv",
    "summary.json",
    "motifs.meme",
    "logos",
    "matches.png",
)
MOST_PAIRS = 12
"""On the sheet of best matches."""


@dataclass(frozen=True, eq=False)
class KernelMotif:
    """The motif of a kernel that has sites: its number in the layer and how many sites."""

    kernel: int
    n_sites: int
    motif: Motif


def kernel_motifs(
    counts: npt.NDArray[np.int64], n_sites: npt.NDArray[np.int64]
) -> list[KernelMotif]:
    """Frequencies of the bases under each kernel that has sites.

    Args:
        counts: (F, K, 4) of A,G,C,T; a position whose bases are all unknown becomes uniform.
        n_sites: (F,) sites of each kernel.
    """
    found = []
    for number in np.flatnonzero(n_sites).tolist():
        totals = counts[number].sum(axis=1, keepdims=True)
        uniform = np.full(counts[number].shape, 0.25)
        matrix = np.divide(counts[number], totals, out=uniform, where=totals > 0)
        name = f"kernel_{number}"
        found.append(KernelMotif(number, int(n_sites[number]), Motif(name, name, matrix)))
    return found


def kernel_table(
    n_kernels: int,
    kernels: Sequence[KernelMotif],
    matches: Sequence[Sequence[Match]],
    known: KnownMotifs,
) -> pd.DataFrame:
    """A row per kernel, see `motifs.tsv`; kernels without sites have sites 0 and NA."""
    rows: list[dict[str, Any]] = [{"kernel": number, "sites": 0} for number in range(n_kernels)]
    for kernel, found in zip(kernels, matches, strict=True):
        row = rows[kernel.kernel]
        row["sites"] = kernel.n_sites
        row["information_bits"] = round(float(kernel.motif.information().sum()), 4)
        row["consensus"] = kernel.motif.consensus()
        row["matches"] = len(found)
        if found:
            row |= {f"match{key}": value for key, value in _match_row(found[0], known).items()}
    columns = ["kernel", "sites", "information_bits", "consensus", "match", "match_name"]
    columns += ["match_evalue", "match_database", "match_offset", "match_overlap"]
    columns += ["match_orientation", "matches"]
    table = pd.DataFrame(rows, columns=columns)
    whole = ["match_offset", "match_overlap", "matches"]
    return table.astype(dict.fromkeys(whole, "Int64"))


def _match_row(match: Match, known: KnownMotifs) -> dict[str, Any]:
    return {
        "": known.motifs[match.target].id,
        "_name": known.motifs[match.target].name,
        "_evalue": match.e_value,
        "_database": known.database[match.target],
        "_offset": match.offset,
        "_overlap": match.overlap,
        "_orientation": match.orientation,
    }


def match_table(
    kernels: Sequence[KernelMotif], matches: Sequence[Sequence[Match]], known: KnownMotifs
) -> pd.DataFrame:
    """A row per kernel and known motif that match; `offset` as in `Match`."""
    return known.match_table("kernel", [kernel.kernel for kernel in kernels], matches)


def summary_line(table: pd.DataFrame, known: KnownMotifs, threshold: float) -> str:
    """How many kernels match, and how many have no site."""
    matching, silent = int(table["match"].notna().sum()), int((table["sites"] == 0).sum())
    line = (
        f"{matching} of {len(table)} kernels match a known motif of {known.describe()} at "
        f"E ≤ {threshold:g}"
    )
    return f"{line}; {silent} without a site" if silent else line


def best_pairs(
    kernels: Sequence[KernelMotif], matches: Sequence[Sequence[Match]], known: KnownMotifs
) -> list[AlignedPair]:
    """Each known motif that is the best match of some kernel, with its best kernel; lowest E first.

    The kernel is as it is; a known motif that matches as its reverse complement is turned round.

    Args:
        kernels: motifs of the kernels that have sites.
        matches: matches of each, as `known.match_motifs` gives them.
        known: known motifs of the databases.
    """
    best = [(found[0], kernel) for kernel, found in zip(kernels, matches, strict=True) if found]
    pairs: dict[int, AlignedPair] = {}
    for match, kernel in sorted(best, key=lambda pair: pair[0].p_value):
        motif = known.motifs[match.target]
        turned = match.orientation == "-"
        pair = AlignedPair(
            title=motif.name,
            subtitle=f"E = {match.e_value:.1e}",
            upper=kernel.motif,
            upper_label=f"kernel {kernel.kernel}",
            lower=motif.reverse_complement() if turned else motif,
            lower_label=f"{motif.id}\nrev. comp." if turned else motif.id,
            offset=match.offset,
        )
        pairs.setdefault(match.target, pair)
    return list(pairs.values())


def write_motif_files(
    folder: Path,
    kernels: Sequence[KernelMotif],
    tables: tuple[pd.DataFrame, pd.DataFrame],
    *,
    summary: dict[str, Any],
) -> None:
    """Fill an empty folder with the tables and `motifs.meme`.

    Args:
        folder: folder to fill, which exists and is empty.
        kernels: motifs of the kernels that have sites.
        tables: of `kernel_table` and `match_table`.
        summary: what summary.json says, JSON's types.
    """
    write_meme(folder / MEME, [k.motif for k in kernels], [k.n_sites for k in kernels])
    for name, table in zip((TABLE, MATCHES), tables, strict=True):
        table.to_csv(folder / name, sep="\t", index=False, na_rep="NA", float_format="%.6g")
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")


def draw_motif_files(
    folder: Path, kernels: Sequence[KernelMotif], pairs: Sequence[AlignedPair]
) -> None:
    """Draw the logos and, where there are pairs, the sheet of the first `MOST_PAIRS`.

    Args:
        folder: folder that `write_motif_files` filled.
        kernels: motifs of the kernels that have sites.
        pairs: kernels with the known motifs drawn above them, see `best_pairs`.

    Raises:
        InputError: logomaker is not installed.
    """
    (folder / LOGOS).mkdir()
    with progress(total=len(kernels) + bool(pairs), desc="logos", unit="pictures") as bar:
        if pairs:
            matches_png(folder / SHEET, pairs[:MOST_PAIRS])
            bar.update()
        for kernel in kernels:
            logo_png(logo_path(folder, kernel.kernel), kernel.motif)
            bar.update()


def logo_path(folder: Path, kernel: int) -> Path:
    """Where the logo of a kernel stands."""
    return folder / LOGOS / f"kernel_{kernel}.png"
