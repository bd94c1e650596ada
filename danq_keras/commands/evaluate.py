"""`evaluate_danq.py`: the table of AUCs and the report of a trained network on a dataset."""

import argparse
import sys
from pathlib import Path

from danq_keras import __version__
from danq_keras.commands.options import add_ensemble, add_model, add_target_names
from danq_keras.data.bundle import open_dataset
from danq_keras.models.shipped import model_file
from danq_keras.system.command import command, run_command
from danq_keras.system.errors import InputError
from danq_keras.system.files import is_unfinished, outputs_together, refuse_existing
from danq_keras.system.tensorflow import start_tensorflow
from danq_keras.system.terminal import set_up_logging

_EPILOG = """\
example:
  bin/evaluate_danq.py runs/danq-mine --data my_dataset --bootstrap 1000 --out evaluation
"""
_FILES = ("test_aucs.tsv", "test_summary.json", "report.html", "comparison.md", "comparison.tsv")
_TOGETHER = "evaluation"
_COPIED = ("config.json", "environment.json", "history.csv")  # of the run, beside its report


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="evaluate_danq.py",
        description="Test a trained network: per-target AUCs, summary, comparison, report.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="dataset folder or DeepSEA bundle"
    )
    parser.add_argument("--store", type=Path, metavar="DIR", help="where a bundle's dataset goes")
    parser.add_argument(
        "--split",
        choices=("train", "valid", "test"),
        default="test",
        help="split to test on (default: %(default)s)",
    )
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=0,
        metavar="N",
        help="resamples of 100-kb blocks for 95 %% intervals (default: none)",
    )
    parser.add_argument(
        "--min-positives",
        type=int,
        default=1,
        metavar="N",
        help="targets with fewer positives are left out of means (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=200, metavar="N", help="windows (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the files (default: the run folder)"
    )
    add_ensemble(parser, "tested")
    add_target_names(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the files in --out")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


@command(parser)
def main(argv: list[str] | None = None) -> int:
    """Evaluate and report.

    Raises:
        InputError: a user's mistake, such as a network that does not fit the dataset.
    """
    args = parser().parse_args(argv)
    set_up_logging()
    for name in ("min_positives", "batch_size"):
        if getattr(args, name) < 1:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag}: at least 1. Received: {getattr(args, name)}.")
    if args.bootstrap < 0:
        raise InputError(f"--bootstrap: must not be negative. Received: {args.bootstrap}.")
    run = args.model if args.model.is_dir() else args.model.parent
    out = args.out or (args.model if args.model.is_dir() else Path())
    copied = () if out.resolve() == run.resolve() else _COPIED
    for name in (*_FILES, *copied):
        refuse_existing(out / name, overwrite=args.overwrite or is_unfinished(out / _TOGETHER))
    for path in (args.model, *args.ensemble):
        model_file(path)
    dataset = open_dataset(args.data, store=args.store)  # before TensorFlow starts: seconds
    start_tensorflow()
    from danq_keras.evaluation.evaluate import (
        Evaluation,
        check_fit,
        evaluate_model,
        print_summary,
    )
    from danq_keras.models.trained import load_model

    model = load_model(args.model, targets=args.target_names)
    dataset.verify()
    how = Evaluation(
        split=args.split,
        bootstrap=args.bootstrap,
        min_positives=args.min_positives,
        batch_size=args.batch_size,
        columns=check_fit(model, dataset, None),
    )
    out.mkdir(parents=True, exist_ok=True)
    others = [load_model(path, targets=args.target_names) for path in args.ensemble]
    result = evaluate_model(model, dataset, how=how, cache=out, ensemble=others)
    with outputs_together(out / _TOGETHER):
        result.report(out, command=sys.argv if argv is None else ["evaluate_danq.py", *argv])
    print_summary(result.summary, out)
    return 0


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
