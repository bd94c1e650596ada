"""One run of a set (`--repeats`, `--folds`) in a process of its own; `several_runs` starts it.

The parsed command line comes pickled through stdin.
"""

import pickle
import sys
from pathlib import Path

from danq_keras.commands.several_runs import RunOrder
from danq_keras.commands.start import start_tensorflow
from danq_keras.console import run_command, set_up_logging


def main(_argv: list[str] | None = None) -> int:
    """Train and test, and predict the test split where that is asked for."""
    order: RunOrder = pickle.load(sys.stdin.buffer)
    sys.argv = order.command  # environment.json tells it
    set_up_logging()
    start_tensorflow()
    from danq_keras.commands import training_session

    status = training_session.run(order.args, order.settings)
    if order.predict_test and not status:
        _predict_test(Path(order.args.out), Path(order.args.data))
    return status


def _predict_test(run: Path, data: Path) -> None:
    from danq_keras.inputs import open_windows
    from danq_keras.pooling import PREDICTIONS
    from danq_keras.predict import load_trained
    from danq_keras.predict_stream import write_predictions

    path = run / PREDICTIONS
    windows = open_windows(data, "test")
    strands = "both" if windows.both_strands else "forward"
    write_predictions(load_trained(run), windows, path, strands=strands, overwrite=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
