"""Pictures of claims draw the numbers that they were given."""

import pytest

from tlutils import plots
from tlutils.claims import FAILS, HOLDS, OPEN
from tlutils.plots.claims import VERDICTS


def dots(ax):
    return [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata()) == 1]


def test_corners_has_a_panel_a_corner_and_a_dot_a_strategy():
    panels = {
        ("little", "scenes"): {"probe": (0.6, 0.5, 0.7), "finetune": (0.5, 0.4, 0.6)},
        ("lots", "scenes"): {"finetune": (0.8, 0.7, 0.9)},
    }
    picture = plots.corners(panels, ylabel="accuracy", title="Corners", alt="Two corners.")
    above, below = picture.axes
    assert [float(dot.get_ydata()[0]) for dot in dots(above)] == [0.6, 0.5]
    assert [float(dot.get_ydata()[0]) for dot in dots(below)] == [0.8]
    assert dots(above)[1].get_color() == dots(below)[0].get_color() == plots.COLOURS["finetune"]
    assert float(dots(above)[1].get_xdata()[0]) == float(dots(below)[0].get_xdata()[0])
    assert len(picture.png()) < 60_000


def test_profiles_draw_a_line_over_the_stages():
    series = {"little": [(0.5, 0.4, 0.6), (0.6, 0.5, 0.7)], "lots": [(0.7, 0.6, 0.8), (0.9, 0.8, 1.0)]}
    picture = plots.profiles(
        ["stage1", "pool"], {"scenes": series, "digits": series}, ylabel="y", title="t", alt="a"
    )
    assert len(picture.axes) == 2
    assert [list(line.get_ydata()) for line in picture.axes[0].lines] == [[0.5, 0.6], [0.7, 0.9]]
    words = [text.get_text() for text in picture.axes[0].get_legend().get_texts()]
    assert words == ["little", "lots"]


@pytest.mark.parametrize("verdict", [HOLDS, FAILS, OPEN])
def test_effects_are_coloured_by_verdict_and_wide_intervals_are_cut(verdict):
    row = {"id": "one", "effect": 0.1, "low": -5.0, "high": 5.0, "threshold": 0.01, "verdict": verdict}
    picture = plots.effects([row], xlabel="effect", title="t", alt="a")
    (ax,) = picture.axes
    (dot,) = dots(ax)
    assert float(dot.get_xdata()[0]) == 0.1
    assert dot.get_color() == plots.COLOURS[VERDICTS[verdict]]
    assert ax.get_xlim()[1] < 1
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one"]
