"""Designs whose best is known."""

import numpy as np
import pytest
import toys

from danq_keras.genome import dna
from danq_keras.interpret.design import Limits, Wanted, design
from danq_keras.interpret.sites import SiteFinder
from danq_keras.system.errors import InputError

L = 20
WORD = "GATTACA"


@pytest.fixture
def finder():
    """Its logit grows by 2 with every base of the word that matches, the best place counting."""
    return toys.trained(toys.motif_finder(WORD, spare=7), ["finder"])


def test_the_word_comes_in_as_many_rounds_as_bases_differ(finder):
    start = "C" * 8 + "GACCACA" + "C" * 5  # two bases differ
    found = design(finder, start, Wanted(higher=["finder"]), strands="forward")
    assert found.sequence == "C" * 8 + WORD + "C" * 5
    assert found.path["change"].tolist() == ["", "11C>T", "12C>T"]
    np.testing.assert_allclose(found.path["finder"], [10, 12, 14], atol=1e-5)
    np.testing.assert_allclose(found.path["objective"], found.path["finder"])
    assert found.start == start


def test_a_linear_network_gets_the_best_base_everywhere(rng):
    weights = rng.standard_normal((2, L, 4)).astype(np.float32)
    model = toys.trained(toys.linear(weights))
    codes = rng.integers(0, 4, L, np.uint8)
    found = design(model, codes, Wanted(higher=[0], lower=[1]), rounds=50, strands="forward")
    best = (weights[0] - weights[1]).argmax(axis=1).astype(np.uint8)
    assert found.sequence == dna.decode(best)
    assert len(found.path) - 1 == (best != codes).sum()
    short = design(model, codes, Wanted(higher=[0]), rounds=3, strands="forward")
    gains = np.sort(weights[0].max(axis=1) - weights[0][np.arange(L), codes])[::-1]
    expected = short.path["objective"].iloc[0] + gains[:3].cumsum()
    np.testing.assert_allclose(short.path["objective"][1:], expected, atol=1e-4)


def test_targets_that_are_kept_and_limited_stay(rng):
    weights = np.zeros((3, L, 4), np.float32)
    weights[0] = rng.random((L, 4))
    weights[1, :10] = 2 * rng.random((10, 4))  # moves with the first half
    weights[2, 15:] = rng.random((5, 4))
    model = toys.trained(toys.linear(weights))
    codes = rng.integers(0, 4, L, np.uint8)
    kept = design(model, codes, Wanted(higher=[0], keep=[1]), rounds=40, strands="forward").path
    free = design(model, codes, Wanted(higher=[0]), rounds=40, strands="forward").path
    assert np.abs(kept["t1"] - kept["t1"].iloc[0]).max() <= 0.5
    gained = kept["t0"].iloc[-1] - kept["t0"].iloc[0]
    assert 0 < gained < free["t0"].iloc[-1] - free["t0"].iloc[0]
    limit = float(weights[2, np.arange(L), codes].sum()) + 0.01
    below = Wanted(higher=[0], below={2: limit})
    held = design(model, codes, below, rounds=40, strands="forward").path
    assert held["t2"].max() <= limit + 1e-5
    assert held["objective"].is_monotonic_increasing


def test_limits_hold(finder):
    start = "C" * 8 + "GACCACA" + "C" * 5
    fixed = Limits(changeable=[(0, 11)])
    found = design(finder, start, Wanted(higher=["finder"]), limits=fixed, strands="forward")
    assert found.sequence[11:] == start[11:]
    few = Limits(gc=(0.7, 0.9))
    found = design(finder, start, Wanted(higher=["finder"]), limits=few, strands="forward")
    share = sum(base in "GC" for base in found.sequence) / L
    assert 0.7 <= share <= 0.9
    free = Limits(avoid=[WORD])
    found = design(finder, start, Wanted(higher=["finder"]), limits=free)
    assert not SiteFinder.of(WORD).covered(dna.encode(found.sequence)[None]).any()


def test_a_beam_finds_at_least_as_much(rng):
    model = toys.trained(toys.smooth(L))
    codes = rng.integers(0, 4, L, np.uint8)
    worth = [
        design(model, codes, Wanted(higher=[0]), beam=beam, rounds=8).path["objective"].iloc[-1]
        for beam in (1, 6)
    ]
    assert worth[1] >= worth[0] - 1e-6


def test_what_cannot_be_better_stays(finder):
    start = "C" * 8 + WORD + "C" * 5
    found = design(finder, start, Wanted(higher=["finder"]), strands="forward")
    assert found.sequence == start
    assert len(found.path) == 1


@pytest.mark.parametrize(
    ("start", "wanted", "how", "message"),
    [
        ("C" * L, Wanted(), {}, "name at least one target to move"),
        ("C" * L, Wanted(higher=["find"]), {}, "Nearest: finder"),
        ("C" * L, Wanted(higher=[0], keep=[0]), {}, "named twice"),
        ("C" * 19 + "N", Wanted(higher=[0]), {}, "Received unknown ones"),
        ("C" * 19, Wanted(higher=[0]), {}, "the network reads 20 bases"),
        ("C" * L, Wanted(higher=[0]), {"rounds": 0}, "`rounds`: at least 1"),
        ("C" * L, Wanted(higher=[0]), {"limits": Limits(gc=(0.2, 0.5))}, "first window's 1.000"),
        ("C" * L, Wanted(higher=[0]), {"limits": Limits(gc=(1.0, 1.0), avoid=["CG", "GC"])},
         "exclude every change"),
        ("C" * L, Wanted(higher=[0]), {"limits": Limits(changeable=[(5, 30)])}, "Received: 5:30"),
        ("C" * L, Wanted(higher=[0]), {"limits": Limits(avoid=["XY"])}, "neither bases"),
    ],
)  # fmt: skip
def test_mistakes(finder, start, wanted, how, message):
    with pytest.raises(InputError, match=message):
        design(finder, start, wanted, **how)


def test_what_is_not_kept_is_said(messages):
    """The wish is out of reach: nothing that one round can do brings the logit below -50."""
    weights = np.zeros((2, L, 4), np.float32)
    weights[0, 3, 0] = weights[1, 3, 0] = 1
    model = toys.trained(toys.linear(weights), ["up", "low"])
    wanted = Wanted(higher=["up"], below={"low": -50.0})
    found = design(model, "C" * L, wanted, rounds=2)
    assert found.broken == ("low is not below -50: 0.000",)
    assert "A limit does not hold: low is not below -50" in messages.text
    with pytest.raises(InputError, match="`below`: low has a limit of nan"):
        design(model, "C" * L, Wanted(higher=["up"], below={"low": float("nan")}))


def test_sites_are_counted_not_their_bases():
    finder = SiteFinder.of("GGG")
    windows = np.stack([dna.encode(text) for text in ("ATGGGATCCC", "ATGGGGGATA", "AAAAAAAAAA")])
    assert finder.count(windows).tolist() == [2, 3, 0]
    assert finder.covered(windows).sum(axis=1).tolist() == [6, 5, 0]
