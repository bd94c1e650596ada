"""`score_variants.py` with toy networks whose answer can be counted."""

import gzip
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pandas as pd
import pysam
import pytest

import danq_keras as dq
from danq_keras.commands import benchmark, score_variants
from danq_keras.data.targets import Targets
from danq_keras.genome import dna
from danq_keras.genome.fasta import Genome
from danq_keras.models.trained import TrainedModel, fingerprint, load_model
from danq_keras.system import errors
from danq_keras.system.threads import ahead
from danq_keras.variants.effects import difference, log_odds_difference
from danq_keras.variants.files import EffectsHeader, ScoredBlock, ShortForm, TableRows
from danq_keras.variants.growing import GrowingEffects
from danq_keras.variants.scorer import VariantScorer
from danq_keras.variants.vcf import Record
from danq_keras.variants.windows import Allele, WindowCutter

L = 20
TOLERANCE = 3e-7  # of float32 probabilities
MOTIF = "GATTACA"
BODY = np.random.default_rng(7).choice(list("ACGT"), 120)
BODY[50:57] = list(MOTIF)
CHR1 = "".join(BODY)
HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def counting_network(window=L):
    """P(target i) = sigmoid of how many of base i (A,G,C,T) there are, less 5."""
    inputs = keras.Input((window, 4))
    counts = keras.layers.GlobalAveragePooling1D()(inputs)
    dense = keras.layers.Dense(4, activation="sigmoid")
    network = keras.Model(inputs, dense(counts))
    dense.set_weights([np.eye(4, dtype=np.float32) * window, np.full(4, -5, np.float32)])
    return network


def motif_network():
    """P = sigmoid(2) where the motif stands in the window as it is read, else sigmoid(-2)."""
    inputs = keras.Input((L, 4))
    conv = keras.layers.Conv1D(1, len(MOTIF), activation="relu")
    dense = keras.layers.Dense(1, activation="sigmoid")
    found = keras.layers.GlobalMaxPooling1D()(conv(inputs))
    network = keras.Model(inputs, dense(found))
    kernel = dna.onehot_from_codes(dna.encode(MOTIF)).astype(np.float32)[:, :, None]
    conv.set_weights([kernel, np.array([1.0 - len(MOTIF)], np.float32)])
    dense.set_weights([np.array([[4.0]], np.float32), np.array([-2.0], np.float32)])
    return network


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def count_by_hand(text):
    """Mean of both strands: the reverse complement has T for A and C for G."""
    n = np.array([text.count(base) for base in "AGCT"])
    return (sigmoid(n - 5) + sigmoid(n[::-1] - 5)) / 2


def windows_by_hand(pos, ref, alt):
    left, right = CHR1[pos - 10 : pos - 1], CHR1[pos - 1 + len(ref) :]
    return (left + CHR1[pos - 1 :])[:L], (left + alt + right)[:L]


VARIANTS = [  # unsorted, multi-allelic, insertions and deletions
    (60, CHR1[59], ("A", "C", "G", "T")),
    (30, CHR1[29], (CHR1[29] + "GGGG",)),
    (30, CHR1[29:35], (CHR1[29], "<DEL>")),
    (4, CHR1[3], ("GG",)),
    (95, CHR1[94:97], ("TTTAA",)),
]


def write_vcf(path, variants=VARIANTS, chrom="chr1"):
    rows = (
        f"{chrom}\t{pos}\tv{i}\t{ref}\t{','.join(alts)}\t.\tPASS\t{'AC=1' if i % 2 else '.'}\n"
        for i, (pos, ref, alts) in enumerate(variants)
    )
    path.write_text(HEADER + "".join(rows))
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    counting_network().save(folder / "count.keras")
    motif_network().save(folder / "motif.keras")
    counting_network(30).save(folder / "longer.keras")
    return folder


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "g.fa"
    path.write_text(f">chr1\n{CHR1}\n")
    return path


@pytest.fixture
def vcf(tmp_path):
    return write_vcf(tmp_path / "v.vcf")


@pytest.fixture
def command(run_script, monkeypatch, capfd, models, genome, tmp_path):
    """Runs the command as its script does; gives (status, stdout, stderr)."""

    def run(vcf, *arguments, model="count.keras", fasta=genome):
        words = [models / model, vcf, "--genome", fasta, *arguments]
        monkeypatch.chdir(tmp_path)
        status = run_script("score_variants.py", score_variants.main, *words)
        shown = capfd.readouterr()
        return status, shown.out, shown.err

    return run


def read_h5(path):
    with h5py.File(path, "r") as file:
        return {
            name: item.asstr()[:] if item.dtype.kind in "OS" else item[:]
            for name, item in file.items()
        }


def alleles(variants=VARIANTS):
    return [(p, r, a) for p, r, alts in variants for a in alts if a != "<DEL>" and p > 9]


@pytest.mark.parametrize("batch_size", [2, 5, 200])
def test_every_count_of_bases_is_exact(batch_size, command, vcf, tmp_path):
    status, out, err = command(vcf, "--out", "e.h5", "--batch-size", batch_size)
    assert (status, err) == (0, "")
    found = read_h5(tmp_path / "e.h5")
    assert list(zip(found["pos"], found["ref"], found["alt"], strict=True)) == alleles()
    assert found["id"].tolist() == ["v0"] * 4 + ["v1", "v2", "v4"]
    assert set(found["chrom"]) == {"chr1"}
    assert found["targets"].tolist() == ["0", "1", "2", "3"]
    for name in ("ref_pred", "alt_pred", "diff", "logodds"):
        assert found[name].dtype == np.float32
    ref, alt = found["ref_pred"], found["alt_pred"]
    np.testing.assert_array_equal(found["diff"], difference(ref, alt).astype(np.float32))
    np.testing.assert_array_equal(
        found["logodds"], log_odds_difference(ref, alt).astype(np.float32)
    )
    for row, variant in enumerate(alleles()):
        ref, alt = (count_by_hand(text) for text in windows_by_hand(*variant))
        np.testing.assert_allclose(found["ref_pred"][row], ref, atol=TOLERANCE)
        np.testing.assert_allclose(found["alt_pred"][row], alt, atol=TOLERANCE)
        sizes = np.abs(alt - ref)
        assert found["max_abs_diff"][row] == pytest.approx(sizes.max(), abs=TOLERANCE)
        if sizes.max() > 0:  # opposite strands' bases may change by as much
            assert sizes[int(found["max_target"][row])] == pytest.approx(sizes.max(), abs=1e-6)
    assert "7 alleles of 5 records × 4 targets, both strands" in out
    assert "left out: 1 symbolic allele or breakend, 1 window reaches past a chromosome end" in out
    skipped = (tmp_path / "e.h5.skipped.tsv").read_text().splitlines()
    assert skipped == [
        "chrom\tpos\tref\talt\treason",
        f"chr1\t30\t{CHR1[29:35]}\t<DEL>\tsymbolic allele or breakend",
        f"chr1\t4\t{CHR1[3]}\tGG\twindow reaches past a chromosome end",
    ]


def test_effects_are_held_against_measured_ones(command, vcf, tmp_path):
    """Measured: what the second target is predicted, so that it correlates wholly."""
    rows = pd.DataFrame(alleles(), columns=["position", "ref", "alt"]).assign(contig="chr1")
    assert command(vcf, "--out", "e.h5")[0] == 0
    rows["effect"] = read_h5(tmp_path / "e.h5")["logodds"][:, 1] * 2
    rows.to_csv(tmp_path / "m.tsv", sep="\t", index=False)
    flags = ("--out", "f.h5", "--measured", tmp_path / "m.tsv")
    status, out, _ = command(vcf, *flags)
    assert status == 0
    assert "chr1: 7 measured; of 4 targets 1 correlates most, 1.00 (" in out
    table = pd.read_csv(tmp_path / "f.h5.measured.tsv", sep="\t")
    assert table["spearman"].iloc[0] == 1
    assert (tmp_path / "f.h5.measured.png").exists()
    for words, message in (
        (flags, "f.h5: already exists"),
        (
            ("--out", "g.tsv", "--measured", tmp_path / "m.tsv"),
            "--measured: goes with --out FILE.h5",
        ),
        (("--out", "g.h5", "--measured", vcf), "v.vcf: "),
        (("--out", "g.h5", "--measured", "none.tsv"), "none.tsv: no such file"),
    ):
        status, out, err = command(vcf, *words)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err
    assert not (tmp_path / "g.h5").exists()


def test_the_same_allele_as_the_reference_has_no_effect(command, tmp_path):
    same = [(60, CHR1[59], (CHR1[59],)), (60, CHR1[59], (CHR1[59].lower(),))]
    command(write_vcf(tmp_path / "s.vcf", same), "--out", "e.tsv")
    table = pd.read_csv(tmp_path / "e.tsv", sep="\t")
    assert (table.filter(regex="diff|logodds") == 0).all(axis=None)


def test_one_motif_is_lost_only_where_it_is_hit(command, tmp_path):
    """Reading forward only one strand has it: the mean of sigmoid(2) and sigmoid(-2)."""
    changed = {base: "A" if base != "A" else "C" for base in "ACGT"}
    variants = [(pos, CHR1[pos - 1], (changed[CHR1[pos - 1]],)) for pos in range(42, 63)]
    insertion = [(53, "T", ("TG",)), (50, CHR1[49], (CHR1[49] + "C",)), (51, "GATTACA", ("G",))]
    command(
        write_vcf(tmp_path / "m.vcf", variants + insertion), "--out", "e.tsv", model="motif.keras"
    )
    table = pd.read_csv(tmp_path / "e.tsv", sep="\t")
    here, gone = (sigmoid(2) + sigmoid(-2)) / 2, sigmoid(-2)
    for (pos, ref, (alt,)), row in zip(variants + insertion, table.itertuples(), strict=True):
        before, after = (here if MOTIF in text else gone for text in windows_by_hand(pos, ref, alt))
        logodds = np.log(after / (1 - after)) - np.log(before / (1 - before))
        assert row[8:10] == pytest.approx((after - before, logodds), abs=2e-6)
    hit = (table["0.diff"].abs() > 0.1)[: len(variants)]
    assert [variants[i][0] for i in np.flatnonzero(hit)] == list(range(51, 58))


@pytest.fixture
def blocks(genome):
    records = [Record("chr1", pos, ".", ref, alts) for pos, ref, alts in VARIANTS]
    with Genome(genome) as opened:
        return list(WindowCutter(opened, L).blocks(iter(records), 100))


def random_network():
    network = keras.Sequential(
        [keras.Input((L, 4)), keras.layers.Conv1D(8, 5, activation="tanh"), keras.layers.Flatten(),
         keras.layers.Dense(3, activation="sigmoid")]
    )  # fmt: skip
    rng = np.random.default_rng(0)
    network.set_weights([rng.normal(size=w.shape) for w in network.get_weights()])
    return network


def test_reverse_complementing_both_windows_changes_no_score(blocks):
    model = TrainedModel(random_network(), Targets(("a", "b", "c")), Path("m"), {})
    [block] = blocks
    packed = dna.reverse_complement(block.packed, 2 * block.packed.shape[1])
    turned = type(block)(**{**vars(block), "packed": packed})
    one, other = VariantScorer(model).score(block), VariantScorer(model).score(turned)
    np.testing.assert_array_equal(one.ref, other.ref)
    np.testing.assert_array_equal(one.alt, other.alt)
    strand, reverse = (VariantScorer(model, strands="forward").score(b) for b in (block, turned))
    assert np.abs(strand.alt - reverse.alt).max() > 0.01  # so the strands do differ
    np.testing.assert_allclose((strand.alt + reverse.alt) / 2, one.alt, atol=TOLERANCE)


def test_a_shared_reference_window_is_predicted_once(blocks, monkeypatch):
    model = TrainedModel(counting_network(), Targets(tuple("AGCT")), Path("m"), {})
    scorer, seen = VariantScorer(model), []
    predict = scorer._predictor.at_once
    monkeypatch.setattr(
        scorer._predictor, "at_once", lambda packed: seen.append(packed) or predict(packed)
    )
    list(scorer(iter(blocks)))
    # four alleles and their reference; two records at one place; one more
    assert sum(len(packed) for packed in seen) == (4 + 1) + (2 + 1) + (1 + 1)
    assert scorer.seconds > 0


def test_damaged_weights_are_named(blocks):
    network = counting_network()
    network.layers[-1].set_weights([np.full((4, 4), np.nan, np.float32), np.zeros(4)])
    scorer = VariantScorer(TrainedModel(network, Targets(tuple("AGCT")), Path("m"), {}))
    with pytest.raises(errors.InputError, match="not finite numbers"):
        list(scorer(iter(blocks)))


def test_the_next_item_is_made_while_the_last_is_used():
    made, used = threading.Event(), []

    def items():
        yield 1
        made.set()
        yield 2

    for item in ahead(items()):
        assert made.wait(10)  # in another thread, before 2 is asked for
        used.append(item)
    assert used == [1, 2]

    def broken():
        yield 1
        raise OSError("no more")

    stream = ahead(broken())
    assert next(stream) == 1
    with pytest.raises(OSError, match="no more"):
        next(stream)


def test_a_fingerprint_knows_weights_layers_and_targets(tmp_path):
    def of(network, names="abc"):
        return fingerprint(TrainedModel(network, Targets(tuple(names)), Path("m"), {}))

    network = random_network()
    network.save(tmp_path / "a.keras")
    again = load_model(tmp_path / "a.keras").network
    assert of(again) == of(network)
    assert of(network, "abd") != of(network)
    again.layers[0].activation = keras.activations.relu  # the same weights
    assert of(again) != of(network)
    again = load_model(tmp_path / "a.keras").network
    weights = again.get_weights()
    weights[0][0, 0, 0] += 1e-6
    again.set_weights(weights)
    assert of(again) != of(network)


@pytest.mark.parametrize("ending", [".tsv", ".tsv.gz"])
def test_text_has_the_chosen_targets(ending, command, vcf, tmp_path):
    out = tmp_path / f"e{ending}"
    assert command(vcf, "--out", out, "--targets", "3,0", "--with-probs")[0] == 0
    content = out.read_bytes()
    text = gzip.decompress(content).decode() if ending.endswith("gz") else content.decode()
    columns = text.splitlines()[0].split("\t")
    kinds = ("diff", "logodds", "ref_pred", "alt_pred")
    assert columns == [
        "chrom", "pos", "id", "ref", "alt", "max_abs_diff", "max_target",
        *(f"3.{kind}" for kind in kinds), *(f"0.{kind}" for kind in kinds),
    ]  # fmt: skip
    table = pd.read_csv(out, sep="\t")
    for row, variant in zip(table.itertuples(), alleles(), strict=True):
        ref, alt = (count_by_hand(window) for window in windows_by_hand(*variant))
        logodds = np.log(alt / (1 - alt)) - np.log(ref / (1 - ref))
        for place, target in ((8, 3), (12, 0)):
            found = row[place : place + 4]
            expected = [(alt - ref)[target], logodds[target], ref[target], alt[target]]
            assert found == pytest.approx(expected, abs=3e-6)


def test_the_targets_that_gain_and_lose_most(command, vcf, tmp_path):
    assert command(vcf, "--out", "e.tsv", "--top", "2")[0] == 0
    table = pd.read_csv(tmp_path / "e.tsv", sep="\t", keep_default_na=False)
    assert list(table)[5:] == ["max_abs_diff", "max_target", "top_up", "top_down"]
    for row, variant in zip(table.itertuples(), alleles(), strict=True):
        ref, alt = (count_by_hand(window) for window in windows_by_hand(*variant))
        diff = alt - ref
        for text, sign in ((row.top_up, 1), (row.top_down, -1)):
            expected = [i for i in np.argsort(-sign * diff, kind="stable") if sign * diff[i] > 1e-6]
            found = [part.split(":") for part in text.split(";")] if text != "NA" else []
            values = [float(value) for _, value in found]
            assert values == pytest.approx(diff[expected[:2]], rel=2e-3)
            assert {int(name) for name, _ in found} <= set(expected)
    assert command(vcf, "--out", "f.tsv", "--top", "1", "--targets", "3")[0] == 0
    assert list(pd.read_csv(tmp_path / "f.tsv", sep="\t"))[7:] == [
        "top_up", "top_down", "3.diff", "3.logodds",
    ]  # fmt: skip
    for words in (("--out", "g.h5", "--top", "1"), ("--out", "g.tsv", "--by", "assay")):
        status, _, err = command(vcf, *words)
        assert status == 2
        assert re.search("for a .tsv or .tsv.gz|have no assay", err)
    assert command(vcf, "--out", "e.tsv", "--top", "3", "--resume")[0] == 0  # is complete


def test_factors_have_the_largest_difference_of_their_targets():
    targets = Targets(("K|CTCF", "H;|CTCF", "x"), assay=("CTCF", "CTCF", ""))
    short = ShortForm(top=2, by="assay")
    header = EffectsHeader(targets, (), 2, False, False, {}, short=short)
    rows = TableRows(header)
    assert rows.head().decode().split("\t")[5:] == [
        "max_abs_diff", "max_target", "top_up", "top_down", "CTCF.diff\n",
    ]  # fmt: skip
    named = [Allele("chr1", pos, ".", "A", "C") for pos in (7, 8)]
    ref = np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]], np.float32)
    alt = np.array([[0.25, 0.625, 0.75], [0.5, 0.75, 0.5]], np.float32)
    scored = ScoredBlock(SimpleNamespace(alleles=named), ref, alt)
    found = [line.split("\t")[5:] for line in rows.lines(scored).decode().splitlines()]
    assert found == [
        ["0.25", "K|CTCF", "x:+0.25;H%3B|CTCF:+0.125", "K|CTCF:-0.25", "-0.25"],
        ["0.25", "H;|CTCF", "H%3B|CTCF:+0.25", "NA", "0.25"],
    ]


def test_a_packed_table_can_be_indexed(command, tmp_path):
    variants = sorted(VARIANTS, key=lambda variant: variant[0])
    assert command(write_vcf(tmp_path / "s.vcf", variants), "--out", "e.tsv.gz")[0] == 0
    table = str(tmp_path / "e.tsv.gz")
    pysam.tabix_index(table, seq_col=0, start_col=1, end_col=1, line_skip=1)
    with pysam.TabixFile(table) as file:
        assert len(list(file.fetch("chr1", 59, 60))) == 4


def test_all_targets_unless_told(command, vcf, tmp_path):
    command(vcf, "--out", "e.tsv")
    assert len((tmp_path / "e.tsv").read_text().splitlines()[0].split("\t")) == 7 + 2 * 4
    command(vcf, "--out", "e.h5", "--targets", "2")
    found = read_h5(tmp_path / "e.h5")
    assert found["ref_pred"].shape == (7, 1)
    assert found["targets"].tolist() == ["2"]
    assert not set(found["max_target"]) <= {"2"}  # the largest of all


@pytest.mark.parametrize("ending", [".vcf", ".vcf.gz"])
def test_a_vcf_keeps_its_lines_and_gains_fields(ending, command, vcf, tmp_path):
    out = tmp_path / f"e{ending}"
    assert command(vcf, "--out", out, "--targets", "0")[0] == 0
    command(vcf, "--out", "e.h5")
    effects = read_h5(tmp_path / "e.h5")
    difference = effects["alt_pred"].astype(float) - effects["ref_pred"]
    verbosity = pysam.set_verbosity(0)
    with pysam.VariantFile(str(out)) as file:
        records = list(file)
    pysam.set_verbosity(verbosity)
    source = [line.split("\t") for line in vcf.read_text().splitlines()[2:]]
    assert [(r.pos, r.ref, r.alts) for r in records] == [tuple(v) for v in VARIANTS]
    row = 0
    for record, fields in zip(records, source, strict=True):
        assert str(record).split("\t")[:7] == fields[:7]
        assert ("AC" in record.info) == (fields[7] == "AC=1")
        if record.pos == 4:  # left out
            assert not any(key.startswith("DANQ") for key in record.info)
            continue
        sizes = record.info["DANQ_MAX_ABS_DIFF"]
        assert len(sizes) == len(record.alts)
        for alt, size, target, change in zip(
            record.alts, sizes, record.info["DANQ_MAX_TARGET"], record.info["DANQ_DIFF_0"],
            strict=True,
        ):  # fmt: skip
            if alt == "<DEL>":
                assert (size, target, change) == (None, ".", None)
                continue
            assert size == pytest.approx(np.abs(difference[row]).max(), rel=1e-5, abs=1e-9)
            assert change == pytest.approx(difference[row, 0], rel=1e-5, abs=1e-9)
            row += 1
    assert row == 7
    if ending == ".vcf":
        status, _, err = command(out, "--out", "again.vcf")
        assert status == 2
        assert "DANQ_ fields of an earlier scoring" in err


def test_names_of_targets_are_safe_in_a_vcf(command, vcf, tmp_path):
    names = ["a=b;c,d e", 'say "x"', "K562|CTCF|None#2", "\\"]
    run = tmp_path / "run"
    run.mkdir()
    counting_network().save(run / "model.keras")
    (run / "config.json").write_text(pd.Series({"targets": names}).to_json())
    assert command(vcf, "--out", "e.vcf", "--targets", "0,1,2,3", model=run)[0] == 0
    with pysam.VariantFile(str(tmp_path / "e.vcf")) as file:
        found = {target for record in file for target in record.info.get("DANQ_MAX_TARGET", ())}
    assert found <= {"a%3Db%3Bc%2Cd%20e", "say%20%22x%22", "K562|CTCF|None#2", "%5C", "."}
    assert len(found) > 1


def test_evalues_from_a_saved_background_or_its_vcf(command, vcf, tmp_path):
    """The background: all SNVs around, and no insertion. E-values counted in a loop."""
    common = [(p, CHR1[p - 1], tuple(b for b in "ACGT" if b != CHR1[p - 1])) for p in range(20, 40)]
    background = write_vcf(tmp_path / "common.vcf", common)
    status, out, _ = command(background, "--save-background", "b.h5", "--effect", "product")
    assert status == 0
    assert "b.h5: background of 60 SNVs and 0 other alleles, product" in out
    status, out, err = command(vcf, "--out", "e.h5", "--background", "b.h5")
    assert (status, err) == (0, "")
    assert "3 alleles have no E-value" in out
    command(vcf, "--out", "f.h5", "--background", background, "--effect", "product")
    command(vcf, "--out", "e.tsv", "--background", "b.h5")
    command(background, "--out", "known.h5")
    effects, known = read_h5(tmp_path / "e.h5"), read_h5(tmp_path / "known.h5")
    assert effects["evalue"].dtype == np.float32
    np.testing.assert_array_equal(effects["evalue"], read_h5(tmp_path / "f.h5")["evalue"])

    def product(rows):
        ref, alt = rows["ref_pred"].astype(float), rows["alt_pred"].astype(float)
        return np.abs((alt - ref) * (np.log(alt / (1 - alt)) - np.log(ref / (1 - ref))))

    sizes, others = product(effects), product(known)
    assert np.isnan(effects["evalue"][4:]).all()
    for row, target in np.ndindex(4, 4):
        # A change of bases by one has few values, and a bin is 1/512 of an octave: those within
        # rounding and a bin of each other may be counted or not, all others must be right.
        size = sizes[row, target]
        # So may those of a single unit in the last place, squared: 0 or 4e-15, as the machine adds.
        fewest = sum(others[:, target] > max(1.01 * size, 1e-13))
        most = sum(others[:, target] > 0.99 * size)
        counted = effects["evalue"][row, target] * 61 - 1
        assert fewest - 1e-3 <= counted <= most + 1e-3
        assert counted == pytest.approx(round(counted), abs=1e-3)
    table = pd.read_csv(tmp_path / "e.tsv", sep="\t", keep_default_na=False)
    texts = table["2.evalue"].tolist()
    assert texts[4:] == ["NA"] * 3
    np.testing.assert_allclose([float(t) for t in texts[:4]], effects["evalue"][:4, 2], rtol=1e-6)


def test_a_background_of_another_kind_is_refused(command, vcf, tmp_path):
    command(vcf, "--save-background", "b.h5")
    for arguments, model, message in (
        ((), "longer.keras", "b.h5: this background was made with another model"),
        ((), "motif.keras", "for other targets"),
        (("--strands", "forward"), "count.keras", "with other strands: both, not forward"),
        (("--effect", "product"), "count.keras", "of another effect: absdiff, not product"),
    ):
        status, _, err = command(
            vcf, "--out", "e.h5", "--background", "b.h5", *arguments, model=model
        )
        assert status == 2
        assert message in err
        assert err.count("\n") == 1
    assert not (tmp_path / "e.h5").exists()


def test_a_mismatch_is_an_error_unless_skipped(command, tmp_path):
    other = "A" if CHR1[69] != "A" else "C"
    vcf = write_vcf(tmp_path / "w.vcf", [*VARIANTS, (70, other, ("GG", "TT"))])
    status, _, err = command(vcf, "--out", "e.tsv")
    assert status == 2
    assert err == (
        f"Error: {vcf}: REF differs from the genome in 2 of 11 alleles, first at chr1:70: expected "
        f"{CHR1[69]}, found {other}. Use the genome that the file was made with, or pass "
        "--on-mismatch skip.\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.fa", "g.fa.fai", "w.vcf"]
    status, out, _ = command(vcf, "--out", "e.tsv", "--on-mismatch", "skip")
    assert status == 0
    assert "2 REF differs from the genome" in out
    skipped = pd.read_csv(tmp_path / "e.tsv.skipped.tsv", sep="\t")
    assert (
        skipped["reason"].tolist()[2:]
        == [f"REF differs from the genome: expected {CHR1[69]}, found {other}"] * 2
    )
    assert len(pd.read_csv(tmp_path / "e.tsv", sep="\t")) == 7


def test_most_refs_differing_is_another_genome(command, tmp_path):
    wrong = [(pos, "A" if CHR1[pos - 1] != "A" else "C", ("GG",)) for pos in (50, 51)]
    vcf = write_vcf(tmp_path / "w.vcf", [*wrong, (60, CHR1[59], ("GG",))])
    status, _, err = command(vcf, "--out", "e.h5")
    assert (status, err.count("\n")) == (2, 1)
    assert "The file was made with another genome: give that one." in err
    status, out, _ = command(vcf, "--out", "e.h5", "--on-mismatch", "skip")
    assert status == 0
    assert "most REFs differ: the file was probably made with another genome" in out


def test_disorder_is_told_and_kept(command, tmp_path):
    ordered = [(50, CHR1[49], ("CC",)), (50, CHR1[49], ("GG",)), (60, CHR1[59], ("CC",))]
    status, out, _ = command(write_vcf(tmp_path / "o.vcf", ordered), "--out", "o.h5")
    assert (status, "not in order" in out) == (0, False)
    status, out, _ = command(write_vcf(tmp_path / "u.vcf", ordered[::-1]), "--out", "u.h5")
    assert status == 0
    assert "u.vcf: not in order of position, first at chr1:50; scored in the file's order" in out
    found = [read_h5(tmp_path / name)["alt_pred"] for name in ("o.h5", "u.h5")]
    # another place in the batch may round in another way: machines differ in it
    np.testing.assert_allclose(found[0], found[1][::-1], rtol=0, atol=TOLERANCE)


def test_the_window_is_the_models(command, vcf, tmp_path):
    """Index 14 of 30."""
    assert command(vcf, "--out", "e.h5", model="longer.keras")[0] == 0
    found = read_h5(tmp_path / "e.h5")
    text = CHR1[60 - 15 : 60 + 15]
    np.testing.assert_allclose(found["ref_pred"][0], count_by_hand(text), atol=TOLERANCE)


def test_nothing_scored_is_still_an_answer(command, tmp_path):
    vcf = write_vcf(tmp_path / "s.vcf", [(60, CHR1[59], ("<DEL>",)), (3, CHR1[2], ("AA",))])
    for out in ("e.h5", "e.tsv", "e.vcf"):
        assert command(vcf, "--out", out)[0] == 0
    assert read_h5(tmp_path / "e.h5")["ref_pred"].shape == (0, 4)
    assert len((tmp_path / "e.tsv").read_text().splitlines()) == 1
    status, _, err = command(vcf, "--save-background", "b.h5")
    assert status == 2
    assert "none of its alleles can be scored. left out: 1 symbolic" in err


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("chr1\t60\tA\tC\n", (), "not a VCF file (it has no #CHROM line), nor a list"),
        ("", (), "the file is empty"),
        (HEADER, (), "no variants after the header"),
        (HEADER + "chr1\tx\t.\tA\tC\t.\t.\t.\n", (), "line 3 is malformed"),
        (HEADER + "1\t60\t.\tA\tC\t.\t.\t.\n", (), "Pass --chrom-names add."),
        (HEADER + "X\t60\t.\tA\tC\t.\t.\t.\n", (), "Use the genome that the file was made with."),
        (None, ("--targets", "4"), "Target number 4 is not in 0 … 3"),
        (None, ("--targets", "CTCF"), "Unknown target 'CTCF'"),
        (None, ("--background", "none.h5"), "none.h5: no such file"),
        (None, ("--background", "g.fa"), "g.fa: not a VCF file"),
        (None, ("--batch-size", "1"), "--batch-size: at least 2"),
        (None, ("--out", "e.txt"), "effects are written as .h5, .hdf5, .tsv"),
        (None, ("--out", "v.vcf", "--overwrite"), "is an input itself"),
        (None, ("--out", "."), "effects are written as"),
    ],
)
def test_mistakes_are_one_line(content, arguments, message, command, vcf, tmp_path):
    if content is not None:
        vcf.write_text(content)
    arguments = arguments if "--out" in arguments else ("--out", "e.h5", *arguments)
    status, _, err = command(vcf, *arguments)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"g.fa", "g.fa.fai", "v.vcf"}


def test_mistakes_about_files(command, vcf, tmp_path, monkeypatch):
    def says(message, *arguments, **options):
        status, _, err = command(vcf, *arguments, **options)
        assert (status, err.count("\n")) == (2, 1)
        assert message in err

    says("no such file", "--out", "e.h5", fasta=tmp_path / "none.fa")
    says("no such model", "--out", "e.h5", model="none.keras")
    says("a background is an .h5 file", "--save-background", "b.tsv")
    says("--background: is for --out", "--save-background", "b.h5", "--background", "v.vcf")
    (tmp_path / "folder.h5").mkdir()
    says("this is a folder", "--out", "folder.h5")
    (tmp_path / "e.h5.skipped.tsv").write_text("kept")
    says("e.h5.skipped.tsv: already exists", "--out", "e.h5")
    assert command(vcf, "--out", "e.h5", "--overwrite")[0] == 0
    inputs = keras.Input((None, 4))
    pooled = keras.layers.GlobalAveragePooling1D()(inputs)
    keras.Model(inputs, keras.layers.Dense(2)(pooled)).save(tmp_path / "any.keras")
    says(
        "one window length. Received: any length",
        "--out",
        "f.h5",
        model=tmp_path / "any.keras",
    )
    vcf.write_bytes(b"BCF\2\2")
    says("damaged or truncated BCF", "--out", "f.h5")
    monkeypatch.setitem(sys.modules, "pysam", None)
    says("pysam is not installed, which this needs. Install it", "--out", "f.h5")


def test_an_ambiguous_target_is_listed(command, vcf, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    counting_network().save(run / "model.keras")
    (run / "config.json").write_text('{"targets": ["CTCF", "CTCF#2", "Reb1", "Abf1"]}')
    status, _, err = command(vcf, "--out", "e.h5", "--targets", "CTCF", model=run)
    assert status == 2
    assert "fits several: 0 (CTCF), 1 (CTCF#2). Use the number." in err
    status, _, err = command(vcf, "--out", "e.h5", "--targets", "Reb", model=run)
    assert "Nearest: Reb1" in err


def test_the_script(models, genome, vcf, tmp_path):
    script = Path(__file__).resolve().parents[2] / "bin" / "score_variants.py"
    words = [models / "count.keras", vcf, "--genome", genome, "--out", tmp_path / "e.tsv"]
    done = subprocess.run(
        [sys.executable, script, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "alleles/s, network" in done.stdout


def test_the_benchmark_prints_a_ratio(capsys):
    arguments = ["--variants", "6", "--genome-length", "4000", "--batch-size", "4"]
    assert benchmark.main(["variants", "--preset", "demo", *arguments]) == 0
    out = capsys.readouterr().out
    assert "6 SNVs × " in out
    assert "% of the time inside the network" in out
    assert "\nratio  " in out
    with pytest.raises(errors.InputError, match="--genome-length: at least"):
        benchmark.main(["variants", "--preset", "demo", "--genome-length", "10"])


# ---- as a notebook calls it


def frame(variants=VARIANTS):
    rows = [
        {"chrom": "chr1", "pos": pos, "id": f"v{i}", "ref": ref, "alt": ",".join(alts)}
        for i, (pos, ref, alts) in enumerate(variants)
    ]
    return pd.DataFrame(rows)


def test_a_table_is_scored_as_the_file_and_as_the_command_does(models, genome, tmp_path, command):
    vcf = write_vcf(tmp_path / "v.vcf")
    assert command(vcf, "--out", tmp_path / "e.h5")[0] == 0
    with h5py.File(tmp_path / "e.h5") as file:
        expected = {
            name: file[name][:] for name in ("ref_pred", "alt_pred", "diff", "logodds", "pos")
        }
    for variants in (vcf, frame()):
        found = dq.score_variants(models / "count.keras", variants, genome)
        np.testing.assert_array_equal(found.ref, expected["ref_pred"])
        np.testing.assert_array_equal(found.alt, expected["alt_pred"])
        np.testing.assert_allclose(found.difference, expected["diff"], atol=TOLERANCE)
        np.testing.assert_allclose(found.log_odds, expected["logodds"], rtol=1e-5, atol=1e-6)
        assert found.evalue is None
        assert sorted(found.skipped["reason"]) == [
            "symbolic allele or breakend",
            "window reaches past a chromosome end",
        ]
        assert found.to_frame()["pos"].tolist() == expected["pos"].tolist()
    _, alt = windows_by_hand(60, CHR1[59], "A")
    at_60 = found.alleles.query("pos == 60 and alt == 'A'").index
    np.testing.assert_allclose(found.alt[at_60], [count_by_hand(alt)] * len(at_60), atol=TOLERANCE)


def test_evalues_of_a_saved_background(models, genome, tmp_path, command):
    vcf = write_vcf(tmp_path / "v.vcf")
    assert command(vcf, "--save-background", tmp_path / "b.h5")[0] == 0
    found = dq.score_variants(models / "count.keras", vcf, genome, background=tmp_path / "b.h5")
    assert found.evalue.shape == found.ref.shape
    assert (found.evalue > 0).all()
    with pytest.raises(errors.InputError, match="made for other targets"):
        dq.score_variants(models / "motif.keras", vcf, genome, background=tmp_path / "b.h5")


def test_tables_that_are_none_and_genomes_that_are_others(models, genome):
    model = models / "count.keras"
    with pytest.raises(errors.InputError, match="Missing: ref"):
        dq.score_variants(model, frame().drop(columns="ref"), genome)
    with pytest.raises(errors.InputError, match=r"pos is a whole number.*'x' in row 1"):
        dq.score_variants(model, frame().assign(pos=["60", "x", "30", "4", "95"]), genome)
    wrong = frame([(60, "ACGT"[CHR1[59] == "A"], ("G",))])
    with pytest.raises(errors.InputError, match=r"REF differs from the genome in 1 of 1"):
        dq.score_variants(model, wrong, genome)
    found = dq.score_variants(model, wrong, genome, on_mismatch="skip")
    assert len(found.alleles) == 0
    assert found.ref.shape == (0, 4)
    assert found.skipped["reason"].str.startswith("REF differs from the genome").all()
    with pytest.raises(errors.InputError, match="`strands`: one of"):
        dq.score_variants(model, frame(), genome, strands="reverse")


# ---- stopped and gone on with


@pytest.mark.parametrize("ending", [".h5", ".vcf.gz"])
def test_resume_goes_on_to_the_same_bytes(ending, command, vcf, tmp_path, monkeypatch):
    arguments = ("--out", f"e{ending}", "--batch-size", 5)
    assert command(vcf, *arguments)[0] == 0
    paths = [tmp_path / f"e{ending}", tmp_path / f"e{ending}.skipped.tsv"]
    whole = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    real, written = GrowingEffects.write, []

    def write(effects, scored):
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(real(effects, scored))

    monkeypatch.setattr(GrowingEffects, "write", write)
    status, _, err = command(vcf, *arguments)
    assert status == 130
    assert f"e{ending}.partial: 4 of 7 alleles are done. --resume goes on." in err
    monkeypatch.undo()
    status, _, err = command(vcf, *arguments)
    assert (status, "an unfinished scoring is there. Pass --resume" in err) == (2, True)
    status, _, err = command(vcf, "--out", f"e{ending}", "--resume", "--on-mismatch", "skip")
    assert (status, "begun with another batch_size, on_mismatch." in err) == (2, True)
    assert not any(path.exists() for path in paths)
    status, out, _ = command(vcf, *arguments, "--resume")
    assert (status, "7 alleles of 5 records" in out) == (0, True)
    assert [path.read_bytes() for path in paths] == whole
    status, out, _ = command(vcf, *arguments, "--resume")
    assert (status, "is complete already" in out) == (0, True)
    status, _, err = command(vcf, "--save-background", "b.h5", "--resume")
    assert (status, "--resume: is for --out" in err) == (2, True)


# ---- files as they are found


def test_only_the_fields_are_added(command, tmp_path):
    ref = CHR1[59]
    alt = "G" if ref != "G" else "A"
    body = [
        f"chr1\t60\tr\xe9\x1b[1m\t{ref}\t{alt}\t1234567.89\tPASS\tAF=0.123894357;RS=2147483900",
        "",
        "# between",
        f"chr1\t60\t.\t{ref.lower()}\t{alt}\t.\t.\tP=2.03e-78;\tGT:DP\t0|1",
        f"chr1\t60\t.\t{ref}\t{alt}",
        f"chr1\t60\t.\t{ref}\t<DEL>,*,{alt}\t.\t.\t",
        f"chr1\t60\t.\t{ref}\t.\t.\t.\tEND=70",
        "chr1\t0\t.\tN\tA\t.\t.\t.",
        "# the end",
    ]
    head = HEADER.replace("\n", "\r\n").encode()
    content = head + "\r\n".join(body).encode("latin-1")
    (tmp_path / "v.vcf").write_bytes(content)
    status, out, err = command(tmp_path / "v.vcf", "--out", "e.vcf", "--targets", "0")
    assert status == 0
    assert "3 alleles repeat one at the same place" in out
    assert "1 records have an identifier" in err
    assert (out + err).replace("\n", "").isprintable()
    found = (tmp_path / "e.vcf").read_bytes()
    rest = re.sub(rb"##INFO=<ID=DANQ_[^\n]*\n", b"", found)
    assert rest.count(b"DANQ_MAX_ABS_DIFF=") == 4
    rest = re.sub(rb";?DANQ_[^;\t\r]*", b"", rest)
    expected = content.replace(f"\t{ref}\t{alt}\r".encode(), f"\t{ref}\t{alt}\t.\t.\t\r".encode())
    assert rest.replace(b"P=2.03e-78\t", b"P=2.03e-78;\t") == expected
    assert found.endswith(b"# the end")
    assert b"DANQ_DIFF_0=.,.," in found


def test_a_list_without_header_in_a_pipe(command, tmp_path):
    ref, alt = CHR1[59], "A" if CHR1[59] != "A" else "C"
    text = f"# DeepSEA's own form\r\nchr1\t60\t[up]\t{ref}\t{alt}\r\n\r\n"
    os.mkfifo(tmp_path / "pipe")
    feeder = threading.Thread(target=(tmp_path / "pipe").write_text, args=(text,))
    feeder.start()
    status, out, err = command("pipe", "--out", "e.vcf")
    feeder.join()
    assert (status, "1 alleles of 1 records" in out) == (0, True)
    assert "pipe: has no #CHROM line: read as a list of chrom, pos, name, ref, alt" in err
    with pysam.VariantFile(str(tmp_path / "e.vcf")) as file:
        [record] = list(file)
    assert (record.pos, record.id, record.ref, record.alts) == (60, "[up]", ref, (alt,))
    assert record.info["DANQ_MAX_TARGET"][0] in "0123"


def test_fields_of_an_earlier_scoring_are_refused_without_their_definitions(command, tmp_path):
    line = f"chr1\t60\t.\t{CHR1[59]}\tGG\t.\t.\tDANQ_MAX_TARGET=0\n"
    (tmp_path / "v.vcf").write_text(HEADER + line)
    status, _, err = command(tmp_path / "v.vcf", "--out", "e.vcf")
    assert (status, err.count("\n")) == (2, 1)
    assert "DANQ_ fields of an earlier scoring" in err
    assert not (tmp_path / "e.vcf.partial").exists()
