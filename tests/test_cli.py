from __future__ import annotations

import json
import subprocess
import sys
import types
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mechbook import artifacts, chapters, cli, corpora, exercises

ROOT = Path(__file__).parents[1]
PLACEHOLDER = "https://github.com/OWNER/mechbook"
NEW = "https://example.org/somebody/book"
CONFIG = """\
title: A book
# the repository's address
repository:
  # stands here
  url: https://github.com/OWNER/mechbook  # and nowhere else
  branch: main
html:
  baseurl: https://example.org/pages
"""
CHAPTER = """\
- {{stem: {stem}, room: {room}, title: "{title}", question: "Why?", minutes_read: 5, minutes_run: 1,
   needs: [], written: {written}}}
"""
CLAIM = """\
- id: one.sums
  chapter: one
  statement: It sums.
  source: {kind: notes, ref: "notes 0"}
  holds: "< 1"
  control: {what: one left out, holds: "> 2"}
  verdict: holds
  verdict_text: It does.
"""


def notebook(first_cell: str) -> str:
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": [f"[code]({PLACEHOLDER})"]},
        {"cell_type": "code", "id": "b", "metadata": {}, "source": first_cell.splitlines(True)},
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A small repository of a book, entered."""
    root = tmp_path / "the book"
    (root / "book").mkdir(parents=True)
    (root / "_config.yml").write_text(CONFIG)
    listed = [("one", "first", "The first", "true"), ("two", "second", "The second", "false")]
    names = ("stem", "room", "title", "written")
    text = "".join(CHAPTER.format(**dict(zip(names, entry, strict=True))) for entry in listed)
    (root / "book" / "chapters.yml").write_text(text)
    (root / "book" / "claims.yml").write_text(CLAIM)
    (root / "book" / "one.ipynb").write_text(notebook(cli.setup_cell(PLACEHOLDER)))
    (root / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    monkeypatch.chdir(root / "book")
    return root


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    status = cli.main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


# ---------------------------------------------------------------- the frame


def test_the_root_is_found_from_below(root):
    assert cli.find_root() == root


def test_elsewhere_it_is_the_repository_of_this_package(tmp_path):
    assert cli.find_root(tmp_path) == ROOT


@pytest.mark.parametrize(
    ("arguments", "good"),
    [
        (["dokter"], "'doctor'"),
        ([], "COMMAND"),
        (["make"], "NAME"),
        (["worksheet", "three"], "one, two"),
        (["worksheet", "two"], "with exercises: one"),
    ],
)
def test_a_bad_request_is_one_line_with_the_good_ones(root, capsys, arguments, good):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("mechbook: ")
    assert err.count("\n") == 1
    assert good in err


@pytest.mark.parametrize(
    "arguments", [["--debug", "worksheet", "x"], ["worksheet", "x", "--debug"]]
)
def test_debug_shows_the_traceback(root, arguments):
    with pytest.raises(ValueError, match="'x'"):
        cli.main(arguments)


def test_an_interrupt_is_one_line(root, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(chapters, "load", interrupt)
    assert run(capsys, "list") == (130, "chapters\n", "mechbook: stopped\n")


def test_list_answers_without_heavy_imports(root):
    code = (
        "import sys; from mechbook import cli; status = cli.main(['list']); "
        "heavy = {'torch', 'datasets', 'IPython', 'nbformat', 'matplotlib'} & set(sys.modules); "
        "sys.exit(status or ' '.join(heavy) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_module_passes_the_status_on():
    words = [sys.executable, "-m", "mechbook", "nothing"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'doctor'" in done.stderr


# ---------------------------------------------------------------- list, worksheet, book


def test_list_shows_chapters_in_order_with_their_claims(root, capsys):
    _, out, _ = run(capsys, "list")
    one, two = (line for line in out.splitlines() if "The first" in line or "The second" in line)
    assert "1 claims, not yet run here" in one
    assert "not yet written" in two


def test_list_shows_the_last_execution(root, capsys):
    folder = root / "build" / "executed"
    folder.mkdir(parents=True)
    (folder / "one.json").write_text('{"date": "2026-01-02", "seconds": 41.7}')
    assert "ran 2026-01-02 in 42 s" in run(capsys, "list")[1]


def test_the_real_list_names_every_chapter(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    _, out, _ = run(capsys, "list")
    for chapter in chapters.load(ROOT / "book" / "chapters.yml"):
        assert f" {chapter.stem} " in out


@pytest.mark.parametrize("name", ["One", "one/", "book/one.ipynb"])
def test_only_stems_name_chapters(root, capsys, name):
    assert run(capsys, "worksheet", name)[0] == 2


def test_a_worksheet_is_printed(root, capsys, monkeypatch):
    exercise = exercises.Exercise(name="warm-up", prompt="Add it up.", answer="4.")
    monkeypatch.setattr(chapters, "exercises_of", lambda chapter: (exercise,))
    status, out, _ = run(capsys, "worksheet", "one")
    assert status == 0
    assert "The first" in out
    assert "Add it up." in out


def test_book_builds_this_repository(root, monkeypatch):
    asked = []
    build = types.ModuleType("mechbook.build")
    build.main = lambda words: asked.append(words) or 1
    monkeypatch.setitem(sys.modules, "mechbook.build", build)
    monkeypatch.setattr("mechbook.build", build, raising=False)
    assert cli.main(["book", "--force"]) == 1
    assert asked == [["--root", str(root), "--force"]]


# ---------------------------------------------------------------- artifacts

RECIPE = artifacts.Recipe("one-seeds", "mechbook.first:sweep", "one", "table", 3)


@pytest.fixture
def made(monkeypatch):
    """One recipe, and what is asked of it."""
    asked = []

    def make(name, into=None, **options):
        asked.append((name, options))
        words = {"about": "x", "made_by": "x", "command": "x", "seeds": [], "commit": "x"}
        return artifacts.Card(**words, seconds=12.3, sha256="abc")

    monkeypatch.setattr(artifacts, "recipes", lambda: {"one-seeds": RECIPE})
    monkeypatch.setattr(artifacts, "make", make)
    monkeypatch.setattr(artifacts, "plan", lambda name, **options: "")
    return asked


def test_make_hands_over_to_the_recipe(made, capsys):
    status, out, _ = run(capsys, "make", "one-seeds")
    assert status == 0
    assert made == [("one-seeds", {})]
    assert out.splitlines()[-1] == "made in 12 s, sha256 abc"


def test_make_passes_the_device_on(made, capsys):
    run(capsys, "make", "one-seeds", "--device", "cuda")
    assert made == [("one-seeds", {"device": "cuda"})]


def test_a_dry_run_makes_nothing(made, capsys):
    status, out, _ = run(capsys, "make", "one-seeds", "--dry-run", "--device", "cuda")
    assert (status, made) == (0, [])
    assert out.startswith("would make one-seeds by mechbook.first:sweep on cuda, about 3 min")


def test_an_unknown_artifact_lists_those_that_can_be_made(made, capsys):
    status, _, err = run(capsys, "make", "two-seeds")
    assert (status, made) == (2, [])
    assert err == "mechbook: no artifact 'two-seeds' can be made; those that can: one-seeds\n"


def test_list_shows_artifacts_and_recipes(root, made, capsys, monkeypatch):
    sound = artifacts.Status("one-seeds", "table", 2048, "", RECIPE)
    altered = artifacts.Status("one-model", "tensors", 5, "truncated or altered", None)
    monkeypatch.setattr(artifacts, "listing", lambda: [sound, altered])
    lines = [line.split() for line in run(capsys, "list")[1].splitlines()]
    assert ["one-seeds", "2", "KiB"] in lines
    assert ["one-model", "truncated", "or", "altered"] in lines
    assert ["one-seeds", "one,", "about", "3", "min"] in lines


@pytest.fixture
def swept(root, tmp_path, monkeypatch):
    """Recipes of a room: one for many runs, one that is not; what they are asked, and where."""
    asked = []

    def many(preset="laptop", backend="sequential", scheduler=None, workers=None, dry_run=False):
        asked.append((preset, backend, scheduler, workers, dry_run))
        if dry_run:
            return "2 packs done, 3 to run: about 5 min"
        return {"size": [preset]}, {"about": "many runs", "seeds": [0]}

    room = types.ModuleType("a_room")
    room.many = many
    room.one = lambda: ({"a": [1]}, {"about": "one run", "seeds": []})
    monkeypatch.setitem(sys.modules, "a_room", room)
    line = "- {{name: {0}, function: 'a_room:{0}', chapter: c, kind: table, minutes: 1}}\n"
    data = tmp_path / "data"
    data.mkdir()
    (data / "recipes.yml").write_text(line.format("many") + line.format("one"))
    for name in ("recipes", "plan", "takes", "make"):
        monkeypatch.setattr(artifacts, name, partial(getattr(artifacts, name), data=data))
    return types.SimpleNamespace(asked=asked, data=data, root=root)


def test_options_of_many_runs_reach_the_recipe(swept, capsys):
    options = ["--backend", "dask", "--scheduler", "tcp://127.0.0.1:8786", "--preset", "laptop"]
    assert run(capsys, "make", "many", *options)[0] == 0
    assert swept.asked == [("laptop", "dask", "tcp://127.0.0.1:8786", None, False)]


def test_workers_are_a_number(swept, capsys):
    run(capsys, "make", "many", "--backend", "loky", "--workers", "2")
    assert swept.asked == [("laptop", "loky", None, 2, False)]
    assert "invalid int" in run(capsys, "make", "many", "--workers", "two")[2]


def test_the_card_does_not_say_where_it_ran(swept, capsys):
    run(capsys, "make", "many", "--preset", "laptop", "--backend", "loky", "--workers", "2")
    card = artifacts.load_card("many", data=swept.data)
    assert card.command == "python -m mechbook make many --preset laptop"


@pytest.mark.parametrize("option", [["--preset", "smoke"], ["--backend", "loky"]])
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_recipe_that_does_not_take_an_option_says_so(swept, capsys, option, dry):
    status, _, err = run(capsys, "make", "one", *option, *dry)
    assert status == 2
    assert err == f"mechbook: one takes no option {option[0][2:]}; it takes: none\n"


@pytest.mark.parametrize("option", [["--preset", "huge"], ["--backend", "threads"]])
def test_an_unknown_preset_or_backend_lists_the_good_ones(swept, capsys, option):
    status, _, err = run(capsys, "make", "many", *option)
    assert (status, swept.asked) == (2, [])
    assert "'laptop'" in err or "'loky'" in err


def test_a_dry_run_shows_the_recipes_own_plan_and_writes_nothing(swept, capsys):
    before = sorted(swept.root.parent.rglob("*"))
    status, out, _ = run(capsys, "make", "many", "--dry-run", "--preset", "paper")
    assert (status, swept.asked) == (0, [("paper", "sequential", None, None, True)])
    assert out.splitlines()[1:] == ["2 packs done, 3 to run: about 5 min"]
    assert sorted(swept.root.parent.rglob("*")) == before


def test_a_dry_run_of_a_recipe_without_a_plan_is_one_line(swept, capsys):
    _, out, _ = run(capsys, "make", "one", "--dry-run")
    assert out == "would make one by a_room:one, about 1 min on two cores\n"


def test_another_preset_does_not_replace_the_artifact(swept, capsys):
    run(capsys, "make", "many")
    _, out, _ = run(capsys, "make", "many", "--preset", "smoke")
    assert "kept in build/smoke" in out
    assert artifacts.load_table("many", data=swept.data)["size"] == ["laptop"]
    trial = swept.root / "build" / "smoke"
    assert artifacts.load_table("many", data=trial)["size"] == ["smoke"]


# ---------------------------------------------------------------- address


def test_the_address_is_read(root):
    assert cli.address(root) == PLACEHOLDER


def test_the_address_is_written_everywhere(root, capsys):
    status, out, _ = run(capsys, "address", NEW)
    assert status == 0
    assert out.splitlines()[-1] == NEW
    assert (root / "_config.yml").read_text() == CONFIG.replace(PLACEHOLDER, NEW)
    expected = notebook(cli.setup_cell(PLACEHOLDER)).replace(PLACEHOLDER, NEW)
    assert (root / "book" / "one.ipynb").read_text() == expected


def test_there_and_back_again_changes_nothing(root):
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    cli.set_address(root, NEW)
    cli.set_address(root, PLACEHOLDER)
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("url", [f"{NEW}/", f"{NEW}.git", f"{NEW}.git/"])
def test_ways_to_write_an_address(root, url):
    cli.set_address(root, url)
    assert cli.address(root) == NEW


def test_the_same_address_changes_no_file(root):
    assert cli.set_address(root, PLACEHOLDER) == []


@pytest.mark.parametrize(
    "url", ["", "somebody/book", "http://a.org/b/c", "https://a.org/b", 'https://a.org/b/"c', "a b"]
)
def test_what_is_no_address_is_refused(root, capsys, url):
    status, _, err = run(capsys, "address", url)
    assert status == 2
    assert "https://host/owner/name" in err


def test_a_longer_address_is_not_mistaken(root, capsys):
    (root / "book" / "one.ipynb").write_text(notebook(cli.setup_cell(PLACEHOLDER + "-copy")))
    status, _, err = run(capsys, "address")
    assert status == 1
    assert "one.ipynb" in err


def test_with_a_stray_notebook_nothing_changes(root, capsys):
    (root / "book" / "two.ipynb").write_text(notebook("import torch"))
    status, _, err = run(capsys, "address", NEW)
    assert status == 2
    assert "two.ipynb" in err
    assert cli.address(root) == PLACEHOLDER


def test_when_one_file_cannot_be_written_none_changes(root, capsys, monkeypatch):
    write = artifacts.write_atomically

    def full(path, content):
        if path.suffix == ".ipynb" and NEW.encode() in content:
            raise OSError("the disk is full")
        write(path, content)

    monkeypatch.setattr(artifacts, "write_atomically", full)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    status, _, err = run(capsys, "address", NEW)
    assert (status, err) == (2, "mechbook: the disk is full\n")
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_configuration_without_address_is_named(root, capsys):
    (root / "_config.yml").write_text("title: x\nhtml:\n  url: https://a.org/b/c\n")
    status, _, err = run(capsys, "address")
    assert status == 2
    assert "_config.yml: no `url:` under `repository:`" in err


def test_this_books_address_is_in_all_its_set_up_cells(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert run(capsys, "address")[0] == 0


# ---------------------------------------------------------------- the set-up cell


def test_the_set_up_cell_does_nothing_at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("ran something"))
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    exec(cli.setup_cell(NEW), {})
    assert Path.cwd() == tmp_path


def test_the_set_up_cell_fetches_installs_and_moves_in(monkeypatch):
    done: list[object] = []
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setattr("os.path.isdir", lambda path: False)
    monkeypatch.setattr("os.chdir", done.append)
    monkeypatch.setattr("site.main", lambda: done.append("site"))
    monkeypatch.setattr(subprocess, "run", lambda words, check: done.append(" ".join(words)))
    exec(cli.setup_cell(NEW), {})
    home = "/content/mechbook"
    install = f"{sys.executable} -m pip install -q -r requirements.txt"
    assert done == [f"git clone --depth=1 {NEW} {home}", home, install, "site", "book"]


# ---------------------------------------------------------------- doctor


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(corpora, "hub_unreachable", lambda: "offline")


def state_of(root: Path, part: str) -> list[str]:
    return [finding.state for finding in cli.diagnose(root) if finding.part == part]


def text_of(root: Path, part: str) -> str:
    return next(finding.text for finding in cli.diagnose(root) if finding.part == part)


def project(root: Path, requires: str) -> None:
    extra = "[project.optional-dependencies]\ndev = []"
    text = f'[project]\nrequires-python = ">=3.11"\ndependencies = ["{requires}"]\n{extra}\n'
    (root / "pyproject.toml").write_text(text)


@pytest.mark.usefixtures("offline")
class TestDoctor:
    def test_a_sound_machine_is_ready(self, root, capsys):
        status, out, err = run(capsys, "doctor")
        assert (status, err) == (0, "")
        assert out.splitlines()[-1].startswith("ready; ")

    def test_what_is_skipped_says_why(self, root):
        assert "offline: streamed text" in text_of(root, "hub")
        assert "placeholder" in text_of(root, "address")

    @pytest.mark.parametrize(
        ("requires", "fault"),
        [("pyyaml>=99", "allowed is >=99"), ("no-such-package>=1", "no-such-package is missing")],
    )
    def test_a_package_out_of_bounds_is_broken(self, root, capsys, requires, fault):
        project(root, requires)
        status, out, _ = run(capsys, "doctor")
        assert status == 1
        assert fault in out
        assert "1 broken" in out

    def test_a_package_for_another_platform_is_no_fault(self, root):
        project(root, "no-such-package; sys_platform == 'amiga'")
        assert "broken" not in state_of(root, "packages")

    def test_an_altered_artifact_is_broken(self, root, monkeypatch):
        status = artifacts.Status("one-model", "tensors", 5, "truncated or altered", None)
        monkeypatch.setattr(artifacts, "listing", lambda: [status])
        monkeypatch.setattr(artifacts, "recipes", dict)
        assert state_of(root, "artifact") == ["broken"]
        assert "truncated or altered" in text_of(root, "artifact")

    def test_an_artifact_that_only_a_recipe_knows_is_broken(self, root, made, monkeypatch):
        monkeypatch.setattr(artifacts, "listing", list)
        assert (
            text_of(root, "artifact") == "one-seeds is not there; python -m mechbook make one-seeds"
        )

    def test_an_artifact_for_a_larger_machine_may_be_missing(self, root, made, monkeypatch):
        large = {k: replace(v, shipped=False) for k, v in artifacts.recipes().items()}
        monkeypatch.setattr(artifacts, "listing", list)
        monkeypatch.setattr(artifacts, "recipes", lambda: large)
        assert state_of(root, "artifact") == ["skipped"]
        assert "make one-seeds, on a larger machine" in text_of(root, "artifact")

    def test_an_old_python_is_broken(self, root, monkeypatch):
        monkeypatch.setattr("platform.python_version", lambda: "3.10.1")
        assert state_of(root, "python") == ["broken"]

    def test_a_browser_that_is_named_must_exist(self, root, monkeypatch):
        monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
        assert state_of(root, "browser") == ["skipped"]

    def test_a_browser_that_is_named_is_used(self, root, monkeypatch):
        monkeypatch.setenv("CHROMIUM", sys.executable)
        assert text_of(root, "browser") == sys.executable

    def test_a_kernel_of_another_python_is_broken(self, root, tmp_path, monkeypatch):
        folder = tmp_path / "jupyter" / "kernels" / "python3"
        folder.mkdir(parents=True)
        spec = {"argv": ["/elsewhere/bin/python", "-m", "ipykernel"], "display_name": "Python"}
        (folder / "kernel.json").write_text(json.dumps(spec))
        monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
        assert state_of(root, "kernel") == ["broken"]
        assert "ipykernel install" in text_of(root, "kernel")

    def test_what_cannot_be_looked_at_is_broken_and_the_rest_goes_on(self, root, monkeypatch):
        def fail():
            raise RuntimeError("no\nway")

        monkeypatch.setattr(artifacts, "listing", fail)
        assert text_of(root, "artifacts") == "no way"
        assert state_of(root, "hub") == ["skipped"]

    def test_a_stray_set_up_cell_is_broken(self, root):
        (root / "book" / "two.ipynb").write_text(notebook("import torch"))
        assert state_of(root, "address") == ["broken"]
