"""A tiny notebook with our outputs, built by Sphinx, read as HTML and used in a browser."""

import base64
import io
import os
import re
import shutil
from html.parser import HTMLParser

import nbformat
import pytest
from nbformat import v4
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from mechbook import explore, plotting
from mechbook.pages import figures

SLIDER = "fig-tiny-slider"
BOARD = "fig-tiny-board"
CONFIG = {
    "extensions": ["myst_nb", "mechbook.pages.figures"],
    "html_theme": "basic",
    "nb_execution_mode": "off",
    "myst_enable_extensions": ["dollarmath"],
    "mathjax_path": "none.js",
    "numfig": True,
    "root_doc": "index",
}


def picture(shade):
    file = io.BytesIO()
    Image.new("RGB", (60, 40), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


def outputs():
    slider = plotting.bundle(
        "tiny.slider",
        [
            plotting.Frame(
                picture(k),
                f'Frame {k} is "{k}" & darker than the next.',
                f"layer {k}",
                f"At $x_{k}$ < 9.",
            )
            for k in range(5)
        ],
        label="Depth",
        start=1,
    )
    plain = plotting.bundle(
        "tiny.plain", [plotting.Frame(picture(99), "One red picture without any slider.")]
    )
    board = explore.switchboard_bundle(
        [
            explore.Example(["x"], [[1.0, 0.0], [0.0, 3.0], [0.5, -0.5]], "b"),
            explore.Example(["y"], [[0.0, 4.0], [0.0, -3.0], [9.0, -0.5]], "a"),
        ],
        components={"input": ["embedding"], "layer 0": ["head 0.0", "mlp 0"]},
        outputs=["a", "b"],
        name="tiny.board",
        alt="Without head 0.0 the sum no longer predicts b.",
        caption="Logits are a sum.",
        presets={"Only the input": ["embedding"]},
    )
    return [
        (plotting.FIGURE_MIME, slider),
        (plotting.FIGURE_MIME, plain),
        (explore.SWITCHBOARD_MIME, board),
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built pages, and what Sphinx warned."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out")
    cell = v4.new_code_cell(
        "shown()",  # myst-nb drops a cell without source
        outputs=[v4.new_output("display_data", {mime: data}) for mime, data in outputs()],
    )
    words = v4.new_markdown_cell(
        "# Tiny\n\nSee {numref}`tiny.slider` and [the board](#tiny.board)."
    )
    (source / "deep").mkdir()
    python = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    nbformat.write(
        v4.new_notebook(cells=[words, cell], metadata=python), source / "deep" / "tiny.ipynb"
    )
    (source / "index.md").write_text("# Index\n\n```{toctree}\n:numbered:\ndeep/tiny\n```\n")
    warnings = io.StringIO()
    with docutils_namespace():
        app = Sphinx(
            source, None, out, out / ".doctrees", "html", CONFIG, status=None, warning=warnings
        )
        app.build()
    return out, warnings.getvalue()


@pytest.fixture(scope="module")
def page(site):
    return (site[0] / "deep" / "tiny.html").read_text(encoding="utf-8")


class Images(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.found.append(dict(attrs))


@pytest.fixture(scope="module")
def images(page):
    return Images(page).found


# ------------------------------------------------------------------ HTML


def test_sphinx_has_nothing_to_warn_about(site):
    assert site[1] == ""


def test_each_frame_is_a_file_beside_the_page(site, images):
    for shade, image in zip([0, 1, 2, 3, 4, 99], images, strict=True):
        assert image["src"].startswith("../_images/tiny-")
        assert (site[0] / "deep" / image["src"]).read_bytes() == picture(shade)


def test_each_frame_keeps_its_words_and_size(images):
    assert images[3]["alt"] == 'Frame 3 is "3" & darker than the next.'
    assert (images[3]["width"], images[3]["height"]) == ("60", "40")
    assert images[3]["data-label"] == "layer 3"


def test_the_start_frame_alone_is_visible_and_loaded_at_once(images):
    assert ["hidden" in image for image in images] == [True, False, True, True, True, False]
    assert [image.get("loading") for image in images[:3]] == ["lazy", None, "lazy"]


def test_without_script_the_control_is_hidden_and_a_line_says_why(page):
    assert '<div class="mb-control" hidden>' in page
    assert "One of 5 pictures (Depth: layer 1); the slider needs JavaScript." in page


def test_the_prose_can_refer_to_figures_by_name(page):
    assert re.search(rf'href="#{SLIDER}"><span class="std std-numref">Fig. 1', page)
    assert f'href="#{BOARD}"' in page


def test_captions_carry_mathematics(page):
    assert re.search(
        r'<span class="mb-caption">At <span class="math[^>]*>\\\(x_1\\\)</span> &lt; 9', page
    )


def test_script_and_style_travel_with_the_book(site, page):
    assert re.search(r'<script defer="defer" src="\.\./_static/explore\.js', page)
    assert (site[0] / "_static" / "explore.css").exists()


def test_a_figure_without_caption_and_slider_is_only_its_picture(page):
    plain = page[page.index('id="fig-tiny-plain"') :].split("</figure>")[0]
    assert "mb-control" not in plain
    assert "figcaption" not in plain


def test_a_bundle_that_cannot_be_read_is_a_warning():
    said = []

    class Logger:
        def warning(self, text, **kwargs):
            said.append(text)

    class Anything:
        logger, mime_type, content, line = Logger(), plotting.FIGURE_MIME, {"name": "a.b"}, 1

    assert figures.FigureRenderer.handle_mime(Anything(), Anything(), False) == []
    assert "execute the notebook again" in said[0]


@pytest.mark.parametrize(("mime", "inline"), [("text/html", False), (plotting.FIGURE_MIME, True)])
def test_other_outputs_are_left_to_others(mime, inline):
    class Data:
        mime_type = mime

    assert figures.FigureRenderer.handle_mime(None, Data(), inline) is None


def test_a_figure_can_be_shown_again_on_another_page(tmp_path):
    class Config:
        output_folder = str(tmp_path / "written")

    class Environment:
        mystnb_config, srcdir = Config(), str(tmp_path)

    mime, data = outputs()[0]
    figure = figures.bundle_nodes(mime, data, Environment())[0]
    files = [image["uri"] for image in figure.findall(figures.mb_frame)]
    assert len(files) == 5
    for index, uri in enumerate(files):
        assert base64.b64decode(data["frames"][index]["png"]) == (tmp_path / uri[1:]).read_bytes()
    assert figure["names"] == []


# ------------------------------------------------------------------ browser

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: the figures' script is not tested")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, site):
    """Opens the page from its file; fails the test if a script raises."""
    opened, errors = [], []

    def go(**options):
        context = chromium.new_context(viewport={"width": 360, "height": 800}, **options)
        opened.append(context)
        context.set_default_timeout(5000)
        tab = context.new_page()
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto((site[0] / "deep" / "tiny.html").as_uri())
        return tab

    yield go
    for context in opened:
        context.close()
    assert errors == []


def shown(tab):
    return [
        image.get_attribute("data-label") for image in tab.locator(f"#{SLIDER} img:visible").all()
    ]


@pytest.mark.parametrize(
    ("keys", "label"),
    [
        (["ArrowRight"], "layer 2"),
        (["ArrowLeft"], "layer 0"),
        (["End"], "layer 4"),
        (["End", "Home"], "layer 0"),
        (["PageUp"], "layer 2"),
        (["End", "PageDown"], "layer 3"),
    ],
)
def test_the_slider_moves_by_keyboard(visit, keys, label):
    tab = visit()
    tab.locator(f"#{SLIDER} input").focus()
    for key in keys:
        tab.keyboard.press(key)
    assert shown(tab) == [label]
    assert tab.locator(f"#{SLIDER} input").get_attribute("aria-valuetext") == label
    assert tab.locator(f"#{SLIDER} output").inner_text() == label
    assert f"x_{label[-1]}" in tab.locator(f"#{SLIDER} .mb-caption:visible").inner_text()


def test_keys_do_not_reach_the_page_but_shortcuts_do(visit):
    tab = visit()
    tab.evaluate("document.addEventListener('keydown', e => { (window.seen ??= []).push(e.key); })")
    tab.locator(f"#{SLIDER} input").focus()
    for key in ("ArrowRight", "Home", "Control+k"):
        tab.keyboard.press(key)
    assert tab.evaluate("window.seen") == ["Control", "k"] or tab.evaluate("window.seen") == ["k"]


def test_buttons_step_and_stop_at_the_ends(visit):
    tab = visit()
    for _ in range(3):
        tab.get_by_role("button", name="Previous").click(force=True)
    assert shown(tab) == ["layer 0"]
    assert tab.get_by_role("button", name="Previous").get_attribute("aria-disabled") == "true"
    tab.get_by_role("button", name="Next").click()
    assert shown(tab) == ["layer 1"]


def test_play_runs_to_the_last_frame_and_stops(visit):
    tab = visit(reduced_motion="no-preference")
    tab.clock.install()
    tab.get_by_role("button", name="Play").click()
    tab.clock.run_for(950)
    assert shown(tab) == ["layer 2"]
    tab.clock.run_for(60_000)
    assert shown(tab) == ["layer 4"]
    assert tab.get_by_role("button", name="Play").is_visible()


def test_a_reader_who_wants_no_motion_gets_no_play_button(visit):
    tab = visit(reduced_motion="reduce")
    assert not tab.locator(".mb-play").is_visible()
    assert tab.get_by_role("button", name="Next").is_visible()


def test_without_script_one_picture_and_the_full_table_are_there(visit):
    tab = visit(java_script_enabled=False)
    assert shown(tab) == ["layer 1"]
    assert not tab.locator(".mb-control").is_visible()
    assert not tab.locator(".mb-switches").is_visible()
    assert tab.locator(f"#{BOARD} tbody tr").count() == 2


def board(tab):
    """The rows of the table (output, logit, probability) and the line above it."""
    rows = [
        row.locator("th .mb-token, .mb-number").all_inner_texts()
        for row in tab.locator("tbody tr").all()
    ]
    return rows, tab.locator(".mb-verdict").inner_text()


def test_the_script_and_the_static_table_agree(visit):
    assert board(visit()) == board(visit(java_script_enabled=False))


def test_a_switched_off_component_leaves_the_sum(visit):
    tab = visit()
    tab.get_by_label("head 0.0").uncheck()
    rows, verdict = board(tab)
    assert rows == [["a", "1.50", "0.88"], ["b", "-0.50", "0.12"]]
    assert verdict == "Top prediction: a (p = 0.88), not the correct one. 2 of 3 components on."


def test_presets_switch_exactly_their_components(visit):
    tab = visit()
    tab.get_by_role("button", name="Only the input").click()
    assert [box.is_checked() for box in tab.get_by_role("checkbox").all()] == [True, False, False]
    assert board(tab)[0][0] == ["a", "1.00", "0.73"]
    tab.get_by_role("button", name="None").click()
    assert "No prediction: all 2 outputs are equally likely (p = 0.50)" in board(tab)[1]


def test_another_example_keeps_the_switches(visit):
    tab = visit()
    tab.get_by_label("mlp 0").uncheck()
    tab.get_by_role("combobox").select_option("1")
    assert tab.locator(".mb-prompt").inner_text() == "Prompt y"
    assert board(tab)[0] == [["b", "1.00", "0.73"], ["a", "0.00", "0.27"]]


def test_figures_that_come_late_wake_too_and_only_once(visit):
    tab = visit()
    tab.evaluate(
        """() => {
            const late = document.querySelector(".mb-switchboard").cloneNode(true);
            delete late.dataset.mbAwake;
            late.id = "late";
            document.body.append(late);
            window.mechbookExplore.scan(document);
        }"""
    )
    tab.locator("#late").get_by_label("head 0.0").uncheck()
    assert "2 of 3 components" in tab.locator("#late .mb-verdict").inner_text()
    assert "3 of 3 components" in tab.locator(f"#{BOARD} .mb-verdict").inner_text()


def test_a_board_fits_a_phone(visit):
    tab = visit()
    sticking_out = tab.evaluate(
        """() => {
            const board = document.querySelector(".mb-switchboard");
            board.style.width = "300px";
            const edge = board.getBoundingClientRect().right;
            return Array.from(board.querySelectorAll("*:not(.mb-sr)"))
                .filter(e => e.getBoundingClientRect().right > edge).map(e => e.className);
        }"""
    )
    assert sticking_out == []


def test_axe_finds_nothing_in_our_figures(visit):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(visit(), context={"include": [[".mb-figure"], [".mb-switchboard"]]})
    assert [problem["id"] for problem in found.response["violations"]] == []
