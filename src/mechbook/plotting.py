"""The book's drawing style, the few figures that chapters share, and the one way to show a figure.

Drawing functions take arrays, return a `matplotlib.figure.Figure` and compute nothing that is a
result. They never touch pyplot, so nothing is drawn twice and no figure is left open.
"""

from __future__ import annotations

import base64
import html
import io
import os
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from cycler import cycler
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageChops, ImageStat

FIGURE_MIME = "application/vnd.mechbook.figure+json"
STATIC_VARIABLE = "MECHBOOK_STATIC"

PAPER = "#ffffff"
INK = "#1d2733"
GREY = "#8a8f98"
# Okabe & Ito (2008), without the yellow that vanishes on white, the strongest contrasts first.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SEQUENTIAL = "cividis"
DIVERGING = "RdBu_r"

DPI = 110
WIDTHS: dict[str, float] = {"page": 6.0, "half": 3.6}  # inches: 660 and 396 pixels
SHORTEST_ALT = 20

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*\.[a-z0-9]+(-[a-z0-9]+)*")
_FILE = re.compile(r"\S\.(png|jpe?g|gif|svg|webp|pdf|ipynb|py)\b", re.IGNORECASE)


def is_static() -> bool:
    """Whether the page is being built, so that outputs must work without a kernel.

    The build sets `MECHBOOK_STATIC=1`; nothing else in the project reads that variable.
    """
    return os.environ.get(STATIC_VARIABLE, "").strip().lower() not in {"", "0", "false", "no"}


# ---------------------------------------------------------------------------- style


@contextmanager
def style() -> Iterator[None]:
    """The book's matplotlib settings, as a context or as a decorator (`@style()`).

    Letters are large enough to be read when a phone shrinks a page-wide figure to 330 pixels.
    """
    settings: Any = {
        "axes.axisbelow": True,
        "axes.edgecolor": INK,
        "axes.grid": True,
        "axes.labelcolor": INK,
        "axes.labelsize": 12.5,
        "axes.prop_cycle": cycler(color=COLORS),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 13.5,
        "axes.titleweight": "bold",
        "figure.constrained_layout.use": True,
        "figure.dpi": DPI,
        "figure.facecolor": PAPER,
        "font.family": "DejaVu Sans",
        "font.size": 12.5,
        "grid.color": "#e3e6ea",
        "image.cmap": SEQUENTIAL,
        "legend.fontsize": 12,
        "legend.frameon": False,
        "lines.linewidth": 2.0,
        "savefig.facecolor": PAPER,
        "text.color": INK,
        "xtick.color": INK,
        "xtick.labelsize": 12,
        "ytick.color": INK,
        "ytick.labelsize": 12,
    }
    with mpl.rc_context(settings):
        yield


@style()
def figure(width: Literal["page", "half"] = "page", height: float = 3.4) -> Figure:
    """An empty figure of one of the book's two widths.

    Make its axes inside `style()` too (decorate the drawing function with `@style()`).

    Args:
        width: `"page"` (6 inches) or `"half"` (3.6 inches).
        height: Inches.

    Raises:
        ValueError: For another width, or a height outside 1 to 12 inches.
    """
    if width not in WIDTHS:
        raise ValueError(f"width={width!r} is not a width of the book: use 'page' or 'half'.")
    if not 1 <= height <= 12:
        raise ValueError(f"height={height!r} inches is not between 1 and 12.")
    return Figure(figsize=(WIDTHS[width], height), layout="constrained")


def png(fig: Figure, dpi: int = DPI) -> bytes:
    """The figure as an opaque PNG file, the same bytes for the same figure.

    A palette of 256 colors is used where the eye cannot tell and the file gets smaller.

    Args:
        fig: The figure.
        dpi: Dots per inch.
    """
    raw = io.BytesIO()
    fig.savefig(raw, format="png", dpi=dpi, facecolor=PAPER, metadata={"Software": None})
    full = Image.open(raw).convert("RGB")
    few = full.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    choices = [_encode(full)] + ([_encode(few)] if _alike(full, few.convert("RGB")) else [])
    return min(choices, key=len)


def _encode(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()


def _alike(one: Image.Image, other: Image.Image) -> bool:
    """Whether two images differ by less than can be seen (of 255: mean < 0.5, nowhere > 64)."""
    difference = ImageChops.difference(one, other)
    worst = max(high for _, high in difference.getextrema())  # type: ignore[misc]
    return worst <= 64 and max(ImageStat.Stat(difference).mean) < 0.5


# ---------------------------------------------------------------------------- showing


@dataclass(frozen=True)
class Frame:
    """One picture of a figure.

    Attributes:
        png: The image file's bytes.
        alt: What the picture shows, in words.
        label: The slider's text for this frame ("" for a figure of one frame).
        caption: The line below the picture; `$...$` is mathematics.
    """

    png: bytes
    alt: str
    label: str = ""
    caption: str = ""


def check_name(name: str) -> str:
    """Return `name` if it is a figure's name, `chapter.kebab-words`; else raise ValueError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a figure name: write <chapter>.<words-with-hyphens> in lower case, "
            "such as 'residual_stream.lens-by-depth'."
        )
    return name


def check_alt(alt: str, name: str) -> str:
    """Return the alternative text if it can stand for the picture; else raise ValueError.

    Args:
        alt: The text: at least 20 characters and four words, and no file name in it.
        name: The figure's name, for the message.
    """
    text = " ".join(str(alt).split())
    if len(text) < SHORTEST_ALT or len(text.split(" ")) < 4 or _FILE.search(text):
        raise ValueError(
            f"{name}: alt={alt!r} does not say what the picture shows. Write a sentence with the "
            f"finding ({SHORTEST_ALT} characters and four words or more, no file name)."
        )
    return text


def bundle(
    name: str, frames: Sequence[Frame], *, label: str | None = None, start: int = 0
) -> dict[str, Any]:
    """The figure as the JSON that travels in a notebook's output to the page.

    Args:
        name: The figure's name, `chapter.kebab-words`.
        frames: One or more pictures.
        label: What the slider chooses; None for a plain figure of one frame.
        start: The position of the frame that is shown first.

    Raises:
        ValueError: For a bad name, alternative text, label or start.
    """
    check_name(name)
    if not frames:
        raise ValueError(f"{name}: a figure needs at least one frame, none was given.")
    if not 0 <= start < len(frames):
        raise ValueError(f"{name}: start={start} is none of the {len(frames)} frames (0 is first).")
    if label is None and len(frames) > 1:
        raise ValueError(f"{name}: {len(frames)} frames need a label for their slider.")
    if label is not None:
        _check_labels(name, label, frames)
    return {
        "name": name,
        "control": None if label is None else {"label": label, "kind": "range"},
        "start": start,
        "frames": [
            {
                "png": base64.b64encode(frame.png).decode("ascii"),
                "alt": check_alt(frame.alt, name),
                "label": frame.label,
                "caption": frame.caption,
            }
            for frame in frames
        ],
    }


def _check_labels(name: str, label: str, frames: Sequence[Frame]) -> None:
    if not label.strip():
        raise ValueError(f"{name}: the slider needs a label that says what it chooses.")
    for field in ("label", "alt"):
        texts = [getattr(frame, field).strip() for frame in frames]
        twice = sorted({text for text in texts if texts.count(text) > 1 or not text})
        if twice:
            raise ValueError(
                f"{name}: each frame needs its own {field}, but these are empty or occur twice: "
                f"{twice[:3]}. Make it depend on the value."
            )


def figure_html(frame: Frame) -> str:
    """One frame as HTML with the image inside, for a live notebook."""
    source = base64.b64encode(frame.png).decode("ascii")
    caption = f"<figcaption>{html.escape(frame.caption)}</figcaption>" if frame.caption else ""
    return (
        f'<figure style="margin:0"><img alt="{html.escape(frame.alt, quote=True)}" '
        f'src="data:image/png;base64,{source}" style="max-width:100%;height:auto;'
        f'background:{PAPER}">{caption}</figure>'
    )


def show(fig: Figure, *, name: str, alt: str, caption: str = "") -> None:
    """Show a figure: a file beside the built page, an inline image in a live notebook.

    Args:
        fig: The figure; it is closed afterwards.
        name: `chapter.kebab-words`; the page links to it, `` {numref}`name` `` in the prose.
        alt: A sentence that states what the picture shows, 20 characters or more.
        caption: The line below the picture; `$...$` is mathematics.

    Raises:
        ValueError: For a bad name or alternative text, or something that is no figure.
    """
    check_name(name)
    check_figure(fig, name)
    frame = Frame(png(fig), check_alt(alt, name), caption=caption)
    close(fig)
    data: dict[str, Any] = {"text/plain": f"[Figure {name}: {frame.alt}]"}
    if is_static():
        data[FIGURE_MIME] = bundle(name, [frame])
    else:
        data["text/html"] = figure_html(frame)
    display(data, raw=True)


def check_figure(fig: object, name: str) -> Figure:
    """Return `fig` if it is a matplotlib figure; else raise ValueError."""
    if not isinstance(fig, Figure):
        raise ValueError(
            f"{name}: a matplotlib Figure is needed, {type(fig).__name__} was given; "
            "return the figure from the drawing function (not its axes)."
        )
    return fig


def close(fig: Figure) -> None:
    """Close a figure that pyplot may hold, so that it is not drawn a second time."""
    import matplotlib.pyplot as plt

    plt.close(fig)


# ---------------------------------------------------------------------------- shared figures


def _array(values: Any, what: str, ndim: int) -> NDArray[np.float64]:
    """`values` (array, list or tensor) as finite floats with `ndim` axes; else ValueError."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{what} has shape {array.shape}; {ndim} non-empty axes are needed.")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise ValueError(f"{what} holds {bad} values that are not finite; drop or mask them first.")
    return array


def _same_length(what: str, given: int, wanted: int, of: str) -> None:
    if given != wanted:
        raise ValueError(f"{what} has {given} entries, but there are {wanted} {of}.")


def _text(fig: Figure, ax: Axes, xlabel: str, ylabel: str, title: str) -> None:
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if title:
        headline(fig, title)


def headline(fig: Figure, title: str) -> None:
    """The finding above a figure, at its left, in as many lines as its width asks for."""
    lines = textwrap.fill(title, int(8.2 * fig.get_figwidth()), break_long_words=False)
    size, weight = mpl.rcParams["axes.titlesize"], mpl.rcParams["axes.titleweight"]
    fig.suptitle(lines, x=0.012, ha="left", fontsize=size, fontweight=weight)


def _legend(fig: Figure, ax: Axes) -> None:
    """The legend below the axes, where it covers no data."""
    handles, names = ax.get_legend_handles_labels()
    columns = len(names)
    while columns > 1 and max(map(len, names)) * columns > 6 * fig.get_figwidth():
        columns -= 1
    fig.legend(handles, names, loc="outside lower center", ncols=columns, columnspacing=1.4)


@style()
def lines_with_band(
    x: ArrayLike,
    series: Mapping[str, ArrayLike],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    live: Mapping[str, ArrayLike] | None = None,
    references: Mapping[str, float] | None = None,
    spread: Literal["band", "seeds"] = "band",
    xscale: str = "linear",
    yscale: str = "linear",
    width: Literal["page", "half"] = "page",
    height: float = 3.6,
) -> Figure:
    """Mean curves over seeds with their spread, and the run made just now on top.

    Args:
        x: Positions, [point].
        series: For each name the runs, [seed, point] (or [point] for a single run).
        xlabel: Horizontal axis, with unit.
        ylabel: Vertical axis, with unit.
        title: The finding.
        live: For some of the names the run of this very session, [point], drawn dashed and dark.
        references: Named horizontal lines, such as chance.
        spread: `"band"` fills from the lowest to the highest seed, `"seeds"` draws each thin.
        xscale: Matplotlib's name of the scale.
        yscale: Matplotlib's name of the scale.
        width: The book's width.
        height: Inches.

    Raises:
        ValueError: For shapes that do not fit, values that are not finite, unknown live names.
    """
    points = _array(x, "x", 1)
    unknown = sorted(set(live or {}) - set(series))
    if unknown or not series:
        raise ValueError(f"live names {unknown} are none of the series {sorted(series)}.")
    if spread not in ("band", "seeds"):
        raise ValueError(f"spread={spread!r}: use 'band' or 'seeds'.")
    fig = figure(width, height)
    ax = fig.subplots()
    for (name, values), color in zip(series.items(), _colors(len(series)), strict=True):
        runs = _array(np.atleast_2d(_plain(values)), f"series {name!r}", 2)
        _same_length(f"series {name!r}", runs.shape[1], len(points), "points")
        _draw_runs(ax, points, runs, name, color, spread)
        if live and name in live:
            run = _array(live[name], f"live {name!r}", 1)
            _same_length(f"live {name!r}", len(run), len(points), "points")
            ax.plot(points, run, color=INK, linestyle=(0, (4, 2)), linewidth=1.8, zorder=4)
            ax.plot(points, run, "o", color=color, markeredgecolor=INK, markersize=5, zorder=5)
    if live:
        ax.plot([], [], color=INK, linestyle=(0, (4, 2)), label="this run")
    for name, value in (references or {}).items():
        ax.axhline(value, color=GREY, linestyle=":", linewidth=1.6, label=name)
    ax.set(xscale=xscale, yscale=yscale)
    if xscale == "log":
        _name_points(ax, points)
    _text(fig, ax, xlabel, ylabel, title)
    if len(series) > 1 or live or references:
        _legend(fig, ax)
    return fig


def _name_points(ax: Axes, points: NDArray[Any]) -> None:
    """Tick few points of a short logarithmic axis, where powers of ten alone would not do."""
    if len(points) <= 8 and points.min() > 0 and points.max() < 100 * points.min():
        ax.set_xticks(points, [f"{point:g}" for point in points])
        ax.minorticks_off()


def _plain(values: Any) -> Any:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values


def _colors(number: int) -> list[str]:
    if number > len(COLORS):
        raise ValueError(
            f"{number} series cannot be told apart by color; draw at most {len(COLORS)} a figure."
        )
    return list(COLORS[:number])


def _draw_runs(
    ax: Axes, x: NDArray[Any], runs: NDArray[Any], name: str, color: str, spread: str
) -> None:
    if len(runs) > 1 and spread == "band":
        ax.fill_between(x, runs.min(0), runs.max(0), color=color, alpha=0.2, linewidth=0)
    elif len(runs) > 1:
        ax.plot(x, runs.T, color=color, alpha=0.35, linewidth=0.9)
    ax.plot(x, runs.mean(0), color=color, label=name)


@style()
def heatmap(
    values: ArrayLike,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    unit: str = "",
    diverging: bool = False,
    limit: float | tuple[float, float] | None = None,
    numbers: str | None = None,
    width: Literal["page", "half"] = "page",
    height: float = 3.8,
) -> Figure:
    """A matrix as colored cells.

    Args:
        values: [row, column].
        rows: Labels of the rows, at most all of them.
        columns: Labels of the columns.
        xlabel: What the columns are.
        ylabel: What the rows are.
        title: The finding.
        unit: What the colors mean, written at the color bar.
        diverging: Two-sided colors with white at zero.
        limit: The colors' range: (low, high), or one number for plus and minus it if diverging.
        numbers: A format such as `".2f"` writes the value into each cell.
        width: The book's width.
        height: Inches.

    Raises:
        ValueError: For labels that do not fit, values that are not finite, a limit of the wrong kind.
    """
    cells = _array(values, "values", 2)
    fig = figure(width, height)
    ax = fig.subplots()
    image = ax.imshow(
        cells,
        aspect="auto",
        interpolation="nearest",
        cmap=DIVERGING if diverging else SEQUENTIAL,
        norm=_norm(cells, diverging, limit),
    )
    ax.grid(False)
    ax.spines[:].set_visible(False)
    for axis, labels, size in ((ax.yaxis, rows, 0), (ax.xaxis, columns, 1)):
        if labels is not None:
            _same_length("the labels", len(labels), cells.shape[size], ("rows", "columns")[size])
            axis.set_ticks(range(len(labels)), labels)
        else:
            axis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    if numbers is not None:
        _write_cells(ax, image, cells, numbers)
    fig.colorbar(image, ax=ax, label=unit, shrink=0.9)
    _text(fig, ax, xlabel, ylabel, title)
    return fig


def _norm(
    cells: NDArray[Any], diverging: bool, limit: float | tuple[float, float] | None
) -> Normalize:
    if diverging:
        if isinstance(limit, tuple):
            raise ValueError(f"limit={limit}: diverging colors take one number, their half range.")
        half = float(np.abs(cells).max()) if limit is None else limit
        return CenteredNorm(0.0, half or 1.0)
    if limit is not None and not isinstance(limit, tuple):
        raise ValueError(f"limit={limit}: sequential colors take a pair (low, high).")
    return Normalize(*(limit or (float(cells.min()), float(cells.max()))))


def _write_cells(ax: Axes, image: Any, cells: NDArray[Any], numbers: str) -> None:
    for (row, column), value in np.ndenumerate(cells):
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        ax.text(
            column,
            row,
            format(value, numbers),
            ha="center",
            va="center",
            fontsize=10.5,
            color=PAPER if dark else INK,
        )


@style()
def bars(
    names: Sequence[str],
    values: ArrayLike,
    *,
    xlabel: str,
    title: str = "",
    spread: ArrayLike | None = None,
    highlight: Sequence[str] = (),
    references: Mapping[str, float] | None = None,
    width: Literal["page", "half"] = "page",
    height: float | None = None,
) -> Figure:
    """Named values as horizontal bars, the first on top.

    Args:
        names: One label a bar.
        values: [bar].
        xlabel: What the length means, with unit.
        title: The finding.
        spread: [2, bar]: each bar's lowest and highest seed, drawn as a whisker.
        highlight: Names whose bars take the second color.
        references: Named vertical lines.
        width: The book's width.
        height: Inches; by default it grows with the number of bars.

    Raises:
        ValueError: For lengths that do not fit, values that are not finite, unknown names.
    """
    lengths = _array(values, "values", 1)
    _same_length("values", len(lengths), len(names), "names")
    unknown = sorted(set(highlight) - set(names))
    if unknown:
        raise ValueError(f"highlight names {unknown}, which are no bars: {list(names)}.")
    fig = figure(width, height or min(12.0, 1.5 + 0.32 * len(names)))
    ax = fig.subplots()
    places = np.arange(len(names))
    colors = [COLORS[1] if name in highlight else COLORS[0] for name in names]
    ax.barh(places, lengths, color=colors, height=0.7)
    if spread is not None:
        low, high = _array(spread, "spread", 2)
        _same_length("spread", len(low), len(names), "names")
        ax.hlines(places, low, high, color=INK, linewidth=1.6)
    for name, value in (references or {}).items():
        ax.axvline(value, color=GREY, linestyle=":", linewidth=1.8, label=name)
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    _text(fig, ax, xlabel, "", title)
    if references:
        _legend(fig, ax)
    return fig


@style()
def grouped_bars(
    groups: Sequence[str],
    series: Mapping[str, ArrayLike],
    *,
    ylabel: str,
    xlabel: str = "",
    title: str = "",
    references: Mapping[str, float] | None = None,
    numbers: str = ".2f",
) -> Figure:
    """Bars side by side for each group, with their values above them.

    Args:
        groups: Labels along the axis.
        series: For each name a value a group; none is drawn where it is not a number.
        ylabel: What the height means, with unit.
        xlabel: What the groups are.
        title: The finding.
        references: Named horizontal lines.
        numbers: Format of the values.

    Raises:
        ValueError: For lengths that do not fit.
    """
    fig = figure("page", 4.0)
    ax = fig.subplots()
    width, letters = 0.8 / len(series), 64 // len(groups)
    size = 11 if len(groups) * len(series) <= 10 else 9
    for i, (name, values) in enumerate(series.items()):
        heights = np.asarray(values, dtype=float)
        _same_length(f"series {name!r}", len(heights), len(groups), "groups")
        places = np.arange(len(groups)) + (i - (len(series) - 1) / 2) * width
        drawn = ax.bar(places, heights, width * 0.95, label=name)
        ax.bar_label(drawn, fmt=f"{{:{numbers}}}", fontsize=size, padding=2)
    for name, value in (references or {}).items():
        ax.axhline(value, color=GREY, linestyle=":", linewidth=1.8, label=name)
    wrapped = [textwrap.fill(group, letters, break_long_words=False) for group in groups]
    ax.set_xticks(range(len(groups)), wrapped)
    ax.grid(False, axis="x")
    ax.margins(y=0.15)
    _text(fig, ax, xlabel, ylabel, title)
    if len(series) > 1 or references:
        _legend(fig, ax)
    return fig


@style()
def histogram_against_null(
    null: ArrayLike,
    measured: float | Mapping[str, float],
    *,
    xlabel: str,
    title: str = "",
    null_name: str = "null",
    bins: int = 30,
    width: Literal["page", "half"] = "page",
    height: float = 3.4,
) -> Figure:
    """What chance gives as a histogram, and what was measured as marked lines.

    Args:
        null: Values under the null, [sample].
        measured: The measured value, or several with their names.
        xlabel: What is measured, with unit.
        title: The finding.
        null_name: What the null is, such as "random matrices".
        bins: Number of bins.
        width: The book's width.
        height: Inches.

    Raises:
        ValueError: For values that are not finite, an empty null, too many measured values.
    """
    samples = _array(null, "null", 1)
    named = dict(measured) if isinstance(measured, Mapping) else {"measured": float(measured)}
    marks = _array(list(named.values()), "measured", 1)
    fig = figure(width, height)
    ax = fig.subplots()
    ax.hist(samples, bins=bins, color="#b9c0c9", label=f"{null_name} ({len(samples)} samples)")
    for name, value, color in zip(named, marks, _colors(len(named)), strict=True):
        ax.axvline(value, color=color, linewidth=2.4, label=f"{name}: {value:.3g}")
    _text(fig, ax, xlabel, "samples", title)
    _legend(fig, ax)
    return fig


@style()
def scatter_null(
    x: ArrayLike,
    measured: ArrayLike,
    null: ArrayLike,
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    names: Sequence[str] | None = None,
    null_name: str = "null, 5th to 95th percentile",
    width: Literal["page", "half"] = "page",
    height: float = 3.6,
) -> Figure:
    """Measured points, each over the range that its own null covers.

    Args:
        x: Positions, [point].
        measured: [point].
        null: [sample, point].
        xlabel: Horizontal axis, with unit.
        ylabel: Vertical axis, with unit.
        title: The finding.
        names: Tick labels at `x`.
        null_name: What the grey bars are.
        width: The book's width.
        height: Inches.

    Raises:
        ValueError: For shapes that do not fit or values that are not finite.
    """
    places, values, samples = (
        _array(x, "x", 1),
        _array(measured, "measured", 1),
        _array(null, "null", 2),
    )
    _same_length("measured", len(values), len(places), "positions")
    _same_length("null", samples.shape[1], len(places), "positions")
    fig = figure(width, height)
    ax = fig.subplots()
    low, high = np.percentile(samples, [5, 95], axis=0)
    ax.vlines(places, low, high, color="#b9c0c9", linewidth=7, label=null_name)
    ax.plot(places, values, "o", color=COLORS[1], markersize=7, label="measured")
    if names is not None:
        _same_length("names", len(names), len(places), "positions")
        ax.set_xticks(places, names)
    _text(fig, ax, xlabel, ylabel, title)
    _legend(fig, ax)
    return fig
