"""What a run says of counting k-mers: before its first epoch, and when it passes them."""

import numpy as np
import pytest
import tiny

from danq_keras.data.store import StoreHeader, open_store
from danq_keras.data.store_write import Rows, SplitWriter, new_dataset
from danq_keras.data.targets import Targets
from danq_keras.evaluation.baselines import kmer_validation
from danq_keras.genome.dna import pack_codes, pack_labels
from danq_keras.training.run import _beside_kmers
from danq_keras.training.run_folder import describe_run
from danq_keras.training.trainer import Trainer


@pytest.fixture
def trainer(tmp_path):
    return Trainer(tiny.preset(epochs=2), tiny.make_dataset(tmp_path / "data"), tmp_path)


def row(epoch, value):
    return {"epoch": epoch, "val_auroc": value, "val_auprc": value}


def test_the_epoch_that_passes_is_said_once(trainer, messages):
    seen = []
    tell = _beside_kmers(trainer, seen.append)
    assert "To beat: logistic regression on counts of 1- to 5-mers has ROC AUC" in messages.text
    tell(row(1, 0.0))
    assert "passes" not in messages.text
    tell(row(2, 1.0))
    tell(row(3, 1.0))
    assert "Epoch 2 passes the k-mer baseline." in messages.text
    assert "Epoch 3 passes" not in messages.text
    assert [each["epoch"] for each in seen] == [1, 2, 3]
    assert (trainer.dataset.folder / "baselines_valid.json").is_file()
    assert (trainer.dataset.folder / "baselines_test.json").is_file()


def test_the_report_finds_what_was_said(tmp_path, messages):
    """Beside the dataset, or in the run where windows were limited; nowhere else."""
    dataset = tiny.make_dataset(tmp_path / "data")
    for settings, columns in (({}, None), ({"train_limit": 30, "targets": ("1",)}, [1])):
        n_targets = 3 if columns is None else 1
        preset = tiny.preset(n_targets=n_targets, **settings)
        trainer = Trainer(preset, dataset, tmp_path, columns=columns)
        config = describe_run(preset, dataset, columns)
        if columns is not None:
            assert kmer_validation(tmp_path, config) == {}
        _beside_kmers(trainer, None)
        found = kmer_validation(tmp_path, config)
        line = f"has ROC AUC {found['val_auroc']:.4f}, PR AUC {found['val_auprc']:.4f} on"
        assert line in messages.records[-1].getMessage()
    assert (tmp_path / "baselines_valid.json").is_file()
    config["dataset"]["fingerprints"]["valid"] = "other"
    assert kmer_validation(tmp_path, config) == {}
    assert kmer_validation(tmp_path, {"preset": "danq"}) == {}


def test_a_resumed_run_does_not_say_it_again(trainer, messages):
    trainer.state.history = [row(1, 1.0)]
    tell = _beside_kmers(trainer, None)
    tell(row(2, 1.0))
    assert "passes" not in messages.text


def test_a_network_that_never_passes_is_said(trainer, messages):
    tell = _beside_kmers(trainer, None)
    tell(row(1, 0.0))
    assert "No epoch passed" not in messages.text
    trainer.state.finished = True
    tell(row(2, 0.0))
    assert "No epoch passed the k-mer baseline" in messages.text


def test_the_chosen_targets_alone_count(tmp_path, messages):
    dataset = tiny.make_dataset(tmp_path / "data")
    for columns in (None, [0]):
        n_targets = 3 if columns is None else 1
        trainer = Trainer(tiny.preset(n_targets=n_targets), dataset, tmp_path, columns=columns)
        _beside_kmers(trainer, None)
    lines = [each.getMessage() for each in messages.records if "To beat" in each.getMessage()]
    assert len(set(lines)) == 2


def test_nothing_to_measure_names_the_cures(tmp_path, messages):
    header = StoreHeader(tiny.WINDOW, 20, "both", Targets(("one",)), "bound windows, for tests")
    with new_dataset(tmp_path / "data") as folder:
        for name in ("train", "valid", "test"):
            codes = np.random.default_rng(0).integers(0, 4, (20, tiny.WINDOW), dtype=np.uint8)
            with SplitWriter(folder / f"{name}.h5", header, n_windows=20) as writer:
                writer.append(
                    Rows(pack_codes(codes), pack_labels(np.ones((20, 1))), chrom=None, start=None)
                )
    trainer = Trainer(tiny.preset(n_targets=1), open_store(tmp_path / "data"), tmp_path)
    assert _beside_kmers(trainer, None) is None
    assert "build the dataset with --negatives genome" in messages.text
