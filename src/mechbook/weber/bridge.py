"""Language models on this machine as judges: the logits of the two answers, and a probe for length.

A model that favors a word, or the text read last, would look like a judge with a bias. So each
trial is shown in its four ways (`templates.views`) and the log-odds are averaged, which cancels a
preference for a word or a place; what is left on trials with ``n = m`` is subtracted on request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import expit
from torch import Tensor

from mechbook import pretrained
from mechbook.weber import templates
from mechbook.weber.stimuli import Trial
from mechbook.weber.templates import CONTINUED, Template


def answer_tokens(model: Any, template: Template) -> tuple[int, int]:
    """The tokens with which the two answers begin, after the template's question.

    Raises:
        ValueError: both begin with the same token.
    """
    alone = _ids(model, template.ask)
    first = []
    for answer in template.answers:
        both = _ids(model, template.ask + answer)
        same = next(
            (i for i, (a, b) in enumerate(zip(alone, both, strict=False)) if a != b), len(alone)
        )
        first.append(both[min(same, len(both) - 1)])
    if first[0] == first[1]:
        raise ValueError(
            f"the answers {template.answers} begin with one and the same token for this model; "
            "give a template whose answers differ in their first token"
        )
    return first[0], first[1]


def _ids(model: Any, text: str) -> list[int]:
    return list(model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


@dataclass
class BridgeObserver:
    """A ``TransformerBridge`` with a tokenizer as an observer.

    Attributes:
        model: the model.
        template: the words around a trial.
        counterbalanced: whether each trial is shown in all four ways.
        offset: log-odds of right that are subtracted; `calibrate` sets it.
        batch: prompts of one length in one forward pass.
    """

    model: Any
    template: Template = CONTINUED
    counterbalanced: bool = True
    offset: float = 0.0
    batch: int = 32
    _answers: tuple[int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._answers = answer_tokens(self.model, self.template)

    def judge(self, trials: Sequence[Trial]) -> Float[np.ndarray, " trial"]:
        """The probability of right against left, all other answers set aside."""
        return expit(self.log_odds(trials))

    def log_odds(self, trials: Sequence[Trial]) -> Float[np.ndarray, " trial"]:
        """Log-odds of right against left, mean over the views, minus the offset.

        Raises:
            ValueError: no trials, or a prompt longer than the model reads.
        """
        return self.by_view(trials).mean(1) - self.offset

    def by_view(self, trials: Sequence[Trial]) -> Float[np.ndarray, "trial view"]:
        """Log-odds for the side that *is* right, in each view of each trial."""
        if not trials:
            raise ValueError("there are no trials; give at least one")
        every = [templates.views(trial, self.template) for trial in trials]
        shown = [view for row in every for view in (row if self.counterbalanced else row[:1])]
        odds = self._odds([words.prompt(trial) for trial, words, _ in shown])
        signs = np.array([sign for _, _, sign in shown])
        return (odds * signs).reshape(len(trials), -1)

    def calibrate(self, trials: Sequence[Trial]) -> float:
        """Set the offset to the mean log-odds of these trials, which must favor no side.

        Raises:
            ValueError: the trials' differences do not cancel.
        """
        if sum(trial.difference for trial in trials) != 0:
            raise ValueError("calibrate on trials whose differences n - m add up to 0")
        self.offset = float(self.by_view(trials).mean())
        return self.offset

    @torch.no_grad()
    def _odds(self, prompts: Sequence[str]) -> np.ndarray:
        start = pretrained.beginning(self.model)
        rows = [[start, *_ids(self.model, prompt)] for prompt in prompts]
        odds = np.empty(len(rows))
        for length in sorted({len(row) for row in rows}):
            _require_length(self.model, length)
            places = [i for i, row in enumerate(rows) if len(row) == length]
            for part in np.array_split(places, -(-len(places) // self.batch)):
                logits = self.model(torch.tensor([rows[i] for i in part]))[:, -1].float()
                left, right = self._answers
                odds[part] = (logits[:, right] - logits[:, left]).numpy()
        return odds


def _require_length(model: Any, length: int) -> None:
    if length > model.cfg.n_ctx:
        raise ValueError(
            f"a prompt has {length} tokens; the model reads {model.cfg.n_ctx}. "
            "Give smaller means, shorter words or a shorter template"
        )


# --- a probe for length -----------------------------------------------------------------------


@torch.no_grad()
def last_streams(
    model: Any, rows: Sequence[Int[Tensor, " posn"]]
) -> Float[Tensor, "depth row d_model"]:
    """The stream at the last position of each row: before the first block, and after each.

    Raises:
        ValueError: a row that is longer than the model reads.
    """
    names = ["blocks.0.hook_resid_pre"]
    names += [f"blocks.{layer}.hook_resid_post" for layer in range(model.cfg.n_layers)]
    found = torch.empty(len(names), len(rows), model.cfg.d_model)
    lengths = torch.tensor([len(row) for row in rows])
    for length in lengths.unique().tolist():
        _require_length(model, length)
        places = (lengths == length).nonzero().flatten()
        for part in places.split(64):
            tokens = torch.stack([rows[i] for i in part.tolist()])
            _, cache = model.run_with_cache(tokens, names_filter=names)
            found[:, part] = torch.stack([cache[name][:, -1] for name in names]).float()
    return found


def length_rows(
    model: Any, words: Sequence[str], lengths: Sequence[int], each: int, seed: int = 0
) -> tuple[list[Int[Tensor, " posn"]], Int[np.ndarray, " row"]]:
    """Texts of random words, ``each`` of every length, that all end with the same word.

    The last word is the same in all, so that nothing at the last position but what was read
    before can tell the length.

    Returns:
        Token rows with the mark that begins a text, and the number of words of each.
    """
    draw = np.random.default_rng(seed)
    start, last = pretrained.beginning(model), words[0]
    rows, found = [], []
    for length in lengths:
        for _ in range(each):
            chosen = draw.integers(len(words), size=length - 1)
            text = " ".join([*(words[i] for i in chosen), last])
            rows.append(torch.tensor([start, *_ids(model, text)]))
            found.append(length)
    return rows, np.array(found)


def probe(
    streams: Float[Tensor, "row d_model"],
    target: Float[np.ndarray, " row"],
    *,
    folds: int = 5,
    shuffled: bool = False,
    seed: int = 0,
) -> float:
    """R² of a linear (ridge) probe on rows it was not fitted to.

    Args:
        streams: what is read.
        target: what is to be told from it.
        folds: of the cross-validation.
        shuffled: pair rows and targets at random, as a control.
        seed: of the folds and of the shuffle.

    Raises:
        ValueError: fewer rows than folds, or a target that does not vary.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import r2_score
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values = np.asarray(target, dtype=float)
    if len(values) < folds or values.std() == 0:
        raise ValueError(
            f"{len(values)} rows: a probe needs at least {folds}, and a target that varies"
        )
    if shuffled:
        values = np.random.default_rng(seed).permutation(values)
    readout = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 5, 13)))
    cut = KFold(folds, shuffle=True, random_state=seed)
    return float(r2_score(values, cross_val_predict(readout, streams.numpy(), values, cv=cut)))
