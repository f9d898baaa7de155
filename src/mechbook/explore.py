"""Figures that a reader moves: one call, which works with and without a kernel.

`explore` shows a figure as a function of a value: a slider over pre-rendered frames in the built
page, widgets that recompute in a live notebook. `switchboard` lets the reader turn the parts of a
sum on and off and see the logits change; the page itself adds them up, so no kernel is needed.
"""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from mechbook import plotting
from mechbook.plotting import Frame, is_static

__all__ = [
    "SWITCHBOARD_MIME",
    "Debouncer",
    "Example",
    "FrameCache",
    "explore",
    "is_static",
    "switchboard",
    "switchboard_bundle",
    "switchboard_html",
]

SWITCHBOARD_MIME = "application/vnd.mechbook.switchboard+json"
MOST_FRAMES = 60
MOST_OUTPUTS = 64
DELAY = 0.12  # seconds without a new value before a live figure recomputes
REMEMBERED = 64  # frames that a live figure keeps

Words = str | Callable[[Any], str]


# ---------------------------------------------------------------------------- explore


def explore(
    draw: Callable[[Any], Figure],
    values: Sequence[Any],
    *,
    name: str,
    label: str,
    alt: Words,
    caption: Words = "",
    labels: Sequence[str] | None = None,
    start: int = 0,
) -> None:
    """Show a figure that depends on a value: frames in the page, recomputed in a live notebook.

    Args:
        draw: Makes the figure for a value; it is called inside the book's style.
        values: The values, in the order of the slider.
        name: The figure's name, `chapter.kebab-words`.
        label: What the slider chooses, such as "Depth".
        alt: What the picture of a value shows: a function of the value, or a text in which
            `{value}` and `{label}` are filled in. Each frame needs its own.
        caption: The line below the picture, given in the same way; `$...$` is mathematics.
        labels: The text for each value ("layer 3"); the values themselves by default.
        start: The position shown first.

    Raises:
        ValueError: For no or too many values, labels or texts that are missing, double or too
            short, a bad name, or a `draw` that returns no figure.
    """
    plotting.check_name(name)
    texts = _labels(name, values, labels)
    if not 0 <= start < len(values):
        raise ValueError(f"{name}: start={start} is none of the {len(values)} values (0 is first).")

    def frame(index: int) -> Frame:
        value, text = values[index], texts[index]
        with plotting.style():
            fig = plotting.check_figure(draw(value), name)
            picture = plotting.png(fig)
        plotting.close(fig)
        words = plotting.check_alt(_words(alt, value, text), name)
        return Frame(picture, words, text, _words(caption, value, text))

    if is_static():
        frames = [frame(index) for index in range(len(values))]
        data = plotting.bundle(name, frames, label=label, start=start)
        plain = f"[Figure {name}: {frames[start].alt}]"
        display({plotting.FIGURE_MIME: data, "text/plain": plain}, raw=True)
    else:
        display(_live(frame, texts, label=label, start=start))


def _labels(name: str, values: Sequence[Any], labels: Sequence[str] | None) -> list[str]:
    if not 1 <= len(values) <= MOST_FRAMES:
        raise ValueError(
            f"{name}: {len(values)} values were given; a slider holds 1 to {MOST_FRAMES} frames "
            "(every frame is a file beside the page), so thin them out."
        )
    texts = [str(text) for text in (values if labels is None else labels)]
    if len(texts) != len(values):
        raise ValueError(f"{name}: {len(texts)} labels for {len(values)} values; give one each.")
    if len(set(texts)) < len(texts):
        twice = sorted({text for text in texts if texts.count(text) > 1})
        raise ValueError(f"{name}: the labels {twice} occur twice; a reader could not tell them.")
    return texts


def _words(words: Words, value: Any, label: str) -> str:
    """The text for a value; only `{value}` and `{label}` are filled in, other braces stay."""
    if callable(words):
        return words(value)
    if re.search(r"\{(value|label)[:!.\[]", words):
        raise ValueError(f"{words!r}: use a function of the value to format numbers.")
    return words.replace("{value}", str(value)).replace("{label}", label)


class FrameCache:
    """The frames used last: computes a missing one, forgets the one unused for longest."""

    def __init__(self, make: Callable[[int], Frame], size: int = REMEMBERED):
        """Keep up to `size` frames made by `make(index)`."""
        self._make, self._size = make, size
        self._frames: OrderedDict[int, Frame] = OrderedDict()

    def __contains__(self, index: int) -> bool:
        return index in self._frames

    def __getitem__(self, index: int) -> Frame:
        if index not in self._frames:
            self._frames[index] = self._make(index)
            if len(self._frames) > self._size:
                self._frames.popitem(last=False)
        self._frames.move_to_end(index)
        return self._frames[index]


class Debouncer:
    """Calls `action` with the newest value, once no newer one has come for `delay` seconds."""

    def __init__(self, action: Callable[[int], None], delay: float = DELAY):
        """Wait `delay` seconds before `action(value)`."""
        self._action, self._delay = action, delay
        self._pending: asyncio.TimerHandle | None = None

    def __call__(self, value: int) -> None:
        """Take a new value; an older one that still waits is dropped."""
        self.cancel()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a plain script has no event loop that could wait
            self._action(value)
        else:
            self._pending = loop.call_later(self._delay, self._action, value)

    def cancel(self) -> None:
        """Drop the value that waits, if any."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None


def _live(make: Callable[[int], Frame], labels: Sequence[str], *, label: str, start: int) -> Any:
    """A SelectionSlider and Play, linked in the browser, over a figure that recomputes."""
    import ipywidgets as widgets

    frames = FrameCache(make)
    picture = widgets.HTMLMath(plotting.figure_html(frames[start]))
    slider = widgets.SelectionSlider(
        options=[(text, index) for index, text in enumerate(labels)],
        index=start,
        description=label,
        style={"description_width": "initial"},
    )
    play = widgets.Play(value=start, min=0, max=len(labels) - 1, interval=800)
    widgets.jslink((play, "value"), (slider, "index"))

    def draw(index: int) -> None:
        try:
            picture.value = plotting.figure_html(frames[index])
        except Exception as error:  # a timer's exception would vanish in the kernel's log
            message = f"{labels[index]}: {type(error).__name__}: {error}"
            picture.value = f'<pre role="alert">{html.escape(message)}</pre>'

    later = Debouncer(draw)

    def moved(change: dict[str, Any]) -> None:
        index = change["new"]
        if index in frames:
            later.cancel()
            draw(index)
        else:
            later(index)

    slider.observe(moved, names="index")
    return widgets.VBox([widgets.HBox([play, slider]), picture])


# ---------------------------------------------------------------------------- switchboard


@dataclass(frozen=True)
class Example:
    """One prompt of a switchboard.

    Attributes:
        prompt: The tokens that the model read.
        contributions: What each component adds to each output's logit, [component, output].
        answer: The correct output, one of the switchboard's outputs.
        title: The text in the list of examples; the prompt by default.
    """

    prompt: Sequence[str]
    contributions: ArrayLike
    answer: str
    title: str = ""


def switchboard(
    examples: Sequence[Example],
    *,
    components: Mapping[str, Sequence[str]],
    outputs: Sequence[str],
    name: str,
    alt: str,
    caption: str = "",
    presets: Mapping[str, Sequence[str]] | None = None,
    shown: int = 8,
    selection: bool = False,
) -> None:
    """Show components with switches and the logits that the switched-on ones add up to.

    The sum is exact (up to four digits a term) because logits are a sum of contributions; what is
    not a contribution, such as a bias, must be a component too.

    Args:
        examples: The prompts to choose from.
        components: For each group its components; all of them in order are the rows of
            `Example.contributions`.
        outputs: The output tokens, the columns of `Example.contributions`, at most 64.
        name: The figure's name, `chapter.kebab-words`.
        alt: What the reader finds by using the switches, in a sentence.
        caption: The line below; `$...$` is mathematics.
        presets: Buttons that switch on just these components, beside "All" and "None".
        shown: How many outputs are drawn, highest first; the correct one is always among them.
        selection: The outputs are only a part of the vocabulary; the page then says that
            probabilities are among those shown.

    Raises:
        ValueError: For names that are double or unknown, shapes that do not fit, values that are
            not finite, or more than 64 outputs.
    """
    data = switchboard_bundle(
        examples,
        components=components,
        outputs=outputs,
        name=name,
        alt=alt,
        caption=caption,
        presets=presets,
        shown=shown,
        selection=selection,
    )
    output: dict[str, Any] = {"text/plain": f"[Figure {name}: {data['alt']}]"}
    if is_static():
        output[SWITCHBOARD_MIME] = data
    else:
        output["text/html"] = _standalone(data)
    display(output, raw=True)


def switchboard_bundle(
    examples: Sequence[Example],
    *,
    components: Mapping[str, Sequence[str]],
    outputs: Sequence[str],
    name: str,
    alt: str,
    caption: str = "",
    presets: Mapping[str, Sequence[str]] | None = None,
    shown: int = 8,
    selection: bool = False,
) -> dict[str, Any]:
    """The switchboard as the JSON that travels to the page; arguments as in `switchboard`."""
    plotting.check_name(name)
    parts = [part for group in components.values() for part in group]
    _check_unique(name, "components", parts)
    _check_unique(name, "outputs", [_visible(output) for output in outputs])
    if len(outputs) > MOST_OUTPUTS:
        raise ValueError(
            f"{name}: {len(outputs)} outputs are too many for a page (at most {MOST_OUTPUTS}). "
            "Keep the columns of the likeliest ones and pass selection=True."
        )
    if not examples or shown < 1:
        raise ValueError(
            f"{name}: {len(examples)} examples, shown={shown}; both must be 1 or more."
        )
    return {
        "name": name,
        "alt": plotting.check_alt(alt, name),
        "caption": caption,
        "outputs": [_visible(output) for output in outputs],
        "groups": [{"name": group, "components": list(of)} for group, of in components.items()],
        "presets": _presets(name, parts, presets or {}),
        "shown": min(shown, len(outputs)),
        "selection": selection,
        "examples": [_example(name, item, len(parts), outputs) for item in examples],
    }


def _check_unique(name: str, what: str, given: Sequence[str]) -> None:
    twice = sorted({one for one in given if given.count(one) > 1})
    if twice or not given:
        raise ValueError(f"{name}: {what} need different names, at least one; double: {twice}.")


def _presets(
    name: str, parts: Sequence[str], presets: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Each preset with the positions of its components; "All" and "None" come first."""
    named = {"All": list(parts), "None": [], **presets}
    for title, members in named.items():
        unknown = sorted(set(members) - set(parts))
        if unknown:
            raise ValueError(f"{name}: preset {title!r} names {unknown}; components: {parts}.")
    return [
        {"name": title, "on": sorted(parts.index(member) for member in set(members))}
        for title, members in named.items()
    ]


def _example(name: str, item: Example, parts: int, outputs: Sequence[str]) -> dict[str, Any]:
    values: Any = item.contributions
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.shape != (parts, len(outputs)):
        raise ValueError(
            f"{name}: contributions have shape {matrix.shape}; with {parts} components and "
            f"{len(outputs)} outputs it must be ({parts}, {len(outputs)})."
        )
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name}: contributions hold values that are not finite.")
    if item.answer not in outputs:
        raise ValueError(f"{name}: answer {item.answer!r} is none of the outputs {list(outputs)}.")
    return {
        "title": item.title or " ".join(_visible(token) for token in item.prompt),
        "prompt": [_visible(token) for token in item.prompt],
        "answer": list(outputs).index(item.answer),
        "values": [[float(f"{value:.4g}") for value in row] for row in matrix],
    }


def _visible(token: str) -> str:
    """The token with line breaks drawn, and alone-standing space made visible."""
    drawn = token.replace("\n", "⏎").replace("\t", "⇥")
    return drawn if drawn.strip() else drawn.replace(" ", "␣") or "∅"


def switchboard_html(data: Mapping[str, Any]) -> str:
    """The switchboard's inside: a table with everything on, and switches that the script wakes.

    Args:
        data: What `switchboard_bundle` returned.
    """
    example = data["examples"][0]
    tokens = "".join(
        f"<span class='mb-token'>{_escape(token)}</span> " for token in example["prompt"]
    )
    note = " Probabilities are among the outputs listed here." if data["selection"] else ""
    payload = json.dumps(
        {key: data[key] for key in ("outputs", "presets", "shown", "examples")},
        ensure_ascii=False,
        separators=(",", ":"),
    ).replace("<", "\\u003c")
    return (
        f'<script type="application/json" class="mb-data">{payload}</script>'
        f'<div class="mb-switches" hidden>{_switches(data)}</div>'
        f'<p class="mb-prompt"><span class="mb-what">Prompt</span> {tokens}</p>'
        f'<p class="mb-verdict" aria-live="polite">{_verdict(data)}</p>'
        f'<table class="mb-bars"><caption class="mb-sr">{_escape(data["alt"])}</caption>'
        '<thead><tr><th scope="col">Output</th><th scope="col">Logit</th>'
        f'<th scope="col">Probability</th></tr></thead><tbody>{_rows(data)}</tbody></table>'
        f'<p class="mb-note">The {data["shown"]} highest of {len(data["outputs"])} outputs.{note}</p>'
        "<noscript><p>The switches need JavaScript; the table shows every component on.</p></noscript>"
    )


def _escape(text: str) -> str:
    return html.escape(text, quote=True)


def _switches(data: Mapping[str, Any]) -> str:
    options = "".join(
        f'<option value="{index}">{_escape(example["title"])}</option>'
        for index, example in enumerate(data["examples"])
    )
    buttons = "".join(
        f'<button type="button" data-preset="{index}">{_escape(preset["name"])}</button>'
        for index, preset in enumerate(data["presets"])
    )
    fieldsets, position = "", 0
    for group in data["groups"]:
        boxes = ""
        for part in group["components"]:
            boxes += (
                f'<label><input type="checkbox" value="{position}" checked autocomplete="off"> '
                f"{_escape(part)}</label>"
            )
            position += 1
        fieldsets += f"<fieldset><legend>{_escape(group['name'])}</legend>{boxes}</fieldset>"
    return (
        f'<label class="mb-example">Example <select autocomplete="off">{options}</select></label>'
        f'<div class="mb-presets" role="group" aria-label="Switch on">{buttons}</div>'
        f'<div class="mb-parts">{fieldsets}</div>'
    )


def _sums(data: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits and probabilities of the first example with everything on, [output] each."""
    logits = np.asarray(data["examples"][0]["values"], dtype=np.float64).sum(0)
    weights = np.exp(logits - logits.max())
    return logits, weights / weights.sum()


def _order(data: Mapping[str, Any], logits: NDArray[np.float64]) -> list[int]:
    """The outputs to draw: the highest first, ties in their given order, the answer included."""
    ranked = np.argsort(-logits, kind="stable").tolist()
    answer = data["examples"][0]["answer"]
    top = ranked[: data["shown"]]
    return top if answer in top else [*top[:-1], answer]


def _verdict(data: Mapping[str, Any]) -> str:
    logits, probabilities = _sums(data)
    best = int(np.argmax(logits))
    correct = "correct" if best == data["examples"][0]["answer"] else "not the correct one"
    number = sum(len(group["components"]) for group in data["groups"])
    return (
        f"Top prediction: <strong>{_escape(data['outputs'][best])}</strong> "
        f"(p = {probabilities[best]:.2f}), {correct}. {number} of {number} components on."
    )


def _rows(data: Mapping[str, Any]) -> str:
    logits, probabilities = _sums(data)
    order = _order(data, logits)
    low, high = min(0.0, logits.min()), max(0.0, logits.max())
    return "".join(
        _row(
            data["outputs"][index],
            index == data["examples"][0]["answer"],
            _bar(logits[index], low, high) + f'<span class="mb-number">{logits[index]:.2f}</span>',
            _bar(probabilities[index], 0.0, 1.0)
            + f'<span class="mb-number">{probabilities[index]:.2f}</span>',
        )
        for index in order
    )


def _row(output: str, correct: bool, logit: str, probability: str) -> str:
    mark = ' <span class="mb-mark">correct</span>' if correct else ""
    return (
        f"<tr{' class=mb-correct' if correct else ''}>"
        f'<th scope="row"><span class="mb-token">{_escape(output)}</span>{mark}</th>'
        f"<td>{logit}</td><td>{probability}</td></tr>"
    )


def _bar(value: float, low: float, high: float) -> str:
    """A bar from zero to `value` on a track that reaches from `low` to `high`."""
    span = (high - low) or 1.0
    left, width = (min(value, 0.0) - low) / span, abs(value) / span
    return (
        f'<span class="mb-track" aria-hidden="true" style="--mb-zero:{-100 * low / span:.2f}%">'
        f'<span class="mb-bar" style="left:{100 * left:.2f}%;width:{100 * width:.2f}%"></span></span>'
    )


def _standalone(data: Mapping[str, Any]) -> str:
    """The switchboard with its style and script inside, for a live notebook."""
    assets = resources.files("mechbook") / "pages" / "assets"
    sheet = (assets / "explore.css").read_text(encoding="utf-8")
    script = (assets / "explore.js").read_text(encoding="utf-8")
    caption = f"<figcaption>{html.escape(data['caption'])}</figcaption>" if data["caption"] else ""
    return (
        f"<style>{sheet}</style>"
        f'<figure class="mb-switchboard">{switchboard_html(data)}{caption}</figure>'
        f"<script>{script}</script>"
    )
