"""Where a run goes, and whether it may; said at once, since it loads neither TensorFlow nor Keras.

What is said here is said again, by the same words, when the run begins: another process may have
come in between.
"""

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from danq_keras.data.bundle import require_data
from danq_keras.models.shipped import model_file
from danq_keras.recipes.fit import preset_for
from danq_keras.recipes.presets import get_preset
from danq_keras.recipes.settings import apply_settings
from danq_keras.system.claims import CLAIM, is_leftover, require_unclaimed
from danq_keras.system.cluster import worker_number
from danq_keras.system.errors import InputError
from danq_keras.system.files import load_json, refuse_existing
from danq_keras.system.inputs import input_file
from danq_keras.training.request import TrainRequest
from danq_keras.training.run_folder import read_config, require_run

DEMO_FOLDER = "demo_data"
_OF_A_START = {DEMO_FOLDER, "run.log", CLAIM}


def check_place(request: TrainRequest) -> None:
    """Refuse what a single run would refuse after TensorFlow has started, which takes seconds.

    Raises:
        InputError: the folder of the run is taken, or nothing to resume; there are no such data,
            settings or model.
    """
    out = run_folder(request)
    if request.resume:
        read_config(out)
    if is_chief(request):  # of several machines the others leave the folder to it
        if not request.resume:
            refuse_used(out, overwrite=request.overwrite)
        require_writable(out)
        require_unclaimed(out)
    _check_words(request)


def joins_cluster(request: TrainRequest) -> bool:
    """Whether the run is one of several machines, by the request, its file or the resumed run.

    Raises:
        InputError: there is no such run or file; or a run of several machines has no data.
    """
    settings: Mapping[str, Any] = {}
    if request.resume:
        settings = read_config(run_folder(request))["train"]
    elif request.config is not None:
        content = read_settings_file(request.config)
        inside = content.get("train")
        settings = content | (inside if isinstance(inside, dict) else {})
    joins = request.settings.get("distribute", settings.get("distribute")) == "multiworker"
    if joins and request.data is None and not request.resume:
        raise InputError("`distribute=multiworker`: give `data`. The demo is for one machine.")
    return joins


def is_chief(request: TrainRequest) -> bool:
    """Whether this process writes: unless it is another worker than 0 of several machines.

    Raises:
        InputError: the run is one of several machines, and nothing says which they are.
    """
    return not joins_cluster(request) or worker_number() == 0


def check_set_place(request: TrainRequest) -> None:
    """Refuse what a set of runs would refuse later, as `check_place` does for a single one.

    Raises:
        InputError: the folder of the set is taken; there are no such data, settings or model.
    """
    if not request.resume and joins_cluster(request):
        raise InputError(
            "`distribute=multiworker`: for a single run. Leave `repeats` and `folds` out, and "
            "start a run a seed."
        )
    if request.out is not None:
        if not request.resume and is_used(request.out):
            refuse_existing(request.out, overwrite=request.overwrite)
        require_writable(request.out)
        require_unclaimed(request.out)
    _check_words(request)


def _check_words(request: TrainRequest) -> None:
    """Refuse files that are not there, and settings that there are none of.

    Raises:
        InputError: the first of them.
    """
    if request.config is not None:
        read_settings_file(request.config)
    if request.init is not None and not request.resume:
        model_file(request.init)
    checks_settings = request.config is None and request.init is None and not request.resume
    if checks_settings and request.preset is not None:  # which needs no data to be known
        apply_settings(get_preset(request.preset), request.settings)
    if request.data is not None:
        require_data(request.data)
    if checks_settings:
        apply_settings(get_preset(preset_name(request)), request.settings)


def refuse_used(out: Path, *, overwrite: bool) -> None:
    """Stop before any work when a folder is in use, or holds what is no run.

    Raises:
        InputError: `out` holds something, and is no run or may not be overwritten.
    """
    if is_used(out):
        refuse_existing(out, overwrite=overwrite)
        require_run(out)


def is_used(out: Path) -> bool:
    """Whether something is there that a new run would take the place of.

    Not what a start leaves that ended before it had written anything worth keeping.
    """
    if not out.is_dir():
        return out.exists()
    return any(
        path.name not in _OF_A_START and not is_leftover(path.name) for path in out.iterdir()
    )


def require_writable(out: Path) -> None:
    """Say now what would otherwise be said after the data have been converted.

    Raises:
        OSError: `out` cannot be written or made.
    """
    place = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(out))
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(out))


def read_settings_file(path: Path) -> dict[str, Any]:
    """A JSON file of settings, such as a run's config.json.

    Raises:
        InputError: there is none, or it is something else.
    """
    source = input_file(path)
    try:
        content = load_json(source)
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file ({error}). Give a run's config.json.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object of settings. Give a run's config.json.")
    return content


def preset_name(request: TrainRequest) -> str:
    """The named recipe, or the one for the data: `danq` for DeepSEA's targets and for bundles."""
    if request.preset is not None:
        return request.preset
    if request.config is not None and request.data is not None:
        return "danq"
    return preset_for(request.data)


def run_folder(request: TrainRequest) -> Path:
    """The folder that a request names, or where its run goes without one."""
    if request.out is not None:
        return Path(request.out)
    name = "demo"
    if request.data is not None:
        name = request.data.resolve().name.removesuffix(".gz").removesuffix(".tar")
    preset = preset_name(request)
    return Path("runs") / (preset if preset == name else f"{preset}-{name}")
