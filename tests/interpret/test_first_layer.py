"""Sites of first-layer kernels, against strings that are searched and activations by hand."""

import keras
import numpy as np
import pytest
import tiny
from keras import layers

from danq_keras.data.targets import Targets
from danq_keras.genome import dna
from danq_keras.interpret.first_layer import KernelScanner, first_convolution
from danq_keras.interpret.kernel_motifs import kernel_motifs
from danq_keras.models.networks import build_network
from danq_keras.models.trained import TrainedModel
from danq_keras.system.errors import InputError

WORD = "GATTACA"


def trained(network):
    return TrainedModel(network, Targets(("a",)), "here.keras", {})


def network_of(*first):
    """A network from windows to one probability that begins with these layers."""
    inputs = keras.Input((tiny.WINDOW, 4))
    hidden = inputs
    for layer in first:
        hidden = layer(hidden)
    hidden = layers.Flatten()(hidden)
    return trained(keras.Model(inputs, layers.Dense(1, "sigmoid")(hidden)))


def word_conv(word=WORD):
    """One kernel that is above zero on `word` alone; a second that never is."""
    model = network_of(layers.Conv1D(2, len(word), activation="relu"))
    conv = first_convolution(model)
    kernel = np.zeros((len(word), 4, 2), np.float32)
    kernel[..., 0] = dna.onehot_from_codes(dna.encode(word))
    conv.set_weights([kernel, np.array([0.5 - len(word), -1], np.float32)])
    return conv


def scan(conv, codes, *, both_strands, batch=7):
    scanner = KernelScanner(conv, window=codes.shape[1], both_strands=both_strands)
    packed = dna.pack_codes(codes)
    for begin in range(0, len(packed), batch):
        scanner.add(packed[begin : begin + batch])
    return scanner.result()


@pytest.mark.parametrize("both_strands", [True, False])
def test_a_known_kernel_s_motif_comes_back_exactly(rng, both_strands):
    codes = rng.integers(0, 4, (40, tiny.WINDOW), dtype=np.uint8)
    codes[:15, 20:27] = dna.encode(WORD)
    codes[10:18, 3:10] = dna.reverse_complement_codes(dna.encode(WORD))
    sequences = list(codes)
    if both_strands:
        sequences += list(dna.reverse_complement_codes(codes))
    n_with_word = sum(WORD in dna.decode(sequence) for sequence in sequences)
    sites = scan(word_conv(), codes, both_strands=both_strands)
    assert sites.n_sequences == len(sequences)
    assert sites.n_sites.tolist() == [n_with_word, 0]
    assert n_with_word > 0
    (found,) = kernel_motifs(sites.counts, sites.n_sites)
    assert (found.kernel, found.n_sites, found.motif.consensus()) == (0, n_with_word, WORD)
    np.testing.assert_array_equal(found.motif.matrix, dna.onehot_from_codes(dna.encode(WORD)))


def test_counts_are_those_of_activations_by_hand(rng):
    model = build_network(tiny.preset().model, seed=1)
    conv = first_convolution(trained(model))
    kernel, bias = conv.get_weights()
    bias = rng.normal(-0.05, 0.02, bias.shape).astype(np.float32)
    conv.set_weights([kernel, bias])
    codes = rng.integers(0, 5, (23, tiny.WINDOW), dtype=np.uint8)
    width, _, n_kernels = kernel.shape
    counts, n_sites = np.zeros((n_kernels, width, 4), int), np.zeros(n_kernels, int)
    for sequence in [*codes, *dna.reverse_complement_codes(codes)]:
        onehot = dna.onehot_from_codes(sequence).astype(float)
        for number in range(n_kernels):
            active = [
                (onehot[at : at + width] * kernel[..., number]).sum() + bias[number]
                for at in range(tiny.WINDOW - width + 1)
            ]
            at = int(np.argmax(active))
            if active[at] > 0:
                counts[number] += dna.onehot_from_codes(sequence[at : at + width])
                n_sites[number] += 1
    assert n_sites.max() > n_sites.min() > 0  # neither all nor none
    for batch in (1, 23):
        sites = scan(conv, codes, both_strands=True, batch=batch)
        np.testing.assert_array_equal(sites.n_sites, n_sites)
        np.testing.assert_array_equal(sites.counts, counts)


def test_the_first_of_equal_positions_is_the_site():
    codes = dna.encode("A" * 5 + WORD + "CC" + WORD + "G" * 39)[None]
    conv = word_conv(WORD + "CC")
    kernel = conv.get_weights()[0]
    kernel[len(WORD) :] = 0
    conv.set_weights([kernel, np.array([-6.5, -1], np.float32)])
    sites = scan(conv, codes, both_strands=False)
    (found,) = kernel_motifs(sites.counts, sites.n_sites)
    assert found.motif.consensus() == WORD + "CC"


def test_unknown_bases_count_in_no_column():
    codes = np.stack([dna.encode("ANTTACA" + "C" * 53), dna.encode("ACTTACA" + "C" * 53)])
    conv = word_conv()
    conv.set_weights([conv.get_weights()[0], np.array([-4.5, -1], np.float32)])
    sites = scan(conv, codes, both_strands=False)
    assert sites.counts[0].sum(axis=1).tolist() == [2, 1, 2, 2, 2, 2, 2]
    (found,) = kernel_motifs(sites.counts, sites.n_sites)
    np.testing.assert_array_equal(found.motif.matrix[1], [0, 0, 1, 0])
    only_unknown = sites.counts * np.array([1, 0, 1, 1, 1, 1, 1])[:, None]
    (found,) = kernel_motifs(only_unknown, sites.n_sites)
    np.testing.assert_array_equal(found.motif.matrix[1], [0.25] * 4)


def test_relu_may_be_a_layer_of_its_own():
    for relu in (layers.ReLU(), layers.Activation("relu")):
        conv = layers.Conv1D(2, 5)
        assert first_convolution(network_of(conv, relu)) is conv


@pytest.mark.parametrize(
    ("first", "received"),
    [
        ((layers.Dense(3, activation="relu", name="d"),), "Received: Dense 'd'"),
        ((layers.Conv1D(2, 5, name="c"),), "Received: 'c' without relu"),
        ((layers.Conv1D(2, 5, activation="tanh", name="t"),), "'t' without relu"),
        ((layers.Conv1D(2, 5, strides=2, activation="relu"),), "strides 2, dilation 1"),
        ((layers.Conv1D(2, 5, dilation_rate=3, activation="relu"),), "strides 1, dilation 3"),
    ],
)
def test_other_first_layers_are_refused(first, received):
    with pytest.raises(InputError, match=r"here\.keras: motifs are read from a first") as error:
        first_convolution(network_of(*first))
    assert received in str(error.value)
    assert str(error.value).endswith("Choose another model.")
