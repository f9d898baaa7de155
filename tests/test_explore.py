import asyncio
import json
import re

import ipywidgets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechbook import explore, plotting
from mechbook.explore import Debouncer, Example, FrameCache

NAME = "residual_stream.lens"
ALT = "A line that rises to {value} at {label}, and no further."


@pytest.fixture
def displayed(monkeypatch):
    shown = []
    monkeypatch.setattr(explore, "display", lambda data, raw=False: shown.append(data))
    return shown


@pytest.fixture
def static(monkeypatch):
    monkeypatch.setenv(plotting.STATIC_VARIABLE, "1")


@pytest.fixture
def live(monkeypatch):
    monkeypatch.delenv(plotting.STATIC_VARIABLE, raising=False)


def draw(value):
    fig = plotting.figure("half", 1.5)
    fig.subplots().plot([0, value])
    return fig


# ------------------------------------------------------------------ explore, built page


@pytest.mark.usefixtures("static")
def test_the_page_gets_one_frame_a_value(displayed):
    explore.explore(
        draw,
        [1, 2, 3],
        name=NAME,
        label="Depth",
        alt=ALT,
        caption=lambda value: f"$x_{{{value}}}$",
        labels=["one", "two", "three"],
        start=1,
    )
    data = displayed[0][plotting.FIGURE_MIME]
    assert data["control"] == {"label": "Depth", "kind": "range"}
    assert data["start"] == 1
    assert [frame["label"] for frame in data["frames"]] == ["one", "two", "three"]
    assert data["frames"][2]["alt"] == "A line that rises to 3 at three, and no further."
    assert data["frames"][2]["caption"] == "$x_{3}$"
    assert len({frame["png"] for frame in data["frames"]}) == 3


@pytest.mark.usefixtures("static")
def test_braces_of_mathematics_stay_in_a_caption(displayed):
    explore.explore(
        draw, [1, 2], name=NAME, label="k", alt=ALT, caption=r"$\frac{a}{b}$ at {value}"
    )
    frames = displayed[0][plotting.FIGURE_MIME]["frames"]
    assert frames[1]["caption"] == r"$\frac{a}{b}$ at 2"


@pytest.mark.usefixtures("static")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "lens"}, "not a figure name"),
        ({"values": []}, "0 values were given; a slider holds 1 to 60"),
        ({"values": list(range(61))}, "61 values were given"),
        ({"labels": ["a"]}, "1 labels for 2 values"),
        ({"labels": ["a", "a"]}, r"labels \['a'\] occur twice"),
        ({"start": 2}, "start=2 is none of the 2 values"),
        ({"alt": "the same sentence for every frame"}, "own alt"),
        ({"alt": "{value}"}, "Write a sentence"),
        ({"alt": "A line that rises to {value:.2f} and no further."}, "function of the value"),
        ({"draw": lambda value: value}, "Figure is needed, int was given"),
        ({"label": ""}, "slider needs a label"),
    ],
)
def test_what_cannot_become_a_slider_is_refused(change, message):
    given = {"draw": draw, "values": [1, 2], "name": NAME, "label": "Depth", "alt": ALT} | change
    with pytest.raises(ValueError, match=message):
        explore.explore(given.pop("draw"), given.pop("values"), **given)


# ------------------------------------------------------------------ explore, live notebook


@pytest.mark.usefixtures("live")
def test_a_live_notebook_gets_widgets_that_redraw(displayed):
    explore.explore(draw, [1, 2, 3], name=NAME, label="Depth", alt=ALT)
    controls, picture = displayed[0].children
    play, slider = controls.children
    assert isinstance(play, ipywidgets.Play)
    assert (play.max, slider.description, slider.label) == (2, "Depth", "1")
    slider.index = 2  # outside an event loop the debouncer does not wait
    assert "rises to 3 at 3" in picture.value
    slider.index = 0
    assert "rises to 1 at 1" in picture.value


@pytest.mark.usefixtures("live")
def test_a_live_notebook_draws_only_what_is_looked_at(displayed):
    drawn = []
    explore.explore(
        lambda value: drawn.append(value) or draw(value),
        range(9),
        name=NAME,
        label="k",
        alt=ALT,
        start=4,
    )
    slider = displayed[0].children[0].children[1]
    slider.index = 5
    slider.index = 4
    slider.index = 5
    assert drawn == [4, 5]


@pytest.mark.usefixtures("live")
def test_an_error_while_redrawing_is_shown_to_the_reader(displayed):
    explore.explore(lambda value: draw(1 / value), [1, 0], name=NAME, label="k", alt=ALT)
    controls, picture = displayed[0].children
    controls.children[1].index = 1
    assert "0: ZeroDivisionError" in picture.value


def test_only_the_newest_value_is_computed_when_many_come_at_once():
    seen = []

    async def drag():
        later = Debouncer(seen.append, delay=0.02)
        for value in range(50):
            later(value)
            await asyncio.sleep(0)
        before = list(seen)
        await asyncio.sleep(0.1)
        return before

    assert asyncio.run(drag()) == []
    assert seen == [49]


def test_values_far_apart_are_all_computed():
    seen = []

    async def click():
        later = Debouncer(seen.append, delay=0.001)
        for value in range(3):
            later(value)
            await asyncio.sleep(0.1)

    asyncio.run(click())
    assert seen == [0, 1, 2]


def test_a_cancelled_value_is_never_computed():
    seen = []

    async def change_of_mind():
        later = Debouncer(seen.append, delay=0.01)
        later(1)
        later.cancel()
        await asyncio.sleep(0.05)

    asyncio.run(change_of_mind())
    assert seen == []


@given(st.lists(st.integers(0, 6), max_size=40), st.integers(1, 5))
def test_the_cache_keeps_just_the_frames_used_last(wanted, size):
    cache = FrameCache(lambda index: plotting.Frame(b"", str(index)), size)
    for index in wanted:
        assert cache[index].alt == str(index)
    recent = list(dict.fromkeys(reversed(wanted)))[:size]
    assert {index for index in range(7) if index in cache} == set(recent)


# ------------------------------------------------------------------ switchboard

PARTS = {"input": ["embedding"], "layer 0": ["head 0.0", "mlp 0"]}
BOARD = {
    "components": PARTS,
    "outputs": ["a", "b"],
    "name": "residual_stream.board",
    "alt": "Without head 0.0 the sum no longer predicts b.",
}
VALUES = [[1.0, 0.0], [0.0, 3.0], [0.5, -0.5]]


def board(values=VALUES, **change):
    example = Example(["x", "\n"], values, "b")
    return explore.switchboard_bundle([example], **(BOARD | change))


def test_all_and_none_are_always_among_the_presets():
    presets = board(presets={"Only the input": ["embedding"]})["presets"]
    assert presets == [
        {"name": "All", "on": [0, 1, 2]},
        {"name": "None", "on": []},
        {"name": "Only the input", "on": [0]},
    ]


@settings(max_examples=30)
@given(st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=6))
def test_contributions_keep_four_digits(numbers):
    kept = np.array(board(np.reshape(numbers, (3, 2)))["examples"][0]["values"]).ravel()
    np.testing.assert_allclose(kept, numbers, rtol=5.1e-4, atol=1e-300)


def test_without_script_the_table_shows_every_component_on():
    page = explore.switchboard_html(board())
    table = re.findall(
        r'<span class="mb-token">(.)</span>.*?number">([-\d.]+)<.*?number">([-\d.]+)<', page
    )
    assert table == [("b", "2.50", "0.73"), ("a", "1.50", "0.27")]
    assert "Top prediction: <strong>b</strong> (p = 0.73), correct. 3 of 3 components on." in page


def test_the_correct_output_is_drawn_even_when_it_is_not_among_the_highest():
    data = board([[9.0, 0.0]] * 3, shown=1)
    page = explore.switchboard_html(data)
    assert re.findall(r'scope="row"><span class="mb-token">(.)<', page) == ["b"]
    assert "<strong>a</strong>" in page
    assert "not the correct one" in page


def test_texts_cannot_break_out_of_the_page():
    data = board(outputs=["</script><b>", "b"], components={"<i>": ['"x"', "b", "c"]})
    page = explore.switchboard_html(data)
    inside = re.search(r'<script type="application/json" class="mb-data">(.*?)</script>', page)
    assert json.loads(inside[1])["outputs"][0] == "</script><b>"
    assert "<b>" not in page
    assert "<i>" not in page


def test_invisible_tokens_are_drawn():
    assert board()["examples"][0]["prompt"] == ["x", "⏎"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": [[1.0, 2.0]]}, r"shape \(1, 2\).*must be \(3, 2\)"),
        ({"values": [[np.nan, 0.0]] * 3}, "not finite"),
        ({"outputs": ["a", "c"]}, "answer 'b' is none of the outputs"),
        ({"outputs": ["b", "b"]}, r"outputs need different names.*\['b'\]"),
        (
            {"components": {"x": ["one", "two"], "y": ["one"]}},
            r"components need different.*\['one'\]",
        ),
        ({"presets": {"Half": ["head 9"]}}, r"preset 'Half' names \['head 9'\]"),
        ({"alt": "board"}, "Write a sentence"),
        ({"name": "board"}, "not a figure name"),
        ({"shown": 0}, "must be 1 or more"),
        ({"outputs": [str(k) for k in range(65)]}, "65 outputs are too many.*selection=True"),
    ],
)
def test_a_board_that_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        board(**change)


def test_a_board_needs_an_example():
    with pytest.raises(ValueError, match="0 examples"):
        explore.switchboard_bundle([], **BOARD)


def test_a_selection_of_the_vocabulary_says_so():
    assert "among the outputs listed" in explore.switchboard_html(board(selection=True))
    assert "among the outputs listed" not in explore.switchboard_html(board())


@pytest.mark.usefixtures("static")
def test_the_page_gets_the_board_as_data(displayed):
    explore.switchboard([Example(["x"], VALUES, "b")], **BOARD)
    assert set(displayed[0]) == {explore.SWITCHBOARD_MIME, "text/plain"}


@pytest.mark.usefixtures("live")
def test_a_live_notebook_gets_the_board_with_its_script(displayed):
    explore.switchboard([Example(["x"], VALUES, "b")], **BOARD, caption="a < b")
    page = displayed[0]["text/html"]
    assert "mechbookExplore" in page
    assert "<figcaption>a &lt; b</figcaption>" in page
