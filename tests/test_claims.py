import dataclasses
import math

import nbformat
import numpy as np
import pytest
import torch
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from mechbook import claims
from mechbook.claims import ClaimError
from mechbook.conditions import parse_condition, pretty
from mechbook.verdicts import verdict_table

finite = st.floats(min_value=-1e9, max_value=1e9, allow_nan=False)


def entry(**changes):
    return {
        "id": "toy.sum",
        "chapter": "toy",
        "statement": "The parts sum to the whole.",
        "source": {"kind": "notes", "ref": "notes 0: Residual stream"},
        "published": None,
        "holds": "< 1e-5",
        "control": {"what": "one part left out", "holds": "> 1e-2"},
        "verdict": "holds",
        "verdict_text": "It is an identity.",
    } | changes


def ledger(tmp_path, *entries):
    path = tmp_path / "claims.yml"
    path.write_text(yaml.safe_dump(list(entries), allow_unicode=True), encoding="utf-8")
    return path


# --- conditions


@pytest.mark.parametrize(
    ("text", "inside", "outside", "control"),
    [
        ("< 1e-5", [0.0, -3.0], [1e-5, 1.0], None),
        ("<= 0.1", [0.1], [0.1001], None),
        ("≤ 0.1", [0.1], [0.1001], None),
        (">= 0.9", [0.9, 1.0], [0.8999], None),
        ("> -.5", [-0.4], [-0.5], None),
        ("0.5 ± 0.03", [0.5, 0.471, 0.529], [0.469, 0.531], None),
        ("0.5 +/- 0.03", [0.5], [0.54], None),
        ("0.4 to 0.6", [0.4, 0.6], [0.39, 0.61], None),
        ("-2 to -1", [-1.5], [0.0], None),
        ("< control / 2", [0.49], [0.5, 0.6], 1.0),
        ("> control + 0.1", [1.2], [1.05], 1.0),
        ("> control - 0.1", [0.95], [0.85], 1.0),
        ("> 3 * control", [3.1], [3.0], 1.0),
        (">= 3 × control", [3.0], [2.9], 1.0),
        ("< control", [0.9], [1.0], 1.0),
    ],
)
def test_a_condition_says_which_numbers_it_takes(text, inside, outside, control):
    condition = parse_condition(text)
    assert all(condition.holds(value, control) for value in inside)
    assert not any(condition.holds(value, control) for value in outside)


@pytest.mark.parametrize(
    "text",
    ["", "0.9", "= 3", "< ", "< five", "0.5 ± -1", "2 to 1", "< control / 0", "> 0 * control",
     "< 1e999", "!= 3", "> 1 and < 2", "< 2 * value", 0.9, None, True],
)  # fmt: skip
def test_bad_grammar_shows_the_grammar(text):
    with pytest.raises(ValueError, match="control / 2") as caught:
        parse_condition(text)
    assert repr(text) in str(caught.value)
    assert "0.4 to 0.6" in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_a_condition_or_a_value_error(text):
    try:
        told = parse_condition(text).text
    except ValueError as error:
        told = str(error) if "Allowed" in str(error) else ""
    assert told


@given(finite, finite, st.sampled_from(["<", "<=", ">", ">="]))
def test_a_comparison_agrees_with_pythons_own(value, bound, sign):
    assert parse_condition(f"{sign} {bound!r}").holds(value) == eval(f"{value!r} {sign} {bound!r}")


@given(finite, finite, st.floats(0, 1e3))
def test_plus_minus_is_a_distance(value, center, tolerance):
    distance = abs(value - center)
    assume(not math.isclose(distance, tolerance, rel_tol=1e-6, abs_tol=1e-6))
    assert parse_condition(f"{center!r} ± {tolerance!r}").holds(value) == (distance < tolerance)


@given(finite, finite, st.floats(0.01, 100))
def test_a_multiple_of_the_control(value, control, factor):
    condition = parse_condition(f"> {factor!r} * control")
    assert condition.holds(value, control) == (value > factor * control)


def test_nan_satisfies_nothing():
    assert not parse_condition("< 1").holds(math.nan)


def test_a_condition_on_the_control_needs_the_control():
    with pytest.raises(ValueError, match="give the control"):
        parse_condition("< control / 2").holds(1.0)


def test_conditions_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse_condition("< 1").text = "> 1"


# --- the ledger


def test_a_ledger_is_read_in_order(tmp_path):
    path = ledger(tmp_path, entry(), entry(id="toy.other", format=".1%", every_seed=True))
    loaded = claims.load(path)
    assert list(loaded) == ["toy.sum", "toy.other"]
    assert loaded["toy.sum"].control.holds.holds(0.5)


def test_an_empty_ledger_lists_nothing(tmp_path):
    path = tmp_path / "claims.yml"
    path.write_text("# none yet\n")
    assert claims.load(path) == {}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"colour": "red"}, ["unknown key colour", "every_seed"]),
        ({"verdict": "maybe"}, ["'maybe'", "holds with a condition", "open"]),
        ({"holds": "about 3"}, ["holds", "about 3", "control / 2"]),
        ({"holds": 0.9}, ["quoted string"]),
        ({"control": None}, ["control"]),
        ({"control": {"what": "x"}}, ["missing key holds"]),
        ({"control": {"what": "x", "holds": "> 1", "why": "y"}}, ["unknown key why", "positive"]),
        ({"control": {"what": "x", "holds": "< control / 2"}}, ["the control has no control"]),
        ({"control": {"what": "x", "holds": "< 1e-6"}}, ["< 1e-6", "< 1e-5", "tell nothing"]),
        ({"source": {"kind": "blog", "ref": "x"}}, ["'blog'", "notes, paper, ours"]),
        ({"source": {"kind": "paper", "ref": "Elhage 2021"}}, ["references.bib"]),
        ({"chapter": "Residual Stream"}, ["chapter"]),
        ({"statement": ""}, ["statement"]),
        ({"statement": "$x = y$"}, ["statement", "plain sentence"]),
        ({"published": 0.5}, ["published"]),
        ({"format": "two digits"}, ["format", ".2g"]),
        ({"every_seed": "yes"}, ["every_seed", "true, false"]),
    ],
)
def test_a_bad_entry_is_refused_by_id_and_with_what_is_allowed(tmp_path, changes, told):
    with pytest.raises(ClaimError) as caught:
        claims.load(ledger(tmp_path, entry(**changes)))
    assert all(words in str(caught.value) for words in ["toy.sum", *told])


def test_a_missing_control_is_refused(tmp_path):
    without = entry()
    del without["control"]
    with pytest.raises(ClaimError, match=r"toy\.sum: missing key control"):
        claims.load(ledger(tmp_path, without))


def test_a_duplicate_id_is_refused(tmp_path):
    with pytest.raises(ClaimError, match=r"toy\.sum: listed twice"):
        claims.load(ledger(tmp_path, entry(), entry()))


@pytest.mark.parametrize(
    "id", ["sum", "toy.Sum", "toy.a b", "toy.sum.control", "toy:sum", "toy.-a"]
)
def test_an_id_that_glue_could_not_carry_is_refused(tmp_path, id):
    with pytest.raises(ClaimError, match="kebab-words"):
        claims.load(ledger(tmp_path, entry(id=id)))


@pytest.mark.parametrize("text", ["a: 1", "- 3", "- {chapter: x}", "- [", "3"])
def test_a_file_that_is_no_ledger_is_refused_by_name(tmp_path, text):
    path = tmp_path / "claims.yml"
    path.write_text(text)
    with pytest.raises(ClaimError, match=r"claims\.yml"):
        claims.load(path)


def test_the_ledger_is_found_above_the_notebook(tmp_path, monkeypatch):
    (tmp_path / "book" / "deep").mkdir(parents=True)
    path = ledger(tmp_path / "book", entry())
    for folder in (tmp_path, tmp_path / "book", tmp_path / "book" / "deep"):
        assert claims.find_ledger(folder) == path
    monkeypatch.chdir(tmp_path / "book")
    assert list(claims.load()) == ["toy.sum"]


def test_no_ledger_says_so(tmp_path):
    with pytest.raises(ClaimError, match=r"no claims\.yml"):
        claims.find_ledger(tmp_path)


# --- measuring


def claim(**changes):
    return claims.claim_from(entry(**changes))


@pytest.mark.parametrize(
    ("changes", "value", "control", "told"),
    [
        ({}, 0.25, 0.5, "the value does not satisfy `< 1e-5`"),
        ({}, 1e-6, 0.005, "the control does not satisfy its own `> 1e-2`"),
        ({"holds": "< 0.25"}, 0.1, 0.2, "the control also satisfies"),
        (
            {"holds": "< 0.25", "control": {"what": "x", "holds": "< 1", "positive": True}},
            0.1, 0.6, "the control does not satisfy the claim's",
        ),
    ],
)  # fmt: skip
def test_a_failing_claim_names_the_id_and_both_numbers(changes, value, control, told):
    with pytest.raises(ClaimError) as caught:
        claims.measure(claim(**changes), value, control)
    assert all(w in str(caught.value) for w in ["toy.sum", told, f"{value:g}", f"{control:g}"])


@pytest.mark.parametrize(
    "number", [3, 3.0, np.float32(3), np.array([3.0]), torch.tensor(3.0), torch.tensor([[3]])]
)
def test_numbers_of_every_library_are_one_float(number):
    record = claims.measure(claim(holds="> 2", control={"what": "x", "holds": "< 2"}), number, 0)
    assert (type(record.value), record.value) == (float, 3.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, torch.tensor(math.nan), -np.inf])
@pytest.mark.parametrize("role", ["value", "control"])
def test_what_is_not_finite_is_refused_by_name(bad, role):
    numbers = {"value": 1e-6, "control": 1.0} | {role: bad}
    with pytest.raises(ClaimError, match=rf"toy\.sum: the {role} is -?(nan|inf)"):
        claims.measure(claim(), **numbers)


@pytest.mark.parametrize("bad", [None, True, "1", [1.0], np.ones(2), torch.ones(2, 2), 1j])
def test_what_is_not_one_number_is_refused(bad):
    with pytest.raises(ClaimError, match=r"toy\.sum: the value must be one number"):
        claims.measure(claim(), bad, 1.0)


@pytest.mark.parametrize("bad", [[], [1.0], 1.0, [[1.0, 2.0], [1.0, 2.0]], [1.0, math.nan]])
def test_a_spread_is_two_or_more_finite_numbers(bad):
    with pytest.raises(ClaimError, match=r"toy\.sum: .*(spread|seed)"):
        claims.measure(claim(), 1e-6, 1.0, spread=bad)


def test_every_seed_is_stored():
    record = claims.measure(claim(), 1e-6, 1.0, spread=torch.tensor([1e-6, 2e-6, 4e-6]))
    assert record.spread == pytest.approx((1e-6, 2e-6, 4e-6))


def test_the_spread_is_printed_as_a_range_with_its_count():
    high = claim(holds="> 0.9", control={"what": "x", "holds": "< 0.6"})
    assert claims.measure(high, 0.98, 0.5, [0.97, 0.99, 0.98]).spread_text == (
        "0.97–0.99 over 3 seeds"
    )


def test_one_seed_may_miss_unless_every_seed_must_hold():
    seeds = [1e-6, 0.5, 2e-6]
    claims.measure(claim(), 1e-6, 1.0, seeds)
    with pytest.raises(ClaimError, match=r"toy\.sum: 1 of 3 seeds.*number 1 gives 0\.5"):
        claims.measure(claim(every_seed=True), 1e-6, 1.0, seeds)


def test_a_spread_may_be_over_something_else_than_seeds():
    record = claims.measure(claim(over="books"), 1e-6, 1.0, [1e-6, 2e-6, 3e-6])
    assert record.spread_text.endswith("over 3 books")


def test_every_seed_needs_the_seeds():
    with pytest.raises(ClaimError, match=r"toy\.sum.*give spread"):
        claims.measure(claim(every_seed=True), 1e-6, 1.0)


def test_an_unlisted_check_lists_the_nearest_ids(tmp_path):
    path = ledger(tmp_path, entry(), entry(id="other.thing"))
    with pytest.raises(ClaimError, match=r"toy\.som: not listed.*toy\.sum"):
        claims.check("toy.som", 1, control=2, ledger=path)


@pytest.mark.parametrize(
    ("given", "printed"),
    [("3.1e-07", "3.1 × 10⁻⁷"), ("1e+06", "10⁶"), ("-0.5", "−0.5"), ("97%", "97%"), ("a-b", "a-b"),
     ("-2e-05", "−2 × 10⁻⁵")],
)  # fmt: skip
def test_numbers_are_printed_as_in_books(given, printed):
    assert pretty(given) == printed


# --- what a notebook carries


def executed(tmp_path, name, cells, entries):
    """Run cells in IPython's own capture, as a kernel would store them, and write the notebook."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    path = ledger(tmp_path, *entries)
    shell = InteractiveShell.instance()
    try:
        notebook = nbformat.v4.new_notebook()
        for arguments in cells:
            with capture_output() as captured:
                claims.check(*arguments[0], **arguments[1], ledger=path)
            outputs = [
                nbformat.v4.new_output("display_data", data=o.data, metadata=o.metadata)
                for o in captured.outputs
            ]
            notebook.cells.append(nbformat.v4.new_code_cell("…", outputs=outputs))
    finally:
        type(shell).clear_instance()
    file = tmp_path / f"{name}.ipynb"
    nbformat.validate(notebook)
    nbformat.write(notebook, file)
    return file


@pytest.fixture
def notebook(tmp_path):
    numbers = {"control": 0.5, "spread": [1e-6, 2e-6], "unit": "nats"}
    return executed(tmp_path, "toy", [(("toy.sum", 1.5e-6), numbers)], [entry()])


def test_records_come_back_from_the_executed_notebook(notebook):
    (record,) = claims.records([notebook])
    assert (record.id, record.value, record.control) == ("toy.sum", 1.5e-6, 0.5)
    assert (record.spread, record.unit, record.notebook) == ((1e-6, 2e-6), "nats", "toy")


def test_myst_nb_finds_the_glue_and_shows_one_html_output(notebook):
    glue = pytest.importorskip("myst_nb.ext.glue")
    (cell,) = nbformat.read(notebook, as_version=4).cells
    found = {key: output["data"]["text/plain"] for key, output in glue.extract_glue_data_cell(cell)}
    assert found == {
        "toy.sum": "'1.5 × 10⁻⁶\\xa0nats'",
        "toy.sum.control": "'0.5\\xa0nats'",
        "toy.sum.spread": "'10⁻⁶ to 2 × 10⁻⁶\\xa0nats over 2 seeds'",
    }
    (visible,) = cell.outputs
    assert set(visible["data"]) == {"text/html", "text/plain"}


def test_the_line_escapes_and_names_everything():
    bold = claim(statement="`a` < b")
    text = claims.line(bold, claims.measure(bold, 1e-6, 0.5))
    for words in (
        "<code>a</code> &lt; b",
        "toy.sum",
        "one part left out",
        "10⁻⁶",
        "&lt; 10⁻⁵",
        "0.5",
    ):
        assert words in text


def test_the_line_says_the_verdict_where_the_source_said_otherwise():
    told = claim(verdict="does not hold")
    assert "Verdict on the notes: does not hold." in claims.line(
        told, claims.measure(told, 1e-6, 0.5)
    )
    plain = claim()
    assert "Verdict" not in claims.line(plain, claims.measure(plain, 1e-6, 0.5))


def test_a_cell_that_ends_with_check_shows_nothing_twice():
    from IPython.core.formatters import DisplayFormatter

    record = claims.measure(claim(), 1e-6, 0.5)
    assert DisplayFormatter().format(record) == ({}, {})


def test_without_a_notebook_check_prints_one_line(tmp_path, capsys):
    claims.check("toy.sum", 1e-6, control=0.5, ledger=ledger(tmp_path, entry()))
    assert capsys.readouterr().out == "✓ toy.sum: 10⁻⁶\n"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"cells": 3}'])
def test_a_file_that_is_no_notebook_is_refused_by_name(tmp_path, text):
    path = tmp_path / "toy.ipynb"
    path.write_text(text)
    with pytest.raises(ClaimError, match=r"toy\.ipynb"):
        claims.records([path])


def test_a_record_of_another_version_is_refused_by_name(tmp_path):
    output = nbformat.v4.new_output("display_data", data={claims.RECORD_MIME: {"old": 1}})
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("…", outputs=[output])])
    nbformat.write(book, tmp_path / "toy.ipynb")
    with pytest.raises(ClaimError, match=r"toy\.ipynb.*run the chapter again"):
        claims.records([tmp_path / "toy.ipynb"])


# --- the audit


def record(**changes):
    measured = claims.measure(claim(), 1e-6, 0.5)
    return dataclasses.replace(measured, notebook="toy", **changes)


def test_a_checked_ledger_passes():
    claims.audit({"toy.sum": claim()}, [record()], ["toy"])


def test_a_chapter_that_was_not_executed_owes_nothing():
    claims.audit({"toy.sum": claim()}, [], ["other"])


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([], ["toy.sum", "checks no such claim"]),
        ([record(), record(id="toy.sun")], ["toy.sun", "not listed", "1e-06", "0.5"]),
        ([record(), record(value=2e-6)], ["toy.sum", "checked 2 times", "1e-06", "2e-06"]),
        ([record(), record()], ["toy.sum", "checked 2 times"]),
        ([record(value=0.25)], ["toy.sum", "does not satisfy", "0.25", "0.5"]),
    ],
)
def test_the_audit_names_the_id_and_the_numbers(found, told):
    with pytest.raises(ClaimError) as caught:
        claims.audit({"toy.sum": claim()}, found, ["toy"])
    assert all(words in str(caught.value) for words in told)


def test_a_check_in_another_chapter_is_refused():
    with pytest.raises(ClaimError, match=r"toy\.sum: listed for chapter other, checked in toy"):
        claims.audit({"toy.sum": claim(chapter="other")}, [record()], ["toy"])


def test_the_audit_lists_all_problems_at_once():
    listed = {"toy.sum": claim(), "toy.more": claim(id="toy.more")}
    with pytest.raises(ClaimError, match=r"(?s)toy\.more.*toy\.sum"):
        claims.audit(listed, [record(value=0.25)], ["toy"])


# --- the page of verdicts


def test_a_card_holds_all_that_the_ledger_and_the_chapter_know():
    paper = claim(source={"kind": "paper", "ref": "elhage2021"}, published="0 (section 2)")
    measured = dataclasses.replace(record(), spread_text="0.97–0.99 over 8 seeds")
    page = verdict_table({"toy.sum": paper}, [measured])
    for words in ("## Toy\n", "(claim-toy-sum)=", "{cite}`elhage2021`", "0 (section 2)", "10⁻⁶",
                  "0.97–0.99 over 8 seeds", "one part left out", "\\< 10⁻⁵", "\\> 10⁻²",
                  "It is an identity.", "1 statement: 1 “holds”."):  # fmt: skip
        assert words in page


def test_a_claim_without_a_record_says_how_to_measure_it():
    assert "not yet measured: run `make book`" in verdict_table({"toy.sum": claim()}, [])


def test_claims_are_grouped_by_chapter_under_given_titles():
    listed = [claim(), claim(id="new.one", chapter="new"), claim(id="toy.two")]
    page = verdict_table({c.id: c for c in listed}, [], titles={"new": "[New](new.md)"})
    assert (
        page.index("claim-toy-two") < page.index("## [New](new.md)") < page.index("claim-new-one")
    )


def test_an_empty_ledger_is_a_sentence():
    assert verdict_table({}, []) == "No statement is listed yet.\n"
