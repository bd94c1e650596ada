"""The demo genome: its grammar in the written sequence, its labels in the built dataset."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from danq_keras.data import demo
from danq_keras.data.store import open_store
from danq_keras.genome.dna import UNKNOWN, Bytes, decode, reverse_complement_codes, unpack_labels
from danq_keras.motifs.files import danq_jaspar_motifs
from danq_keras.motifs.motif import Motif
from danq_keras.system.errors import InputError

SMALL = {"synthetic1": 120_000, "synthetic2": 40_000, "synthetic3": 40_000}


@pytest.fixture(scope="module")
def motifs() -> Mapping[str, Motif]:
    return {motif.id: motif for motif in danq_jaspar_motifs()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "data"
    return demo.make_demo(out, seed=7, chromosomes=SMALL).folder


def log_odds(codes: Bytes, motif: Motif) -> np.ndarray:
    """Score of the motif at each position, best of both strands, with a small pseudocount."""
    best = np.full(len(codes) - motif.width + 1, -np.inf)
    for matrix in (motif.matrix, motif.matrix[::-1, ::-1]):
        weights = np.log2((matrix + 0.01) / 1.04 / 0.25)
        windows = np.lib.stride_tricks.sliding_window_view(codes, motif.width)
        best = np.maximum(best, weights[np.arange(motif.width), windows].sum(axis=1))
    return best


def test_same_seed_same_genome_other_seed_other_genome():
    first, again, other = (demo.simulate(seed, chromosomes=SMALL) for seed in (0, 0, 1))
    for name, length in SMALL.items():
        assert first.chromosomes[name].shape == (length,)
        assert first.chromosomes[name].dtype == np.uint8
        np.testing.assert_array_equal(first.chromosomes[name], again.chromosomes[name])
        assert (first.chromosomes[name] != other.chromosomes[name]).mean() > 0.5
        for target in demo.target_names():
            np.testing.assert_array_equal(first.peaks[target][name], again.peaks[target][name])
    assert set(np.unique(first.chromosomes["synthetic1"])) == {0, 1, 2, 3}


def test_background_is_like_a_mammals():
    codes = demo.simulate(0, chromosomes={"synthetic1": 400_000}).chromosomes["synthetic1"]
    letters = decode(codes)
    share = {base: letters.count(base) / len(letters) for base in "ACGT"}
    assert 0.36 < share["G"] + share["C"] < 0.52
    assert share["A"] == pytest.approx(share["T"], abs=0.02)
    cpg = letters.count("CG") / len(letters) / (share["C"] * share["G"])
    gpc = letters.count("GC") / len(letters) / (share["C"] * share["G"])
    assert cpg < 0.5 < 0.9 < gpc


def test_peaks_are_sorted_inside_and_of_the_stated_width():
    genome = demo.simulate(3, chromosomes=SMALL)
    assert tuple(genome.peaks) == demo.target_names()
    for by_chromosome in genome.peaks.values():
        for name, peaks in by_chromosome.items():
            starts, ends = peaks.T
            assert (np.diff(starts) >= 0).all()
            assert starts.min() >= 0
            assert ends.max() <= SMALL[name]
            inside = (starts > 0) & (ends < SMALL[name])
            assert set((ends - starts)[inside]) <= set(range(360, 441))


def test_every_kind_of_site_stands_under_its_peaks(motifs):
    """Planted sites score far above the background, and most true peaks hold all their sites."""
    length = 200_000
    genome = demo.simulate(0, chromosomes={"synthetic1": length})
    codes = genome.chromosomes["synthetic1"]
    for element in demo.GRAMMAR:
        if element.target is None:
            continue
        peaks = genome.peaks[element.target]["synthetic1"]
        for identifier in element.motifs:
            scores = log_odds(codes, motifs[identifier])
            limit = 0.5 * motifs[identifier].information().sum()
            held = [scores[max(s, 0) : e].max() > limit for s, e in peaks]
            assert np.mean(held) > 0.9, (element.target, identifier)
            # Most stretches as wide hold none: the limit asks something.
            elsewhere = scores[: (length - 400) // 400 * 400].reshape(-1, 400).max(axis=1) > limit
            assert elsewhere.mean() < 0.5, (element.target, identifier)


def test_elements_follow_the_grammar(motifs):
    """Drawn elements have their sites and gap, about half of them on the reverse strand."""
    generator = np.random.default_rng(0)
    for element in demo.GRAMMAR:
        widths = [motifs[identifier].width for identifier in element.motifs]
        drawn = [demo._draw_element(element, motifs, generator) for _ in range(200)]
        reverse = 0
        gaps = set()
        for codes in drawn:
            known = codes != UNKNOWN
            gaps.add(int((~known).sum()))
            assert known.sum() == sum(widths)
            forward = _likelihood(codes[: widths[0]], motifs[element.motifs[0]])
            backward = _likelihood(
                reverse_complement_codes(codes)[: widths[0]], motifs[element.motifs[0]]
            )
            assert max(forward, backward) > -np.inf  # a frequency of 0 is never drawn
            reverse += backward > forward
        low, high = element.gap
        assert min(gaps) >= low
        assert max(gaps) <= high
        assert len(gaps) > 1 or low == high
        if len(set(element.motifs)) == 2:  # single sites may be palindromes
            assert 60 < reverse < 140


def _likelihood(codes: Bytes, motif: Motif) -> float:
    if (codes == UNKNOWN).any():
        return -np.inf
    with np.errstate(divide="ignore"):
        return float(np.log(motif.matrix[np.arange(motif.width), codes]).sum())


def test_decoys_hold_the_sites_of_the_targets():
    """A word count sees in the decoys what it sees in the pair and the spacing target."""
    by_target = {element.target: element for element in demo.GRAMMAR if element.target}
    decoys = [element for element in demo.GRAMMAR if element.target is None]
    pair, spacing = (by_target[name] for name in (demo._PAIR, demo._SPACING))
    assert sorted(m for d in decoys if len(set(d.motifs)) == 1 for m in d.motifs) == sorted(
        pair.motifs * 2
    )
    closer, further = [d for d in decoys if len(set(d.motifs)) == 2]
    assert closer.motifs == further.motifs == spacing.motifs
    assert closer.weight + further.weight == pytest.approx(spacing.weight)
    assert closer.gap[1] < spacing.gap[0] == spacing.gap[1] < further.gap[0]


def test_noise_is_a_few_per_cent():
    centres = np.arange(500, 2_000_000, 500)
    peaks = demo._noisy_peaks(centres, 2_000_000, np.random.default_rng(0))
    middle = peaks.mean(axis=1)
    distance = np.abs(middle - np.round(middle / 500).clip(1, len(centres)) * 500)
    assert len(peaks) == pytest.approx(len(centres), rel=0.02)  # as many spurious as missed
    found = np.unique(np.round(middle[distance <= 21] / 500))
    assert 0.02 < 1 - len(found) / len(centres) < 0.045
    assert 0.015 < (distance > 21).mean() < 0.045


def test_the_dataset_says_synthetic_and_has_its_source_beside_it(built):
    files = {str(path.relative_to(built)) for path in built.rglob("*") if path.is_file()}
    peaks = {f"source/peaks/{target}.bed" for target in demo.target_names()}
    assert {"train.h5", "valid.h5", "test.h5", "source/genome.fa", "source/README.txt"} <= files
    assert {name for name in files if name.endswith(".bed")} == peaks
    assert not [path.name for path in built.parent.iterdir() if path != built]
    dataset = open_store(built)
    header = dataset.train.header
    assert header.source.startswith("synthetic demo, seed 7")
    assert all(name.startswith("synthetic_") for name in header.targets.names)
    assert set(header.targets.column("group")) == {"single site", "pair", "spacing", "open"}
    readme = (built / "source" / "README.txt").read_text()
    assert readme.startswith("SYNTHETIC DATA")
    for target in demo.target_names():
        assert target in readme


def test_splits_are_the_chromosomes(built):
    dataset = open_store(built)
    splits = (dataset.train, dataset.valid, dataset.test)
    for split, (name, length) in zip(splits, SMALL.items(), strict=True):
        assert set(split.chrom) == {name}
        assert split.n_windows == (length - 1000) // 200 + 1  # unlabelled bins are kept
        assert split.both_strands


def test_labels_are_the_peaks_of_the_files(built):
    """An oracle base by base: more than half of the bin under peaks of the target."""
    split = open_store(built).test
    labels = unpack_labels(split.labels, split.n_targets)
    for number, target in enumerate(split.header.targets.names):
        covered = np.zeros(SMALL["synthetic3"], bool)
        for line in (built / "source" / "peaks" / f"{target}.bed").read_text().splitlines():
            chrom, start, end = line.split("\t")
            if chrom == "synthetic3":
                covered[int(start) : int(end)] = True
        bins = split.start[:, None] + np.arange(400, 600)
        np.testing.assert_array_equal(labels[:, number], covered[bins].sum(axis=1) > 100)
    assert 0 < labels.mean(axis=0).min() < labels.mean(axis=0).max() < 1


def test_make_demo_again_gives_the_same_bytes(built, tmp_path):
    again = demo.make_demo(tmp_path / "again", seed=7, chromosomes=SMALL).folder
    for path in (built / "source").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(built)).read_bytes()
    ours, theirs = open_store(built), open_store(again)
    for name in ("train", "valid", "test"):
        assert ours.split(name).checksums == theirs.split(name).checksums


def test_make_demo_does_not_overwrite_unasked(tmp_path):
    out = tmp_path / "data"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="already exists"):
        demo.make_demo(out, chromosomes=SMALL)
    assert (out / "mine.txt").read_text() == "keep"
    with pytest.raises(InputError, match=r"replaces only what 'demo' writes. Received: mine\.txt"):
        demo.make_demo(out, overwrite=True, chromosomes=SMALL)
    (out / "mine.txt").rename(out / "bundle.json")
    made = demo.make_demo(out, overwrite=True, chromosomes=SMALL)
    assert not (out / "bundle.json").exists()
    assert made.train.n_windows > 0


def test_full_size():
    """The size that the preset's time and accuracy were measured on."""
    assert sum(demo.CHROMOSOMES.values()) == 2_400_000
    genome = demo.simulate(0)
    n_elements = len(genome.peaks[demo.OPEN_TARGET]["synthetic1"])
    assert n_elements == pytest.approx(1_400_000 / 450, rel=0.03)
    for target in demo.target_names():
        for name, length in demo.CHROMOSOMES.items():
            assert len(genome.peaks[target][name]) > length / 10_000
