"""Every setting with its type, a preset's value and what it means: what `--list-settings` prints.

Loads neither TensorFlow nor Keras.
"""

from collections.abc import Mapping
from typing import Any

from danq_keras.recipes.config import Preset
from danq_keras.recipes.fit import fitted_sizes
from danq_keras.recipes.presets import FITTED
from danq_keras.recipes.settings import MODEL_FIELDS, TRAIN_FIELDS, setting_text, type_text

MEANINGS: Mapping[str, str] = {
    "architecture": "Layers: danq (convolution, BLSTM, dense) or deepsea (three convolutions).",
    "window": "Bases of a window; the data's, so that it need not be said.",
    "n_targets": "Outputs of the network; the data's, so that it need not be said.",
    "filters": "Kernels of the convolution; three numbers for deepsea.",
    "kernel_size": "Bases that a kernel spans.",
    "pool_size": "Positions of the convolution that max-pooling makes one.",
    "lstm_units": "Units of the LSTM in each direction.",
    "lstm_layers": "Bidirectional LSTM layers, one upon another.",
    "dense_units": "Units of the layer before the output.",
    "dropout_pool": "Dropout rate after pooling; of a pair, a rate is drawn between the two.",
    "dropout_lstm": "Dropout rate after the LSTM (deepsea: the third convolution), or a pair.",
    "dropout_kind": "What dropout scales: inverted (in training) or classic (in prediction).",
    "gates": "Gates of the LSTM: sigmoid, or hard as in the original of 2016.",
    "wrapper": "The second LSTM reads backward (time) or, as once published, forward (seya).",
    "conv_init": "First weights of the convolution: uniform (±0.05) or glorot.",
    "recurrent_gain": "Factor of the LSTM's orthogonal first recurrent weights.",
    "motif_file": "Motifs that the first kernels start from: a file, jaspar2016 or none.",
    "dropout_redraw": "When a rate is drawn from a pair: every step, or once a run.",
    "conv_activation": "What follows the convolution: relu or gelu.",
    "dense_activation": "What follows the dense layer: relu or gelu.",
    "epochs": "Most passes over the training samples.",
    "batch_size": "Samples of a step; a strand of a window is a sample.",
    "optimizer": "rmsprop, adam, adamw, sgd, nadam, adamax, adagrad, adadelta, lion or lamb.",
    "learning_rate": "Length of the optimizer's steps, before schedule and warm-up.",
    "rho": "Decay of RMSprop's and Adadelta's means; none for the optimizer's own.",
    "epsilon": "Keeps the optimizer from dividing by zero; none for its own.",
    "momentum": "Share of the last step in the next one; none for the optimizer's own.",
    "weight_decay": "Share of the weights taken off with a step, times the learning rate.",
    "global_clipnorm": "Longest gradient: longer ones are shortened to it; none for no limit.",
    "schedule": "Course of the learning rate: constant, cosine or plateau.",
    "warmup_steps": "First steps, in which the learning rate rises to its value.",
    "plateau_factor": "What schedule plateau multiplies the learning rate with.",
    "plateau_patience": "Epochs without a better validation before schedule plateau does so.",
    "minimum_learning_rate": "Where schedules cosine and plateau end.",
    "precision": "float32, mixed_float16, mixed_bfloat16, or auto for what suits the device.",
    "monitor": "What is better in validation: a lower val_loss, or a higher mean val_auprc.",
    "patience": "Epochs without a better validation that end the training; none for never.",
    "seed": "Number from which weights, order and dropout are drawn.",
    "data_seed": "Number from which the windows of train_limit are drawn.",
    "train_limit": "Train on so many windows only; none for all.",
    "targets": "Targets to train, by number or name; none for all.",
    "checkpoint_minutes": "Minutes between two checkpoints within an epoch; 0 for none.",
    "checkpoint_steps": "Steps between two checkpoints within an epoch; 0 for none.",
    "steps_per_call": "Steps in a call, the data on the device; 1: one by one, 0: what suits.",
    "tf32": "yes or no: whether a GPU may round float32 products to TF32 in training.",
    "min_positives": "Targets with fewer positives do not count in means.",
    "distribute": "none for one device, mirrored for all of a machine, multiworker for several.",
    "accumulate": "Parts of a device's share of a batch, taken one after the other for one step.",
    "restudy": "Share of the windows, the hardest, that come again in the next epoch.",
    "restudy_mode": "extra: those come beside the others; replace: in their place.",
    "restudy_by": "Hardest by excess over expected loss (expected), or among alike (matched).",
    "freeze_conv_epochs": "First epochs in which the convolution's weights stay.",
    "weight_average": "Decay of the moving average of the weights that is tested; 0 for none.",
    "shift": "Most bases that a training window is moved left or right.",
    "output_bias": "Where output biases start: zero, or the logit of the prevalence of positives.",
}
_OF_THE_DATA = {"window", "n_targets"}


def settings_text(preset: Preset) -> str:
    """All settings, two lines each: key, the preset's value and type; what it means.

    What a preset takes from the data says so in place of a value.
    """
    fitted: set[str] = set()
    if preset.name == FITTED:  # which settings those are depends on no number
        sizes = fitted_sizes(window=1000, n_targets=1, samples=1, prevalence=0.5, batch_size=1)
        fitted = set(sizes)
    lines = [
        f"Settings, as --set KEY=VALUE takes them, with the values of preset {preset.name}.",
        "Values separated by commas are several; none is no value.",
    ]
    for title, owner, names in (
        ("network", preset.model, MODEL_FIELDS),
        ("training", preset.train, TRAIN_FIELDS),
    ):
        lines += ["", f"{title}:"]
        for name in names:
            lines += _lines(owner, name, by_data=name in _OF_THE_DATA | fitted)
    return "\n".join(lines)


def _lines(owner: Any, name: str, *, by_data: bool) -> list[str]:
    value = "(the data's)" if by_data else setting_text(getattr(owner, name))
    return [f"  {name}={value}  [{type_text(name)}]", f"      {MEANINGS[name]}"]
