"""`explain`, `spacing_response` and `first_layer_motifs` as a notebook calls them."""

import h5py
import numpy as np
import pandas as pd
import pytest
import tiny
from toys import WINDOW, motif_finder

import danq_keras as dq
from danq_keras.data.targets import Targets
from danq_keras.genome.dna import encode, onehot_from_codes
from danq_keras.interpret.insertions import spacing_response
from danq_keras.models.trained import TrainedModel
from danq_keras.system.errors import InputError

MOTIF = "GATTACA"
SEQUENCE = "TTTTTT" + MOTIF + "TTTTTTT"  # 20 bases, the motif from base 6 on


@pytest.fixture
def finder(tmp_path):
    return TrainedModel(motif_finder(MOTIF), Targets(("finder",)), tmp_path / "m.keras", {})


def test_every_change_of_the_motif_is_seen(finder):
    found = dq.explain(finder, [SEQUENCE], ["finder"], strands="forward")
    assert found.effects.shape == found.gradients.shape == (1, 1, WINDOW, 4)
    lost = found.effects[0, 0].min(axis=1)
    np.testing.assert_allclose(lost[6:13], -1, atol=1e-5)  # the whole of what the motif gives
    assert (np.abs(np.delete(lost, np.arange(6, 13))) < 1e-4).all()
    assert found.contributions().shape == (1, 1, WINDOW)
    np.testing.assert_allclose(found.contributions()[0, 0, 6:13], 3 / 4, atol=1e-5)


def test_gradients_on_ways_know_their_sum(finder, tmp_path):
    methods = ["expected", "integrated", "gradients"]
    found = dq.explain(finder, [SEQUENCE], ["finder"], method=methods, region=(4, 16), points=300)
    assert list(found.values) == ["gradients", "integrated", "expected"]
    assert found.effects is None
    np.testing.assert_array_equal(found.contributions(), found.contributions("expected"))
    assert np.abs(found.errors["expected"]).max() < 0.05
    assert found.contributions("integrated")[0, 0, 2:9].min() > 0  # GATTACA
    table = found.to_frame()
    assert list(table)[-3:] == ["gradient_x_input", "integrated_gradient", "expected_gradient"]
    found.save(tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5") as file:
        np.testing.assert_array_equal(file["expected_error"][:], found.errors["expected"])
        np.testing.assert_array_equal(file["integrated"][:], found.integrated)
    with pytest.raises(InputError, match="one of gradients, integrated, expected"):
        found.contributions("effects")


def test_strings_codes_and_onehot_are_the_same(finder):
    codes = encode(SEQUENCE)[None]
    found = [
        dq.explain(finder, windows, 0, method="gradients", region=(5, 15))
        for windows in ([SEQUENCE], codes, onehot_from_codes(codes).astype("f4"))
    ]
    for each in found:
        np.testing.assert_array_equal(each.gradients, found[0].gradients)
        assert each.effects is None
    assert found[0].gradients.shape == (1, 1, 10, 4)


def test_table_picture_and_file(finder, tmp_path):
    found = dq.explain(finder, [SEQUENCE, SEQUENCE.lower()], ["finder"], region=(4, 16))
    table = found.to_frame()
    assert len(table) == 2 * 12
    assert "".join(table["base"][table["window"] == 0]) == SEQUENCE[4:16]
    found.plot(1, "finder", tmp_path / "site.png")
    assert (tmp_path / "site.png").read_bytes().startswith(b"\x89PNG")
    found.save(tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5") as file:
        np.testing.assert_array_equal(file["effects"][:], found.effects)
        assert file["targets"].asstr()[:].tolist() == ["finder"]
    with pytest.raises(InputError, match="already exists"):
        found.save(tmp_path / "c.h5")


@pytest.mark.parametrize(
    ("windows", "options", "message"),
    [
        ([SEQUENCE[:-1]], {}, "the network reads 20 bases, number 0 has 19"),
        (SEQUENCE, {}, "put it in"),
        ([], {}, "`windows`: none"),
        (np.full((1, 20, 4), 0.3) + np.arange(4), {}, "20 bases are not one-hot"),
        (np.zeros((2, 20, 3)), {}, r"shape \(N, L, 4\)"),
        (np.full((2, 20), 7), {}, "0 to 3 for A, G, C, T"),
        ([SEQUENCE], {"method": "ism"}, "some of effects, gradients, integrated, expected"),
        ([SEQUENCE], {"backgrounds": 1}, "`backgrounds`: at least 2"),
        ([SEQUENCE], {"points": 0}, "`points`: at least 1"),
        ([SEQUENCE], {"region": (3, 30)}, "inside of 20 bases"),
        ([SEQUENCE], {"strands": "reverse"}, "both or forward"),
    ],
)
def test_what_is_no_window_is_said(finder, windows, options, message):
    with pytest.raises(InputError, match=message):
        dq.explain(finder, windows, ["finder"], **options)


def test_a_motif_put_in_is_answered(finder):
    found = spacing_response(
        finder, ["T" * WINDOW] * 3, [MOTIF], ["finder"], spacing="-2:2", strands="forward"
    )
    assert found.n_windows == 3
    assert found.to_frame()["spacing"].tolist() == [-2, -1, 0, 1, 2]
    np.testing.assert_allclose(found.table["response"], 1, atol=1e-5)
    with pytest.raises(InputError, match="`motifs`: one or two"):
        spacing_response(finder, ["T" * WINDOW], [], ["finder"])


def test_first_layer_motifs_of_a_run(tmp_path):
    data = tiny.make_dataset(tmp_path / "data")
    model = dq.build_model(
        window=data.window,
        n_targets=len(data.targets),
        filters=5,
        lstm_units=3,
        dense_units=4,
        kernel_size=8,
        pool_size=4,
    )
    trained = TrainedModel(model, data.targets, tmp_path / "m.keras", {})
    found = dq.first_layer_motifs(trained, data, matcher="builtin")
    assert len(found.to_frame()) == 5
    found.save(tmp_path / "motifs", logos=False)
    saved = pd.read_csv(tmp_path / "motifs" / "motifs.tsv", sep="\t")
    assert saved["sites"].tolist() == found.motifs["sites"].tolist()
    with pytest.raises(InputError, match="already exists"):
        found.save(tmp_path / "motifs")
    with pytest.raises(InputError, match="`threshold`"):
        dq.first_layer_motifs(trained, data, threshold=0)
