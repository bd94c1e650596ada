"""A training run as it is asked for, and the plan it becomes: checked before anything is written.

A `Plan` is a `TrainRequest` settled against the data.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danq_keras.data.bundle import open_dataset
from danq_keras.data.demo import make_demo
from danq_keras.data.store import Dataset, is_dataset, open_store
from danq_keras.data.targets import Targets
from danq_keras.models.trained import TrainedModel
from danq_keras.recipes.config import Preset
from danq_keras.recipes.fit import fit_to_data
from danq_keras.recipes.presets import get_preset
from danq_keras.recipes.settings import MODEL_FIELDS, apply_settings
from danq_keras.system.errors import InputError
from danq_keras.system.files import (
    PathLike,
)
from danq_keras.system.terminal import log
from danq_keras.training.fine_tuning import (
    Source,
    new_layers,
    open_source,
    reopen_source,
    take_over,
)
from danq_keras.training.optimizers import check_optimizer, linear_rule
from danq_keras.training.pipeline import Order
from danq_keras.training.place import (
    DEMO_FOLDER,
    preset_name,
    read_settings_file,
    require_writable,
    run_folder,
)
from danq_keras.training.request import TrainRequest
from danq_keras.training.run_folder import (
    check_resumable,
    describe_run,
    preset_from_config,
)


@dataclass(frozen=True)
class Plan:
    """A request settled against the data, before anything is written.

    `description` is the content of config.json; `source` is the network to start from, None also
    when a run is resumed.
    """

    preset: Preset
    dataset: Dataset
    columns: list[int] | None
    description: dict[str, Any]
    source: Source | None


def request_of(
    data: Dataset | PathLike,
    out: PathLike,
    *,
    settings: Mapping[str, Any] | None = None,
    init: TrainedModel | PathLike | None = None,
    **options: Any,
) -> TrainRequest:
    """A request from what a notebook has: open datasets and models, or their paths."""
    return TrainRequest(
        data=data.folder if isinstance(data, Dataset) else Path(data),
        out=Path(out),
        settings=dict(settings or {}),
        init=None if init is None else Path(init.path if isinstance(init, TrainedModel) else init),
        **options,
    )


def with_preset(request: TrainRequest) -> TrainRequest:
    """The request with the name of the recipe that is taken when none is named.

    So the data are looked at for it once. A settings file and a resumed run have their own.

    Raises:
        InputError: the dataset is damaged.
    """
    if request.preset is not None or request.config is not None or request.resume:
        return request
    return dataclasses.replace(request, preset=preset_name(request))


def make_plan(request: TrainRequest, *, out: Path, config: dict[str, Any] | None) -> Plan:
    """Settle settings and data.

    Args:
        request: what is asked for.
        out: folder of the run, or of a set of runs.
        config: config.json of the run that is resumed; None for a new one.

    Raises:
        InputError: a user's mistake.
    """
    content = config or ({} if request.config is None else read_settings_file(request.config))
    source = _source(request, content)
    preset = _preset(request, content, source)
    check_optimizer(preset.train)  # an unknown one is said before anything is read or written
    require_writable(out)
    dataset = _dataset(request, out, config)
    said = {*content, *content.get("model", {}), *content.get("train", {})}
    if source is not None:
        said |= set(MODEL_FIELDS)  # the sizes are those of the network whose weights are taken
    preset, columns = fit_to_data(preset, dataset, request.settings, said=said)
    if request.scale_learning_rate:
        preset = _scaled(preset, dataset)
    description = describe_run(preset, dataset, columns)
    description["bootstrap"] = _bootstrap(request, content)
    if source is not None:
        targets = Targets(tuple(description["targets"]))
        description["init"] = source.record(new_layers(source, preset.model, targets))
    if config is not None:
        description |= {key: config[key] for key in ("init",) if key in config}
        check_resumable(config, description, out)
    return Plan(preset, dataset, columns, description, source)


def _scaled(preset: Preset, dataset: Dataset) -> Preset:
    """The preset with the learning rate of its batch size."""
    config = preset.train
    order = Order.of(dataset.train, seed=config.seed, limit=config.train_limit)
    rule = linear_rule(
        config,
        get_preset(preset.name),
        total_steps=config.epochs * order.steps(config.batch_size),
    )
    return apply_settings(preset, rule)


def _bootstrap(request: TrainRequest, content: dict[str, Any]) -> int:
    """Resamples for the test's intervals: the request's, the resumed run's or the settings file's.

    Raises:
        InputError: they are not those of the resumed run, or no number.
    """
    kept = content.get("bootstrap", request.bootstrap or 0)
    if not isinstance(kept, int) or kept < 0:
        raise InputError(f"bootstrap: a whole number from 0 on. Received: {kept!r}.")
    if request.resume and request.bootstrap not in (None, kept):
        raise InputError(
            f"{request.out}: this run was started with `bootstrap={kept}`, received "
            f"{request.bootstrap}. Leave `bootstrap` out; evaluate_danq.py makes intervals of any "
            "run."
        )
    return kept if request.bootstrap is None else int(request.bootstrap)


def _source(request: TrainRequest, content: dict[str, Any]) -> Source | None:
    """The network to start from, the request's or the settings file's; a resumed run has one.

    Raises:
        InputError: there is none such, it is about to be deleted, or the resumed run is of another.
    """
    if request.resume:
        recorded = content.get("init", {}).get("model")
        if request.init is not None and str(request.init.resolve()) != recorded:
            raise InputError(
                f"{request.out}: this run was started "
                f"{'without `init`' if recorded is None else f'with `init={recorded}`'}, received "
                f"{request.init}. Leave `init` out, or start a new run."
            )
        return None
    if request.init is not None:
        source = open_source(request.init)
    elif request.config is not None and "init" in content:
        source = reopen_source(content["init"], request.config)
    else:
        return None
    if source.trained.path.resolve().is_relative_to(run_folder(request).resolve()):
        raise InputError(
            f"{source.trained.path}: the model to start from is in the folder of the new run. "
            "Choose another `out`."
        )
    return source


def _preset(request: TrainRequest, content: dict[str, Any], source: Source | None) -> Preset:
    """The recipe: a preset or the resumed run's, then the settings file's, then the request's."""
    settings = request.settings
    if request.resume:
        base = preset_from_config(content)
        if request.preset is not None and request.preset != base.name:
            raise InputError(
                f"{request.out}: this run was started with `preset={base.name}`, received "
                f"{request.preset}. Leave `preset` out, or start a new run."
            )
    elif request.config is not None:
        if request.preset is not None:  # whose settings the file's replace
            content = content | {"preset": request.preset}
            content.pop("source", None)
        try:
            base = preset_from_config(content)
        except InputError as error:
            raise InputError(f"{request.config}: {error}") from error
    else:
        base = get_preset(preset_name(request))
    if source is None:
        return apply_settings(base, settings)
    return take_over(base, source, settings, fixed={*content, *content.get("model", {})})


def _dataset(request: TrainRequest, out: Path, config: dict[str, Any] | None) -> Dataset:
    if request.data is not None:
        return open_dataset(request.data, store=request.store)
    if config is not None:
        return open_store(Path(config["dataset"]["path"]))
    demo = out / DEMO_FOLDER
    if is_dataset(demo):
        return open_store(demo)
    log.info("No --data: building the simulated (synthetic) demo genome in %s.", demo)
    return make_demo(demo)
