"""E-values against a count of all larger effects, one by one."""

import h5py
import numpy as np
import pytest

from danq_keras.system.errors import InputError
from danq_keras.variants import background
from danq_keras.variants.effects import EFFECTS, effect_size

ORIGIN = background.Origin("absdiff", "abc", ("a", "b", "c"), "both", "common.vcf")


def probabilities(rng, n):
    return rng.random((n, 3)).astype(np.float32), rng.random((n, 3)).astype(np.float32)


def to_1_in_512(sizes):
    """Rounded down to ten significant bits, the first of which is always one."""
    mantissa, exponent = np.frexp(sizes.astype(np.float32))
    return np.ldexp(np.floor(mantissa * 1024) / 1024, exponent)


def by_hand(effect, pairs, is_snv, query, query_snv):
    """(k + 1) / (n + 1) with the larger effects of the same kind counted in a loop."""
    known, asked = (to_1_in_512(effect_size(effect, *both)) for both in (pairs, query))
    result = np.empty(asked.shape)
    for row, target in np.ndindex(asked.shape):
        same = known[is_snv == query_snv[row], target]
        result[row, target] = (sum(same > asked[row, target]) + 1) / (len(same) + 1)
    return result


@pytest.mark.parametrize("effect", EFFECTS)
def test_evalues_are_counts_of_larger_effects_of_the_same_kind(effect, rng):
    origin = background.Origin(
        effect, *(getattr(ORIGIN, n) for n in ("model", "targets", "strands", "source"))
    )
    pairs, query = probabilities(rng, 60), probabilities(rng, 25)
    is_snv, query_snv = rng.random(60) < 0.6, rng.random(25) < 0.5
    made = background.Background(origin)
    for rows in (slice(0, 7), slice(7, 7), slice(7, 60)):
        made.add(pairs[0][rows], pairs[1][rows], is_snv[rows])
    found = made.evalues(*query, query_snv)
    np.testing.assert_allclose(found, by_hand(effect, pairs, is_snv, query, query_snv))
    assert len(np.unique(found)) > 20
    # a background variant has an effect as large as its own, not larger
    itself = made.evalues(*pairs, is_snv)
    np.testing.assert_allclose(itself, by_hand(effect, pairs, is_snv, pairs, is_snv))


def test_a_large_background_keeps_evalues_within_its_bins(rng):
    """Sizes from 1e-9 to 1, 20,000 of them: E-values within half a percent, at the same size."""
    made = background.Background(background.Origin("absdiff", "m", ("a",), "both", "x"))
    alt = np.exp(rng.uniform(np.log(1e-6), 0, (20_000, 1))).astype(np.float32) * 0.999
    ref, snv = np.full_like(alt, 1e-7), np.ones(len(alt), bool)
    made.add(ref, alt, snv)
    sizes = np.sort(effect_size("absdiff", ref, alt)[:, 0])
    exact = (
        len(sizes) - np.searchsorted(sizes, effect_size("absdiff", ref, alt)[:, 0], "right") + 1
    ) / 20_001
    found = made.evalues(ref, alt, snv)[:, 0]
    assert np.abs(found - exact).max() < 5e-4
    assert made.counts["snv"].nbytes < 100_000


def test_bins_ascend_with_the_effect():
    sizes = np.concatenate([[0.0], np.geomspace(1e-14, 33, 5000)])
    bins = background.effect_bins(sizes)
    assert (np.diff(bins) >= 0).all()
    assert bins[0] == 0
    assert bins[-1] < background.N_BINS - 1
    apart = background.effect_bins(np.array([1e-3, 1e-3 * (1 + 2 / 512)]))
    assert apart[0] < apart[1]


def test_a_kind_without_background_has_no_evalue(rng):
    made = background.Background(ORIGIN)
    pairs = probabilities(rng, 5)
    made.add(*pairs, np.ones(5, bool))
    found = made.evalues(*pairs, np.array([True, False] * 2 + [True]))
    assert np.isnan(found).all(axis=1).tolist() == [False, True, False, True, False]


def test_written_and_read_it_is_the_same(rng, tmp_path):
    made, path = background.Background(ORIGIN), tmp_path / "b.h5"
    pairs, is_snv = probabilities(rng, 30), rng.random(30) < 0.5
    made.add(*pairs, is_snv)
    background.write_background(path, made)
    read = background.read_background(path)
    assert read.origin == ORIGIN
    assert read.n == made.n
    np.testing.assert_array_equal(read.evalues(*pairs, is_snv), made.evalues(*pairs, is_snv))
    read.add(*pairs, is_snv)  # and it can grow
    assert read.n["snv"] == 2 * made.n["snv"]
    with pytest.raises(InputError, match="already exists"):
        background.write_background(path, made)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model", "xyz", "made with another model"),
        ("targets", ("a", "b"), "made for other targets"),
        ("strands", "forward", "with other strands: both, not forward"),
        ("effect", "product", "of another effect: absdiff, not product"),
    ],
)
def test_what_cannot_be_compared_is_refused(name, value, message, tmp_path):
    with pytest.raises(InputError, match=message):
        background.Background(ORIGIN).check(
            background.Origin(**{**vars(ORIGIN), name: value}), tmp_path / "b.h5"
        )


def test_the_source_does_not_matter(tmp_path):
    background.Background(ORIGIN).check(
        background.Origin(**{**vars(ORIGIN), "source": "other"}), tmp_path
    )


def test_an_unknown_effect():
    with pytest.raises(InputError, match="`effect`: one of absdiff, logodds, product"):
        background.Origin("big", "m", (), "both", "x")


def test_files_that_are_no_background(tmp_path):
    path = tmp_path / "b.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    with pytest.raises(InputError, match="not a readable background"):
        background.read_background(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match="neither a VCF file nor a background"):
        background.read_background(path)
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": background.FORMAT, "format_version": 9})
    with pytest.raises(InputError, match="format version 9"):
        background.read_background(path)
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": background.FORMAT, "format_version": 1})
    with pytest.raises(InputError, match="not a readable background"):
        background.read_background(path)
