"""What `import_weights.py` does once its arguments are parsed; loads Keras."""

import argparse
import dataclasses

import keras
import numpy as np

from danq_keras.genome import dna
from danq_keras.models.backend import without_tf32
from danq_keras.models.legacy import (
    Array,
    check_arrays,
    check_exportable,
    config_of,
    forward_float64,
    model_from_old,
    old_from_model,
    read_old_weights,
    write_old_weights,
)
from danq_keras.models.networks import save_model
from danq_keras.models.trained import load_model
from danq_keras.recipes.config import ModelConfig
from danq_keras.recipes.presets import get_preset
from danq_keras.system.errors import InputError

CHECK_WINDOWS = 4
TOLERANCE = 1e-5  # a model that differs more from the float64 forward pass is not written


def import_old(args: argparse.Namespace) -> int:
    """Old file → .keras, after comparing its predictions with NumPy's."""
    arrays = read_old_weights(args.source, args.preset)
    sizes = check_arrays(arrays, args.source)
    preset = get_preset(args.preset).model
    pool = preset.pool_size if args.pool_size is None else args.pool_size
    # At once, as the preset's own kernel may not fit into a short window.
    window = preset.window if args.window is None else args.window
    base = dataclasses.replace(preset, window=window, kernel_size=sizes.kernel_size, pool_size=pool)
    config = config_of(sizes, base, wrapper=args.wrapper or "time", path=args.source)
    model = model_from_old(arrays, config)
    difference = self_check(model, arrays, config)
    print(
        f"Self-check: {CHECK_WINDOWS} random windows, both strands: largest difference from a "
        f"NumPy float64 forward pass {difference:.1e} (limit {TOLERANCE:.0e})"
    )
    if not difference <= TOLERANCE:
        raise InputError(
            f"{args.source}: the imported model differs from the float64 forward pass by "
            f"{difference:.1e}, more than {TOLERANCE:.0e}; nothing is written. Are these weights "
            "of this network?"
        )
    save_model(model, args.out)
    print(
        f"{args.out}: {model.count_params():,} parameters, windows of {config.window} bases, "
        f"{config.n_targets} targets, wrapper {config.wrapper}"
    )
    return 0


def self_check(model: keras.Model, arrays: dict[str, Array], config: ModelConfig) -> float:
    """Largest difference of the model's predictions from those of NumPy on random windows."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (CHECK_WINDOWS, config.window), dtype=np.uint8)
    both = np.concatenate([codes, dna.reverse_complement_codes(codes)])
    onehot = dna.onehot_from_codes(both).astype(np.float32)
    with without_tf32():
        ours = model.predict(onehot, verbose=0)
    theirs = forward_float64(arrays, onehot, pool_size=config.pool_size, wrapper=config.wrapper)
    return float(np.abs(ours - theirs).max())


def export(args: argparse.Namespace) -> int:
    """.keras → old file."""
    trained = load_model(args.source)
    check_exportable(trained.network, args.source)
    write_old_weights(
        args.out, old_from_model(trained.network), args.preset, overwrite=args.overwrite
    )
    print(f"{args.out}: {trained.network.count_params():,} parameters in the layout of Keras 0.2.0")
    return 0
