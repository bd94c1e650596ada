"""Predictions of files, against Keras' own `predict` on the one-hot of the same windows."""

import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import scipy.io
import tiny

from danq_keras.commands import predict
from danq_keras.data import matlab, store, store_write
from danq_keras.data.deepsea import deepsea_targets
from danq_keras.data.inputs import open_windows
from danq_keras.data.targets import Targets
from danq_keras.genome import dna
from danq_keras.models.networks import build_network
from danq_keras.models.trained import TrainedModel, save_model
from danq_keras.prediction.predictor import Predictor
from danq_keras.prediction.stream import Request, write_predictions
from danq_keras.system import errors

BIN = Path(__file__).resolve().parents[2] / "bin"
TOLERANCE = 2e-6  # of float32 probabilities
N_ROWS = 23


@pytest.fixture(scope="module")
def network():
    """Tiny, with weights large enough that windows and strands differ."""
    model = build_network(tiny.preset().model, seed=3)
    rng = np.random.default_rng(8)
    model.set_weights([0.6 * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def model_path(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    save_model(network, path)
    return path


@pytest.fixture(scope="module")
def codes():
    """(N, L) with unknown bases."""
    return np.random.default_rng(5).integers(0, 5, (N_ROWS, tiny.WINDOW), dtype=np.uint8)


def channels_first(codes):
    """(N, 4, L) uint8, written out by hand: channels A,G,C,T, nothing for an unknown base."""
    values = np.zeros((len(codes), 4, codes.shape[1]), np.uint8)
    for row, window in enumerate(codes):
        for position, code in enumerate(window):
            if code < 4:
                values[row, code, position] = 1
    return values


def write_h5(path, codes, *, name="testxdata", **options):
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=channels_first(codes), **options)
    return path


def write_mat5(path, codes):
    scipy.io.savemat(path, {"testxdata": channels_first(codes)})
    return path


def write_mat73(path, codes):
    """As MATLAB writes it: h5py sees the axes backwards."""
    with h5py.File(path, "w", userblock_size=512) as file:
        dataset = file.create_dataset("testxdata", data=channels_first(codes).T)
        dataset.attrs["MATLAB_class"] = np.bytes_("uint8")
    return path


def write_split(path, codes, strands, *, coordinates=True):
    targets = Targets(("a", "b"))
    header = store.StoreHeader(tiny.WINDOW, 20, strands, targets, "random")
    n = len(codes)
    rows = store_write.Rows(  # the writer leaves out coordinates where the split has none
        dna.pack_codes(codes),
        dna.pack_labels(np.zeros((n, 2), np.uint8)),
        chrom=np.array(["chr1", "chrUn_β"])[np.arange(n) % 2],
        start=np.arange(n, dtype=np.int64) * 200 + 7,
    )
    width = 8 if coordinates else 0
    with store_write.SplitWriter(path, header, n_windows=n, chrom_width=width) as writer:
        writer.append(rows)
    return path


@pytest.fixture
def h5(tmp_path, codes):
    return write_h5(tmp_path / "input.h5", codes)


def forward(network, codes):
    onehot = channels_first(codes).transpose(0, 2, 1).astype(np.float32)
    return network.predict(onehot, verbose=0)


def both(network, codes):
    """The mean of two calls: the reverse complement swaps A,T (0,3) and G,C (1,2) and reverses."""
    complement = np.array([3, 2, 1, 0, 4], np.uint8)
    return (forward(network, codes) + forward(network, complement[codes][:, ::-1])) / 2


@pytest.fixture
def command(run_script, capsys):
    """Runs the command as its script does; gives (status, stdout, stderr)."""

    def run(*arguments):
        status = run_script("predict_danq.py", predict.main, *arguments)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def read(path):
    with h5py.File(path, "r") as file:
        return {
            name: item.asstr()[:] if item.dtype.kind in "OS" else item[:]
            for name, item in file.items()
        }


@pytest.mark.parametrize(
    ("name", "write"),
    [("i.h5", write_h5), ("i.mat", write_mat5), ("j.mat", write_mat73), ("noending", write_mat5)],
)
def test_testxdata_files_give_a_row_for_each_row_in_order(
    name, write, network, model_path, codes, tmp_path, command
):
    source, out = write(tmp_path / name, codes), tmp_path / "out.h5"
    status, shown, errors = command(model_path, source, out)
    assert (status, errors) == (0, "")
    result = read(out)
    assert set(result) == {"pred", "targets"}
    assert result["pred"].dtype == np.float32
    np.testing.assert_allclose(result["pred"], forward(network, codes), atol=TOLERANCE)
    assert result["targets"].tolist() == ["0", "1", "2"]
    assert f"{N_ROWS} windows × 3 targets, forward strand" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "out.h5"])


def test_strands_both_is_the_mean_with_the_reverse_complement(
    network, model_path, h5, codes, tmp_path, command
):
    out = tmp_path / "out.h5"
    status, shown, _ = command(model_path, h5, out, "--strands", "both")
    assert status == 0
    assert "both strands" in shown
    np.testing.assert_allclose(read(out)["pred"], both(network, codes), atol=TOLERANCE)
    assert np.abs(both(network, codes) - forward(network, codes)).max() > 0.01  # so it was seen


@pytest.mark.parametrize(
    ("strands", "flag", "expected"),
    [
        ("both", None, both),
        ("both", "forward", forward),
        ("as given", None, forward),
        ("as given", "both", both),
    ],
)
def test_a_split_file_decides_the_strands_unless_told(
    strands, flag, expected, network, model_path, codes, tmp_path, command
):
    source, out = write_split(tmp_path / "split.h5", codes, strands), tmp_path / "out.h5"
    flags = [] if flag is None else ["--strands", flag]
    assert command(model_path, source, out, *flags)[0] == 0
    result = read(out)
    np.testing.assert_allclose(result["pred"], expected(network, codes), atol=TOLERANCE)
    assert result["chrom"].tolist() == [["chr1", "chrUn_β"][i % 2] for i in range(N_ROWS)]
    assert result["start"].tolist() == [7 + 200 * i for i in range(N_ROWS)]
    assert result["end"].tolist() == [7 + 200 * i + tiny.WINDOW for i in range(N_ROWS)]
    with h5py.File(out) as file:
        assert file.attrs["strands"] == ("both" if expected is both else "forward")


def test_a_split_without_coordinates_gives_none(model_path, codes, tmp_path, command):
    source = write_split(tmp_path / "split.h5", codes, "both", coordinates=False)
    assert command(model_path, source, tmp_path / "out.h5")[0] == 0
    assert set(read(tmp_path / "out.h5")) == {"pred", "targets"}


def test_a_dataset_folder_with_and_without_split(network, model_path, tmp_path, command):
    dataset = tiny.make_dataset(tmp_path / "data")
    for flags, split in (([], "test"), (["--split", "valid"], "valid")):
        out = tmp_path / f"{split}.h5"
        assert command(model_path, dataset.folder, out, *flags)[0] == 0
        packed = np.asarray(dataset.split(split).sequence)
        expected = both(network, dna.unpack_codes(packed, dataset.window))
        np.testing.assert_allclose(read(out)["pred"], expected, atol=TOLERANCE)


def test_targets_are_the_run_s(network, h5, tmp_path, command):
    run = tmp_path / "run"
    save_model(network, run / "model.keras")
    (run / "config.json").write_text('{"targets": ["Zelle|CTCF", "β", "c"]}', encoding="utf-8")
    assert command(run, h5, tmp_path / "out.h5")[0] == 0
    assert read(tmp_path / "out.h5")["targets"].tolist() == ["Zelle|CTCF", "β", "c"]


@pytest.mark.parametrize("strands", ["forward", "both"])
def test_batch_size_does_not_matter(strands, model_path, h5, tmp_path, command):
    predictions = []
    for size in (1, 7, 64):
        out = tmp_path / f"{size}.h5"
        flags = ("--batch-size", size, "--strands", strands)
        assert command(model_path, h5, out, *flags)[0] == 0
        predictions.append(read(out)["pred"])
    np.testing.assert_allclose(predictions[0], predictions[2], atol=TOLERANCE)
    np.testing.assert_allclose(predictions[1], predictions[2], atol=TOLERANCE)


def test_many_blocks_equal_one(network, codes, tmp_path, monkeypatch):
    source = write_h5(tmp_path / "input.h5", codes, chunks=(5, 4, tiny.WINDOW))
    monkeypatch.setattr(matlab, "BLOCK_BYTES", 5 * 4 * tiny.WINDOW)
    windows = open_windows(source)
    assert [len(block) for block in windows.blocks(0)] == [5, 5, 5, 5, 3]
    assert [len(block) for block in windows.blocks(7)] == [3, 5, 5, 3]
    model = TrainedModel(network, deepsea_targets().subset([0, 1, 2]), source, {})
    request = Request("forward", batch_size=2)
    write_predictions([model], windows, out=tmp_path / "out.h5", request=request)
    pred = read(tmp_path / "out.h5")["pred"]
    np.testing.assert_allclose(pred, forward(network, codes), atol=TOLERANCE)


def wide_network(n_targets):
    inputs = keras.Input((tiny.WINDOW, 4))
    pooled = keras.layers.GlobalAveragePooling1D()(inputs)
    return keras.Model(inputs, keras.layers.Dense(n_targets, "sigmoid")(pooled))


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(matlab, "BLOCK_BYTES", 1 << 16)
    targets = Targets(tuple(str(i) for i in range(200)))
    model = TrainedModel(wide_network(len(targets)), targets, tmp_path / "m", {})
    peaks = []
    for n in (300, 600, 9600):  # the first one pays for tracing
        source = tmp_path / f"{n}.h5"
        with h5py.File(source, "w") as file:
            file.create_dataset("testxdata", (n, 4, tiny.WINDOW), np.uint8, chunks=(100, 4, 60))
        tracemalloc.start()
        windows, request = open_windows(source), Request("both", batch_size=100)
        write_predictions([model], windows, out=tmp_path / f"o{n}.h5", request=request)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    n_bytes = 9600 * 200 * 4
    assert abs(peaks[2] - peaks[1]) < n_bytes / 10


def test_existing_output_is_kept_unless_told(model_path, h5, tmp_path, command):
    out = tmp_path / "out.h5"
    out.write_text("precious")
    status, _, errors = command(model_path, h5, out)
    assert (status, out.read_text()) == (2, "precious")
    assert errors == f"Error: {out}: already exists. Choose another name, or pass --overwrite.\n"
    assert command(model_path, h5, out, "--overwrite")[0] == 0
    assert len(read(out)["pred"]) == N_ROWS


def one_line(result):
    """The message of a run that failed as a user's mistake does."""
    status, shown, errors = result
    assert (status, shown) == (2, "")
    assert errors.startswith("Error: ")
    assert errors.count("\n") == 1
    return errors


@pytest.fixture
def mistake(command, tmp_path, model_path):
    """Runs the command on a bad input; nothing may be left of the output."""

    def run(source, *flags, model=model_path):
        before = set(tmp_path.iterdir())
        message = one_line(command(model, source, tmp_path / "out.h5", *flags))
        assert set(tmp_path.iterdir()) == before
        return message

    return run


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.vcf", b"##\n" * 99), ("e", b"\n")],
)
def test_other_kinds_of_input(name, content, tmp_path, mistake):
    path = tmp_path / name
    path.write_bytes(content)
    assert f"{path}: this kind of input is not known. Give a FASTA file, a BED" in mistake(path)


def test_an_empty_file(tmp_path, mistake):
    (tmp_path / "e.fa").touch()
    assert "e.fa: the file is empty. Give a FASTA file" in mistake(tmp_path / "e.fa")


def test_missing_input_and_other_folders(tmp_path, mistake):
    assert "nowhere.h5: no such file or folder" in mistake(tmp_path / "nowhere.h5")
    (tmp_path / "folder").mkdir()
    assert "folder: not a dataset folder" in mistake(tmp_path / "folder")


def test_damaged_and_foreign_files(tmp_path, codes, mistake):
    path = write_h5(tmp_path / "other.h5", codes, name="trainxdata")
    assert "expected the key 'testxdata', received: trainxdata" in mistake(path)
    path = write_h5(tmp_path / "cut.h5", codes)
    os.truncate(path, 3000)
    assert "cut.h5: not a readable .mat or HDF5 file, or a truncated one" in mistake(path)
    path = tmp_path / "text.mat"
    path.write_text("hello")
    assert "text.mat: not a readable .mat or HDF5 file" in mistake(path)
    path = tmp_path / "axes.h5"
    with h5py.File(path, "w") as file:
        file["testxdata"] = channels_first(codes).transpose(0, 2, 1)
    assert "expected 'testxdata' of shape (N, 4, L), received (23, 60, 4)" in mistake(path)


def test_values_that_are_no_bases_leave_nothing(tmp_path, codes, mistake):
    path = write_h5(tmp_path / "two.h5", codes)
    with h5py.File(path, "r+") as file:
        file["testxdata"][N_ROWS - 1, 0, 9] = 2
    assert "must hold only 0 and 1. Received: 2 in row 22" in mistake(path)


def test_no_rows(tmp_path, codes, mistake):
    message = "there are no rows to predict"
    assert message in mistake(write_h5(tmp_path / "none.h5", codes[:0]))
    assert message in mistake(write_split(tmp_path / "split.h5", codes[:0], "both"))


def test_window_of_another_length(tmp_path, codes, mistake, model_path):
    path = write_h5(tmp_path / "short.h5", codes[:, :40])
    assert f"{path}: windows of 40 bases, but {model_path} takes 60." in mistake(path)


def test_damaged_split(tmp_path, codes, mistake):
    path = write_split(tmp_path / "split.h5", codes, "both")
    with h5py.File(path, "r+") as file:
        file["sequence"][0, 0] ^= 0xFF
    assert "split.h5: wrong checksum of 'sequence'" in mistake(path)


def test_split_is_for_folders(h5, mistake, tmp_path):
    assert "--split: for a dataset folder only" in mistake(h5, "--split", "test")
    folder = tiny.make_dataset(tmp_path / "data").folder
    (folder / "valid.h5").unlink()
    assert "valid.h5: no such file" in mistake(folder, "--split", "valid")


def test_batch_size_at_least_one(h5, mistake):
    assert "--batch-size: at least 1. Received: 0." in mistake(h5, "--batch-size", 0)


def test_models_that_do_not_take_dna(h5, tmp_path, mistake):
    inputs = keras.Input((tiny.WINDOW, 5))
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    path = tmp_path / "five.keras"
    save_model(keras.Model(inputs, outputs), path)
    message = mistake(h5, model=path)
    assert "five.keras: a model maps (N, L, 4) to (N, T). Received: (None, 60, 5)" in message
    assert "no such model" in mistake(h5, model=tmp_path / "missing.keras")


def test_damaged_weights_are_not_written_as_predictions(network, h5, tmp_path, mistake):
    model = keras.models.clone_model(network)
    weights = network.get_weights()
    weights[-1] = np.full_like(weights[-1], np.nan)
    model.set_weights(weights)
    save_model(model, tmp_path / "nan.keras")
    message = mistake(h5, model=tmp_path / "nan.keras")
    assert "prediction of row 0 is not a finite number" in message


def test_outputs_that_cannot_be(model_path, h5, tmp_path, command):
    dataset = tiny.make_dataset(tmp_path / "data").folder
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "file").touch()
    for source, out, message in (
        (h5, tmp_path / "out.csv", "predictions are an .h5, .tsv, .tsv.gz or .bw file"),
        (h5, tmp_path / "folder.h5", "this is a folder"),
        (h5, tmp_path / "file" / "out.h5", "its parent is not a folder"),
        (h5, h5, "is the input itself"),
        (dataset, dataset / "valid.h5", "is the input itself"),
    ):
        before = h5.read_bytes(), (dataset / "valid.h5").read_bytes()
        assert message in one_line(command(model_path, source, out, "--overwrite"))
        assert (h5.read_bytes(), (dataset / "valid.h5").read_bytes()) == before


def test_no_memory_is_one_line(network):
    import tensorflow as tf

    predictor = Predictor(network, window=tiny.WINDOW, strands="forward")

    def refuse(_packed):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    predictor._step = refuse
    with pytest.raises(errors.InputError, match="`batch_size`: no memory for 2 windows"):
        predictor.at_once(np.zeros((2, tiny.WINDOW // 2), np.uint8))


def test_a_full_disk_is_found_before_the_first_batch(network, h5, tmp_path, monkeypatch):
    def full(_descriptor, _offset, _length):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(Predictor, "__call__", lambda *_: pytest.fail("predicted"))
    model = TrainedModel(network, Targets(("a", "b", "c")), tmp_path / "m", {})
    with pytest.raises(OSError, match="No space left") as caught:
        write_predictions(
            [model], open_windows(h5), out=tmp_path / "out.h5", request=Request("forward")
        )
    assert caught.value.filename == str(tmp_path / "out.h5")
    assert [path.name for path in tmp_path.iterdir()] == [h5.name]


@pytest.mark.data
def test_deepsea_s_example_is_symmetric_with_both_strands(data_dir, tmp_path, command):
    """Its rows 4-7 are the reverse complements of rows 0-3."""
    small = {"filters": 8, "lstm_units": 4, "dense_units": 10, "kernel_size": 26, "pool_size": 13}
    config = replace(tiny.preset(**small).model, window=1000, n_targets=919)
    model = build_network(config, seed=1)
    rng = np.random.default_rng(2)
    model.set_weights([0.3 * rng.standard_normal(w.shape) for w in model.get_weights()])
    save_model(model, tmp_path / "m.keras")
    source = data_dir / "deepsea_example" / "example.h5"
    results = {}
    for strands in ("forward", "both"):
        out = tmp_path / f"{strands}.h5"
        flags = ("--strands", strands, "--target-names", "deepsea")
        assert command(tmp_path / "m.keras", source, out, *flags)[0] == 0
        results[strands] = read(out)["pred"]
        assert results[strands].shape == (8, 919)
    assert read(out)["targets"].tolist() == list(deepsea_targets().names)
    np.testing.assert_allclose(results["both"][:4], results["both"][4:], atol=TOLERANCE)
    assert np.abs(results["forward"][:4] - results["forward"][4:]).max() > 0.01
