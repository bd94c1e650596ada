"""The networks that come with the package: found by name, small, and what their table says."""

import numpy as np
import pandas as pd
import pytest
import tiny

from danq_keras.commands import predict
from danq_keras.models.networks import build_network
from danq_keras.models.shipped import describe_shipped, model_place, shipped_models
from danq_keras.models.trained import load_model, save_model
from danq_keras.system.errors import InputError
from danq_keras.system.shipped import resource_path
from danq_keras.training.fine_tuning import open_source

NAMES = sorted(shipped_models())


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_network_is_what_its_table_says(name, rng):
    known = shipped_models()[name]
    model = load_model(name)
    assert model.network.input_shape[1:] == (known.window, 4)
    assert len(model.targets) == model.network.output_shape[1] == known.targets
    assert known.path.stat().st_size < 4e6
    onehot = np.eye(4, dtype="f4")[rng.integers(0, 4, (2, known.window))]
    assert np.isfinite(model.network.predict(onehot, verbose=0)).all()
    table = pd.read_csv(resource_path(f"models/{name}.tsv"), sep="\t")
    assert list(table["name"]) == list(model.targets.names)
    assert table["auroc"].mean() == pytest.approx(known.auroc, abs=1e-4)
    assert table["auprc"].mean() == pytest.approx(known.auprc, abs=1e-4)
    assert f"## {name}\n" in resource_path("models/README.md").read_text()
    assert name in describe_shipped()


def test_a_run_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = model_place("demo")
    assert shipped.name == "demo.keras"
    (tmp_path / "demo").mkdir()  # as of a dataset
    assert model_place("demo") == shipped
    save_model(build_network(tiny.preset().model), tmp_path / "demo" / "seed-0" / "model.keras")
    with pytest.raises(InputError, match="a folder of runs"):
        load_model("demo")
    assert model_place("./demo").name == "demo"
    assert model_place(tmp_path / "nothing") == tmp_path / "nothing"
    with pytest.raises(InputError, match=r"no such model\. Give .* name of a network .*: .*demo"):
        load_model("dem")


def test_starting_from_a_shipped_network():
    source = open_source("demo")
    assert source.settings["filters"] == 64
    assert len(source.fingerprint) == 64


def test_half_the_size_and_nearly_the_same(tmp_path, rng):
    network = build_network(tiny.preset().model)
    save_model(network, tmp_path / "whole.keras", about={"targets": ["a", "b", "c"]})
    whole = load_model(tmp_path / "whole.keras")
    whole.save(tmp_path / "half.keras", half=True)
    half = load_model(tmp_path / "half.keras")
    assert half.targets == whole.targets
    onehot = np.eye(4, dtype="f4")[rng.integers(0, 4, (5, tiny.WINDOW))]
    ours, theirs = (m.network.predict(onehot, verbose=0) for m in (half, whole))
    np.testing.assert_allclose(ours, theirs, atol=2e-3)
    assert any(
        (a != b).any()
        for a, b in zip(half.network.get_weights(), whole.network.get_weights(), strict=True)
    )
    for weight in half.network.get_weights():
        np.testing.assert_array_equal(weight, weight.astype("f2").astype("f4"))
    sizes = [(tmp_path / name).stat().st_size for name in ("half.keras", "whole.keras")]
    assert sizes[0] < 0.7 * sizes[1]


def test_the_list_of_models(capsys):
    with pytest.raises(SystemExit) as ended:
        predict.parser().parse_args(["--list-models"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in NAMES)
