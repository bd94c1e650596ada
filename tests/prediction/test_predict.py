"""`predict` as a notebook calls it."""

import keras
import numpy as np
import pandas as pd
import pytest
import tiny
from toys import WINDOW, composition, motif_finder

import danq_keras as dq
from danq_keras.data.targets import Targets
from danq_keras.genome.dna import encode, onehot_from_codes
from danq_keras.models.trained import TrainedModel
from danq_keras.system.errors import InputError

SEQUENCES = ["ACGT" * 5, "TTTTTTGATTACATTTTTTT", "NNNNNNNNNNNNACGTACGT"]


@pytest.fixture
def model(tmp_path):
    return TrainedModel(motif_finder(), Targets(("finder",)), tmp_path / "m.keras", {})


def test_strings_codes_onehot_are_the_same(model):
    codes = np.stack([encode(each) for each in SEQUENCES])
    found = dq.predict(model, SEQUENCES)
    assert found.values.shape == (3, 1)
    assert found.values.dtype == np.float32
    assert found.values[1, 0] > 0.5 >= found.values[0, 0]
    assert found.n_unknown == 1
    for windows in (codes, onehot_from_codes(codes).astype("f4"), onehot_from_codes(codes)):
        np.testing.assert_array_equal(dq.predict(model, windows).values, found.values)
    half = np.where(codes[..., None] == 4, 0.25, onehot_from_codes(codes)).astype("f4")
    np.testing.assert_array_equal(dq.predict(model, half).values, found.values)


def test_a_split_is_what_its_rows_are(tmp_path):
    data = tiny.make_dataset(tmp_path / "data")
    network = dq.build_model(
        window=data.window, n_targets=3, filters=4, lstm_units=3, dense_units=4, pool_size=4
    )
    of_split = dq.predict(network, data.test)
    onehot = np.unpackbits(np.asarray(data.test.sequence), axis=1).reshape(-1, data.window, 4)
    of_array = dq.predict(network, onehot, strands="both" if data.test.both_strands else "forward")
    np.testing.assert_array_equal(of_split.values, of_array.values)
    folder = dq.predict(network, str(tmp_path / "data" / "test.h5"))
    np.testing.assert_array_equal(of_split.values, folder.values)
    assert of_split.targets == ("0", "1", "2")


def test_the_windows_of_a_genome(model, tmp_path):
    fasta = tmp_path / "g.fa"
    fasta.write_text(">chr1\n" + "T" * 46 + "GATTACA" + "T" * 47 + "\n")
    table = pd.DataFrame(
        {"chrom": ["chr1", "chr1", "chr9"], "start": [49, 2, 1], "end": [50, 3, 9]}
    )
    found = dq.predict(model, dq.windows(fasta, table))
    assert found.to_frame()["chrom"].tolist() == ["chr1"]
    assert (found.places.loc[0, "start"], found.places.loc[0, "end"]) == (39, 59)
    assert sorted(found.skipped["reason"]) == [
        "its chromosome is not in the FASTA",
        "its window begins before the chromosome",
    ]
    bed = tmp_path / "p.bed"
    table.to_csv(bed, sep="\t", header=False, index=False)
    np.testing.assert_array_equal(dq.predict(model, dq.windows(fasta, bed)).values, found.values)
    tiles = dq.predict(model, dq.windows(fasta, tile=10), strands="forward")
    assert tiles.places["start"].tolist() == list(range(0, 81, 10))
    assert tiles.values.argmax() in (3, 4)
    with pytest.raises(InputError, match="`tile`: a BED file has its own windows"):
        dq.windows(fasta, bed, tile=5)
    with pytest.raises(InputError, match="columns chrom, start, end"):
        dq.windows(fasta, table.rename(columns={"chrom": "chromosome"}))


def test_several_models_are_an_ensemble(model):
    pair = [model, TrainedModel(motif_finder(spare=1.5), model.targets, model.path, {})]
    found = dq.predict(pair, SEQUENCES)
    each = [dq.predict(one, SEQUENCES).values for one in pair]
    np.testing.assert_allclose(found.values, np.mean(each, axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.spread, np.std(each, axis=0, ddof=1), rtol=1e-4)


def test_chosen_targets_and_files(tmp_path):
    plain = composition(WINDOW, n_targets=4)
    network = TrainedModel(plain, Targets(("A", "G", "C", "T")), tmp_path / "m.keras", {})
    found = dq.predict(network, SEQUENCES, targets=["T", 0])
    assert found.targets == ("T", "A")
    np.testing.assert_array_equal(found.values, dq.predict(network, SEQUENCES).values[:, [3, 0]])
    found.save(tmp_path / "p.tsv")
    table = pd.read_csv(tmp_path / "p.tsv", sep="\t")
    np.testing.assert_allclose(table[["T", "A"]].to_numpy(), found.values, atol=1e-6)
    with pytest.raises(InputError, match="already exists"):
        found.save(tmp_path / "p.tsv")


def test_what_does_not_go_together_is_said(model):
    with pytest.raises(InputError, match="the network reads 20 bases, number 1 has 3"):
        dq.predict(model, ["ACGT" * 5, "ACG"])
    with pytest.raises(InputError, match="put it in"):
        dq.predict(model, "ACGT" * 5)
    with pytest.raises(InputError, match="`strands`: forward or both"):
        dq.predict(model, SEQUENCES, strands="reverse")
    with pytest.raises(InputError, match="`output`: probabilities or embedding"):
        dq.predict(model, SEQUENCES, output="logits")
    with pytest.raises(InputError, match="`output=embedding`: has no targets"):
        dq.predict(model, SEQUENCES, output="embedding", targets=[0])
    with pytest.raises(InputError, match="`model`: none"):
        dq.predict([], SEQUENCES)


def test_a_plain_keras_model_will_do():
    inputs = keras.Input((8, 4))
    outputs = keras.layers.Dense(2, activation="sigmoid")(keras.layers.Flatten()(inputs))
    found = dq.predict(keras.Model(inputs, outputs), ["ACGTACGT"])
    assert found.targets == ("0", "1")


@pytest.mark.parametrize("letter", ["E", "1", "-", "\n", "Ａ"])
def test_what_is_no_base_is_refused(model, letter):
    with pytest.raises(InputError, match="at base 6 of number 1, 1 such letters"):
        dq.predict(model, [SEQUENCES[0], SEQUENCES[1][:5] + letter + SEQUENCES[1][6:]])


def test_outputs_that_are_no_probabilities_are_refused():
    inputs = keras.Input((WINDOW, 4))
    hidden = keras.layers.Flatten()(inputs)
    network = keras.Model(inputs, keras.layers.Dense(1, bias_initializer="ones")(hidden) * 3)
    with pytest.raises(InputError, match="no probabilities: they go from"):
        dq.predict(network, SEQUENCES)


def test_arguments_that_mean_nothing_are_refused(model, tmp_path):
    for options, message in (
        ({"targets": []}, "`targets`: none"),
        ({"batch_size": 0}, "`batch_size`: a whole number from 1 on"),
        ({"batch_size": 1.5}, "`batch_size`"),
    ):
        with pytest.raises(InputError, match=message):
            dq.predict(model, SEQUENCES, **options)
    for options, message in (
        ({"tile": 0}, "`tile`: a whole number"),
        ({"tile": 1.5}, "`tile`"),
        ({"tile": 5, "chroms": []}, "`chroms`: none"),
    ):
        with pytest.raises(InputError, match=message):
            dq.windows(tmp_path / "g.fa", **options)


def test_a_target_called_as_a_place_is_refused_in_a_table(tmp_path):
    model = TrainedModel(motif_finder(), Targets(("row",)), tmp_path / "m.keras", {})
    found = dq.predict(model, SEQUENCES)
    with pytest.raises(InputError, match="'row' is called as the column"):
        found.save(tmp_path / "p.tsv")
    found.save(tmp_path / "p.h5")


def test_networks_of_other_shapes_are_refused():
    inputs = keras.Input((WINDOW, 4))
    flat = keras.layers.Flatten()(inputs)
    five = keras.Input((WINDOW, 5))
    for network, message in (
        (keras.Model(inputs, [flat, flat]), "one input and one output"),
        (keras.Model(inputs, inputs * 1.0), "maps .N, L, 4. to .N, T."),
        (keras.Model(five, keras.layers.Flatten()(five)), "maps .N, L, 4. to .N, T."),
        (keras.Sequential([keras.layers.Flatten()]), "never built"),
    ):
        with pytest.raises(InputError, match=message):
            dq.predict(network, SEQUENCES)


def test_windows_say_the_length_where_a_network_takes_any():
    inputs = keras.Input((None, 4))
    network = keras.Model(inputs, keras.layers.GlobalMaxPooling1D()(inputs))
    onehot = onehot_from_codes(np.stack([encode(each) for each in SEQUENCES])).astype("f4")
    assert dq.predict(network, onehot).values.shape == (3, 4)
    with pytest.raises(InputError, match="takes windows of any length"):
        dq.predict(network, SEQUENCES)
