"""The store: its layout as h5py sees it, write → read, and every refusal."""

import dataclasses
import errno
import hashlib
import json
import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import tiny

import danq_keras
from danq_keras.data import store, store_write
from danq_keras.data.targets import Targets
from danq_keras.genome import dna
from danq_keras.system.errors import InputError

WINDOW, BIN, N_TARGETS, N_WINDOWS = 12, 4, 11, 9
TARGETS = Targets(
    tuple(f"cell{i}|TF{i}|None" for i in range(N_TARGETS)),
    cell_type=tuple(f"cell{i}" for i in range(N_TARGETS)),
    group=("",) * (N_TARGETS - 1) + ("TF é",),
)
HEADER = store.StoreHeader(WINDOW, BIN, store.STRANDS_BOTH, TARGETS, "made by hand")


def make_rows(seed: int, n_windows: int, *, full: bool = True) -> store_write.Rows:
    """Random rows; `full` adds ignore bits and coordinates."""
    rng = np.random.default_rng(seed)
    labels, ignore = rng.integers(0, 2, (2, n_windows, N_TARGETS), dtype=np.uint8)
    return store_write.Rows(
        sequence=dna.pack_codes(rng.integers(0, 5, (n_windows, WINDOW), dtype=np.uint8)),
        labels=dna.pack_labels(labels),
        ignore=dna.pack_labels(ignore) if full else None,
        chrom=np.array(["chrI", "chrXVI", "é"])[np.arange(n_windows) % 3] if full else None,
        start=np.arange(n_windows, dtype=np.int64) * 7_000_000_000 if full else None,
    )


def write_split(
    path: Path, rows: store_write.Rows, *, header: store.StoreHeader = HEADER, block: int = 4
) -> None:
    full = rows.ignore is not None
    n_windows = len(rows.sequence)
    with store_write.SplitWriter(
        path, header, n_windows=n_windows, with_ignore=full, chrom_width=6 if full else 0
    ) as writer:
        for begin in range(0, n_windows, block):
            part = {
                field.name: None if value is None else value[begin : begin + block]
                for field in dataclasses.fields(rows)
                for value in [getattr(rows, field.name)]
            }
            writer.append(store_write.Rows(**part))


@pytest.fixture
def split_path(tmp_path: Path) -> Path:
    path = tmp_path / "train.h5"
    write_split(path, make_rows(1, N_WINDOWS))
    return path


def write_dataset(folder: Path, **headers: store.StoreHeader) -> None:
    with store_write.new_dataset(folder) as temporary:
        for seed, name in enumerate(store.SPLITS):
            rows = make_rows(seed, 5, full=False)
            write_split(temporary / f"{name}.h5", rows, header=headers.get(name, HEADER))


# ── layout ──────────────────────────────────────────────────────────────────


def test_layout_on_disk(split_path: Path) -> None:
    rows = make_rows(1, N_WINDOWS)
    with h5py.File(split_path) as file:
        assert set(file) == {
            "sequence",
            "labels",
            "ignore",
            "targets",
            "target_cell_type",
            "target_group",
            "chrom",
            "start",
        }
        for name, shape in (("sequence", (9, 6)), ("labels", (9, 2)), ("ignore", (9, 2))):
            dataset = file[name]
            assert dataset.shape == shape
            assert dataset.dtype == np.uint8
            assert dataset.chunks is None
            assert dataset.compression is None
            assert dataset.id.get_offset() is not None
            np.testing.assert_array_equal(dataset[:], getattr(rows, name))
        for name in ("targets", "target_cell_type", "target_group", "chrom"):
            assert h5py.check_string_dtype(file[name].dtype).encoding == "utf-8"
        assert file["targets"].shape == (N_TARGETS,)
        assert file["targets"].asstr()[:].tolist() == list(TARGETS.names)
        assert file["target_group"].asstr()[:].tolist() == [""] * 10 + ["TF é"]
        assert file["chrom"].shape == (N_WINDOWS,)
        assert file["chrom"].asstr()[:].tolist() == ["chrI", "chrXVI", "é"] * 3
        assert file["start"].dtype == np.int64
        np.testing.assert_array_equal(file["start"][:], np.arange(9) * 7_000_000_000)


def test_attributes_on_disk(split_path: Path) -> None:
    rows = make_rows(1, N_WINDOWS)
    with h5py.File(split_path) as file:
        attributes = dict(file.attrs)
    chrom = np.char.encode(rows.chrom, "utf-8").astype("S6")
    columns = [TARGETS.names, TARGETS.cell_type, (), (), TARGETS.group]
    targets = json.dumps(columns)
    created = attributes.pop("created")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", created)
    assert attributes == {
        "format": "danq_keras store",
        "format_version": 1,
        "window": 12,
        "bin": 4,
        "n_targets": 11,
        "strands": "both",
        "source": "made by hand",
        "package_version": danq_keras.__version__,
        "sequence_sha256": hashlib.sha256(rows.sequence.tobytes()).hexdigest(),
        "labels_sha256": hashlib.sha256(rows.labels.tobytes()).hexdigest(),
        "ignore_sha256": hashlib.sha256(rows.ignore.tobytes()).hexdigest(),
        "chrom_sha256": hashlib.sha256(chrom.tobytes()).hexdigest(),
        "start_sha256": hashlib.sha256(rows.start.tobytes()).hexdigest(),
        "targets_sha256": hashlib.sha256(targets.encode()).hexdigest(),
    }


def test_optional_parts_are_absent(tmp_path: Path) -> None:
    path = tmp_path / "train.h5"
    header = dataclasses.replace(HEADER, targets=Targets(TARGETS.names))
    write_split(path, make_rows(1, 3, full=False), header=header)
    with h5py.File(path) as file:
        assert set(file) == {"sequence", "labels", "targets"}
        assert "ignore_sha256" not in file.attrs
    split = store.open_split(path)
    assert (split.ignore, split.chrom, split.start) == (None, None, None)
    assert split.header.targets.column("group") == ("",) * N_TARGETS


def test_bytes_do_not_depend_on_the_blocks(tmp_path: Path) -> None:
    rows = make_rows(3, N_WINDOWS)
    for block in (1, 4, 100):
        write_split(tmp_path / f"{block}.h5", rows, block=block)
    splits = [store.open_split(tmp_path / f"{block}.h5") for block in (1, 4, 100)]
    assert splits[0].checksums == splits[1].checksums == splits[2].checksums


def test_strided_rows_are_hashed_as_written(tmp_path: Path) -> None:
    """A Fortran-ordered or sliced block must give the checksum of the bytes on disk."""
    rows = make_rows(3, 8, full=False)
    strided = store_write.Rows(
        np.asfortranarray(rows.sequence), np.repeat(rows.labels, 2, axis=0)[::2]
    )
    write_split(tmp_path / "train.h5", strided, block=8)
    split = store.open_split(tmp_path / "train.h5")
    np.testing.assert_array_equal(split.sequence, rows.sequence)
    split.verify()


# ── write → read ────────────────────────────────────────────────────────────


def test_read_gives_what_was_written(split_path: Path) -> None:
    rows = make_rows(1, N_WINDOWS)
    split = store.open_split(split_path)
    assert split.header == HEADER
    assert (split.n_windows, split.n_targets, split.both_strands) == (9, 11, True)
    for name in ("sequence", "labels", "ignore"):
        array = getattr(split, name)
        assert isinstance(array, np.memmap)
        np.testing.assert_array_equal(array, getattr(rows, name))
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
    assert split.chrom is not None
    assert split.chrom.tolist() == ["chrI", "chrXVI", "é"] * 3
    assert split.start is not None
    np.testing.assert_array_equal(split.start, rows.start)
    split.verify()


def test_split_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "valid.h5"
    write_split(path, make_rows(0, 0))
    split = store.open_split(path)
    assert split.sequence.shape == (0, 6)
    assert split.labels.shape == (0, 2)
    assert split.checksums["sequence"] == hashlib.sha256(b"").hexdigest()
    split.verify()


def test_fingerprint_is_of_bits_and_names(tmp_path: Path) -> None:
    rows = make_rows(1, 4, full=False)
    headers = {
        "same": HEADER,
        "again": dataclasses.replace(HEADER, source="elsewhere"),
        "renamed": dataclasses.replace(HEADER, targets=Targets(TARGETS.names[::-1])),
    }
    prints = {}
    for name, header in headers.items():
        write_split(tmp_path / name, rows, header=header)
        prints[name] = store.open_split(tmp_path / name).fingerprint
    write_split(tmp_path / "other", dataclasses.replace(rows, labels=~rows.labels))
    prints["other"] = store.open_split(tmp_path / "other").fingerprint
    text = [hashlib.sha256(part.tobytes()).hexdigest() for part in (rows.sequence, rows.labels)]
    expected = hashlib.sha256("\n".join([*text, *TARGETS.names]).encode()).hexdigest()
    assert prints["same"] == prints["again"] == expected
    assert len(set(prints.values())) == 3


# ── writing wrongly ─────────────────────────────────────────────────────────


def test_writer_counts_rows(tmp_path: Path) -> None:
    rows = make_rows(1, 3, full=False)
    with (
        pytest.raises(ValueError, match="3 rows written, 4 announced"),
        store_write.SplitWriter(tmp_path / "few.h5", HEADER, n_windows=4) as writer,
    ):
        writer.append(rows)
    with (
        pytest.raises(ValueError, match="3 rows appended to a split of 2"),
        store_write.SplitWriter(tmp_path / "many.h5", HEADER, n_windows=2) as writer,
    ):
        writer.append(rows)
    with pytest.raises(InputError, match="not a readable store"):
        store.open_split(tmp_path / "few.h5")  # no checksums: it was never finished


def test_writer_wants_announced_coordinates(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="give chrom and start"),
        store_write.SplitWriter(tmp_path / "x.h5", HEADER, n_windows=3, chrom_width=6) as writer,
    ):
        writer.append(make_rows(1, 3, full=False))


def test_writer_never_overwrites(split_path: Path) -> None:
    before = split_path.read_bytes()
    with pytest.raises(FileExistsError):
        store_write.SplitWriter(split_path, HEADER, n_windows=1)
    assert split_path.read_bytes() == before


def test_full_disk_is_noticed_before_any_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = []

    def refuse(_handle: int, _offset: int, length: int) -> None:
        wanted.append(length)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    path = tmp_path / "train.h5"
    with pytest.raises(OSError, match="No space left") as caught:
        store_write.SplitWriter(path, HEADER, n_windows=1_000_000)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert wanted[0] >= 1_000_000 * (6 + 2)
    assert path.stat().st_size < 100_000


@pytest.mark.parametrize("window", [0, -2])
def test_header_refuses_windows(window: int) -> None:
    message = f"must be positive. Received: {window}"
    with pytest.raises(InputError, match=re.escape(message)):
        dataclasses.replace(HEADER, window=window)


def test_header_refuses_other_strands() -> None:
    with pytest.raises(ValueError, match="'both' or 'as given'"):
        dataclasses.replace(HEADER, strands="forward")


def test_new_dataset_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "set"

    def fail_halfway() -> None:
        with store_write.new_dataset(folder) as temporary:
            write_split(temporary / "train.h5", make_rows(0, 2))
            assert not folder.exists()
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail_halfway()
    assert list((tmp_path / "deep").iterdir()) == []
    write_dataset(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["test.h5", "train.h5", "valid.h5"]
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


def test_new_dataset_refuses_a_used_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="already exists"), store_write.new_dataset(tmp_path):
        pytest.fail("the body must not run")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_new_dataset_overwrites_on_request(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "old").touch()
    with store_write.new_dataset(folder, overwrite=True) as temporary:
        (temporary / "new").touch()
        assert (folder / "old").exists()
    assert [path.name for path in folder.iterdir()] == ["new"]


# ── damaged files ───────────────────────────────────────────────────────────


def edit(path: Path, **attributes: object) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs.update(attributes)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        store.open_split(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file. Build the dataset" in refusal(tmp_path / "train.h5")


@pytest.mark.parametrize("content", [b"", b"chrI\t0\t200\n" * 100])
def test_not_hdf5(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train.h5"
    path.write_bytes(content)
    assert "not a readable store" in refusal(path)


def test_another_hdf5_file(tmp_path: Path) -> None:
    path = tmp_path / "train.h5"
    with h5py.File(path, "w") as file:
        file["trainxdata"] = np.zeros((2, 4))
    assert "not a danq_keras store" in refusal(path)


def test_newer_format(split_path: Path) -> None:
    edit(split_path, format_version=2)
    message = refusal(split_path)
    assert "store format version 2, this package reads version 1" in message


def test_truncated(split_path: Path) -> None:
    with h5py.File(split_path) as file:
        end = max(part.id.get_offset() + part.id.get_storage_size() for part in file.values())
    content = split_path.read_bytes()
    for keep in (end - 1, end // 2, 600):
        split_path.write_bytes(content[:keep])
        assert "truncated file" in refusal(split_path)


@pytest.mark.parametrize("name", ["sequence", "labels", "targets"])
def test_missing_part(split_path: Path, name: str) -> None:
    with h5py.File(split_path, "r+") as file:
        del file[name]
    assert name in refusal(split_path)


@pytest.mark.parametrize("name", ["window", "strands", "sequence_sha256", "ignore_sha256"])
def test_missing_attribute(split_path: Path, name: str) -> None:
    with h5py.File(split_path, "r+") as file:
        del file.attrs[name]
    assert name in refusal(split_path)


def replace_dataset(path: Path, name: str, array: np.ndarray, **options: object) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        file.create_dataset(name, data=array, **options)


def test_chunked_dataset(split_path: Path) -> None:
    replace_dataset(split_path, "sequence", np.zeros((9, 6), np.uint8), chunks=(3, 6))
    assert "'/sequence' must be contiguous uint8" in refusal(split_path)


def test_wrong_type(split_path: Path) -> None:
    replace_dataset(split_path, "labels", np.zeros((9, 2), np.float32))
    assert "'/labels' must be contiguous uint8" in refusal(split_path)


@pytest.mark.parametrize(
    ("name", "shape"), [("sequence", (9, 7)), ("labels", (9, 3)), ("labels", (8, 2))]
)
def test_shapes_that_do_not_fit(split_path: Path, name: str, shape: tuple[int, int]) -> None:
    replace_dataset(split_path, name, np.zeros(shape, np.uint8))
    assert "do not fit a window of 12 and 11 targets" in refusal(split_path)


@pytest.mark.parametrize("name", ["sequence", "labels", "ignore"])
def test_verify_finds_one_flipped_bit(split_path: Path, name: str) -> None:
    with h5py.File(split_path) as file:
        offset = file[name].id.get_offset() + 7
    content = bytearray(split_path.read_bytes())
    content[offset] ^= 0b0001_0000
    split_path.write_bytes(content)
    with pytest.raises(InputError, match=f"wrong checksum of '{name}': expected") as caught:
        store.open_split(split_path).verify()
    assert str(caught.value).startswith(f"{split_path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "byte"), [("chrom", 3), ("start", 2)])
def test_other_coordinates_are_noticed_on_opening(split_path: Path, name: str, byte: int) -> None:
    with h5py.File(split_path) as file:
        offset = file[name].id.get_offset() + byte
    content = bytearray(split_path.read_bytes())
    content[offset] ^= 1
    split_path.write_bytes(content)
    assert f"wrong checksum of '{name}': expected" in refusal(split_path)


def test_another_name_of_a_target_is_noticed_on_opening(split_path: Path) -> None:
    content = split_path.read_bytes()
    assert content.count(b"cell3|TF3") == 1
    split_path.write_bytes(content.replace(b"cell3|TF3", b"cell4|TF3"))
    assert "wrong checksum of 'targets': expected" in refusal(split_path)


def test_a_store_without_the_later_checksums_opens_and_says_so(split_path: Path) -> None:
    assert store.open_split(split_path).unchecked == ()
    with h5py.File(split_path, "r+") as file:
        for name in ("chrom", "start", "targets"):
            del file.attrs[f"{name}_sha256"]
    split = store.open_split(split_path)
    split.verify()
    assert split.unchecked == ("targets", "chrom", "start")


def test_a_file_that_is_cut_short_in_use_is_one_line(split_path: Path) -> None:
    split = store.open_split(split_path)
    os.truncate(split_path, 100)
    for read in (lambda: split.sequence[0], lambda: split.labels.take([0, 1], axis=0)):
        with pytest.raises(InputError, match=r"train\.h5: the file was cut short while") as caught:
            read()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["sequence", "labels", "targets", "chrom", "start"])
def test_parts_of_another_kind_are_one_line(split_path: Path, name: str) -> None:
    content = split_path.read_bytes()
    for put in (
        lambda file: file.create_group(name),
        lambda file: file.create_dataset(name, data=h5py.Empty("u1")),
        lambda file: file.create_dataset(name, (10**9,), np.uint8, chunks=(10**6,)),
        lambda file: file.create_dataset(name, data=np.array(["x"], object)),
        lambda file: file.__setitem__(name, h5py.ExternalLink("other.h5", "/x")),
    ):
        split_path.write_bytes(content)
        with h5py.File(split_path, "r+") as file:
            del file[name]
            put(file)
        refusal(split_path)


def test_a_file_system_without_locks_is_no_damage(
    split_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 answers so where the file system has no locks and one is asked for."""
    opened = h5py.File

    def without_locks(path: Path, mode: str, *, locking: bool = True, **options: object):
        if locking:
            raise OSError(errno.ENOLCK, "No locks available")
        return opened(path, mode, locking=locking, **options)

    monkeypatch.setattr(h5py, "File", without_locks)
    store.open_split(split_path)
    write_split(split_path.with_name("new.h5"), make_rows(1, 3))


# ── the dataset ─────────────────────────────────────────────────────────────


def test_open_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "yeast"
    assert not store.is_dataset(folder)
    write_dataset(folder)
    assert store.is_dataset(folder)
    dataset = store.open_store(folder)
    assert (dataset.name, dataset.window, dataset.targets) == ("yeast", WINDOW, TARGETS)
    assert dataset.split("valid") is dataset.valid
    prints = dataset.fingerprints()
    assert list(prints) == ["train", "valid", "test"]
    assert prints["test"] == dataset.test.fingerprint
    assert len(set(prints.values())) == 3


def test_open_dataset_needs_all_splits(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such dataset folder"):
        store.open_store(tmp_path / "nowhere")
    write_dataset(tmp_path / "set")
    (tmp_path / "set" / "valid.h5").unlink()
    with pytest.raises(InputError, match=r"valid\.h5: no such file"):
        store.open_store(tmp_path / "set")


@pytest.mark.parametrize(
    ("key", "change"),
    [("bin", {"bin": 2}), ("targets", {"targets": Targets(TARGETS.names[::-1])})],
)
@pytest.mark.parametrize("name", ["valid", "test"])
def test_splits_that_disagree(tmp_path: Path, name: str, key: str, change: dict) -> None:
    write_dataset(tmp_path / "set", **{name: dataclasses.replace(HEADER, **change)})
    with pytest.raises(InputError, match=rf"{name}\.h5: its {key} differs from that of train"):
        store.open_store(tmp_path / "set")


def test_unreadable_split_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "train.h5"
    path.touch()

    def refuse(*_arguments):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError):
        store.open_split(path)


def test_damaged_metadata_is_one_line(split_path: Path) -> None:
    edit(split_path, strands="sideways")
    assert "not a readable store (strands is" in refusal(split_path)


@pytest.mark.parametrize("name", ["ignore", "chrom", "start"])
def test_parts_of_other_lengths_are_refused(split_path: Path, name: str) -> None:
    with h5py.File(split_path, "r+") as file:
        values = file[name][:-1]
        del file[name]
        file[name] = values
    message = refusal(split_path)
    assert f"{len(values)} values of '{name}' for {len(values) + 1} windows" in message


def test_targets_that_are_no_texts_are_refused(split_path: Path) -> None:
    with h5py.File(split_path, "r+") as file:
        del file["targets"]
        file["targets"] = np.arange(11)
    assert "not a readable store" in refusal(split_path)


def test_a_split_of_another_name_is_said(tmp_path):
    dataset = tiny.make_dataset(tmp_path / "d")
    with pytest.raises(InputError, match=r"`split`: one of train, valid, test. Received: 'tests'"):
        dataset.split("tests")


def test_a_window_without_bases_is_refused_under_the_file_s_name(tmp_path):
    folder = tiny.make_dataset(tmp_path / "d").folder
    with h5py.File(folder / "train.h5", "r+") as file:
        file.attrs["window"] = 0
    with pytest.raises(InputError, match=r"train.h5: .*'window' is 0, which must be positive"):
        store.open_split(folder / "train.h5")
