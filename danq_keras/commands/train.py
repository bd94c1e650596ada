"""`train_danq.py`: train, validate every epoch, test, compare, report."""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from danq_keras import __version__
from danq_keras.commands.options import add_set, list_settings, read_pairs
from danq_keras.recipes.presets import PRESETS
from danq_keras.system.command import command, run_command
from danq_keras.system.errors import ChildFailedError, InputError
from danq_keras.system.slurm import read_cluster
from danq_keras.system.tensorflow import start_tensorflow
from danq_keras.system.terminal import set_up_logging
from danq_keras.training.place import check_place, check_set_place, joins_cluster
from danq_keras.training.request import TrainRequest, check_request
from danq_keras.training.tracking import TRACKERS, require_tracker

_EPILOG = """\
examples:
  bin/train_danq.py                                   the simulated demo, in minutes
  bin/train_danq.py --data deepsea_train --preset danq --precision auto
  bin/train_danq.py --data deepsea_train --preset danq --batch-size 1000 --scale-learning-rate
  bin/train_danq.py --data my_dataset --preset danq --out runs/mine --set gates=hard
  bin/train_danq.py --out runs/mine --resume
  bin/train_danq.py --data my_dataset --init runs/danq-deepsea --freeze-conv 2 --out runs/tuned
  bin/train_danq.py --data my_dataset --out runs/five --repeats 5 --jobs 2
  bin/train_danq.py --data my_dataset --out runs/crossed --folds 5
"""
_FLAGS = (
    "epochs",
    "batch_size",
    "optimizer",
    "learning_rate",
    "global_clipnorm",
    "precision",
    "seed",
    "data_seed",
    "train_limit",
    "targets",
    "patience",
    "distribute",
    "accumulate",
    "restudy",
    "freeze_conv_epochs",
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="train_danq.py",
        description="Train DanQ or a relative, test it, and compare it with the paper.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="a dataset folder, or a DeepSEA bundle (folder or .tar.gz), which is converted once "
        "(default: the simulated demo, built in --out)",
    )
    parser.add_argument(
        "--store", type=Path, metavar="DIR", help="where a bundle's dataset goes (default: by it)"
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"one of {', '.join(PRESETS)} (default: danq for DeepSEA's 919 "
        "targets and bundles, danq-fitted for other data, demo without --data)",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="JSON file of settings")
    parser.add_argument(
        "--init",
        type=Path,
        metavar="MODEL",
        help="start from the weights (and sizes) of this run folder or .keras file; the output "
        "layer is new unless MODEL has all the targets",
    )
    parser.add_argument(
        "--out", type=Path, metavar="RUN", help="run folder (default: runs/<preset>-<dataset>)"
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    parser.add_argument(
        "--bootstrap", type=int, metavar="N", help="resamples for test intervals (default: 0)"
    )
    several = parser.add_argument_group("several runs, in --out/seed-… or --out/fold-…")
    several.add_argument(
        "--repeats", type=int, metavar="N", help="train N seeds on the same data: mean and spread"
    )
    several.add_argument(
        "--folds", type=int, metavar="K", help="K-fold cross-validation over chromosomes"
    )
    several.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="runs at once, each with its share of the cores; another number of threads rounds "
        "sums in another way (default: 1)",
    )
    several.add_argument(
        "--until-loss",
        nargs="+",
        metavar="X",
        help="count the epochs until the validation loss comes to X, or within X%% of its best "
        "(default: 1%%)",
    )
    parser.add_argument(
        "--log",
        choices=TRACKERS,
        help="log the run, or each of several, there too (extra wandb; WANDB_MODE=offline keeps it "
        "in the run folder)",
    )
    settings = parser.add_argument_group("settings (default: the preset's)")
    settings.add_argument("--epochs", metavar="N")
    settings.add_argument("--batch-size", metavar="N", help="samples (strands) a step")
    settings.add_argument("--optimizer", metavar="NAME", help="rmsprop, adam, sgd, …")
    settings.add_argument("--learning-rate", metavar="X")
    settings.add_argument(
        "--scale-learning-rate",
        action="store_true",
        help="with another --batch-size than the preset's: as many times its learning rate, and a "
        "warm-up (danq and its like, whose steps are proportional to gradients)",
    )
    settings.add_argument("--global-clipnorm", metavar="X", help="clip gradients to this norm")
    settings.add_argument(
        "--precision", metavar="P", help="float32, mixed_float16, mixed_bfloat16 or auto"
    )
    settings.add_argument("--seed", metavar="N", help="of weights, order and dropout")
    settings.add_argument("--data-seed", metavar="N", help="of the choice of --train-limit")
    settings.add_argument("--train-limit", metavar="N", help="train on N windows only")
    settings.add_argument("--targets", metavar="A,B", help="targets by number or name")
    settings.add_argument("--patience", metavar="N", help="epochs without a better loss, or none")
    settings.add_argument(
        "--distribute", metavar="S", help="none, mirrored (all GPUs) or multiworker (machines)"
    )
    settings.add_argument(
        "--accumulate", metavar="K", help="take a device's share of a batch in K parts"
    )
    settings.add_argument(
        "--restudy",
        metavar="FRACTION",
        help="share of the windows that come again in the next epoch: those whose loss most "
        "exceeds what the network expects (restudy_mode=replace: in the place of others)",
    )
    settings.add_argument(
        "--freeze-conv",
        dest="freeze_conv_epochs",
        metavar="EPOCHS",
        help="keep the convolution's weights in the first epochs",
    )
    add_set(settings, "any other setting of network or training, such as dropout_pool=0.1,0.3")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line names, as text."""
    flags = {name: getattr(args, name) for name in _FLAGS if getattr(args, name) is not None}
    return read_pairs(args.pairs, flags)


def _is_set(args: argparse.Namespace) -> bool:
    """Whether the command line asks for a set of runs, new or resumed.

    Raises:
        InputError: it does not, but has an option that only a set knows.
    """
    if args.repeats is not None or args.folds is not None:
        return True
    from danq_keras.runs.sets import set_kind  # here: its tables take half a second to import

    if args.resume and args.out is not None and set_kind(args.out) is not None:
        return True
    for name in ("jobs", "until_loss"):
        if getattr(args, name) is not None:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag}: for several runs. Give --repeats N or --folds K with it.")
    return False


@command(parser)
def main(argv: list[str] | None = None) -> int:
    """Train, test and report.

    Raises:
        InputError: a user's mistake, before anything is written where possible.
    """
    args = parser().parse_args(argv)
    set_up_logging()
    if args.list_settings:
        list_settings(args.preset, args.data)
        return 0
    settings = _settings(args)
    several = _is_set(args)
    request = TrainRequest(
        settings=settings,
        **{
            field.name: getattr(args, field.name)
            for field in dataclasses.fields(TrainRequest)
            if field.name != "settings"
        },
    )
    require_tracker(request.log)
    check_request(request)  # before TensorFlow starts, which takes seconds
    (check_set_place if several else check_place)(request)
    start_tensorflow(cluster=read_cluster() if not several and joins_cluster(request) else None)
    if several:
        from danq_keras.runs.train_set import Several, train_set

        until = None if args.until_loss is None else tuple(args.until_loss)
        try:
            train_set(request, Several(args.repeats, args.folds, args.jobs, until))
        except ChildFailedError as error:
            return error.status
        return 0
    from danq_keras.training.run import run_request

    done = run_request(request)
    if not done.trained:
        print(f"{done.folder}: this run is complete. Its report: {done.folder / 'report.html'}")
    return 0


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
