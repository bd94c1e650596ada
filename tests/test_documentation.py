"""README and docs say what is true: links, and every command and line of Python.

Blocks marked `bash` and `python` are extracted. Each command is read by its own parser. Then the
blocks of a document run one after the other in a folder of its own, in this process, where small
stand-ins lie under the names that the document uses (`world`). Long trainings are shortened by
`shortened`: a tiny network, one epoch, three seeds or folds; nothing else of a command is changed.
"""

import gzip
import importlib
import re
import shlex
import shutil
import tarfile
import tomllib
from pathlib import Path

import h5py
import in_process
import numpy as np
import pytest

import danq_keras as dq
from danq_keras.commands import COMMANDS, score_variants, train
from danq_keras.data.bundle import dataset_to_bundle
from danq_keras.data.deepsea import deepsea_targets
from danq_keras.data.demo import simulate, write_source
from danq_keras.data.store import StoreHeader
from danq_keras.data.store_write import Rows, SplitWriter, new_dataset
from danq_keras.genome.dna import decode, pack_codes, pack_labels
from danq_keras.models.legacy import export_weights
from danq_keras.models.trained import TrainedModel
from danq_keras.motifs.files import danq_jaspar_motifs, write_meme
from danq_keras.runs import train_set
from danq_keras.system.shipped import resource_path
from danq_keras.tuning import search

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MOST_WORDS = 1700  # of the README
TINY = {"filters": "8", "lstm_units": "4", "dense_units": "8", "kernel_size": "12"}
NOT_OURS = ("python3 -m venv", "modisco", 'python -c "from pyjaspar')


def blocks(path, language):
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def commands_of(path):
    """The command lines of a document, in order."""
    lines = [line for block in blocks(path, "bash") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def split_command(line):
    """The module of `danq_keras.commands` and the words, braces and $(seq …) written out."""
    line = re.sub(
        r"\$\(seq -s, -f chr%g 1 (\d+)\)",
        lambda match: ",".join(f"chr{i}" for i in range(1, int(match.group(1)) + 1)),
        line,
    )
    words = []
    for word in shlex.split(line):
        braces = re.search(r"\{([^}]*,[^}]*)\}", word)
        parts = braces.group(1).split(",") if braces else [None]
        words += [word if p is None else word.replace(braces.group(0), p) for p in parts]
    script = Path(words[0]).stem.removesuffix("_danq")
    assert words[0].startswith("bin/"), line
    assert script in COMMANDS, line
    return script, words[1:]


ALL_COMMANDS = [
    pytest.param(line, id=f"{path.name}-{number}")
    for path in DOCUMENTS
    for number, line in enumerate(commands_of(path))
    if not line.startswith(NOT_OURS)
]


@pytest.mark.parametrize("line", ALL_COMMANDS)
def test_every_command_is_one(line):
    script, words = split_command(line)
    module = importlib.import_module(f"danq_keras.commands.{script}")
    module.parser().parse_args(words)


def test_every_command_has_a_script_an_entry_and_a_row_in_the_readme():
    scripts = sorted((ROOT / "bin").glob("*.py"))
    assert {path.stem.removesuffix("_danq") for path in scripts} == set(COMMANDS)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entries = {f"danq-{name.replace('_', '-')}": name for name in COMMANDS}
    assert project["scripts"] == {
        entry: f"danq_keras.commands.{name}:cli" for entry, name in entries.items()
    }
    text = (ROOT / "README.md").read_text()
    assert [path.name for path in scripts if f"| `{path.name}` |" not in text] == []


def test_the_two_commands_are_those_of_the_project():
    """`.ci/run` takes the second from the README as it stands there."""
    text = (ROOT / "README.md").read_text()
    start = "python3 -m venv .venv && . .venv/bin/activate && pip install -e "
    assert f"\n{start}. && bin/train_danq.py\n" in text
    assert f'\n{start}".[test]" && python -m pytest\n' in text
    assert 'pip install -e ".[test]"' in (ROOT / ".ci" / "run").read_text()


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= MOST_WORDS


def anchors(path):
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


# ---- run


@pytest.fixture
def in_one_process(monkeypatch):
    """Runs of sets and workers of searches in this process: TensorFlow starts once."""

    monkeypatch.setattr(train_set, "run_all", in_process.run_all)
    monkeypatch.setattr(search, "_start_worker", in_process.InProcess)
    monkeypatch.setattr(search, "POLL_SECONDS", 0)


def shortened(script, words):
    """A training or search of a document at the size of a test: see the module's description."""
    if script not in ("train", "tune", "compare_recipes"):
        return ["chr7" if word.startswith("chr7:305") else word for word in words]
    kept, settings, in_set = [], dict(TINY), False
    words = iter(words)
    for word in words:
        if word in ("--epochs", "--patience", "--train-limit", "--trials", "--timeout", "--jobs"):
            next(words)
        elif word in ("--repeats", "--folds"):
            kept += [word, str(min(3, int(next(words))))]
        elif word == "--set":
            in_set = True
        elif in_set and "=" in word:
            key, value = word.split("=", 1)
            settings.setdefault(key, value)
        else:
            kept.append(word)
    if "--resume" in kept:
        return kept
    if "--init" in kept:  # its sizes are the model's
        settings = {}
    if script == "compare_recipes":
        settings["epochs"] = "1"
    else:
        kept += ["--epochs", "1"]
    if settings:
        kept += ["--set", *(f"{key}={value}" for key, value in settings.items())]
    return kept + (["--trials", "1"] if script == "tune" else [])


def expanded(words):
    """Words with * as the files that they stand for."""
    for word in words:
        yield from (
            sorted(map(str, Path().glob(word))) if "*" in word and "=" not in word else [word]
        )


def run_document(path, before):
    """Run a document's commands in order; `before` says what must be there first, by command."""
    for line in commands_of(path):
        if line.startswith(NOT_OURS):
            continue
        for part, prepare in before.items():
            if part in line and prepare is not None:
                prepare()
        if any(part in line and prepare is None for part, prepare in before.items()):
            continue
        script, words = split_command(line)
        main = importlib.import_module(f"danq_keras.commands.{script}").main
        assert main(list(expanded(shortened(script, words)))) == 0, line


def run_python(path):
    """Run a document's Python, its blocks in one namespace."""
    names = {"dq": dq}
    for block in blocks(path, "python"):
        exec(compile(block, str(path), "exec"), names)


def write_fasta(path, lengths, rng):
    genome = {
        name: decode(rng.integers(0, 4, length, dtype=np.uint8)) for name, length in lengths.items()
    }
    text = "".join(f">{name}\n{letters}\n" for name, letters in genome.items())
    path.write_bytes(gzip.compress(text.encode(), 1) if path.suffix == ".gz" else text.encode())
    return genome


def write_peaks(path, lengths, rng, *, n=14, width=300, columns=6):
    """Peaks apart from each other, and from the ends."""
    rows = []
    for chrom, length in lengths.items():
        for start in np.sort(rng.choice(np.arange(1200, length - 1800, 600), n, replace=False)):
            row = [chrom, start + 110, start + 110 + width, "peak", 0, "+", 5, 5, 5, width // 2]
            rows.append("\t".join(map(str, row[:columns])) + "\n")
    path.write_text("".join(rows))


def write_vcf(path, genome, rng, *, n=15):
    rows = ["##fileformat=VCFv4.2\n", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"]
    for chrom, letters in genome.items():
        for at in np.sort(rng.choice(np.arange(1500, len(letters) - 1500), n, replace=False)):
            alt = "C" if letters[at] == "A" else "A"
            rows.append(f"{chrom}\t{at + 1}\t.\t{letters[at]}\t{alt}\t.\t.\t.\n")
    text = "".join(rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def write_bundle(path, rng):
    """A DeepSEA bundle of a few windows and the 919 targets."""
    header = StoreHeader(1000, 200, "both", deepsea_targets(), "random, for tests")
    with new_dataset(Path("few")) as folder:
        for name in ("train", "valid", "test"):
            codes = rng.integers(0, 4, (20, 1000), dtype=np.uint8)
            labels = rng.random((20, 919)) < 0.3
            rows = Rows(pack_codes(codes), pack_labels(labels), chrom=None, start=None)
            with SplitWriter(folder / f"{name}.h5", header, n_windows=20) as writer:
                writer.append(rows)
    dataset_to_bundle(Path("few"), Path("deepsea_train"))
    with tarfile.open(path, "w:gz") as file:
        file.add("deepsea_train")


@pytest.mark.slow
@pytest.mark.usefixtures("in_one_process")
def test_the_readme_and_the_formats_run(tmp_path, monkeypatch, rng):
    """The demo's genome and peaks, cut short."""
    monkeypatch.chdir(tmp_path)
    genome = simulate(0, chromosomes={f"synthetic{number}": 60_000 for number in (1, 2, 3)})
    write_source(tmp_path / "source", genome, seed=0)
    shutil.copy("source/genome.fa", "genome.fa")
    shutil.copytree("source/peaks", "peaks")
    letters = {name: decode(codes) for name, codes in genome.chromosomes.items()}
    write_vcf(Path("variants.vcf"), letters, rng)
    write_bundle(Path("deepsea_train_bundle.v0.9.tar.gz"), rng)
    run_document(ROOT / "README.md", {})
    run_python(ROOT / "README.md")
    run_python(ROOT / "docs" / "formats.md")


@pytest.mark.slow
@pytest.mark.usefixtures("in_one_process")
def test_the_guide_runs(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    lengths = {"chr1": 60_000, "chr7": 20_000, "chr8": 20_000, "chr9": 20_000}
    genome = write_fasta(Path("genome.fa"), lengths, rng)
    Path("peaks").mkdir()
    for name in ("CTCF", *(f"factor{number:02}" for number in range(1, 13))):
        write_peaks(Path("peaks") / f"{name}.narrowPeak", lengths, rng, columns=10)
    for name in ("peaks.bed", "background.bed"):
        write_peaks(Path(name), {"chr8": 20_000}, rng, n=6)
    Path("genes.gtf").write_text('chr8\tx\tgene\t4500\t6000\t.\t+\t.\tgene_id "A";\n')
    for name in ("variants.vcf.gz", "common.vcf.gz"):
        write_vcf(Path(name), genome, rng)
    write_bundle(Path("deepsea_train_bundle.v0.9.tar.gz"), rng)
    drawn = [decode(row) for row in rng.integers(0, 4, (60, 101), dtype=np.uint8)]
    rows = [f"{letters}\t{number % 2}\n" for number, letters in enumerate(drawn)]
    Path("labelled.tsv").write_text("".join(["sequence\tlabel\n", *rows]))
    Path("bound.fa").write_text("".join(f">{n}\n{letters}\n" for n, letters in enumerate(drawn)))
    with h5py.File("example.h5", "w") as file:
        file["testxdata"] = np.eye(4, dtype=np.uint8)[rng.integers(0, 4, (4, 1000))].swapaxes(1, 2)
    write_meme(Path("motifs.meme"), danq_jaspar_motifs()[:60], [20] * 60)
    sizes = {name: int(size) for name, size in TINY.items()}
    old = TrainedModel(dq.build_model(gates="hard", **sizes), deepsea_targets(), Path("o"), {})
    export_weights(old, "DanQ_bestmodel.hdf5", "danq")

    def labelled():
        for name in ("eqtls", "matched"):
            write_vcf(Path(f"{name}.vcf"), genome, rng)
            words = ["runs/danq-my_data", f"{name}.vcf", "--genome", "genome.fa"]
            assert score_variants.main([*words, "--out", f"{name}.h5"]) == 0

    before = {
        "compare my_data other_data": lambda: shutil.copytree("my_data", "other_data"),
        "prioritise_variants.py fit": labelled,
        # The published list has 2.6 million bins: a test of the build has a simulated one.
        "genome rebuilt": None,
        "danq_store rebuilt": None,
    }
    run_document(ROOT / "docs" / "guide.md", before)


@pytest.mark.long
@pytest.mark.usefixtures("in_one_process")
def test_the_findings_on_yeast_and_the_fidelity_run(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    lengths = {f"chr{number}": 12_000 for number in range(1, 17)} | {"chr8": 153_000}
    write_fasta(Path("sacCer3.fa.gz"), lengths, rng)
    Path("peaks").mkdir()
    for name in ("Abf1", "Cbf1", "Mcm1", "Rap1", "Reb1", "Rpo31"):
        write_peaks(Path("peaks") / f"{name}.bed", lengths, rng, n=8, width=1)
    shutil.copy(resource_path("jaspar2016_vertebrates.jaspar"), "fungi.jaspar")

    def demo():
        words = ["--data", "yeast", "--preset", "demo", "--out", "runs/demo"]
        assert train.main(shortened("train", words)) == 0

    run_document(ROOT / "docs" / "yeast.md", {"--init runs/demo": demo})
    before = {
        "--reference runs/gates-sigmoid": lambda: shutil.copytree(
            "runs/gates-hard", "runs/gates-sigmoid"
        )
    }
    run_document(ROOT / "docs" / "fidelity.md", before)
