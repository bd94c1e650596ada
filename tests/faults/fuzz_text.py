"""Text files damaged at random, for their readers: see `fuzz`, which counts what becomes of them.

Mutants are bytes changed, lost and doubled, words that readers stumble over, and lines that are
lost, doubled, swapped, or have a field lost, doubled, or changed for another. What BED, FASTA and
VCF readers accept must be what a plain reader reads: a few lines that know nothing of speed, and
have no opinion of anything that is out of the ordinary.
"""

import gzip
import json
import random
import re
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from damaged_text import WORDS
from fuzz import Content, Reader, main

VALUES = (
    b"",
    b".",
    b"-1",
    b"0",
    b"1.5",
    b"1e3",
    b"+5",
    b" 7",
    b"9" * 19,
    b"9" * 25,
    b"nan",
    b"inf",
)

# ── mutants ──


def mutate(path: Path, rng: random.Random) -> bool:
    """Damage a text in one to three places; False, since no text has checksums."""
    content = path.read_bytes()
    for _ in range(rng.randint(1, 3)):
        content = (_in_lines if rng.random() < 0.6 else _in_bytes)(content, rng)
    packed = rng.random() < 0.1
    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    return False


def _in_bytes(content: bytes, rng: random.Random) -> bytes:
    begin, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    match rng.randrange(6):
        case 0:
            return content[:end]
        case 1:
            return content[:begin] + content[min(end, begin + 8) :]
        case 2:
            return content[:end] + content[begin:]
        case 3:
            return content[:begin] + bytes([rng.randrange(256)]) + content[begin + 1 :]
        case _:
            return content[:begin] + rng.choice(WORDS) + content[begin:]


def _in_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    separator = b"\t" if b"\t" in lines[at] else b" "
    fields = lines[at].split(separator)
    field = rng.randrange(len(fields))
    match rng.randrange(9):
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines[at] = rng.choice([b"", b" ", b"\r", b"#", b"# x", b"track name=a", b">", b"//"])
        case 4:
            lines[at] += rng.choice([b" ", b"\t", b"\r"])
        case 5:
            return rng.choice([b"\r\n", b"\r", b"\n\n"]).join(lines)
        case 6:
            del fields[field]
            lines[at] = separator.join(fields)
        case 7:
            fields.insert(field, rng.choice(fields))
            lines[at] = separator.join(fields)
        case _:
            fields[field] = rng.choice([*VALUES, *fields])
            lines[at] = separator.join(fields)
    return b"\n".join(lines)


# ── plain readers ──


def _plain_text(content: bytes) -> list[str] | None:
    """Lines of ordinary text, without their ends; None of anything else."""
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    try:
        text = content.removeprefix(b"\xef\xbb\xbf").decode("ascii")
    except UnicodeDecodeError:
        return None
    text = text.replace("\r\n", "\n")
    if re.search(r"[^ -~\t\n]", text):
        return None
    return text.split("\n")


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def plain_bed(content: bytes) -> Content | None:
    """Chromosomes, starts and ends of a BED file with tabs in every line."""
    lines, rows = _plain_text(content), []
    for line in lines or ():
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split("\t")
        if fields[0].split(" ")[0] in ("track", "browser"):
            continue
        if len(fields) < 3 or fields[0] != fields[0].strip():
            return None
        begin, end = map(_whole, fields[1:3])
        if begin is None or end is None:
            return None
        rows.append((fields[0], begin, end))
    return rows or None


def plain_fasta(content: bytes) -> Content | None:
    """Names and bases of a FASTA file; letters that are no base are N."""
    lines, records = _plain_text(content), {}
    name = None
    for line in lines or ():
        if line.startswith(">"):
            words = line[1:].split()
            if not words or words[0] in records or line[1:2].isspace():
                return None
            name = words[0]
            records[name] = ""
        elif line.strip():
            if name is None or re.search(r"[^A-Za-z]", line.strip()):
                return None
            records[name] += re.sub("[^ACGT]", "N", line.strip().upper().replace("U", "T"))
    return sorted(records.items()) or None


def plain_vcf(content: bytes) -> Content | None:
    """Chromosome, position, identifier, reference and alternatives of a VCF file."""
    lines, rows = _plain_text(content), []
    if not lines or lines[0] != "##fileformat=VCFv4.2":
        return None
    for line in lines:
        if line.startswith("#") or not line:
            continue
        fields = line.split("\t")
        if len(fields) < 8 or any(not field or " " in field for field in fields[:8]):
            return None
        position = _whole(fields[1])
        if position is None:
            return None
        alts = () if fields[4] == "." else tuple(fields[4].split(","))
        rows.append((fields[0], position, fields[2], fields[3], alts))
    return rows or None


# ── readers and what they read ──


def _writer(name: str, text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_text(text)
        return path

    return make


def read_bed(path: Path) -> Content:
    from danq_keras.genome.bed import read_bed

    bed = read_bed(path)
    chroms = [str(bed.names[code]) for code in bed.chrom.tolist()]
    return list(zip(chroms, bed.starts.tolist(), bed.ends.tolist(), strict=True))


def read_peaks(path: Path) -> Content:
    from danq_keras.genome.bed import read_bed

    bed = read_bed(path, with_signal=True, with_names=True)
    return [np.asarray(each).tolist() for each in (bed.starts, bed.signal, bed.summits)], bed.names


def read_fasta(path: Path) -> Content:
    from danq_keras.genome.dna import decode
    from danq_keras.genome.fasta import Genome

    for left in path.parent.glob("*.fai"):
        left.unlink()
    with Genome(path) as genome:
        return sorted((name, decode(genome.codes(name))) for name in genome.lengths)


def make_index(folder: Path) -> Path:
    """An index of the FASTA file beside it, which is sound."""
    _writer("a.fa", FASTA)(folder)
    rows, at = [], 0
    for record in FASTA.split(">")[1:]:
        head, *lines = record.rstrip("\n").split("\n")
        first = at + 1 + len(head) + 1
        bases = sum(map(len, lines))
        rows.append(f"{head.split()[0]}\t{bases}\t{first}\t{len(lines[0])}\t{len(lines[0]) + 1}\n")
        at += len(record) + 1
    return _writer("a.fa.fai", "".join(rows))(folder)


def read_beside_index(path: Path) -> Content:
    from danq_keras.genome.dna import decode
    from danq_keras.genome.fasta import Genome

    with Genome(path.with_suffix("")) as genome:
        return sorted((name, decode(genome.codes(name))) for name in genome.lengths)


def plain_beside_index(_content: bytes) -> Content | None:
    """What stands in the FASTA file, whatever its index says."""
    return plain_fasta(FASTA.encode())


def read_vcf(path: Path) -> Content:
    from danq_keras.variants.vcf import VcfFile

    records = list(VcfFile(path).records())
    return [(r.chrom, r.pos, r.id, r.ref, tuple(r.alts)) for r in records]


def read_motifs(path: Path) -> Content:
    from danq_keras.motifs import read_motif_file

    motifs = read_motif_file(path)
    for motif in motifs:
        if not np.allclose(motif.matrix.sum(axis=1), 1) or (motif.matrix < 0).any():
            raise ArithmeticError(motif.matrix)
    return [(motif.id, motif.name, motif.matrix.tolist()) for motif in motifs]


def read_labelled(path: Path) -> Content:
    from danq_keras.data.labelled import Columns, read_tables

    found = read_tables([path], Columns(), window=None)[0]
    split = None if found.split is None else found.split.tolist()
    return found.names, found.codes.tolist(), found.labels.tolist(), split


def read_splits(path: Path) -> Content:
    from danq_keras.data.splits import split_by_table
    from danq_keras.genome.fasta import Genome

    genome = path.with_name("g.fa")
    genome.write_text(FASTA)
    with Genome(genome) as opened:
        return repr(split_by_table(opened, path))


def read_targets(path: Path) -> Content:
    from danq_keras.data.labels import name_targets

    return repr(name_targets([Path("a.bed"), Path("b.bed")], table=path))


def read_aucs(path: Path) -> Content:
    from danq_keras.evaluation.auc_tables import read_auc_table

    return read_auc_table(path).to_csv()


def read_published(path: Path) -> Content:
    from danq_keras.runs.recipes import read_published

    return read_published(path, ["yeast", "human"]).to_csv()


def read_config(path: Path) -> Content:
    from danq_keras.training import plan
    from danq_keras.training.request import TrainRequest

    request = TrainRequest(config=path, data=path)
    return plan._preset(request, plan.read_settings_file(path), None)


def make_config(folder: Path) -> Path:
    from danq_keras.recipes.presets import get_preset

    preset = get_preset("danq-fitted")
    content = {"preset": preset.name, "model": asdict(preset.model), "train": asdict(preset.train)}
    return _writer("config.json", json.dumps(content, indent=1))(folder)


BED = "#bins\nchr1\t5\t105\ta\t7\t+\nchr2\t0\t9\tb\t1\t-\n" + "".join(
    f"chr{i % 3}\t{i * 10}\t{i * 10 + 7}\tp{i}\t{i}\t.\n" for i in range(9)
)
PEAKS = "".join(
    f"chr{i % 3}\t{i * 10}\t{i * 10 + 7}\tp{i}\t{i}\t.\t{i}.5\t3.1\t-1\t{i % 7}\n" for i in range(9)
)
FASTA = ">a first\nACGTNACGTA\nCCGGTTAACC\nacg\n>b\nUUUUACGRYA\nAC\n>c\nACGTACGTAC\n"
VCF = (
    "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=1000>\n"
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    "chr1\t100\trs1\tA\tG,AT\t50\tPASS\tAF=0.1\nchr1\t5\t.\tACG\tA\t.\t.\t.\n"
    "chr2\t7\tx;y\tN\t<DEL>,*\t.\tq10\tEND=50\nchr1\t9\t.\tA\t.\t.\t.\t.\n"
)
LIST = "chr1\t100\trs1\tA\tG\nchr1\t5\t.\tC\tA\nchr2\t7\tx\tN\tT\n"
MEME = (
    "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\nBackground letter frequencies\n"
    "A 0.25 C 0.25 G 0.25 T 0.25\n\nMOTIF M1 GATA\n"
    "letter-probability matrix: alength= 4 w= 3 nsites= 20 E= 1e-9\n"
    "0.1 0.2 0.3 0.4\n0.7 0.1 0.1 0.1\n0.25 0.25 0.25 0.25\n\nMOTIF M2\n"
    "letter-probability matrix: alength= 4 w= 2 nsites= 20 E= 0\n0 0 0 1\n0.5 0.5 0 0\n"
)
JASPAR = (
    ">MA0001.1 AGL3\nA [ 0 3 79 ]\nC [ 94 75 4 ]\nG [ 1 0 3 ]\nT [ 2 19 11 ]\n"
    ">MA0002.1 RUNX1\nA [ 10 12 4 1 ]\nC [ 2 2 7 1 ]\nG [ 3 1 1 0 ]\nT [ 11 11 14 24 ]\n"
)
HOMER = (
    ">GATAAG\tGATA(Zf)/x\t6.1\t-100\t0\n0.1\t0.1\t0.7\t0.1\n0.7\t0.1\t0.1\t0.1\n0.1\t0.1\t0.1\t0.7\n"
    ">CCAAT\tNFY/y\t5.5\t-90\t0\n0.1\t0.7\t0.1\t0.1\n0.2\t0.6\t0.1\t0.1\n"
)
TRANSFAC = (
    "AC  M00001\nXX\nID  V$MYOD_01\nNA  MyoD\nP0      A      C      G      T\n"
    "01      1      2      2      0      S\n02      2      1      2      0      R\nXX\n//\n"
    "AC  M00002\nID  V$E47_01\nPO A C G T\n01 4 4 3 0 N\n02 2 5 4 0 S\n//\n"
)
_DRAWN = random.Random(0)
LABELLED = "sequence\tsplit\ta\tb\n" + "".join(
    f"{''.join(_DRAWN.choices('ACGT', k=12))}\t{split}\t{i % 2}\t{i // 6}\n"
    for i, split in enumerate(["train", "valid", "test"] * 4)
)
LISTED = "sequence,targets\n" + "".join(
    f'{"".join(_DRAWN.choices("ACGT", k=12))},"{("x", "x;y", "", "z")[i % 4]}"\n' for i in range(9)
)
SPLITS = "chrom\tsplit\tstart\tend\na\ttrain\t0\t9\na\tvalid\t9\t20\nb\ttest\t\t\n"
TARGETS = "file\tname\tcell_type\tassay\na.bed\tA\tK562\tDNase\nb.bed\tB\tHepG2\tTF\n"
_COUNTED = "0.9\t0.4\t0.5\t0.41\t0.44"
AUCS = (
    "target\tname\tcell_type\tassay\ttreatment\tgroup\tpositives\tnegatives\tauroc\tauprc\t"
    "auprc_interpolated\taccuracy\tf1\tthreshold\tf1_at_threshold\tf1_maximum\tauroc_low\n"
    f"0\tA\tK562\tDNase\t\tx\t5\t95\t0.75\t0.25\t0.26\t{_COUNTED}\t0.7\n"
    f"1\tB\t\t\t\tx\t0\t100\tNA\tNA\tNA\t{_COUNTED}\tNA\n"
)
PUBLISHED = (
    "data\trecipe\tauroc\tauprc\tmcc\tsource\tbut_for\n"
    "yeast\tthem\t0.9\tNA\tNA\ta paper\tseeds\nhuman\tus\t0.8\t0.1\t0.5\tanother\t\n"
)


def _reader(
    name: str,
    make: Callable[[Path], Path],
    read: Callable[[Path], Content],
    plain: Callable[[bytes], Content | None] | None = None,
) -> Reader:
    """A reader whose content is compared as Python shows it."""

    def meant(content: bytes) -> str | None:
        found = plain(content)  # type: ignore[misc]
        return None if found is None else repr(found)

    return Reader(
        name, make, lambda path: repr(read(path)), mutate, plain=None if plain is None else meant
    )


READERS = {
    reader.name: reader
    for reader in (
        _reader("bed", _writer("x.bed", BED), read_bed, plain_bed),
        _reader("narrowpeak", _writer("x.narrowPeak", PEAKS), read_peaks),
        _reader("fasta", _writer("a.fa", FASTA), read_fasta, plain_fasta),
        _reader("fai", make_index, read_beside_index, plain_beside_index),
        _reader("vcf", _writer("v.vcf", VCF), read_vcf, plain_vcf),
        _reader("list", _writer("v.txt", LIST), read_vcf),
        _reader("meme", _writer("m.meme", MEME), read_motifs),
        _reader("jaspar", _writer("m.jaspar", JASPAR), read_motifs),
        _reader("homer", _writer("m.homer", HOMER), read_motifs),
        _reader("transfac", _writer("m.transfac", TRANSFAC), read_motifs),
        _reader("labelled", _writer("s.tsv", LABELLED), read_labelled),
        _reader("listed", _writer("s.csv", LISTED), read_labelled),
        _reader("splits", _writer("splits.tsv", SPLITS), read_splits),
        _reader("targets", _writer("targets.tsv", TARGETS), read_targets),
        _reader("aucs", _writer("test_aucs.tsv", AUCS), read_aucs),
        _reader("published", _writer("published.tsv", PUBLISHED), read_published),
        _reader("config", make_config, read_config),
    )
}


if __name__ == "__main__":
    sys.exit(main(READERS, sys.argv[1:]))
