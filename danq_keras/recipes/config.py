"""Everything that can be set of a network and of its training, as frozen dataclasses."""

import difflib
from dataclasses import dataclass, field
from typing import TypeAlias

from danq_keras.system.errors import InputError

Rate: TypeAlias = float | tuple[float, float]

# A probability is kept this far from 0 and 1 before its logarithm is taken.
# Source: Keras 0.2.0, the epsilon of its cross-entropy.
PROBABILITY_CLIP = 1e-7

SEARCHED = "tune_danq.py, trial"  # how the source of a recipe begins that a search has found


@dataclass(frozen=True)
class ModelConfig:
    """A network. Lengths in bases or pooled positions; a dropout rate may be a (low, high) pair.

    `architecture` "danq": convolution, max-pool, BLSTM, dense, dense. "deepsea": three
    convolutions, of which the first two are pooled; there `dropout_lstm` follows the third.
    """

    architecture: str = "danq"
    window: int = 1000
    n_targets: int = 919
    filters: int | tuple[int, ...] = 320
    kernel_size: int = 26
    pool_size: int = 13
    lstm_units: int = 320
    lstm_layers: int = 1
    dense_units: int = 925
    dropout_pool: Rate = 0.2
    dropout_lstm: Rate = 0.5
    dropout_kind: str = "classic"
    # DIFFERS: the original's gates are clip(0.2 x + 0.5, 0, 1); the fused GPU kernel has only the
    # true sigmoid. `gates=hard` gives the original's.
    gates: str = "sigmoid"
    # "time": the second LSTM reads backward; "seya": as the first published form of the wrapper
    # that the original used, it reads forward like the first.
    wrapper: str = "time"
    conv_init: str = "uniform"
    recurrent_gain: float = 1.1
    motif_file: str | None = None
    dropout_redraw: str = "step"
    conv_activation: str = "relu"
    dense_activation: str = "relu"

    def __post_init__(self) -> None:
        check_choice("architecture", self.architecture, ("danq", "deepsea"))
        check_choice("dropout_kind", self.dropout_kind, ("classic", "inverted"))
        check_choice("gates", self.gates, ("sigmoid", "hard"))
        check_choice("wrapper", self.wrapper, ("time", "seya"))
        check_choice("conv_init", self.conv_init, ("uniform", "glorot"))
        check_choice("dropout_redraw", self.dropout_redraw, ("step", "run"))
        check_choice("conv_activation", self.conv_activation, ("relu", "gelu"))
        check_choice("dense_activation", self.dense_activation, ("relu", "gelu"))
        sizes = ("window", "n_targets", "kernel_size", "pool_size", "lstm_units", "lstm_layers")
        for name in (*sizes, "dense_units"):
            _positive(name, getattr(self, name))
        many = self.filters if isinstance(self.filters, tuple) else (self.filters,)
        for value in many:
            _positive("filters", value)
        if len(many) != (3 if self.architecture == "deepsea" else 1):
            raise InputError(
                f"filters: one number for danq, three for deepsea. Received: {self.filters}."
            )
        for name in ("dropout_pool", "dropout_lstm"):
            _check_rate(name, getattr(self, name))
        if self.pooled_length() < 1:
            raise InputError(
                f"window: {self.window} is too short for kernel_size={self.kernel_size} and "
                f"pool_size={self.pool_size}. Use a longer window or a smaller kernel or pool."
            )

    def pooled_length(self) -> int:
        """Positions left for the recurrent or dense layers."""
        length = (self.window - self.kernel_size + 1) // self.pool_size
        if self.architecture == "deepsea":
            length = (length - self.kernel_size + 1) // self.pool_size - self.kernel_size + 1
        return length


MONITORS = ("val_loss", "val_auprc")


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Steps are optimizer steps of `batch_size` samples (a strand is a sample)."""

    epochs: int = 60
    batch_size: int = 100
    optimizer: str = "rmsprop"
    learning_rate: float = 0.001
    # Of the optimizer where it has them; none: the optimizer's own default.
    rho: float | None = 0.9
    epsilon: float | None = 1e-6
    momentum: float | None = None
    weight_decay: float = 0.0
    global_clipnorm: float | None = None
    schedule: str = "constant"
    warmup_steps: int = 0
    plateau_factor: float = 0.5
    plateau_patience: int = 2
    minimum_learning_rate: float = 0.0
    precision: str = "float32"
    # Which figure of the validation split says what is better: for the weights that are kept, for
    # `patience` and for the schedule "plateau".
    monitor: str = "val_loss"
    patience: int | None = 6
    seed: int = 0
    data_seed: int = 0
    train_limit: int | None = None
    targets: tuple[str, ...] | None = None
    # Minutes, and steps, between two checkpoints within an epoch; 0 for none. Its end has one too.
    checkpoint_minutes: float = 10.0
    checkpoint_steps: int = 0
    min_positives: int = 1
    # "mirrored": all GPUs of the machine; "multiworker": those of several machines.
    distribute: str = "none"
    # Parts that a device takes its share of a batch in, one after the other, before the gradients
    # of all are added and the weights move: larger batches on small cards and slow links.
    accumulate: int = 1
    # Steps in one call, from rows in the device's memory; 1: rows from the host; 0: what suits
    # device and data.
    steps_per_call: int = 0
    # Whether float32 products of a GPU may round to TF32 (Ampere and later) in training.
    tf32: str = "yes"
    # Share of the windows that come again in the next epoch: those that the network found hardest.
    restudy: float = 0.0
    # "extra": beside all others, in a longer epoch; "replace": in the place of as many others,
    # drawn anew in each epoch, so that an epoch has as many samples as without.
    restudy_mode: str = "extra"
    # "expected": ranked by the excess over what the network expects; "matched": the same, among
    # windows with about as many positives.
    restudy_by: str = "expected"
    freeze_conv_epochs: int = 0
    # Decay of an exponential moving average of the weights over the steps: validation, test and the
    # kept model use the average. 0: the weights as they are.
    weight_average: float = 0.0
    # Most bases that a training window is moved left or right, drawn anew for each sample of each
    # step; what comes in is unknown (N).
    shift: int = 0
    # Output biases of a new network: "zero", or "prevalence" for the logit of each target's share
    # of positive training labels.
    output_bias: str = "zero"

    def __post_init__(self) -> None:
        check_choice("schedule", self.schedule, ("constant", "cosine", "plateau"))
        precisions = ("float32", "mixed_float16", "mixed_bfloat16", "auto")
        check_choice("precision", self.precision, precisions)
        check_choice("tf32", self.tf32, ("yes", "no"))
        check_choice("output_bias", self.output_bias, ("zero", "prevalence"))
        check_choice("monitor", self.monitor, MONITORS)
        check_choice("distribute", self.distribute, ("none", "mirrored", "multiworker"))
        check_choice("restudy_mode", self.restudy_mode, ("extra", "replace"))
        check_choice("restudy_by", self.restudy_by, ("expected", "matched"))
        for name in ("epochs", "batch_size", "plateau_patience", "min_positives", "accumulate"):
            _positive(name, getattr(self, name))
        for name in ("patience", "train_limit", "global_clipnorm", "epsilon"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))
        _positive("learning_rate", self.learning_rate)
        counts = (
            "seed",
            "data_seed",
            "checkpoint_steps",
            "steps_per_call",
            "warmup_steps",
            "freeze_conv_epochs",
            "shift",
        )
        for name in (*counts, "weight_decay", "checkpoint_minutes"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: must not be negative. Received: {getattr(self, name)}.")
        for name in ("rho", "momentum", "weight_average"):
            if not 0 <= (getattr(self, name) or 0) < 1:
                raise InputError(f"{name}: must be in [0, 1). Received: {getattr(self, name)}.")
        if not 0 < self.plateau_factor < 1:
            raise InputError(f"plateau_factor: must be in (0, 1). Received: {self.plateau_factor}.")
        # Whoever comes twice takes the place of another: at most one for one.
        most = 0.5 if self.restudy_mode == "replace" else 1
        if not 0 <= self.restudy <= most:
            raise InputError(
                f"restudy: a share of the windows in [0, {most}] with restudy_mode="
                f"{self.restudy_mode}. Received: {self.restudy}."
            )


@dataclass(frozen=True)
class Preset:
    """A named recipe: where it comes from, its network and its training.

    Recipes of the same numbers are equal wherever they come from. `fitted` names the settings
    that `recipes.fit` chose by the data.
    """

    name: str
    source: str = field(compare=False)
    model: ModelConfig
    train: TrainConfig
    fitted: tuple[str, ...] = ()

    @property
    def is_searched(self) -> bool:
        """Whether a search found it by trial: then it needs no advice that holds for presets."""
        return self.source.startswith(SEARCHED)


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is not one of the allowed words, and name the nearest of them."""
    if value not in allowed:
        nearest = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f" Nearest: {nearest[0]}." if nearest else ""
        raise InputError(f"{name}: one of {', '.join(allowed)}. Received: {value!r}.{hint}")


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"{name}: must be above zero. Received: {value}.")


def _check_rate(name: str, rate: Rate) -> None:
    rates = rate if isinstance(rate, tuple) else (rate, rate)
    if len(rates) != 2 or not 0 <= rates[0] <= rates[1] < 1:
        raise InputError(
            f"{name}: a rate in [0, 1) or a pair low,high of such rates. Received: {rate}."
        )
