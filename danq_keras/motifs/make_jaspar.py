"""Makes resources/jaspar2016_vertebrates.jaspar again from pyjaspar's copy of JASPAR 2016.

For developers, and so neither in bin/ nor among the console scripts:
`python -m danq_keras.motifs.make_jaspar FILE`. It needs pyjaspar, of the extra [test]. The file
has no comment, as other readers of the format know none: its licence is in resources/README.md.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from danq_keras.motifs.files import write_jaspar
from danq_keras.system.command import command, run_command
from danq_keras.system.errors import optional_module
from danq_keras.system.files import PathLike, atomic_output
from danq_keras.system.terminal import log, set_up_logging


def make_jaspar(out: PathLike, *, overwrite: bool = False) -> int:
    """Write JASPAR 2016 CORE vertebrates, in the order of the matrices' names.

    Args:
        out: the JASPAR file to write.
        overwrite: whether to replace `out` if it is there.

    Returns:
        Number of matrices.

    Raises:
        InputError: pyjaspar is not installed, or `out` exists.
    """
    database = optional_module("pyjaspar", "test").jaspardb(release="JASPAR2016")
    motifs = database.fetch_motifs(collection="CORE", tax_group=["vertebrates"])
    records = [
        (motif.matrix_id, motif.name, np.array([motif.counts[base] for base in "ACGT"]).T)
        for motif in sorted(motifs, key=lambda motif: str(motif.matrix_id))
    ]
    with atomic_output(Path(out), overwrite=overwrite) as temporary:
        write_jaspar(temporary, records)
    return len(records)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m danq_keras.motifs.make_jaspar",
        description="Write JASPAR 2016 CORE vertebrates as a JASPAR file (needs pyjaspar).",
        epilog="Example: python -m danq_keras.motifs.make_jaspar "
        "resources/jaspar2016_vertebrates.jaspar --overwrite",
    )
    result.add_argument("out", type=Path, metavar="FILE", help="the file to write")
    result.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    return result


@command(parser)
def main(argv: list[str] | None = None) -> int:
    """Write the file."""
    args = parser().parse_args(argv)
    set_up_logging()
    log.info("%s: %d motifs", args.out, make_jaspar(args.out, overwrite=args.overwrite))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
