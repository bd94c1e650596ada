"""What `predict_danq.py` does once its input is open; loads Keras."""

import argparse
import time

from danq_keras.inputs import Windows
from danq_keras.predict import load_trained
from danq_keras.predict_stream import check_window, write_predictions

_STRANDS = {
    "forward": "forward strand, rows as given",
    "both": "both strands, mean with the reverse complement",
}


def predict(args: argparse.Namespace, windows: Windows) -> int:
    """Load the model, predict, say what was done."""
    begin = time.monotonic()
    model = load_trained(args.model)
    check_window(model, windows)
    windows.check()
    strands = args.strands or ("both" if windows.both_strands else "forward")
    write_predictions(
        model,
        windows,
        args.output,
        strands=strands,
        batch_size=args.batch_size,
        overwrite=args.overwrite,
    )
    print(
        f"{args.output}: {windows.n_windows:,} windows × {len(model.targets):,} targets, "
        f"{_STRANDS[strands]}, {time.monotonic() - begin:.1f} s"
    )
    return 0
