import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechbook import artifacts
from mechbook.artifacts import ArtifactError, Card


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def a_card(**changes):
    facts = {"about": "a test", "made_by": "tests:made", "command": "none", "seeds": [0, 1]}
    return Card(**(facts | {"seconds": 1.5, "commit": "0" * 40} | changes))


def saved_tensors(data, name="two-weights"):
    tensors = {"W": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([True, False])}
    artifacts.save_tensors(name, tensors, card=a_card(), data=data)
    return tensors


def one_line(raised):
    text = str(raised.value)
    assert "\n" not in text
    return text


# --- there and back ---


def test_tensors_come_back_as_they_were(data):
    tensors = saved_tensors(data)
    back = artifacts.load_tensors("two-weights", data=data)
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert list(back) == ["W", "b"]


def test_tied_and_transposed_tensors_can_be_saved(data):
    base = torch.arange(6.0).reshape(2, 3)
    artifacts.save_tensors("tied", {"a": base, "b": base.T}, card=a_card(), data=data)
    back = artifacts.load_tensors("tied", data=data)
    assert torch.equal(back["a"], back["b"].T)


def test_table_comes_back_with_its_types(data):
    columns = {
        "seed": np.array([0, 1, 2]),
        "loss": np.array([0.5, np.nan, -1.0], dtype=np.float32),
        "done": np.array([True, False, True]),
        "setting": np.array(["a", "bb", "ä"]),
    }
    artifacts.save_table("runs", columns, card=a_card(), data=data)
    back = artifacts.load_table("runs", data=data)
    for name, column in columns.items():
        np.testing.assert_array_equal(back[name], column)
        assert back[name].dtype.kind == column.dtype.kind
    assert back["loss"].dtype == np.float32


def saved_texts(data):
    columns = {"title": np.array(["Emma", ""]), "text": np.array(["Emma — “ß”\n\nx", "two"])}
    artifacts.save_texts("tales", columns, card=a_card(), data=data)
    return columns


def test_texts_come_back_as_they_were(data):
    columns = saved_texts(data)
    back = artifacts.load_texts("tales", data=data)
    assert {name: column.tolist() for name, column in back.items()} == {
        name: column.tolist() for name, column in columns.items()
    }


def test_texts_without_a_column_of_text_are_refused(data):
    with pytest.raises(ArtifactError, match="tales needs a column text; it has: title"):
        artifacts.save_texts("tales", {"title": ["x"]}, card=a_card(), data=data)


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(max_examples=30)
@given(content=plain_values)
def test_plain_values_come_back_as_they_were(tmp_path_factory, content):
    data = tmp_path_factory.mktemp("plain")
    artifacts.save_json("settings-of-it", content, card=a_card(), data=data)
    assert artifacts.load_json("settings-of-it", data=data) == content


def test_a_json_file_is_no_card_and_a_card_no_json_file(data):
    artifacts.save_json("words", [1], card=a_card(), data=data)
    (status,) = artifacts.listing(data=data)
    assert (status.name, status.kind, status.problem) == ("words", "json", "")


@pytest.mark.parametrize("columns", [{}, {"a": [1], "b": [1, 2]}, {"a": [[1]]}, {"a": [None]}])
def test_what_is_no_table_is_refused(data, columns):
    with pytest.raises(ArtifactError, match="column"):
        artifacts.save_table("runs", columns, card=a_card(), data=data)


def test_card_says_where_the_artifact_came_from(data):
    saved_tensors(data)
    card = artifacts.load_card("two-weights", data=data)
    assert (card.about, card.seeds, card.seconds) == ("a test", [0, 1], 1.5)
    assert card.versions["torch"] == torch.__version__
    assert card.sha256 == artifacts.checksum("two-weights", data=data)


# --- what must be refused ---


def damaged(data, how):
    file = data / "weights" / "two-weights.safetensors"
    content = file.read_bytes()
    match how:
        case "truncated":
            file.write_bytes(content[:-1])
        case "altered":
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "missing":
            file.unlink()
        case "without card":
            file.with_name("two-weights.card.json").unlink()
        case "broken card":
            file.with_name("two-weights.card.json").write_text("{")
        case "card of another age":
            file.with_name("two-weights.card.json").write_text('{"maker": 1}')


DAMAGES = ["truncated", "altered", "missing", "without card", "broken card", "card of another age"]


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_gives_one_line_with_file_and_command(data, how):
    saved_tensors(data)
    damaged(data, how)
    with pytest.raises(ArtifactError) as raised:
        artifacts.load_tensors("two-weights", data=data)
    text = one_line(raised)
    assert "weights/two-weights." in text
    assert "python -m mechbook make two-weights" in text
    assert str(data) not in text


@pytest.mark.parametrize(
    ("name", "load", "file"),
    [
        ("tales", artifacts.load_texts, "texts/tales.parquet"),
        ("words", artifacts.load_json, "settings/words.json"),
    ],
)
@pytest.mark.parametrize("how", ["altered", "truncated", "missing"])
def test_damaged_texts_and_plain_values_are_refused(data, name, load, file, how):
    saved_texts(data)
    artifacts.save_json("words", ["a", "b"], card=a_card(), data=data)
    content = (data / file).read_bytes()
    match how:
        case "altered":
            (data / file).write_bytes(content[:5] + bytes([content[5] ^ 1]) + content[6:])
        case "truncated":
            (data / file).write_bytes(content[:-1])
        case "missing":
            (data / file).unlink()
    with pytest.raises(ArtifactError, match=rf"{file} is .*make {name}`") as raised:
        load(name, data=data)
    one_line(raised)


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(tmp_path_factory, position, bit):
    data = tmp_path_factory.mktemp("bits")
    saved_tensors(data)
    file = data / "weights" / "two-weights.safetensors"
    content = bytearray(file.read_bytes())
    content[position % len(content)] ^= 1 << bit
    file.write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match="altered"):
        artifacts.load_tensors("two-weights", data=data)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "Big", "a.b", "a--b", "-a", "a b", "a\n"])
def test_bad_name_is_refused_with_the_good_ones(data, name):
    saved_tensors(data)
    with pytest.raises(ArtifactError, match="two-weights"):
        artifacts.load_tensors(name, data=data)
    with pytest.raises(ArtifactError, match="two-weights"):
        artifacts.save_tensors(name, {}, card=a_card(), data=data)


def test_unknown_name_gets_the_list_of_good_ones(data):
    saved_tensors(data)
    with pytest.raises(ArtifactError, match="'other'; there are: two-weights"):
        artifacts.load_table("other", data=data)


def test_wrong_kind_says_how_to_read_it(data):
    saved_tensors(data)
    with pytest.raises(ArtifactError, match="load_tensors"):
        artifacts.load_table("two-weights", data=data)
    saved_texts(data)
    with pytest.raises(ArtifactError, match="load_texts"):
        artifacts.load_table("tales", data=data)


def test_one_name_cannot_hold_two_kinds(data):
    saved_tensors(data)
    with pytest.raises(ArtifactError, match="already"):
        artifacts.save_table("two-weights", {"a": [1]}, card=a_card(), data=data)


PATHS = ["/home/me/x", "see /tmp/y", "~/x", "~me/x", r"C:\x", "C:/x", "--out=/var/x", "file:/x"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("where", ["about", "inputs", "versions"])
def test_card_with_an_absolute_path_is_refused(data, path, where):
    card = a_card(**{where: path if where == "about" else {path: "x"}})
    with pytest.raises(ArtifactError, match="absolute path"):
        artifacts.save_tensors("x", {}, card=card, data=data)
    assert not data.exists()


@pytest.mark.parametrize("text", ["https://arxiv.org/abs/1", "and/or", "1 / 2", "a: b", "n ~ 3"])
def test_card_with_an_address_or_a_slash_is_taken(data, text):
    artifacts.save_tensors("x", {}, card=a_card(about=text), data=data)
    assert artifacts.load_card("x", data=data).about == text


def test_too_large_is_refused(data, monkeypatch):
    monkeypatch.setattr(artifacts, "LARGEST", 100)
    with pytest.raises(ArtifactError, match="MiB"):
        saved_tensors(data)
    assert not data.exists()


def test_failed_write_leaves_the_old_content(tmp_path, monkeypatch):
    file = tmp_path / "f"
    artifacts.write_atomically(file, b"old")
    monkeypatch.setattr(artifacts.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        artifacts.write_atomically(file, b"new")
    assert file.read_bytes() == b"old"


# --- recipes ---


@pytest.fixture
def room(data, monkeypatch):
    """A module of a chapter with two functions, and the recipes that name them."""
    module = types.ModuleType("a_room")
    module.weights = lambda scale=1.0: ({"W": scale * torch.ones(2)}, {"about": "W", "seeds": [3]})
    module.shy = lambda: ({"a": [1]}, {"seeds": []})
    module.plain = lambda text: ([1], {"about": "plain", "seeds": []})
    module.texts = lambda: ({"text": ["x"]}, {"about": "texts", "seeds": []})
    monkeypatch.setitem(sys.modules, "a_room", module)
    line = "- {{name: {}, function: '{}', chapter: c, kind: {}, minutes: 1}}\n"
    data.mkdir()
    (data / "recipes.yml").write_text(
        line.format("ones", "a_room:weights", "tensors")
        + line.format("shy", "a_room:shy", "table")
        + line.format("gone", "a_room:gone", "table")
        + line.format("plain", "a_room:plain", "json")
        + line.format("tales", "a_room:texts", "texts")
    )
    return data


def test_make_computes_saves_and_says_how(room):
    card = artifacts.make("ones", data=room, scale=2.0)
    assert torch.equal(artifacts.load_tensors("ones", data=room)["W"], torch.full((2,), 2.0))
    assert card.command == "python -m mechbook make ones --scale 2.0"
    assert (card.made_by, card.seeds) == ("a_room:weights", [3])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nope", {}, "there are: gone, ones, plain, shy, tales"),
        ("ones", {"speed": 1}, "takes: scale"),
        ("gone", {}, "cannot be found"),
        ("shy", {}, "must give about and seeds"),
    ],
)
def test_make_refuses_in_one_line(room, name, options, message):
    with pytest.raises(ArtifactError, match=message) as raised:
        artifacts.make(name, data=room, **options)
    one_line(raised)


def test_make_saves_plain_values_and_texts(room):
    artifacts.make("plain", data=room, text="owner/books")
    artifacts.make("tales", data=room)
    assert artifacts.load_json("plain", data=room) == [1]
    assert artifacts.load_texts("tales", data=room)["text"].tolist() == ["x"]


def test_a_plan_is_the_recipes_own_words_or_none(room):
    module = sys.modules["a_room"]
    module.shy = lambda size=1, dry_run=False: f"{size} runs" if dry_run else None
    assert artifacts.plan("shy", data=room, size=3) == "3 runs"
    assert artifacts.takes("shy", data=room) == {"size": 1, "dry_run": False}
    assert artifacts.plan("ones", data=room, scale=2.0) == ""
    module.shy = lambda dry_run=False: ({"a": [1]}, {})
    with pytest.raises(ArtifactError, match="must return text for dry_run"):
        artifacts.plan("shy", data=room)
    assert not (room / "results").exists()


def test_a_trial_is_saved_elsewhere(room, tmp_path):
    artifacts.make("ones", data=room)
    artifacts.make("ones", data=room, into=tmp_path / "trial", scale=2.0)
    assert artifacts.load_tensors("ones", data=room)["W"].tolist() == [1, 1]
    assert artifacts.load_tensors("ones", data=tmp_path / "trial")["W"].tolist() == [2, 2]


@pytest.mark.parametrize("where", ["absolute", "relative", "here"])
def test_a_card_names_a_folder_and_not_where_it_lies(room, tmp_path, monkeypatch, where):
    books = tmp_path / "deep" / "my-books"
    books.mkdir(parents=True)
    monkeypatch.chdir(tmp_path if where == "relative" else books)
    given_as = {"absolute": str(books), "relative": "deep/my-books", "here": "."}[where]
    card = artifacts.make("plain", data=room, text=given_as)
    assert card.command == "python -m mechbook make plain --text my-books"
    written = (room / "settings" / "plain.card.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in written


def test_a_name_of_the_hub_stays_whole_in_the_card(room):
    card = artifacts.make("plain", data=room, text="owner/no-such-books")
    assert card.command == "python -m mechbook make plain --text owner/no-such-books"


def test_artifact_not_made_yet_names_its_command(room):
    with pytest.raises(ArtifactError, match=r"weights/ones.safetensors is missing.*make ones"):
        artifacts.load_tensors("ones", data=room)


@pytest.mark.parametrize(
    "entry",
    [
        "- {name: a}",
        "- {name: A, function: 'm:f', chapter: c, kind: table, minutes: 1}",
        "- {name: a, function: 'm:f', chapter: c, kind: pickle, minutes: 1}",
        "- {name: a, function: m.f, chapter: c, kind: table, minutes: 1}",
        2 * "- {name: a, function: 'm:f', chapter: c, kind: table, minutes: 1}\n",
    ],
)
def test_bad_recipe_is_refused(data, entry):
    data.mkdir()
    (data / "recipes.yml").write_text(entry)
    with pytest.raises(ArtifactError, match=r"recipes\.yml"):
        artifacts.recipes(data=data)


def test_listing_tells_good_from_broken(room):
    artifacts.make("ones", data=room)
    saved_tensors(room)
    damaged(room, "altered")
    good, bad = artifacts.listing(data=room)
    assert (good.name, good.kind, good.ok, good.recipe.chapter) == ("ones", "tensors", True, "c")
    assert good.size == (room / "weights" / "ones.safetensors").stat().st_size
    assert (bad.name, bad.ok, bad.recipe) == ("two-weights", False, None)
    assert "altered" in bad.problem


# --- what ships with the book ---


def test_every_shipped_artifact_is_whole_and_can_be_made_again():
    listed = artifacts.listing()
    assert [status.problem for status in listed if not status.ok] == []
    assert [status.name for status in listed if status.recipe is None] == []
    assert sum(status.size for status in listed) <= 40 * 2**20


def test_every_recipe_names_a_function_that_is_there():
    for recipe in artifacts.recipes().values():
        assert callable(artifacts._function(recipe, {}))


def test_shipped_cards_are_plain_json():
    for path in Path(artifacts.DATA).glob("*/*.card.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["sha256"]
