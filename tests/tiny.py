"""A dataset and a network small enough to train in a test."""

import csv
from pathlib import Path

import numpy as np

from danq_keras.data.store import Dataset, StoreHeader, open_store
from danq_keras.data.store_write import Rows, SplitWriter, new_dataset
from danq_keras.data.targets import Targets
from danq_keras.genome import dna
from danq_keras.recipes.config import Preset
from danq_keras.recipes.presets import get_preset
from danq_keras.recipes.settings import apply_settings

WINDOW = 60
SETTINGS = {
    "filters": 4,
    "kernel_size": 8,
    "pool_size": 5,
    "lstm_units": 3,
    "dense_units": 6,
    "batch_size": 10,
    "checkpoint_steps": 3,
}


def make_dataset(
    folder: Path,
    *,
    n_train: int = 43,
    n_targets: int = 3,
    ignore: bool = False,
    seed: int = 0,
    n_chroms: int = 1,
    positive: float = 0.4,
) -> Dataset:
    """Random windows whose first target is whether they hold GATTACA; chr1, chr2, … in turn."""
    rng = np.random.default_rng(seed)
    targets = Targets(tuple(f"target{number}" for number in range(n_targets)))
    header = StoreHeader(WINDOW, 20, "both", targets, "synthetic, for tests")
    with new_dataset(folder) as temporary:
        for name, n in (("train", n_train), ("valid", 20), ("test", 20)):
            codes = rng.integers(0, 4, (n, WINDOW), dtype=np.uint8)
            labels = rng.random((n, n_targets)) < positive
            codes[labels[:, 0], 25:32] = dna.encode("GATTACA")
            rows = Rows(
                dna.pack_codes(codes),
                dna.pack_labels(labels),
                ignore=dna.pack_labels(rng.random(labels.shape) < 0.2) if ignore else None,
                chrom=np.array([f"chr{1 + row % n_chroms}" for row in range(n)]),
                start=np.arange(n, dtype=np.int64) * 200,
            )
            path = temporary / f"{name}.h5"
            with SplitWriter(
                path, header, n_windows=n, with_ignore=ignore, chrom_width=5
            ) as writer:
                writer.append(rows)
    return open_store(folder)


def preset(name: str = "danq", n_targets: int = 3, **settings: object) -> Preset:
    """A preset with the tiny network."""
    filters = (4, 4, 4) if name == "deepsea" else SETTINGS["filters"]
    tiny = {**SETTINGS, "filters": filters, "window": WINDOW, "n_targets": n_targets}
    if name == "deepsea":
        tiny |= {"kernel_size": 4, "pool_size": 2}
    return apply_settings(get_preset(name), {**tiny, **settings})


def history(run: Path) -> list[dict[str, str]]:
    """The rows of a run's history.csv, without what no two runs share."""
    with (run / "history.csv").open() as file:
        return [
            {k: v for k, v in row.items() if k not in ("seconds", "samples_per_second")}
            for row in csv.DictReader(file)
        ]
