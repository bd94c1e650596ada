"""What a trainer knows of its course, besides variables: where it is, and what came before."""

import math
from dataclasses import dataclass, field
from typing import Any

from danq_keras.training.step import StepResult


@dataclass
class EpochSums:
    """Sums over the steps of an epoch.

    `loss` is the sum of loss × samples; `norms` counts the steps whose gradient norm was finite,
    and `norm` is the sum of theirs: under loss scaling a step may overflow and be skipped.
    """

    loss: float = 0.0
    samples: float = 0.0
    norm: float = 0.0
    norms: float = 0.0
    clipped: float = 0.0

    def add(self, result: StepResult) -> None:
        """Count a step."""
        self.loss += result.loss * result.n_samples
        self.samples += result.n_samples
        if math.isfinite(result.norm):
            self.norm += result.norm
            self.norms += 1
        self.clipped += result.clipped

    @property
    def mean_loss(self) -> float:
        """Mean loss of the samples."""
        return self.loss / self.samples

    @property
    def mean_norm(self) -> float:
        """Mean gradient norm of the steps that had one."""
        return self.norm / max(1.0, self.norms)


@dataclass
class State:
    """What a trainer must know to go on, besides variables and curriculum; in the checkpoint.

    `step` counts optimizer steps over all epochs; `sums` and `seconds` are those of the epoch under
    way.
    """

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    sums: EpochSums = field(default_factory=EpochSums)
    seconds: float = 0.0
    best_loss: float = math.inf
    best_auprc: float = math.nan
    best_epoch: int = 0
    without_improvement: int = 0
    plateau: float = 1.0
    plateau_epochs: int = 0
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
