"""`make_dataset.py`: make datasets, export them, and look at them."""

import argparse
import sys
from pathlib import Path
from typing import Any

from danq_keras import __version__
from danq_keras.system.command import command, name_flags, run_command
from danq_keras.system.files import refuse_existing
from danq_keras.system.terminal import set_up_logging

_EXAMPLES = {
    "": "bin/make_dataset.py genome data/yeast --genome sacCer3.fa.gz --peaks peaks/*.bed "
    "--test-chroms chr8,chr9 --valid-region chr7",
    "deepsea": "bin/make_dataset.py deepsea data/deepsea --bundle deepsea_train_bundle.v0.9.tar.gz",
    "genome": "bin/make_dataset.py genome data/yeast --genome sacCer3.fa.gz --peaks peaks/*.bed "
    "--resize-peaks 200 --test-chroms chr8,chr9 --valid-region chr7",
    "sequences": "bin/make_dataset.py sequences data/gabpa --table GABPA.tsv.gz",
    "demo": "bin/make_dataset.py demo data/demo",
    "export-mat": "bin/make_dataset.py export-mat yeast_mat --dataset data/yeast",
    "info": "bin/make_dataset.py info data/yeast --targets",
    "verify": "bin/make_dataset.py verify data/yeast",
    "compare": "bin/make_dataset.py compare data/published data/rebuilt --out agreement.tsv",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="make_dataset.py",
        description="Make a dataset (train.h5, valid.h5, test.h5), export it, or look at it.",
        epilog=f"example:\n  {_EXAMPLES['']}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_deepsea(commands)
    _add_genome(commands)
    _add_sequences(commands)
    _add_demo(commands)
    _add_export(commands)
    _add_looking(commands)
    return parser


def _subcommand(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {_EXAMPLES[name]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return command


def _add_out(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("out", type=Path, metavar="OUT", help=f"the new folder {what}")
    command.add_argument(
        "--overwrite", action="store_true", help="replace OUT if it is there (default: refuse)"
    )


def _add_deepsea(commands: Any) -> None:
    command = _subcommand(commands, "deepsea", "convert DeepSEA's .mat files into a dataset")
    _add_out(command, "of the dataset")
    command.add_argument(
        "--bundle",
        type=Path,
        required=True,
        metavar="DIR_OR_TAR",
        help="folder with train.mat, valid.mat and test.mat, or the .tar.gz of it",
    )


def _add_demo(commands: Any) -> None:
    command = _subcommand(commands, "demo", "simulate a small synthetic genome and its dataset")
    _add_out(command, "of the dataset and its FASTA and BED files")
    command.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")


def _add_export(commands: Any) -> None:
    command = _subcommand(commands, "export-mat", "write a dataset as DeepSEA's .mat files")
    _add_out(command, "of train.mat, valid.mat, test.mat and the table of targets")
    command.add_argument(
        "--dataset", type=Path, required=True, metavar="DIR", help="the dataset folder"
    )


def _add_looking(commands: Any) -> None:
    info = _subcommand(commands, "info", "show what a dataset holds")
    info.add_argument("dataset", type=Path, metavar="DATASET", help="the dataset folder")
    info.add_argument(
        "--targets", action="store_true", help="also a line a target (default: totals only)"
    )
    info.add_argument(
        "--no-duplicates",
        dest="duplicates",
        action="store_false",
        help="do not look for windows that two splits share (a minute for 2 million windows)",
    )
    verify = _subcommand(commands, "verify", "read all of a dataset and compare its checksums")
    verify.add_argument("dataset", type=Path, metavar="DATASET", help="the dataset folder")
    compare = _subcommand(commands, "compare", "compare sequences and labels of two datasets")
    compare.add_argument("a", type=Path, metavar="A", help="a dataset folder")
    compare.add_argument("b", type=Path, metavar="B", help="the other one")
    compare.add_argument(
        "--by-number",
        action="store_true",
        help="join the targets by number (default: by name, the same ones in both)",
    )
    compare.add_argument(
        "--out", dest="table", type=Path, metavar="TSV", help="table with a row a target"
    )
    compare.add_argument(
        "--overwrite", action="store_true", help="replace the table if it is there"
    )


def _add_genome(commands: Any) -> None:
    command = _subcommand(commands, "genome", "build a dataset from a genome and peak files")
    _add_out(command, "of the dataset")
    _add_sources(command)
    _add_labelling(command)
    _add_splitting(command)
    _add_filters(command)


def _add_sources(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("sources")
    group.add_argument(
        "--genome", type=Path, required=True, metavar="FASTA", help="plain, bgzip, gzip or a pipe"
    )
    group.add_argument(
        "--peaks",
        type=Path,
        nargs="+",
        default=[],
        metavar="BED",
        help="BED or narrowPeak files, plain, gzip or pipes, one a target; the file's name without "
        ".bed, .narrowPeak, .gz is the target's (default: the files of --targets)",
    )
    group.add_argument(
        "--targets",
        type=Path,
        metavar="TABLE",
        help="table with the columns file, name and optional cell_type, assay, treatment, group "
        "(default: named by file)",
    )
    group.add_argument(
        "--chroms",
        type=_names,
        metavar="A,B,…",
        help="chromosomes in use (default: all of the FASTA)",
    )
    group.add_argument(
        "--chrom-names",
        choices=("strip", "add"),
        help="take the leading chr of the chromosomes in peaks, bins, regions and split tables "
        "away, or add one, to fit the FASTA's names (default: as they are)",
    )


def _add_labelling(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("bins and labels")
    group.add_argument(
        "--bin", type=int, default=200, metavar="BP", help="bases a bin (default: %(default)s)"
    )
    group.add_argument(
        "--window",
        type=int,
        default=1000,
        metavar="BP",
        help="bases that the network reads, the bin in the middle (default: %(default)s)",
    )
    group.add_argument(
        "--min-overlap",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="a bin is positive when more than this share of it is covered (default: %(default)s)",
    )
    group.add_argument(
        "--resize-peaks",
        type=int,
        metavar="BP",
        help="give each peak this length around its summit or centre (default: as they are)",
    )
    group.add_argument(
        "--min-signal",
        type=float,
        metavar="X",
        help="leave out peaks with a lower narrowPeak signal, or BED score (default: none)",
    )
    group.add_argument(
        "--ignore",
        type=Path,
        metavar="TABLE",
        help="table with the columns target, file: BED of regions that the target's assay cannot "
        "judge; labels of bins that share a base with one do not count (default: all count)",
    )


def _add_splitting(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("splits")
    group.add_argument(
        "--test-chroms",
        type=_names,
        default=(),
        metavar="A,B,…",
        help="chromosomes of the test split (default: none)",
    )
    group.add_argument(
        "--valid-region",
        metavar="CHROM[:START-END]",
        help="validation split, 1-based and inclusive (default: none)",
    )
    group.add_argument(
        "--split-table",
        type=Path,
        metavar="TSV",
        help="in place of the two: a table with the columns chrom, split (train, valid, test) and "
        "optional start, end (0-based, half-open); the rest of the genome is left out",
    )
    group.add_argument(
        "--allow-adjacent",
        action="store_true",
        help="keep training windows that overlap a validation or test bin (default: leave out)",
    )
    group.add_argument(
        "--max-train",
        type=int,
        metavar="N",
        help="keep the first N training windows, in the order of the rows (default: all)",
    )
    group.add_argument(
        "--expect-windows",
        type=_three_counts,
        metavar="TRAIN,VALID,TEST",
        help="write nothing unless the splits have these numbers of windows (default: any)",
    )


def _add_filters(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("which bins to keep")
    group.add_argument(
        "--bins",
        type=Path,
        metavar="BED",
        help="use these bins, in this order (default: all of the genome, from 0 on)",
    )
    group.add_argument(
        "--exclude",
        type=Path,
        metavar="BED",
        help="leave out bins that share a base with one of these regions (default: none)",
    )
    group.add_argument(
        "--keep-if",
        type=_names,
        default=(),
        metavar="NAMES",
        help="keep bins with a peak of one of these targets (names, numbers or groups, separated "
        "by commas; default: of any target)",
    )
    group.add_argument(
        "--keep-unlabelled",
        action="store_true",
        help="keep bins without a peak too (default: leave out)",
    )
    group.add_argument(
        "--negatives",
        metavar="shuffle[:K]|genome[:K]",
        help="add K windows without a peak for each with one: its shuffles, which keep the counts "
        "of neighbouring bases, or windows of the genome with as much G and C, away from all "
        "peaks and from --exclude (default: none)",
    )
    group.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    _add_strands(group)
    group.add_argument(
        "--max-unknown",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="leave out windows with a larger share of unknown bases (default: %(default)s)",
    )


def _add_strands(group: Any) -> None:
    group.add_argument(
        "--strands",
        choices=("both", "given"),
        default="both",
        help="given: only the strand as it stands has a meaning, as in RNA; of peaks the strand of "
        "column 6 (default: both)",
    )


def _add_sequences(commands: Any) -> None:
    command = _subcommand(commands, "sequences", "build a dataset from sequences with labels")
    _add_out(command, "of the dataset")
    _add_labelled(command.add_argument_group("sources"))
    group = command.add_argument_group("splits, strands, negatives")
    group.add_argument(
        "--valid-fraction",
        type=float,
        metavar="SHARE",
        help="validation, drawn where the table has no split (default: 0.1); equal and nearly "
        "equal sequences stay together",
    )
    group.add_argument(
        "--test-fraction", type=float, metavar="SHARE", help="the same for testing (default: 0.1)"
    )
    group.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    _add_strands(group)
    group.add_argument(
        "--negatives",
        metavar="FASTA|shuffle[:K]",
        help="unbound sequences beside --positives, or K shuffles of every positive sequence that "
        "keep the counts of neighbouring bases (default: none)",
    )
    group.add_argument(
        "--conflicts",
        choices=("refuse", "drop", "keep"),
        default="refuse",
        help="equal sequences with different labels (default: refuse)",
    )
    group.add_argument(
        "--drop-shared",
        action="store_true",
        help="leave out training sequences that are in validation or test too, or nearly "
        "(default: count and warn)",
    )


def _add_labelled(group: Any) -> None:
    group.add_argument(
        "--table",
        dest="sequences",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="TSV or CSV, plain or gzip: a column sequence, columns of 0 and 1 (each a target; of "
        "a single column label the file's name is), optional split (train, valid, test)",
    )
    group.add_argument(
        "--positives", type=Path, metavar="FASTA", help="bound sequences, in place of --table"
    )
    group.add_argument("--target", metavar="NAME", help="of the only target (default: the file's)")
    group.add_argument("--sequence-column", metavar="NAME", help="(default: sequence)")
    group.add_argument("--split-column", metavar="NAME", help="(default: split, if there is one)")
    group.add_argument(
        "--label-columns", type=_names, metavar="A,B,…", help="(default: every column of 0 and 1)"
    )
    group.add_argument(
        "--targets-column",
        metavar="NAME",
        help="column that lists a row's positive targets, separated by commas or semicolons "
        "(default: targets, if there is one)",
    )
    group.add_argument(
        "--window",
        type=int,
        metavar="BP",
        help="cut or fill every sequence to this length around its middle (default: refuse "
        "sequences of unequal length)",
    )


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("expected names, separated by commas")
    return names


def _three_counts(text: str) -> tuple[int, ...]:
    counts = text.split(",")
    if len(counts) != 3 or not all(count.strip().isdecimal() for count in counts):
        raise argparse.ArgumentTypeError("expected three whole numbers, separated by commas")
    return tuple(map(int, counts))


@command(parser)
def main(argv: list[str] | None = None) -> int:
    """Make, export or inspect a dataset.

    Raises:
        InputError: a source, a choice or an output is unusable.
    """
    args = parser().parse_args(argv)
    set_up_logging()
    handlers = {
        "deepsea": _deepsea,
        "genome": _genome,
        "sequences": _sequences,
        "demo": _demo,
        "export-mat": _export,
        "info": _info,
        "verify": _verify,
        "compare": _compare,
    }
    handlers[args.command](args)
    return 0


def _deepsea(args: argparse.Namespace) -> None:
    from danq_keras.data.bundle import bundle_to_dataset
    from danq_keras.data.describe import describe_dataset

    print(describe_dataset(bundle_to_dataset(args.bundle, args.out, overwrite=args.overwrite)))
    print(f"Written: {args.out}")


def _genome(args: argparse.Namespace) -> None:
    from danq_keras.data.build import build_dataset
    from danq_keras.data.spec import GenomeSpec

    choices: dict[str, Any] = {
        name: value for name, value in vars(args).items() if name in GenomeSpec.__dataclass_fields__
    }
    summary = build_dataset(args.out, overwrite=args.overwrite, **choices).summary
    if summary is not None:
        print(name_flags(summary.describe(), parser()))
    print(f"Written: {args.out}")


def _sequences(args: argparse.Namespace) -> None:
    from danq_keras.data.build_sequences import build_dataset_from_sequences

    choices = {name: value for name, value in vars(args).items() if name != "command"}
    summary = build_dataset_from_sequences(choices.pop("out"), **choices).summary
    if summary is not None:
        print(name_flags(summary.describe(), parser()))
    print(f"Written: {args.out}")


def _demo(args: argparse.Namespace) -> None:
    from danq_keras.data.demo import make_demo
    from danq_keras.data.describe import describe_dataset

    print(describe_dataset(make_demo(args.out, seed=args.seed, overwrite=args.overwrite)))
    print(f"Written: {args.out}")


def _export(args: argparse.Namespace) -> None:
    from danq_keras.data.bundle import dataset_to_bundle

    dataset_to_bundle(args.dataset, args.out, overwrite=args.overwrite)
    print(f"Written: {args.out}")


def _info(args: argparse.Namespace) -> None:
    from danq_keras.data.describe import describe_dataset, describe_targets
    from danq_keras.data.store import open_store

    dataset = open_store(args.dataset)
    print(describe_dataset(dataset))
    if args.targets:
        print(describe_targets(dataset))
    if args.duplicates:
        from danq_keras.data.duplicates import count_duplicates, describe_overlaps

        print(describe_overlaps(count_duplicates(dataset)))


def _verify(args: argparse.Namespace) -> None:
    from danq_keras.data.store import SPLITS, open_store

    dataset = open_store(args.dataset)
    for name in SPLITS:
        split = dataset.split(name)
        split.verify()
        agreed = f"{split.path}: {split.n_windows:,} windows, checksums agree"
        if split.unchecked:
            agreed += (
                f"; written by an early version, without those of {', '.join(split.unchecked)}"
            )
        print(agreed)


def _compare(args: argparse.Namespace) -> None:
    from danq_keras.data.agreement import compare_datasets
    from danq_keras.data.store import open_store

    if args.table is not None:
        refuse_existing(args.table, overwrite=args.overwrite)
    comparison = compare_datasets(open_store(args.a), open_store(args.b), by_number=args.by_number)
    print(f"A: {args.a}\nB: {args.b}")
    print(comparison.describe())
    if args.table is not None:
        comparison.save(args.table, overwrite=args.overwrite)
        print(f"Written: {args.table}")


def cli() -> None:
    """Console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    cli()
