"""VCF files as text, in every packing, against the lines they were written from."""

import gzip
import os
import threading

import pysam
import pytest
from damaged_text import mutants

from danq_keras.system.errors import InputError
from danq_keras.system.files import BGZIP_END, is_bgzip
from danq_keras.variants import bgzip
from danq_keras.variants.vcf import Record, VcfFile

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
    vcf = VcfFile(path)
    return list(vcf.records(**options))


def without_lines(records):
    return [record._replace(line=b"") for record in records]


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def copied(path):
    """What comes out when nothing is added, the notes, and the places and alleles."""
    vcf = VcfFile(path)
    records = list(vcf.records())
    text = vcf.header + b"".join(record.line for record in records) + vcf.tail
    return text, vcf.notes, [(r.chrom, r.pos, r.id, r.ref, r.alts) for r in records]


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
    assert without_lines(read(path)) == RECORDS
    assert capfd.readouterr().err == ""  # htslib has much to say of such headers
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plain.vcf", "v"]  # no index


def test_lines_are_the_files_own(tmp_path):
    path = tmp_path / "v.vcf"
    path.write_text(TEXT)
    assert [record.line.decode() for record in read(path)] == [f"{line}\n" for line in LINES]
    vcf = VcfFile(path)
    assert vcf.header.decode() == HEADER
    assert vcf.notes == ()


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (TEXT, ()),
        (TEXT.rstrip("\n"), ()),
        (TEXT.replace("\n", "\r\n"), ()),
        (TEXT.replace("rs1", "naïve").encode(), ()),
        (b"\xef\xbb\xbf" + TEXT.encode(), ("begins with a byte order mark",)),
        (TEXT.replace("rs1", "r\x1b[31m").encode(), ("1 records have an identifier",)),
        (TEXT.encode().replace(b"rs1", b"r\xe9"), ("1 records have an identifier",)),
        (
            HEADER.encode() + b"##x=\xe9\n".join([b"", TEXT.encode()[len(HEADER) :]]),
            ("1 lines of",),
        ),
        (TEXT + "\n\n# the end\n", ("2 blank lines", "1 lines of comment")),
        (TEXT.replace("chr2\t7", "\n#x\nchr2\t7"), ("1 blank lines", "1 lines of comment")),
        (TEXT.replace("\tGT\t0|0\t./.", "").replace("\t.\t.\t.\n", "\n"), ("1 lines have other",)),
        (TEXT.replace("0/1\t1|1", "0/1\t1|1\t0/0"), ("1 lines have other",)),
        (TEXT.split("\n", 1)[1], ("does not begin with ##fileformat=VCFv4 but with '##contig",)),
        (TEXT.replace("VCFv4.2", "VCFv3.3"), ("does not begin with ##fileformat=VCFv4",)),
    ],
)
def test_what_is_read_can_be_written_back_byte_for_byte(content, notes, tmp_path):
    path = written(tmp_path / "v.vcf", content)
    text, said, records = copied(path)
    assert text == path.read_bytes()
    assert len(said) == len(notes)
    for line, beginning in zip(said, notes, strict=True):
        assert line.startswith(beginning)
    assert [record[:2] for record in records] == [(r.chrom, r.pos) for r in RECORDS]
    assert all(part.isprintable() for record in records for part in (record[2], record[3]))


LIST = "chr1\t100\t[up]\tA\tG\nchr1\t5\tx y\tac\ta\n"
LISTED = [("chr1", 100, "[up]", "A", ("G",)), ("chr1", 5, "x y", "ac", ("a",))]


@pytest.mark.parametrize(
    "content",
    [
        LIST,
        LIST.replace("\n", "\r\n"),
        LIST.rstrip("\n"),
        b"\xef\xbb\xbf" + LIST.encode(),
        "\n# mine\n" + LIST.replace("\n", "\n\n#next\n") + "\n",
        LIST.replace("\n", " \n"),
        LIST.replace("\n", "\t.\tPASS\t.\n"),
        LIST.replace("\n", "\t\n"),
        "chrom\tpos\tname\tref\talt\n" + LIST,
        "CHROM\tPOS\tID\tREF\tALT\n" + LIST,
        "#CHROM\tPOS\tID\tREF\tALT\n" + LIST,
        LIST.replace("x y", "x_y").replace("\t", "  "),
    ],
)
def test_lists_without_header_are_read_and_become_vcf_files(content, tmp_path):
    path = written(tmp_path / "list.vcf", content)
    text, notes, records = copied(path)
    assert [(*r[:2], r[2].replace("_", " "), *r[3:]) for r in records] == LISTED
    assert any("#CHROM" in note or "##fileformat" in note for note in notes)
    out = written(tmp_path / "out.vcf", text.removeprefix(b"\xef\xbb\xbf"))
    again, _, others = copied(out)
    assert others == records
    assert again == out.read_bytes()
    rows = [line for line in again.splitlines() if line and not line.startswith(b"#")]
    assert {row.count(b"\t") for row in rows} == {7}


def test_a_list_with_an_end_column_is_read_with_a_word(tmp_path):
    for end in ("100", "101"):
        _, notes, _ = copied(written(tmp_path / "v.txt", LIST.replace("[up]", end)))
        assert any("looks like the end of an interval" in note for note in notes)


def test_odd_alleles_come_back_as_they_are_written(tmp_path):
    alts = ("<DEL>", "*", ".", "]chr2:7]A", "A.", ".A", "a", "R", "A,<INS>,*", "", "A,,G")
    rows = "".join(f"chr1\t{i}\t.\tN\t{alt}\t.\t.\t.\n" for i, alt in enumerate(alts))
    path = written(tmp_path / "v.vcf", HEADER.replace("\tFORMAT\ts1\ts2", "") + rows)
    text, notes, records = copied(path)
    assert (text, notes) == (path.read_bytes(), ())
    assert [",".join(r[4]) for r in records] == ["" if alt == "." else alt for alt in alts]


@pytest.mark.parametrize("packed", [False, True])
def test_pipes_are_read_as_files_are(packed, tmp_path):
    content = gzip.compress(TEXT.encode()) if packed else TEXT.encode()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    feeder = threading.Thread(target=pipe.write_bytes, args=(content,))
    feeder.start()
    vcf = VcfFile(pipe)
    feeder.join()
    for _ in range(2):
        assert without_lines(vcf.records()) == RECORDS
    assert vcf.header.decode() == HEADER


def test_a_digest_knows_the_content(tmp_path):
    digests = []
    for name, content in (("a", TEXT), ("b", TEXT), ("c", TEXT.replace("AF=0.1", "AF=0.2"))):
        vcf = VcfFile(written(tmp_path / name, content))
        digests.append(vcf.digest())
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (">chr1\nACGT\n", "not a VCF file (it has no #CHROM line), nor a list of chrom, pos"),
        ("chr1\t100\tA\tG\n", "nor a list of chrom, pos, name, ref, alt separated by tabs"),
        ("chr1\t1e3\tx\tA\tG\n", "nor a list"),
        ("chr1\t100\t200\tpeak\t0\t+\n", "nor a list"),
        ("pos\tchrom\tname\tref\talt\n1\tchr1\tx\tA\tG\n", "nor a list"),
        ("chrom\tpos\tname\talt\tref\nchr1\t1\tx\tA\tG\n", "nor a list"),
        ("\x1b[31m\n", r"Received: '\x1b[31m'"),
        ("##fileformat=VCFv4.2\n", "no variants after the header, which has no #CHROM line"),
        (HEADER.replace("ALT\tQUAL", "QUAL\tALT"), "the columns of its #CHROM line must be"),
        (HEADER.replace("\t", " "), "the columns of its #CHROM line must be"),
        (TEXT.encode("utf-16"), "not a VCF file: it is UTF-16 text"),
        (b"\x89HDF\0\0", "not a VCF file: it is binary"),
        (HEADER + LINES[0][: LINES[0].index("AT")], "line 4 ends in its 5th of 11 columns"),
        ("", "the file is empty"),
        ("hello\n", "not a VCF file"),
        (HEADER + LINES[0] + "\nchr1\tten\t.\tA\tC\t.\t.\t.\n", "line 5 is malformed"),
        (HEADER + "chr1\t" + "9" * 5000 + "\t.\tA\tC\t.\t.\t.\n", "line 4 is malformed"),
        (HEADER + "chr1\t-5\t.\tA\tC\t.\t.\t.\n", "line 4 is malformed"),
        (HEADER + "chr1\t10\t.\tA\n", "line 4 is malformed"),
        (HEADER + "chr1 10 . A C . . .\n", "separated by tabs"),
    ],
)
def test_what_is_no_vcf_is_one_line(content, message, tmp_path, capfd):
    path = written(tmp_path / "v.vcf", content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()
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


def test_bgzip_cut_between_two_blocks_is_truncated(tmp_path):
    blocks = [bgzip.packed_block(TEXT.encode()), bgzip.packed_block(LINES[0].encode())]
    path = written(tmp_path / "v.vcf.gz", b"".join([*blocks, BGZIP_END]))
    assert len(read(path)) == 5
    with pytest.raises(InputError, match="truncated: the block that ends"):
        read(written(path, blocks[0]))


def test_blocks_are_those_of_bgzip(tmp_path):
    text = bytes(range(256)) * 255
    assert len(text) == bgzip.BLOCK
    path = written(tmp_path / "t.gz", bgzip.packed_block(text) + BGZIP_END)
    assert gzip.decompress(path.read_bytes()) == text
    with pysam.BGZFile(str(path)) as file:
        assert file.read() == text
    noise = os.urandom(bgzip.BLOCK)
    assert gzip.decompress(bgzip.packed_block(noise)) == noise
    assert is_bgzip(path.read_bytes()[:16])
    assert not is_bgzip(gzip.compress(text)[:16])


@pytest.mark.parametrize("content", [TEXT, LIST, "#CHROM\tPOS\tID\tREF\tALT\n" + LIST])
def test_damaged_text_is_variants_or_refused_in_a_line(content, tmp_path):
    path, unclean = tmp_path / "v.vcf", 0
    for mutant in mutants(content.encode(), 300):
        path.write_bytes(mutant)
        try:
            vcf = VcfFile(path)
            records = list(vcf.records())
        except InputError as error:
            unclean += not str(error).isprintable()
            continue
        assert all("".join((r.chrom, r.id, r.ref, *r.alts)).isprintable() for r in records)
        assert "".join(vcf.notes).isprintable()
        text = vcf.header + b"".join(record.line for record in records) + vcf.tail
        if vcf.header in mutant:  # none was made up
            assert text == mutant
    assert unclean == 0  # no message had a control character
