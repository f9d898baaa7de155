import numpy as np
import pytest

from mechbook import plotting
from mechbook.geometry import inner_products, plots


def drawn(fig):
    assert plotting.png(fig)[:4] == b"\x89PNG"
    return fig.axes


def test_arrows_join_the_named_points():
    points = {"man": [0, 0], "woman": [1, 1]}
    (ax,) = drawn(plots.arrows(points, [("man", "woman")], title="One step"))
    assert {"man", "woman"} <= {text.get_text() for text in ax.texts}


def test_dumbbells_have_two_ends_a_row():
    (ax,) = drawn(
        plots.dumbbells(["a", "b"], [[0, 1], [2, 3]], labels=("from", "to"), xlabel="along")
    )
    assert [list(line.get_xdata()) for line in ax.lines] == [[0, 2], [1, 3]]
    with pytest.raises(ValueError, match="2 names"):
        plots.dumbbells(["a", "b"], [[0, 1]], labels=("from", "to"), xlabel="along")


def test_the_ellipse_is_drawn_beside_the_circle():
    ring = inner_products.unit_ellipse(inner_products.EXAMPLE)
    (ax,) = drawn(plots.ellipse(ring, {"u": [1, 0]}))
    assert len(ax.lines) == 2
    assert np.allclose(ax.lines[1].get_xydata(), ring.numpy())


def test_the_turntable_closes():
    points = np.random.default_rng(0).normal(size=(12, 2))
    (ax,) = drawn(plots.turntable(points))
    line = ax.lines[0].get_xydata()
    assert np.allclose(line[0], line[-1])
    with pytest.raises(ValueError, match="12 names"):
        plots.turntable(points[:5])


def test_shares_have_a_panel_each():
    measured = {"months": [0.5, 0.3, 0.2], "weekdays": [0.6, 0.4]}
    axes = drawn(plots.shares(measured, {"months": np.random.default_rng(0).random((9, 3))}))
    assert [len(ax.patches) for ax in axes] == [3, 2]


def test_flip_curves_have_a_line_a_kind():
    kinds = {"add": np.ones((2, 3)), "angular": np.zeros((2, 3))}
    intervals = {"add": np.stack([np.zeros((2, 3)), np.ones((2, 3))], 1)}
    axes = drawn(
        plots.flip_curves([0, 1, 2], kinds, intervals, panels=["month", "last"], xlabel="depth")
    )
    assert [len(ax.lines) for ax in axes] == [2, 2]


def test_curves_stand_before_their_control():
    control = {"random": np.random.default_rng(0).random((5, 3))}
    (ax,) = drawn(
        plots.curves([0, 1, 2], {"a": [1, 2, 3]}, xlabel="x", ylabel="y", control=control)
    )
    assert len(ax.lines) == 1
    assert len(ax.collections) == 1
