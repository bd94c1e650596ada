"""Motifs discovered from contributions, by TF-MoDISco; light.

In: hypothetical contributions of many windows (`contributions.h5` of `explain_danq.py`, or an
`Explanation`). TF-MoDISco cuts the stretches that contribute most (seqlets), clusters them and
aligns each cluster to a pattern. Out: for each target its patterns, trimmed to where they
contribute, with the known motifs that match them, and a folder of

- `patterns.meme`: the trimmed patterns' base frequencies, A,C,G,T, uniform background
- `patterns.tsv`: a row per pattern: sign and number of its seqlets, consensus, best match, NA where
  there is none
- `matches.tsv`: a row per pattern and known motif that match, best first
- `patterns.png`: a row per pattern: contributions, trimmed motif, best known motif
- `<target>.modisco.h5`: TF-MoDISco's own file, for its `report` and for others' tools

Source: Shrikumar et al., arXiv:1811.00416; the program is modisco-lite, of the extra [modisco].
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from danq_keras.data.targets import TargetChoice, Targets
from danq_keras.draw.logos import PatternRow, patterns_png
from danq_keras.genome.dna import Bytes, onehot_from_codes
from danq_keras.interpret.files import SUMMARY, TO_FILE, write_summary
from danq_keras.interpret.methods import METHODS, hypothetical, preferred
from danq_keras.motifs.files import write_meme
from danq_keras.motifs.known import (
    KnownMotifs,
    Method,
    match_motifs,
    read_databases,
)
from danq_keras.motifs.matching import Match
from danq_keras.motifs.motif import Matrix, Motif
from danq_keras.prediction.outputs import track_names
from danq_keras.system.arrays import Floats
from danq_keras.system.errors import InputError, optional_module
from danq_keras.system.files import PathLike, atomic_output, refuse_unmarked
from danq_keras.system.hdf5 import open_hdf5, read_array, read_texts
from danq_keras.system.terminal import log

if TYPE_CHECKING:
    from danq_keras.interpret.explain import Explanation

ARRAYS = "contributions.h5"
MOST_SEQLETS = 20_000
FEWEST_SEQLETS = 20  # of a pattern: TF-MoDISco's `final_min_cluster_size`
_TRIM = 0.3  # Source: `modisco report`, the share of the highest position's contribution
_FLANK, _FLANK_BITS = 4, 0.3  # beside it: positions that are conserved all the same
_SHORTEST = 31  # a seqlet's window of 21 bases and room for it to move
_ADVICE = "Explain the intervals again with explain_danq.py --bed --table h5."


@dataclass(frozen=True, eq=False)
class Pattern:
    """A pattern of one target.

    `sign` "+" where its stretches (seqlets) raise the score, "-" where they lower it: as sums of 21
    bases or more, so that the part of them that is trimmed to may do the opposite; `seqlets`, how
    many stretches it is the mean of; `contributions` (w, 4) float64, A,G,C,T, their mean; `motif`
    the frequencies of the part [begin, end) that contributes.
    """

    target: str
    sign: str
    seqlets: int
    contributions: Matrix
    begin: int
    end: int
    motif: Motif


@dataclass(frozen=True, eq=False)
class Patterns:
    """The patterns of some targets, `table` with a row each, `matches` with one a known motif.

    `found` are the patterns in the order of the table, most seqlets first in each target; `rows`
    how they are drawn; `results` TF-MoDISco's own, target → patterns that raise the score and that
    lower it.
    """

    table: pd.DataFrame
    matches: pd.DataFrame
    found: tuple[Pattern, ...]
    rows: tuple[PatternRow, ...]
    results: dict[str, tuple[Any, Any]]
    summary: dict[str, Any]

    def to_frame(self) -> pd.DataFrame:
        """One row a pattern: what `patterns.tsv` has."""
        return self.table

    def save(self, folder: PathLike, *, overwrite: bool = False) -> None:
        """Write the files that the module describes.

        Args:
            folder: folder for the files, made anew.
            overwrite: whether an earlier folder of patterns is replaced.

        Raises:
            InputError: the folder is in use or holds something else, or logomaker is missing.
        """
        refuse_unmarked(Path(folder), "patterns", overwrite=overwrite, marker=SUMMARY)
        io = optional_module("modiscolite.io", "modisco")
        with atomic_output(Path(folder), overwrite=overwrite) as place:
            place.mkdir()
            if self.found:
                motifs, sites = [p.motif for p in self.found], [p.seqlets for p in self.found]
                write_meme(place / "patterns.meme", motifs, sites)
            for name, table in (("patterns", self.table), ("matches", self.matches)):
                table.to_csv(
                    place / f"{name}.tsv", sep="\t", index=False, na_rep="NA", float_format="%.6g"
                )
            stems = track_names(tuple(self.results))
            for stem, result in zip(stems, self.results.values(), strict=True):
                if result != (None, None):
                    io.save_hdf5(str(place / f"{stem}.modisco.h5"), *result, self.summary["width"])
            pictures = []
            if self.rows:
                patterns_png(place / "patterns.png", self.rows)
                caption = (
                    "Patterns of the contributions: mean contribution (logit), trimmed motif "
                    "(bits), and the known motif that matches best"
                )
                pictures.append({"file": "patterns.png", "caption": caption})
            write_summary(place, {**self.summary, "pictures": pictures})


def discover_motifs(
    explanation: "Explanation | PathLike",
    *,
    targets: TargetChoice | None = None,
    method: str | None = None,
    databases: Sequence[PathLike] | None = None,
    threshold: float = 0.01,
    matcher: Method = "auto",
    max_seqlets: int = MOST_SEQLETS,
    min_seqlets: int | None = None,
    fdr: float = 0.2,
) -> Patterns:
    """Discover the motifs that a network's predictions rest on, with TF-MoDISco.

    Args:
        explanation: contributions of some hundred windows or more: the folder or `contributions.h5`
            that `explain_danq.py --bed` wrote, or an `Explanation`.
        targets: names or numbers of its targets; None for all of them.
        method: whose contributions: "effects", "gradients", "integrated" or "expected"; None for
            the first of effects, expected, integrated and gradients that it has.
        databases: files of known motifs, see `read_motif_file`; None for JASPAR 2016 vertebrates.
        threshold: largest E-value of a match with a known motif.
        matcher: "tomtom" for that program, "builtin" for the same method here, "auto" for tomtom
            where it is installed.
        max_seqlets: most stretches that are clustered, of either sign; the strongest.
        min_seqlets: a sign with no more stretches than this is left out; None for 100, as
            TF-MoDISco has it, or with fewer than 1,000 windows a tenth of them, but at least 20,
            the fewest of a pattern.
        fdr: expected share of stretches by chance among those that are taken, 0 to 1.

    Returns:
        The patterns; `.table`, `.save(folder)`.

    Raises:
        InputError: the file is damaged, a target or method is not in it, its windows are too short
            or too few, or modisco-lite is not installed.

    Example:
        >>> found = dq.discover_motifs("runs/mine/explain/peaks", databases=["fungi.meme"])
        >>> found.table[["pattern", "seqlets", "match_name"]]
    """
    if not 0 < fdr < 1:
        raise InputError(f"`fdr`: above 0 and below 1. Received: {fdr:g}.")
    if max_seqlets < 1 or not threshold > 0:
        raise InputError("`max_seqlets` is at least 1, `threshold` an E-value above 0.")
    if min_seqlets is not None and not FEWEST_SEQLETS <= min_seqlets <= max_seqlets:
        raise InputError(
            f"`min_seqlets`: from {FEWEST_SEQLETS}, the fewest of a pattern, to `max_seqlets`, "
            f"{max_seqlets}. Received: {min_seqlets}."
        )
    modisco = optional_module("modiscolite.tfmodisco", "modisco")
    known = read_databases(None if databases is None else [Path(path) for path in databases])
    read = _Read.of(explanation, targets, method)
    found: list[Pattern] = []
    results: dict[str, tuple[Any, Any]] = {}
    onehot = np.ascontiguousarray(onehot_from_codes(read.codes)[..., TO_FILE], np.float32)
    if min_seqlets is None:
        min_seqlets = min(100, max(FEWEST_SEQLETS, len(onehot) // 10))
    for target in read.names:
        log.info("%s: TF-MoDISco on %s windows, which takes minutes", target, f"{len(onehot):,}")
        raised, lowered = modisco.TFMoDISco(
            one_hot=onehot,
            hypothetical_contribs=np.ascontiguousarray(read.values(target)[..., TO_FILE]),
            max_seqlets_per_metacluster=max_seqlets,
            min_metacluster_size=min_seqlets,
            target_seqlet_fdr=fdr,
        )
        results[target] = (raised, lowered)
        mine = [_pattern(target, "+", i, each) for i, each in enumerate(raised or ())]
        mine += [_pattern(target, "-", i, each) for i, each in enumerate(lowered or ())]
        if not mine:
            log.warning(
                "%s: no pattern. That takes more than %d stretches that stand out, and %d of a "
                "pattern: explain more windows of its peaks.",
                target,
                min_seqlets,
                FEWEST_SEQLETS,
            )
        found += sorted(mine, key=lambda pattern: -pattern.seqlets)
    matches = match_motifs(
        [pattern.motif for pattern in found], known, threshold=threshold, method=matcher
    )
    return Patterns(
        table=_table(found, matches, known),
        matches=known.match_table("pattern", [p.motif.id for p in found], matches),
        found=tuple(found),
        rows=tuple(
            _row(p, m[0] if m else None, known) for p, m in zip(found, matches, strict=True)
        ),
        results=results,
        summary={
            "title": f"{', '.join(read.names)}: {len(found)} patterns of {read.source}",
            "windows": len(onehot),
            "width": onehot.shape[1],
            "method": METHODS[read.method].flag,
            "databases": known.sizes,
            "threshold": threshold,
            "min_seqlets": min_seqlets,
            "targets": list(read.names),
        },
    )


@dataclass(frozen=True, eq=False)
class _Read:
    """Contributions of some targets, from a file or an `Explanation`."""

    codes: Bytes
    names: tuple[str, ...]
    numbers: tuple[int, ...]
    method: str
    source: str
    held: "Path | Explanation"

    @classmethod
    def of(
        cls, explanation: "Explanation | PathLike", targets: TargetChoice | None, method: str | None
    ) -> "_Read":
        held: Path | Explanation
        if isinstance(explanation, str | os.PathLike):
            held = path = _arrays_of(Path(explanation))
            with open_hdf5(path, "explanation", _ADVICE) as file:
                all_names = read_texts(file, "targets")
                methods = [name for name in METHODS if name in file]
                codes = read_array(file, "codes", kinds="u", shape=(None, None))
            source = path.parent.name
        else:
            held, source = explanation, "an explanation"
            all_names, codes = explanation.targets, explanation.codes
            methods = list(explanation.values)
        if method is not None and method not in methods:
            flags = ", ".join(METHODS[name].flag for name in methods)
            wrong = METHODS[method].flag if method in METHODS else method
            raise InputError(f"`method`: {source} has {flags}. Received: {wrong!r}.")
        if not methods:
            raise InputError(f"{source}: has no contributions. {_ADVICE}")
        chosen = method or preferred(methods)
        numbers = Targets(all_names).find(() if targets is None else targets)
        numbers = numbers or list(range(len(all_names)))
        if codes.shape[1] < _SHORTEST:
            raise InputError(
                f"{source}: TF-MoDISco reads at least {_SHORTEST} bases a window. Received: "
                f"{codes.shape[1]}. Explain more of each window (--width)."
            )
        names = tuple(all_names[number] for number in numbers)
        return cls(codes, names, tuple(numbers), chosen, source, held)

    def values(self, target: str) -> Floats:
        """Hypothetical contributions (N, W, 4) float32 of a target, A,G,C,T."""
        number = self.numbers[self.names.index(target)]
        if isinstance(self.held, Path):
            with open_hdf5(self.held, "explanation", _ADVICE) as file:
                values = np.asarray(file[self.method][:, number], np.float32)
        else:
            values = self.held.values[self.method][:, number]
        if not np.isfinite(values).all():
            raise InputError(f"{self.source}: {target} has values that are not finite. {_ADVICE}")
        return hypothetical(self.method, values)


def _arrays_of(path: Path) -> Path:
    return path / ARRAYS if path.is_dir() else path


def _pattern(target: str, sign: str, number: int, found: Any) -> Pattern:
    """TF-MoDISco's pattern, with the part that contributes; its columns are A,C,G,T."""
    order = np.argsort(TO_FILE)
    contributions = np.asarray(found.contrib_scores, np.float64)[:, order]
    frequencies = np.asarray(found.sequence, np.float64)[:, order]
    height = np.abs(contributions.sum(axis=1))
    high = np.flatnonzero(height >= _TRIM * height.max())
    begin, end = int(high[0]), int(high[-1]) + 1
    total = frequencies.sum(axis=1, keepdims=True)
    uniform = np.full(frequencies.shape, 0.25)
    shares = np.divide(frequencies, total, out=uniform, where=total > 0)
    bits = Motif("", "", shares).information()
    while begin > max(0, high[0] - _FLANK) and bits[begin - 1] >= _FLANK_BITS:
        begin -= 1
    while end < min(len(bits), high[-1] + 1 + _FLANK) and bits[end] >= _FLANK_BITS:
        end += 1
    name = f"{target}.{'raises' if sign == '+' else 'lowers'}_{number}"
    motif = Motif("_".join(name.split()), name, shares[begin:end])  # MEME's ids have no blanks
    return Pattern(target, sign, len(found.seqlets), contributions, begin, end, motif)


def _table(
    found: Sequence[Pattern], matches: Sequence[Sequence[Match]], known: KnownMotifs
) -> pd.DataFrame:
    rows = []
    for pattern, its in zip(found, matches, strict=True):
        row: dict[str, Any] = {
            "pattern": pattern.motif.id,
            "target": pattern.target,
            "sign": pattern.sign,
            "seqlets": pattern.seqlets,
            "consensus": pattern.motif.consensus(),
            "contribution": float(pattern.contributions[pattern.begin : pattern.end].sum()),
            "information_bits": float(pattern.motif.information().sum()),
            "matches": len(its),
        }
        if its:
            best = known.motifs[its[0].target]
            row |= {"match": best.id, "match_name": best.name, "match_evalue": its[0].e_value}
            row["match_database"] = known.database[its[0].target]
        rows.append(row)
    columns = ["pattern", "target", "sign", "seqlets", "consensus", "contribution"]
    columns += ["information_bits", "match", "match_name", "match_evalue", "match_database"]
    return pd.DataFrame(rows, columns=[*columns, "matches"])


def _row(pattern: Pattern, match: Match | None, known: KnownMotifs) -> PatternRow:
    """How a pattern is drawn: the known motif as it lies on the trimmed one."""
    lower, offset, label = None, 0, "no known motif matches"
    if match is not None:
        best = known.motifs[match.target]
        lower = best.reverse_complement() if match.orientation == "-" else best
        offset, label = match.offset, f"{best.name}, E = {match.e_value:.1e}"
    words = "raise" if pattern.sign == "+" else "lower"
    return PatternRow(
        title=pattern.target,
        subtitle=f"{pattern.seqlets:,} seqlets that {words} the score",
        contributions=pattern.contributions,
        span=(pattern.begin, pattern.end),
        motif=pattern.motif,
        known=lower,
        known_label=label,
        offset=offset,
    )
