"""The page of latents: whole without script, small, escaped, and its files loadable."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from mechbook import artifacts
from mechbook.pages import latents
from mechbook.sae.cards import mark_css
from mechbook.sae.dashboard import BANDS, Card, Example


def card(latent: int, rule: str = "at “sea”") -> Card:
    words = ("the", "calm", "<sea>", "##s", ",") * 4
    example = Example(words, tuple(1.0 if w == "<sea>" else 0.0 for w in words), 2)
    groups = {name: (example,) * 4 for name in BANDS}
    logits = tuple((f"word{i}", 1.0) for i in range(8))
    others = ((1, 0.5),) * 5
    bins = tuple(range(21)), (1,) * 20
    return Card(latent, 0.01, 2.0, *bins, groups, logits, logits, others, others, rule, 0.7, 0.6)


CARDS = [card(i) for i in range(0, 140, 2)]


class Balance(HTMLParser):
    """Notes elements that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in {"link", "input", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def content(file: str) -> dict[str, str]:
    found = re.fullmatch(r"mechbookLatents\.take\((\d+), (\{.*\})\);\n", file, flags=re.S)
    assert found
    return json.loads(found[2])


def test_every_latent_stands_in_the_page_and_in_one_file() -> None:
    page = latents.page_html(CARDS, "../../")
    files = latents.parts(CARDS)
    for one in CARDS:
        assert f'id="latent-{one.latent}"' in page
        part = int(re.search(rf'data-latent="{one.latent}".*?data-part="(\d+)"', page)[1])
        assert str(one.latent) in content(files[f"{part:02d}.js"])
    assert sum(len(content(file)) for file in files.values()) == len(CARDS)


def test_the_page_is_whole_without_script() -> None:
    page = latents.page_html(CARDS, "")
    assert "<noscript>" in page
    assert '<form class="mb-find" role="search" hidden>' in page
    first = page[page.index("<li") : page.index("</li>")]
    for part in ("at “sea”", "1.00%", "&lt;sea&gt;</mark>", "<code>word0</code>"):
        assert part in first


def test_elements_are_closed_in_order() -> None:
    texts = [latents.page_html(CARDS[:3], "")]
    texts += [text for file in latents.parts(CARDS[:3]).values() for text in content(file).values()]
    for text in texts:
        parser = Balance()
        parser.feed(text)
        assert parser.open == []


def test_words_are_escaped_and_no_file_ends_a_script() -> None:
    evil = [card(0, "at “</script><b>”")]
    assert "</script><b>" not in latents.page_html(evil, "")
    assert "</" not in latents.parts(evil)["00.js"]


def test_a_few_hundred_latents_are_within_the_budget() -> None:
    many = [card(i) for i in range(300)]
    page, files = latents.page_html(many, "../../"), latents.parts(many)
    assert len(page.encode()) < 500_000
    assert len(page.encode()) + sum(len(text.encode()) for text in files.values()) < 2_500_000


def test_files_are_found_from_the_page() -> None:
    page = latents.page_html(CARDS, "../../")
    assert 'data-parts="../../_static/latents/"' in page
    assert 'src="../../_static/latents.js"' in page
    assert (Path(latents.__file__).parent / "assets" / "latents.js").is_file()
    assert (Path(latents.__file__).parent / "assets" / "latents.css").is_file()


def test_the_files_are_written_beside_the_pages_and_old_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents, "_cards", lambda: CARDS)
    folder = tmp_path / "_static" / "latents"
    folder.mkdir(parents=True)
    (folder / "99.js").write_text("old")
    app = SimpleNamespace(builder=SimpleNamespace(format="html"), outdir=tmp_path)
    latents.write_parts(app, None)
    assert sorted(p.name for p in folder.iterdir()) == ["00.js", "01.js", "02.js"]


def test_without_the_artifact_nothing_is_written_and_the_build_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> list[Card]:
        raise artifacts.ArtifactError("sae-dashboard is not here")

    monkeypatch.setattr(latents, "_cards", missing)
    app = SimpleNamespace(builder=SimpleNamespace(format="html"), outdir=tmp_path)
    latents.write_parts(app, None)
    assert not (tmp_path / "_static").exists()


def test_nothing_to_show_and_empty_files_are_refused() -> None:
    with pytest.raises(ValueError, match="no latent to show"):
        latents.page_html([], "")
    with pytest.raises(ValueError, match="size is 0"):
        latents.parts(CARDS, 0)


def test_the_style_sheet_has_the_marks_of_the_notebook() -> None:
    sheet = (Path(latents.__file__).parent / "assets" / "latents.css").read_text()
    for name, opacity in re.findall(
        r"\.(mb-a\d)\{background:rgba\(0,114,178,([\d.]+)\)", mark_css()
    ):
        assert f".{name} {{ background: rgba(0, 114, 178, {opacity}); }}" in sheet
