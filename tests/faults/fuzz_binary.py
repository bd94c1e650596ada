"""Binary files damaged at random, for their readers: see `fuzz`, which counts what becomes of it.

Mutants are bytes flipped, zeroed, cut off or doubled, and, through h5py or zipfile, parts of
another kind, type, shape or size.
"""

import contextlib
import json
import random
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz import Content, Reader, main

# ── mutants ──


def damage(structural: Callable[[Path, random.Random], None] | None) -> Any:
    """Damages a file in its bytes, or half of the time in its structure, under right checksums."""

    def mutate(path: Path, rng: random.Random) -> bool:
        if structural is not None and rng.random() < 0.5:
            with contextlib.suppress(OSError, RuntimeError, KeyError, ValueError, TypeError):
                structural(path, rng)
            return False
        path.write_bytes(_mutate_bytes(bytearray(path.read_bytes()), rng))
        return True

    return mutate


def _mutate_bytes(content: bytearray, rng: random.Random) -> bytes:
    # Half of the time in the first kilobytes, where the metadata of small files are.
    end = len(content) if rng.random() < 0.5 else min(len(content), 4096)
    at, length = rng.randrange(end), 1 << rng.randrange(10)
    how = rng.randrange(6)
    if how <= 1:
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(end)] ^= 1 << rng.randrange(8)
    elif how == 2:
        content[at : at + length] = bytes(len(content[at : at + length]))
    elif how == 3:
        content[at : at + length] = rng.randbytes(len(content[at : at + length]))
    elif how == 4:
        del content[at:]
    else:
        content[at:at] = content[at : at + length]
    return bytes(content)


def _names(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visit(names.append)
    return names


def _mutate_hdf5(path: Path, rng: random.Random) -> None:
    with h5py.File(path, "r+") as file:
        name = rng.choice(_names(file))
        item = file[name]
        if rng.random() < 0.35:
            _mutate_attribute(rng.choice([file, item]), rng)
            return
        old = item[()] if isinstance(item, h5py.Dataset) else np.zeros(3)
        attributes = dict(item.attrs)
        del file[name]
        _put(file, name, old, rng)
        if name in file and rng.random() < 0.7:
            with contextlib.suppress(OSError, KeyError):
                file[name].attrs.update(attributes)


def _put(file: h5py.File, name: str, old: Any, rng: random.Random) -> None:
    shape = np.shape(old)
    huge = tuple(10**9 if i == 0 else max(1, n) for i, n in enumerate(shape or (1,)))
    changes: list[Callable[[], Any]] = [
        lambda: None,
        lambda: file.create_group(name),
        lambda: file.create_dataset(name, data=h5py.Empty("f4")),
        lambda: file.create_dataset(name, data=3),
        lambda: file.create_dataset(name, data="text"),
        lambda: file.create_dataset(name, data=np.array(["a", "b"], object)),
        lambda: file.create_dataset(name, data=np.zeros(shape, "c8")),
        lambda: file.create_dataset(name, data=np.zeros(shape, [("a", "i4"), ("b", "f4")])),
        lambda: file.create_dataset(name, data=np.zeros(shape, "f8")),
        lambda: file.create_dataset(name, data=np.full(shape, 255, "u1")),
        lambda: file.create_dataset(name, data=np.zeros((*shape, 2), "u1")),
        lambda: file.create_dataset(name, data=np.zeros(shape[1:], "u1")),
        lambda: file.create_dataset(name, data=np.zeros((0, *shape[1:]), "u1")),
        lambda: file.create_dataset(name, data=np.full(shape, np.nan, "f4")),
        lambda: file.create_dataset(name, huge, "u1"),
        lambda: file.create_dataset(name, huge, "f4", chunks=True, compression="gzip"),
        lambda: file.create_dataset(name, huge, h5py.string_dtype()),
        lambda: file.__setitem__(name, h5py.ExternalLink("elsewhere.h5", "/x")),
        lambda: file.__setitem__(name, h5py.SoftLink(f"/{name}")),
        lambda: file.__setitem__(name, h5py.SoftLink("/")),
        lambda: file.create_dataset(name, data=old[:-1] if shape and shape[0] else old),
        lambda: file.create_dataset(name, data=np.asarray(old)[..., None]),
    ]
    rng.choice(changes)()


def _mutate_attribute(item: Any, rng: random.Random) -> None:
    names = list(item.attrs)
    if not names:
        return
    name = rng.choice(names)
    value = rng.choice(
        [
            None,
            h5py.Empty("i4"),
            -1,
            0,
            2**40,
            np.nan,
            "text",
            "",
            b"\xff\xfe",
            np.arange(3),
            np.array(["a"], object),
            "[" * 5000,
            "{}",
            "[1, 2]",
        ]
    )
    del item.attrs[name]
    if value is not None:
        item.attrs[name] = value


def _mutate_zip(path: Path, rng: random.Random) -> None:
    """Change a member and pack it with the right checksum."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    name = rng.choice(sorted(members))
    how = rng.randrange(4)
    if how == 0:
        del members[name]
    elif name.endswith(".h5"):
        inner = path.with_name("inner.h5")
        inner.write_bytes(members[name])
        with contextlib.suppress(OSError, RuntimeError, KeyError, ValueError, TypeError):
            _mutate_hdf5(inner, rng)
        members[name] = inner.read_bytes()
        inner.unlink()
    elif how == 1:
        members[name] = _mutate_bytes(bytearray(members[name]), rng)
    else:
        members[name] = _mutate_json(members[name], rng)
    with zipfile.ZipFile(path, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as file:
        for key, content in members.items():
            file.writestr(key, content)


def _mutate_json(text: bytes, rng: random.Random) -> bytes:
    """Put something else in a place of a JSON text."""
    content = json.loads(text)
    places: list[tuple[Any, Any]] = []
    waiting = [content]
    while waiting:
        item = waiting.pop()
        keys = item if isinstance(item, dict) else range(len(item))
        for key in keys:
            places.append((item, key))
            if isinstance(item[key], (dict, list)):
                waiting.append(item[key])
    item, key = rng.choice(places)
    if rng.random() < 0.05:
        return b"[" * 100_000
    values = [None, -1, 0, 10**8, 1.5, "x", "", [], {}, True, [[]], {"class_name": "Lambda"}]
    item[key] = rng.choice(values)
    return json.dumps(content).encode()


# ── the readers ──


def _rows(n: int) -> Any:
    from danq_keras.data.store_write import Rows
    from danq_keras.genome import dna

    rng = np.random.default_rng(1)
    labels = dna.pack_labels(rng.integers(0, 2, (n, 3), dtype=np.uint8))
    return Rows(
        dna.pack_codes(rng.integers(0, 5, (n, 12), dtype=np.uint8)),
        labels,
        ignore=labels,
        chrom=np.array(["chr1", "chrII"])[np.arange(n) % 2],
        start=np.arange(n, dtype=np.int64) * 1000,
    )


def make_store(folder: Path) -> Path:
    from danq_keras.data.store import StoreHeader
    from danq_keras.data.store_write import SplitWriter
    from danq_keras.data.targets import Targets

    path = folder / "train.h5"
    header = StoreHeader(12, 4, "both", Targets(("a", "b", "c"), ("x", "y", "z")), "made")
    with SplitWriter(path, header, n_windows=9, with_ignore=True, chrom_width=5) as writer:
        writer.append(_rows(9))
    return path


def read_store(path: Path) -> Content:
    from danq_keras.data.inputs import open_windows

    windows = open_windows(path)
    windows.check()
    blocks = [np.array(block) for block in windows.blocks(0)]
    return blocks, windows.columns(0, windows.n_windows), windows.window


def make_mat73(folder: Path) -> Path:
    from danq_keras.data.matlab_writer import BitVariable, write_matlab73

    rows, path = _rows(6), folder / "train.mat"
    variables = [
        BitVariable("trainxdata", (12, 4), 6, iter([rows.sequence])),
        BitVariable("traindata", (3,), 6, iter([rows.labels])),
    ]
    write_matlab73(path, variables)
    return path


def make_mat5(folder: Path) -> Path:
    import scipy.io

    path, rng = folder / "train.mat", np.random.default_rng(0)
    onehot = np.eye(4, dtype=np.uint8)[rng.integers(0, 4, (6, 12))].transpose(0, 2, 1)
    labels = rng.integers(0, 2, (6, 3), dtype=np.uint8)
    values = {"trainxdata": onehot, "traindata": labels}
    scipy.io.savemat(path, values, do_compression=True)
    return path


def read_mat(path: Path) -> Content:
    from danq_keras.data.deepsea import open_split_mat

    with open_split_mat(path, "train") as mat:
        rows = [(np.array(r.sequence), np.array(r.labels)) for r in mat.rows(lambda _n: None)]
        return rows, mat.n_rows, mat.window, mat.bin


def make_windows(folder: Path) -> Path:
    path, rng = folder / "test.h5", np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        onehot = np.eye(4, dtype=np.uint8)[rng.integers(0, 4, (6, 12))].transpose(0, 2, 1)
        file.create_dataset("testxdata", data=onehot, chunks=(2, 4, 12), compression="gzip")
    return path


def read_windows(path: Path) -> Content:
    from danq_keras.data.inputs import open_windows

    windows = open_windows(path)
    return [np.array(block) for block in windows.blocks(0)]


def make_old_weights(folder: Path) -> Path:
    from keras02 import SMALL, random_layers, write

    path = folder / "old.hdf5"
    write(path, random_layers("danq", SMALL))
    return path


def read_old_weights(path: Path) -> Content:
    from danq_keras.models.legacy import check_arrays, read_old_weights

    arrays = read_old_weights(path, "danq")
    return arrays, check_arrays(arrays, path)


class _Variable:
    """As much of a Keras variable as a checkpoint needs."""

    def __init__(self, values: Any, path: str) -> None:
        self.value, self.path, self.shape = values, path, values.shape

    def assign(self, values: Any) -> None:
        self.value = values


class _Holder:
    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shapes = ((3, 4), (4,), ())
        self.variables = [
            _Variable(rng.normal(size=shape).astype("f4"), f"v{i}")
            for i, shape in enumerate(shapes)
        ]


def make_checkpoint(folder: Path) -> Path:
    import keras

    from danq_keras.training import checkpoints

    keras.ops.convert_to_numpy = np.asarray  # TensorFlow must not be used before a fork
    state = {"step": 7, "epoch": 1, "again": np.arange(5)}
    return checkpoints.Snapshot.of(_Holder(0), _Holder(1), state).write(folder)  # type: ignore


def make_early_checkpoint(folder: Path) -> Path:
    path = make_checkpoint(folder)
    path.write_bytes(path.read_bytes()[512:])
    return path


def read_checkpoint(path: Path) -> Content:
    from danq_keras.training.checkpoints import load_checkpoint

    model, optimizer = _Holder(2), _Holder(3)
    state = load_checkpoint(path, model, optimizer)  # type: ignore[arg-type]
    return state, [v.value for each in (model, optimizer) for v in each.variables]


def _growing(path: Path, publish: Callable[[h5py.File], object]) -> Any:
    from danq_keras.prediction import growing

    def create(file: h5py.File) -> None:
        file.create_dataset("pred", (8, 2), np.float32)
        file.create_dataset("chrom", (8,), h5py.string_dtype("utf-8", 5))

    contents = growing.Contents(("pred",), ("A", "B"), {"model": "m", "strands": "both"})
    out = path.with_name(path.name.removesuffix(".partial"))
    return growing.growing_output(
        out, contents, create=create, publish=publish, resume=path.exists(), overwrite=False
    )


def make_partial(folder: Path) -> Path:
    path = folder / "o.h5.partial"
    stopped = contextlib.suppress(KeyboardInterrupt)
    with stopped, _growing(path, lambda _file: None) as file:
        chroms = np.array(["chr1"] * 5)
        file.append({"pred": np.arange(10, dtype=np.float32).reshape(5, 2)}, {"chrom": chroms})
        file.save()
        raise KeyboardInterrupt
    return path


def read_partial(path: Path) -> Content:
    found: list[Any] = []

    def publish(file: h5py.File) -> None:
        found.extend([file["pred"][()], file["chrom"][()]])

    with _growing(path, publish) as file:
        left = 8 - file.rows_done
        chroms = np.array(["chr1"] * left)
        file.append({"pred": np.zeros((left, 2), np.float32)}, {"chrom": chroms})
    return found


def make_effects(folder: Path) -> Path:
    path, text = folder / "effects.h5", h5py.string_dtype("utf-8")
    with h5py.File(path, "w") as file:
        file.attrs.update(
            {"format": "danq_keras variant effects", "model_fingerprint": "m", "strands": "both"}
        )
        for name in ("chrom", "id", "ref", "alt"):
            file.create_dataset(name, data=np.array([name] * 4, object), dtype=text)
        file["pos"] = np.arange(4)
        file["ref_pred"] = file["alt_pred"] = np.full((4, 2), 0.5, np.float32)
        file.create_dataset("targets", data=np.array(["a", "b"], object), dtype=text)
    return path


def read_effects(path: Path) -> Content:
    from danq_keras.variants.reader import read_effects

    effects = read_effects(path)
    return [getattr(effects, name) for name in ("chrom", "pos", "alt", "ref_pred", "targets")]


def make_background(folder: Path) -> Path:
    from danq_keras.variants.background import Background, Origin, write_background

    background = Background(Origin("absdiff", "m", ("a", "b"), "both", "made"))
    ref, alt = np.random.default_rng(0).random((2, 9, 2)).astype(np.float32)
    background.add(ref, alt, np.arange(9) % 2 == 0)
    write_background(folder / "background.h5", background)
    return folder / "background.h5"


def read_background(path: Path) -> Content:
    from danq_keras.variants.background import read_background

    found = read_background(path)
    return found.origin, found.n, found.counts


def make_model(folder: Path) -> Path:
    """A copy of a network that comes with the package, as nothing here may use TensorFlow."""
    from danq_keras.models.shipped import shipped_models

    path = folder / "model.keras"
    shutil.copy(shipped_models()["human"].path, path)
    return path


def read_model(path: Path) -> Content:
    from danq_keras.models.trained import load_model

    model = load_model(path)
    return model.network.get_weights(), model.targets, model.config


IN_HDF5, IN_BYTES, IN_ZIP = damage(_mutate_hdf5), damage(None), damage(_mutate_zip)
READERS = {
    reader.name: reader
    for reader in (
        Reader("store", make_store, read_store, IN_HDF5, summed=True),
        Reader("mat73", make_mat73, read_mat, IN_HDF5),
        Reader("mat5", make_mat5, read_mat, IN_BYTES),
        Reader("testxdata", make_windows, read_windows, IN_HDF5),
        Reader("old_weights", make_old_weights, read_old_weights, IN_HDF5),
        Reader("checkpoint", make_checkpoint, read_checkpoint, IN_HDF5, summed=True),
        Reader("early_checkpoint", make_early_checkpoint, read_checkpoint, IN_HDF5),
        Reader("partial", make_partial, read_partial, IN_HDF5, summed=True),
        Reader("effects", make_effects, read_effects, IN_HDF5),
        Reader("background", make_background, read_background, IN_HDF5),
        Reader("keras", make_model, read_model, IN_ZIP),
    )
}


if __name__ == "__main__":
    if "keras" in (sys.argv[3:] or READERS):
        import danq_keras.models.trained  # noqa: F401
    sys.exit(main(READERS, sys.argv[1:], cold=("keras",)))
