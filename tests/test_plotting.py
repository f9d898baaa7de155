import base64
import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mechbook import plotting

ALT = "Accuracy rises from one fifth to nine tenths with depth."
NAME = "residual_stream.lens-by-depth"


@pytest.fixture
def displayed(monkeypatch):
    shown = []
    monkeypatch.setattr(plotting, "display", lambda data, raw: shown.append(data))
    return shown


def small():
    with plotting.style():
        fig = plotting.figure("half", 2)
        fig.subplots().plot([0, 1], [1, 0])
    return fig


def pixels(file):
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGBA"))


# ------------------------------------------------------------------ names and words


@pytest.mark.parametrize(
    "name", ["lens", "a.b.c", "Residual.lens", "residual.Lens", "a. b", "", "a_.b"]
)
def test_a_name_that_is_not_chapter_dot_words_is_refused(name):
    with pytest.raises(ValueError, match="not a figure name"):
        plotting.check_name(name)


@given(
    st.from_regex(
        r"[a-z]{1,8}(_[a-z]{1,8}){0,2}\.[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,3}", fullmatch=True
    )
)
def test_every_chapter_dot_words_is_a_name(name):
    assert plotting.check_name(name) == name


@pytest.mark.parametrize(
    "alt",
    [
        "",
        "a figure",
        "Accuracy by depth.",
        "../_images/residual_stream_lens_by_depth",
        "the picture build/lens_by_depth.png of it",
        "one_long_word_without_any_space_between",
    ],
)
def test_an_alternative_text_that_says_nothing_is_refused(alt):
    with pytest.raises(ValueError, match=rf"{NAME}.*Write a sentence"):
        plotting.check_alt(alt, NAME)


def test_an_alternative_text_becomes_one_line():
    assert plotting.check_alt("  Accuracy rises\n   with every layer. ", NAME) == (
        "Accuracy rises with every layer."
    )


# ------------------------------------------------------------------ bundles


def frames(*labels, alt=ALT):
    return [plotting.Frame(b"png", f"{alt} {label}", label) for label in labels]


def test_a_plain_figure_has_no_control():
    data = plotting.bundle(NAME, frames(""))
    assert data["control"] is None
    assert base64.b64decode(data["frames"][0]["png"]) == b"png"


@pytest.mark.parametrize(
    ("labels", "label", "start", "message"),
    [
        ([], None, 0, "at least one frame"),
        (["a", "b"], None, 0, "need a label"),
        (["a", "b"], " ", 0, "needs a label"),
        (["a", "a"], "Depth", 0, "own label"),
        (["a", ""], "Depth", 0, "own label"),
        (["a", "b"], "Depth", 2, "start=2"),
        (["a", "b"], "Depth", -1, "start=-1"),
    ],
)
def test_frames_that_a_reader_could_not_tell_apart_are_refused(labels, label, start, message):
    with pytest.raises(ValueError, match=message):
        plotting.bundle(NAME, frames(*labels), label=label, start=start)


def test_frames_that_share_one_alternative_text_are_refused():
    same = [plotting.Frame(b"", ALT, "a"), plotting.Frame(b"", ALT, "b")]
    with pytest.raises(ValueError, match="own alt"):
        plotting.bundle(NAME, same, label="Depth")


# ------------------------------------------------------------------ show


def test_show_gives_the_built_page_a_bundle_and_no_html(displayed, monkeypatch):
    monkeypatch.setenv(plotting.STATIC_VARIABLE, "1")
    plotting.show(small(), name=NAME, alt=ALT, caption="By depth.")
    assert set(displayed[0]) == {plotting.FIGURE_MIME, "text/plain"}
    assert displayed[0][plotting.FIGURE_MIME]["frames"][0]["caption"] == "By depth."


def test_show_gives_a_live_notebook_an_image_with_its_words(displayed, monkeypatch):
    monkeypatch.delenv(plotting.STATIC_VARIABLE, raising=False)
    plotting.show(small(), name=NAME, alt='The "first" bar < the second.', caption="a < b")
    page = displayed[0]["text/html"]
    assert 'alt="The &quot;first&quot; bar &lt; the second."' in page
    assert "<figcaption>a &lt; b</figcaption>" in page


def test_show_closes_a_pyplot_figure(displayed):
    before = plt.get_fignums()
    plotting.show(plt.figure(figsize=(2, 2)), name=NAME, alt=ALT)
    assert plt.get_fignums() == before


def test_show_refuses_axes():
    with pytest.raises(ValueError, match="Figure is needed, Axes was given"):
        plotting.show(small().axes[0], name=NAME, alt=ALT)


@pytest.mark.parametrize(
    ("value", "static"), [("1", True), ("0", False), ("", False), ("no", False)]
)
def test_the_variable_decides(monkeypatch, value, static):
    monkeypatch.setenv(plotting.STATIC_VARIABLE, value)
    assert plotting.is_static() is static


# ------------------------------------------------------------------ style and files


def test_style_leaves_the_settings_as_they_were():
    before = dict(mpl.rcParams)
    with plotting.style():
        assert mpl.rcParams["axes.grid"]
    assert dict(mpl.rcParams) == before


def test_the_same_figure_gives_the_same_bytes():
    assert plotting.png(small()) == plotting.png(small())


def test_a_png_names_neither_date_nor_software():
    assert Image.open(io.BytesIO(plotting.png(small()))).info.keys() <= {"transparency", "dpi"}


def test_a_png_is_opaque_paper_even_if_the_figure_is_transparent():
    fig = small()
    fig.patch.set_alpha(0)
    image = pixels(plotting.png(fig))
    assert (image[..., 3] == 255).all()
    assert tuple(image[0, 0, :3]) == (255, 255, 255)


def test_a_png_has_the_size_of_the_book():
    assert Image.open(io.BytesIO(plotting.png(plotting.figure("page", 2)))).size == (660, 220)


def test_a_palette_is_used_for_few_colors_only():
    flat = plotting.png(small())
    noise = plotting.figure("half", 2)
    noise.figimage(np.random.default_rng(0).random((220, 396, 3)))
    assert Image.open(io.BytesIO(flat)).mode == "P"
    assert Image.open(io.BytesIO(plotting.png(noise))).mode == "RGB"


def luminance(color):
    channels = np.array(mpl.colors.to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_the_first_colors_stand_out_from_paper_as_graphics_must():
    for color in plotting.COLORS[:3]:
        assert (luminance(plotting.PAPER) + 0.05) / (luminance(color) + 0.05) >= 3


@pytest.mark.parametrize(("width", "height"), [("wide", 3), ("page", 0.5), ("page", 20)])
def test_sizes_outside_the_book_are_refused(width, height):
    with pytest.raises(ValueError, match=r"width|height"):
        plotting.figure(width, height)


# ------------------------------------------------------------------ shared figures

X = np.arange(4.0)
RUNS = np.arange(12.0).reshape(3, 4)
WORDS = {"xlabel": "Layer", "ylabel": "Accuracy"}


def test_the_line_is_the_mean_and_the_band_reaches_to_the_extremes():
    ax = plotting.lines_with_band(X, {"trained": RUNS}, **WORDS).axes[0]
    assert ax.lines[0].get_ydata() == pytest.approx([4, 5, 6, 7])
    edges = ax.collections[0].get_paths()[0].get_extents()
    assert (edges.ymin, edges.ymax) == (0, 11)


def test_every_seed_can_be_drawn():
    ax = plotting.lines_with_band(X, {"trained": RUNS}, spread="seeds", **WORDS).axes[0]
    assert len(ax.lines) == 3 + 1


def test_the_run_of_this_session_is_drawn_as_it_is():
    run = [3.0, 1.0, 4.0, 1.0]
    ax = plotting.lines_with_band(X, {"trained": RUNS}, live={"trained": run}, **WORDS).axes[0]
    assert any(list(line.get_ydata()) == run for line in ax.lines)


@pytest.mark.parametrize(
    ("series", "more", "message"),
    [
        ({}, {}, "none of the series"),
        ({"a": RUNS}, {"live": {"b": X}}, r"\['b'\] are none"),
        ({"a": RUNS[:, :2]}, {}, "2 entries, but there are 4 points"),
        ({"a": RUNS * np.nan}, {}, "12 values that are not finite"),
        ({"a": RUNS[None]}, {}, "2 non-empty axes"),
        ({str(k): RUNS for k in range(8)}, {}, "at most 7"),
        ({"a": RUNS}, {"spread": "bars"}, "'band' or 'seeds'"),
    ],
)
def test_lines_that_cannot_be_drawn_are_refused(series, more, message):
    with pytest.raises(ValueError, match=message):
        plotting.lines_with_band(X, series, **more, **WORDS)


def test_tensors_that_require_gradients_can_be_drawn():
    values = torch.ones(2, 3, requires_grad=True)
    assert plotting.heatmap(values).axes[0].images[0].get_array().shape == (2, 3)


def test_diverging_colors_are_white_at_zero():
    image = plotting.heatmap([[-1.0, 0.0], [0.5, 4.0]], diverging=True).axes[0].images[0]
    assert image.norm(0.0) == 0.5
    assert min(image.cmap(0.5)[:3]) > 0.95


def test_cells_carry_their_numbers():
    fig = plotting.heatmap([[0.123, 1.0]], numbers=".2f", rows=["a"], columns=["x", "y"])
    assert [text.get_text() for text in fig.axes[0].texts] == ["0.12", "1.00"]


@pytest.mark.parametrize(
    ("values", "more", "message"),
    [
        ([[1.0, 2.0]], {"rows": ["a", "b"]}, "2 entries, but there are 1 rows"),
        ([[1.0, 2.0]], {"columns": ["a"]}, "1 entries, but there are 2 columns"),
        ([[np.inf]], {}, "not finite"),
        ([[]], {}, "non-empty"),
        ([[1.0]], {"limit": 3.0}, "pair"),
        ([[1.0]], {"limit": (0, 1), "diverging": True}, "one number"),
    ],
)
def test_matrices_that_cannot_be_drawn_are_refused(values, more, message):
    with pytest.raises(ValueError, match=message):
        plotting.heatmap(values, **more)


def test_bars_stand_in_order_with_their_lengths():
    ax = plotting.bars(["a", "b"], [2.0, -1.0], xlabel="logit", highlight=["b"]).axes[0]
    assert [bar.get_width() for bar in ax.patches] == [2.0, -1.0]
    assert ax.yaxis_inverted()
    assert mpl.colors.to_hex(ax.patches[1].get_facecolor()).upper() == plotting.COLORS[1]


@pytest.mark.parametrize(
    ("values", "more", "message"),
    [
        ([1.0], {}, "1 entries, but there are 2 names"),
        ([1.0, 2.0], {"highlight": ["c"]}, "no bars"),
        ([1.0, 2.0], {"spread": [[1.0], [2.0]]}, "1 entries, but there are 2 names"),
    ],
)
def test_bars_that_do_not_fit_are_refused(values, more, message):
    with pytest.raises(ValueError, match=message):
        plotting.bars(["a", "b"], values, xlabel="logit", **more)


def test_measured_values_are_marked_on_the_null():
    ax = plotting.histogram_against_null(X, {"a": 7.0, "b": 8.0}, xlabel="overlap").axes[0]
    assert [line.get_xdata()[0] for line in ax.lines] == [7.0, 8.0]
    assert sum(bar.get_height() for bar in ax.patches) == len(X)


def test_grouped_bars_stand_side_by_side_with_their_heights():
    series = {"one": [1.0, 2.0], "two": [3.0, np.nan]}
    fig = plotting.grouped_bars(["a", "b"], series, ylabel="nats", references={"chance": 0.5})
    ax = fig.axes[0]
    heights = [bar.get_height() for bar in ax.patches]
    assert heights[:3] == [1, 2, 3]
    assert np.isnan(heights[3])
    middle = np.mean([ax.patches[i].get_x() + ax.patches[i].get_width() / 2 for i in (0, 2)])
    assert middle == pytest.approx(0)
    assert {text.get_text() for text in ax.texts} >= {"1.00", "2.00", "3.00"}
    assert ax.lines[0].get_ydata()[0] == 0.5


def test_grouped_bars_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="series 'one'"):
        plotting.grouped_bars(["a", "b"], {"one": [1.0]}, ylabel="nats")


def test_the_null_bars_cover_the_middle_nine_tenths():
    null = np.arange(101.0)[:, None]
    ax = plotting.scatter_null([0.0], [3.0], null, xlabel="head", ylabel="overlap").axes[0]
    low, high = ax.collections[0].get_segments()[0][:, 1]
    assert (low, high) == (5.0, 95.0)


@pytest.mark.parametrize(
    ("measured", "null", "message"),
    [([1.0], [[1.0, 2.0]], "measured has 1"), ([1.0, 2.0], [[1.0]], "null has 1")],
)
def test_a_null_for_other_points_is_refused(measured, null, message):
    with pytest.raises(ValueError, match=message):
        plotting.scatter_null([0.0, 1.0], measured, null, xlabel="head", ylabel="overlap")


@pytest.mark.parametrize("width", ["page", "half"])
def test_a_long_title_stays_inside_the_figure(width):
    title = "Writers of the first layer overlap with the readers of the second far above chance"
    names = ["the multilayer perceptron", "head"]
    fig = plotting.bars(names, [1.0, 2.0], xlabel="logit", title=title, width=width)
    fig.canvas.draw()
    box = fig.texts[0].get_window_extent()
    assert fig.texts[0].get_text().replace("\n", " ") == title
    assert box.x0 >= 0
    assert box.x1 <= fig.bbox.x1
