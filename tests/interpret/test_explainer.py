"""Explanations of networks whose right explanation is known."""

import numpy as np
import pytest
import toys

from danq_keras.genome import dna
from danq_keras.interpret.explainer import Explainer, score_model, single_changes
from danq_keras.interpret.methods import Ways, contributions, hypothetical, of_the_base
from danq_keras.interpret.paths import expected_gradients, integrated_gradients
from danq_keras.system.errors import InputError

L = toys.WINDOW


@pytest.fixture
def weights(rng):
    return rng.standard_normal((3, L, 4)).astype(np.float32)


@pytest.fixture
def codes(rng):
    codes = rng.integers(0, 4, L, dtype=np.uint8)
    codes[7] = dna.UNKNOWN
    return codes


def test_single_changes_are_all_that_differ():
    codes = np.array([0, 1, 4, 3], np.uint8)
    places, bases = single_changes(codes, (1, 3))
    assert list(zip(places.tolist(), bases.tolist(), strict=True)) == [
        (1, 0), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3),
    ]  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_effects_of_a_linear_network_are_differences_of_its_weights(weights, codes, batch_size):
    targets = [2, 0]
    explainer = Explainer(
        toys.trained(toys.linear(weights)), targets, window=L, strands="forward",
        batch_size=batch_size,
    )  # fmt: skip
    told = []
    effects = explainer.effects(codes, (4, 15), advance=told.append)
    assert effects.shape == (2, 11, 4)
    assert sum(told) == 3 * 10 + 4
    for row, target in enumerate(targets):
        for position in range(4, 15):
            here = weights[target, position]
            there = here[codes[position]] if codes[position] < 4 else 0.0
            np.testing.assert_allclose(effects[row, position - 4], here - there, atol=1e-5)


def test_gradients_of_a_linear_network_are_its_weights(weights, codes):
    explainer = Explainer(toys.trained(toys.linear(weights)), [1, 2], window=L, strands="forward")
    several = np.stack([codes, codes[::-1], codes])
    gradients = explainer.gradients(several)
    assert gradients.shape == (3, 2, L, 4)
    for row in gradients:
        np.testing.assert_allclose(row, weights[[1, 2]], atol=1e-6)
    product = of_the_base(gradients[0], codes)
    expected = [weights[1, i, c] if c < 4 else 0.0 for i, c in enumerate(codes)]  # weight × input
    np.testing.assert_allclose(product[0], expected, atol=1e-6)


def test_both_strands_are_the_mean_of_the_logits(weights, codes):
    """Linear: the mean of the weights and of what the other strand reads, turned back."""
    explainer = Explainer(toys.trained(toys.linear(weights)), [0], window=L)
    mean = (weights[0] + weights[0, ::-1, ::-1]) / 2
    np.testing.assert_allclose(explainer.gradients(codes[None])[0, 0], mean, atol=1e-6)
    effects = explainer.effects(codes, (0, L))[0]
    there = of_the_base(mean, codes)[:, None]
    np.testing.assert_allclose(effects, mean - there, atol=1e-5)
    score = explainer.scores(dna.pack_codes(codes[None]))[0, 0]
    assert score == pytest.approx(float((mean * dna.onehot_from_codes(codes)).sum()), abs=1e-5)


def test_the_reverse_complement_has_the_reverse_complement_s_explanation(weights, codes):
    explainer = Explainer(toys.trained(toys.linear(weights)), [0], window=L)
    other = dna.reverse_complement_codes(codes)
    effects = explainer.effects(codes, (0, L))
    np.testing.assert_allclose(explainer.effects(other, (0, L)), effects[:, ::-1, ::-1], atol=1e-5)
    np.testing.assert_allclose(
        explainer.gradients(other[None]),
        explainer.gradients(codes[None])[:, :, ::-1, ::-1],
        atol=1e-6,
    )


def test_hypothetical_contributions_have_no_mean_and_are_the_same_of_both_methods(weights, codes):
    """Of a linear network: weights minus their mean over the bases."""
    explainer = Explainer(toys.trained(toys.linear(weights)), [0], window=L, strands="forward")
    expected = weights[0] - weights[0].mean(axis=1, keepdims=True)
    effects, gradients = explainer.effects(codes, (0, L)), explainer.gradients(codes[None])[0]
    for name, values in (("effects", effects), ("gradients", gradients)):
        np.testing.assert_allclose(hypothetical(name, values)[0], expected, atol=1e-5)
        np.testing.assert_allclose(
            contributions(name, values, codes)[0], of_the_base(expected, codes), atol=1e-5
        )
    assert contributions("effects", effects, codes)[0, 7] == 0  # unknown


def test_integrated_gradients_of_a_linear_network_are_weight_times_input(weights, codes):
    explainer = Explainer(toys.trained(toys.linear(weights)), [1, 2], window=L, strands="forward")
    found = integrated_gradients(explainer, codes, Ways(points=1))
    np.testing.assert_allclose(found.values, weights[[1, 2]], atol=1e-6)
    np.testing.assert_allclose(
        contributions("integrated", found.values, codes),
        (weights[[1, 2]] * dna.onehot_from_codes(codes)).sum(axis=-1),
        atol=1e-6,
    )
    np.testing.assert_allclose(found.error, 0, atol=1e-5)


def test_expected_gradients_of_a_linear_network_are_weights_above_those_of_the_shuffles(
    weights, codes, monkeypatch
):
    """A base's weight, less the mean weight of the bases that the shuffles have there."""
    explainer = Explainer(toys.trained(toys.linear(weights)), [0], window=L, strands="forward")
    shuffles = []

    def shuffle(some, rng):
        shuffles.append(rng.permutation(some))
        return shuffles[-1]

    monkeypatch.setattr("danq_keras.interpret.paths.dinucleotide_shuffle", shuffle)
    found = expected_gradients(explainer, codes, Ways(backgrounds=3, points=2))
    assert [len(each) for each in shuffles] == [7, L - 8] * 3  # the unknown base stays
    whole = np.array([[*a, dna.UNKNOWN, *b] for a, b in zip(*[iter(shuffles)] * 2, strict=True)])
    of_shuffles = (weights[0] * dna.onehot_from_codes(whole.astype(np.uint8))).sum(axis=-1)
    expected = weights[0] - of_shuffles.mean(axis=0)[:, None]
    np.testing.assert_allclose(found.values[0], expected, atol=1e-5)
    np.testing.assert_allclose(found.error, 0, atol=1e-5)


@pytest.mark.parametrize("strands", ["forward", "both"])
@pytest.mark.parametrize("attribute", [integrated_gradients, expected_gradients])
def test_contributions_add_up_to_the_difference(attribute, strands, codes):
    """Of a network that is far from linear."""
    explainer = Explainer(
        toys.trained(toys.smooth(L)), [0, 1], window=L, strands=strands, batch_size=16
    )
    ways = Ways(backgrounds=2, points=30)
    found = attribute(explainer, codes, ways)
    assert np.abs(found.error).max() < 1e-4
    name = "integrated" if attribute is integrated_gradients else "expected"
    total = contributions(name, found.values, codes).sum(axis=1)
    assert np.abs(total).min() > 1e-3  # it is no sum of zeros
    again = attribute(explainer, codes, ways)
    np.testing.assert_array_equal(again.values, found.values)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_planted_motif_gets_all_the_credit(reverse):
    """A single mismatch loses the whole match, so each base of the motif counts alike."""
    codes = dna.encode("CCCCCCGATTACACCCCCCC")
    begin, end = 6, 13
    if reverse:
        codes, begin, end = dna.reverse_complement_codes(codes), L - 13, L - 6
    explainer = Explainer(toys.trained(toys.motif_finder()), [0], window=L)
    effects = explainer.effects(codes, (0, L))[0]
    credit = contributions("effects", effects[None], codes)[0]
    here = np.zeros(L, bool)
    here[begin:end] = True
    np.testing.assert_allclose(effects[~here], 0, atol=1e-6)
    np.testing.assert_allclose(credit[~here], 0, atol=1e-6)
    # The match is worth 2 × 0.5 on the strand that has it, 0.5 of the mean: three of the four
    # bases lose that.
    np.testing.assert_allclose(credit[here], 0.375, atol=1e-5)
    gradient = of_the_base(explainer.gradients(codes[None])[0], codes)[0]
    np.testing.assert_allclose(gradient[~here], 0, atol=1e-6)
    np.testing.assert_allclose(gradient[here], 1.0, atol=1e-6)  # weight 2, half of the strands


def test_a_network_without_logits_gets_them_from_probabilities(weights, codes):
    onehot = dna.onehot_from_codes(codes)[None].astype(np.float32)
    named, unnamed = (score_model(toys.linear(weights, logits=logits)) for logits in (True, False))
    expected = named.predict(onehot, verbose=0)
    np.testing.assert_allclose(expected[0], (weights * onehot[0]).sum(axis=(1, 2)), atol=1e-4)
    np.testing.assert_allclose(unnamed.predict(onehot, verbose=0), expected, rtol=1e-3)


def test_a_target_that_reads_nothing_has_zero_gradients(codes):
    network = toys.composition(L, n_targets=3)
    gradients = Explainer(toys.trained(network), [2], window=L).gradients(codes[None])
    np.testing.assert_array_equal(gradients, 0)


def test_damaged_weights_are_one_line(weights, codes):
    explainer = Explainer(toys.trained(toys.linear(weights * np.nan)), [0], window=L)
    with pytest.raises(InputError, match=r"toy.keras: its logits .* are not finite numbers"):
        explainer.effects(codes, (0, L))
