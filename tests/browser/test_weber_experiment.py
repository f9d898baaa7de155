"""The experiment on people: by keyboard, from file://, its curve against the notebook's, its CSV read back."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from mechbook.weber import people
from mechbook.weber.psychometrics import Counts, fit_curve

from .conftest import open_context, url

PAGE = "book/teaching/weber_experiment.html"
HEADER = "person,mean,m,n,answer\n"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with open_context(browser) as context:
        page = context.new_page()
        page.goto(url(PAGE))
        yield page


def part(name: str) -> str:
    return f".we-experiment [data-we={name}]"


def one_answer(page: Page, key: str) -> tuple[int, int]:
    """Show a pair with the keyboard and answer; how many words stood left and right."""
    page.wait_for_timeout(420)  # pairs keep a distance
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelectorAll('.we-cloud span').length > 0")
    left, right = (page.locator(f".we-cloud >> nth={i}").locator("span").count() for i in (0, 1))
    page.keyboard.press(key)
    return left, right


def exported(page: Page) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.locator(part("save")).click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def loaded(page: Page, text: str, name: str = "group.csv") -> None:
    file = {"name": name, "mimeType": "text/csv", "buffer": text.encode()}
    page.locator(part("file")).set_input_files(file)
    page.wait_for_function(
        "name => document.querySelector('[data-we=status]').textContent.includes(name)", arg=name
    )


def test_a_few_trials_by_keyboard_end_in_a_table_and_a_file(page: Page) -> None:
    page.locator(part("person")).fill('Ada, "the first"')
    page.locator(part("start")).focus()
    page.keyboard.press("Enter")
    seen = [one_answer(page, key) for key in ("ArrowLeft", "ArrowRight", "ArrowRight")]
    page.locator(part("stop")).focus()
    page.keyboard.press("Enter")
    assert page.locator(part("results")).is_visible()
    assert page.evaluate("document.activeElement.textContent") == "Your curves"
    rows = exported(page)
    assert [(int(row["m"]), int(row["n"])) for row in rows] == seen
    assert [row["answer"] for row in rows] == ["left", "right", "right"]
    assert {row["person"] for row in rows} == {'Ada, "the first"'}


def test_the_clouds_go_away_after_their_time(page: Page) -> None:
    page.locator(part("time")).select_option("300")
    page.locator(part("start")).click()
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelectorAll('.we-cloud span').length > 0")
    page.wait_for_function("document.querySelectorAll('.we-cloud span').length === 0", timeout=2000)
    assert page.locator(part("left")).get_attribute("aria-disabled") == "false"


def test_no_answer_counts_before_a_pair_is_shown(page: Page) -> None:
    page.locator(part("start")).click()
    page.keyboard.press("ArrowLeft")
    page.locator(part("right")).dispatch_event("click")  # Playwright waits for a button that is off
    page.locator(part("stop")).click()
    assert not page.locator(part("results")).is_visible()


def test_two_pairs_keep_their_distance(page: Page) -> None:
    page.clock.install()
    words = page.locator(".we-cloud span")
    page.locator(part("start")).click()
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 5)
    page.keyboard.press("Space")
    page.clock.run_for(390)
    assert words.count() > 0
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")  # too early: no pair comes, however long one waits
    page.clock.run_for(5000)
    assert words.count() == 0
    page.keyboard.press("Space")
    page.clock.run_for(390)
    assert words.count() > 0


def test_sides_are_balanced_and_every_pair_exists(page: Page) -> None:
    rows = page.evaluate("mechbookWeber.design(2, mechbookWeber.generator(1))")
    assert len(rows) == 48
    for row in rows:
        assert (row["m"] + row["n"]) == 2 * row["mean"]
        assert {"mean": row["mean"], "m": row["n"], "n": row["m"]} in rows
    assert max(row["n"] for row in rows) <= 40  # places in a cloud


def test_the_curve_is_that_of_the_notebook(page: Page) -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        size = np.array([-8, -6, -4, -2, 2, 4, 6, 8])
        p = 1 / (1 + np.exp(-(draw.normal() * 0.3 + size * draw.uniform(0.1, 0.6))))
        right = draw.binomial(12, p)
        cells = [
            {"mean": 20, "difference": int(d), "right": int(r), "trials": 12}
            for d, r in zip(size, right, strict=True)
        ]
        own = page.evaluate("cells => mechbookWeber.fit(cells)", cells)
        counts = Counts(np.full(8, 20.0), size.astype(float), right.astype(float), np.full(8, 12.0))
        wanted = fit_curve(counts, link="logistic")
        assert own["jnd"] == pytest.approx(wanted.jnd, rel=1e-3)
        assert own["pse"] == pytest.approx(wanted.pse, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(
    ("right", "words"),
    [
        ([2, 2], "all answers on one side"),
        ([0, 0], "all answers on one side"),
        ([2, 0], "no better than chance"),
        ([0, 0, 0], "all answers on one side"),
    ],
)
def test_answers_that_no_curve_fits_are_named(page: Page, right: list[int], words: str) -> None:
    cells = [
        {"mean": 20, "difference": 2 * i - 1, "right": r, "trials": 2} for i, r in enumerate(right)
    ]
    assert page.evaluate("cells => mechbookWeber.fit(cells)", cells)["problem"] == words


def test_a_perfect_judge_is_a_step(page: Page) -> None:
    cells = [{"mean": 9, "difference": d, "right": 5 * (d > 0), "trials": 5} for d in (-2, 2, 4)]
    assert page.evaluate("cells => mechbookWeber.fit(cells)", cells) == {
        "jnd": 0,
        "pse": 0,
        "step": True,
    }


def test_files_of_a_group_are_added_and_shown(page: Page) -> None:
    draw, rows = np.random.default_rng(1), []
    for mean in (10, 20, 30):
        for _ in range(80):
            d = int(draw.choice([-8, -4, -2, 2, 4, 8]))
            p = 1 / (1 + np.exp(-np.log(3) * d / (0.15 * mean)))
            side = "right" if draw.random() < p else "left"
            rows.append(f"A,{mean},{mean - d // 2},{mean + d // 2},{side}")
    loaded(page, HEADER + "\n".join(rows[:120]) + "\n", "one.csv")
    loaded(page, HEADER + "\r\n".join(rows[120:]).replace("A,", "B,"), "two.csv")
    assert "240 answers of 2 people" in page.locator(part("who")).inner_text()
    assert page.locator(part("table") + " tr").count() == 3
    assert page.locator(part("plot") + " polyline").count() == 3
    told = page.locator(part("plot")).get_attribute("aria-label") or ""
    assert "mean 10: JND" in told
    assert "mean to the power of" in page.locator(part("exponent")).inner_text()
    page.locator(part("ratio")).focus()
    page.keyboard.press("Space")
    assert "(n + m)" in (page.locator(part("plot")).text_content() or "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "no column person"),
        (HEADER + "A,10,nine,11,left\n", "line 2"),
        (HEADER + "A,10,9,11,both\n", "line 2"),
        (HEADER + "A,10,,11,left\n", "line 2"),
        ("", "no column"),
    ],
)
def test_a_file_of_something_else_is_refused(page: Page, text: str, words: str) -> None:
    loaded(page, text, "other.csv")
    assert words in page.locator(part("status")).inner_text()
    assert not page.locator(part("results")).is_visible()


def test_what_is_exported_is_read_by_the_notebook(page: Page, tmp_path: Path) -> None:
    loaded(page, HEADER + 'A,10,9,11,right\n"=B, the second",10,11,9,left\n')
    with page.expect_download() as download:
        page.locator(part("save")).click()
    file = tmp_path / "answers.csv"
    download.value.save_as(file)
    found = people.load_answers(file)
    assert list(found) == ["A", "'=B, the second"]  # no spreadsheet takes it for a formula
    assert people.pooled(found).trials.tolist() == [1, 1]


def test_a_name_is_text_and_never_markup(page: Page) -> None:
    loaded(page, HEADER + "<img src=x onerror=window.hurt=1>,10,9,11,right\nB,10,11,9,left\n")
    assert page.evaluate("window.hurt") is None
    assert page.locator(".we-experiment img").count() == 0


def test_deleting_leaves_nothing(page: Page) -> None:
    loaded(page, HEADER + "A,10,9,11,right\nA,10,11,9,left\n")
    page.locator(part("clear")).click()
    assert not page.locator(part("results")).is_visible()


def test_clicks_ask_after_both_ears(page: Page) -> None:
    page.locator(part("how")).select_option("hear")
    page.locator(part("start")).click()
    page.keyboard.press("Space")
    page.wait_for_function(
        "document.querySelector('[data-we=left]').getAttribute('aria-disabled') === 'false'",
        timeout=15_000,
    )
    assert page.locator(".we-cloud span").count() == 0
    page.keyboard.press("ArrowRight")
    page.locator(part("stop")).click()
    assert [row["how"] for row in exported(page)] == ["hear"]


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_reduced_motion_has_no_cross_and_more_time(browser: Browser, motion: str) -> None:
    context = browser.new_context(reduced_motion=motion)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(url(PAGE))
    calm = motion == "reduce"
    assert page.locator(part("time")).input_value() == ("1500" if calm else "700")
    page.locator(part("start")).click()
    page.keyboard.press("Space")
    crossed = page.evaluate(
        "document.querySelector('.we-experiment').classList.contains('we-cross')"
    )
    assert crossed != calm
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_with_results_it_is_accessible_and_fits_a_phone(browser: Browser, theme: str) -> None:
    with open_context(browser, theme=theme, width=360) as context:
        page = context.new_page()
        page.goto(url(PAGE))
        loaded(
            page, HEADER + "A,10,9,11,right\nA,10,11,9,left\nA,20,16,24,right\nA,20,24,16,left\n"
        )
        page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        violations = Axe().run(page, context=".we-experiment").response["violations"]
        assert [f"{v['id']}: {v['nodes'][0]['html'][:160]}" for v in violations] == []
        box = page.locator(".we-experiment")
        assert box.evaluate("e => e.scrollWidth <= e.clientWidth")


def test_without_script_it_says_so(browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url(PAGE))
    assert "needs JavaScript" in page.locator(".we-experiment").inner_text()
    context.close()


def test_it_asks_nobody_outside_the_book(browser: Browser) -> None:
    asked: list[str] = []
    with open_context(browser) as context:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url(PAGE))
        page.locator(part("start")).click()
        one_answer(page, "ArrowLeft")
        page.locator(part("stop")).click()
        exported(page)
    assert [a for a in asked if not a.startswith(("file:", "blob:", "data:"))] == []
