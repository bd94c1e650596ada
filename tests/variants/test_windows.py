"""Windows of variants, against strings cut out of a genome by hand."""

import h5py
import numpy as np
import pytest

from danq_keras.genome import dna
from danq_keras.genome.fasta import Genome
from danq_keras.variants.vcf import Record
from danq_keras.variants.windows import Allele, Reason, WindowCutter

L = 20
CHR1 = "".join(np.random.default_rng(4).choice(list("ACGT"), 200))
CHR1 = CHR1[:150] + "n" + CHR1[151:].lower()
CHR2 = "ACGTACGTACGTACGTACGTACGT"


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "g.fa"
    path.write_text(f">chr1\n{CHR1[:100]}\n{CHR1[100:]}\n>chr2\n{CHR2}\n")
    with Genome(path) as opened:
        yield opened


@pytest.fixture
def cutter(genome):
    return WindowCutter(genome, L)


def record(pos, ref, *alts, chrom="chr1"):
    return Record(chrom, pos, ".", ref, alts)


def letters(codes):
    return dna.decode(codes)


def by_hand(chrom, pos, ref, alt):
    """Both windows as text: 9 bases, the allele, the rest from the genome."""
    left = chrom[pos - 1 - 9 : pos - 1]
    reference = (left + chrom[pos - 1 :])[:L]
    alternative = (left + alt + chrom[pos - 1 + len(ref) :])[:L]
    assert len(reference) == len(alternative) == L
    return reference.upper(), alternative.upper()


@pytest.mark.parametrize(
    ("n_ref", "alt"),
    [
        (1, "T"), (1, "t"), (1, "GATTACA"), (5, "C"), (3, "TTT"), (2, "ACGTAC"), (14, "A"),
        (1, "ACGTACGTACGTACGT"), (20, "A"), (1, "A" * 20),
    ],
)  # fmt: skip
@pytest.mark.parametrize("pos", [60, 101, 160])
def test_windows_are_those_cut_by_hand(pos, n_ref, alt, cutter):
    """SNVs, insertions, deletions, both; lower case; alleles that the window cuts."""
    ref = CHR1[pos - 1 : pos - 1 + n_ref]
    variant = record(pos, ref, alt)
    [(allele, skipped)] = cutter.judge(variant)
    assert skipped is None
    found = [letters(codes) for codes in cutter.windows([allele])]
    assert found == list(by_hand(CHR1, pos, ref, alt))
    assert found[0][:9] == found[1][:9]
    assert found[0][9] == ref[0].upper()  # index L // 2 - 1
    assert found[1][9] == alt[0].upper()
    assert cutter.is_cut(allele) == (max(n_ref, len(alt)) > 11)


@pytest.mark.parametrize(
    ("variant", "reasons"),
    [
        (record(50, "A", "C", chrom="chrX"), [Reason.CHROMOSOME]),
        (record(50, "A"), [Reason.NO_ALTERNATIVE]),
        (record(50, CHR1[49], "<DEL>"), [Reason.SYMBOLIC]),
        (record(50, CHR1[49], f"{CHR1[49]}[chr2:5["), [Reason.SYMBOLIC]),
        (record(50, CHR1[49], f".{CHR1[49]}"), [Reason.SYMBOLIC]),
        (record(50, CHR1[49], "*", "<INS>"), [Reason.SPANNING, Reason.SYMBOLIC]),
        (record(50, CHR1[49], "R"), [Reason.LETTERS]),
        (record(151, "N", "A"), [Reason.LETTERS]),
        (record(50, CHR1[49:70], "A"), [Reason.LONG]),
        (record(50, CHR1[49], "A" * 21), [Reason.LONG]),
        (record(10, CHR1[9], "CC"), [None]),
        (record(9, CHR1[8], "CC"), [Reason.END]),
        (record(190, CHR1[189], "C" + CHR1[189]), [None]),
        (record(191, CHR1[190], "CC"), [Reason.END]),
        (record(189, CHR1[188:190], "C"), [None]),  # one base from beyond the window
        (record(190, CHR1[189:191], "C", "GG"), [Reason.END, None]),
        (record(0, "A", "C"), [Reason.END]),  # the telomeres
        (record(201, "A", "C"), [Reason.END]),
        (record(202, "A", "C"), [Reason.MISMATCH]),
        (record(200, CHR1[199] + "A", "C"), [Reason.MISMATCH]),
    ],
)
def test_every_reason(variant, reasons, cutter):
    judged = cutter.judge(variant)
    assert [skipped and skipped.reason for _, skipped in judged] == reasons
    assert [allele.alt for allele, _ in judged] == list(variant.alts or ".")


def test_a_mismatch_says_what_was_expected_and_found(cutter):
    wrong = "C" if CHR1[49] != "C" else "G"
    judged = cutter.judge(record(50, wrong, "A", "<DEL>", "T"))
    details = [str(skipped) for _, skipped in judged]
    expected = f"REF differs from the genome: expected {CHR1[49]}, found {wrong}"
    assert details == [expected, str(Reason.SYMBOLIC), expected]
    [(_, skipped)] = cutter.judge(record(50, "A" * 19, "C"))
    assert f"expected {CHR1[49:68]}, found {'A' * 19}" in str(skipped)
    [(_, skipped)] = cutter.judge(record(151, "A", "C"))  # the genome has n
    assert str(skipped).endswith("expected N, found A")
    [(_, skipped)] = cutter.judge(record(300, "A", "C"))
    assert str(skipped).endswith("the chromosome has 200 bases")


def test_lower_case_is_no_mismatch(cutter):
    assert cutter.judge(record(160, CHR1[159].upper(), "CC"))[0][1] is None
    assert cutter.judge(record(60, CHR1[59].lower(), "CC"))[0][1] is None


VARIANTS = [
    record(60, CHR1[59], "AAA", "<DEL>", "CC"),
    record(60, CHR1[59:61], "GG"),  # the same place, so the same reference window
    record(5, CHR1[4], "GGG"),
    record(30, CHR1[29], "GGG"),  # unsorted
    record(12, "T", "AAC", chrom="chr2"),
]


def test_blocks_share_reference_windows_and_keep_the_order(cutter):
    [block] = cutter.blocks(iter(VARIANTS), 100)
    assert [allele.alt for allele in block.alleles] == ["AAA", "CC", "GG", "GGG", "AAC"]
    assert block.ref_row.tolist() == [0, 0, 0, 4, 6]
    assert block.alt_row.tolist() == [1, 2, 3, 5, 7]
    texts = [letters(codes) for codes in dna.unpack_codes(block.packed, L)]
    for allele, ref_row, alt_row in zip(block.alleles, block.ref_row, block.alt_row, strict=True):
        chrom = {"chr1": CHR1, "chr2": CHR2}[allele.chrom]
        expected = by_hand(chrom, allele.pos, allele.ref, allele.alt)
        assert (texts[ref_row], texts[alt_row]) == expected
    assert [(s.allele.alt, s.reason) for s in block.skipped] == [
        ("<DEL>", Reason.SYMBOLIC), ("GGG", Reason.END),
    ]  # fmt: skip
    assert [indices for _, indices in block.records] == [(0, None, 1), (2,), (None,), (3,), (4,)]
    assert [entry[0] for entry in block.records] == VARIANTS
    assert not block.is_snv.any()


@pytest.mark.parametrize("n_windows", [2, 3, 4, 7])
def test_the_size_of_blocks_changes_nothing_but_their_number(n_windows, cutter):
    [whole] = cutter.blocks(iter(VARIANTS), 100)
    blocks = list(cutter.blocks(iter(VARIANTS), n_windows))
    assert len(blocks) > 1
    assert all(len(block.packed) <= max(3, n_windows) for block in blocks)
    for rows in ("ref_row", "alt_row"):
        apart = np.concatenate([block.packed[getattr(block, rows)] for block in blocks])
        np.testing.assert_array_equal(apart, whole.packed[getattr(whole, rows)])
    for name in ("alleles", "skipped"):
        assert sum((getattr(block, name) for block in blocks), ()) == getattr(whole, name)
    assert [entry[0] for block in blocks for entry in block.records] == VARIANTS


def test_records_without_windows_do_not_pile_up(cutter):
    nothing = [record(50, "A", "<DEL>")] * 100
    blocks = list(cutter.blocks(iter(nothing), 2))
    assert [len(block.records) for block in blocks] == [32, 32, 32, 4]
    assert all(block.packed.shape == (0, L // 2) for block in blocks)
    assert list(cutter.blocks(iter([]), 2)) == []


def test_a_survey_counts_what_the_blocks_hold(cutter):
    wrong = record(70, "A" if CHR1[69] != "A" else "C", "GG")
    elsewhere = record(1, "A", "C", chrom="chrX")
    long = record(60, CHR1[59], "A" * 15)
    survey = cutter.survey([*VARIANTS, wrong, wrong, elsewhere, long], desc="check")
    assert (survey.n_records, survey.n_alleles, survey.n_cut) == (9, 6, 1)
    assert dict(survey.n_skipped) == {
        Reason.SYMBOLIC: 1, Reason.END: 1, Reason.MISMATCH: 2, Reason.CHROMOSOME: 1,
    }  # fmt: skip
    assert survey.first_mismatch.allele == Allele("chr1", 70, ".", wrong.ref, "GG")
    assert list(survey.unknown_chroms) == ["chrX"]


@pytest.mark.parametrize(
    ("places", "first"),
    [
        ([("chr1", 5), ("chr1", 5), ("chr1", 9), ("chr2", 1)], ""),
        ([("chr2", 5), ("chr1", 1), ("chr3", 1)], ""),  # any order of chromosomes
        ([("chr1", 5), ("chr1", 4), ("chr1", 3)], "chr1:4"),
        ([("chr1", 5), ("chr2", 4), ("chr1", 6)], "chr1:6"),
    ],
)
def test_a_survey_notes_the_first_record_out_of_order(places, first, cutter):
    records = [record(pos, "A", "C", chrom=chrom) for chrom, pos in places]
    assert cutter.survey(records, desc="check").first_unsorted == first


def test_chromosomes_can_be_renamed_while_alleles_keep_their_names(genome):
    renamed = WindowCutter(genome, L, chrom_names="add")
    [(allele, skipped)] = renamed.judge(record(60, CHR1[59], "CC", chrom="1"))
    assert skipped is None
    assert allele.chrom == "1"
    assert letters(renamed.windows([allele])[0]) == by_hand(CHR1, 60, CHR1[59], "CC")[0]


@pytest.mark.data
def test_deepseas_example_variants_stand_at_index_499(data_dir, tmp_path):
    """Its reference windows, laid side by side as a genome, are cut out again."""
    with h5py.File(data_dir / "deepsea_example" / "example.h5") as file:
        onehot = file["testxdata"][:4].transpose(0, 2, 1)
    codes = dna.unpack_codes(dna.pack_onehot(onehot), 1000)
    texts = [dna.decode(row) for row in codes]
    path = tmp_path / "windows.fa"
    path.write_text("".join(f">w{i}\n{text}\n" for i, text in enumerate(texts)))
    assert [text[499] for text in texts] == list("GATC")
    with Genome(path) as genome:
        cutter = WindowCutter(genome, 1000)
        for number, base in enumerate("GATC"):
            other = "A" if base != "A" else "C"
            allele = Allele(f"w{number}", 500, ".", base, other)
            [(_, skipped)] = cutter.judge(Record(*allele[:4], (other,)))
            assert skipped is None  # the only place of the sequence with a whole window
            ref, alt = cutter.windows([allele])
            np.testing.assert_array_equal(ref, codes[number])
            assert np.flatnonzero(ref != alt).tolist() == [499]
            [(_, skipped)] = cutter.judge(
                Record(f"w{number}", 501, ".", texts[number][500], ("A" * 2,))
            )
            assert skipped.reason is Reason.END


def test_ref_where_the_genome_has_a_letter_for_several_bases(tmp_path):
    """VCF has one of the bases there; the reference window has it too."""
    path = tmp_path / "g.fa"
    path.write_text(">chr1\n" + CHR2[:12] + "R" + CHR2[13:] + "\n")
    with Genome(path) as genome:
        cutter = WindowCutter(genome, 9)
        ((allele, skipped),) = cutter.judge(record(13, "A", "T"))
        assert skipped is None
        left, right = CHR2[8:12], CHR2[13:17]
        assert list(map(letters, cutter.windows([allele]))) == [
            f"{left}A{right}",
            f"{left}T{right}",
        ]
        ((_, skipped),) = cutter.judge(record(13, "C", "T"))
        assert skipped is not None
        assert "expected R, found C" in str(skipped)
        ((_, skipped),) = cutter.judge(record(12, "TA", "T"))
        assert (skipped is None) == (CHR2[11] == "T")
