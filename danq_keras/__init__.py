"""DanQ and its relatives for Keras 3, audited against the original 2016 stack.

`import danq_keras as dq` gives a notebook the functions of `__all__`. Importing the package loads
neither TensorFlow nor Keras: a function's module is imported when the function is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from danq_keras.data.build import build_dataset as build_dataset
    from danq_keras.data.build_sequences import (
        build_dataset_from_sequences as build_dataset_from_sequences,
    )
    from danq_keras.data.bundle import open_dataset as open_dataset
    from danq_keras.data.demo import make_demo as make_demo
    from danq_keras.evaluation.evaluate import evaluate as evaluate
    from danq_keras.interpret.explain import explain as explain
    from danq_keras.interpret.motifs import first_layer_motifs as first_layer_motifs
    from danq_keras.interpret.patterns import discover_motifs as discover_motifs
    from danq_keras.models.legacy import import_weights as import_weights
    from danq_keras.models.networks import build_model as build_model
    from danq_keras.models.trained import load_model as load_model
    from danq_keras.prediction.predict import predict as predict
    from danq_keras.prediction.windows import windows as windows
    from danq_keras.training.run import train as train
    from danq_keras.variants.score import score_variants as score_variants

__version__ = "0.1.0"

_HOMES = {
    "open_dataset": "data.bundle",
    "build_dataset": "data.build",
    "build_dataset_from_sequences": "data.build_sequences",
    "make_demo": "data.demo",
    "build_model": "models.networks",
    "load_model": "models.trained",
    "import_weights": "models.legacy",
    "train": "training.run",
    "evaluate": "evaluation.evaluate",
    "predict": "prediction.predict",
    "windows": "prediction.windows",
    "score_variants": "variants.score",
    "first_layer_motifs": "interpret.motifs",
    "explain": "interpret.explain",
    "discover_motifs": "interpret.patterns",
}
_KERAS_FREE = (
    *("data.bundle", "data.build", "data.build_sequences", "data.demo"),
    "interpret.patterns",
)

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name] not in _KERAS_FREE:
        from danq_keras.system.tensorflow import start_tensorflow

        start_tensorflow()
    function = getattr(importlib.import_module(f"danq_keras.{_HOMES[name]}"), name)
    globals()[name] = function  # found without this function from now on
    return function


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
