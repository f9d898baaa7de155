"""A real browser on the built pages, from the file system: what a reader without network and without kernel meets."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright
from xdist.scheduler import LoadScopeScheduling

HTML = Path(__file__).parents[2] / "build" / "html"
# pages that Sphinx makes without content of ours
GENERATED = {"genindex.html", "search.html", "py-modindex.html"}
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_browser() -> str | None:
    """The browser to use: what CHROMIUM names, or the first one that is installed."""
    names = [
        os.environ.get("CHROMIUM"),
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ]
    mac = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
    found = (shutil.which(name) for name in names if name)
    return next((path for path in found if path), mac if Path(mac).exists() else None)


def pages(holding: str = "") -> list[str]:
    """The pages of the built book that hold a text; the first index.html only leads on to the book's."""
    files = sorted(HTML.rglob("*.html"))
    files = [f for f in files if "_static" not in f.parts and holding in f.read_text("utf-8")]
    names = [f.relative_to(HTML).as_posix() for f in files]
    return [name for name in names if name != "index.html"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "page_name" in metafunc.fixturenames:
        names = pages()
        if not names:
            pytest.exit("There are no pages in build/html: run `make book` first.", returncode=1)
        metafunc.parametrize("page_name", names)


class ByPage(LoadScopeScheduling):
    """One worker opens a page and asks all the questions about it; other tests go by their file."""

    def _split_scope(self, nodeid: str) -> str:
        found = re.search(r"\[(\S+\.html)", nodeid)
        return found[1] if found else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByPage:
    return ByPage(config, log)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = find_browser()
    if program is None and not os.environ.get("CI"):
        pytest.skip("no Chromium or Chrome found: install one, or name it in CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        yield browser
        browser.close()


def open_context(browser: Browser, *, theme: str = "light", width: int = 1280) -> BrowserContext:
    """A fresh context with a theme that the reader has chosen."""
    context = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce")
    context.add_init_script(
        f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}');"
    )
    return context


def url(page_name: str) -> str:
    """The address of a built page on the file system."""
    return (HTML / page_name).as_uri()
