"""Backgrounds, prioritisers and effects with bytes changed: right, or refused in one line."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from danq_keras.data.targets import Targets
from danq_keras.system.errors import InputError
from danq_keras.variants.background import Background, Origin, read_background, write_background
from danq_keras.variants.boosted_trees import BoostingOptions, Forest
from danq_keras.variants.files import EffectsHeader, ScoredBlock
from danq_keras.variants.folds import FoldModel
from danq_keras.variants.growing import growing_effects
from danq_keras.variants.prioritiser import Prioritiser, read_prioritiser, write_prioritiser
from danq_keras.variants.reader import read_effects
from danq_keras.variants.vcf import Record
from danq_keras.variants.windows import Allele, VariantBlock

MUTANTS = 25
N, TARGETS = 8, ("a", "b")


def write_effects(path):
    rng = np.random.default_rng(0)
    alleles = tuple(Allele("chr1", pos, f"v{pos}", "A", "G") for pos in range(N))
    records = tuple((Record(*a[:4], ("G",)), (i,)) for i, a in enumerate(alleles))
    rows = np.arange(N)
    cut = VariantBlock(np.zeros((0, 0), np.uint8), alleles, rows, rows, (), records)
    ref, alt = rng.random((2, N, 2)).astype(np.float32)
    texts = {"source": "v", "model_fingerprint": "m", "strands": "both"}
    header = EffectsHeader(Targets(TARGETS), (0, 1), N, False, False, texts)
    with growing_effects(path, header, request={}) as effects:
        effects.write(ScoredBlock(cut, ref, alt))


def write_a_background(path):
    background = Background(Origin("absdiff", "m", TARGETS, "both", "v.vcf"))
    ref, alt = np.random.default_rng(0).random((2, N, 2))
    background.add(ref, alt, np.arange(N) % 2 == 0)
    write_background(path, background)


def write_a_prioritiser(path):
    features = np.random.default_rng(0).normal(size=(40, 4))
    forest = Forest.fit(features, features[:, 0] > 0, BoostingOptions(3, 4))
    fold = FoldModel(np.zeros(4), np.ones(4), forest)
    write_prioritiser(path, Prioritiser(TARGETS, "m", "both", (), (fold, fold), np.ones(2)))


def of_effects(read):
    return [read.pos.tolist(), read.ref.tolist(), read.ref_pred.tolist(), read.alt_pred.tolist()]


def of_background(read):
    return [read.origin.model, read.n, {k: c.sum(axis=1).tolist() for k, c in read.counts.items()}]


def of_prioritiser(read):
    return [read.targets, read.score(np.random.default_rng(1).normal(size=(9, 4))).tolist()]


KINDS = {
    "effects": (write_effects, read_effects, of_effects),
    "background": (write_a_background, read_background, of_background),
    "prioritiser": (write_a_prioritiser, read_prioritiser, of_prioritiser),
}


def mutants(content: bytes, seed: int):
    """Bytes changed, cut off, or repeated."""
    rng = np.random.default_rng(seed)
    for number in range(MUTANTS):
        mutant = bytearray(content)
        place = int(rng.integers(len(content)))
        if number % 5 == 0:
            del mutant[place:]
        elif number % 5 == 1:
            mutant[place : place + 8] = bytes(rng.integers(0, 256, 8, dtype=np.uint8))
        else:
            used = np.flatnonzero(np.frombuffer(content, np.uint8))  # most of a file is empty
            place = int(rng.choice(used))
            mutant[place] ^= 1 << int(rng.integers(8))
        yield bytes(mutant)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_right_or_refused_in_a_line(kind, tmp_path):
    write, read, meaning = KINDS[kind]
    path = tmp_path / f"{kind}.h5"
    write(path)
    expected, content, said = meaning(read(path)), path.read_bytes(), []
    for mutant in mutants(content, 3):
        path.write_bytes(mutant)
        try:
            received = meaning(read(path))
        except InputError as error:
            said.append(str(error))
        else:
            assert received[1:] == expected[1:]
    assert len(said) > MUTANTS // 5
    assert all(line.startswith(f"{path}: ") and line.isprintable() for line in said)


def test_claims_beyond_the_file_are_refused(tmp_path: Path):
    path = tmp_path / "e.h5"
    write_effects(path)
    with h5py.File(path, "r+") as file:
        del file["pos"]
        file.create_dataset("pos", (10**9,), np.int64)
    with pytest.raises(InputError, match="claims 8,000,000,000 bytes"):
        read_effects(path)


@pytest.mark.parametrize("effect", ["", "text", "[" * 5000])
def test_a_background_of_no_known_effect_is_refused_by_its_name(effect, tmp_path):
    path = tmp_path / "b.h5"
    write_a_background(path)
    with h5py.File(path, "r+") as file:
        file.attrs["effect"] = effect
    with pytest.raises(InputError, match=r"b.h5: .*'effect' is none of absdiff") as caught:
        read_background(path)
    assert len(str(caught.value)) < 500
