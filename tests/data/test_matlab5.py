"""MATLAB 5 variables read in one pass, beside scipy, which wrote them."""

import struct
import zlib

import numpy as np
import pytest
import scipy.io

from danq_keras.data import matlab
from danq_keras.data.matlab5 import open_numbers
from danq_keras.system.errors import InputError


def saved(path, variables, *, compress):
    scipy.io.savemat(path, variables, do_compression=compress)
    return path


def packed(path, key):
    with matlab.MatFile(path) as file:
        return np.concatenate(list(file.blocks(key)))


def expected(values):
    return np.packbits(np.asarray(values).T.reshape(-1, len(values)).T.astype(np.uint8), axis=1)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "bool", "f8", "f4", "i4", "u2", "i8"])
@pytest.mark.parametrize("shape", [(7, 4, 10), (1, 3), (3, 1), (600, 4, 30), (2, 919), (0, 4, 5)])
def test_every_kind_of_number_is_read_as_scipy_reads_it(tmp_path, rng, shape, dtype, compress):
    values = rng.integers(0, 2, shape).astype(dtype)
    others = {"before": np.arange(5.0), "x": values, "after": "text"}
    path = saved(tmp_path / "a.mat", others, compress=compress)
    numbers = open_numbers(path, "x")
    assert numbers is not None
    assert numbers.shape == shape
    with numbers:
        found = numbers.read(values.size)
        numbers.finish()
    np.testing.assert_array_equal(found.astype(dtype), values.ravel(order="F"))
    told = []
    with matlab.MatFile(path) as file:
        blocks = list(file.blocks("x", told.append))
    if values.size:
        np.testing.assert_array_equal(np.concatenate(blocks), expected(values))
        assert sum(told) == values.size * numbers.dtype.itemsize


@pytest.mark.parametrize("value", [np.array([[1 + 2j, 0]]), "text", {"field": 1}])
def test_what_are_no_real_numbers_is_left_to_scipy(tmp_path, value):
    path = saved(tmp_path / "a.mat", {"x": value}, compress=True)
    assert open_numbers(path, "x") is None
    assert open_numbers(path, "y") is None


def test_a_name_that_is_there_twice_is_left_to_scipy(tmp_path):
    path = saved(tmp_path / "a.mat", {"x": np.eye(9)}, compress=False)
    content = path.read_bytes()
    path.write_bytes(content + content[128:])
    assert open_numbers(path, "x") is None


def test_values_that_are_no_bits_are_refused_with_their_row(tmp_path):
    values = np.zeros((20, 4, 3), np.uint8)
    values[13, 2, 1] = 7
    path = saved(tmp_path / "a.mat", {"x": values}, compress=True)
    with pytest.raises(InputError, match=r"'x' must hold only 0 and 1. Received: 7 in row 13"):
        packed(path, "x")


@pytest.mark.parametrize("compress", [False, True])
def test_a_file_that_is_cut_short_is_refused(tmp_path, rng, compress):
    path = saved(tmp_path / "a.mat", {"x": rng.integers(0, 2, (90, 70))}, compress=compress)
    content = path.read_bytes()
    for end in (len(content) - 1, len(content) - 9, 300, 200):
        path.write_bytes(content[:end])
        with pytest.raises(InputError, match=r"a.mat: .* Get the file again"):
            packed(path, "x")


def test_a_wrong_checksum_is_refused(tmp_path, rng):
    path = saved(tmp_path / "a.mat", {"x": rng.integers(0, 2, (90, 70))}, compress=True)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="Get the file again"):
        packed(path, "x")


def test_more_or_fewer_values_than_the_dimensions_say_are_refused(tmp_path):
    path = saved(tmp_path / "a.mat", {"x": np.zeros((9, 8), np.uint8)}, compress=True)
    content = path.read_bytes()
    whole = zlib.decompress(content[136:])
    for inner in (
        whole + bytes(16),
        whole.replace(struct.pack("<ii", 9, 8), struct.pack("<ii", 9, 7)),
    ):
        element = zlib.compress(inner)
        path.write_bytes(content[:128] + struct.pack("<II", 15, len(element)) + element)
        with pytest.raises(InputError, match="Get the file again"):
            packed(path, "x")
