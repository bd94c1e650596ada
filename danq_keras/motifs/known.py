"""Databases of known motifs, and which of them match others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import pandas as pd

from danq_keras.motifs.files import JASPAR_FILE, read_motif_file
from danq_keras.motifs.matching import FEWEST_MOTIFS, Match, MotifDatabase, match_motif
from danq_keras.motifs.motif import Motif
from danq_keras.motifs.tomtom import find_tomtom, run_tomtom
from danq_keras.system.errors import InputError
from danq_keras.system.shipped import resource_path
from danq_keras.system.terminal import log, progress

Method: TypeAlias = Literal["auto", "tomtom", "builtin"]
METHODS: tuple[Method, ...] = ("auto", "tomtom", "builtin")


_OF_MATCH = ("p_value", "e_value", "offset", "overlap", "orientation")


@dataclass(frozen=True, eq=False)
class KnownMotifs:
    """All databases as one: `motifs`, the name of each one's `database`, and sizes by name."""

    motifs: tuple[Motif, ...]
    database: tuple[str, ...]
    sizes: dict[str, int]

    def describe(self) -> str:
        """Such as `jaspar2016_vertebrates (519 motifs)`."""
        return ", ".join(f"{name} ({size:,} motifs)" for name, size in self.sizes.items())

    def match_table(
        self, column: str, queries: Sequence[object], matches: Sequence[Sequence[Match]]
    ) -> pd.DataFrame:
        """A row a query and known motif that match; `offset` as in `Match`.

        Args:
            column: name of the first column.
            queries: what stands there for each query.
            matches: the matches of each, see `match_motifs`.
        """
        rows = [
            {
                column: query,
                "motif": self.motifs[match.target].id,
                "name": self.motifs[match.target].name,
                "database": self.database[match.target],
                **{name: getattr(match, name) for name in _OF_MATCH},
            }
            for query, found in zip(queries, matches, strict=True)
            for match in found
        ]
        return pd.DataFrame(rows, columns=[column, "motif", "name", "database", *_OF_MATCH])


def read_databases(paths: Sequence[Path] | None) -> KnownMotifs:
    """Known motifs of files (see `read_motif_file`); None: the shipped JASPAR 2016 vertebrates.

    Raises:
        InputError: a file is missing, not valid, or given twice.
    """
    motifs: list[Motif] = []
    database: list[str] = []
    sizes: dict[str, int] = {}
    for path in [resource_path(JASPAR_FILE)] if paths is None else paths:
        if path.stem in sizes:
            raise InputError(
                f"`databases`: {path.stem} is the name of two files. Give each database once, or "
                "rename one."
            )
        read = read_motif_file(path)
        motifs += read
        database += [path.stem] * len(read)
        sizes[path.stem] = len(read)
    if len(motifs) < FEWEST_MOTIFS:
        log.warning(
            "%d known motifs: p-values of fewer than %d are coarse.", len(motifs), FEWEST_MOTIFS
        )
    return KnownMotifs(tuple(motifs), tuple(database), sizes)


def choose_matcher(method: Method) -> Literal["tomtom", "builtin"]:
    """What `method` means here: the installed program where there is one, or this package."""
    if method == "auto":
        return "tomtom" if find_tomtom() else "builtin"
    return method


def match_motifs(
    queries: Sequence[Motif], known: KnownMotifs, *, threshold: float, method: Method
) -> list[list[Match]]:
    """The known motifs that match each of some motifs, best first.

    Args:
        queries: the motifs that are looked up, each by itself.
        known: known motifs of the databases.
        threshold: largest E-value of a match.
        method: "tomtom" the installed program, "builtin" this package, "auto" the first if it is
            installed.

    Raises:
        InputError: the program is wanted and missing, or fails.
    """
    if not queries:
        return []
    if choose_matcher(method) == "tomtom":
        return run_tomtom(queries, known.motifs, threshold=threshold)
    database = MotifDatabase(known.motifs)
    found = []
    with progress(total=len(queries), desc="match", unit="motifs") as bar:
        for query in queries:
            matches = match_motif(query.matrix, database)
            close = [match for match in matches if match.e_value <= threshold]
            found.append(sorted(close, key=lambda match: match.p_value))
            bar.update()
    return found
