"""Every page of the built book in a real browser: each is opened once, and every test asks one thing of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from .conftest import GENERATED, HTML, open_context, pages, url

HTML_LIMIT = 1_000_000
PAGE_LIMIT = 3_500_000
ON_COLOR = ["color-contrast", "link-in-text-block"]  # rules whose answer depends on the theme

TOO_WIDE = """() => {
  const root = document.documentElement;
  if (root.scrollWidth <= root.clientWidth) return "";
  const far = [...document.querySelectorAll("article *")].filter(
    (e) => e.getBoundingClientRect().right > root.clientWidth + 1);
  return `${root.scrollWidth} > ${root.clientWidth}: ` +
    far.slice(0, 5).map((e) => e.tagName + "." + e.className).join(", ");
}"""


@dataclass(frozen=True)
class Visit:
    """What a browser noted about one page."""

    errors: list[str]
    requested: list[str]
    too_wide: dict[int, str]
    violations: dict[str, list[str]]
    texts: list[str | None]


@pytest.fixture(scope="module")
def visits() -> dict[str, Visit]:
    return {}


@pytest.fixture
def visit(browser: Browser, visits: dict[str, Visit], page_name: str) -> Visit:
    if page_name not in visits:
        visits[page_name] = go(browser, page_name)
    return visits[page_name]


def go(browser: Browser, page_name: str) -> Visit:
    """Open a page and note all that the tests ask for."""
    errors: list[str] = []
    requested: list[str] = []
    with open_context(browser) as context:
        page = context.new_page()
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.on("requestfailed", lambda r: errors.append(f"failed: {r.url}"))
        page.on("request", lambda r: requested.append(r.url))
        page.goto(url(page_name), wait_until="load")
        page.evaluate("() => window.MathJax?.startup?.promise.then(() => null) ?? null")
        page.wait_for_timeout(600)  # the theme sets labels half a second after load
        texts = page.eval_on_selector_all("article img", "e => e.map(i => i.getAttribute('alt'))")
        # every frame of a slider counts, also those that load only when somebody moves it
        requested += page.eval_on_selector_all("img", "e => e.map(i => i.src)")
        noted = list(errors), list(requested), widths(page)  # before axe-core asks for style sheets
        page.set_viewport_size({"width": 1280, "height": 900})
        colors = page_name not in listings_with_known_colors()
        violations = {theme: axe(page, theme, colors) for theme in ("light", "dark")}
        return Visit(*noted, violations, texts)


@lru_cache(maxsize=1)
def listings_with_known_colors() -> frozenset[str]:
    """Listings of source code in which each kind of token stands in an earlier listing, too.

    There are more than a hundred, of thousands of tokens each, all colored by one style sheet.
    """
    seen: set[str] = set()
    known = set()
    for name in (n for n in pages() if n.startswith("_modules/")):
        kinds = set(re.findall(r'<span class="(\w+)">', (HTML / name).read_text("utf-8")))
        if kinds <= seen:
            known.add(name)
        seen |= kinds
    return frozenset(known)


def axe(page: Page, theme: str, colors: bool) -> list[str]:
    """What axe-core finds, one line each: by all its rules in the light theme, by those on color in the dark one."""
    if theme == "dark" and not colors:
        return []
    page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
    chosen = {"runOnly": ON_COLOR} if theme == "dark" else {}
    off = {} if colors else {"rules": {rule: {"enabled": False} for rule in ON_COLOR}}
    options = {"resultTypes": ["violations"], **chosen, **off}
    found = Axe().run(page, options=options).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:160]}" for v in found]


def widths(page: Page) -> dict[int, str]:
    """For each width of the window what sticks out of the page, or nothing."""
    found = {}
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(150)
        found[width] = page.evaluate(TOO_WIDE)
    return found


def test_no_error_in_the_console(visit: Visit) -> None:
    assert visit.errors == []


def test_asks_nobody_outside_the_book(visit: Visit) -> None:
    own = (HTML.as_uri(), "data:", "blob:")
    assert [address for address in visit.requested if not address.startswith(own)] == []


def test_is_light_with_all_that_it_loads(visit: Visit, page_name: str) -> None:
    assert (HTML / page_name).stat().st_size <= HTML_LIMIT
    files = {Path(unquote(urlparse(r).path)) for r in visit.requested if r.startswith("file:")}
    weight = sum(file.stat().st_size for file in files)
    assert weight <= PAGE_LIMIT, f"{weight / 1e6:.2f} MB"


@pytest.mark.parametrize("width", [360, 1280])
def test_does_not_scroll_sideways(visit: Visit, width: int) -> None:
    assert visit.too_wide[width] == ""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_has_no_accessibility_violation(visit: Visit, theme: str) -> None:
    assert visit.violations[theme] == []


def test_every_picture_has_a_text_that_says_something(visit: Visit, page_name: str) -> None:
    if page_name in GENERATED:
        pytest.skip("no content of ours")
    bad = [t for t in visit.texts if not t or len(t) < 20 or "_images" in t or t.endswith(".png")]
    assert bad == []


def test_names_no_folder_of_the_machine_that_built_it(page_name: str) -> None:
    assert str(HTML.parents[1]) not in (HTML / page_name).read_text(encoding="utf-8")
