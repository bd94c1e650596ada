"""Recipes by name: the network (`ModelConfig`) and its training (`TrainConfig`).

Both are frozen; settings come from a preset, then a JSON file, then the command line
(`apply_settings`), and go to `config.json`. Nothing here builds a network.

Source of the numbers: Quang & Xie, NAR 44(11):e107, 2016, and the scripts published with it, run
under Keras 0.2.0 defaults; Zhou & Troyanskaya, Nature Methods 12:931, 2015, for `deepsea`.
"""

from collections.abc import Mapping

from danq_keras.motifs.files import JASPAR_2016
from danq_keras.recipes.config import ModelConfig, Preset, TrainConfig, check_choice

"""Value of `motif_file` that means the motifs shipped in resources/."""


FITTED = "danq-fitted"
"""The recipe for data that are not DeepSEA's; `recipes.fit` chooses its sizes."""
DEEPSEA_TARGETS = 919


_DANQ = "Quang & Xie 2016, doi 10.1093/nar/gkw226, and its scripts under Keras 0.2.0"
_DANQ_MODEL = ModelConfig()
# The original says patience 5, which in Keras 0.2.0 stops on the 6th epoch without improvement.
_DANQ_TRAIN = TrainConfig(epochs=60, patience=6)

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("danq", f"{_DANQ}; gates are the true sigmoid", _DANQ_MODEL, _DANQ_TRAIN),
        Preset(
            "danq-jaspar",
            f"{_DANQ}; gates are the true sigmoid",
            ModelConfig(
                filters=1024, kernel_size=30, pool_size=15, lstm_units=512, motif_file=JASPAR_2016
            ),
            TrainConfig(epochs=32, patience=None),  # early stopping never triggers in 32 epochs
        ),
        Preset(
            "deepsea",
            "Zhou & Troyanskaya 2015, doi 10.1038/nmeth.3547: the network only; DIFFERS: glorot "
            "initial values and DanQ's training, not SGD with penalties and max-norm",
            ModelConfig(
                architecture="deepsea",
                filters=(320, 480, 960),
                kernel_size=8,
                pool_size=4,
                conv_init="glorot",
            ),
            _DANQ_TRAIN,
        ),
        Preset(
            "bioq",
            "BioQ (PyTorch): two BLSTM layers, RMSprop 1e-5; DIFFERS: the clipping value is not "
            "given there, 1.0 here; initial values as DanQ",
            ModelConfig(lstm_layers=2, dropout_kind="inverted"),
            TrainConfig(
                epochs=55,
                learning_rate=1e-5,
                rho=0.99,
                epsilon=1e-16,  # PyTorch's 1e-8 stands outside the root, Keras' inside
                global_clipnorm=1.0,
                patience=None,
            ),
        ),
        Preset(
            "mouse-mel",
            "DanQ on 39 ChIP-seq targets of mouse MEL cells: Adam (its rate is not given: 0.001), "
            "batch 200, 30 epochs, convolution uniform ±0.05",
            ModelConfig(dropout_kind="inverted"),
            TrainConfig(
                epochs=30, batch_size=200, optimizer="adam", rho=None, epsilon=None, patience=None
            ),
        ),
        Preset(
            "random-dropout",
            "DanQ with dropout rates drawn anew for every step from 0.1-0.3 and 0.4-0.6",
            ModelConfig(dropout_pool=(0.1, 0.3), dropout_lstm=(0.4, 0.6), dropout_kind="inverted"),
            _DANQ_TRAIN,
        ),
        Preset(
            FITTED,
            "DanQ's design for data other than DeepSEA's: sizes and epochs follow the data, found "
            "by measurement on yeast",
            ModelConfig(
                filters=128,
                kernel_size=19,
                lstm_units=48,
                dense_units=96,
                dropout_pool=0.3,
                dropout_lstm=0.6,
                dropout_kind="inverted",
                recurrent_gain=1.0,
                conv_init="glorot",
                conv_activation="gelu",
                dense_activation="gelu",
            ),
            TrainConfig(
                epochs=40,
                optimizer="adamw",
                learning_rate=0.002,
                rho=None,
                epsilon=None,
                weight_decay=0.1,
                global_clipnorm=1.0,
                schedule="cosine",
                weight_average=0.99,
                shift=60,
                output_bias="prevalence",
                monitor="val_auprc",
                patience=10,
            ),
        ),
        Preset(
            "demo",
            "a small DanQ for the simulated demo genome, trained with Adam; no published recipe",
            ModelConfig(
                filters=64,
                kernel_size=20,
                pool_size=10,
                lstm_units=32,
                dense_units=64,
                dropout_kind="inverted",
                dropout_lstm=0.3,
                recurrent_gain=1.0,
                conv_init="glorot",
            ),
            TrainConfig(
                epochs=12,
                batch_size=100,
                optimizer="adam",
                learning_rate=0.002,
                rho=None,
                epsilon=None,
                patience=None,  # the first epochs look like a plateau: patience would end there
            ),
        ),
    )
}


def get_preset(name: str) -> Preset:
    """The recipe called `name`.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    check_choice("preset", name, tuple(PRESETS))
    return PRESETS[name]
