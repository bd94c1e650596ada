"""`benchmark.py genome`: a mammalian genome and its peaks to a dataset, against reading the FASTA.

The genome has the chromosomes of mm10 with random bases, gaps of N and soft-masked stretches; the
peaks stand at sites that targets share. The build runs in a process of its own, whose anonymous
memory is watched: pages of mapped files do not count, since the system can drop them at any time.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from danq_keras.benchmarks.options import option

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers: TypeAlias = npt.NDArray[np.int64]
    Letters: TypeAlias = npt.NDArray[np.uint8]

# Source: UCSC, mm10.chrom.sizes
_MM10 = {
    "chr1": 195_471_971,
    "chr2": 182_113_224,
    "chr3": 160_039_680,
    "chr4": 156_508_116,
    "chr5": 151_834_684,
    "chr6": 149_736_546,
    "chr7": 145_441_459,
    "chr8": 129_401_213,
    "chr9": 124_595_110,
    "chr10": 130_694_993,
    "chr11": 122_082_543,
    "chr12": 120_129_022,
    "chr13": 120_421_639,
    "chr14": 124_902_244,
    "chr15": 104_043_685,
    "chr16": 98_207_768,
    "chr17": 94_987_271,
    "chr18": 90_702_639,
    "chr19": 61_431_566,
    "chrX": 171_031_299,
    "chrY": 91_744_698,
}
_LINE = 50  # bases a line, as in UCSC's files
_FEWEST_PEAKS, _MOST_PEAKS = 10_000, 100_000
_SHARED_SITES = 250_000  # where targets bind together
_SHARED_SHARE = 0.7
_CENTROMERE = 0.015  # share of a chromosome that is N at its start: 3 Mb of mm10's
_MASKED_RUN, _UNMASKED_RUN = 300, 400  # mean bases; 43 % are soft-masked
_GAPS, _GAP_BASES = 10, 50_000
_READ_BYTES = 1 << 24
_WATCH_SECONDS = 0.02


@dataclass(frozen=True)
class Options:
    """What this yardstick can be asked for."""

    scale: float = option(1.0, "share of the genome and its peaks")
    peak_files: int = option(39, "targets")
    folder: Path | None = option(
        None, "keep the generated files here, or use those of an earlier run"
    )


def run(options: Options) -> int:
    """Generate what is missing, build, read, compare; without `folder` the files are deleted."""
    from danq_keras.system.errors import InputError

    if not 0 < options.scale <= 1 or options.peak_files < 1:
        raise InputError(
            "`scale`: above 0, up to 1; `peak_files`: at least 1. "
            f"Received: {options.scale}, {options.peak_files}."
        )
    with _folder(options.folder) as folder:
        fasta, peaks = _sources(folder, options.scale, options.peak_files)
        fasta.with_name(fasta.name + ".fai").unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as out:
            command = [
                *("genome", str(Path(out) / "dataset"), "--genome", str(fasta)),
                *("--test-chroms", "chr8,chr9", "--valid-region", "chr7"),
                *("--peaks", *map(str, peaks)),
            ]
            seconds, cpu_seconds, memory = _build(command)
            size = sum(path.stat().st_size for path in (Path(out) / "dataset").iterdir())
        read = _read(fasta)
        bases = fasta.stat().st_size
    print(f"genome         {bases / 1e9:.2f} GB of FASTA, {options.peak_files} peak files")
    print(f"built          {seconds:.1f} s ({cpu_seconds:.1f} s of CPU), {size / 1e9:.2f} GB")
    print(f"peak memory    {memory / 1e9:.2f} GB anonymous" if memory else "peak memory    NA")
    print(f"FASTA read     {read:.2f} s")
    print(f"ratio          {seconds / read:.1f}")
    return 0


@contextlib.contextmanager
def _folder(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen
        return
    with tempfile.TemporaryDirectory(prefix="danq-genome-") as name:
        yield Path(name)


def _sources(folder: Path, scale: float, n_targets: int) -> tuple[Path, list[Path]]:
    """The FASTA and the peak files of this scale in `folder`; made where they are not there."""
    from danq_keras.system.files import atomic_output
    from danq_keras.system.terminal import progress

    lengths = {chrom: int(length * scale) for chrom, length in _MM10.items()}
    fasta = folder / f"genome-{scale:g}.fa"
    if not fasta.is_file():
        with (
            progress(
                total=sum(lengths.values()), desc="generate", unit="b", unit_scale=True
            ) as bar,
            atomic_output(fasta) as temporary,
            temporary.open("wb") as file,
        ):
            for seed, (chrom, length) in enumerate(lengths.items()):
                file.write(f">{chrom}\n".encode())
                file.write(_in_lines(_random_letters(seed, length)).data)
                bar.update(length)
    peaks = folder / f"peaks-{scale:g}-{n_targets}"
    if not peaks.is_dir():
        with atomic_output(peaks) as temporary:
            temporary.mkdir()
            _write_peaks(temporary, lengths, scale, n_targets)
    return fasta, sorted(peaks.iterdir())


def _random_letters(seed: int, length: int) -> "Letters":
    """Letters (length,) with gaps of N and lower-case stretches."""
    import numpy as np

    rng = np.random.default_rng(seed)
    letters: Letters = np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, length, np.uint8)]
    n_runs = length // (_MASKED_RUN + _UNMASKED_RUN)
    runs = rng.geometric([1 / _UNMASKED_RUN, 1 / _MASKED_RUN], (n_runs, 2)).reshape(-1)
    is_masked = np.repeat(np.tile([False, True], n_runs), runs)[:length]
    letters[: len(is_masked)] |= is_masked.astype(np.uint8) << np.uint8(5)  # ASCII: +32 is lower
    letters[: int(length * _CENTROMERE)] = ord("N")
    for start in rng.integers(0, length, _GAPS):
        letters[start : start + min(_GAP_BASES, length // 100)] = ord("N")
    return letters


def _in_lines(letters: "Letters") -> "Letters":
    """The letters with a line feed after every line."""
    import numpy as np

    whole = len(letters) // _LINE * _LINE
    lines = np.full((whole // _LINE, _LINE + 1), ord("\n"), np.uint8)
    lines[:, :_LINE] = letters[:whole].reshape(-1, _LINE)
    last = letters[whole:]
    feed = np.full(int(len(last) > 0), ord("\n"), np.uint8)
    joined: Letters = np.concatenate([lines.reshape(-1), last, feed])
    return joined


def _write_peaks(folder: Path, lengths: dict[str, int], scale: float, n_targets: int) -> None:
    """A narrowPeak file a target; most peaks lie at shared sites, some overlap in their file."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(len(_MM10))
    names = np.array(list(lengths))
    ends = np.cumsum(list(lengths.values()))
    sites = rng.integers(0, ends[-1], int(_SHARED_SITES * scale) + 1)
    for target in range(n_targets):
        n_peaks = int(rng.integers(_FEWEST_PEAKS, _MOST_PEAKS + 1) * scale) + 1
        centres = rng.integers(0, ends[-1], n_peaks)
        shared = rng.random(n_peaks) < _SHARED_SHARE
        centres[shared] = rng.choice(sites, shared.sum()) + rng.normal(0, 60, shared.sum()).astype(
            int
        )
        centres = np.clip(centres, 0, ends[-1] - 1)
        chrom = np.searchsorted(ends, centres, "right")
        length = np.array(list(lengths.values()))[chrom]
        centres -= ends[chrom] - length
        # Transcription factors have narrow peaks, every fifth target is a broad histone mark.
        widths = rng.lognormal(np.log(1500 if target % 5 == 4 else 350), 0.5, n_peaks).astype(int)
        starts = np.clip(centres - widths // 2, 0, length - 1)
        stops = np.clip(centres + widths // 2, starts + 1, length)
        table = {"chrom": names[chrom], "start": starts, "end": stops, "name": ".", "score": 0}
        table |= {"strand": ".", "signal": rng.exponential(10, n_peaks).round(3), "p": -1, "q": -1}
        table["summit"] = (stops - starts) // 2
        path = folder / f"target{target:03}.narrowPeak"
        pd.DataFrame(table).to_csv(path, sep="\t", header=False, index=False)


def _build(arguments: list[str]) -> tuple[float, float, int]:
    """Run make_dataset.py; seconds, seconds of CPU, most bytes of anonymous memory (0: unknown)."""
    from danq_keras.system.errors import InputError

    code = "from danq_keras.commands.make_dataset import cli; cli()"
    begin, most = time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, "-c", code, *arguments])
    try:
        while process.poll() is None:
            most = max(most, _anonymous_bytes(process.pid))
            time.sleep(_WATCH_SECONDS)
    finally:
        process.kill()
        process.wait()
    seconds = time.perf_counter() - begin
    if process.returncode:
        raise InputError(
            f"make_dataset.py genome: must end with status 0. Received: {process.returncode}. "
            "See its message above."
        )
    times = os.times()
    return seconds, times.children_user + times.children_system, most


def _anonymous_bytes(process: int) -> int:
    """Anonymous memory of a process; 0 where the system does not tell it."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(found[0]) * 1024 if found else 0


def _read(path: Path) -> float:
    """Seconds to read all bytes of a file and do nothing with them."""
    buffer = bytearray(_READ_BYTES)
    begin = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - begin
