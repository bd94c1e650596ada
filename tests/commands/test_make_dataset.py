"""The command `make_dataset.py`, run as users run it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from danq_keras.commands import make_dataset
from danq_keras.data.store import open_store
from danq_keras.system.errors import InputError

SCRIPT = Path(__file__).resolve().parents[2] / "bin" / "make_dataset.py"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    folder = tmp_path / "sources"
    folder.mkdir()
    with (folder / "genome.fa").open("w") as fasta:
        for chrom in ("chr1", "chr2", "chr3"):
            fasta.write(f">{chrom}\n{''.join(rng.choice(list('ACGT'), 6000))}\n")
    for name in ("x", "y"):
        lines = [
            f"{chrom}\t{start}\t{start + 200}\n"
            for chrom in ("chr1", "chr2", "chr3")
            for start in rng.integers(0, 5800, 12)
        ]
        (folder / f"{name}.bed").write_text("".join(lines))
    return folder


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def genome_arguments(sources: Path, out: Path, *more: object) -> list[str]:
    return [
        "genome",
        str(out),
        "--genome",
        str(sources / "genome.fa"),
        "--peaks",
        str(sources / "x.bed"),
        str(sources / "y.bed"),
        *map(str, more or ("--test-chroms", "chr3", "--valid-region", "chr2")),
    ]


@pytest.fixture
def dataset(tmp_path: Path, sources: Path) -> Path:
    assert make_dataset.main(genome_arguments(sources, tmp_path / "data")) == 0
    return tmp_path / "data"


def only_line(done: "subprocess.CompletedProcess[str]") -> str:
    """The one line of a user's mistake."""
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    return lines[0]


def test_genome_builds_and_says_what_it_did(tmp_path: Path, sources: Path) -> None:
    done = run(*genome_arguments(sources, tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    built = open_store(tmp_path / "data")
    assert built.targets.names == ("x", "y")
    assert f"{built.train.n_windows:,}" in done.stdout
    for text in ("Bins left out", "no peak", "Peaks that gave no bin a label", "Written:"):
        assert text in done.stdout


def test_every_option_reaches_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def record(out: Path, spec: object, *, overwrite: bool) -> None:
        seen.update(out=out, spec=spec, overwrite=overwrite)
        raise InputError("stop")

    monkeypatch.setattr("danq_keras.data.build.build_from_spec", record)
    options = (
        "--bin 100 --window 500 --min-overlap 0.25 --resize-peaks 150 --chroms a,b,c "
        "--test-chroms a,b --valid-region c:1-90 --exclude e.bed --bins b.bed --keep-if k,l "
        "--min-signal 2.5 --max-unknown 0.1 --targets t.tsv --allow-adjacent --overwrite "
        "--chrom-names add --ignore i.tsv --max-train 7 --expect-windows 5,4,3"
    )
    command = ["genome", str(tmp_path / "o"), "--genome", "g.fa", "--peaks", "p.bed", "q.bed"]
    with pytest.raises(InputError, match="stop"):
        make_dataset.main([*command, *options.split()])
    from danq_keras.data.spec import GenomeSpec

    assert seen["spec"] == GenomeSpec(
        genome=Path("g.fa"),
        peaks=(Path("p.bed"), Path("q.bed")),
        bin=100,
        window=500,
        min_overlap=0.25,
        resize_peaks=150,
        chroms=("a", "b", "c"),
        test_chroms=("a", "b"),
        valid_region="c:1-90",
        exclude=Path("e.bed"),
        bins=Path("b.bed"),
        keep_if=("k", "l"),
        min_signal=2.5,
        max_unknown=0.1,
        targets=Path("t.tsv"),
        allow_adjacent=True,
        chrom_names="add",
        ignore=Path("i.tsv"),
        max_train=7,
        expect_windows=(5, 4, 3),
    )
    assert seen["overwrite"] is True
    with pytest.raises(InputError, match="stop"):
        make_dataset.main([*command, "--keep-unlabelled", "--split-table", "s.tsv"])
    assert seen["spec"] == GenomeSpec(
        genome=Path("g.fa"),
        peaks=(Path("p.bed"), Path("q.bed")),
        keep_unlabelled=True,
        split_table=Path("s.tsv"),
    )
    assert seen["overwrite"] is False


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("x.bed", "1\t5\t90\n", "the FASTA has chr1, chr2, chr3. Pass --chrom-names add."),
        ("x.bed", "chr1\t5900\t6201\n", "end beyond their chromosome"),
        ("x.bed", "", "x.bed: no features"),
        ("y.bed", "chr1\tten\t90\n", "y.bed, line 1: the start must be a whole number"),
        ("genome.fa", "BM\x00picture", "genome.fa: not a FASTA file"),
    ],
)
def test_bad_sources_are_one_line_and_leave_nothing(
    tmp_path: Path, sources: Path, file: str, content: str, message: str
) -> None:
    (sources / file).write_text(content)
    assert message in only_line(run(*genome_arguments(sources, tmp_path / "new" / "data")))
    assert [path.name for path in tmp_path.iterdir()] == ["sources"]


def test_duplicate_target_names_are_refused(tmp_path: Path, sources: Path) -> None:
    arguments = ["genome", tmp_path / "data", "--genome", sources / "genome.fa", "--peaks"]
    done = run(*arguments, sources / "x.bed", sources / "x.bed")
    assert "Target names must be unique. Received 'x'" in only_line(done)


def test_used_out_is_refused_and_overwrite_replaces_only_datasets(
    sources: Path, dataset: Path
) -> None:
    assert "already exists" in only_line(run(*genome_arguments(sources, dataset)))
    before = (dataset / "train.h5").stat().st_ino
    assert make_dataset.main([*genome_arguments(sources, dataset), "--overwrite"]) == 0
    assert (dataset / "train.h5").stat().st_ino != before
    with pytest.raises(InputError, match="replaces only what"):
        make_dataset.main([*genome_arguments(sources, sources), "--overwrite"])
    assert (sources / "x.bed").is_file()


def test_unwritable_out_is_one_line(tmp_path: Path, sources: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(*genome_arguments(sources, tmp_path / "file" / "data"))
    assert "not a folder" in only_line(done)
    if os.geteuid():
        (tmp_path / "locked").mkdir(mode=0o500)
        done = run(*genome_arguments(sources, tmp_path / "locked" / "data"))
        assert "permission denied" in only_line(done)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, sources: Path) -> None:
    arguments = genome_arguments(sources, tmp_path / "data")
    code = (
        "import os, sys; from danq_keras.commands import make_dataset\n"
        "def full(*_): raise OSError(28, 'No space left on device')\n"
        f"os.posix_fallocate = full; sys.argv = [''] + {arguments!r}\n"
        "make_dataset.cli()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "train.h5: the disk is full" in only_line(done)
    assert [path.name for path in tmp_path.iterdir()] == ["sources"]


def test_info_counts_windows_and_targets(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_dataset.main(["info", str(dataset), "--targets"]) == 0
    shown = capsys.readouterr().out
    built = open_store(dataset)
    assert "2 targets, windows of 1000 bases, bins of 200" in shown
    assert f"fingerprint {built.train.fingerprint[:16]}" in shown
    counts = [
        np.unpackbits(built.split(n).labels, axis=1)[:, 0].sum() for n in ("train", "valid", "test")
    ]
    assert "0\tx\t\t" + "\t".join(map(str, counts)) in shown


def test_info_counts_windows_that_splits_share(
    tmp_path: Path, sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    letters = (sources / "genome.fa").read_text().split()
    genome = sources / "genome.fa"
    genome.write_text(f">chr1\n{letters[1]}\n>chr2\n{letters[3]}\n>chr3\n{letters[1]}\n")
    (sources / "x.bed").write_text("chr1\t2000\t2600\nchr3\t2000\t2600\nchr2\t900\t1900\n")
    (sources / "y.bed").write_text("chr2\t900\t1900\n")
    out = tmp_path / "data"
    assert make_dataset.main(genome_arguments(sources, out)) == 0
    capsys.readouterr()
    assert make_dataset.main(["info", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "test in train: 3 (100.00%) equal, 3 (100.00%) equal or near, of 3" in shown
    assert "valid in train: 0 (0.00%) equal, 0 (0.00%) equal or near, of" in shown
    assert make_dataset.main(["info", str(out), "--no-duplicates"]) == 0
    assert "in train" not in capsys.readouterr().out


def test_compare_shows_and_writes_agreement(
    tmp_path: Path, sources: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, table = tmp_path / "other", tmp_path / "agreement.tsv"
    arguments = genome_arguments(sources, other, "--test-chroms", "chr3", "--valid-region", "chr2")
    assert make_dataset.main([*arguments, "--min-overlap", "0.1"]) == 0
    capsys.readouterr()
    command = ["compare", str(dataset), str(other), "--out", str(table)]
    assert make_dataset.main(command) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"A: {dataset}\nB: {other}\n")
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    assert [row[1] for row in rows] == ["name", "x", "y"]
    assert all(0 < float(row[5]) < 1 for row in rows[1:])
    with pytest.raises(InputError, match="already exists"):
        make_dataset.main(command)
    assert make_dataset.main([*command, "--overwrite", "--by-number"]) == 0
    assert "no such dataset folder" in only_line(run("compare", dataset, tmp_path / "none"))


def test_verify_finds_a_changed_byte(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_dataset.main(["verify", str(dataset)]) == 0
    assert capsys.readouterr().out.count("checksums agree") == 3
    with h5py.File(dataset / "test.h5", "r+") as file:
        file["labels"][0, 0] ^= 0x80
    done = run("verify", dataset)
    assert done.returncode == 2
    assert f"{dataset / 'test.h5'}: wrong checksum of 'labels'" in done.stderr.splitlines()[-1]


def test_a_newer_store_is_refused(dataset: Path) -> None:
    with h5py.File(dataset / "valid.h5", "r+") as file:
        file.attrs["format_version"] = 99
    for command in ("info", "verify"):
        assert "valid.h5: store format version 99" in only_line(run(command, dataset))
    assert "no such dataset folder" in only_line(run("info", dataset / "none"))


def test_export_and_back_is_identical(tmp_path: Path, dataset: Path) -> None:
    mats, back = tmp_path / "mats", tmp_path / "back"
    assert make_dataset.main(["export-mat", str(mats), "--dataset", str(dataset)]) == 0
    assert make_dataset.main(["deepsea", str(back), "--bundle", str(mats)]) == 0
    assert open_store(back).fingerprints() == open_store(dataset).fingerprints()


def test_demo_reaches_the_simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def record(out: Path, *, seed: int, overwrite: bool) -> Path:
        seen.append((out, seed, overwrite))
        raise InputError("stop")

    monkeypatch.setattr("danq_keras.data.demo.make_demo", record)
    for extra, expected in ((["--seed", "5"], (5, False)), (["--overwrite"], (0, True))):
        with pytest.raises(InputError, match="stop"):
            make_dataset.main(["demo", str(tmp_path / "demo"), *extra])
        assert seen[-1] == (tmp_path / "demo", *expected)


@pytest.mark.parametrize("command", ["", "genome", "deepsea", "demo", "export-mat", "info"])
def test_help_has_an_example_and_is_light(command: str) -> None:
    done = run(*([command] if command else []), "--help")
    assert done.returncode == 0
    assert "example:\n  bin/make_dataset.py" in done.stdout


def test_nothing_heavy_is_imported_before_the_arguments_are_parsed() -> None:
    code = (
        "import sys; from danq_keras.commands import make_dataset; make_dataset.parser();"
        "print([m for m in ('numpy', 'pandas', 'h5py', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_and_bad_flags() -> None:
    assert run("--version").stdout.startswith("make_dataset.py ")
    assert run("genome", "out").returncode == 2
    assert run("genome", "out", "--genome", "g", "--chroms", ",").returncode == 2
    for counts in ("1,2", "1,2,3,4", "a,b,c", "1,-2,3"):
        done = run("genome", "out", "--genome", "g", "--expect-windows", counts)
        assert done.returncode == 2
        assert "expected three whole numbers" in done.stderr


def test_overwrite_never_removes_what_the_command_did_not_write(
    tmp_path: Path, dataset: Path, sources: Path
) -> None:
    """The easiest slips: OUT is the source itself, or another file of the user."""
    bundle = tmp_path / "bundle"
    assert make_dataset.main(["export-mat", str(bundle), "--dataset", str(dataset)]) == 0
    slips = [
        ["deepsea", bundle, "--bundle", bundle],
        ["export-mat", dataset, "--dataset", dataset],
        genome_arguments(sources, sources / "x.bed"),
        genome_arguments(sources, bundle),
    ]
    before = sorted(tmp_path.rglob("*")), sorted(dataset.iterdir()), sorted(sources.iterdir())
    for slip in slips:
        with pytest.raises(InputError, match="--overwrite replaces only what"):
            make_dataset.main([*map(str, slip), "--overwrite"])
    after = sorted(tmp_path.rglob("*")), sorted(dataset.iterdir()), sorted(sources.iterdir())
    assert after == before
    again = ["export-mat", str(bundle), "--dataset", str(dataset), "--overwrite"]
    assert make_dataset.main(again) == 0


def test_minimal_signal_must_be_a_number(tmp_path: Path, sources: Path) -> None:
    with pytest.raises(InputError, match=r"--min-signal: must be a finite number\. Received: nan"):
        make_dataset.main([*genome_arguments(sources, tmp_path / "d"), "--min-signal", "nan"])
