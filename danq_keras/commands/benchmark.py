"""`benchmark.py`: speed and memory, each as a ratio to a yardstick that runs in the same call.

A yardstick is a module of `benchmarks/` with a dataclass `Options` and `run(options) -> int`; it
imports what is heavy inside `run`. It is listed in `YARDSTICKS`.
"""

import argparse
import dataclasses
import importlib
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from danq_keras import __version__
from danq_keras.system.command import command, run_command
from danq_keras.system.terminal import set_up_logging

YARDSTICKS: Mapping[str, str] = {
    "convert": "train.mat → store, against h5py reading the same file",
    "genome": "a genome of mm10's size and its peaks → store, against reading the FASTA",
    "loader": "samples a second of the training pipeline, against h5py reading the .mat",
    "metrics": "exact metrics of all targets, against a loop over scikit-learn",
    "rehearsal": "the main job on a simulated bundle of DeepSEA's size, time and memory by stage",
    "steps": "how far each layer moves a step under other optimizers, against DanQ's own",
    "train": "samples a second of a training step, against a PyTorch twin",
    "variants": "variants a second from VCF to effects, against the network alone",
}


def parser(chosen: Sequence[str] = tuple(YARDSTICKS)) -> argparse.ArgumentParser:
    """The command line.

    Args:
        chosen: yardsticks whose modules are imported for their arguments.
    """
    result = argparse.ArgumentParser(
        prog="benchmark.py",
        description="Measure speed and memory against a yardstick that runs in the same call.",
        epilog="example: bin/benchmark.py convert --rows 200000",
    )
    result.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parts = result.add_subparsers(dest="yardstick", required=True, metavar="YARDSTICK")
    for name, summary in YARDSTICKS.items():
        part = parts.add_parser(
            name,
            help=summary,
            description=summary,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        if name in chosen:
            _add_options(part, _module(name).Options)
    return result


def _add_options(part: argparse.ArgumentParser, options: type) -> None:
    """A flag for each field of a yardstick's options."""
    kinds = typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        flag = "--" + field.name.replace("_", "-")
        text = field.metadata["help"]
        if kinds[field.name] is bool:
            part.add_argument(flag, action="store_true", help=text)
            continue
        kind = next(
            kind for kind in (int, float, Path, str) if kind in _alternatives(kinds[field.name])
        )
        part.add_argument(flag, type=kind, default=field.default, help=text)


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) or (kind,)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"danq_keras.benchmarks.{name.replace('-', '_')}")


@command(parser)
def main(argv: list[str] | None = None) -> int:
    """Run one yardstick."""
    words = sys.argv[1:] if argv is None else argv
    args = parser([name for name in YARDSTICKS if name in words]).parse_args(argv)
    module = _module(args.yardstick)
    names = [field.name for field in dataclasses.fields(module.Options)]
    status: int = module.run(module.Options(**{name: getattr(args, name) for name in names}))
    return status


def cli() -> None:
    """Entry point."""
    set_up_logging()
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
