"""Logos looked at: where letters of which colour stand, and what lies over what on a sheet."""

import sys

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest

from danq_keras.draw import logos
from danq_keras.genome.dna import encode, onehot_from_codes
from danq_keras.motifs.motif import Motif
from danq_keras.system.errors import InputError


def motif_of(letters):
    """N is a uniform position, without letters."""
    matrix = onehot_from_codes(encode(letters)).astype(float)
    matrix[matrix.sum(axis=1) == 0] = 0.25
    return Motif(letters, letters, matrix)


def pair(upper, lower, offset, title="name"):
    return logos.AlignedPair(title, "E", motif_of(upper), "k", motif_of(lower), "m", offset)


def columns_of(image, base):
    """Columns of the picture in which there is some of the letter's colour."""
    colour = matplotlib.colors.to_rgb(logos.BASE_COLOURS[base])
    return np.flatnonzero((np.abs(image - colour).max(axis=2) < 0.02).any(axis=0))


def read(path):
    return matplotlib.image.imread(path)[..., :3]


def test_a_logo_s_letters_in_their_order_and_colours(tmp_path):
    """A, G, C at 2 bits; the fourth position is uniform: nothing."""
    logos.logo_png(tmp_path / "logo.png", motif_of("AGCN"))
    image = read(tmp_path / "logo.png")
    a, g, c = (columns_of(image, base) for base in "AGC")
    assert a.max() < g.min() < g.max() < c.min()
    assert columns_of(image, "T").size == 0
    assert image.shape[1] - c.max() > (c.max() - a.min()) / 4
    rows = (image.max(axis=2) - image.min(axis=2) > 0.3).any(axis=1)
    assert rows.mean() > 0.6  # as high as the panel


def test_a_motif_without_information(tmp_path):
    logos.logo_png(tmp_path / "logo.png", motif_of("NNNNN"))
    assert all(columns_of(read(tmp_path / "logo.png"), base).size == 0 for base in "ACGT")


@pytest.mark.parametrize(
    ("upper", "lower", "offset", "begins", "span", "overlap"),
    [
        ("ACGTACGT", "ACGTA", -3, (0, 3), 8, (3, 8)),
        ("ACGTA", "ACGTACGT", 2, (2, 0), 8, (2, 7)),
        ("ACGTACGT", "ACGTACGT", 3, (3, 0), 11, (3, 8)),
        ("ACGT", "ACGT", 0, (0, 0), 4, (0, 4)),
    ],
)
def test_where_the_two_of_a_pair_stand(upper, lower, offset, begins, span, overlap):
    here = pair(upper, lower, offset)
    assert (here.begins(), here.span(), here.overlap()) == (begins, span, overlap)


def test_what_matches_stands_above_each_other(tmp_path):
    """The kernel's AC is over the known motif's; three columns further left it has a T alone."""
    logos.matches_png(tmp_path / "sheet.png", [pair("TNNAC", "ACNNNG", -3)])
    image = read(tmp_path / "sheet.png")
    middle = len(image) // 2
    above, below = image[:middle], image[middle:]
    for base in "AC":
        one, other = columns_of(above, base), columns_of(below, base)
        assert one.size > 3
        np.testing.assert_allclose([one.min(), one.max()], [other.min(), other.max()], atol=1)
    letter = np.ptp(columns_of(above, "A")) + 1
    assert columns_of(above, "T").max() < columns_of(above, "A").min() - letter
    assert columns_of(below, "G").min() > columns_of(below, "C").max() + letter
    assert columns_of(below, "T").size == columns_of(above, "G").size == 0


def test_a_sheet_of_several_rows(tmp_path):
    sheets = []
    for n in (1, 3, 4):
        logos.matches_png(tmp_path / "s.png", [pair("ACGTACG", "CGTAC", 1, "$x$")] * n)
        sheets.append(read(tmp_path / "s.png").shape)
    (height, width, _), three, four = sheets
    np.testing.assert_allclose(three[:2], [height, 3 * width], atol=2)
    np.testing.assert_allclose(four[:2], [2 * height, 3 * width], atol=2)


def test_without_logomaker_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "logomaker", None)
    with pytest.raises(InputError, match=r"pip install 'danq_keras\[logos\]'"):
        logos.logo_png(tmp_path / "logo.png", motif_of("ACGT"))
