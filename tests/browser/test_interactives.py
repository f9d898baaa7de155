"""The figures that move: by keyboard, without a kernel."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Locator

from .conftest import open_context, pages, url

SLIDERS = pages(holding='type="range"')
BOARDS = pages(holding="mb-switchboard")
FIGURES = pages(holding='class="mb-frame')
VISIBLE_PICTURE = "f => [...f.querySelectorAll('img')].filter(i => i.offsetParent)[0].currentSrc"


def loaded(figure: Locator) -> str:
    """The address of the picture that is shown, once it has arrived."""
    figure.scroll_into_view_if_needed()
    figure.page.wait_for_timeout(50)
    return str(figure.evaluate(VISIBLE_PICTURE))


@pytest.mark.parametrize("page_with", SLIDERS)
def test_every_slider_changes_its_picture(browser: Browser, page_with: str) -> None:
    with open_context(browser) as context:
        page = context.new_page()
        page.goto(url(page_with))
        figures = page.locator(".mb-figure:has(input[type=range])").all()
        for figure in figures:
            slider = figure.locator("input[type=range]")
            slider.focus()
            slider.press("Home")
            first, spoken = loaded(figure), slider.get_attribute("aria-valuetext")
            slider.press("ArrowRight")
            assert loaded(figure) != first
            assert slider.get_attribute("aria-valuetext") != spoken
            slider.press("End")
            assert slider.input_value() == slider.get_attribute("max")
            slider.press("PageDown")
            assert slider.input_value() != slider.get_attribute("max")
            slider.press("Home")
            assert loaded(figure) == first


@pytest.mark.parametrize("page_with", BOARDS)
def test_switches_change_what_is_predicted(browser: Browser, page_with: str) -> None:
    with open_context(browser) as context:
        page = context.new_page()
        page.goto(url(page_with))
        boards = page.locator(".mb-switchboard").all()
        for board in boards:
            before = board.locator(".mb-verdict").inner_text()
            board.locator("[data-preset]", has_text="None").focus()
            page.keyboard.press("Enter")
            assert board.locator("input[type=checkbox]:checked").count() == 0
            assert board.locator(".mb-verdict").inner_text() != before
            board.locator("input[type=checkbox]").first.focus()
            page.keyboard.press("Space")
            assert board.locator("input[type=checkbox]:checked").count() == 1


@pytest.mark.parametrize("page_with", FIGURES)
def test_first_frame_is_there_without_script(browser: Browser, page_with: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url(page_with))
    figures = page.locator(".mb-figure").all()
    for figure in figures:
        shown = [i for i in figure.locator("img").all() if i.is_visible()]
        assert len(shown) == 1
    context.close()


def test_search_finds_a_chapter_without_a_server(browser: Browser) -> None:
    errors: list[str] = []
    with open_context(browser) as context:
        page = context.new_page()
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.goto(url("search.html") + "?q=kurtosis")
        page.wait_for_selector("#search-results li a")
        found = page.eval_on_selector_all("#search-results li a", "e => e.map(a => a.href)")
    assert any("residual_stream.html" in address for address in found)
    assert errors == []
