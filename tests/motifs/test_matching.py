"""Motif matching against enumerations of the null model, and against the paper's Tomtom table."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from danq_keras.genome.dna import encode, onehot_from_codes
from danq_keras.motifs.files import danq_jaspar_motifs, read_jaspar, read_meme
from danq_keras.motifs.matching import MotifDatabase, match_motif, unit_columns
from danq_keras.motifs.motif import Motif
from danq_keras.system.shipped import resource_path


def motif_of(sequence: str, noise: float = 0.0) -> Motif:
    matrix = onehot_from_codes(encode(sequence)) * (1 - noise) + noise / 4
    return Motif(sequence, sequence, matrix)


def random_motifs(rng: np.random.Generator, widths: list[int]) -> list[Motif]:
    return [Motif(f"m{i}", f"m{i}", rng.dirichlet([0.4] * 4, w)) for i, w in enumerate(widths)]


def integer_scores(query: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, float]:
    """Whole-number scores (w, C) and the neutral one, written anew with loops and np.corrcoef."""
    raw = np.array([[np.corrcoef(q, c)[0, 1] for c in columns] for q in query])
    raw -= np.sort(raw, axis=1)[:, [raw.shape[1] // 2 - 1]]
    scale = 100 / (raw.max() - raw.min())
    return np.rint((raw - raw.min()) * scale), -raw.min() * scale


def alignments(
    width: int, target_width: int, least: int
) -> list[tuple[int, list[tuple[int, int]]]]:
    """Offset and the pairs (query column, target column) of each alignment."""
    found = []
    for offset in range(-width + 1, target_width):
        pairs = [(q, q + offset) for q in range(width) if 0 <= q + offset < target_width]
        if len(pairs) >= least:
            found.append((offset, pairs))
    return found


def score(table: np.ndarray, pairs: list[tuple[int, int]], neutral: float) -> float:
    """`table` (w, target width) of scores; the query's other columns count as neutral."""
    return sum(table[q, t] for q, t in pairs) + np.rint((len(table) - len(pairs)) * neutral)


@pytest.mark.parametrize(("width", "widths"), [(3, [2, 3]), (2, [3, 2]), (4, [2])])
def test_p_values_by_enumeration(rng, width, widths):
    """The chance that the best of independently drawn alignments reaches the score.

    Every alignment's distribution comes from listing all draws of its columns.
    """
    known = random_motifs(rng, widths)
    query = rng.dirichlet([0.4] * 4, width)
    oriented = [part for m in known for part in (m.matrix, m.matrix[::-1, ::-1])]
    columns = np.concatenate(oriented)
    scores, neutral = integer_scores(query, columns)
    begins = np.cumsum([0, *map(len, oriented)])
    for number, match in enumerate(match_motif(query, MotifDatabase(known))):
        best = -np.inf
        for place in (2 * number, 2 * number + 1):
            table = scores[:, begins[place] : begins[place + 1]]
            least = min(5, width, table.shape[1])
            for _, pairs in alignments(width, table.shape[1], least):
                best = max(best, score(table, pairs, neutral))
        below = 1.0
        for _, pairs in alignments(width, known[number].width, 1):
            draws = itertools.product(range(len(columns)), repeat=len(pairs))
            outside = np.rint((width - len(pairs)) * neutral)
            totals = np.array(
                [sum(scores[q, c] for (q, _), c in zip(pairs, draw, strict=True)) for draw in draws]
            )
            below *= np.mean(totals + outside < best) ** 2  # both orientations
        assert match.p_value == pytest.approx(1 - below, rel=1e-9)
        assert match.e_value == pytest.approx((1 - below) * len(known), rel=1e-9)


def test_best_alignment_by_trying_all(rng):
    known = random_motifs(rng, [6, 9, 4, 12, 7])
    database = MotifDatabase(known)
    query = rng.dirichlet([0.4] * 4, 8)
    oriented = [part for m in known for part in (m.matrix, m.matrix[::-1, ::-1])]
    scores, neutral = integer_scores(query, np.concatenate(oriented))
    begins = np.cumsum([0, *map(len, oriented)])
    for number, match in enumerate(match_motif(query, database)):
        tried = []
        for place, orientation in ((2 * number, "+"), (2 * number + 1, "-")):
            table = scores[:, begins[place] : begins[place + 1]]
            least = min(5, table.shape[1])
            for offset, pairs in alignments(8, table.shape[1], least):
                total = score(table, pairs, neutral)
                tried.append((total, len(pairs), orientation, offset))
        top = max(total for total, *_ in tried)
        mine = (match.overlap, match.orientation, match.offset)
        assert mine in [rest for total, *rest_ in tried if total == top for rest in [tuple(rest_)]]


def test_a_motif_finds_itself_in_both_orientations():
    known = danq_jaspar_motifs()[:519]
    database = MotifDatabase(known)
    for number in (0, 98, 99):
        for query, orientation in ((known[number], "+"), (known[number].reverse_complement(), "-")):
            matches = match_motif(query.matrix, database)
            best = min(matches, key=lambda match: match.p_value)
            assert (best.target, best.offset) == (number, 0)
            assert best.overlap == query.width
            assert best.orientation == orientation
            assert best.p_value > 0


def test_offset_is_the_first_columns_place_in_the_target():
    known = [motif_of(s, 0.1) for s in ("GATTACAGATC", "CCCCGGGGTTT", "ACACACAC")]
    database = MotifDatabase(known)
    inside = match_motif(motif_of("TTACAGA", 0.1).matrix, database)[0]
    assert (inside.offset, inside.overlap, inside.orientation) == (2, 7, "+")
    around = match_motif(motif_of("NNNGATTACAGATCNN", 0.1).matrix, database)[0]
    assert (around.offset, around.overlap, around.orientation) == (-3, 11, "+")
    reverse = match_motif(motif_of("NNGATCTGTAATC", 0.1).matrix, database)[0]
    assert (reverse.offset, reverse.overlap, reverse.orientation) == (-2, 11, "-")


def test_at_least_five_columns_overlap():
    """GGGG at the query's end meets GGGG at the target's beginning: 4 columns are too few."""
    query = motif_of("ACACACTTGGGG", 0.05)
    known = [motif_of("GGGGAATTAATT", 0.05), motif_of("CGCG", 0.05)]
    matches = match_motif(query.matrix, MotifDatabase(known))
    assert matches[0].overlap >= 5
    assert matches[1].overlap == 4  # a narrower motif: all of it


def test_uniform_query_matches_nothing():
    known = [motif_of("GATTACA"), motif_of("CCGGTT")]
    matches = match_motif(np.full((8, 4), 0.25), MotifDatabase(known))
    assert [match.p_value for match in matches] == [1, 1]


def test_unit_columns_give_pearsons_correlation(rng):
    one, other = rng.dirichlet([1] * 4, 5), rng.dirichlet([1] * 4, 6)
    expected = np.corrcoef(one, other)[:5, 5:]
    np.testing.assert_allclose(unit_columns(one) @ unit_columns(other).T, expected, atol=1e-12)
    np.testing.assert_array_equal(unit_columns(np.full((1, 4), 0.25)), np.zeros((1, 4)))


def test_empty_database_is_refused():
    with pytest.raises(ValueError, match="at least one motif"):
        MotifDatabase([])


def stand_ins() -> list[Motif]:
    """Motifs like those of the two databases of the paper's run that are not at hand.

    The 384 UniPROBE arrays that JASPAR keeps beside CORE stand for uniprobe mouse (386), JASPAR's
    306 HT-SELEX matrices, most of Jolma et al. 2013, again and again for jolma2013 (843).
    """
    pyjaspar = pytest.importorskip("pyjaspar")
    database = pyjaspar.jaspardb(release="JASPAR2016")

    def converted(found):
        counts = [np.array([m.counts[base] for base in "AGCT"], float).T for m in found]
        return [Motif("stand-in", "", each / each.sum(axis=1, keepdims=True)) for each in counts]

    arrays = database.fetch_motifs(collection=["PBM", "PBM_HOMEO"])
    core = database.fetch_motifs(collection=["CORE"], tax_group=["vertebrates"])
    selex = converted([motif for motif in core if motif.data_type == "HT-SELEX"])
    return converted(arrays) + list(itertools.islice(itertools.cycle(selex), 843))


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("others", "within", "per_kernel", "median"),
    [(stand_ins, 0.93, 0.96, (0.9, 1.15)), (list, 0.67, 0.91, (1.2, 1.45))],
    ids=["with stand-ins", "JASPAR alone"],
)
def test_paper_s_tomtom_table_comes_back(data_dir: Path, others, within, per_kernel, median):
    """JASPAR's rows of the published table: offsets, overlaps, and E-values within a factor of 2.

    The published null model has two more databases, for which `stand_ins` stand. Without them
    p-values differ, but mostly by one factor for all rows of a kernel, whose null model it is.
    """
    folder = data_dir / "motifs"
    if not folder.is_dir():
        pytest.skip(f"no motifs in {data_dir}")
    queries = {motif.id: motif for motif in read_meme(folder / "DanQ.meme")}
    table = pd.read_csv(folder / "DanQ_tomtom.txt", sep="\t")
    table = table[table["Target ID"].str.match(r"MA\d")].sort_values("#Query ID")
    jaspar = read_jaspar(resource_path("jaspar2016_vertebrates.jaspar"))
    numbers = {motif.id: number for number, motif in enumerate(jaspar)}
    database = MotifDatabase([*jaspar, *others()])
    ratios, same = [], []
    for query, rows in table.groupby("#Query ID"):
        matches = match_motif(queries[query].matrix, database)
        for _, row in rows.iterrows():
            match = matches[numbers[row["Target ID"]]]
            ratios.append(match.p_value * 1748 / row["E-value"])
            same.append((match.offset, match.overlap) == (row["Optimal offset"], row["Overlap"]))
    table = table.assign(ratio=np.log2(ratios))
    assert len(table) == 391
    assert np.mean(table["ratio"].abs() < 1) > within
    assert np.mean(same) > 0.98
    assert median[0] < 2 ** table["ratio"].median() < median[1]
    kernel = table.groupby("#Query ID")["ratio"]
    several = kernel.transform("size") >= 3
    assert np.mean((table["ratio"] - kernel.transform("median"))[several].abs() < 1) > per_kernel
