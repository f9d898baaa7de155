import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mechbook import plotting
from mechbook.icl import plots

DRAW = np.random.default_rng(0)
RUNS = {"100 classes": DRAW.random((3, 5)), "1,600 classes": DRAW.random((3, 5))}


def axes(figure):
    assert isinstance(figure, Figure)
    return [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]


def drawn(figure):
    found = plotting.png(figure)
    assert len(found) > 5000
    return figure


def test_panels_draw_mean_and_band_of_each_measure():
    figure = drawn(plots.panels(range(5), {"one": RUNS, "two": RUNS}, title="They part"))
    for ax in axes(figure):
        np.testing.assert_allclose(ax.lines[0].get_ydata(), RUNS["100 classes"].mean(0))
        assert len(ax.collections) == 2


def test_the_live_run_may_be_shorter_and_lies_over_the_band():
    live = {"one": {"100 classes": [0.1, 0.2, 0.3]}}
    figure = drawn(plots.panels(range(5), {"one": RUNS}, live=live))
    own = [line for line in axes(figure)[0].lines if len(line.get_xdata()) == 3]
    assert [list(line.get_ydata()) for line in own] == [[0.1, 0.2, 0.3]] * 2


def test_a_reference_is_a_line_in_its_panel_and_a_word_in_the_legend():
    both = {"one": RUNS, "two": RUNS}
    figure = plots.panels(range(5), both, references={"two": {"chance": 0.5}})
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*RUNS, "chance"]
    first, second = (
        [line for line in ax.lines if list(line.get_ydata()) == [0.5, 0.5]] for ax in axes(figure)
    )
    assert (len(first), len(second)) == (0, 1)


def test_a_logarithmic_axis_has_plain_numbers():
    figure = plots.panels([0.01, 0.1, 1, 10, 100], {"one": RUNS}, xscale="log")
    axes(figure)[0].figure.canvas.draw()
    assert axes(figure)[-1].xaxis.get_major_formatter()(0.1) == "0.1"


def test_bars_have_a_height_a_decay_and_a_dot_a_seed():
    figure = drawn(
        plots.peak_bars([0, 1e-3, 0.01, 0.1, 1], RUNS, references={"chance": 0.5}, notes=3)
    )
    (ax,) = axes(figure)
    heights = [bar.get_height() for bar in ax.containers[0]]
    np.testing.assert_allclose(heights, RUNS["100 classes"].mean(0))
    dots = [line for line in ax.lines if line.get_marker() == "."]
    assert len(dots) == 6
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "0.001", "0.01", "0.1", "1"]


def test_rings_mark_previous_tokens_and_the_labels_of_the_class():
    patterns = np.tril(DRAW.random((2, 17, 17)))
    match = np.array([1, 0, 0, 1, 0, 0, 0, 0])
    figure = drawn(plots.attention({"few": patterns, "many": patterns}, ["A"] * 17, match))
    first, last = axes(figure)[:2]
    assert {tuple(ring.center) for ring in last.patches} == {(1, 16), (7, 16)}
    assert {tuple(ring.center) for ring in first.patches} == {(2 * p, 2 * p + 1) for p in range(8)}


def test_the_region_of_dissociation_is_below_right():
    gaps = {"few": np.linspace(0, 0.8, 6)}
    figure = drawn(
        plots.path_and_answer(gaps, gaps, stands=0.4, follows=0.6, ylabel="accuracy of the context")
    )
    box = axes(figure)[0].patches[0]
    assert (box.get_x(), box.get_y(), box.get_height()) == (0.4, 0, 0.6)


def test_intervals_lie_beside_the_goal():
    figure = drawn(plots.shares(["raw", "corrected"], [0.8, 0.3], [[0.7, 0.95], [0.2, 0.4]],
                                goal=0.9, xlabel="share of the baseline"))  # fmt: skip
    (ax,) = axes(figure)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["raw", "corrected"]
    assert [segment[:, 0].tolist() for segment in ax.collections[0].get_segments()] == [
        [0.7, 0.95], [0.2, 0.4]
    ]  # fmt: skip


@pytest.mark.parametrize("number", [0, 1])
def test_colors_are_those_of_the_book(number):
    figure = plots.panels(range(5), {"one": RUNS})
    lines = [line for line in axes(figure)[0].lines if len(line.get_xdata()) == 5]
    assert to_hex(lines[number].get_color()).upper() == plotting.COLORS[number].upper()
