"""Figures: they draw what they are given."""

import numpy as np

from mechbook.sae import plots


def test_the_plane_has_an_arrow_a_latent_and_a_line_a_measure():
    lines = {"recovered": np.ones((2, 3)), "explained": np.zeros((2, 3))}
    fig = plots.plane(np.eye(2), np.eye(2), [0.1, 0.2, 0.4], lines, at=0.2, title="Found")
    left, right = fig.axes
    assert len(left.texts) == 2
    assert len(left.lines) == 2
    assert len(right.lines) == 3


def test_pushes_draws_every_penalty_twice():
    z = np.linspace(0, 1, 5)
    fig = plots.pushes(z, {"L1": z * 0 + 1, "L2": z}, z, {"L1": z, "L2": z})
    assert [len(ax.lines) for ax in fig.axes] == [2, 2]


def test_pareto_fills_what_was_recovered():
    part = np.array([[1.0, 2.0], [3.0, 4.0]])
    fig = plots.pareto({"topk": (part, part / 10, np.array([[1.0, 0.9], [0.1, 0.2]]))}, truth=2)
    points = [
        line for line in fig.axes[0].lines if line.get_marker() == "o" and len(line.get_xdata())
    ]
    faces = [line.get_markerfacecolor() for line in points]
    assert len(faces) == 2
    assert len(set(faces)) == 2


def test_activity_has_a_bar_a_bin():
    fig = plots.activity([0, 1, 2], [5, 3], density=0.01)
    assert [bar.get_height() for bar in fig.axes[0].patches] == [5, 3]


def test_quartiles_have_a_point_a_kind():
    fig = plots.quartiles(
        ["a", "b"], [[0, 0.1], [0.2, 0.3], [0.4, 0.5]], xlabel="share", highlight=["a"]
    )
    assert len(fig.axes[0].collections[1].get_offsets()) == 2
