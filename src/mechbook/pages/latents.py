"""The page of latents: a list that can be searched, and the whole card of each when it is opened.

The list stands in the page as HTML, complete without script. The cards are in a few small ``.js``
files beside the page, loaded by a script element when the first card of a file is opened, which
works from ``file://`` too.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from mechbook.sae.dashboard import Card

FOLDER = "latents"
PART = 32
"""Cards in one file."""
ORDERS = {
    "latent": "number",
    "f1": "how good its rule is",
    "share": "how much the token explains",
    "density": "how often it is active",
}


def parts(cards: Sequence[Card], size: int = PART) -> dict[str, str]:
    """The files with the whole cards, by name: each a call that hands its cards to the page.

    Raises:
        ValueError: a part with no card in it.
    """
    from mechbook.sae.cards import card_html

    if size < 1:
        raise ValueError(f"size is {size}; give 1 or more cards a file")
    made = {}
    for number, first in enumerate(range(0, len(cards), size)):
        content = {str(card.latent): card_html(card) for card in cards[first : first + size]}
        text = json.dumps(content, ensure_ascii=False).replace("</", "<\\/")
        made[f"{number:02d}.js"] = f"mechbookLatents.take({number}, {text});\n"
    return made


def page_html(cards: Sequence[Card], root: str, size: int = PART) -> str:
    """The list, its search, and what wakes them.

    Args:
        cards: in the order of their numbers.
        root: the way from the page to the folder of the book, such as ``../../``.
        size: cards in one file.

    Raises:
        ValueError: no card.
    """
    if not cards:
        raise ValueError("there is no latent to show; make the artifact sae-dashboard")
    static = f"{root}_static"
    items = "".join(_item(card, place // size) for place, card in enumerate(cards))
    return (
        f'<link rel="stylesheet" href="{static}/latents.css">'
        f'<section class="mb-latents" data-parts="{static}/{FOLDER}/">'
        f"{_search(len(cards))}<ol>{items}</ol>"
        f'</section><script defer src="{static}/latents.js"></script>'
    )


def _search(count: int) -> str:
    """Asleep until the script wakes it."""
    orders = "".join(f'<option value="{key}">{name}</option>' for key, name in ORDERS.items())
    return (
        '<form class="mb-find" role="search" hidden>'
        '<label>Find <input type="search" autocomplete="off" placeholder="a word, a rule, a number">'
        f"</label><label>Order by <select>{orders}</select></label>"
        f'<output aria-live="polite">{count} latents</output></form>'
        f"<noscript><p>All {count} latents. Searching, and the whole cards, need JavaScript; each "
        "line shows what a latent's rule is and where it is most active.</p></noscript>"
    )


def _item(card: Card, part: int) -> str:
    """A line of the list, with a short card inside that the script replaces by the whole one."""
    facts = {"latent": card.latent, "f1": f"{card.f1:.3f}", "share": f"{card.token_share:.3f}",
             "density": f"{card.density:.5f}", "part": part}  # fmt: skip
    data = " ".join(f'data-{key}="{value}"' for key, value in facts.items())
    return (
        f'<li id="latent-{card.latent}" {data}><details><summary><b>{card.latent}</b> '
        f"{html.escape(card.rule)} <span>{card.density:.2%}</span></summary>"
        f'<div class="mb-short">{_short(card)}</div></details></li>'
    )


def _short(card: Card) -> str:
    from mechbook.sae.cards import example_html

    words = lambda pairs: ", ".join(f"<code>{html.escape(w)}</code>" for w, _ in pairs[:5])  # noqa: E731
    strongest = next((group[0] for group in card.examples.values() if group), None)
    shown = ""
    if strongest is not None:
        shown = f"<p>{example_html(strongest, max(strongest.values))}</p>"
    return f"{shown}<p>Speaks for {words(card.up)}; against {words(card.down)}.</p>"


class LatentIndex(SphinxDirective):
    """The list of latents, from the artifact ``sae-dashboard``."""

    has_content = False
    option_spec: ClassVar[dict[str, Callable[[str], Any]] | None] = {}

    def run(self) -> list[nodes.Node]:
        """One block of HTML, or a line that says how to get it."""
        from mechbook import artifacts

        root = "../" * self.env.docname.count("/")
        try:
            text = page_html(_cards(), root)
        except artifacts.ArtifactError as error:
            return [nodes.paragraph("", f"The latents are not recorded yet: {error}")]
        return [nodes.raw("", text, format="html")]


def _cards() -> list[Card]:
    from mechbook.sae import dashboard

    return sorted(dashboard.load(), key=lambda card: card.latent)


def write_parts(app: Sphinx, error: Exception | None) -> None:
    """Put the files with the cards beside the finished pages (Sphinx's ``build-finished``)."""
    from mechbook import artifacts

    if error is not None or app.builder.format != "html":
        return
    try:
        files = parts(_cards())
    except artifacts.ArtifactError:
        return  # the page says so
    folder = Path(app.outdir, "_static", FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.js"):
        old.unlink()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's hook: the directive ``latent-index``, and the files beside the pages."""
    app.add_directive("latent-index", LatentIndex)
    app.connect("build-finished", write_parts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
