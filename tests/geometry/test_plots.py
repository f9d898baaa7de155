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


def test_curves_stand_before_their_control():
    control = {"random": np.random.default_rng(0).random((5, 3))}
    (ax,) = drawn(
        plots.curves([0, 1, 2], {"a": [1, 2, 3]}, xlabel="x", ylabel="y", control=control)
    )
    assert [line.get_ydata().tolist() for line in ax.lines[1:]] == [[1, 2, 3]]
    assert np.allclose(ax.lines[0].get_ydata(), control["random"].mean(0))
