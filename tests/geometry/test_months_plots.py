import numpy as np
import pytest

from mechbook import plotting
from mechbook.geometry import months_plots

ANGLES = 2 * np.pi * np.arange(12) / 12
RING = np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1)


def texts(fig):
    return [t.get_text() for ax in fig.axes for t in ax.texts]


def test_the_turntable_names_every_item_once_and_closes_the_ring():
    fig = months_plots.turntable({"a": RING}, title="A circle")
    assert texts(fig) == list(months_plots.SHORT)
    line = fig.axes[0].lines[0].get_xydata()
    assert np.allclose(line[0], line[-1])
    assert plotting.png(fig)


def test_panels_have_their_own_names():
    days = list("MTWtFSs")
    fig = months_plots.turntable({"months": RING, "days": RING[:7]}, {"days": days})
    assert texts(fig) == [*months_plots.SHORT, *days]
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["months", "days"]


def test_harmonics_draw_a_bar_for_each_share():
    fig = months_plots.harmonics(
        {"x": [0.5, 0.3, 0.2], "y": [1.0], "z": [0.4, 0.6]}, {"x": np.random.rand(20, 3)}
    )
    heights = [[bar.get_height() for bar in ax.patches] for ax in fig.axes[:3]]
    assert heights == [[0.5, 0.3, 0.2], [1.0], [0.4, 0.6]]
    assert not fig.axes[3].get_visible()
    assert plotting.png(fig)


def test_flips_have_a_line_for_each_kind_and_a_band_where_there_is_an_interval():
    panels = {name: {"add": [0, 0.5, 1], "turn": [0, 0, 0.2]} for name in ("early", "late")}
    bands = {"late": {"add": [[0, 0.4, 0.9], [0.1, 0.6, 1]]}}
    run = {"late": {"turn": [0, 0, 0.1]}}
    fig = months_plots.flips([0, 1, 2], panels, bands, live=run, xlabel="depth", title="Flips")
    assert [len(ax.lines) for ax in fig.axes] == [2 + 1, 2 + 1]  # the legend's line, and the run's
    assert [len(ax.collections) for ax in fig.axes] == [0, 1]
    assert plotting.png(fig)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="names for points"):
        months_plots.turntable({"a": RING[:5]})
