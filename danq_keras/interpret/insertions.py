"""Experiments in silico: motifs put into background windows, and what the network says to them.

In: background windows as codes (n, L) uint8 and one or two motifs, whose consensus is put in. Out:
a table of responses, in logits above the same window without them, over the motifs' distance, or
over the place of a single motif.

Two motifs lie with `spacing` bases between them, and with the middle of the whole at the window's
middle, L/2; one motif lies with its middle `spacing` bases right of it.
"""

import difflib
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from danq_keras.data.arrays import ArrayWindows, codes_of
from danq_keras.data.targets import TargetChoice
from danq_keras.genome.dna import BASES_OF_LETTER, UNKNOWN, Bytes, encode, pack_codes
from danq_keras.interpret.explainer import Explainer
from danq_keras.interpret.pictures import half_height, spacing_png, stands_out
from danq_keras.models.trained import TrainedModel, opened, window_of
from danq_keras.motifs.files import danq_jaspar_motifs, read_motif_file
from danq_keras.motifs.motif import Motif
from danq_keras.system.arrays import Floats
from danq_keras.system.errors import InputError, shorten
from danq_keras.system.files import PathLike
from danq_keras.system.terminal import progress

_REVERSED = "_rc"


@dataclass(frozen=True)
class Insert:
    """A motif to put in: `name`, and `letters` of IUPAC's alphabet, in upper case."""

    name: str
    letters: str

    def __len__(self) -> int:
        return len(self.letters)

    def becomes(self) -> Bytes:
        """(w, 5) uint8: what each base code of the background becomes at each position.

        A base that the letter allows stays. Another becomes its complement where that is allowed,
        then its transition (A and G, C and T), else the first allowed: the same on both strands.
        """
        table = np.empty((len(self), UNKNOWN + 1), np.uint8)
        for position, letter in enumerate(self.letters):
            allowed = encode(BASES_OF_LETTER[letter]).tolist()
            for code in range(UNKNOWN):
                choices = [each for each in (code, 3 - code, code ^ 1) if each in allowed]
                table[position, code] = (choices or allowed)[0]
            table[position, UNKNOWN] = UNKNOWN if letter == "N" else allowed[0]
        return table


def named_motifs(motif_file: Path | None) -> Sequence[Motif]:
    """The motifs of a file, read once however many are asked for (it may be a pipe).

    Args:
        motif_file: see `read_motif_file`; None for the JASPAR 2016 vertebrates of the package.

    Raises:
        InputError: it is no file of motifs.
    """
    is_file = motif_file is not None and motif_file.is_file()
    return _read_once(motif_file, motif_file.stat().st_mtime_ns if motif_file and is_file else 0)


@functools.lru_cache(maxsize=4)
def _read_once(path: Path | None, _stamp: int) -> tuple[Motif, ...]:
    return tuple(danq_jaspar_motifs() if path is None else read_motif_file(path))


def find_motif(text: str, motif_file: Path | None = None) -> str | Motif:
    """What a user means by a motif: IUPAC letters in upper case, or the motif of a file.

    Args:
        text: bases A, C, G, T, N; or the id or name of a motif of the file, `_rc` behind which is
            its reverse complement; or IUPAC letters that are no such name.
        motif_file: see `read_motif_file`; None for the JASPAR 2016 vertebrates of the package.

    Raises:
        InputError: no motif, or several, are of that name; or the letters are none, or all N.
    """
    if motif_file is not None:
        named_motifs(motif_file)  # refused if it holds none, also where letters need none
    letters = text.upper()
    if set(letters) <= {"N"}:
        raise InputError(f"`insert`: a motif has a letter other than N. Received: {text!r}.")
    if set(letters) <= set("ACGTN"):
        return letters
    motifs = named_motifs(motif_file)
    wanted = text.removesuffix(_REVERSED)
    found = [m for m in motifs if m.id == wanted] or [
        m for m in motifs if m.name.upper() == wanted.upper() and not m.id.endswith(_REVERSED)
    ]
    if not found and set(letters) <= set(BASES_OF_LETTER):
        return letters
    where = "JASPAR 2016 vertebrates" if motif_file is None else str(motif_file)
    if not found:
        raise InputError(
            f"`insert`: {text!r} is neither bases (A, C, G, T, N and IUPAC's others) nor a motif "
            f"of {where}, such as {shorten([m.id for m in motifs[:2]])}{_near(wanted, motifs)}. "
            "Name one of those."
        )
    if len(found) > 1:
        raise InputError(
            f"`insert`: {text!r} fits several motifs: {shorten([m.id for m in found])}. "
            "Give the id."
        )
    return found[0].reverse_complement() if text.endswith(_REVERSED) else found[0]


def find_insert(text: str, motif_file: Path | None = None) -> Insert:
    """What is put in for a motif: its letters, or the consensus of a file's; see `find_motif`."""
    found = find_motif(text, motif_file)
    return Insert(found, found) if isinstance(found, str) else Insert(text, found.consensus())


def _near(wanted: str, motifs: Sequence[Motif]) -> str:
    names = list(dict.fromkeys(name for m in motifs for name in (m.id, m.name)))
    near = difflib.get_close_matches(wanted, names, n=3)
    return f"; nearest: {', '.join(near)}" if near else ""


def parse_spacing(text: str, *, n_inserts: int) -> range:
    """Read A:B or A:B:STEP, both ends included.

    Raises:
        InputError: not of that form, or motifs would overlap.
    """
    words = text.split(":")
    try:
        numbers = [int(word) for word in words]
    except ValueError:
        numbers = []
    if not 2 <= len(numbers) <= 3 or numbers[0] > numbers[1] or (numbers[2:] or [1])[0] < 1:
        raise InputError(
            f"`spacing`: A:B or A:B:STEP, from A to B bases, such as 0:60. Received: {text!r}."
        )
    if n_inserts == 2 and numbers[0] < 0:
        raise InputError(
            f"`spacing`: two motifs must not overlap, at least 0 bases lie between them. "
            f"Received: {text!r}."
        )
    return range(numbers[0], numbers[1] + 1, (numbers[2:] or [1])[0])


def places_of(inserts: Sequence[Insert], spacing: int, window: int) -> list[int]:
    """Where each motif begins in the window.

    Raises:
        InputError: they do not fit into it.
    """
    if len(inserts) == 1:
        places = [window // 2 + spacing - len(inserts[0]) // 2]
    else:
        total = len(inserts[0]) + spacing + len(inserts[1])
        begin = window // 2 - total // 2
        places = [begin, begin + len(inserts[0]) + spacing]
    if places[0] < 0 or places[-1] + len(inserts[-1]) > window:
        raise InputError(
            f"`spacing`: at {spacing} the motifs do not fit into the window of {window} bases. "
            "Choose smaller numbers or shorter motifs."
        )
    return places


def put_in(codes: Bytes, insert: Insert, place: int) -> Bytes:
    """Windows (n, L) with a motif in place; what they were stays as it is."""
    changed = codes.copy()
    here = changed[:, place : place + len(insert)]
    here[:] = insert.becomes()[np.arange(len(insert)), here]
    return changed


@dataclass(frozen=True, eq=False)
class SpacingResponse:
    """Responses over the distance of two motifs, or the place of one.

    `table` has one row a target and spacing, see `response_table`; `motifs` are the names of what
    was put into `n_windows` background windows.
    """

    table: pd.DataFrame
    motifs: tuple[str, ...]
    n_windows: int

    def to_frame(self) -> pd.DataFrame:
        """The table."""
        return self.table

    def plot(self, path: PathLike) -> None:
        """Draw the responses into a PNG file."""
        spacing_png(Path(path), self.table, inserts=self.motifs, windows=self.n_windows)

    def peaks(self) -> list[str]:
        """A line for each target: where its response is highest, and whether it stands out."""
        return _peaks(self.table)


def spacing_response(
    model: TrainedModel | PathLike,
    windows: ArrayWindows,
    motifs: Sequence[str],
    targets: TargetChoice,
    *,
    spacing: str | range = "0:60",
    motif_file: PathLike | None = None,
    strands: str | None = None,
    batch_size: int | None = None,
) -> SpacingResponse:
    """Put one or two motifs into background windows, and see what the network says to them.

    Args:
        model: the network, or its run folder or .keras file.
        windows: N background windows of the network's length, as strings, one-hot or codes (see
            `data.arrays.codes_of`).
        motifs: one or two: bases, IUPAC letters, or ids or names of motifs of `motif_file`.
        targets: names or numbers of the targets whose response is asked for.
        spacing: bases between two motifs, or from the window's middle to a single one's: "A:B" or
            "A:B:STEP", both ends included, or a range.
        motif_file: file of named motifs, see `read_motif_file`; None for JASPAR 2016 vertebrates.
        strands: "both" for the mean of both strands, "forward" for the windows as they are; None
            for what the network was trained on.
        batch_size: windows at once; None for what fits.

    Returns:
        The responses, in logits above the same windows without the motifs.

    Raises:
        InputError: a motif or target is unknown, or the motifs do not fit into the windows.
    """
    if not 1 <= len(motifs) <= 2:
        raise InputError(f"`motifs`: one or two. Received: {len(motifs)}.")
    trained = opened(model)
    backgrounds = codes_of(windows, window_of(trained))
    inserts = [
        find_insert(each, None if motif_file is None else Path(motif_file)) for each in motifs
    ]
    if isinstance(spacing, str):
        spacing = parse_spacing(spacing, n_inserts=len(inserts))
    numbers = trained.targets.find(targets)
    explainer = Explainer(
        trained,
        numbers,
        window=backgrounds.shape[1],
        strands=strands or trained.strands,
        batch_size=batch_size,
    )
    table = response_table(
        explainer,
        backgrounds,
        inserts=inserts,
        spacings=spacing,
        names=trained.targets.subset(numbers).names,
    )
    return SpacingResponse(table, tuple(each.name for each in inserts), len(backgrounds))


def response_table(
    explainer: Explainer,
    backgrounds: Bytes,
    *,
    inserts: Sequence[Insert],
    spacings: range,
    names: Sequence[str],
) -> pd.DataFrame:
    """Responses over the distance of two motifs, or the place of one.

    Args:
        explainer: of the targets `names`.
        backgrounds: (n, L) uint8 codes.
        inserts: one or two motifs.
        spacings: distances in bases, see `places_of`.
        names: names of the explainer's targets, in its order.

    Returns:
        A row per target and spacing: `target`, `spacing`, `windows`; `response` and `response_sd`
        over the windows; for two motifs also `first` and `second`, each of them alone at its
        place, and `beyond_sum` = response - first - second with `beyond_sum_sd`.

    Raises:
        InputError: the motifs do not fit into the window.
    """
    window = backgrounds.shape[1]
    places = {spacing: places_of(inserts, spacing, window) for spacing in spacings}
    rows: list[dict[str, Any]] = []
    total = len(spacings) * len(backgrounds)
    with progress(total=total, desc="insert", unit="windows") as bar:
        before = explainer.scores(pack_codes(backgrounds))
        for spacing, where in places.items():
            responses = _responses(explainer, backgrounds, inserts, where)
            rows += _rows([each - before for each in responses], spacing, names)
            bar.update(len(backgrounds))
    return pd.DataFrame(rows).sort_values(["target", "spacing"], key=_in_order(names))


def _in_order(names: Sequence[str]) -> Any:
    order = {name: i for i, name in enumerate(names)}
    return lambda column: column.map(order) if column.name == "target" else column


def _responses(
    explainer: Explainer, backgrounds: Bytes, inserts: Sequence[Insert], places: Sequence[int]
) -> list[Floats]:
    """Scores (n, T) with all motifs, then of each alone where there are two."""
    alone = [put_in(backgrounds, *each) for each in zip(inserts, places, strict=True)]
    if len(inserts) == 1:
        return [explainer.scores(pack_codes(alone[0]))]
    together = put_in(alone[0], inserts[1], places[1])
    return [explainer.scores(pack_codes(codes)) for codes in (together, *alone)]


def _rows(responses: Sequence[Floats], spacing: int, names: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for number, name in enumerate(names):
        each = [response[:, number].astype(np.float64) for response in responses]
        row: dict[str, Any] = {
            "target": name,
            "spacing": spacing,
            "windows": len(each[0]),
            "response": each[0].mean(),
            "response_sd": _spread(each[0]),
        }
        if len(each) == 3:
            beyond = each[0] - each[1] - each[2]
            row |= {"first": each[1].mean(), "second": each[2].mean()}
            row |= {"beyond_sum": beyond.mean(), "beyond_sum_sd": _spread(beyond)}
        rows.append(row)
    return rows


def _spread(values: Any) -> float:
    """Sample standard deviation; 0 for a single window."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _peaks(table: pd.DataFrame) -> list[str]:
    lines = []
    for name, of_target in table.groupby("target", sort=False):
        rows = of_target.set_index("spacing")
        responses = rows["response"]
        best, first, last = half_height(responses.index.tolist(), responses.tolist())
        line = f"{name}: highest at {best} bases, logit {responses[best]:+.2f}"
        if len(responses) > 1 and not stands_out(rows):
            line += ", which does not stand out of the 95 % bands of the others"
        elif len(responses) > 1:
            line += f"; at {first} to {last} at least half-way up from {responses.min():+.2f}"
        if "first" in rows:
            alone = rows["first"][best] + rows["second"][best]
            line += f" (each alone, in sum: {alone:+.2f})"
        lines.append(line)
    return lines
