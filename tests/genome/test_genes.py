"""Gene models as Ensembl, GENCODE, SGD and UCSC write them."""

import gzip

import pytest

from danq_keras.genome.genes import Gene, lanes, read_genes
from danq_keras.genome.regions import Region
from danq_keras.system.errors import InputError

WHOLE = Region("chr1", 0, 100_000)
GTF = """#!genome-build X
1\tensembl\tgene\t101\t900\t.\t+\t.\tgene_id "G1"; gene_version "2"; gene_name "AB;C1";
1\tensembl\ttranscript\t101\t900\t.\t+\t.\tgene_id "G1"; transcript_id "T1"; gene_name "AB;C1";
1\tensembl\texon\t101\t300\t.\t+\t.\tgene_id "G1"; transcript_id "T1"; exon_number "1";
1\tensembl\tCDS\t201\t300\t.\t+\t0\tgene_id "G1"; transcript_id "T1";
1\tensembl\texon\t701\t900\t.\t+\t.\tgene_id "G1"; transcript_id "T1"; exon_number 2;
1\tensembl\texon\t251\t400\t.\t+\t.\tgene_id "G1"; transcript_id "T2"; exon_number 1;
2\tensembl\tgene\t5\t9\t.\t+\t.\tgene_id "far";
1\tensembl\texon\t5001\t5100\t.\t-\t.\tgene_id "G2"; transcript_id "T3";
1\tensembl\texon\t5301\t5400\t.\t-\t.\tgene_id "G2"; transcript_id "T3";
"""
GFF = """##gff-version 3
chr1\tSGD\tchromosome\t1\t90000\t.\t.\t.\tID=chr1
chr1\tSGD\tgene\t101\t900\t.\t+\t.\tID=YAL1;Name=YAL1;gene=AB%3BC1
chr1\tSGD\tmRNA\t101\t900\t.\t+\t.\tID=YAL1_mRNA;Parent=YAL1
chr1\tSGD\tCDS\t201\t300\t.\t+\t0\tParent=YAL1_mRNA;Name=YAL1_CDS
chr1\tSGD\tfive_prime_UTR\t101\t200\t.\t+\t.\tParent=YAL1_mRNA
chr1\tSGD\tncRNA_gene\t5001\t5400\t.\t-\t.\tID=N1
chr1\tSGD\tCDS\t9001\t9100\t.\t+\t0\tParent=nobody
##FASTA
>chr1
ACGT
"""
BED = """track name=genes
chr1\t100\t900\tABC1\t0\t+\t200\t300\t0\t2\t200,200,\t0,600,
chr1\t5000\t5400\tplain\t0\t-
chr2\t5\t9
"""
FIRST = Gene("AB;C1", 100, 900, "+", [(100, 400), (700, 900)], [(200, 300)])


def written(tmp_path, name, text):
    path = tmp_path / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["g.gtf", "g.gtf.gz"])
def test_gtf_with_and_without_lines_of_genes(tmp_path, name, messages):
    path = written(tmp_path, name, GTF)
    assert read_genes(path, WHOLE) == [
        FIRST,
        Gene("G2", 5000, 5400, "-", [(5000, 5100), (5300, 5400)], []),
    ]
    assert f"{path}: its 1 is taken for chr1." in messages.text
    assert [gene.name for gene in read_genes(path, Region("chr1", 899, 5000))] == ["AB;C1"]
    assert read_genes(path, Region("chr1", 900, 5000)) == []
    assert [gene.name for gene in read_genes(path, Region("2"))] == ["far"]


def test_gff3_by_its_parents(tmp_path):
    found = read_genes(written(tmp_path, "g.gff3", GFF), WHOLE)
    assert found == [
        Gene("AB;C1", 100, 900, "+", [(100, 300)], [(200, 300)]),
        Gene("N1", 5000, 5400, "-", [(5000, 5400)], []),
    ]


def test_bed_with_and_without_blocks(tmp_path):
    found = read_genes(written(tmp_path, "g.bed", BED), WHOLE)
    assert found == [
        Gene("ABC1", 100, 900, "+", [(100, 300), (700, 900)], [(200, 300)]),
        Gene("plain", 5000, 5400, "-", [(5000, 5400)], []),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("g.txt", GTF, "gene models are read from .gtf, .gff"),
        ("g.gtf", GTF.replace("101\t900", "101\tx", 1), "g.gtf, line 2: start and end are whole"),
        ("g.gtf", GTF.replace("101\t900", "901\t900", 1), "line 2: the end is not before"),
        ("g.gff", "chr1\tx\tgene\t1\t9\n", "line 1: a GFF3 line has at least 9 columns"),
        ("g.bed", BED.replace("\t2\t200", "\t3\t200"), "line 2: a BED12 line has as many block"),
        ("g.bed", BED.replace("200,200,", "200,-1,"), "line 2: a block has a start and a size"),
        ("g.gtf", GTF.replace("1\tensembl", "X\tensembl"), "nothing on chr1. Its chromosomes: X"),
        ("g.gtf", "# none\n", "nothing on chr1. Its chromosomes: none"),
    ],
)
def test_what_is_no_file_of_genes(tmp_path, name, text, message):
    with pytest.raises(InputError, match=message):
        read_genes(written(tmp_path, name, text), WHOLE)


def test_lanes_keep_their_distance():
    assert lanes([(0, 10), (5, 20), (12, 30), (21, 30)], 2) == [0, 1, 0, 2]
    assert lanes([], 5) == []
