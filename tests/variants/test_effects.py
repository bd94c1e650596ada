"""Effects by hand: the odds 1:3 and 3:1 differ by 2 ln 3."""

import numpy as np
import pytest

from danq_keras.variants import effects

REF = np.array([[0.25, 0.5, 0.0]], np.float32)
ALT = np.array([[0.75, 0.5, 1.0]], np.float32)
END = np.log((1 - 1e-7) / 1e-7)


def test_differences_by_hand():
    assert effects.difference(REF, ALT).tolist() == [[0.5, 0.0, (1 - 1e-7) - 1e-7]]
    found = effects.log_odds_difference(REF, ALT)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [[2 * np.log(3), 0, 2 * END]], rtol=1e-9, atol=1e-15)
    np.testing.assert_array_equal(effects.difference(ALT, REF), -effects.difference(REF, ALT))


@pytest.mark.parametrize(
    ("name", "expected"), [("absdiff", 0.5), ("logodds", 2.1972246), ("product", 1.0986123)]
)
def test_sizes_do_not_know_the_direction(name, expected):
    for pair in ((REF, ALT), (ALT, REF)):
        size = effects.effect_size(name, *pair)
        assert size[0, 0] == pytest.approx(expected)
        assert size[0, 1] == 0
        assert (size >= 0).all()


def test_another_size_is_refused():
    with pytest.raises(ValueError, match="absdiff, logodds, product"):
        effects.effect_size("relative", REF, ALT)
