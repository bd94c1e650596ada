"""`benchmark.py steps`: how far each layer moves a step, under DanQ's optimizer and those of ports.

The same network, initial weights, dropout seeds and batches for every rule; the yardstick is the
original's RMSprop. The data are simulated in the shape of DeepSEA's (919 targets, 1000 bases, 2 %
of the labels positive): what matters here is the scale of the gradients, which the number of
targets, the batch size and the averaging of the loss decide.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from danq_keras.benchmarks.options import option
from danq_keras.draw.style import LIGHT_GRID, LINE_COLOURS, STYLE
from danq_keras.genome.dna import ALPHABET, Bytes, pack_codes, pack_labels, reverse_complement_codes
from danq_keras.motifs.files import danq_jaspar_motifs
from danq_keras.recipes.config import Preset
from danq_keras.recipes.presets import get_preset
from danq_keras.recipes.settings import apply_settings
from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output, refuse_existing
from danq_keras.system.tensorflow import start_tensorflow
from danq_keras.system.terminal import log, progress

if TYPE_CHECKING:
    from danq_keras.training.step import TrainingStep

GROUPS = ("convolution", "LSTM input", "LSTM recurrent", "dense", "output", "biases")
_RECORDED = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000, 2000)
_SETTLED = 20
_SITES = 3  # planted in a window, on average
_MEAN_RATE = 0.02  # Source: about 85 M positives of DeepSEA's 4.4 M × 919 training labels


@dataclass(frozen=True)
class Rule:
    """An optimizer as some framework has it: settings of `TrainConfig`, and where they are from.

    Where epsilon stands outside the root, its square is put inside: at most √2 apart.
    """

    name: str
    settings: Mapping[str, Any]


def _rmsprop(rho: float, epsilon: float) -> dict[str, Any]:
    return {"optimizer": "rmsprop", "learning_rate": 1e-3, "rho": rho, "epsilon": epsilon}


RULES = (
    Rule("DanQ (RMSprop, ε 1e-6 inside the root)", _rmsprop(0.9, 1e-6)),
    Rule("Keras 3 (RMSprop, ε 1e-7 inside)", _rmsprop(0.9, 1e-7)),
    Rule("Keras 2 (RMSprop, ε 1e-7 outside)", _rmsprop(0.9, 1e-14)),
    Rule("PyTorch (RMSprop, α 0.99, ε 1e-8 outside)", _rmsprop(0.99, 1e-16)),
    Rule("Adam (ε 1e-7 outside)", {"optimizer": "adam", "learning_rate": 1e-3, "epsilon": 1e-7}),
)


@dataclass(frozen=True)
class Options:
    """What this yardstick can be asked for."""

    preset: str = option("danq", "recipe whose network takes the steps")
    steps: int = option(300, "steps per rule")
    out: Path | None = option(None, "write steps.tsv, steps.md and steps.png there")
    overwrite: bool = option(False, "replace the files in --out")


def run(options: Options) -> int:
    """Train under every rule and print how far each layer moved.

    Raises:
        InputError: unknown preset, no steps, or files that are already there.
    """
    preset = get_preset(options.preset)
    if options.steps < 1:
        raise InputError(f"`steps`: must be above zero. Received: {options.steps}.")
    files = (
        {}
        if options.out is None
        else {kind: options.out / f"steps.{kind}" for kind in ("tsv", "md", "png")}
    )
    for path in files.values():
        refuse_existing(path, overwrite=options.overwrite)
    start_tensorflow()
    batches = simulated_batches(preset, options.steps)
    positive = np.mean([labels.mean() for _, labels in batches])
    log.info(
        "%s windows of %d bases, %d targets, simulated; %.2f %% of the labels positive",
        f"{options.steps * preset.train.batch_size:,}",
        preset.model.window,
        preset.model.n_targets,
        100 * positive,
    )
    rows = [row for rule in RULES for row in _measure(preset, rule, batches)]
    table = pd.DataFrame(rows)
    text = _markdown(table)
    print(text)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        _write(table, text, files)
    return 0


def simulated_batches(preset: Preset, n_steps: int, *, seed: int = 0) -> list[tuple[Bytes, Bytes]]:
    """Windows with planted JASPAR sites, and labels that depend on them.

    Each target belongs to one motif. Its label is positive where openness (shared by all targets
    of a window), the presence of its motif and noise together exceed a threshold that gives the
    target its own rate of positives, log-normal with mean 2 %.

    Returns:
        For each step codes (B, L) uint8 and labels (B, T) uint8.
    """
    rng = np.random.default_rng([seed, 0x57E9])
    size, n_targets = preset.train.batch_size, preset.model.n_targets
    codes = rng.integers(0, 4, (n_steps * size, preset.model.window), dtype=np.uint8)
    present = _plant(codes, rng)
    motif_of_target = rng.integers(0, present.shape[1], n_targets)
    rates = np.clip(rng.lognormal(math.log(_MEAN_RATE) - 0.5, 1.0, n_targets), 1e-4, 0.3)
    openness = rng.normal(size=(len(codes), 1))
    score = rng.logistic(size=(len(codes), n_targets)) + 1.5 * openness
    score += 3.0 * present[:, motif_of_target]
    thresholds = np.array(
        [np.quantile(column, 1 - rate) for column, rate in zip(score.T, rates, strict=True)]
    )
    labels = (score > thresholds).astype(np.uint8)
    return [(codes[i : i + size], labels[i : i + size]) for i in range(0, len(codes), size)]


def _plant(codes: Bytes, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Put sites into the windows, on either strand; which motif each of them has (N, motifs)."""
    motifs = [motif.matrix for motif in danq_jaspar_motifs()]
    present = np.zeros((len(codes), len(motifs)), bool)
    for row, n_sites in enumerate(rng.poisson(_SITES, len(codes))):
        for number in rng.integers(0, len(motifs), n_sites):
            steps = motifs[number].cumsum(axis=1)
            site = (rng.random((len(steps), 1)) > steps).sum(axis=1).clip(max=len(ALPHABET) - 1)
            site = site.astype(np.uint8)
            if rng.random() < 0.5:
                site = reverse_complement_codes(site)
            start = rng.integers(0, codes.shape[1] - len(site) + 1)
            codes[row, start : start + len(site)] = site
            present[row, number] = True
    return present


def _measure(
    preset: Preset, rule: Rule, batches: list[tuple[Bytes, Bytes]]
) -> Iterator[dict[str, Any]]:
    """A row for each recorded step and group of weights."""
    import keras
    import tensorflow as tf

    from danq_keras.training.step import TrainingStep

    keras.backend.clear_session()
    changed = apply_settings(preset, rule.settings)
    step = TrainingStep(changed.model, changed.train)
    recorded = {number for number in _RECORDED if number < len(batches)} | {len(batches)}
    losses: list[float] = []
    with progress(total=len(batches), desc=rule.name, unit="step") as bar:
        for number, (codes, labels) in enumerate(batches, 1):
            before = (
                [v.numpy() for v in step.model.trainable_variables] if number in recorded else []
            )
            result = step((tf.constant(pack_codes(codes)), tf.constant(pack_labels(labels))))
            losses.append(float(result[0]))
            bar.update()
            if before:
                shown = {"rule": rule.name, "step": number, "loss": losses[-1]}
                yield from ({**shown, **row} for row in _moved(step, before, number, changed))
    log.info("%s: loss %.4f, then %.4f", rule.name, losses[0], np.mean(losses[-20:]))


def _moved(
    step: "TrainingStep", before: list[npt.NDArray[np.float32]], number: int, preset: Preset
) -> Iterator[dict[str, Any]]:
    """For each group of weights: gradient and step (root mean squares), share above epsilon."""
    from danq_keras.training.optimizers import mean_squares

    sums: dict[str, npt.NDArray[np.float64]] = defaultdict(lambda: np.zeros(4))
    means, bound = mean_squares(step.optimizer)
    decay = preset.train.rho or 0.999  # Source: beta_2 of Adam in Keras
    for variable, earlier, mean in zip(step.model.trainable_variables, before, means, strict=True):
        moved = (variable.numpy() - earlier).astype(np.float64)
        square = mean.numpy().astype(np.float64)
        sums[_group(variable.path)] += (
            np.square(moved).sum(),
            square.sum() / (1 - decay**number),
            (square > bound).sum(),
            moved.size,
        )
    for group in GROUPS:
        squared_steps, squared_gradients, above, size = sums[group]
        yield {
            "weights": group,
            "gradient_rms": math.sqrt(squared_gradients / size),
            "step_rms": math.sqrt(squared_steps / size),
            "share_above_epsilon": above / size,
        }


def _group(path: str) -> str:
    layer, weight = path.split("/")[0], path.split("/")[-1]
    if weight == "bias":
        return "biases"
    if layer.startswith("lstm"):
        return "LSTM recurrent" if weight == "recurrent_kernel" else "LSTM input"
    return {"dense": "dense", "logits": "output"}.get(layer, "convolution")


def _markdown(table: pd.DataFrame) -> str:
    """Medians over the recorded steps: the yardstick's own figures, then the other rules' ratios.

    The first steps, in which the output biases find the rates of the targets, are left out where
    there are later ones.
    """
    settled = table[table["step"] >= _SETTLED]
    shown = table if settled.empty else settled
    names = [rule.name for rule in RULES]
    sizes, gradients, above = (
        shown.pivot(index=["rule", "step"], columns="weights", values=column)[list(GROUPS)]
        for column in ("step_rms", "gradient_rms", "share_above_epsilon")
    )
    yardstick = sizes.loc[names[0]]
    rows = [
        ("gradient (root mean square)", [f"{x:.1e}" for x in gradients.loc[names[0]].median()]),
        ("step (root mean square)", [f"{x:.1e}" for x in yardstick.median()]),
        *(
            (f"{name}: step", [f"{x:,.3g} ×" for x in (sizes.loc[name] / yardstick).median()])
            for name in names[1:]
        ),
        *(
            (f"{name}: above epsilon", [f"{100 * x:.3g} %" for x in above.loc[name].median()])
            for name in names
        ),
    ]
    steps = shown["step"]
    header = [f"{names[0]}; medians of steps {steps.min()} to {steps.max()}", *GROUPS]
    lines = [header, ["---"] * len(header), *([name, *cells] for name, cells in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _write(table: pd.DataFrame, text: str, files: Mapping[str, Path]) -> None:

    with atomic_output(files["tsv"], overwrite=True) as path:
        table.to_csv(path, sep="\t", index=False)
    with atomic_output(files["md"], overwrite=True) as path:
        path.write_text(text + "\n", encoding="utf-8")
    with atomic_output(files["png"], overwrite=True) as path:
        step_sizes_png(path, table)
    print(f"Written: {', '.join(str(path) for path in files.values())}")


def step_sizes_png(path: Path, table: pd.DataFrame) -> None:
    """Root mean square of a step over the steps of training, a panel per group of weights.

    Args:
        path: PNG file to write, in place of an earlier one.
        table: rows with `rule`, `step`, `weights` and `step_rms`; a line is a rule.
    """
    groups, rules = table["weights"].unique(), table["rule"].unique()
    with mpl.rc_context({**STYLE, "grid.color": LIGHT_GRID}):
        figure = Figure(figsize=(10, 6.4), layout="constrained")
        panels = np.asarray(figure.subplots(2, -(-len(groups) // 2), sharex=True, sharey=True))
        for axes, group in zip(panels.flat, groups, strict=False):
            for rule, colour in zip(rules, LINE_COLOURS, strict=False):
                line = table[(table["rule"] == rule) & (table["weights"] == group)]
                axes.loglog(
                    line["step"], line["step_rms"], "-o", color=colour, label=rule, markersize=3
                )
            axes.set_title(group)
        for axes in panels[-1]:
            axes.set_xlabel("step of training")
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        for axes in panels[:, 0]:
            axes.set_ylabel("root mean square of a step")
        handles, labels = panels.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        figure.savefig(path, format="png", dpi=110)
