"""Several networks tested as one: the mean of their probabilities."""

import numpy as np
import pytest
import tiny

from danq_keras.commands import evaluate as command
from danq_keras.data.targets import Targets
from danq_keras.evaluation.evaluate import evaluate
from danq_keras.models.networks import build_network
from danq_keras.models.trained import describe_network, load_model, save_model
from danq_keras.system.errors import InputError


def saved(path, names, seed):
    config = tiny.preset(n_targets=len(names)).model
    about = describe_network(config, Targets(tuple(names)))
    save_model(build_network(config, seed=seed), path, about=about)
    return path


@pytest.mark.parametrize("ignore", [False, True])
def test_the_mean_of_the_probabilities_is_tested(tmp_path, ignore):
    dataset = tiny.make_dataset(tmp_path / "data", ignore=ignore)
    names = dataset.targets.names
    one = saved(tmp_path / "one.keras", names, 1)
    two = saved(tmp_path / "two.keras", names[::-1], 2)
    apart = [evaluate(path, dataset) for path in (one, two)]
    both = evaluate(one, dataset, ensemble=[two])
    expected = (apart[0].prediction.probs + apart[1].prediction.probs[:, ::-1]) / 2
    np.testing.assert_allclose(both.prediction.probs, expected, atol=1e-6)
    labels, probs = both.prediction.labels.astype(float), expected.astype(np.float64)
    losses = -labels * np.log(probs) - (1 - labels) * np.log1p(-probs)
    if ignore:
        losses = losses[both.prediction.ignore == 0]
    assert both.summary["overall"]["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    alone = evaluate(one, dataset, ensemble=[one])
    assert alone.summary["overall"]["auroc"] == apart[0].summary["overall"]["auroc"]
    assert alone.summary["overall"]["loss"] == pytest.approx(
        apart[0].summary["overall"]["loss"],
        rel=1e-3,  # there the mean of the strands' losses
    )


def test_the_command_tests_an_ensemble(tmp_path, run_script):
    dataset = tiny.make_dataset(tmp_path / "data")
    one, two = (saved(tmp_path / f"{n}.keras", dataset.targets.names, n) for n in (1, 2))
    arguments = [one, "--data", dataset.folder, "--ensemble", two, "--out", tmp_path / "out"]
    assert run_script("evaluate_danq.py", command.main, *arguments) == 0
    assert (tmp_path / "out" / "test_aucs.tsv").is_file()
    other = saved(tmp_path / "other.keras", ["a", "b", "c"], 3)
    with pytest.raises(InputError, match="must have the same targets"):
        evaluate(one, dataset, ensemble=[load_model(other)])
