"""A judge behind HTTP, against a local server that misbehaves; the key must not appear anywhere."""

import json
import logging
import os
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from mechbook.weber import asking, endpoint
from mechbook.weber.endpoint import Endpoint, EndpointError, EndpointObserver
from mechbook.weber.stimuli import Design, pairs, write
from mechbook.weber.templates import CHAT, Prices

KEY = "sk-test-0123456789abcdefSECRET"
TRIALS = write(pairs(Design((10,), (2, 4), 4)), ["word", "other", "third"])


class Server(ThreadingHTTPServer):
    """Answers by script: a function from (prompt, how often it was asked) to an action."""

    daemon_threads = True

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.asked, self.headers = script, Counter(), []
        self.running = self.most = 0
        self.lock = threading.Lock()

    @property
    def base(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


def completion(text):
    usage = {"prompt_tokens": 50, "completion_tokens": 1}
    return json.dumps({"choices": [{"message": {"content": text}}], "usage": usage}).encode()


def truth(prompt):
    left, right = (part.split("\n\n")[0].split() for part in prompt.split(":\n")[1:3])
    return completion("right" if len(right) > len(left) else "left")


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        server, body = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        with server.lock:
            server.asked[prompt] += 1
            server.running += 1
            server.most = max(server.most, server.running)
            server.headers.append(self.headers["Authorization"])
        try:
            server.script(self, prompt, server.asked[prompt])
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with server.lock:
                server.running -= 1

    def reply(self, content, status=200, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def serve(monkeypatch, tmp_path):
    monkeypatch.setenv(asking.KEY, KEY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = []

    def start(script, **options):
        server = Server(script)
        running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fast = {"backoff": 0.01, "timeout": 5.0, **options}
        return server, EndpointObserver(Endpoint(server.base, "m", tmp_path / "cache", **fast))

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def good(handler, prompt, times):
    handler.reply(truth(prompt))


def everything_written(tmp_path):
    return " ".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())


def test_a_good_server_is_asked_once_for_each_trial(serve):
    server, judge = serve(good)
    assert judge.judge(TRIALS).tolist() == [float(t.difference > 0) for t in TRIALS]
    assert set(server.asked.values()) == {1}
    assert set(server.headers) == {f"Bearer {KEY}"}
    report = judge.report
    assert (report.asked, report.cached, report.failed) == (len(TRIALS), 0, 0)
    assert (report.read, report.written) == (50 * len(TRIALS), len(TRIALS))


def test_a_second_run_asks_nothing(serve):
    server, judge = serve(good)
    first = judge.judge(TRIALS)
    assert judge.judge(TRIALS).tolist() == first.tolist()
    assert server.asked.total() == len(TRIALS)
    assert judge.report.cached == len(TRIALS)


def test_another_model_or_prompt_is_another_answer(serve, tmp_path):
    server, judge = serve(good)
    judge.judge(TRIALS[:1])
    other = EndpointObserver(Endpoint(server.base, "m2", judge.endpoint.cache, backoff=0.01))
    other.judge(TRIALS[:1])
    assert server.asked.total() == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(serve, status):
    def busy(handler, prompt, times):
        if times < 3:
            handler.reply(b"{}", status)
        else:
            good(handler, prompt, times)

    server, judge = serve(busy)
    assert not np.isnan(judge.judge(TRIALS)).any()
    assert set(server.asked.values()) == {3}


def test_the_server_says_how_long_to_wait(serve):
    at = []

    def wait(handler, prompt, times):
        at.append(time.monotonic())
        if times == 1:
            handler.reply(b"", 429, Retry_After="1")
        else:
            good(handler, prompt, times)

    _, judge = serve(wait)
    judge.judge(TRIALS[:1])
    assert at[1] - at[0] >= 0.95


def test_a_slow_answer_and_one_cut_off_are_asked_again(serve):
    def bad(handler, prompt, times):
        if times == 1:
            time.sleep(0.6)
        if times == 2:
            handler.reply(truth(prompt)[:20], length=500)
            handler.connection.close()
            return
        good(handler, prompt, times)

    server, judge = serve(bad, timeout=0.3)
    assert not np.isnan(judge.judge(TRIALS[:2])).any()
    assert set(server.asked.values()) == {3}


@pytest.mark.parametrize("content", [b"not json", b"{}", b'{"choices": []}', b"[1]", b"\xff"])
def test_a_malformed_reply_is_a_failure_that_is_not_remembered(serve, content):
    answers = {}

    def once(handler, prompt, times):
        first = answers.setdefault("prompt", prompt) == prompt and times == 1
        handler.reply(content) if first else good(handler, prompt, times)

    _, judge = serve(once, concurrency=1)
    assert np.isnan(judge.judge(TRIALS)).sum() == 1
    assert judge.report.failed == 1
    assert judge.report.reasons == {"a reply that is no chat completion": 1}
    assert not np.isnan(judge.judge(TRIALS)).any()
    assert judge.report.asked == 1


def test_replies_that_name_no_side_are_counted_and_not_guessed(serve):
    def unsure(handler, prompt, times):
        handler.reply(completion("I cannot tell."))

    _, judge = serve(unsure)
    assert np.isnan(judge.judge(TRIALS)).all()
    assert (judge.report.unparsable, judge.report.failed) == (len(TRIALS), 0)


def test_no_more_requests_at_a_time_than_asked_for(serve):
    def slow(handler, prompt, times):
        time.sleep(0.05)
        good(handler, prompt, times)

    server, judge = serve(slow, concurrency=2)
    judge.judge(TRIALS)
    assert server.most == 2


def test_a_run_that_was_stopped_goes_on_without_paying_twice(serve):
    state = {"left": 3}

    def breaks(handler, prompt, times):
        state["left"] -= 1
        if state["left"] < 0:
            handler.reply(b'{"error": {"message": "no credit"}}', 402)
        else:
            good(handler, prompt, times)

    server, judge = serve(breaks, concurrency=1)
    with pytest.raises(EndpointError, match="no credit left"):
        judge.judge(TRIALS)
    assert server.asked.total() == 4  # it stops at once
    state["left"] = 1000
    judge.judge(TRIALS)
    assert (judge.report.cached, judge.report.asked) == (3, len(TRIALS) - 3)


def test_a_broken_cache_file_is_asked_again(serve):
    server, judge = serve(good)
    judge.judge(TRIALS[:1])
    (file,) = judge.endpoint.cache.glob("*.json")
    file.write_text(file.read_text()[:5])
    assert not np.isnan(judge.judge(TRIALS[:1])).any()
    assert server.asked.total() == 2


def test_four_views_undo_a_judge_that_always_says_right(serve):
    def always(handler, prompt, times):
        handler.reply(completion("right"))

    server, judge = serve(always)
    judge.counterbalanced = True
    assert judge.judge(TRIALS).tolist() == [0.5] * len(TRIALS)
    assert server.asked.total() == 4 * len(TRIALS)


# --- the key ------------------------------------------------------------------------------------


def echoes(handler, prompt, times):
    handler.reply(completion(f"right, by the way {handler.headers['Authorization']}"))


def refuses(status):
    def script(handler, prompt, times):
        words = f"Incorrect API key provided: {KEY[:12]}***{KEY[-6:]}. You sent Bearer {KEY}"
        handler.reply(json.dumps({"error": {"message": words}}).encode(), status)

    return script


def test_the_key_is_in_no_cache_file_even_if_the_server_says_it(serve, tmp_path):
    _, judge = serve(echoes)
    assert (judge.judge(TRIALS) == 1).all()
    written = everything_written(tmp_path)
    assert "[key]" in written
    assert KEY not in written


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_the_key_is_in_no_error(serve, status, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    _, judge = serve(refuses(status))
    with pytest.raises(EndpointError, match=f"status {status}") as caught:
        judge.judge(TRIALS)
    shown = str(caught.value) + repr(caught.value) + caplog.text + "".join(capfd.readouterr())
    shown += everything_written(tmp_path) + repr(judge)
    for piece in (KEY, KEY[:12], KEY[-6:]):
        assert piece not in shown
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_the_key_is_in_no_log_of_a_server_that_is_not_there(serve, caplog, capfd, tmp_path):
    caplog.set_level(logging.DEBUG)
    server, judge = serve(good, attempts=2)
    server.shutdown()
    server.server_close()
    with pytest.raises(EndpointError, match="no connection") as caught:
        judge.judge(TRIALS[:2])
    shown = str(caught.value) + caplog.text + "".join(capfd.readouterr()) + repr(judge)
    assert KEY not in shown
    assert caught.value.__context__ is None


def test_a_redirect_does_not_carry_the_key_elsewhere(serve):
    other, _ = serve(good)

    def away(handler, prompt, times):
        handler.reply(b"", 307, Location=f"{other.base}/chat/completions")

    _, judge = serve(away)
    with pytest.raises(EndpointError, match="status 307"):
        judge.judge(TRIALS)
    assert not other.headers


def test_without_a_key_nothing_is_sent(serve, monkeypatch):
    server, judge = serve(good)
    monkeypatch.delenv(asking.KEY)
    with pytest.raises(EndpointError, match=asking.KEY):
        judge.judge(TRIALS)
    assert not server.asked


def test_a_key_with_a_line_break_inside_is_refused_without_being_shown(serve, monkeypatch):
    _, judge = serve(good)
    monkeypatch.setenv(asking.KEY, "abc\nX-Header: 1")
    with pytest.raises(EndpointError) as caught:
        judge.judge(TRIALS)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("api.example.org/v1", "http"),
        ("http://api.example.org/v1", "use https"),
        ("https://user:pw@api.example.org/v1", "more than a path"),
        ("https://api.example.org/v1?key=abc", "more than a path"),
    ],
)
def test_a_base_that_would_give_the_key_away_is_refused(base, words, tmp_path):
    with pytest.raises(EndpointError, match=words) as caught:
        Endpoint(base, "m", tmp_path)
    assert "abc" not in str(caught.value)


def test_the_environment_names_the_endpoint(monkeypatch, tmp_path):
    for name in (asking.BASE, asking.MODEL):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(EndpointError, match=f"{asking.BASE} and {asking.MODEL}"):
        endpoint.from_environment(tmp_path)
    monkeypatch.setenv(asking.BASE, "https://example.org/v1/")
    monkeypatch.setenv(asking.MODEL, "some-model")
    found = endpoint.from_environment(tmp_path, concurrency=2)
    assert (found.url, found.model, found.concurrency) == (
        "https://example.org/v1/chat/completions",
        "some-model",
        2,
    )
    assert os.environ.get(asking.KEY, "no key") not in repr(found)


# --- before paying ----------------------------------------------------------------------------


def test_a_dry_run_needs_no_key_and_no_server_and_counts_what_judge_sends(serve, monkeypatch):
    server, judge = serve(good)
    monkeypatch.delenv(asking.KEY)

    def words(text):
        return len(text.split())

    found = endpoint.dry_run(judge, TRIALS, words, Prices(1.0, 2.0))
    sent = sum(words(CHAT.instruction) + words(CHAT.body(trial)) for trial in TRIALS)
    assert (found.requests, found.cached, found.read) == (len(TRIALS), 0, sent)
    assert found.cost == pytest.approx((sent + 2 * 4 * len(TRIALS)) / 1e6)
    assert not server.asked
    monkeypatch.setenv(asking.KEY, KEY)
    judge.judge(TRIALS[:3])
    assert endpoint.dry_run(judge, TRIALS, words).cached == 3
