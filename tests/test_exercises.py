import dataclasses
import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechbook import exercises
from mechbook.exercises import Exercise, Hint, Outcome, Wrong, check, distinct_sizes, hold, run

# --- a tiny exercise: the outer product


def outer(left, right):
    """Return every product of an entry of `left` and an entry of `right`."""
    raise NotImplementedError


def outer_solution(left, right):
    """Return every product of an entry of `left` and an entry of `right`."""
    return left[:, None] * right[None, :]


def outer_transposed(left, right):
    return right[:, None] * left[None, :]


def outer_dot(left, right):
    return left[: len(right)] @ right[: len(left)]


def outer_specification(candidate, generator):
    rows, columns = distinct_sizes(2, generator)
    left = torch.randn(rows, generator=generator)
    right = torch.randn(columns, generator=generator)
    found = candidate(left, right)
    if found.ndim < 2:
        raise Hint("One number came back: which two indices should stay open?")
    if found.shape == (columns, rows):
        raise Hint(f"The shape is {tuple(found.shape)}: whose index counts the rows?")
    assert found.shape == (rows, columns), "The shape should be (rows, columns)."
    assert torch.allclose(found[0], left[0] * right), "Row 0 should be left[0] * right."


EXERCISE = Exercise(
    name="outer-product",
    prompt="Write $a b^T$ **without** `torch.outer`.",
    stub=outer,
    solution=outer_solution,
    specification=outer_specification,
    wrong=(
        Wrong(outer_transposed, "whose index counts the rows?"),
        Wrong(outer_dot, "which two indices should stay open?"),
    ),
    level="warm-up",
)
PAPER = Exercise(
    name="rank-one",
    prompt="Which rank has $a b^T$?",
    level="open-ended",
    needs_kernel=False,
    answer="At most one: every row is a multiple of $b$.",
)


def changed(**changes):
    return dataclasses.replace(EXERCISE, **changes)


@pytest.mark.parametrize("exercise", [EXERCISE, PAPER], ids=lambda e: e.name)
def test_the_tiny_exercises_hold(exercise):
    hold(exercise)


# --- what a reader may give


def reader_error(left, right):
    scaled = left * 2
    return scaled @ right.reshape(-1, 1000)


def reader_assert(left, right):
    assert left.shape == right.shape, "my own assertion"
    return left


def reader_library_not_implemented(left, right):
    return left.to_sparse().to_mkldnn() * right


def reader_nested(left, right):
    def inner(x):
        return x.no_such_method()

    return inner(left)


@functools.cache
def reader_returns_text(left, right):
    return "text"


class ReaderModule(torch.nn.Module):
    def forward(self, left, right):
        return outer_solution(left, right)


def status(candidate, exercise=EXERCISE):
    return run(exercise, candidate).status


@pytest.mark.parametrize("stub", [None, ..., outer, lambda *_: None, lambda *_: ...])
def test_stubs_are_not_attempted(stub):
    assert status(stub) == "not attempted"


@pytest.mark.parametrize(
    "right", [outer_solution, torch.outer, functools.partial(outer_solution), ReaderModule()]
)
def test_any_right_callable_passes(right):
    assert run(EXERCISE, right).passed


def test_an_error_names_type_line_and_code():
    message = run(EXERCISE, reader_error).message
    assert message.startswith(
        "Line 3 of `reader_error` (`return scaled @ right.reshape(-1, 1000)`) raised RuntimeError:"
    )


def test_an_error_in_a_nested_function_is_found_there():
    assert run(EXERCISE, reader_nested).message.startswith("Line 2 of `inner`")


def test_the_readers_own_assertion_is_an_error_not_a_hint():
    assert "raised AssertionError: my own assertion." in run(EXERCISE, reader_assert).message


def test_a_librarys_not_implemented_is_an_error_not_the_stub():
    def unsupported(left, right):
        return library_not_implemented(left)

    def library_not_implemented(x):
        raise NotImplementedError("no kernel for this")

    assert status(unsupported) == "error"


def test_a_failed_assertion_of_the_specification_is_a_hint():
    outcome = run(EXERCISE, lambda left, right: left[:, None] + right)
    assert (outcome.status, outcome.message) == ("hint", "Row 0 should be left[0] * right.")


@pytest.mark.parametrize("bad", [reader_returns_text, lambda: 1, 3.0, torch.ones(2)])
def test_what_the_check_cannot_use_is_an_error_in_one_line(bad):
    outcome = run(EXERCISE, bad)
    assert outcome.status == "error"
    assert "\n" not in outcome.message


@given(st.one_of(st.none(), st.text(), st.integers(), st.functions(like=lambda *a: ...)))
def test_run_never_raises_on_what_a_reader_gives(candidate):
    assert run(EXERCISE, candidate).status in exercises.STATUSES


def test_an_exercise_without_code_points_to_its_answer():
    assert "folded answer" in run(PAPER, outer_solution).message


def test_the_same_seed_draws_the_same_shapes():
    def shapes(seed):
        seen = []

        def spy(left, right):
            seen.append((len(left), len(right)))
            return outer_solution(left, right)

        run(EXERCISE, spy, seed=seed)
        return seen

    assert shapes(1) == shapes(1) != shapes(2)
    assert len(set(shapes(1))) > 1


def test_no_trial_would_check_nothing():
    with pytest.raises(ValueError, match="trials is 0"):
        run(EXERCISE, outer_solution, trials=0)


@given(st.integers(1, 8), st.integers(0, 1000))
def test_sizes_are_distinct_and_in_range(count, seed):
    sizes = distinct_sizes(count, torch.Generator().manual_seed(seed))
    assert len(set(sizes)) == count
    assert all(2 <= size <= 9 for size in sizes)


def test_too_many_distinct_sizes_are_refused():
    with pytest.raises(ValueError, match="widen the range"):
        distinct_sizes(9, torch.Generator())


# --- definitions


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "Outer product"}, "kebab-words"),
        ({"prompt": " "}, "prompt is empty"),
        ({"level": "easy"}, "warm-up, core, challenge, open-ended"),
        ({"solution": None}, "all three"),
        ({"wrong": (Wrong(outer_dot, "same"), Wrong(outer, "same"))}, "its own"),
        ({"stub": None, "solution": None, "specification": None, "wrong": ()}, "answer"),
    ],
)
def test_a_bad_definition_says_what_is_allowed(changes, told):
    with pytest.raises(ValueError, match=told):
        changed(**changes)


def test_a_wrong_answer_without_words_is_refused():
    with pytest.raises(ValueError, match="words of its hint"):
        Wrong(outer_dot, " ")


def test_definitions_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        EXERCISE.name = "other"


# --- hold tells


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stub": outer_solution}, r"outer_solution \(seed 0\): expected not attempted, got pass"),
        ({"solution": outer_dot}, "outer_dot .*expected pass, got hint"),
        ({"wrong": (Wrong(outer_dot, "another hint"),)}, "expected hint 'another hint', got hint"),
        ({"wrong": (Wrong(outer_solution, "a hint"),)}, "expected hint 'a hint', got pass"),
        (
            {"specification": lambda f, generator: outer_solution(torch.ones(1), torch.ones(1))},
            "calls the solution",
        ),
    ],
)
def test_hold_refuses_a_checker_that_cannot_tell(changes, told):
    with pytest.raises(AssertionError, match=told):
        hold(changed(**changes))


# --- what is shown


@pytest.fixture
def shown():
    """Collect what IPython is asked to display."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    def collect(call, *arguments):
        shell = InteractiveShell.instance()
        try:
            with capture_output() as captured:
                call(*arguments)
        finally:
            type(shell).clear_instance()
        (output,) = captured.outputs
        return output.data

    return collect


def test_a_check_shows_one_escaped_line(shown):
    data = shown(check, EXERCISE, lambda left, right: left < right.no_such)
    assert "<strong>Error.</strong>" in data["text/html"]
    assert "left &lt; right" in data["text/html"]
    assert data["text/html"].count("\n") == 0


def test_without_a_notebook_check_prints_one_line(capsys):
    assert check(EXERCISE, outer_solution).passed
    assert capsys.readouterr().out.startswith("Pass. `outer_solution` has every property")


def test_a_cell_that_ends_with_check_shows_nothing_twice():
    from IPython.core.formatters import DisplayFormatter

    assert DisplayFormatter().format(Outcome("x", "pass", "well")) == ({}, {})


def test_the_solution_is_folded_and_is_the_source(shown):
    text = shown(exercises.show_solution, EXERCISE)["text/markdown"]
    assert text.startswith('<details class="mb-solution">\n<summary>Solution: Outer product')
    assert "\n\n```python\ndef outer_solution(left, right):\n" in text
    assert text.endswith("\n```\n\n</details>\n")


def test_the_prompt_says_level_and_kernel(shown):
    assert shown(exercises.show_prompt, EXERCISE)["text/markdown"] == (
        "**Exercise: Outer product** (warm-up; needs a kernel)\n\n"
        "Write $a b^T$ **without** `torch.outer`.\n"
    )


def test_a_function_without_source_is_refused():
    with pytest.raises(ValueError, match=r"no source for len: define it in"):
        exercises.source(len)


# --- the worksheet


def test_a_worksheet_numbers_marks_and_folds():
    text = exercises.worksheet([EXERCISE, PAPER], "The outer product")
    parts = ["# The outer product", "1 of 2 exercises", "## 1. Outer product", "needs a kernel",
             "def outer(left", "## 2. Rank one", "*open-ended; pencil and paper*", "## Solutions",
             "def outer_solution", "At most one"]  # fmt: skip
    places = [text.index(part, text.index("# The")) for part in parts]
    assert places[0] < places[1] < places[2] < places[4] < places[5] < places[6] < places[7]
    assert places[7] < places[8] < places[9]
    assert text.count("<details") == text.count("</details>") == 2


def test_a_worksheet_without_solutions_holds_none():
    text = exercises.worksheet([EXERCISE, PAPER], "Sheet", solutions=False, heading=2)
    assert text.startswith("## Sheet\n")
    assert "outer_solution" not in text
    assert "At most one" not in text


@pytest.mark.parametrize(("listed", "title"), [([], "A"), ([PAPER], " "), ([PAPER, PAPER], "A")])
def test_a_worksheet_that_cannot_be_made_is_refused(listed, title):
    with pytest.raises(ValueError, match="exercise"):
        exercises.worksheet(listed, title)
