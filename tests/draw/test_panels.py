"""Plots with long names, many groups and odd ranges: no label runs over another or out of sight."""

import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from danq_keras.draw import panels, style


@pytest.fixture
def drawn(monkeypatch):
    """Figures of the panels that are asked for, in place of their SVG."""
    figures: list[Figure] = []

    def keep(draw):
        with mpl.rc_context(style.STYLE):
            figures.append(Figure(figsize=style._PANEL_INCHES, layout="constrained"))
            draw(figures[-1].add_subplot())
            figures[-1].draw_without_rendering()
        return ""

    monkeypatch.setattr(panels, "svg_text", keep)
    return figures


def table(n_groups, positives=(10, 20_000)):
    rng = np.random.default_rng(1)
    names = [f"group {i} of an experiment whose name does not end soon" for i in range(n_groups)]
    values = rng.uniform(0.5, 1, 4 * n_groups)
    frame = pd.DataFrame({"group": names * 4, "auroc": values, "other": values - 0.1})
    return frame.assign(positives=np.geomspace(*positives, len(frame)).round())


def overlaps(axis):
    boxes = [each.get_window_extent() for each in axis.get_ticklabels() if each.get_text()]
    return any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


@pytest.mark.parametrize("positives", [(100, 120), (30, 400), (5, 3000), (1, 90_000), (1, 450_000)])
def test_numbers_of_positives_have_room(drawn, positives):
    panels.by_positives(table(2, positives), "auroc", ylabel="ROC AUC")
    axis = drawn[0].axes[0].xaxis
    shown = [
        each
        for each in axis.get_major_ticks()
        if axis.get_view_interval()[0] <= each.get_loc() <= axis.get_view_interval()[1]
    ]
    assert len(shown) >= 2
    assert not overlaps(axis)


@pytest.mark.parametrize("n_groups", [1, 14, 60])
def test_groups_keep_their_rows(drawn, n_groups):
    panels.by_group(table(n_groups), "auroc", xlabel="ROC AUC")
    axes = drawn[0].axes[0]
    assert not overlaps(axes.yaxis)
    assert axes.get_window_extent().width > 0.4 * drawn[0].bbox.width
    assert axes.get_yticklabels()[0].get_window_extent().x0 >= 0


def test_a_legend_names_the_largest_groups_only(drawn):
    panels.scatter(table(9), "other", "auroc", xlabel="x" * 200, ylabel="y, PR AUC " * 20)
    axes = drawn[0].axes[0]
    texts = [each.get_text() for each in axes.get_legend().get_texts()]
    assert len(texts) == 6
    assert texts[-1] == "4 more groups"
    for name in (axes.get_xlabel(), axes.get_ylabel()):
        assert len(name) == 40
        assert "…" in name


def test_one_epoch_is_a_whole_number(drawn):
    history = pd.DataFrame({"epoch": [1], "val_auroc": [0.6]})
    level = ("k-mer baseline", 0.68)
    panels.learning_curves(history, {"val_auroc": "validation"}, ylabel="ROC AUC", level=level)
    axes = drawn[0].axes[0]
    assert [each for each in axes.get_xticks() if 0.9 < each < 1.1] == [1]
    assert [each.get_text() for each in axes.get_legend().get_texts()] == [
        "validation",
        "k-mer baseline 0.6800",
    ]


def test_a_label_keeps_both_ends():
    assert style.short_label("a  short\nname") == "a short name"
    long = style.short_label("begin" + "x" * 90 + "end", 20)
    assert re.fullmatch(r"beginx+…x+end", long)
    assert len(long) == 20
    assert style.short_label("cost$") == r"cost\$"
