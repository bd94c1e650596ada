"""Bundles to stores and back: what comes out must be what went in, and bad input leaves nothing."""

import errno
import io
import os
import tarfile

import h5py
import numpy as np
import pytest
import scipy.io

from danq_keras.commands import benchmark
from danq_keras.data import bundle, matlab, matlab_writer, store, store_write
from danq_keras.data.bundle import bundle_to_dataset, dataset_to_bundle, open_dataset
from danq_keras.data.targets import Targets
from danq_keras.genome import dna
from danq_keras.system.errors import InputError

WINDOW = 12


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of a few rows, so that every loop runs several times."""
    monkeypatch.setattr(matlab, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(bundle, "_BLOCK_ROWS", 7)


def make_rows(rng, n, n_targets=11, window=WINDOW):
    codes = rng.integers(0, 5, (n, window), dtype=np.uint8)
    return dna.pack_codes(codes), dna.pack_labels(rng.integers(0, 2, (n, n_targets)))


def write_mat(path, sequence, labels, n_targets=11):
    """An oracle's .mat file, from packed rows, with nothing but h5py and scipy."""
    split = path.stem
    x = dna.unpack_onehot(sequence, 2 * sequence.shape[1]).transpose(0, 2, 1)
    y = dna.unpack_labels(labels, n_targets)
    if split == "train":
        with h5py.File(path, "w") as file:
            file["trainxdata"] = x.transpose(2, 1, 0)
            file["traindata"] = y.T
    else:
        scipy.io.savemat(path, {f"{split}xdata": x, f"{split}data": y})


def both_strands(sequence, labels):
    return (
        np.concatenate([sequence, dna.reverse_complement(sequence, WINDOW)]),
        np.concatenate([labels, labels]),
    )


@pytest.fixture
def mats(tmp_path, rng):
    """A bundle: train and test hold both strands, valid does not."""
    folder = tmp_path / "mats"
    folder.mkdir()
    write_mat(folder / "train.mat", *both_strands(*make_rows(rng, 40)))
    write_mat(folder / "valid.mat", *make_rows(rng, 10))
    write_mat(folder / "test.mat", *both_strands(*make_rows(rng, 9)))
    return folder


def refused(message, call, *args, **options):
    with pytest.raises(InputError, match=message) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)


# ── conversion ──


def test_convert(tmp_path, mats):
    bundle_to_dataset(mats, tmp_path / "out")
    dataset = store.open_store(tmp_path / "out")
    again = np.random.default_rng(20160614)
    expected = {"train": make_rows(again, 40), "valid": make_rows(again, 10)}
    expected["test"] = make_rows(again, 9)
    for name, (sequence, labels) in expected.items():
        split = dataset.split(name)
        np.testing.assert_array_equal(split.sequence, sequence)
        np.testing.assert_array_equal(split.labels, labels)
        assert split.both_strands == (name != "valid")
        assert (split.chrom, split.start, split.ignore) == (None, None, None)
        split.verify()
    assert dataset.train.header.bin == 200
    assert dataset.targets.names == tuple(str(i) for i in range(11))


def test_919_targets_are_deepseas(tmp_path, rng):
    for name in store.SPLITS:
        write_mat(tmp_path / f"{name}.mat", *make_rows(rng, 3, 919), 919)
    bundle_to_dataset(tmp_path, tmp_path / "out")
    targets = store.open_store(tmp_path / "out").targets
    assert targets.names[0] == "8988T|DNase|None"
    assert targets.group[918] == "histone"


def convert_rows(tmp_path, sequence, labels):
    targets = Targets(tuple("abcdefghijk"))
    header = store.StoreHeader(WINDOW, 200, store.STRANDS_AS_GIVEN, targets, "test")
    blocks = (
        store_write.Rows(sequence[i : i + 3], labels[i : i + 3]) for i in range(0, len(sequence), 3)
    )
    path = tmp_path / "split.h5"
    strands = bundle.write_halves(blocks, path, header, n_rows=len(sequence))
    split = store.open_split(path)
    split.verify()
    assert split.header.strands == strands
    assert [file.name for file in tmp_path.iterdir()] == ["split.h5"]
    return split


@pytest.mark.parametrize("n_half", [0, 1, 3, 7, 22])
def test_halves_are_recognised(tmp_path, rng, n_half):
    sequence, labels = make_rows(rng, n_half)
    split = convert_rows(tmp_path, *both_strands(sequence, labels))
    assert split.both_strands
    np.testing.assert_array_equal(split.sequence, sequence)
    np.testing.assert_array_equal(split.labels, labels)


@pytest.mark.parametrize("which", ["sequence", "labels"])
@pytest.mark.parametrize("row", [*range(15, 30)])
def test_one_different_bit_is_found_wherever_it_is(tmp_path, rng, row, which):
    sequence, labels = both_strands(*make_rows(rng, 15))
    if which == "sequence":
        codes = dna.unpack_codes(sequence[row], WINDOW)
        codes[5] = (codes[5] + 1) % 5
        sequence[row] = dna.pack_codes(codes)
    else:
        labels[row, 1] ^= 0b00100000  # the last of 11 targets
    split = convert_rows(tmp_path, sequence, labels)
    assert not split.both_strands
    np.testing.assert_array_equal(split.sequence, sequence)
    np.testing.assert_array_equal(split.labels, labels)


def test_odd_number_of_rows(tmp_path, rng):
    sequence, labels = make_rows(rng, 21)
    split = convert_rows(tmp_path, sequence, labels)
    assert not split.both_strands
    np.testing.assert_array_equal(split.sequence, sequence)
    np.testing.assert_array_equal(split.labels, labels)


# ── there and back ──


def make_dataset(folder, rng, *, sizes=(40, 10, 9), strands=("both", "as given", "both"), **extra):
    targets = Targets(tuple(f"t|{i}|None" for i in range(11)), treatment=("None", "NA", *[""] * 9))
    with store_write.new_dataset(folder) as temporary:
        for name, n, strand in zip(store.SPLITS, sizes, strands, strict=True):
            header = store.StoreHeader(WINDOW, 4, strand, targets, "test")
            path = temporary / f"{name}.h5"
            with store_write.SplitWriter(path, header, n_windows=n, **extra) as writer:
                sequence, labels = make_rows(rng, n)
                rows = store_write.Rows(
                    sequence,
                    labels,
                    ignore=labels,
                    chrom=np.full(n, "chr1"),
                    start=np.arange(n),
                )
                writer.append(rows)
    return store.open_store(folder)


@pytest.mark.parametrize("sizes", [(40, 10, 9), (300, 1, 0), (0, 0, 1), (1, 130, 129)])
@pytest.mark.parametrize(
    "strands", [("both",) * 3, ("as given",) * 3, ("both", "as given", "both")]
)
def test_there_and_back(tmp_path, rng, sizes, strands):
    before = make_dataset(tmp_path / "before", rng, sizes=sizes, strands=strands)
    dataset_to_bundle(tmp_path / "before", tmp_path / "mats")
    bundle_to_dataset(tmp_path / "mats", tmp_path / "after")
    after = store.open_store(tmp_path / "after")
    assert after.targets == before.targets
    assert after.fingerprints() == before.fingerprints()
    for name in store.SPLITS:
        assert after.split(name).checksums == before.split(name).checksums
        if before.split(name).n_windows:
            assert after.split(name).header.strands == before.split(name).header.strands
        assert after.split(name).header.bin == 4


def test_exported_files_are_deepseas(tmp_path, rng):
    dataset = make_dataset(tmp_path / "before", rng)
    dataset_to_bundle(tmp_path / "before", tmp_path / "mats")
    sequence, labels = both_strands(dataset.train.sequence, dataset.train.labels)
    path = tmp_path / "mats" / "train.mat"
    assert path.read_bytes()[:19] == b"MATLAB 7.3 MAT-file"
    assert path.read_bytes()[124:128] == b"\x00\x02IM"
    with pytest.raises(NotImplementedError, match=r"v7\.3"):  # scipy knows the header
        scipy.io.loadmat(path)
    with h5py.File(path) as file:
        assert file.userblock_size == 512
        x, y = file["trainxdata"], file["traindata"]
        assert (x.shape, y.shape) == ((WINDOW, 4, 80), (11, 80))
        assert x.dtype == y.dtype == np.uint8
        assert x.chunks is not None
        assert x.compression == "gzip"
        assert x.attrs["MATLAB_class"] == b"uint8"
        onehot = x[:].transpose(2, 0, 1)
        np.testing.assert_array_equal(onehot, dna.unpack_onehot(sequence, WINDOW))
        np.testing.assert_array_equal(y[:].T, dna.unpack_labels(labels, 11))
        # flipping both axes is the reverse complement, independently of `dna`
        np.testing.assert_array_equal(onehot[40:], onehot[:40, ::-1, ::-1])
    mat = scipy.io.loadmat(tmp_path / "mats" / "valid.mat")
    assert mat["validxdata"].shape == (10, 4, WINDOW)
    assert mat["validxdata"].dtype == np.uint8
    np.testing.assert_array_equal(
        mat["validxdata"].transpose(0, 2, 1), dna.unpack_onehot(dataset.valid.sequence, WINDOW)
    )
    assert mat["validdata"].shape == (10, 11)


def test_uncompressed_matlab5(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(matlab_writer, "_COMPRESS_BELOW", 0)
    before = make_dataset(tmp_path / "before", rng)
    dataset_to_bundle(tmp_path / "before", tmp_path / "mats")
    bundle_to_dataset(tmp_path / "mats", tmp_path / "after")
    assert store.open_store(tmp_path / "after").fingerprints() == before.fingerprints()


def test_export_tells_what_is_lost(tmp_path, rng, messages):
    before = make_dataset(tmp_path / "before", rng, with_ignore=True, chrom_width=4)
    dataset_to_bundle(tmp_path / "before", tmp_path / "mats")
    n_ignored = int(np.unpackbits(before.train.labels).sum())
    assert f"train.h5: .mat files cannot mark labels to ignore: {n_ignored} are" in messages.text
    assert "valid.h5: .mat files hold no coordinates" in messages.text


def test_export_of_a_split_too_large_for_matlab5(tmp_path, rng, monkeypatch):
    make_dataset(tmp_path / "before", rng)
    monkeypatch.setattr(bundle, "MATLAB5_MAX_BYTES", 500)
    refused(
        "test.mat: 18 rows of 48 values are more than",
        dataset_to_bundle,
        tmp_path / "before",
        tmp_path / "mats",
    )
    monkeypatch.setattr(bundle, "MATLAB5_MAX_BYTES", 1 << 31)
    monkeypatch.setattr(matlab_writer, "MATLAB5_MAX_BYTES", 500)
    refused(
        "a MATLAB 5 file holds at most 500 bytes, 'testxdata' has 864",
        dataset_to_bundle,
        tmp_path / "before",
        tmp_path / "mats",
    )
    assert [file.name for file in tmp_path.iterdir()] == ["before"]


def test_nothing_is_overwritten_unasked(tmp_path, mats, rng):
    make_dataset(tmp_path / "before", rng)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    refused("already exists", bundle_to_dataset, mats, tmp_path / "out")
    refused("already exists", dataset_to_bundle, tmp_path / "before", tmp_path / "out")
    foreign = "replaces only what '{}' writes. Received: precious"
    calls = {
        "deepsea": (bundle_to_dataset, mats, tmp_path / "out"),
        "export-mat": (dataset_to_bundle, tmp_path / "before", tmp_path / "out"),
    }
    for maker, call in calls.items():
        refused(foreign.format(maker), *call, overwrite=True)
    assert (tmp_path / "out" / "precious").exists()
    (tmp_path / "out" / "precious").rename(tmp_path / "out" / "train.h5")
    bundle_to_dataset(mats, tmp_path / "out", overwrite=True)
    assert store.open_store(tmp_path / "out").valid.n_windows == 10
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "train.mat").touch()
    dataset_to_bundle(tmp_path / "before", tmp_path / "exported", overwrite=True)
    assert sorted(file.name for file in (tmp_path / "exported").iterdir()) == [
        "targets.tsv",
        "test.mat",
        "train.mat",
        "valid.mat",
    ]


# ── folder and tar ──


def make_tar(path, mats, inner="deepsea_train/", mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for file in sorted(mats.iterdir()):
            tar.add(file, inner + file.name)
    return path


@pytest.mark.parametrize("kind", ["folder", "inner", "tar.gz", "tar", "flat.tar.gz"])
def test_shapes_of_a_bundle(tmp_path, mats, kind, messages):
    bundle_to_dataset(mats, tmp_path / "expected")
    (mats / "README.txt").write_text("hello")
    if kind == "folder":
        source = mats
    elif kind == "inner":
        source = tmp_path / "outer"
        source.mkdir()
        mats.rename(source / "deepsea_train")
    else:
        source = make_tar(
            tmp_path / f"b.{kind}",
            mats,
            inner="" if kind.startswith("flat") else "deepsea_train/",
            mode="w:gz" if kind.endswith("gz") else "w",
        )
    bundle_to_dataset(source, tmp_path / "out")
    expected, received = (store.open_store(tmp_path / name) for name in ("expected", "out"))
    assert received.fingerprints() == expected.fingerprints()
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "bundle.json",
        "test.h5",
        "train.h5",
        "valid.h5",
    ]
    assert ("1 other members were left out" in messages.text) == ("tar" in kind)


def nothing_left(tmp_path, before):
    assert sorted(file.name for file in tmp_path.iterdir()) == before


def refused_bundle(tmp_path, source, message):
    before = sorted(file.name for file in tmp_path.iterdir())
    refused(message, bundle_to_dataset, source, tmp_path / "out")
    nothing_left(tmp_path, before)


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../outside.txt", tarfile.REGTYPE, ""),
        ("/etc/outside.txt", tarfile.REGTYPE, ""),
        ("deepsea_train/../../train.mat", tarfile.REGTYPE, ""),
        ("deepsea_train/link", tarfile.SYMTYPE, "../../elsewhere"),
        ("deepsea_train/link", tarfile.SYMTYPE, "/etc/passwd"),
        ("deepsea_train/link", tarfile.LNKTYPE, "../elsewhere"),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_tar_member_that_points_outside(tmp_path, mats, name, kind, link, last):
    path = tmp_path / "evil.tar.gz"
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    with tarfile.open(path, "w:gz") as tar:
        if not last:
            tar.addfile(member, io.BytesIO())
        for file in mats.iterdir():
            tar.add(file, f"deepsea_train/{file.name}")
        if last:
            tar.addfile(member, io.BytesIO())
    refused_bundle(tmp_path, path, f"evil.tar.gz: the member '{name}' points outside")


def test_harmless_link_is_left_out(tmp_path, mats):
    member = tarfile.TarInfo("deepsea_train/link")
    member.type, member.linkname = tarfile.SYMTYPE, "../deepsea_train/train.mat"
    with tarfile.open(make_tar(tmp_path / "b.tar", mats, mode="w"), "a") as tar:
        tar.addfile(member)
    bundle_to_dataset(tmp_path / "b.tar", tmp_path / "out")
    assert store.is_dataset(tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"no tar at all " * 100])
def test_not_a_tar(tmp_path, content):
    path = tmp_path / "bundle.tar.gz"
    path.write_bytes(content)
    refused_bundle(tmp_path, path, "bundle.tar.gz: expected a folder or a complete .tar.gz")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_truncated_tar(tmp_path, mats, kept, mode):
    path = make_tar(tmp_path / "bundle.tar.gz", mats, mode=mode)
    content = path.read_bytes().rstrip(b"\0") if mode == "w" else path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refused_bundle(tmp_path, path, "bundle.tar.gz: ")


def test_tar_with_a_file_twice(tmp_path, mats):
    with tarfile.open(make_tar(tmp_path / "b.tar", mats, mode="w"), "a") as tar:
        tar.add(mats / "train.mat", "other/train.mat")
    refused_bundle(tmp_path, tmp_path / "b.tar", "holds train.mat twice")


@pytest.mark.parametrize("missing", ["train.mat", "valid.mat", "test.mat"])
@pytest.mark.parametrize("tar", [False, True])
def test_bundle_without_a_file(tmp_path, mats, missing, tar):
    (mats / missing).unlink()
    source = make_tar(tmp_path / "b.tar.gz", mats) if tar else mats
    refused_bundle(tmp_path, source, f"Missing: {missing}")


def test_no_such_bundle(tmp_path):
    refused_bundle(tmp_path, tmp_path / "nowhere", "no such file or folder")


# ── bad content ──


def test_other_number_of_targets(tmp_path, mats, rng):
    write_mat(mats / "valid.mat", *make_rows(rng, 5, 7), 7)
    refused_bundle(tmp_path, mats, r"valid.mat: .* this has 7 targets and train.mat has 11")


def test_other_window(tmp_path, mats, rng):
    write_mat(mats / "test.mat", *make_rows(rng, 5, window=20))
    refused_bundle(tmp_path, mats, r"test.mat: .* this has 20 bases and train.mat has 12")


@pytest.mark.parametrize("name", ["train.mat", "valid.mat", "test.mat"])
@pytest.mark.parametrize("tar", [False, True])
def test_truncated_mat_leaves_nothing(tmp_path, mats, name, tar):
    path = mats / name
    path.write_bytes(path.read_bytes()[:-300])
    source = make_tar(tmp_path / "b.tar.gz", mats) if tar else mats
    refused_bundle(tmp_path, source, f"{name}: ")


def test_bad_value_late_in_the_file_leaves_nothing(tmp_path, mats):
    with h5py.File(mats / "train.mat", "r+") as file:
        file["trainxdata"][3, 2, 79] = 7
    refused_bundle(tmp_path, mats, "'trainxdata' must hold only 0 and 1. Received: 7 in row 79")


@pytest.mark.parametrize("call", [bundle_to_dataset, dataset_to_bundle])
def test_full_disk_leaves_nothing(tmp_path, mats, rng, monkeypatch, call):
    make_dataset(tmp_path / "before", rng)
    before = sorted(file.name for file in tmp_path.iterdir())
    source = mats if call is bundle_to_dataset else tmp_path / "before"

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store_write.SplitWriter, "append", full)
    monkeypatch.setattr(bundle, "write_matlab5", full)
    with pytest.raises(OSError, match="No space left"):
        call(source, tmp_path / "out")
    nothing_left(tmp_path, before)


# ── once, then reuse ──


def created(folder):
    return (folder / "train.h5").stat().st_ino


def test_a_dataset_is_returned_as_it_is(tmp_path, rng):
    make_dataset(tmp_path / "ds", rng)
    assert open_dataset(tmp_path / "ds").folder == tmp_path / "ds"


@pytest.mark.parametrize("tar", [False, True])
def test_converted_once(tmp_path, mats, tar):
    source = make_tar(tmp_path / "b.tar.gz", mats) if tar else mats
    folder = open_dataset(source).folder
    assert folder == (tmp_path / "b.danq_store" if tar else mats / "danq_store")
    first = created(folder)
    assert open_dataset(str(source)).folder == folder
    assert created(folder) == first


def test_converted_again_when_the_bundle_changes(tmp_path, mats, rng):
    folder = open_dataset(mats, store=tmp_path / "here").folder
    assert folder == tmp_path / "here"
    write_mat(mats / "valid.mat", *make_rows(rng, 13))
    assert open_dataset(mats, store=tmp_path / "here").folder == folder
    assert store.open_store(folder).valid.n_windows == 13
    second = created(folder)
    os.utime(mats / "train.mat", ns=(1, 1))
    open_dataset(mats, store=folder)
    assert created(folder) != second


def test_a_moved_bundle_is_reused(tmp_path, mats):
    first = created(open_dataset(mats).folder)
    mats.rename(tmp_path / "moved")
    assert created(open_dataset(tmp_path / "moved").folder) == first


def test_store_is_not_put_over_something_else(tmp_path, mats, rng):
    make_dataset(tmp_path / "ds", rng)
    before = created(tmp_path / "ds")
    refused("already exists", open_dataset, mats, store=tmp_path / "ds")
    assert created(tmp_path / "ds") == before


def test_store_of_another_bundle(tmp_path, mats, rng):
    open_dataset(mats, store=tmp_path / "here")
    other = tmp_path / "other"
    other.mkdir()
    for name in store.SPLITS:
        write_mat(other / f"{name}.mat", *make_rows(rng, 5))
    refused("holds the dataset of another bundle", open_dataset, other, store=tmp_path / "here")
    assert open_dataset(mats, store=tmp_path / "here").folder == tmp_path / "here"


@pytest.mark.parametrize("content", ["{", "[]", '{"bundle": "x"}', '{"bundle": "", "files": 1}'])
def test_unreadable_record(mats, content):
    folder = open_dataset(mats).folder
    (folder / "bundle.json").write_text(content)
    refused("not a readable record", open_dataset, mats)


def test_read_only_bundle(mats, monkeypatch):
    def read_only(*_args, **_options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(bundle, "new_dataset", read_only)
    refused("cannot be written.*`store=DIR`", open_dataset, mats)
    with pytest.raises(OSError, match="Read-only"):
        open_dataset(mats, store=mats / "elsewhere")


def test_neither_dataset_nor_bundle(tmp_path):
    refused("no such file or folder", open_dataset, tmp_path / "nowhere")
    refused("Missing: train.mat, valid.mat, test.mat", open_dataset, tmp_path)


# ── benchmark ──


@pytest.mark.parametrize("layout", [[], ["--chunk-samples", "0", "--chunk-positions", "3"]])
def test_benchmark_convert(tmp_path, capsys, monkeypatch, layout):
    from danq_keras.benchmarks import convert

    monkeypatch.setattr(convert, "_GENERATED_ROWS", 150)
    small = ["--rows", "600", "--window", "20", "--targets", "5", "--dir", str(tmp_path)]
    assert benchmark.main(["convert", *small, *layout]) == 0
    printed = capsys.readouterr().out
    assert {"ratio", "peak", "converted"} <= {line.split()[0] for line in printed.splitlines()}
    assert list(tmp_path.iterdir()) == []


def test_damaged_member_of_a_tar_is_named_by_the_tar(tmp_path, mats):
    """Not by the place where it was unpacked, which is gone by then."""
    data = (mats / "valid.mat").read_bytes()
    (mats / "valid.mat").write_bytes(data[: len(data) // 3])
    path = make_tar(tmp_path / "b.tar.gz", mats)
    with pytest.raises(InputError) as caught:
        bundle_to_dataset(path, tmp_path / "set")
    assert str(caught.value).startswith(f"{path}/valid.mat: ")
    assert "partial" not in str(caught.value)
