"""VCF files as text, in every packing, against the lines they were written from."""

import gzip

import pysam
import pytest

from danq_keras.system.errors import InputError
from danq_keras.variants.vcf import Record, VcfFile, text_output

HEADER = (
    "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=1000>\n"
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2\n"
)
LINES = (  # unsorted, multi-allelic, phased and not, undefined contig and keys
    "chr1\t100\trs1\tA\tG,AT\t50\tPASS\tAF=0.1\tGT\t0|1\t1/2",
    "chr1\t5\t.\tacg\ta\t.\t.\t.\tGT\t0|0\t./.",
    "chr2\t7\tx;y\tN\t<DEL>,*\t.\tq10\tEND=50\tGT\t0/1\t1|1",
    "chr1\t9\t.\tA\t.\t.\t.\t.\tGT\t0/0\t0/0",
)
RECORDS = [
    Record("chr1", 100, "rs1", "A", ("G", "AT")),
    Record("chr1", 5, ".", "acg", ("a",)),
    Record("chr2", 7, "x;y", "N", ("<DEL>", "*")),
    Record("chr1", 9, ".", "A", ()),
]
TEXT = HEADER + "".join(f"{line}\n" for line in LINES)


def read(path, **options):
    with VcfFile(path) as vcf:
        return list(vcf.records(**options))


@pytest.mark.parametrize("packing", ["plain", "windows", "gzip", "bgzip", "bcf"])
def test_records_come_back_in_order_whatever_the_packing(packing, tmp_path, capfd):
    plain, path = tmp_path / "plain.vcf", tmp_path / "v"
    plain.write_text(TEXT)
    if packing == "windows":
        path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    elif packing == "gzip":
        path.write_bytes(gzip.compress(TEXT.encode()))
    elif packing == "bgzip":
        pysam.tabix_compress(str(plain), str(path))
    elif packing == "bcf":
        defined = TEXT.replace(
            "#CHROM",
            "##contig=<ID=chr2>\n##FILTER=<ID=q10,Description='x'>\n"
            '##INFO=<ID=AF,Number=A,Type=Float,Description="x">\n'
            '##INFO=<ID=END,Number=1,Type=Integer,Description="x">\n'
            '##FORMAT=<ID=GT,Number=1,Type=String,Description="x">\n#CHROM',
        ).replace("'x'", '"x"')
        plain.write_text(defined)
        with (
            pysam.VariantFile(str(plain)) as source,
            pysam.VariantFile(str(path), "wb", header=source.header) as target,
        ):
            for record in source:
                target.write(record)
    else:
        path.write_text(TEXT)
    capfd.readouterr()
    assert read(path) == RECORDS
    assert capfd.readouterr().err == ""  # htslib has much to say of such headers
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plain.vcf", "v"]  # no index


def test_lines_are_the_files_own(tmp_path):
    path = tmp_path / "v.vcf"
    path.write_text(TEXT)
    assert [record.line for record in read(path, with_lines=True)] == list(LINES)
    with VcfFile(path) as vcf:
        assert vcf.header.startswith("##fileformat=VCFv4.2\n")
        assert vcf.header.endswith(HEADER.splitlines(keepends=True)[-1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LINES[0] + "\n", "not a VCF file: it must begin with ##fileformat"),
        (HEADER.split("\n", 1)[1] + LINES[0], "not a VCF file"),
        ("", "the file is empty"),
        ("hello\n", "not a VCF file"),
        (HEADER + LINES[0] + "\nchr1\tten\t.\tA\tC\t.\t.\t.\n", "record 2, after chr1:100, is mal"),
        (HEADER + "chr1\t10\t.\tA\n", "record 1 is malformed"),
        (HEADER + "chr1 10 . A C . . .\n", "separated by tabs"),
    ],
)
def test_what_is_no_vcf_is_one_line(content, message, tmp_path, capfd):
    path = tmp_path / "v.vcf"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        VcfFile(tmp_path / "v.vcf")


@pytest.mark.parametrize("packing", ["gzip", "bgzip"])
def test_a_truncated_file(packing, tmp_path):
    plain, path = tmp_path / "plain.vcf", tmp_path / "v.vcf.gz"
    plain.write_text(TEXT + (LINES[0] + "\n") * 40_000)
    if packing == "gzip":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    else:
        pysam.tabix_compress(str(plain), str(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"v\.vcf\.gz: (damaged or )?truncated"):
        read(path)


@pytest.mark.parametrize("packed", [True, False])
def test_text_output(packed, tmp_path):
    with text_output(tmp_path / "t", packed=packed) as file:
        file.write(b"a\tb\n")
    content = (tmp_path / "t").read_bytes()
    assert (gzip.decompress(content) if packed else content) == b"a\tb\n"
