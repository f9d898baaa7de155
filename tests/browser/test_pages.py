"""Every page of the built book, as a reader's browser sees it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from .conftest import GENERATED, HTML, open_context, url

HTML_LIMIT = 1_000_000
PAGE_LIMIT = 3_500_000


def settle(page: Page, page_name: str) -> None:
    """Open a page and wait until its mathematics is set."""
    page.goto(url(page_name), wait_until="load")
    page.evaluate("() => window.MathJax?.startup?.promise ?? null")
    page.wait_for_timeout(600)  # the theme sets labels half a second after load


def test_page_is_quiet_and_asks_nobody(browser: Browser, page_name: str) -> None:
    """No console error, no failed request, no request to anywhere but the book's own files."""
    with open_context(browser) as context:
        page = context.new_page()
        errors: list[str] = []
        requested: list[str] = []
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.on("requestfailed", lambda r: errors.append(f"failed: {r.url}"))
        page.on("request", lambda r: requested.append(r.url))
        settle(page, page_name)
        page.mouse.wheel(0, 20_000)
        page.wait_for_timeout(200)
    assert errors == []
    outside = [r for r in requested if not r.startswith((HTML.as_uri(), "data:", "blob:"))]
    assert outside == []
    files = {Path(unquote(urlparse(r).path)) for r in requested if r.startswith("file:")}
    weight = sum(f.stat().st_size for f in files)
    assert weight <= PAGE_LIMIT, f"{page_name} loads {weight / 1e6:.2f} MB"


def test_html_is_light(page_name: str) -> None:
    size = (HTML / page_name).stat().st_size
    assert size <= HTML_LIMIT, f"{page_name}: {size / 1e6:.2f} MB"


@pytest.mark.parametrize("width", [360, 1280])
def test_page_does_not_scroll_sideways(browser: Browser, page_name: str, width: int) -> None:
    with open_context(browser, width=width) as context:
        page = context.new_page()
        settle(page, page_name)
        wide = page.evaluate(
            """() => {
              const root = document.documentElement;
              if (root.scrollWidth <= root.clientWidth) return null;
              const far = [...document.querySelectorAll('article *')].filter(
                (e) => e.getBoundingClientRect().right > root.clientWidth + 1);
              return `${root.scrollWidth} > ${root.clientWidth}: ` +
                far.slice(0, 5).map((e) => e.tagName + '.' + e.className).join(', ');
            }"""
        )
    assert wide is None


def test_page_has_no_accessibility_violation(browser: Browser, page_name: str, theme: str) -> None:
    with open_context(browser, theme=theme) as context:
        page = context.new_page()
        settle(page, page_name)
        result = Axe().run(page)
        found = [f"{v['id']}: {v['nodes'][0]['html'][:160]}" for v in result.response["violations"]]
    assert found == []


def test_every_image_of_ours_has_a_text(browser: Browser, page_name: str) -> None:
    """A text that says something: not missing, not a file's name."""
    if page_name in GENERATED:
        pytest.skip("no content of ours")
    with open_context(browser) as context:
        page = context.new_page()
        page.goto(url(page_name))
        texts = page.eval_on_selector_all("article img", "e => e.map(i => i.getAttribute('alt'))")
    bad = [
        t for t in texts if not t or len(t) < 20 or t.endswith((".png", ".svg")) or "_images" in t
    ]
    assert bad == []
