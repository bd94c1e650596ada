"""What is asked of a training run; loads neither TensorFlow nor Keras.

A `TrainRequest` is what a user says, and travels as JSON to the runs of a set.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from danq_keras.system.errors import InputError


@dataclass(frozen=True)
class TrainRequest:
    """What a user asks for, before it is checked against the data.

    Args:
        data: folder of a dataset or DeepSEA bundle (also a .tar.gz); None for the simulated demo,
            or for the data of the resumed run.
        store: folder for the dataset that a bundle is converted to; None for one beside the bundle.
        preset: name of the recipe; None for "danq" with DeepSEA's targets or a bundle,
            "danq-fitted" with other data, "demo" without data, or the resumed run's.
        settings: settings that replace the preset's, by name; values may be text, as `--set`
            takes it.
        config: JSON file of further settings, such as another run's config.json.
        init: run folder or .keras file of the network whose weights the run starts from.
        out: folder of the run; None for one in `runs/`, named after preset and data.
        resume: whether the run in `out` is continued.
        overwrite: whether a run in `out` is replaced.
        bootstrap: resamples of the genome for the intervals of the test's figures; 0 for none,
            None for the resumed run's.
        scale_learning_rate: whether another batch size than the recipe's takes as many times its
            learning rate, with a warm-up: see `training.optimizers.linear_rule`.
        log: "wandb" to log the run there too; None for the run folder alone.
    """

    data: Path | None = None
    store: Path | None = None
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    config: Path | None = None
    init: Path | None = None
    out: Path | None = None
    resume: bool = False
    overwrite: bool = False
    bootstrap: int | None = None
    scale_learning_rate: bool = False
    log: str | None = None

    def to_json(self) -> str:
        """The request as text, which `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), default=str, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "TrainRequest":
        """The request that `to_json` wrote."""
        content = json.loads(text)
        for name in ("data", "store", "config", "init", "out"):
            content[name] = None if content[name] is None else Path(content[name])
        return cls(**content)


def check_request(request: TrainRequest) -> None:
    """Refuse what contradicts itself.

    Raises:
        InputError: the first thing that does.
    """
    if request.bootstrap is not None and request.bootstrap < 0:
        raise InputError(f"`bootstrap`: must not be negative. Received: {request.bootstrap}.")
    if request.resume and request.overwrite:
        raise InputError("`resume` continues a run and `overwrite` deletes it. Give one of them.")
    if request.resume and request.scale_learning_rate:
        raise InputError("`scale_learning_rate`: a resumed run has its own rate. Leave it out.")
    if request.resume and request.out is None and request.data is None and request.preset is None:
        raise InputError("`resume`: say which run with `out=RUN`.")
