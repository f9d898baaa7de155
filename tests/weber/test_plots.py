"""Figures: what is drawn is what was given; what cannot be drawn is refused."""

import numpy as np
import pytest
from matplotlib import colors

from mechbook import plotting
from mechbook.weber import plots
from mechbook.weber.observers import Accumulator, choices
from mechbook.weber.psychometrics import collect, fit_curve
from mechbook.weber.stimuli import Design, pairs, write

TRIALS = write(pairs(Design(per_size=40)), ["w"])
COUNTS = collect(TRIALS, choices(Accumulator().judge(TRIALS)))
CURVES = {mean: fit_curve(COUNTS.at(mean)) for mean in COUNTS.means.tolist()}


@pytest.mark.parametrize(("over", "furthest"), [("difference", 3), ("ratio", 3 / 20)])
def test_answers_and_curves_are_drawn_over_the_axis(over, furthest):
    (ax,) = plots.psychometric(COUNTS, CURVES, over=over).axes
    points, curve = ax.lines[0], ax.lines[1]
    cells = COUNTS.at(10)
    assert points.get_ydata() == pytest.approx(cells.right / cells.trials)
    assert max(curve.get_xdata()) == pytest.approx(furthest)
    assert curve.get_color() == points.get_color() == plotting.COLORS[0]


def test_another_axis_is_refused():
    with pytest.raises(ValueError, match="difference or ratio"):
        plots.psychometric(COUNTS, CURVES, over="sum")


def test_a_law_is_a_straight_line_of_its_slope_on_logarithmic_axes():
    means = [5, 10, 20]
    fig = plots.thresholds(means, {"net": [[1, 2, 4], [0, 2, np.inf]]}, laws={"Weber": 1.0})
    (ax,) = fig.axes
    law = next(line for line in ax.lines if line.get_label() == "slope of Weber")
    slope = np.polyfit(np.log(law.get_xdata()), np.log(law.get_ydata()), 1)[0]
    assert slope == pytest.approx(1)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_shares_have_their_intervals_and_the_wanted_line():
    fig = plots.shares(
        [10, 40],
        {"a": [(0.9, 0.88, 0.92), (0.95, 0.94, 0.96)]},
        xlabel="x",
        ylabel="y",
        wanted=0.95,
    )
    (ax,) = fig.axes
    (bars,) = ax.collections
    assert bars.get_segments()[0][:, 1] == pytest.approx([0.88, 0.92])
    assert 0.95 in ax.lines[-1].get_ydata()


def test_each_seed_is_a_point_beside_what_theory_says():
    (ax,) = plots.exponents({"sum": [0.1, -0.1], "average": [1.0]}, {"sum": 0, "average": 1}).axes
    assert ax.lines[0].get_xdata().tolist() == [0.1, -0.1]
    assert ax.lines[1].get_xdata()[0] == 0
    assert colors.same_color(ax.lines[1].get_color(), plotting.COLORS[1])
    with pytest.raises(ValueError, match="no prediction"):
        plots.exponents({"max": [1.0]}, {})
