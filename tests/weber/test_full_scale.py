"""The command: answers written and read back, a report, a dry run, errors in one line."""

import numpy as np
import pytest

from mechbook.weber import asking, full_scale
from mechbook.weber.observers import Accumulator, choices
from mechbook.weber.psychometrics import collect
from mechbook.weber.stimuli import NOTES, pairs, write

TRIALS = write(pairs(NOTES), ["w"])
COUNTS = collect(TRIALS, choices(Accumulator("scalar", 0.08).judge(TRIALS)))


def test_answers_come_back_as_they_were(tmp_path):
    full_scale.save_answers(tmp_path / "new" / "a.parquet", "someone", COUNTS)
    name, found = full_scale.load_answers(tmp_path / "new" / "a.parquet")
    assert name == "someone"
    assert np.array_equal(found.right, COUNTS.right)
    assert found.unanswered == 0


@pytest.mark.parametrize("content", [None, b"", b"no parquet"])
def test_another_file_is_refused(tmp_path, content):
    file = tmp_path / "a.parquet"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.parquet is no file of answers"):
        full_scale.load_answers(file)


def test_the_report_names_thresholds_exponent_and_test():
    told = full_scale.report("someone", COUNTS)
    assert all(words in told for words in ("mean 10: JND", "mean^", "2 degrees of freedom"))


def test_a_judge_of_one_side_gets_a_report_without_an_exponent():
    told = full_scale.report("righty", collect(TRIALS, np.ones(len(TRIALS))))
    assert "all answers are 'right'" in told


def test_a_model_that_is_not_there_is_one_line(capsys):
    assert full_scale.main(["no-such-model-here"]) == 1
    assert "is not on this machine" in capsys.readouterr().err


def test_a_dry_run_needs_no_key_and_sends_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv(asking.BASE, "https://example.invalid/v1")
    monkeypatch.setenv(asking.MODEL, "m")
    monkeypatch.delenv(asking.KEY, raising=False)
    options = ["--endpoint", "--dry-run", "--cache", str(tmp_path), "--prices", "1", "2"]
    assert full_scale.main(options) == 0
    told = capsys.readouterr().out
    assert "90 requests to send, 0 answered already" in told
    assert "currency" in told


def test_an_endpoint_without_its_variables_is_one_line(monkeypatch, capsys):
    monkeypatch.delenv(asking.BASE, raising=False)
    assert full_scale.main(["--endpoint"]) == 1
    assert asking.BASE in capsys.readouterr().err
