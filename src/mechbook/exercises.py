"""Exercises whose checkers are tested: stub, solution, specification, typical wrong answers.

A specification states properties on random shapes and never calls the solution. `check` says in one
line where a reader stands and never raises; `hold` is what the book's own tests call.
"""

from __future__ import annotations

import dis
import functools
import html
import inspect
import linecache
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LEVELS = ("warm-up", "core", "challenge", "open-ended")
NOT_ATTEMPTED, PASS, HINT, ERROR = STATUSES = ("not attempted", "pass", "hint", "error")
TRIALS = 5


class Hint(Exception):
    """Raised by a specification: the property that is violated, and the question that unlocks it."""


class _NotAttempted(Exception):
    """The candidate is still the stub."""


@dataclass(frozen=True)
class Wrong:
    """A typical wrong answer, and words that must stand in the hint it gets."""

    function: Callable[..., Any]
    hint: str

    def __post_init__(self) -> None:
        if not callable(self.function) or not self.hint.strip():
            raise ValueError(
                f"Wrong({self.function!r}, {self.hint!r}): give a function and the words of its hint"
            )


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        name: kebab-case words, unique in its chapter.
        prompt: Markdown, with `$…$` for mathematics.
        stub: what the reader starts from: raises `NotImplementedError` or returns None.
        solution: the answer; its source is what the page shows.
        specification: `specification(candidate, generator)` draws its shapes and values from the
            `torch.Generator`, raises `Hint` (or fails an `assert`) where a property is violated.
        wrong: typical wrong answers, each with its own hint.
        level: one of `LEVELS`.
        needs_kernel: whether it needs running code; False for pencil and paper.
        answer: Markdown beside the solution; the whole solution where there is no code.
    """

    name: str
    prompt: str
    stub: Callable[..., Any] | None = None
    solution: Callable[..., Any] | None = None
    specification: Callable[[Any, torch.Generator], None] | None = None
    wrong: tuple[Wrong, ...] = ()
    level: str = "core"
    needs_kernel: bool = True
    answer: str = ""

    def __post_init__(self) -> None:
        if problem := _problem(self):
            raise ValueError(f"exercise {self.name!r}: {problem}")

    @property
    def title(self) -> str:
        """The name in words."""
        return self.name.replace("-", " ").replace("_", " ").capitalize()

    @property
    def checked(self) -> bool:
        """Whether it has code that `check` can judge."""
        return self.specification is not None


def _problem(exercise: Exercise) -> str:
    """What is wrong with an exercise's definition, or the empty string."""
    code = [exercise.stub, exercise.solution, exercise.specification]
    hints = [wrong.hint for wrong in exercise.wrong]
    if not re.fullmatch(r"[a-z0-9]+([-_][a-z0-9]+)*", exercise.name):
        return "a name is kebab-words in lower case"
    if not exercise.prompt.strip():
        return "the prompt is empty"
    if exercise.level not in LEVELS:
        return f"level is {exercise.level!r}; allowed: {', '.join(LEVELS)}"
    if any(code) and not all(callable(part) for part in code):
        return "stub, solution and specification come together: give all three, or none"
    if not any(code) and (not exercise.answer.strip() or hints):
        return "without code it needs an answer (Markdown) and has no wrong functions"
    if len(set(hints)) < len(hints):
        return "two wrong answers have the same hint; each needs its own"
    return ""


@dataclass(frozen=True)
class Outcome:
    """Where a candidate stands: `status` is one of `STATUSES`, `message` one line of text."""

    exercise: str
    status: str
    message: str

    @property
    def passed(self) -> bool:
        """Whether the specification found nothing violated."""
        return self.status == PASS

    def _ipython_display_(self) -> None:
        """Show nothing: `check` has shown the line already, and a cell may end with it."""


# --- checking -------------------------------------------------------------------------------------


def distinct_sizes(
    count: int, generator: torch.Generator, low: int = 2, high: int = 9
) -> tuple[int, ...]:
    """Draw `count` different sizes from `low` to `high`, so that no two axes can be confused.

    Raises:
        ValueError: the range holds fewer than `count` sizes.
    """
    import torch

    if not 0 < count <= high - low + 1:
        raise ValueError(
            f"{count} different sizes from {low} to {high} do not exist; widen the range"
        )
    order = torch.randperm(high - low + 1, generator=generator)[:count]
    return tuple(int(size) + low for size in order)


def draw(*shape: int, generator: torch.Generator) -> torch.Tensor:
    """Normal random numbers of a shape, in float64."""
    import torch

    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def equal(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether two tensors have one shape and, up to rounding in float32, the same values."""
    import torch

    same = found.shape == wanted.shape
    return same and torch.allclose(found.double(), wanted.double(), rtol=1e-4, atol=1e-6)


def require_shape(found: torch.Tensor, *shape: int) -> None:
    """Refuse another shape, with the two shapes as the hint.

    Raises:
        Hint: the shapes differ.
    """
    if tuple(found.shape) != shape:
        raise Hint(f"The result should have shape {list(shape)}; yours has {list(found.shape)}.")


def check(exercise: Exercise, candidate: Any, *, seed: int = 0, trials: int = TRIALS) -> Outcome:
    """Run the specification on a reader's function and show one line; never raises on a mistake.

    Args:
        exercise: what the function must do.
        candidate: the reader's function itself.
        seed: of the generator that draws shapes and values.
        trials: how often the specification runs, each time on new shapes.

    Returns:
        The outcome, which shows nothing more when a cell ends with it.
    """
    outcome = run(exercise, candidate, seed=seed, trials=trials)
    _display(
        {"text/html": _line(outcome), "text/plain": f"{_WORDS[outcome.status]} {outcome.message}"}
    )
    return outcome


def run(exercise: Exercise, candidate: Any, *, seed: int = 0, trials: int = TRIALS) -> Outcome:
    """Return the outcome that `check` shows, without showing it; `ValueError` if `trials` < 1."""
    if trials < 1:
        raise ValueError(f"trials is {trials}; give 1 or more, or nothing would be checked")
    status, message = _verdict(exercise, candidate, seed, trials)
    return Outcome(exercise.name, status, " ".join(message.split()))


def _verdict(exercise: Exercise, candidate: Any, seed: int, trials: int) -> tuple[str, str]:
    if exercise.specification is None:
        return (
            NOT_ATTEMPTED,
            "This exercise is not checked by code: compare with the folded answer.",
        )
    if candidate is None or candidate is ...:
        return NOT_ATTEMPTED, "Write the function, then run this cell again."
    if not callable(candidate):
        given = type(candidate).__name__
        return ERROR, f"Pass the function itself, without calling it: a {given} was given."
    try:
        _specify(exercise.specification, candidate, seed, trials)
    except _NotAttempted as stub:
        return NOT_ATTEMPTED, str(stub)
    except Exception as error:
        return _failure(candidate, error)
    return PASS, f"`{_name(candidate)}` has every property that `{exercise.name}` asks for."


def _specify(
    specification: Callable[[Any, torch.Generator], None], candidate: Any, seed: int, trials: int
) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    for _ in range(trials):
        specification(_probe(candidate), generator)


def _probe(candidate: Any) -> Any:
    """Wrap a plain function so that a stub, which answers None or `...`, is noticed at once."""
    if not inspect.isroutine(candidate):
        return candidate

    @functools.wraps(candidate)
    def probed(*args: Any, **kwargs: Any) -> Any:
        answer = candidate(*args, **kwargs)
        if answer is None or answer is ...:
            raise _NotAttempted(
                f"`{_name(candidate)}` returned {answer}. Replace the stub; "
                "if you have written something, does it end with `return`?"
            )
        return answer

    return probed


def _failure(candidate: Any, error: Exception) -> tuple[str, str]:
    """Tell a violated property from an exception in the reader's code and from one in the check."""
    place = _reader_place(candidate, error)
    if isinstance(error, NotImplementedError) and place is not None and _raised_by(place):
        return NOT_ATTEMPTED, f"`{_name(candidate)}` is still the stub: replace its body."
    if isinstance(error, Hint):
        return HINT, str(error)
    if place is not None:
        return ERROR, f"{_where(place)} raised {_named(error)}"
    if isinstance(error, AssertionError):
        return HINT, _first_line(error) or "A property does not hold on random shapes."
    return ERROR, (
        f"The check could not use what `{_name(candidate)}` takes or returns: {_named(error)} "
        "Look at its arguments, and at the type and shape of what it returns."
    )


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {_first_line(error)}".rstrip(": ").rstrip(".") + "."


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")


def _where(place: TracebackType) -> str:
    code, line = place.tb_frame.f_code, place.tb_lineno
    text = linecache.getline(code.co_filename, line, place.tb_frame.f_globals).strip()
    shown = f" (`{text}`)" if text else ""
    return f"Line {line - code.co_firstlineno + 1} of `{code.co_name}`{shown}"


def _raised_by(place: TracebackType) -> bool:
    """Whether a `raise` statement of this very frame made the error, not a library it called."""
    operation = place.tb_frame.f_code.co_code[place.tb_lasti]
    return place.tb_next is None and operation == dis.opmap["RAISE_VARARGS"]


def _reader_place(candidate: Any, error: Exception) -> TracebackType | None:
    """Return the innermost place in the reader's code that the error passed through."""
    codes = _codes(candidate)
    found, place = None, error.__traceback__
    while place is not None:
        found = place if place.tb_frame.f_code in codes else found
        place = place.tb_next
    return found


def _codes(candidate: Any) -> set[CodeType]:
    """Return the code of a function or callable object, with the functions nested in it."""
    owner = candidate if inspect.isclass(candidate) else type(candidate)
    if isinstance(candidate, functools.partial):
        return _codes(candidate.func)
    function = getattr(inspect.unwrap(candidate), "__func__", inspect.unwrap(candidate))
    code = getattr(function, "__code__", None)
    parts = [code] if code else [getattr(part, "__code__", None) for part in vars(owner).values()]
    pending = [part for part in parts if part is not None]
    found: set[CodeType] = set()
    while pending:
        found.add(part := pending.pop())
        pending += [const for const in part.co_consts if isinstance(const, CodeType)]
    return found


def _name(candidate: Any) -> str:
    return getattr(candidate, "__name__", type(candidate).__name__)


# --- showing --------------------------------------------------------------------------------------

_MARKS = {NOT_ATTEMPTED: "○", PASS: "✓", HINT: "→", ERROR: "!"}
_WORDS = {NOT_ATTEMPTED: "Not attempted yet.", PASS: "Pass.", HINT: "Not yet.", ERROR: "Error."}


def _line(outcome: Outcome) -> str:
    message = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(outcome.message))
    mark = f'<span class="mb-check-mark" aria-hidden="true">{_MARKS[outcome.status]}</span>'
    css = "mb-check mb-check-" + outcome.status.replace(" ", "-")
    return f'<p class="{css}">{mark} <strong>{_WORDS[outcome.status]}</strong> {message}</p>'


def _display(data: dict[str, str]) -> None:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.display import display

    if InteractiveShell.initialized():
        display(data, raw=True)
    else:
        print(data["text/plain"])


def source(function: Callable[..., Any]) -> str:
    """Return a function's source, read from its file, without common indentation.

    Raises:
        ValueError: Python has no source for it (it was typed at a prompt, or is compiled).
    """
    try:
        return textwrap.dedent(inspect.getsource(function)).rstrip()
    except (OSError, TypeError):
        raise ValueError(
            f"no source for {_name(function)}: define it in the chapter package's exercises.py"
        ) from None


def show_prompt(exercise: Exercise) -> None:
    """Show the exercise: its title, level, whether it needs a kernel, and the prompt."""
    text = f"**Exercise: {exercise.title}** ({_needs(exercise)})\n\n{exercise.prompt.strip()}\n"
    _display({"text/markdown": text, "text/plain": text})


def show_solution(exercise: Exercise) -> None:
    """Show the solution, folded; the page colors its code like any other code of the page."""
    text = solution_markdown(exercise)
    plain = f"Solution of {exercise.name}:\n{_solution_body(exercise)}"
    _display({"text/markdown": text, "text/plain": plain})


def solution_markdown(exercise: Exercise) -> str:
    """Return the solution as a `<details>` that holds Markdown.

    The blank lines matter: between them Markdown is read, in JupyterLab and in the page alike, so
    that code is highlighted there by the reader's own theme, light or dark.
    """
    return (
        f'<details class="mb-solution">\n<summary>Solution: {html.escape(exercise.title)}</summary>'
        f"\n\n{_solution_body(exercise)}\n\n</details>\n"
    )


def _solution_body(exercise: Exercise) -> str:
    parts = [exercise.answer.strip()] if exercise.answer.strip() else []
    if exercise.solution is not None:
        parts.append(_fenced(exercise.solution))
    return "\n\n".join(parts)


def _fenced(function: Callable[..., Any]) -> str:
    code = source(function)
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", code)), default=0))
    return f"{fence}python\n{code}\n{fence}"


def _needs(exercise: Exercise) -> str:
    return f"{exercise.level}; {'needs a kernel' if exercise.needs_kernel else 'pencil and paper'}"


def worksheet(
    exercises: Iterable[Exercise], title: str, *, solutions: bool = True, heading: int = 1
) -> str:
    """Return a worksheet to print, as MyST Markdown.

    Args:
        exercises: in the order in which they are numbered.
        title: the worksheet's heading.
        solutions: whether a last part holds the solutions, folded one by one.
        heading: level of the title; parts are one level below.

    Raises:
        ValueError: no exercises, no title, or two exercises with one name.
    """
    listed = list(exercises)
    names = [exercise.name for exercise in listed]
    if not listed or not title.strip():
        raise ValueError("a worksheet needs a title and at least one exercise")
    if len(set(names)) < len(names):
        raise ValueError(f"two exercises have one name among {', '.join(names)}; rename one")
    part = "#" * (heading + 1)
    blocks = [f"{'#' * heading} {title.strip()}", _legend(listed)]
    blocks += [f"{part} {i}. {_task(exercise)}" for i, exercise in enumerate(listed, 1)]
    if solutions:
        blocks += [f"{part} Solutions", *map(solution_markdown, listed)]
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def _legend(exercises: list[Exercise]) -> str:
    running = sum(exercise.needs_kernel for exercise in exercises)
    if not running:
        return "Everything here can be done with pencil and paper."
    return (
        f"{running} of {len(exercises)} exercises are marked *needs a kernel*: think them through on "
        "paper, then run them in the chapter's notebook, which checks the answer. The rest is "
        "pencil and paper."
    )


def _task(exercise: Exercise) -> str:
    start = [_fenced(exercise.stub)] if exercise.stub is not None else []
    lines = '<div style="border-bottom: 1px solid currentColor; height: 2em"></div>\n'
    space = f'<div class="mb-answer" aria-hidden="true">\n{lines * 5}</div>'
    parts = [exercise.title, f"*{_needs(exercise)}*", exercise.prompt.strip(), *start, space]
    return "\n\n".join(parts)


# --- for the book's tests -------------------------------------------------------------------------


def hold(exercise: Exercise, *, seeds: Iterable[int] = range(3)) -> None:
    """Assert that an exercise's checker can tell: to be called by a chapter's tests.

    `@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)` and one line do it.

    Raises:
        AssertionError: the stub is not "not attempted", the solution does not pass, a wrong answer
            does not get its own hint, or the specification mentions the solution. All are listed.
    """
    if exercise.specification is None:
        return
    problems = [_mentions(exercise)]
    for seed in seeds:
        problems.append(_expect(exercise, exercise.stub, seed, NOT_ATTEMPTED))
        problems.append(_expect(exercise, exercise.solution, seed, PASS))
        problems += [_expect(exercise, w.function, seed, HINT, w.hint) for w in exercise.wrong]
    told = list(dict.fromkeys(filter(None, problems)))
    assert not told, f"exercise {exercise.name}:\n" + "\n".join(told)


def _expect(exercise: Exercise, candidate: Any, seed: int, status: str, words: str = "") -> str:
    outcome = run(exercise, candidate, seed=seed)
    if outcome.status == status and " ".join(words.split()) in outcome.message:
        return ""
    expected = f"{status} {words!r}" if words else status
    got = f"{outcome.status} {outcome.message!r}"
    return f"{_name(candidate)} (seed {seed}): expected {expected}, got {got}"


def _mentions(exercise: Exercise) -> str:
    used = {name for code in _codes(exercise.specification) for name in code.co_names}
    if exercise.solution is not None and _name(exercise.solution) in used:
        return f"the specification calls the solution {_name(exercise.solution)}"
    return ""
