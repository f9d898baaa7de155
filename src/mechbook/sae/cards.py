"""A latent's card as HTML: the same in a live notebook and in the book's pages; all of it is text.

A token's background says how active the latent is there; so does the number that the screen reader
finds in the token's title, and the strongest token of a piece carries it visibly.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from IPython.display import display

from mechbook.sae.dashboard import Card, Example

GROUPS = {
    "strongest": "where it is most active",
    "strong": "strong (75–95 % of its active positions)",
    "middle": "middle (40–60 %)",
    "weak": "weak (5–25 %)",
}
LOUDEST, STEPS = 0.45, 9
"""Opacity of the strongest mark (text on it stays readable in light and in dark), and how many there are."""


def show(card: Card) -> None:
    """Show a latent's card in a notebook or in the built page."""
    plain = f"[Latent {card.latent}: {summary(card)}]"
    html_text = f"<style>{mark_css()}</style>{card_html(card)}"
    display({"text/html": html_text, "text/plain": plain}, raw=True)


def mark_css() -> str:
    """The marks' colors; the book's own pages have the same in their style sheet."""
    steps = "".join(
        f".mb-a{i}{{background:rgba(0,114,178,{LOUDEST * i / STEPS:.2f})}}"
        for i in range(1, STEPS + 1)
    )
    return f"mark[class^=mb-a]{{color:inherit}}{steps}"


def summary(card: Card) -> str:
    """A latent in one line: its rule, how often it is active, what it promotes."""
    up = ", ".join(f"“{word}”" for word, _ in card.up[:4])
    return f"{card.rule}; active at {card.density:.2%} of the positions; speaks for {up}"


def card_html(card: Card) -> str:
    """All of a card, under a heading that may stand in a section of a chapter."""
    parts = [
        f'<section class="mb-latent" aria-label="Latent {card.latent}">',
        f"<h3>Latent {card.latent}</h3>",
        f"<p><strong>Rule:</strong> {html.escape(card.rule)} <span>(F1 {card.f1:.2f} on other text; "
        f"the current token alone explains {card.token_share:.2f} of its activity)</span></p>",
        f"<p>{_histogram(card)}</p>",
        f"<p><strong>Speaks for</strong> {_words(card.up)}<br><strong>Speaks against</strong> "
        f"{_words(card.down)}</p>",
        *(_group(name, group) for name, group in card.examples.items() if group),
        f"<p><strong>Nearest directions:</strong> {_others(card.nearest)}. <strong>Active "
        f"together:</strong> {_others(card.together) or 'none'}.</p>",
        "</section>",
    ]
    return "".join(parts)


def _words(pairs: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"<code>{html.escape(word)}</code> {value:+.1f}" for word, value in pairs)


def _others(pairs: Sequence[tuple[int, float]]) -> str:
    return ", ".join(f"{latent} ({value:.2f})" for latent, value in pairs)


def _histogram(card: Card) -> str:
    """Density in words, and the histogram as a row of bars made of characters."""
    most = max(card.counts)
    bars = "".join("▁▂▃▄▅▆▇█"[min(7, 8 * count // (most + 1))] for count in card.counts)
    told = (
        f"from 0 to {card.largest:.1f}, {len(card.counts)} bins, the fullest with {most} positions"
    )
    return (
        f"<strong>Active</strong> at {card.density:.2%} of the positions. How much: "
        f'<span role="img" aria-label="Histogram of its activity, {told}" '
        f'class="mb-spark" title="{told}">{bars}</span>'
    )


def _group(name: str, group: Sequence[Example]) -> str:
    largest = max(max(example.values) for example in group)
    items = "".join(f"<li>{example_html(example, largest)}</li>" for example in group)
    return f"<p><strong>{GROUPS.get(name, name)}</strong></p><ul>{items}</ul>"


def example_html(example: Example, largest: float) -> str:
    """A piece of text with its active tokens marked.

    Args:
        example: the piece.
        largest: activity that gets the strongest mark.

    Raises:
        ValueError: nothing is active.
    """
    if not largest > 0:
        raise ValueError(f"largest is {largest}; give the greatest activity, above 0")
    said = []
    for place, (token, value) in enumerate(zip(example.tokens, example.values, strict=True)):
        word = html.escape(token.removeprefix("##"))
        text = f"<mark{_mark(value, largest)}>{word}</mark>" if value > 0 else word
        if place == example.peak:
            text += f'<sub class="mb-size">{value:.1f}</sub>'
        said.append(("" if token.startswith("##") else " ") + text)
    return "".join(said).strip()


def _mark(value: float, largest: float) -> str:
    """Step of the color, and the number for those who cannot see it."""
    step = max(1, round(STEPS * min(1.0, value / largest)))
    return f' class="mb-a{step}" title="{value:.1f}"'
