"""Requests to an OpenAI-compatible endpoint: the key, the cache, and asking again.

Requests go through ``urllib3``, which waits and asks again after 429, 5xx, timeouts and answers that
were cut off. Each answer is written to the cache at once, so a run that was stopped goes on without
paying twice. (An answer that was lost on the way may have been charged; that cannot be seen here.)
The key is read from the environment when a request is made; it stands in no result, file or error.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import urllib3

from mechbook.artifacts import write_atomically
from mechbook.weber.stimuli import Trial
from mechbook.weber.templates import Template

BASE, MODEL, KEY = "MECHBOOK_API_BASE", "MECHBOOK_API_MODEL", "MECHBOOK_API_KEY"
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_HIDDEN = "[key]"


class EndpointError(ValueError):
    """An endpoint that cannot be used, said in one line without the key."""


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and how. It does not hold the key, which is read when a request is made.

    Attributes:
        base: URL up to and without ``/chat/completions``.
        model: its name there.
        cache: folder for the answers.
        concurrency: requests under way at a time.
        attempts: of each request, the first included.
        timeout: seconds to wait for an answer.
        backoff: seconds before the second repeat; doubled from one to the next, with jitter.
        answer_tokens: that a reply may have.
        temperature: 0 for the model's likeliest answer.
        extra: further fields of the request, such as ``{"seed": 1}``.
    """

    base: str
    model: str
    cache: Path
    concurrency: int = 4
    attempts: int = 6
    timeout: float = 60.0
    backoff: float = 1.0
    answer_tokens: int = 4
    temperature: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = urlsplit(self.base)
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EndpointError(f"the base URL needs http(s):// and a host; set {BASE}")
        if parts.query or parts.fragment or parts.username or parts.password:
            raise EndpointError(f"the base URL holds more than a path; the key belongs into {KEY}")
        if parts.scheme == "http" and not local:
            raise EndpointError("the base URL is http: the key would travel open; use https")
        if not self.model.strip():
            raise EndpointError(f"no model is named; set {MODEL}")
        if min(self.concurrency, self.attempts, self.answer_tokens) < 1 or not self.timeout > 0:
            raise EndpointError("concurrency, attempts, answer tokens and timeout are above 0")

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"{self.base.rstrip('/')}/chat/completions"


def from_environment(cache: Path, **options: Any) -> Endpoint:
    """The endpoint that the environment names.

    Args:
        cache: folder for the answers.
        **options: further fields of `Endpoint`.

    Raises:
        EndpointError: a variable is missing or cannot be used.
    """
    if missing := [name for name in (BASE, MODEL) if not os.environ.get(name, "").strip()]:
        raise EndpointError(f"{' and '.join(missing)} is not set in the environment; export it")
    return Endpoint(os.environ[BASE].strip(), os.environ[MODEL].strip(), cache, **options)


def _key() -> str:
    key = os.environ.get(KEY, "").strip()
    if not key:
        raise EndpointError(f"{KEY} is not set in the environment; export the endpoint's key there")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise EndpointError(f"{KEY} holds a character that no key has; export it again")
    return key


def hidden(text: str, key: str) -> str:
    """The text with every word that shares six characters in a row with the key taken out."""
    pieces = {key[i : i + 6] for i in range(max(1, len(key) - 5))} - {""}
    words = (_HIDDEN if any(p in word for p in pieces) else word for word in text.split(" "))
    return " ".join(words).replace(key, _HIDDEN) if key else text


# --- the cache --------------------------------------------------------------------------------


def request_body(endpoint: Endpoint, template: Template, trial: Trial) -> dict[str, Any]:
    """What is sent for a trial, the key aside."""
    system = {"role": "system", "content": template.instruction}
    user = {"role": "user", "content": template.body(trial)}
    return {
        "model": endpoint.model,
        "messages": [system, user] if template.instruction else [user],
        "temperature": endpoint.temperature,
        "max_tokens": endpoint.answer_tokens,
        **endpoint.extra,
    }


def place_of(endpoint: Endpoint, body: Mapping[str, Any]) -> Path:
    """The cache file of a request: named by what is asked of whom."""
    text = json.dumps([endpoint.base.rstrip("/"), body], sort_keys=True, ensure_ascii=False)
    return endpoint.cache / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def remembered(place: Path) -> dict[str, Any] | None:
    """A finished answer; None where there is none, or a file that something else has broken."""
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("reply"), str) else None


# --- asking -----------------------------------------------------------------------------------


class Asking:
    """Requests under way: a pool of threads, one connection pool, a stop for all."""

    def __init__(self, endpoint: Endpoint):
        self.endpoint, self.key = endpoint, _key()
        self.stop, self.refusal = threading.Event(), ""
        self.http = _connections(endpoint)

    def all(self, todo: Mapping[Path, dict[str, Any]]) -> dict[str, int]:
        """Ask everything; the reasons of failures with their numbers."""
        reasons: dict[str, int] = {}
        with ThreadPoolExecutor(self.endpoint.concurrency) as pool:
            try:
                for reason in pool.map(self.one, todo.keys(), todo.values()):
                    if reason:
                        reasons[reason] = reasons.get(reason, 0) + 1
            finally:
                self.stop.set()  # an interrupt leaves the requests that have not begun
        if self.refusal:
            raise EndpointError(self.refusal)
        return reasons

    def one(self, place: Path, body: dict[str, Any]) -> str:
        """Ask once and remember; the reason where there is no reply."""
        if self.stop.is_set():
            return "stopped"
        status, content = self._send(body)
        if status == 200:
            return self._remember(place, content)
        if status and status not in RETRIED:
            self.refusal = self.refusal or _refused(status, content, self.key)
            self.stop.set()
        return _named(status)

    def _send(self, body: dict[str, Any]) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        try:
            reply = self.http.request(
                "POST", self.endpoint.url, body=json.dumps(body).encode(), headers=headers
            )
        except urllib3.exceptions.HTTPError:
            return 0, b""  # its text and its frames hold the request: neither leaves this function
        return reply.status, reply.data

    def _remember(self, place: Path, content: bytes) -> str:
        try:
            answer = json.loads(content)
            reply = answer["choices"][0]["message"]["content"] or ""
            usage = answer.get("usage") or {}
            tokens = [int(usage.get(f"{part}_tokens") or 0) for part in ("prompt", "completion")]
            kept = {"reply": hidden(str(reply), self.key), "read": tokens[0], "written": tokens[1]}
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return "a reply that is no chat completion"
        write_atomically(place, json.dumps(kept, ensure_ascii=False).encode())
        return ""


def _connections(endpoint: Endpoint) -> Any:
    """Connections that wait and repeat; through the environment's proxy where it names one."""
    retries = urllib3.Retry(
        total=endpoint.attempts - 1,
        backoff_factor=endpoint.backoff,
        backoff_jitter=endpoint.backoff / 2,
        backoff_max=60,
        status_forcelist=RETRIED,
        allowed_methods=None,  # any, POST included
        respect_retry_after_header=True,
        raise_on_status=False,
        redirect=False,  # a redirected request would carry the key elsewhere
    )
    options: dict[str, Any] = {
        "retries": retries,
        "timeout": urllib3.Timeout(connect=min(10.0, endpoint.timeout), read=endpoint.timeout),
        "maxsize": endpoint.concurrency,
    }
    parts = urlsplit(endpoint.base)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        return urllib3.ProxyManager(proxy, **options)
    return urllib3.PoolManager(**options)


def _named(status: int) -> str:
    if not status:
        return "no connection, or no answer in time"
    if status == 200:
        return "a reply that is no chat completion"
    return "too many requests (429)" if status == 429 else f"status {status}"


_MEANINGS = {
    400: "the request was not understood",
    401: f"the key was refused; look at {KEY}",
    402: "there is no credit left",
    403: "the key may not do this",
    404: f"no such model or address; look at {MODEL} and {BASE}",
}


def _refused(status: int, content: bytes, key: str) -> str:
    """Why repeating is of no use; the endpoint's own words only where they can name a field."""
    meaning = _MEANINGS.get(status, "the endpoint refused the request")
    words = ""
    if status in (400, 404, 422):
        try:
            words = str(json.loads(content)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            words = ""
    told = hidden(" ".join(words.split()), key)[:200]
    return f"status {status}: {meaning}" + (f" ({told})" if told else "")
