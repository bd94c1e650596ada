"""One run of a set (repeats, folds) in a process of its own; `processes` starts it.

Takes the plan file of a `RunOrder`.
"""

import json
import sys
from pathlib import Path

from danq_keras.recipes.settings import setting_text
from danq_keras.system.command import command, run_command
from danq_keras.system.tensorflow import start_tensorflow
from danq_keras.system.terminal import set_up_logging
from danq_keras.training.request import TrainRequest


@command(None, settings="--set", freeze_conv_epochs="--freeze-conv")
def main(argv: list[str] | None = None) -> int:
    """Train and test, and predict the test split where the plan asks for it."""
    (plan,) = sys.argv[1:] if argv is None else argv
    content = json.loads(Path(plan).read_text(encoding="utf-8"))
    set_up_logging()
    start_tensorflow()
    from danq_keras.training.run import run_request

    request = TrainRequest.from_json(content["request"])
    run = run_request(request, command=command_line(request))
    if content["predict_test"]:
        assert request.data is not None
        _predict_test(run.folder, request.data)
    return 0


def command_line(request: TrainRequest) -> list[str]:
    """The command that makes the same run, for its environment.json."""
    words = ["train_danq.py"]
    for name in ("data", "out", "preset", "bootstrap", "init"):
        value = getattr(request, name)
        if value is not None:
            words += [f"--{name}", str(value)]
    if request.resume:
        words.append("--resume")
    return [*words, "--set", *(f"{k}={setting_text(v)}" for k, v in request.settings.items())]


def _predict_test(run: Path, data: Path) -> None:
    from danq_keras.data.inputs import open_windows
    from danq_keras.models.trained import load_model
    from danq_keras.prediction.stream import Request, strands_of, write_predictions
    from danq_keras.runs.pooling import PREDICTIONS

    path = run / PREDICTIONS
    windows = open_windows(data, "test")
    model = load_model(run)
    request = Request(strands_of(windows, model))
    write_predictions([model], windows, out=path, request=request, overwrite=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
