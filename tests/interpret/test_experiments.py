"""Experiments on networks whose right answers can be counted."""

import numpy as np
import pytest
import toys

from danq_keras.genome import dna
from danq_keras.interpret.experiments import (
    _other_orders,
    ablation_effects,
    marginal_effects,
    shuffled_windows,
)
from danq_keras.interpret.insertions import Insert
from danq_keras.interpret.sites import SiteFinder
from danq_keras.system.errors import InputError

L = 40
WORD = "GATTACA"


def cg(n, rng, *, put=()):
    """Windows of C and G, with words at places: no word comes by chance."""
    windows = []
    for _ in range(n):
        letters = list("".join(rng.choice(list("CG"), L)))
        for word, place in put:
            letters[place : place + len(word)] = word
        windows.append("".join(letters))
    return windows


@pytest.fixture
def finder():
    return toys.trained(toys.motif_finder(WORD, window=L), ["finder"])


@pytest.mark.parametrize(("strands", "effect"), [("forward", 1.0), ("both", 0.5)])
def test_the_marginal_effect_of_the_motif_is_exact(finder, rng, strands, effect):
    found = marginal_effects(finder, cg(5, rng), [WORD, "GATTACC", "AAAA"], strands=strands)
    table = found.to_frame().set_index("motif")
    row = table.loc[WORD]
    np.testing.assert_allclose(row[["effect", "low", "high"]].astype(float), effect, atol=1e-5)
    assert (row["control"], row["windows"]) == (0, 5)
    assert row["p_value"] == row["q_value"] == 0  # no other order of the letters does anything
    assert table.loc["GATTACC", "effect"] == 0
    assert table.loc["GATTACC", "q_value"] == 1
    assert np.isnan(table.loc["AAAA", "control"])  # it has no other order
    assert np.isnan(table.loc["AAAA", "q_value"])
    assert found.windows.shape == (5, L)


def test_the_p_value_is_that_of_the_effect_among_the_controls(rng):
    """Linear network: an effect is the sum of the weights of the letters."""
    weights = rng.standard_normal((2, L, 4)).astype(np.float32)
    model = toys.trained(toys.linear(weights))
    windows = ["N" * L, "N" * L]
    table = marginal_effects(model, windows, ["ACGTACG"], strands="forward", controls=200).table
    at = L // 2 - 3
    for target, row in enumerate(table.to_dict("records")):
        expected = sum(
            weights[target, at + i, dna.ALPHABET.index(b)] for i, b in enumerate("ACGTACG")
        )
        assert row["effect"] == pytest.approx(expected, abs=1e-5)
        score = (row["effect"] - row["control"]) / row["control_sd"] / np.sqrt(1 + 1 / 200)
        assert 0 < row["p_value"] < 1
        assert (row["p_value"] < 0.05) == (abs(score) > 1.972)  # t with 199 degrees of freedom
    again = marginal_effects(model, windows, ["ACGTACG"], strands="forward", controls=200).table
    assert again.equals(table)


def test_ablation_of_the_motif_is_exact(finder, rng):
    windows = cg(4, rng, put=[(WORD, 8)]) + cg(3, rng)
    found = ablation_effects(finder, windows, [WORD], strands="forward", shuffles=4)
    row = found.table.iloc[0]
    assert row["windows"] == 4
    np.testing.assert_allclose(row[["effect", "low", "high"]].astype(float), 1, atol=1e-5)
    assert row["control"] < 1
    assert row["p_value"] < 0.05
    same = ablation_effects(finder, windows[:4], (8, 15), strands="forward", shuffles=4)
    assert same.table["effect"].iloc[0] == pytest.approx(1, abs=1e-5)
    assert same.table["sites"].iloc[0] == "8:15"
    beside = ablation_effects(finder, windows[:4], (20, 30), strands="forward")
    assert beside.table["effect"].iloc[0] == 0


def test_epistasis_of_an_and_gate_is_exact(rng):
    """It answers to both words alone, so all of it is beyond their sum."""
    model = toys.trained(toys.pair_finder("GATT", "ACAT", 3, window=L), ["both"])
    windows = cg(6, rng, put=[("GATT", 8), ("ACAT", 15)])
    how = {"strands": "forward", "shuffles": 60}
    effects = ablation_effects(model, windows, ["GATT", "ACAT"], **how).table["effect"].tolist()
    np.testing.assert_allclose(effects, 3, atol=1e-5)
    one = toys.trained(toys.motif_finder("GATT", window=L), ["one"])
    alone = ablation_effects(one, windows, ["GATT", "ACAT"], **how).table
    assert alone["sites"].tolist() == ["GATT", "ACAT", "GATT × ACAT"]
    assert alone["effect"].iloc[1] == 0
    assert abs(alone["effect"].iloc[2]) < 0.1


def test_sites_are_found_on_both_strands():
    finder = SiteFinder.of("GATWACA")
    codes = np.stack([
        dna.encode("CCGATTACACC"), dna.encode("CCTGTAATCCC"), dna.encode("CCGATAACACC"),
        dna.encode("CCGATNACACC"),
    ])  # fmt: skip
    covered = finder.covered(codes)
    assert covered[:3, 2:9].all()
    assert covered.sum(axis=1).tolist() == [7, 7, 7, 0]
    assert SiteFinder.of("A" * 12).covered(codes).sum() == 0  # longer than the window


def test_sites_of_a_matrix_are_those_of_a_high_score():
    finder = SiteFinder.of("MA0139.1")  # CTCF
    site = "TGGCCACCAGGGGGCGCTA"
    assert len(finder) == len(site)
    windows = np.stack([dna.encode("AAAA" + site + "AAAA"), dna.encode("A" * (len(site) + 8))])
    covered = finder.covered(windows)
    assert covered[0, 4:-4].all()
    assert not covered[1].any()


def test_shuffled_windows_keep_pairs_of_bases(rng):
    codes = rng.integers(0, 4, (3, 50), np.uint8)
    shuffles = shuffled_windows(codes, 7)
    assert shuffles.shape == (7, 50)

    def pairs(window):
        return sorted(zip(window[:-1].tolist(), window[1:].tolist(), strict=True))

    for row, window in enumerate(shuffles):
        assert pairs(window) == pairs(codes[row % 3])
    np.testing.assert_array_equal(shuffled_windows(codes, 7), shuffles)
    assert (shuffled_windows(codes, 7, seed=1) != shuffles).any()


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        (marginal_effects, ([WORD],), None),
        (marginal_effects, ([],), "`motifs`: none"),
        (marginal_effects, (["A" * (L + 1)],), "has 41 letters, the window 40"),
        (marginal_effects, (["XY"],), "neither bases"),
        (ablation_effects, (["AAAAAAAAA"],), "has a site to change in 0 of 3 windows, at least 2"),
        (ablation_effects, ((5, 6),), "two at least, inside of 40. Received: 5:6"),
        (ablation_effects, ((5, 50),), "inside of 40. Received: 5:50"),
        (ablation_effects, (["GA", "GA"],), "one or two different motifs"),
        (ablation_effects, (["GA", "GC", "CC"],), "one or two different motifs. Received: 3"),
    ],
)
def test_mistakes(finder, rng, call, arguments, message):
    if message is None:
        with pytest.raises(InputError, match="`windows`: at least 2"):
            call(finder, cg(1, rng), *arguments)
        with pytest.raises(InputError, match="`controls`: at least 2"):
            call(finder, cg(2, rng), *arguments, controls=1)
        return
    with pytest.raises(InputError, match=message):
        call(finder, cg(3, rng), *arguments)


def test_what_overlaps_is_no_two_sites(finder, rng, messages):
    windows = cg(4, rng, put=[(WORD, 8)]) + cg(2, rng, put=[(WORD, 8), ("TTAA", 30)])
    with pytest.raises(InputError, match="have the same sites"):
        ablation_effects(finder, windows, [WORD, "TGTAATC"], strands="forward")
    found = ablation_effects(finder, windows, [WORD, "TTA"], strands="forward").table
    assert "in 6 of 6 windows with both, sites of the two overlap" in messages.text
    assert found["sites"].tolist() == [WORD, "TTA"]


def test_sites_without_another_order_are_left_out(finder, rng, messages):
    windows = cg(3, rng, put=[("AAAA", 8)]) + cg(2, rng, put=[("AAAT", 8)])
    found = ablation_effects(finder, windows, ["AAAW"], strands="forward").table
    assert found["windows"].tolist() == [2]
    assert "in 3 of 5 windows its sites have no other order" in messages.text
    with pytest.raises(InputError, match="AAAA has a site to change in 0 of 3 windows"):
        ablation_effects(finder, windows[:3], ["AAAA"], strands="forward")


def test_a_site_that_fills_the_window_has_no_control(finder, rng, messages):
    found = ablation_effects(finder, cg(4, rng), (0, L), strands="forward").table
    assert found[["control", "p_value", "q_value"]].isna().all(axis=None)
    assert "4 of 4 windows have no room for a control elsewhere" in messages.text


def test_few_orders_do_not_say_what_chance_is(finder, rng, messages):
    """Of CG the only other order is GC."""
    table = marginal_effects(finder, cg(3, rng), ["CG", "CAT"], controls=20).table
    assert table["p_value"].isna().tolist() == [True, False]
    assert "CG: other orders of its letters: 1, too few for a p-value." in messages.text
    orders = _other_orders(Insert("CAT", "CAT"), 20, rng)
    assert sorted(each.letters for each in orders) == ["ACT", "ATC", "CTA", "TAC", "TCA"]
