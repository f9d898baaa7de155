import numpy as np
import torch
from matplotlib.figure import Figure

from mechbook.superposition import geometry, plots


def test_the_model_shows_directions_products_biases_and_lengths():
    W = geometry.polytopes()["pentagon"]
    fig = plots.model(W, torch.zeros(5), title="A pentagon")
    plane, matrix, bias, length, _ = fig.axes
    assert np.allclose(matrix.images[0].get_array(), W.T @ W, atol=1e-6)
    assert bias.images[0].get_array().shape == (5, 1)
    assert np.allclose([bar.get_width() for bar in length.patches], 1)
    assert len(plane.lines) == 10


def test_pairs_have_a_panel_for_each_kind():
    series = {"opposite": np.array([[0.1, 0.3], [0.5, 0.7]])}
    fig = plots.pairs([0.4, 0.05], {"one": series, "two": series})
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["one", "two"]
    assert np.allclose(fig.axes[0].lines[0].get_ydata(), [0.2, 0.6])


def test_dimensions_draw_each_feature_and_each_shape():
    fig = plots.dimensions(
        [0.5, 0.25], [torch.full((3,), 0.5), torch.full((5,), 0.4)], {"digon": 0.5}
    )
    counts = [len(line.get_ydata()) for line in fig.axes[0].lines]
    assert counts == [3, 5, 2]


def test_levels_are_drawn_from_the_lowest_loss():
    fig = plots.levels([0.3, 0.1, 0.2], ["b", "a", "b"])
    first, second = fig.axes[0].lines
    assert (list(first.get_ydata()), list(second.get_ydata())) == ([0.1], [0.2, 0.3])


def test_cases_are_four_matrices():
    fig = plots.cases({str(i): np.eye(3) for i in range(4)}, title="Four")
    assert isinstance(fig, Figure)
    assert sum(bool(ax.images) for ax in fig.axes) == 4
