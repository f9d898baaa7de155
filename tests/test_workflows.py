"""The workflows are valid, ask for little, end in time, and run what the Makefile has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def workflow(path: Path) -> dict[str, Any]:
    # BaseLoader keeps `on` a word; the usual loader reads it as true
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def scripts(workflow: dict[str, Any]) -> list[str]:
    return [step["run"] for step in steps(workflow) if "run" in step]


def test_all_three_are_there() -> None:
    assert [path.stem for path in WORKFLOWS] == ["book", "pages", "weekly"]


def test_the_schema_accepts_them() -> None:
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    done = subprocess.run(
        [*words, "vendor.github-workflows", *map(str, WORKFLOWS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_can_refuse(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text(encoding="utf-8").replace("runs-on:", "run-on:"))
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    done = subprocess.run(
        [*words, "vendor.github-workflows", str(broken)], capture_output=True, check=False
    )
    assert done.returncode == 1


def test_without_being_asked_they_may_only_read(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}


def test_jobs_may_write_only_what_they_are_for(workflow: dict[str, Any]) -> None:
    granted = {
        (workflow["name"], name): job["permissions"]
        for name, job in workflow["jobs"].items()
        if "permissions" in job
    }
    expected = {
        ("pages", "deploy"): {"pages": "write", "id-token": "write"},
        ("weekly", "tell"): {"issues": "write"},
    }
    assert granted == {
        job: rights for job, rights in expected.items() if job[0] == workflow["name"]
    }


def test_every_job_ends(workflow: dict[str, Any]) -> None:
    assert all(1 <= int(job["timeout-minutes"]) <= 90 for job in workflow["jobs"].values())


def test_runs_do_not_pile_up(workflow: dict[str, Any]) -> None:
    assert workflow["concurrency"]["group"]


def test_only_pinned_actions_of_the_house_are_used(workflow: dict[str, Any]) -> None:
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", name) for name in used)


def test_a_checkout_leaves_no_credentials(workflow: dict[str, Any]) -> None:
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"


def test_no_secret_is_used(path: Path) -> None:
    assert "secrets." not in path.read_text(encoding="utf-8")


def test_scripts_take_no_text_from_events(workflow: dict[str, Any]) -> None:
    """An expression inside a script would run whatever a branch or a title holds."""
    assert not [script for script in scripts(workflow) if "${{" in script]


def test_scripts_are_shell(workflow: dict[str, Any]) -> None:
    for script in scripts(workflow):
        done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr


def test_the_makefile_has_every_target_that_they_call(workflow: dict[str, Any]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    called = re.findall(r"^\s*make ([a-z]+)", "\n".join(scripts(workflow)), flags=re.MULTILINE)
    assert set(called) <= targets


def test_linux_and_macos_run_every_check() -> None:
    book = yaml.load((ROOT / ".github/workflows/book.yml").read_text(), Loader=yaml.BaseLoader)
    assert book["jobs"]["test"]["strategy"]["matrix"]["os"] == ["ubuntu-latest", "macos-latest"]
    assert "make test" in scripts(book)


def test_the_weekly_run_leaves_the_lock_aside() -> None:
    weekly = yaml.load((ROOT / ".github/workflows/weekly.yml").read_text(), Loader=yaml.BaseLoader)
    assert weekly["on"]["schedule"]
    assert "make test LOCK=no" in scripts(weekly)


def test_pages_follow_the_checks_that_exist() -> None:
    pages = yaml.load((ROOT / ".github/workflows/pages.yml").read_text(), Loader=yaml.BaseLoader)
    names = {yaml.safe_load(path.read_text())["name"] for path in WORKFLOWS}
    assert set(pages["on"]["workflow_run"]["workflows"]) <= names
