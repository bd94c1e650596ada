"""Tracks of a region, on networks whose probabilities and contributions can be counted."""

import numpy as np
import pytest
import toys

from danq_keras.data.targets import Targets
from danq_keras.genome import dna
from danq_keras.genome.fasta import Genome
from danq_keras.genome.regions import Region
from danq_keras.interpret import tracks
from danq_keras.interpret.tracks import region_tracks
from danq_keras.models.trained import TrainedModel
from danq_keras.system.errors import InputError

WINDOW = 20


@pytest.fixture
def weights(rng):
    return rng.normal(size=(2, WINDOW, 4)).astype("f4") / 5


@pytest.fixture
def model(weights, tmp_path):
    return TrainedModel(toys.linear(weights), Targets(("a", "b")), tmp_path / "m.keras", {})


@pytest.fixture
def genome(tmp_path, rng):
    letters = dna.decode(rng.integers(0, 4, 200, dtype=np.uint8))
    toys.write_fasta(tmp_path / "g.fa", {"chr1": letters})
    with Genome(tmp_path / "g.fa") as opened:
        yield opened


def probability(weights, genome, start):
    window = dna.onehot_from_codes(genome.fetch("chr1", start, start + WINDOW))
    logit = np.array([(each * window).sum() for each in weights])
    return 1 / (1 + np.exp(-logit))


@pytest.mark.parametrize("step", [1, 4, 7])
def test_a_step_has_the_probability_of_the_window_centred_on_it(weights, model, genome, step):
    found = region_tracks(
        {"m": model}, genome, Region("chr1", 30, 101), ["b", "0"], step=step, strands="forward"
    )
    assert list(found.values) == ["b", "a"]
    starts = found.starts()
    assert starts.tolist() == list(range(30, 101, step))
    for place, a, b in zip(starts, found.values["a"], found.values["b"], strict=True):
        expected = probability(weights, genome, place - (WINDOW - step) // 2)
        np.testing.assert_allclose([a, b], expected, rtol=1e-5)


def test_ends_of_a_chromosome_have_no_value(model, genome):
    found = region_tracks({"m": model}, genome, Region("chr1"), ["a"], step=1)
    missing = np.flatnonzero(np.isnan(found.values["a"]))
    assert missing.tolist() == [*range(9), *range(190, 200)]


@pytest.mark.parametrize(("start", "end"), [(50, 60), (50, 70), (50, 113)])
def test_contributions_of_a_linear_network_are_its_weights(weights, model, genome, start, end):
    """Of a region longer than the window, each piece has those of its own window."""
    found = region_tracks(
        {"m": model}, genome, Region("chr1", start, end), ["a"], strands="forward"
    )
    assert found.method == "gradients"
    piece = end - start if end - start <= WINDOW else WINDOW // 2
    begin = (WINDOW - piece) // 2
    for i, code in enumerate(found.codes):
        expected = weights[0, begin + i % piece, code]
        assert found.contributions["a"][i] == pytest.approx(expected, abs=1e-6)


def test_several_networks_show_the_targets_that_they_have(weights, model, genome, tmp_path):
    other = TrainedModel(toys.linear(weights), Targets(("b", "c")), tmp_path / "n.keras", {})
    models = {"m": model, "n": other}
    found = region_tracks(models, genome, Region("chr1", 30, 90), ["b", "c"], method=None)
    assert list(found.values) == ["b · m", "b · n", "c · n"]
    assert found.contributions == {}
    with pytest.raises(InputError, match="d"):
        region_tracks(models, genome, Region("chr1", 30, 90), ["b", "d"])


@pytest.mark.parametrize(
    ("region", "changes", "message"),
    [
        (Region("chr2", 0, 5), {}, "chr2 is not in"),
        (Region("chr1", 0, 201), {}, "`region`: chr1 has 200 bases. Received: 201"),
        (Region("chr1", 0, 20), {"step": 21}, "`step`: from 1 to the 20 bases"),
    ],
)
def test_regions_that_are_none(model, genome, region, changes, message):
    with pytest.raises(InputError, match=message):
        region_tracks({"m": model}, genome, region, ["a"], **changes)


def test_steps_are_round_numbers():
    sizes = (100, 1_000, 2_400, 10_000, 5_000_000)
    assert [tracks._round(n) for n in sizes] == [1, 2, 5, 20, 10_000]
