"""Networks whose right answers can be counted, and files for them."""

import json
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from danq_keras.data.targets import Targets
from danq_keras.genome import dna
from danq_keras.models.trained import TrainedModel

WINDOW = 20


def linear(weights, *, logits=True):
    """A network whose logits are (W · onehot) per target; weights (T, L, 4), A,G,C,T."""
    n_targets, length, _ = weights.shape
    inputs = keras.Input((length, 4))
    flat = layers.Flatten()(inputs)
    name = "logits" if logits else "other"
    dense = layers.Dense(n_targets, use_bias=False, name=name)
    outputs = layers.Activation("sigmoid", name="probability")(dense(flat))
    dense.set_weights([weights.reshape(n_targets, -1).T])
    return keras.Model(inputs, outputs)


def motif_finder(motif="GATTACA", *, window=WINDOW, spare=0.5):
    """Logit: 2 × how far the best match exceeds the motif's length - `spare`; one target."""
    kernel = np.zeros((len(motif), 4, 1), np.float32)
    kernel[np.arange(len(motif)), dna.encode(motif), 0] = 1
    inputs = keras.Input((window, 4))
    conv = layers.Conv1D(1, len(motif), activation="relu", name="conv")
    matches = layers.GlobalMaxPooling1D()(conv(inputs))
    conv.set_weights([kernel, np.array([spare - len(motif)], np.float32)])
    dense = layers.Dense(1, name="logits")
    outputs = layers.Activation("sigmoid", name="probability")(dense(matches))
    dense.set_weights([np.array([[2.0]], np.float32), np.array([0.0], np.float32)])
    return keras.Model(inputs, outputs)


def pair_finder(first, second, gap, *, window):
    """Logit: high only where both motifs stand with `gap` bases between them."""
    whole = first + "N" * gap + second
    kernel = np.zeros((len(whole), 4, 1), np.float32)
    for position, base in enumerate(whole):
        if base != "N":
            kernel[position, dna.ALPHABET.index(base), 0] = 1
    n_known = len(first) + len(second)
    inputs = keras.Input((window, 4))
    conv = layers.Conv1D(1, len(whole), activation="relu", name="conv")
    matches = layers.GlobalMaxPooling1D()(conv(inputs))
    conv.set_weights([kernel, np.array([0.5 - n_known], np.float32)])
    dense = layers.Dense(1, name="logits")
    outputs = layers.Activation("sigmoid", name="probability")(dense(matches))
    dense.set_weights([np.array([[6.0]], np.float32), np.array([0.0], np.float32)])
    return keras.Model(inputs, outputs)


def smooth(window, n_targets=2):
    """Convolution, LSTM, dense layer without a kink; random weights."""
    keras.utils.set_random_seed(4)
    inputs = keras.Input((window, 4))
    hidden = layers.Conv1D(6, 5, activation="tanh")(inputs)
    hidden = layers.LSTM(4)(layers.AveragePooling1D(2)(hidden))
    outputs = layers.Activation("sigmoid", name="probability")(
        layers.Dense(n_targets, name="logits")(hidden)
    )
    return keras.Model(inputs, outputs)


def composition(window, n_targets=2):
    """Probabilities: the shares of A, and of G (further targets: 0.5); any strand order counts."""
    inputs = keras.Input((window, 4))
    shares = ops.mean(inputs, axis=1)
    rest = [0 * shares[:, :1] + 0.5] * (n_targets - 2)
    return keras.Model(inputs, ops.concatenate([shares[:, :2], *rest], axis=1))


def trained(network, names=None):
    """A network as `load_model` gives it."""
    n_targets = network.output_shape[1]
    names = names or tuple(f"t{i}" for i in range(n_targets))
    return TrainedModel(network, Targets(tuple(names)), Path("toy.keras"), {})


def save(network, folder, names):
    """A run folder that holds no more than a model and its targets' names."""
    folder.mkdir(parents=True, exist_ok=True)
    network.save(folder / "model.keras")
    (folder / "config.json").write_text(json.dumps({"targets": list(names)}))
    return folder


def write_fasta(path, records):
    """Records name → letters."""
    path.write_text("".join(f">{name}\n{letters}\n" for name, letters in records.items()))
    return path
