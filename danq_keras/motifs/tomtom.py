"""The `tomtom` program of the MEME suite, where it is installed, in place of `motif_matching`.

In and out are those of `motif_matching.match_motif`, for all queries at once. The motifs travel
under numbers, so that ids that repeat, or that MEME text cannot hold, do no harm.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from danq_keras.motifs.files import write_meme
from danq_keras.motifs.matching import MIN_OVERLAP, Match
from danq_keras.motifs.motif import Motif
from danq_keras.system.errors import InputError

PROGRAM = "tomtom"
_N_COLUMNS = 10  # query, target, offset, p, E, q, overlap, two consensus sequences, orientation


def find_tomtom() -> str | None:
    """Path of the installed program, or None."""
    return shutil.which(PROGRAM)


def run_tomtom(
    queries: Sequence[Motif], known: Sequence[Motif], *, threshold: float
) -> list[list[Match]]:
    """Match motifs with the installed program, with the paper's options.

    Args:
        queries: the motifs that are looked up, each by itself.
        known: all known motifs, taken as one database.
        threshold: largest E-value of a match.

    Returns:
        For each query its matches up to the threshold, best first.

    Raises:
        InputError: the program is missing, fails, or writes another table.
    """
    program = find_tomtom()
    if program is None:
        raise InputError(f"{PROGRAM}: not installed. Install the MEME suite or choose 'builtin'.")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("queries.meme", "known.meme")]
        for file, motifs in zip(files, (queries, known), strict=True):
            numbered = [Motif(str(i), str(i), motif.matrix) for i, motif in enumerate(motifs)]
            write_meme(file, numbered, [1] * len(numbered))  # no score depends on the sites
        options = f"-no-ssc -min-overlap {MIN_OVERLAP} -dist pearson -evalue -thresh {threshold}"
        result = subprocess.run(
            [program, "-text", *options.split(), *map(str, files)],
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(
            f"{program}: failed with status {result.returncode} ({reason}). Mend it or choose "
            "'builtin'."
        )
    return _read_table(result.stdout, len(queries))


def _read_table(text: str, n_queries: int) -> list[list[Match]]:
    """Matches of each query from the program's text, whose headers differ between versions."""
    found: list[list[Match]] = [[] for _ in range(n_queries)]
    for line in text.splitlines():
        words = line.split("\t")
        if not words[0].isdecimal():  # header, blank, comment
            continue
        if len(words) != _N_COLUMNS:
            raise InputError(
                f"{PROGRAM}: a row of its table has {_N_COLUMNS} columns, received {len(words)}: "
                f"{line[:60]!r}. Choose 'builtin'."
            )
        match = Match(
            target=int(words[1]),
            offset=int(words[2]),
            overlap=int(words[6]),
            orientation=words[9].strip(),
            p_value=float(words[3]),
            e_value=float(words[4]),
        )
        found[int(words[0])].append(match)
    return [sorted(matches, key=lambda match: match.p_value) for matches in found]
