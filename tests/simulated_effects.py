"""Effects of simulated variants, and a table of further figures about them."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from danq_keras.variants import folds
from danq_keras.variants.reader import FORMAT, Effects


def make_effects(rng, n, *, shift=0.0, n_targets=3, name="e.h5", first=1000, step=10_000):
    """Probabilities whose differences grow with `shift`; one variant every `step` bases."""
    ref = rng.uniform(0.2, 0.4, (n, n_targets)).astype(np.float32)
    change = rng.normal(0, 0.02, ref.shape) + shift * (np.arange(n_targets) == 0)
    return Effects(
        path=Path(name),
        chrom=np.array([f"chr{1 + i % 3}" for i in range(n)], object),
        pos=first + step * np.arange(n, dtype=np.int64),
        id=np.array(["."] * n, object),
        ref=np.array(["A"] * n, object),
        alt=np.array(["C"] * n, object),
        ref_pred=ref,
        alt_pred=(ref + change).astype(np.float32),
        targets=tuple("abc"[:n_targets]),
        model="m",
        strands="both",
    )


def write_effects(path, effects, **attributes):
    """As `score_variants.py` writes them."""
    text = h5py.string_dtype("utf-8")
    with h5py.File(path, "w") as file:
        for name in ("chrom", "id", "ref", "alt"):
            file.create_dataset(name, data=getattr(effects, name), dtype=text)
        for name in ("pos", "ref_pred", "alt_pred"):
            file[name] = getattr(effects, name)
        file.create_dataset("targets", data=np.array(effects.targets, object), dtype=text)
        file.attrs.update(
            {"format": FORMAT, "model_fingerprint": "m", "strands": "both"} | attributes
        )
    return path


def write_extra(path, effects, **columns):
    table = pd.DataFrame({name: getattr(effects, name) for name in folds.KEYS})
    table.assign(**columns).to_csv(path, sep="\t", index=False)
    return path
