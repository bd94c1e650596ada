"""`tune_danq.py`: look for a better-sized network and better dropout ranges with Optuna."""

import argparse
import re
import sys
from pathlib import Path

from danq_keras import __version__
from danq_keras.commands.options import add_set, list_settings, read_pairs
from danq_keras.recipes.presets import PRESETS
from danq_keras.system.command import command, run_command
from danq_keras.system.errors import ChildFailedError, InputError, require_library
from danq_keras.system.terminal import set_up_logging
from danq_keras.tuning.space import DEFAULT_SPACE, read_space, space_json

N_TRIALS = 50
_EPILOG = """\
examples:
  bin/tune_danq.py search --data my_dataset --preset danq --epochs 8 --trials 40 --jobs 2
  bin/tune_danq.py search --data my_dataset --max-parameters 5000000 --timeout 1h30m
  bin/tune_danq.py search --resume                    go on, or join from another terminal
  bin/train_danq.py --config search/best.json --data my_dataset --out runs/tuned

The first trial is the preset itself; the others are points of the space, chosen by Optuna's TPE
sampler. A pruner stops trials by their objective after an epoch: median (once 5 trials are
complete, from the 2nd epoch on: what is worse than their median), hyperband (brackets that begin
at 1 epoch, a third of each going on to three times as many).
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="tune_danq.py",
        description="Search network sizes, dropout ranges and step sizes on the validation split.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT", help="folder of the study")
    parser.add_argument("--data", type=Path, metavar="DIR", help="dataset folder or DeepSEA bundle")
    parser.add_argument("--store", type=Path, metavar="DIR", help="where a bundle's dataset goes")
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"where to start: one of {', '.join(PRESETS)} (default: as train_danq.py, danq for "
        "DeepSEA's targets and bundles, danq-fitted for other data)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the study in OUT, or join it"
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=N_TRIALS,
        metavar="N",
        help="trials of the study, pruned ones included (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout", metavar="TIME", help="end after this time, such as 90m, 2h or 1h30m"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="processes; they share the CPU's cores (default: %(default)s)",
    )
    search = parser.add_argument_group("search (settled when the study begins)")
    search.add_argument("--epochs", metavar="N", help="of a trial (default: the preset's)")
    search.add_argument(
        "--objective",
        choices=("val_loss", "val_auprc"),
        help="lowest loss or highest mean PR AUC of any epoch (default: val_loss)",
    )
    search.add_argument("--max-parameters", type=int, metavar="N", help="largest network")
    search.add_argument(
        "--pruner", choices=("median", "hyperband", "none"), help="(default: median)"
    )
    search.add_argument(
        "--space", type=Path, metavar="FILE", help="JSON file of ranges, see --show-space"
    )
    add_set(search, "a setting that is fixed, and not searched")
    search.add_argument("--seed", metavar="N", help="of training and search (default: 0)")
    parser.add_argument(
        "--show-space", action="store_true", help="print the space as JSON, and end"
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def read_time(text: str) -> float:
    """Seconds of a time such as 90m, 2h, 1h30m or 45s.

    Raises:
        InputError: it is none.
    """
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text)
    parts = [float(part or 0) for part in match.groups()] if match else []
    seconds = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if not seconds:
        raise InputError(f"--timeout: a time such as 90m, 2h or 1h30m. Received: {text!r}.")
    return seconds


@command(parser, settings="--set")
def main(argv: list[str] | None = None) -> int:
    """Search, and write the best settings.

    Raises:
        InputError: a user's mistake, before anything is written where possible.
    """
    args = parser().parse_args(argv)
    set_up_logging()
    if args.show_space:
        print(space_json(DEFAULT_SPACE if args.space is None else read_space(args.space)))
        return 0
    if args.list_settings:
        list_settings(args.preset, args.data)
        return 0
    if args.out is None:
        raise InputError("OUT: say which folder the study goes to.")
    timeout = None if args.timeout is None else read_time(args.timeout)
    fixed = {name: getattr(args, name) for name in ("epochs", "seed")}
    given = {name: value for name, value in fixed.items() if value is not None}
    settings = read_pairs(args.pairs, given)
    require_library("optuna", "Optuna", program="tune_danq.py", extra="tune")
    from danq_keras.tuning.search import tune

    names = ("store", "preset", "space", "objective", "max_parameters", "pruner")
    try:
        tune(
            args.data,
            args.out,
            trials=args.trials,
            jobs=args.jobs,
            timeout=timeout,
            resume=args.resume,
            settings=settings,
            **{name: getattr(args, name) for name in names},
        )
    except ChildFailedError as error:
        return error.status
    return 0


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
