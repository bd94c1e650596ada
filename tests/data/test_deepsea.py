"""DeepSEA's files against NumPy, scipy and h5py as oracles; its targets against the paper."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from danq_keras.data import deepsea, matlab
from danq_keras.data.inputs import open_windows
from danq_keras.data.targets import Targets
from danq_keras.genome import dna
from danq_keras.system.errors import InputError

WINDOW = 10
N_TARGETS = 11
PLACE = matlab.Place(Path("some.mat"), "key")


def random_rows(rng, n, window=WINDOW, n_targets=N_TARGETS):
    """One-hot (N, 4, L) with unknown bases, and labels (N, T): as scipy sees a MATLAB file."""
    codes = rng.integers(0, 5, (n, window), dtype=np.uint8)
    onehot = dna.onehot_from_codes(codes).transpose(0, 2, 1)
    return onehot, rng.integers(0, 2, (n, n_targets), dtype=np.uint8)


def write_hdf5(path, x, y, split="train", **layout):
    with h5py.File(path, "w") as file:
        file.create_dataset(f"{split}xdata", data=x.transpose(2, 1, 0), **layout)
        file.create_dataset(f"{split}data", data=y.T)


def read_split(path, split="train"):
    with deepsea.open_split_mat(path, split) as mat:
        rows = list(mat.rows(lambda _n: None))
        assert sum(len(block.sequence) for block in rows) == mat.n_rows
        return (
            np.concatenate([block.sequence for block in rows]),
            np.concatenate([block.labels for block in rows]),
        )


def assert_same(path, x, y, split="train"):
    sequence, labels = read_split(path, split)
    np.testing.assert_array_equal(dna.unpack_onehot(sequence, x.shape[2]), x.transpose(0, 2, 1))
    np.testing.assert_array_equal(labels, np.packbits(y, axis=1))


# ── targets ──


def test_targets_are_deepseas_919():
    targets = deepsea.deepsea_targets()
    assert len(targets) == 919
    assert [targets.group.count(group) for group in ("DNase", "TF", "histone")] == [125, 690, 104]
    assert len({name.split("#")[0] for name in targets.names}) == 843
    assert targets.names[0] == "8988T|DNase|None"
    ctcf = [name for name in targets.names if name.split("#")[0] == "K562|CTCF|None"]
    assert ctcf == ["K562|CTCF|None", *(f"K562|CTCF|None#{k}" for k in (2, 3, 4, 5))]
    with pytest.raises(InputError, match="fits several"):
        targets.find(["K562|CTCF|None"])


def test_published_aucs_give_the_papers_summary():
    table = deepsea.published_aucs()
    assert list(table["target"]) == list(range(919))
    assert table.index[table["danq_auroc"].isna()].tolist() == [598]
    assert set(table["treatment"]) >= {"None"}
    # Source: the paper's means over 918 targets
    means = table.filter(regex="_au").mean()
    expected = {
        "deepsea_auroc": 0.9326,
        "danq_auroc": 0.9384,
        "danq_jaspar_auroc": 0.9417,
        "deepsea_auprc": 0.3425,
        "danq_auprc": 0.3709,
        "danq_jaspar_auprc": 0.3794,
    }
    for name, value in expected.items():
        assert means[name] == pytest.approx(value, abs=6e-5)
    both = table.dropna()
    assert (both["danq_auroc"] > both["deepsea_auroc"]).sum() == 864
    assert (both["danq_auprc"] > both["deepsea_auprc"]).sum() == 897


def test_numbered_names():
    assert deepsea.numbered_names(["a", "b", "a", "a"]) == ("a", "b", "a#2", "a#3")


def test_targets_table_there_and_back(tmp_path):
    targets = Targets(
        ("one", 'two "x"', "NA"), ("None", "NA", ""), treatment=("", "nan", "null"), group=()
    )
    deepsea.write_targets(tmp_path / "targets.tsv", targets)
    assert deepsea.read_targets(tmp_path / "targets.tsv") == targets
    assert deepsea.find_targets(tmp_path, 3) == targets
    with pytest.raises(InputError, match=r"targets.tsv: 3 targets for labels of 4"):
        deepsea.find_targets(tmp_path, 4)


def test_targets_without_a_table(tmp_path):
    assert deepsea.find_targets(tmp_path, 3).names == ("0", "1", "2")
    assert deepsea.find_targets(tmp_path, 919) == deepsea.deepsea_targets()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a tab-separated table"),
        (b"\xff\xfe\x00", "not a tab-separated table"),
        (b"target\tlabel\n0\ta\n", "Missing: name"),
        (b"target\tname\n1\ta\n0\tb\n", "must count 0, 1, 2"),
        (b"target\tname\n0\ta\n1\ta\n", "targets.tsv: Target names must be unique"),
    ],
)
def test_bad_targets_table(tmp_path, content, message):
    path = tmp_path / "targets.tsv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        deepsea.read_targets(path)
    assert "\n" not in str(caught.value)


# ── bits ──


@pytest.mark.parametrize("n_rows", [1, 7, 8, 9, 16, 919])
@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int16, np.float64])
def test_pack_bits_is_packbits(rng, n_rows, dtype):
    bits = rng.integers(0, 2, (n_rows, 13)).astype(dtype)
    expected = np.packbits(bits.astype(bool), axis=0).T
    np.testing.assert_array_equal(matlab.pack_bits(bits, PLACE), expected)


@pytest.mark.parametrize("value", [2, 255, -1, 0.5, np.nan])
def test_only_zero_and_one(value):
    kind = np.uint8 if value in (2, 255) else np.float64
    bits = np.zeros((9, 5), kind)
    bits[8, 3] = value
    with pytest.raises(InputError, match=r"'key' must hold only 0 and 1\..* in row 103\."):
        matlab.pack_bits(bits, PLACE, 100)


# ── reading ──


def test_hand_worked_row(tmp_path):
    # A,G,C,T then an unknown base and T: bits 1000 0100 0010 0001 0000 0001
    x = np.zeros((1, 4, 6), np.uint8)
    for position, channel in enumerate([0, 1, 2, 3, None, 3]):
        if channel is not None:
            x[0, channel, position] = 1
    write_hdf5(tmp_path / "train.mat", x, np.array([[0, 1, 1]], np.uint8))
    sequence, labels = read_split(tmp_path / "train.mat")
    assert sequence.tolist() == [[0x84, 0x21, 0x01]]
    assert labels.tolist() == [[0b01100000]]


LAYOUTS = {
    "contiguous": None,
    "few samples": (WINDOW, 4, 5),
    "uneven": (3, 3, 7),
    "all samples, a position": (1, 4, 61),
    "all samples, a channel": (1, 1, 61),
    "all samples, an odd number of positions": (3, 4, 61),
    "half the samples": (2, 4, 40),
    "one chunk": (WINDOW, 4, 61),
}
SPILLED = {name for name in LAYOUTS if name.startswith("all")} | {"half the samples", "one chunk"}


@pytest.mark.parametrize("block_bytes", [1 << 27, 4000, 600, 1])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_chunk_layout_reads_the_same(tmp_path, rng, monkeypatch, layout, block_bytes):
    monkeypatch.setattr(matlab, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(matlab, "DIRECT_BYTES", 2 * block_bytes)
    temporary_file, spills = matlab.tempfile.TemporaryFile, []

    def spy(**options):
        spills.append(options)
        return temporary_file(**options)

    monkeypatch.setattr(matlab.tempfile, "TemporaryFile", spy)
    x, y = random_rows(rng, 61)
    chunks = LAYOUTS[layout]
    options = {"chunks": chunks, "compression": "gzip"} if chunks else {}
    write_hdf5(tmp_path / "train.mat", x, y, **options)
    assert_same(tmp_path / "train.mat", x, y)
    if block_bytes == 600:
        assert bool(spills) == (layout in SPILLED)
    if block_bytes == 1 << 27:
        assert not spills


@pytest.mark.parametrize("n_targets", [1, 8, 13])
@pytest.mark.parametrize("chunks", [(3, 61), (8, 61), (1, 61), (13, 4)])
def test_label_chunks(tmp_path, rng, monkeypatch, n_targets, chunks):
    monkeypatch.setattr(matlab, "BLOCK_BYTES", 100)
    monkeypatch.setattr(matlab, "DIRECT_BYTES", 200)
    x, y = random_rows(rng, 61, n_targets=n_targets)
    with h5py.File(tmp_path / "train.mat", "w") as file:
        file["trainxdata"] = x.transpose(2, 1, 0)
        chunks = (min(chunks[0], n_targets), chunks[1])
        file.create_dataset("traindata", data=y.T, chunks=chunks, compression="gzip")
    assert_same(tmp_path / "train.mat", x, y)


@pytest.mark.parametrize("do_compression", [False, True])
def test_matlab5(tmp_path, rng, monkeypatch, do_compression):
    monkeypatch.setattr(matlab, "BLOCK_BYTES", 1000)
    x, y = random_rows(rng, 23)
    path = tmp_path / "valid.mat"
    scipy.io.savemat(path, {"validxdata": x, "validdata": y}, do_compression=do_compression)
    assert_same(path, x, y, "valid")


def test_progress_counts_every_value(tmp_path, rng):
    x, y = random_rows(rng, 23)
    write_hdf5(tmp_path / "train.mat", x, y)
    scipy.io.savemat(tmp_path / "test.mat", {"testxdata": x, "testdata": y})
    for split in ("train", "test"):
        counted = []
        with deepsea.open_split_mat(tmp_path / f"{split}.mat", split) as mat:
            list(mat.rows(counted.append))
            assert sum(counted) == mat.n_bytes == x.size + y.size


# ── bad files ──


def reads(path, message, split="train"):
    with pytest.raises(InputError, match=message) as caught:
        read_split(path, split)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path):
    reads(tmp_path / "train.mat", "no such file")


@pytest.mark.parametrize("content", [b"", b"hello, world\n" * 100])
def test_not_a_mat_file(tmp_path, content):
    path = tmp_path / "train.mat"
    path.write_bytes(content)
    reads(path, "not a readable .mat")


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_truncated_hdf5(tmp_path, rng, kept):
    x, y = random_rows(rng, 500)
    path = tmp_path / "train.mat"
    write_hdf5(path, x, y, chunks=(WINDOW, 4, 50), compression="gzip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    reads(path, "truncated")


def test_damaged_chunk(tmp_path, rng):
    x, y = random_rows(rng, 500)
    path = tmp_path / "train.mat"
    write_hdf5(path, x, y, chunks=(WINDOW, 4, 500), compression="gzip")
    with h5py.File(path) as file:
        chunk = file["trainxdata"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + 20 : chunk.byte_offset + 60] = bytes(40)
    path.write_bytes(content)
    reads(path, "not a readable .mat")


@pytest.mark.parametrize("do_compression", [False, True])
@pytest.mark.parametrize("kept", [0.001, 0.01, 0.3, 0.7, 0.85, 0.99])
def test_truncated_matlab5(tmp_path, rng, kept, do_compression):
    x, y = random_rows(rng, 500)
    path = tmp_path / "valid.mat"
    scipy.io.savemat(path, {"validxdata": x, "validdata": y}, do_compression=do_compression)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    reads(path, "truncated|and complete", "valid")


def test_other_keys(tmp_path, rng):
    x, y = random_rows(rng, 5)
    write_hdf5(tmp_path / "train.mat", x, y, split="test")
    reads(tmp_path / "train.mat", "expected the key 'trainxdata', received: testdata, testxdata")


def test_not_numbers(tmp_path):
    path = tmp_path / "valid.mat"
    scipy.io.savemat(path, {"validxdata": "words", "validdata": np.zeros((2, 2), np.uint8)})
    reads(path, "'validxdata' must be numbers", "valid")
    with h5py.File(tmp_path / "train.mat", "w") as file:
        file["trainxdata"] = ["a", "b"]
    reads(tmp_path / "train.mat", "'trainxdata' must be numbers")


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_other_axes_hdf5(tmp_path, rng, axes):
    x, y = random_rows(rng, 5)
    with h5py.File(tmp_path / "train.mat", "w") as file:
        file["trainxdata"] = x.transpose(axes)
        file["traindata"] = y
    reads(tmp_path / "train.mat", r"expected 'trainxdata' of shape \(L, 4, N\).*received")


def test_other_axes_matlab5(tmp_path, rng):
    x, y = random_rows(rng, 5)
    path = tmp_path / "valid.mat"
    scipy.io.savemat(path, {"validxdata": x.transpose(2, 1, 0), "validdata": y})
    reads(path, r"expected 'validxdata' of shape \(N, 4, L\).*received \(10, 4, 5\)", "valid")


def test_odd_window(tmp_path, rng):
    x, y = random_rows(rng, 5, window=9)
    write_hdf5(tmp_path / "train.mat", x, y)
    assert_same(tmp_path / "train.mat", x, y)


def test_no_targets(tmp_path, rng):
    write_hdf5(tmp_path / "train.mat", *random_rows(rng, 5, n_targets=0))
    reads(tmp_path / "train.mat", "at least one target")


@pytest.mark.parametrize("which", ["trainxdata", "traindata"])
def test_value_two(tmp_path, rng, which):
    x, y = random_rows(rng, 40)
    (x if which == "trainxdata" else y)[31, 2] = 2
    write_hdf5(tmp_path / "train.mat", x, y)
    reads(tmp_path / "train.mat", rf"'{which}' must hold only 0 and 1\. Received: 2 in row 31")


def test_two_bases_at_once(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(matlab, "BLOCK_BYTES", 40 * 7)
    x, y = random_rows(rng, 40)
    x[33, :, 5] = (1, 0, 0, 1)
    write_hdf5(tmp_path / "train.mat", x, y)
    reads(tmp_path / "train.mat", "at most one 1 .* in row 33, base 4 or the next")


# ── prediction files ──


def read_windows(path):
    return np.concatenate(list(open_windows(path).blocks(0)))


def prediction_file(path, x, kind):
    if kind == "matlab5":
        scipy.io.savemat(path, {"testxdata": x})
        return
    with h5py.File(path, "w") as file:
        values = x.transpose(2, 1, 0) if kind == "matlab73" else x
        file.create_dataset("testxdata", data=values, chunks=(2, 4, 2))
        if kind == "matlab73":
            file["testxdata"].attrs["MATLAB_class"] = np.bytes_("uint8")


@pytest.mark.parametrize("kind", ["hdf5", "matlab5", "matlab73"])
def test_prediction_files(tmp_path, rng, monkeypatch, kind):
    monkeypatch.setattr(matlab, "BLOCK_BYTES", 300)
    x, _ = random_rows(rng, 23)
    path = tmp_path / "input.h5"
    prediction_file(path, x, kind)
    packed = read_windows(path)
    np.testing.assert_array_equal(dna.unpack_onehot(packed, x.shape[2]), x.transpose(0, 2, 1))
    blocks = list(deepsea.sequence_blocks(path))
    assert len(blocks) > 1
    np.testing.assert_array_equal(np.concatenate(blocks), packed)


@pytest.mark.parametrize(
    ("shape", "value", "message"),
    [
        ((3, 10, 4), 0, r"of shape \(N, 4, L\), received \(3, 10, 4\)"),
        ((3, 4), 0, r"of shape \(N, 4, L\), received \(3, 4\)"),
        ((0, 4, 10), 0, "no rows"),
        ((3, 4, 10), 3, "only 0 and 1. Received: 3 in row 0"),
        ((3, 4, 10), 1, "at most one 1"),
    ],
)
def test_bad_prediction_files(tmp_path, shape, value, message):
    path = tmp_path / "input.h5"
    with h5py.File(path, "w") as file:
        file["testxdata"] = np.full(shape, value, np.uint8)
    with pytest.raises(InputError, match=message) as caught:
        read_windows(path)
    assert str(path) in str(caught.value)


def test_prediction_file_with_another_key(tmp_path):
    path = tmp_path / "input.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros((3, 4, 10), np.uint8)
    with pytest.raises(InputError, match="expected the key 'testxdata', received: x"):
        read_windows(path)


@pytest.mark.data
def test_deepseas_own_example(data_dir):
    packed = read_windows(data_dir / "deepsea_example" / "example.h5")
    assert packed.shape == (8, 500)
    middle = [dna.decode(dna.unpack_codes(row, 1000))[499] for row in packed[:4]]
    assert middle == ["G", "A", "T", "C"]
    np.testing.assert_array_equal(dna.reverse_complement(packed[:4], 1000), packed[4:])
