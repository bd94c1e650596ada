"""The installed program, played by a script that writes what Tomtom's versions write."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from danq_keras.motifs import tomtom
from danq_keras.motifs.known import choose_matcher
from danq_keras.motifs.matching import Match, MotifDatabase, match_motif
from danq_keras.motifs.motif import Motif
from danq_keras.system.errors import InputError

HEADER = (
    "#Query ID\tTarget ID\tOptimal offset\tp-value\tE-value\tq-value\tOverlap\t"
    "Query consensus\tTarget consensus\tOrientation\n"
)
OLD = (
    HEADER
    + "1\t0\t-3\t2e-05\t6e-05\t1e-4\t5\tACGTA\tACGTA\t+\n"
    + "1\t2\t4\t1e-07\t3e-07\t1e-6\t8\tACGTA\tACGTA\t-\n"
)
NEW = (
    OLD.replace("#Query ID\tTarget ID", "Query_ID\tTarget_ID")
    + "\n# Tomtom (Motif Comparison Tool): Version 5.5.7\n# tomtom -no-ssc\n"
)
EXPECTED = [[], [Match(2, 4, 8, "-", 1e-7, 3e-7), Match(0, -3, 5, "+", 2e-5, 6e-5)]]


def motifs(rng, n, width=8):
    return [Motif("same id", "n", rng.dirichlet([0.5] * 4, width)) for _ in range(n)]


def install(folder: Path, monkeypatch, body: str) -> None:
    """A program called tomtom, alone on the path but for the shell's own."""
    program = folder / "tomtom"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@pytest.mark.parametrize("table", [OLD, NEW])
def test_table_of_the_program(table, tmp_path, monkeypatch, rng):
    (tmp_path / "table").write_text(table)
    install(
        tmp_path,
        monkeypatch,
        f'echo "$@" > {tmp_path}/options\nfor last; do :; done\n'
        f'cp "$last" {tmp_path}/known.meme\ncat {tmp_path}/table',
    )
    known = motifs(rng, 3)
    assert tomtom.run_tomtom(motifs(rng, 2), known, threshold=0.01) == EXPECTED
    options = (tmp_path / "options").read_text()
    assert options.startswith("-text -no-ssc -min-overlap 5 -dist pearson -evalue -thresh 0.01 /")
    written = (tmp_path / "known.meme").read_text()
    assert [line for line in written.splitlines() if line.startswith("MOTIF")] == [
        "MOTIF 0",
        "MOTIF 1",
        "MOTIF 2",
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo 'bad motif' >&2; exit 3", r"failed with status 3 \(bad motif\)"),
        ("exit 1", r"failed with status 1 \(no message\)"),
        ("printf '0\\t1\\t2\\n'", "has 10 columns, received 3"),
    ],
)
def test_failures_of_the_program(body, message, tmp_path, monkeypatch, rng):
    install(tmp_path, monkeypatch, body)
    with pytest.raises(InputError, match=message) as error:
        tomtom.run_tomtom(motifs(rng, 1), motifs(rng, 2), threshold=1)
    assert "builtin" in str(error.value)


def test_without_the_program(tmp_path, monkeypatch, rng):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (tomtom.find_tomtom(), choose_matcher("auto")) == (None, "builtin")
    with pytest.raises(InputError, match="not installed"):
        tomtom.run_tomtom(motifs(rng, 1), motifs(rng, 1), threshold=1)
    install(tmp_path, monkeypatch, "exit 0")
    assert (choose_matcher("auto"), choose_matcher("builtin")) == ("tomtom", "builtin")


@pytest.mark.skipif(shutil.which("tomtom") is None, reason="the MEME suite is not installed")
def test_the_real_program_agrees_with_ours(rng):
    known, query = motifs(rng, 60), motifs(rng, 1)
    theirs = tomtom.run_tomtom(query, known, threshold=60)[0]
    ours = {match.target: match for match in match_motif(query[0].matrix, MotifDatabase(known))}
    ratios = [match.p_value / ours[match.target].p_value for match in theirs]
    assert np.mean((np.array(ratios) > 0.8) & (np.array(ratios) < 1.25)) > 0.9
