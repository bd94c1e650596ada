"""Commands that are killed at any moment: their outputs are whole or not there, and they go on.

A second call, with `--resume` where there is something to go on with, leaves the same bytes as one
that was not killed. The short form, which always runs, kills at a few moments; `-m campaign` at
DANQ_FAULT_TRIALS of each kind of output.
"""

import signal
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras02
import numpy as np
import pytest
import tiny
import toys
from campaign import TRIALS, Ended, Server, arrays, leftovers
from simulated_effects import make_effects, write_effects

from danq_keras.models.networks import build_network
from danq_keras.models.trained import describe_network, save_model

MODULES = (
    *("keras", "tensorflow", "pandas", "h5py", "danq_keras.models.trained"),
    *("danq_keras.prediction.stream", "danq_keras.variants.score", "danq_keras.interpret.places"),
    *("danq_keras.evaluation.evaluate", "danq_keras.interpret.motifs"),
    *("danq_keras.variants.prioritise", "xgboost", "danq_keras.interpret.kernel_motifs"),
)
EAGER = {  # saves what there is after every block
    "prediction.growing.SAVE_SECONDS": -1.0,
    "variants.growing.SAVE_SECONDS": -1.0,
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGKILL)
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
RESUMABLE = ("predict", "score", "explain")
KINDS = (
    *("predict.h5", "predict.tsv.gz", "predict.tracks"),
    *("score.h5", "score.tsv.gz", "score.vcf.gz", "score.background"),
    *("explain.bed", "explain.locus", "evaluate", "motifs", "import", "export"),
    *("prioritise.fit", "prioritise.apply"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("logs"), MODULES) as server:
        yield server


@pytest.fixture(scope="module")
def sources(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A genome, places and variants in it, effects, a dataset, a network and an old one."""
    folder = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(4)
    texts = {name: "".join(rng.choice(list("ACGT"), 400)) for name in ("chr1", "chr2")}
    toys.write_fasta(folder / "g.fa", texts)
    (folder / "a.bed").write_text("".join(f"chr1\t{at}\t{at + 9}\n" for at in range(0, 320, 40)))
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for at in range(20, 380, 25):
        ref = texts["chr2"][at - 1]
        lines.append(f"chr2\t{at}\tv{at}\t{ref}\t{'ACGT'['TGAC'.index(ref)]}\t.\t.\t.")
    (folder / "v.vcf").write_text("\n".join(lines) + "\n")
    dataset = tiny.make_dataset(folder / "data", n_train=30)
    config = tiny.preset().model
    network = build_network(config, seed=1)
    about = describe_network(config, dataset.targets)
    (folder / "run").mkdir()
    save_model(network, folder / "run" / "model.keras", about=about)
    keras02.write(folder / "old.hdf5", keras02.random_layers())
    for name, shift, first in (("p", 0.1, 1000), ("n", 0.0, 2500)):
        write_effects(folder / f"{name}.h5", make_effects(rng, 30, shift=shift, first=first))
    for kind, made in (("import", "old.keras"), ("prioritise.fit", "fit.h5")):
        name, words, _ = command(kind, folder, folder / "made")
        words = [folder / made if "made" in str(word) else word for word in words]
        server.run(name, *words).require(0)
    return folder


def command(kind: str, sources: Path, folder: Path) -> tuple[str, list[object], Path]:
    """Name and words of a command, and what it writes."""
    what, _, form = kind.partition(".")
    model, genome = sources / "run", ["--genome", sources / "g.fa"]
    if what == "predict":
        out = folder / ("tracks" if form == "tracks" else f"o.{form}")
        words = [model, sources / "g.fa", out, "--tile", 30, "--batch-size", 4, "--strands", "both"]
        return "predict", words, out
    if what == "score":
        out = folder / ("o.h5" if form == "background" else f"o.{form}")
        flag = "--save-background" if form == "background" else "--out"
        words = [model, sources / "v.vcf", *genome, flag, out, "--batch-size", 6]
        return "score_variants", words, out
    if what == "explain":
        place = ["--bed", sources / "a.bed"] if form == "bed" else ["--locus", "chr1:150-170"]
        more = ["--pictures", 1, "--method", "both", "--width", 12] if form == "bed" else []
        words = [model, *place, *genome, "--targets", "0,1", "--out", folder / "o", *more]
        return "explain", words, folder / "o"
    if what in ("evaluate", "motifs"):
        out = folder / "o"
        name = "evaluate" if what == "evaluate" else "extract_motifs"
        more = [] if what == "evaluate" else ["--matcher", "builtin", "--no-logos"]
        return name, [model, "--data", sources / "data", "--out", out, *more], out
    if what in ("import", "export"):
        out = folder / ("o.keras" if what == "import" else "o.hdf5")
        old = [sources / "old.hdf5", out, "--window", 60, "--pool-size", 5]
        words = ["--export", sources / "old.keras", out] if what == "export" else old
        return "import_weights", [*words, "--preset", "danq"], out
    if form == "fit":
        out = folder / "o.h5"
        chosen = ["--positives", sources / "p.h5", "--negatives", sources / "n.h5"]
        return (
            "prioritise_variants",
            ["fit", *chosen, "--folds", 2, "--trees", 3, "--out", out],
            out,
        )
    out = folder / "o.tsv.gz"
    return "prioritise_variants", ["apply", sources / "fit.h5", sources / "p.h5", "--out", out], out


def content(folder: Path) -> dict[str, object]:
    """File → what is in it, without what tells when and where it was made."""
    found: dict[str, object] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as members:
                found[name] = members.read("model.weights.h5")
        elif h5py.is_hdf5(path):
            with h5py.File(path) as file:
                found[name] = arrays(file)
        elif path.suffix in (".html", ".json"):
            found[name] = path.read_text("utf-8").replace(str(folder), "")
        else:
            found[name] = path.read_bytes()
    return found


@dataclass
class Work:
    """One kind of output: how it is made, what comes out, how often its place is touched."""

    server: Server
    sources: Path
    kind: str
    whole: dict[str, object]
    touched: int

    def begin(self, folder: Path, **how: object) -> Ended:
        """Start, or go on where there is something to go on with, as a user would."""
        name, words, out = command(self.kind, self.sources, folder)
        if self.kind.startswith(RESUMABLE) and out.with_name(f"{out.name}.partial").exists():
            ended = self.server.run(name, *words, watched=out, settings=EAGER, **how)
            if "Pass --resume" not in ended.said:
                return ended
            words = [*words, "--resume"]
        return self.server.run(name, *words, watched=out, settings=EAGER, **how)

    def finish(self, folder: Path) -> None:
        """To the end, which is that of a command that was not killed."""
        _, _, out = command(self.kind, self.sources, folder)
        before = out.exists() and content(out if out.is_dir() else folder)
        ended = self.begin(folder).require(0, 2)
        if ended.status:  # killed when all was done
            assert "already exists" in ended.said
            assert before
        assert content(folder) == self.whole
        assert [name for name in leftovers(folder) if not name.endswith(".lock")] == []


@pytest.fixture
def work(request: pytest.FixtureRequest, server: Server, sources: Path, tmp_path: Path) -> Work:
    kind = request.param
    folder = tmp_path / "whole"
    folder.mkdir()
    name, words, out = command(kind, sources, folder)
    done = server.run(name, *words, watched=out, settings=EAGER).require(0)
    return Work(server, sources, kind, content(folder), done.touched)


SHORT = ("predict.tsv.gz", "score.h5", "motifs", "prioritise.fit")


@pytest.mark.parametrize("work", SHORT, indirect=True)
def test_killed_at_some_moments(work: Work, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    work.begin(folder, kill_at=work.touched * 2 // 3).require(-signal.SIGKILL)
    work.finish(folder)


@pytest.mark.parametrize("work", ["predict.h5"], indirect=True)
@pytest.mark.parametrize("number", STATUS)
def test_a_soft_stop_keeps_what_is_done(work: Work, tmp_path: Path, number: int) -> None:
    folder = tmp_path / "stopped"
    folder.mkdir()
    ended = work.begin(folder, kill_at=work.touched // 2, kill_with=number)
    assert "--resume goes on" in ended.require(STATUS[number]).said
    assert [path.name for path in folder.iterdir()] == ["o.h5.partial"]
    work.finish(folder)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("work", KINDS, indirect=True)
def test_killed_before_any_touch(work: Work, tmp_path: Path) -> None:
    """Evenly over all moments; by SIGKILL, or softly, or by two in a row."""
    rng = np.random.default_rng(7)
    for trial in range(TRIALS):
        folder = tmp_path / f"killed{trial}"
        folder.mkdir()
        kill_at = 1 + trial * work.touched // TRIALS
        number = SIGNALS[trial % len(SIGNALS)]
        ended = work.begin(folder, kill_at=kill_at, kill_with=number)
        ended.require(-number if number == signal.SIGKILL else STATUS[number], 0)
        if trial % 3 == 0:
            work.begin(folder, kill_at=int(rng.integers(1, 30))).require(-signal.SIGKILL, 0, 2)
        work.finish(folder)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("most", [2_000, 1 << 20])
@pytest.mark.parametrize("work", KINDS, indirect=True)
def test_files_of_limited_size(work: Work, tmp_path: Path, most: int) -> None:
    """`ulimit -f`: done within it, or one line; without it the same command goes through."""
    folder = tmp_path / "limited"
    folder.mkdir()
    ended = work.begin(folder, limits={"RLIMIT_FSIZE": most}).require(0, 2)
    if ended.status:
        assert "ulimit -f" in ended.said
    work.finish(folder)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("more", [8, 512, 700, 1000])
@pytest.mark.parametrize("work", KINDS, indirect=True)
def test_memory_of_limited_size(work: Work, tmp_path: Path, more: int) -> None:
    """`ulimit -v`: as much as the process has and `more` MiB."""
    folder = tmp_path / "limited"
    folder.mkdir()
    most = work.server.address_space() + (more << 20)
    ended = work.begin(folder, limits={"RLIMIT_AS": most}).require(0, 2)
    if ended.status:
        assert "ulimit -v" in ended.said
    work.finish(folder)
