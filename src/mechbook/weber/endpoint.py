"""Judges behind an OpenAI-compatible endpoint: asked once, remembered on disk, never guessed.

The base URL, the model and the key come from the environment (the key from nowhere else)::

    export MECHBOOK_API_BASE=https://openrouter.ai/api/v1
    export MECHBOOK_API_MODEL=...
    export MECHBOOK_API_KEY=...

`dry_run` tells tokens and cost without a key and without a request; `EndpointObserver.judge` asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mechbook.weber import templates
from mechbook.weber.asking import (
    Asking,
    Endpoint,
    EndpointError,
    from_environment,
    place_of,
    remembered,
    request_body,
)
from mechbook.weber.stimuli import Trial
from mechbook.weber.templates import CHAT, CountTokens, Prices, Template

__all__ = [
    "Endpoint",
    "EndpointError",
    "EndpointObserver",
    "Estimate",
    "Report",
    "dry_run",
    "from_environment",
]


@dataclass(frozen=True)
class Report:
    """What became of the requests.

    Attributes:
        asked: requests that were sent now.
        cached: answers that were there already.
        unparsable: replies that say neither side, or both.
        failed: requests without a reply after all attempts.
        reasons: why, each with its number.
        read: tokens read, by the endpoint's own count, for all replies there are.
        written: tokens written.
    """

    asked: int = 0
    cached: int = 0
    unparsable: int = 0
    failed: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    read: int = 0
    written: int = 0


@dataclass
class EndpointObserver:
    """An observer that asks an endpoint.

    Attributes:
        endpoint: whom.
        template: in which words.
        counterbalanced: each trial in all four views (`templates.views`), which costs four times;
            the answer is then the share of *right* among the views that got one.
        report: what became of the requests of the last `judge`.
    """

    endpoint: Endpoint
    template: Template = CHAT
    counterbalanced: bool = False
    report: Report = field(default_factory=Report)

    def judge(self, trials: Sequence[Trial]) -> Float[np.ndarray, " trial"]:
        """1 for right, 0 for left (their mean over views); not a number without an answer.

        Raises:
            EndpointError: no key, a refusal that repeating cannot help (a wrong key, an unknown
                model, no credit), or no single reply at all. What was answered before is cached.
        """
        shown = [self.views(trial) for trial in trials]
        answers = self._ask([view for row in shown for view in row])
        rows = np.array(answers, dtype=float).reshape(len(trials), -1)
        number = (~np.isnan(rows)).sum(1)
        return np.where(number > 0, np.nansum(rows, 1) / np.maximum(number, 1), np.nan)

    def views(self, trial: Trial) -> list[tuple[Trial, Template, int]]:
        """How a trial is shown: in one way, or in all four."""
        every = templates.views(trial, self.template)
        return every if self.counterbalanced else every[:1]

    def _ask(self, shown: Sequence[tuple[Trial, Template, int]]) -> list[float]:
        bodies = [request_body(self.endpoint, words, trial) for trial, words, _ in shown]
        places = [place_of(self.endpoint, body) for body in bodies]
        todo = {p: b for p, b in zip(places, bodies, strict=True) if remembered(p) is None}
        reasons = Asking(self.endpoint).all(todo) if todo else {}
        found = {place: remembered(place) for place in dict.fromkeys(places)}
        answers = [
            _answer(found[place], words, sign)
            for place, (_, words, sign) in zip(places, shown, strict=True)
        ]
        self.report = _report(found, len(todo), reasons, answers, places)
        if todo and not any(found.values()):
            raise EndpointError(f"no request was answered: {'; '.join(reasons)}")
        return answers


def _answer(found: Mapping[str, Any] | None, words: Template, sign: int) -> float:
    parsed = None if found is None else templates.parse(found["reply"], words)
    if parsed is None:
        return float("nan")
    return float(parsed if sign == 1 else not parsed)


def _report(
    found: Mapping[Path, Mapping[str, Any] | None],
    asked: int,
    reasons: Mapping[str, int],
    answers: Sequence[float],
    places: Sequence[Path],
) -> Report:
    replies = [reply for reply in found.values() if reply is not None]
    nothing = [p for p, a in zip(places, answers, strict=True) if np.isnan(a)]
    return Report(
        asked=asked,
        cached=len(found) - asked,
        unparsable=sum(found[place] is not None for place in nothing),
        failed=len(found) - len(replies),
        reasons=dict(reasons),
        read=sum(reply.get("read", 0) for reply in replies),
        written=sum(reply.get("written", 0) for reply in replies),
    )


# --- before paying ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """What a run would need.

    Attributes:
        requests: that would be sent.
        cached: that are answered already and cost nothing.
        read: tokens that would be sent, by the given counter (an estimate: endpoints add some).
        written: tokens that may come back at most.
        cost: in the prices' currency; not a number without prices.
    """

    requests: int
    cached: int
    read: int
    written: int
    cost: float


def dry_run(
    observer: EndpointObserver,
    trials: Sequence[Trial],
    count: CountTokens,
    prices: Prices | None = None,
) -> Estimate:
    """Count what `judge` would send, without a key, a connection or a cost."""
    endpoint = observer.endpoint
    shown = [view for trial in trials for view in observer.views(trial)]
    bodies = {
        place_of(endpoint, body): body
        for body in (request_body(endpoint, words, trial) for trial, words, _ in shown)
    }
    todo = [body for place, body in bodies.items() if remembered(place) is None]
    read = sum(count(message["content"]) for body in todo for message in body["messages"])
    written = len(todo) * endpoint.answer_tokens
    cost = float("nan")
    if prices is not None:
        cost = (read * prices.read + written * prices.written) / 1e6
    return Estimate(len(todo), len(bodies) - len(todo), read, written, cost)
