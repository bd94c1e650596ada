"""101-bp sequences, of one strand and of both, from table to prediction without a further word."""

import shutil

import h5py
import numpy as np
import pandas as pd
import pytest

import danq_keras as dq
from danq_keras.genome.dna import decode, encode, onehot_from_codes, reverse_complement_codes

LENGTH = 101
SMALL = {
    "filters": 8,
    "kernel_size": 9,
    "lstm_units": 4,
    "dense_units": 8,
    "epochs": 1,
    "optimizer": "adam",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run on both strands and one on the given strand, of the same table."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(8)
    texts = ["".join(rng.choice(list("ACGU"), LENGTH)) for _ in range(120)]
    table = pd.DataFrame({"sequence": texts, "label": [0, 1] * 60})
    made = {}
    for strands in ("both", "given"):
        data = dq.build_dataset_from_sequences(folder / f"{strands}-data", table, strands=strands)
        made[strands] = dq.train(data, folder / strands, preset="danq", settings=SMALL)
    return made


def windows(n=3):
    rng = np.random.default_rng(9)
    return rng.integers(0, 4, (n, LENGTH), dtype=np.uint8)


def passes(model, codes):
    """Keras' own predictions of windows and of their reverse complements."""
    strands = codes, reverse_complement_codes(codes)
    return [model.network.predict(onehot_from_codes(each), verbose=0) for each in strands]


def test_both_strands_are_the_mean_of_the_same_two_passes(runs):
    model, codes = runs["both"].model, windows()
    found = dq.predict(model, [decode(row) for row in codes]).values
    turned = dq.predict(model, [decode(row) for row in reverse_complement_codes(codes)]).values
    np.testing.assert_array_equal(found, turned)
    np.testing.assert_allclose(found, np.mean(passes(model, codes), axis=0), rtol=1e-5)


def test_one_strand_is_predicted_as_it_stands(runs):
    for model in (runs["given"].model, dq.load_model(runs["given"].folder / "model.keras")):
        codes = windows()
        assert model.strands == "forward"
        forward, reverse = passes(model, codes)
        found = dq.predict(model, [decode(row) for row in codes]).values
        np.testing.assert_allclose(found, forward, rtol=1e-5)
        assert not np.allclose(forward, reverse, rtol=1e-5)
        explained = dq.explain(model, codes, [0], method="gradients")
        np.testing.assert_allclose(
            1 / (1 + np.exp(-explained.scores[:, 0])), forward[:, 0], rtol=1e-5
        )


def test_rows_as_given_alone_are_no_assay_of_one_strand(runs, tmp_path):
    """A DeepSEA file of both strands in any order is stored "as given"; its networks know both."""
    made = runs["given"].folder.parent / "given-data"
    assert dq.open_dataset(made).train.header.one_strand
    for path in made.glob("*.h5"):
        (tmp_path / "data").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "data")
        with h5py.File(tmp_path / "data" / path.name, "a") as file:
            del file.attrs["one_strand"]
    data = dq.open_dataset(tmp_path / "data")
    assert data.train.header.strands == "as given"
    run = dq.train(data, tmp_path / "run", preset="danq", settings=SMALL)
    assert run.model.strands == "both"


def test_a_variant_stands_in_the_middle_of_an_odd_window(runs, tmp_path):
    model, codes = runs["both"].model, windows(1)[0]
    genome = tmp_path / "g.fa"
    genome.write_text(f">c\n{decode(codes)}\n")
    middle = LENGTH // 2
    ref, alt = decode(codes[middle : middle + 1]), "A" if codes[middle] else "C"
    table = pd.DataFrame({"chrom": ["c"], "pos": [middle + 1], "ref": [ref], "alt": [alt]})
    effects = dq.score_variants(model, table, genome)
    changed = codes.copy()
    changed[middle] = encode(alt)[0]
    expected = [np.mean(passes(model, each[None]), axis=0)[0] for each in (codes, changed)]
    np.testing.assert_allclose(effects.ref[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(effects.alt[0], expected[1], rtol=1e-5)
