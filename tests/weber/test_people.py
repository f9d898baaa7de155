"""The answers that people export from the experiment's page."""

import math

import numpy as np
import pytest

from mechbook.weber import people
from mechbook.weber.psychometrics import fit_curve

HEADER = "person,mean,m,n,answer,answer_ms\n"


def written(tmp_path, text):
    file = tmp_path / "group.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_each_person_gets_cells_of_their_own(tmp_path):
    rows = "Ada,10,9,11,right,400\nAda,10,9,11,left,300\nAda,10,11,9,left,2\nBob,20,18,22,right,1\n"
    found = people.load_answers(written(tmp_path, HEADER + rows))
    assert list(found) == ["Ada", "Bob"]
    ada = found["Ada"]
    assert (ada.difference.tolist(), ada.right.tolist(), ada.trials.tolist()) == (
        [-2, 2],
        [0, 1],
        [1, 2],
    )


def test_no_answer_counts_as_none_and_a_name_may_be_missing(tmp_path):
    found = people.load_answers(written(tmp_path, HEADER + ",10,9,11,,0\n,10,9,11,right,0\n"))
    assert found["nameless"].unanswered == 1
    assert found["nameless"].trials.tolist() == [1]


def test_a_mark_of_byte_order_and_names_with_commas_do_not_hurt(tmp_path):
    text = "\ufeff" + HEADER + '"Lovelace, Ada",10,9,11,right,0\n'
    assert list(people.load_answers(written(tmp_path, text))) == ["Lovelace, Ada"]


def test_pooling_adds_cell_by_cell(tmp_path):
    rows = "A,10,9,11,right,0\nB,10,9,11,left,0\nB,10,8,12,right,0\nB,10,8,12,,0\n"
    found = people.pooled(people.load_answers(written(tmp_path, HEADER + rows)))
    assert found.difference.tolist() == [2, 4]
    assert found.trials.tolist() == [2, 1]
    assert found.right.tolist() == [1, 1]
    assert found.unanswered == 1


def test_what_is_read_can_be_fitted(tmp_path):
    draw, rows = np.random.default_rng(0), []
    for _ in range(2000):
        d = int(draw.choice([-6, -4, -2, 2, 4, 6]))
        answer = "right" if draw.random() < 1 / (1 + math.exp(-math.log(3) * d / 3)) else "left"
        rows.append(f"A,20,{20 - d // 2},{20 + d // 2},{answer},0")
    found = people.load_answers(written(tmp_path, HEADER + "\n".join(rows)))
    assert fit_curve(found["A"], link="logistic").jnd == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column person"),
        (HEADER, "no answers"),
        ("person,mean,m,n\nA,10,9,11\n", "no column answer"),
        (HEADER + "A,10,nine,11,left,0\n", "line 2: give whole numbers"),
        (HEADER + "A,10,9,11,left,0\nA,10,9,11,both,0\n", "line 3: give whole numbers"),
        (HEADER + "A,10,9\n", "line 2: give whole numbers"),
        (HEADER + "A,10,0,20,left,0\n", "1 word or more"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, text, words):
    with pytest.raises(ValueError, match=words):
        people.load_answers(written(tmp_path, text))


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        people.load_answers(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match=r"b\.csv cannot be read"):
        people.load_answers(tmp_path / "b.csv")


def test_nobody_cannot_be_pooled():
    with pytest.raises(ValueError, match="nobody"):
        people.pooled({})
