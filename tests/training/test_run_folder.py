import dataclasses

import numpy as np
import pytest
import tiny
from sklearn.metrics import f1_score

from danq_keras.evaluation import evaluate
from danq_keras.evaluation.auc_tables import read_auc_table
from danq_keras.evaluation.evaluate import MIN_VALIDATION_POSITIVES, Evaluation, choose_thresholds
from danq_keras.models.networks import build_network
from danq_keras.models.trained import TrainedModel
from danq_keras.prediction.predictor import SplitPrediction, SplitPredictor
from danq_keras.recipes.presets import PRESETS, get_preset
from danq_keras.recipes.settings import apply_settings
from danq_keras.system.errors import InputError
from danq_keras.training.run_folder import describe_run, preset_from_config


def prediction(rng, positives, n=200, ignore=None):
    """Targets with given numbers of positives, which score higher on the whole."""
    labels = np.zeros((n, len(positives)), np.uint8)
    for target, count in enumerate(positives):
        labels[rng.permutation(n)[:count], target] = 1
    probs = (rng.random(labels.shape) * 0.8 + 0.2 * labels).astype(np.float32)
    return SplitPrediction(probs, labels, ignore, 0.5)


def best_threshold(labels, probs):
    """The highest of the scores with the best F1, by trying every one."""
    scores = np.unique(probs)
    f1 = [f1_score(labels, probs >= score) for score in scores]
    return scores[len(f1) - 1 - int(np.argmax(f1[::-1]))]


def test_enough_positives_give_a_target_its_own_threshold(rng):
    assert MIN_VALIDATION_POSITIVES == 25
    found = prediction(rng, [80, 25, 24, 0])
    shared = best_threshold(found.labels.ravel(), found.probs.ravel())
    expected = [best_threshold(found.labels[:, t], found.probs[:, t]) for t in (0, 1)]
    thresholds = choose_thresholds(found)
    np.testing.assert_array_equal(thresholds, [*expected, shared, shared])
    assert len(set(thresholds)) == 3


def test_ignored_positives_do_not_count(rng):
    found = prediction(rng, [40, 40])
    ignore = np.zeros_like(found.labels)
    ignore[np.flatnonzero(found.labels[:, 1])[:20], 1] = 1
    masked = SplitPrediction(found.probs, found.labels, ignore, 0.5)
    keep = ignore == 0
    shared = best_threshold(found.labels[keep], found.probs[keep])
    thresholds = choose_thresholds(masked)
    assert thresholds[0] == best_threshold(found.labels[:, 0], found.probs[:, 0])
    assert thresholds[1] == shared


def test_without_any_positive_there_is_no_threshold(rng):
    assert np.isnan(choose_thresholds(prediction(rng, [0, 0]))).all()


def test_a_target_that_is_always_positive_shares_the_threshold(rng):
    found = prediction(rng, [200, 30])
    thresholds = choose_thresholds(found)
    assert thresholds[0] == best_threshold(found.labels.ravel(), found.probs.ravel())


@pytest.mark.parametrize("least", [1, 1000])
def test_thresholds_of_validation_are_stored_and_applied_to_the_test(tmp_path, monkeypatch, least):
    monkeypatch.setattr(evaluate, "MIN_VALIDATION_POSITIVES", least)
    dataset = tiny.make_dataset(tmp_path / "data")
    network = build_network(tiny.preset().model, seed=3)
    model = TrainedModel(network, dataset.targets, tmp_path / "x.keras", {})
    (tmp_path / "out").mkdir()
    evaluate.evaluate_model(model, dataset, how=Evaluation()).save(tmp_path / "out")
    table = read_auc_table(tmp_path / "out" / "test_aucs.tsv")
    predict = SplitPredictor(network, batch_size=50)
    valid, test = predict(dataset.valid, desc=""), predict(dataset.test, desc="")
    for t in range(3):
        chosen = (slice(None), t) if least == 1 else slice(None)
        threshold = best_threshold(valid.labels[chosen].ravel(), valid.probs[chosen].ravel())
        assert table["threshold"][t] == pytest.approx(threshold, rel=1e-6)
        called = test.probs[:, t] >= np.float32(threshold)
        assert table["f1_at_threshold"][t] == pytest.approx(f1_score(test.labels[:, t], called))


@pytest.mark.parametrize("name", PRESETS)
def test_a_file_that_only_names_a_preset_is_that_preset(name):
    assert preset_from_config({"preset": name}) == get_preset(name)


@pytest.mark.parametrize("name", PRESETS)
def test_the_settings_of_a_run_come_back(name):
    preset = apply_settings(get_preset(name), {"epochs": 3, "dense_units": 7})
    sections = {
        "model": dataclasses.asdict(preset.model),
        "train": dataclasses.asdict(preset.train),
    }
    assert preset_from_config({"preset": name, **sections}) == preset


def test_another_optimizer_starts_from_its_own_defaults():
    train = preset_from_config({"preset": "danq", "optimizer": "adam"}).train
    assert (train.optimizer, train.rho, train.epsilon) == ("adam", None, None)
    train = preset_from_config(
        {"preset": "danq", "train": {"optimizer": "adam", "epsilon": 1}}
    ).train
    assert train.epsilon == 1


def test_a_section_that_is_no_object():
    with pytest.raises(InputError, match="'model': expected an object of settings"):
        preset_from_config({"preset": "danq", "model": 3})


def test_settings_that_a_run_does_not_know_are_not_the_presets_of_today(tmp_path):
    """Else a run of an earlier version would go on as another network."""
    dataset = tiny.make_dataset(tmp_path / "data")
    content = describe_run(tiny.preset("danq-fitted"), dataset, None)
    assert preset_from_config(content).model.dense_activation == "gelu"
    content["model"].pop("dense_activation")
    content["train"].pop("output_bias")
    earlier = preset_from_config(content)
    assert (earlier.model.dense_activation, earlier.train.output_bias) == ("relu", "zero")
    settings = {"preset": "danq-fitted", "model": {"filters": 8}}  # a file of some settings
    assert preset_from_config(settings).model.dense_activation == "gelu"
