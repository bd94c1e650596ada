"""One run of a set (`--repeats`, `--folds`) in a process of its own; `several_runs` starts it.

Takes the command line of `train_danq.py`, after `--predict-test` where the predictions of the test
split are wanted too.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from danq_keras.commands import train
from danq_keras.runs.processes import PREDICT_TEST
from danq_keras.system.command import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Train and test, and predict the test split where that is asked for."""
    words = list(sys.argv[1:] if argv is None else argv)
    predict_test = words[:1] == [PREDICT_TEST]
    words = words[predict_test:]
    sys.argv = ["train_danq.py", *words]  # environment.json tells it
    status = train.main(words)
    if predict_test and not status:
        args = train.parser().parse_args(words)
        _predict_test(args.out, args.data)
    return status


def _predict_test(run: Path, data: Path) -> None:
    from danq_keras.data.inputs import open_windows
    from danq_keras.models.trained import load_model
    from danq_keras.prediction.stream import Request, write_predictions
    from danq_keras.runs.pooling import PREDICTIONS

    path = run / PREDICTIONS
    windows = open_windows(data, "test")
    request = Request("both" if windows.both_strands else "forward")
    write_predictions([load_model(run)], windows, out=path, request=request, overwrite=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
