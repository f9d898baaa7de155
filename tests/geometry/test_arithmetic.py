import pytest
import torch

from mechbook.geometry import arithmetic
from mechbook.geometry.arithmetic import NetConfig, Task
from mechbook.language_model.model import parameters

SMALL = NetConfig(n_layers=1, d_model=16, n_heads=2, d_mlp=16, steps=3, batch=12)


def test_every_answer_is_offset_steps_on():
    task = Task(offsets=30)
    words = task.words
    names = {cycle.unit: cycle.items for cycle in arithmetic.CYCLES}
    found = arithmetic.sums(task)
    for tokens, answer in zip(found.tokens.tolist(), found.answer.tolist(), strict=True):
        number, unit, _, item, _ = (words[t] for t in tokens)
        items = names[unit]
        assert words[answer] == items[(items.index(item) + int(number)) % len(items)]


def test_a_prompt_reads_as_a_sentence():
    task = Task()
    first = arithmetic.sums(task).tokens[2 * 12]
    assert " ".join(task.words[t] for t in first) == "2 months from January is"


def test_there_are_as_many_sums_as_pairs_and_no_two_words_alike():
    task = Task(offsets=60)
    assert len(arithmetic.sums(task)) == 60 * (12 + 7 + 24)
    assert len(set(task.words)) == len(task.words)


def test_held_out_sums_are_never_trained_on():
    task = Task(seed=3)
    known, new = arithmetic.split(task)
    rows = {tuple(row) for row in known.tokens.tolist()}
    assert not rows & {tuple(row) for row in new.tokens.tolist()}
    assert len(known) + len(new) == len(arithmetic.sums(task))
    assert len(new) / (len(known) + len(new)) == pytest.approx(0.2, abs=0.001)


def test_seeds_hold_out_different_sums():
    one, other = (arithmetic.split(Task(seed=seed))[1].tokens.tolist() for seed in (0, 1))
    assert one != other


def test_batches_have_as_many_of_each_cycle():
    known, _ = arithmetic.split(Task())
    pools = [(known.cycle == cycle).nonzero().flatten() for cycle in range(3)]
    drawn = arithmetic._drawn(pools, 30, torch.Generator().manual_seed(0))
    assert torch.bincount(known.cycle[drawn]).tolist() == [10, 10, 10]


def test_training_is_the_same_twice_and_lowers_the_loss():
    task = Task(offsets=4, cycles=1)
    config = NetConfig(n_layers=1, d_model=16, n_heads=2, d_mlp=32, steps=60, batch=16)
    runs = [arithmetic.train(arithmetic.build(task, config), task, config) for _ in range(2)]
    assert (runs[0].loss == runs[1].loss).all()
    assert runs[0].loss[-5:].mean() < runs[0].loss[:5].mean() - 0.5


def test_weights_of_the_artifact_make_the_same_network():
    model = arithmetic.build(Task(), NetConfig(**{**vars(SMALL), "seed": 3}))
    tensors = {name: t.half() for name, t in parameters(model).items()}
    tokens = arithmetic.sums(Task()).tokens[:7]
    other = arithmetic.build(Task(), SMALL)
    assert torch.allclose(arithmetic.load(tensors, SMALL)(tokens), model(tokens), atol=2e-2)
    assert not torch.allclose(other(tokens), model(tokens), atol=2e-2)
    with pytest.raises(ValueError, match="do not fit"):
        arithmetic.load(tensors)
    with pytest.raises(ValueError, match="do not fit"):
        arithmetic.load({name: t for name, t in tensors.items() if "embed" not in name}, SMALL)


def test_the_artifact_is_the_network_in_16_bits_and_its_card_tells_how_good_it_is(monkeypatch):
    monkeypatch.setattr(
        arithmetic, "NetConfig", lambda **given: NetConfig(**{**vars(SMALL), **given})
    )
    tensors, facts = arithmetic.make_model(seed=7, steps=2)
    assert {t.dtype for t in tensors.values()} == {torch.float16}
    model = arithmetic.load(tensors, SMALL)
    score = arithmetic.accuracies(model, arithmetic.split(Task(seed=7))[1])["all"]
    assert facts["seeds"] == [7]
    assert f"all {score:.3f}" in facts["about"]


def test_accuracies_are_by_unit():
    task = Task(offsets=8)
    found = arithmetic.sums(task)

    def knows_months(tokens):
        logits = torch.zeros(len(tokens), 5, len(task.words))
        answer = torch.where(found.cycle == 0, found.answer, 0)
        logits[torch.arange(len(tokens)), -1, answer] = 1
        return logits

    scores = arithmetic.accuracies(knows_months, found)
    assert (scores["months"], scores["days"], scores["hours"]) == (1, 0, 0)
    assert scores["all"] == pytest.approx(12 / 43)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Task(offsets=0), "1 or more offsets"),
        (lambda: Task(cycles=4), "cycles"),
        (lambda: Task(held_out=1.0), "between 0 and 1"),
        (lambda: NetConfig(d_model=10, n_heads=4), "do not divide"),
        (lambda: NetConfig(steps=0), "1 or more"),
        (lambda: Task(cycles=1).first_item(1), "the task has 0 to 0"),
    ],
)
def test_bad_input_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
