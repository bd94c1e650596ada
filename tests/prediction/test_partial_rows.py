"""Rows of an unfinished prediction are gone on with only where they are what was written."""

import contextlib
import json

import h5py
import numpy as np
import pytest

from danq_keras.prediction import growing
from danq_keras.system import errors


def unfinished(tmp_path, *, rows=6, done=4):
    """A file of which some rows are done, and how it is opened again."""
    out = tmp_path / "o.h5"
    contents = growing.Contents(("pred",), ("A", "B"), {"model": "m", "strands": "both"})
    values = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)

    def create(file):
        file.create_dataset("pred", values.shape, np.float32)
        file.create_dataset("start", (rows,), np.int64)

    def open_again(**options):
        options = {"resume": True, "overwrite": False} | options
        publish = lambda file: growing.move_complete(file, growing.partial_path(out), out)  # noqa: E731
        return growing.growing_output(out, contents, create=create, publish=publish, **options)

    stopped = contextlib.suppress(KeyboardInterrupt)
    with stopped, open_again(resume=False) as file:
        file.append({"pred": values[:done]}, {"start": np.arange(done)})
        file.save()
        raise KeyboardInterrupt
    return growing.partial_path(out), values, open_again


def go_on(open_again, values):
    with open_again() as file:
        begin = file.rows_done
        file.append({"pred": values[begin:]}, {"start": np.arange(begin, len(values))})


def test_checked_rows_are_gone_on_with(tmp_path):
    _, values, open_again = unfinished(tmp_path)
    go_on(open_again, values)
    with h5py.File(tmp_path / "o.h5") as file:
        np.testing.assert_array_equal(file["pred"], values)
        assert file.attrs["rows_done"] == 6


def test_a_mistake_found_in_the_middle_keeps_the_saved_rows(tmp_path):
    path, values, open_again = unfinished(tmp_path)
    with pytest.raises(errors.InputError, match="gone"), open_again():
        raise errors.InputError("gone")
    assert path.exists()
    go_on(open_again, values)
    assert not path.exists()


def test_what_a_kill_leaves_without_rows_is_begun_anew(tmp_path):
    path, values, open_again = unfinished(tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs["progress"] = json.dumps({"rows_done": 0})
    with open_again(resume=False) as file:
        assert file.rows_done == 0
        file.append({"pred": values}, {"start": np.arange(len(values))})
    assert not path.exists()


def test_the_structure_of_a_file_stays_while_it_grows(tmp_path):
    """A kill between two writings of HDF5 meets no half-changed one."""
    path, values, open_again = unfinished(tmp_path)
    with open_again() as file:
        sizes = [path.stat().st_size]
        for row in range(file.rows_done, len(values)):
            file.append({"pred": values[row : row + 1]}, {"start": np.arange(row, row + 1)})
            file.save()
            sizes.append(path.stat().st_size)
    assert len(set(sizes)) == 1


@pytest.mark.parametrize("name", ["pred", "start"])
def test_a_changed_row_is_not_gone_on_with(tmp_path, name):
    path, _, open_again = unfinished(tmp_path)
    with h5py.File(path, "r+") as file:
        file[name][1] = 77
    before = path.read_bytes()
    message = f"o.h5.partial: not a readable unfinished .*wrong checksum of '{name}' in the rows"
    with pytest.raises(errors.InputError, match=message), open_again():
        pytest.fail("opened")
    assert path.read_bytes() == before
    with h5py.File(path, "r+") as file:
        file[name][1] = [2, 3] if name == "pred" else 1
        file[name][5] = 77  # not done yet
    with open_again() as file:
        assert file.rows_done == 4


@pytest.mark.parametrize(
    ("rows_done", "message"), [(7, "7 rows are done of 6"), (-1, "-1 rows are done"), ("x", "x")]
)
def test_impossible_progress_is_refused(tmp_path, rows_done, message):
    path, _, open_again = unfinished(tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs["progress"] = json.dumps({"rows_done": rows_done})
    with pytest.raises(errors.InputError, match=message), open_again():
        pytest.fail("opened")
    assert path.exists()
    assert not (tmp_path / "o.h5").exists()


def test_rows_of_an_early_version_are_gone_on_with_and_told(tmp_path, messages):
    path, values, open_again = unfinished(tmp_path)
    with h5py.File(path, "r+") as file:
        del file.attrs["progress"]
    go_on(open_again, values)
    assert "an early version wrote it: its rows cannot be checked" in messages.text
    with h5py.File(tmp_path / "o.h5") as file:
        np.testing.assert_array_equal(file["pred"], values)
