"""Makes resources/jaspar2016_vertebrates.jaspar again from pyjaspar's copy of JASPAR 2016.

For developers, and so neither in bin/ nor among the console scripts:
`python -m danq_keras.commands.make_motifs FILE`. It needs pyjaspar, of the extra [test]. The
file has no comment, as other readers of the format know none: its licence is in
resources/README.md.
"""

import argparse
import sys
from pathlib import Path

from danq_keras.system.command import run_command
from danq_keras.system.errors import InputError
from danq_keras.system.files import atomic_output


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m danq_keras.commands.make_motifs",
        description="Write JASPAR 2016 CORE vertebrates as a JASPAR file (needs pyjaspar).",
        epilog="Example: python -m danq_keras.commands.make_motifs "
        "resources/jaspar2016_vertebrates.jaspar --overwrite",
    )
    result.add_argument("out", type=Path, metavar="FILE", help="the file to write")
    result.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    return result


def main(argv: list[str] | None = None) -> None:
    """Write the file."""
    arguments = parser().parse_args(argv)
    try:
        from pyjaspar import jaspardb
    except ImportError as error:
        raise InputError(
            "pyjaspar holds the matrices and is not installed. Install danq_keras[test]."
        ) from error
    import numpy as np

    from danq_keras.motifs.files import write_jaspar

    database = jaspardb(release="JASPAR2016")
    motifs = database.fetch_motifs(collection="CORE", tax_group=["vertebrates"])
    records = [
        (motif.matrix_id, motif.name, np.array([motif.counts[base] for base in "ACGT"]).T)
        for motif in sorted(motifs, key=lambda motif: str(motif.matrix_id))
    ]
    with atomic_output(arguments.out, overwrite=arguments.overwrite) as temporary:
        write_jaspar(temporary, records)
    print(f"{arguments.out}: {len(records)} motifs")


if __name__ == "__main__":
    sys.exit(run_command(main))
