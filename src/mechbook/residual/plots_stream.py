"""Figures of the stream: attribution, composition, and from the ground floor those by depth."""

from __future__ import annotations

import textwrap

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from mechbook import plotting
from mechbook.depth_plots import by_depth, lens_grid
from mechbook.residual.decomposition import Attribution
from mechbook.residual.subspaces import SIDES, Composition

__all__ = ["attribution_bars", "by_depth", "composition_maps", "lens_grid"]


@plotting.style()
def attribution_bars(table: Attribution, kind: str, title: str = "") -> Figure:
    """What each component adds to the next word's logit and to the favorite's.

    Raises:
        ValueError: a kind of position that the table does not have.
    """
    if kind not in table.kinds:
        raise ValueError(f"kind {kind!r}; there are {', '.join(table.kinds)}")
    column, places = table.kinds.index(kind), np.arange(len(table.names))
    fig = plotting.figure("page", 6.2)
    ax = fig.subplots()
    series = {
        "the word that came next": (table.answer, -0.2, plotting.COLORS[0]),
        "the current word's favorite": (table.favorite, 0.2, plotting.COLORS[1]),
    }
    for label, (values, shift, color) in series.items():
        ax.barh(places + shift, values[:, column].numpy(), height=0.4, color=color, label=label)
    ax.axvline(0, color=plotting.INK, linewidth=0.8)
    ax.set_yticks(places, table.names)
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    low = min(float(table.answer.min()), float(table.favorite.min()))
    high = max(float(table.answer.max()), float(table.favorite.max()))
    ax.set_xlim(low - 0.1, high + 0.1)
    ax.set(xlabel="added to the logit (above the mean word)")
    ax.set_title(textwrap.fill(title, 42))
    fig.legend(loc="outside lower center", ncols=2)
    return fig


@plotting.style()
def composition_maps(found: Composition, *, early: int, late: int, title: str = "") -> Figure:
    """Composition of two layers' heads as three maps, in standard deviations from the null."""
    z = found.z.numpy()
    half = float(np.abs(z).max())
    fig = plotting.figure("page", 3.0)
    for ax, side, cells in zip(fig.subplots(1, 3, sharey=True), SIDES, z, strict=True):
        image = _cells(ax, cells, half)
        heads = range(cells.shape[1])
        ax.set_xticks(heads, [f"{late}.{head}" for head in heads])
        ax.set_title(side, fontsize=12, weight="normal", loc="center")
    writers = range(z.shape[1])
    fig.axes[0].set_yticks(writers, [f"{early}.{head}" for head in writers])
    fig.axes[0].set_ylabel("writer")
    fig.axes[1].set_xlabel("reader")
    fig.colorbar(image, ax=fig.axes, label="standard deviations", shrink=0.9)
    fig.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=13.5)
    return fig


def _cells(ax: Axes, cells: Float[np.ndarray, "row column"], half: float) -> AxesImage:
    image = ax.imshow(cells, cmap=plotting.DIVERGING, vmin=-half, vmax=half, aspect="equal")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(cells.astype(float)):
        ink = plotting.PAPER if abs(value) > 0.6 * half else plotting.INK
        ax.text(column, row, f"{round(value)}", ha="center", va="center", color=ink, fontsize=10.5)
    return image
