"""The circuits of attention heads: products of weight matrices from token to token.

Row convention, that of TransformerLens: a token is a row, a head reads ``x @ W_V`` and writes
``z @ W_O``. In the column convention of the notes every product is transposed and in the opposite
order: ``W_U W_O W_V W_E`` there is ``(W_E W_V W_O W_U).T`` here. All functions take bare matrices, so
they work on any model, and on weights that come without one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor


@dataclass(frozen=True)
class Head:
    """The four matrices of one head, or of several with leading axes.

    Attributes:
        W_Q: from the stream to queries.
        W_K: from the stream to keys.
        W_V: from the stream to values.
        W_O: from values back to the stream.
    """

    W_Q: Float[Tensor, "*heads d_model d_head"]
    W_K: Float[Tensor, "*heads d_model d_head"]
    W_V: Float[Tensor, "*heads d_model d_head"]
    W_O: Float[Tensor, "*heads d_head d_model"]

    def __post_init__(self) -> None:
        shapes = {tuple(W.shape) for W in (self.W_Q, self.W_K, self.W_V)}
        turned = (*self.W_O.shape[:-2], self.W_O.shape[-1], self.W_O.shape[-2])
        if len(shapes | {turned}) != 1:
            raise ValueError(
                f"W_Q, W_K, W_V have shapes {sorted(shapes)} and W_O {list(self.W_O.shape)}; give "
                "[…, d_model, d_head] three times and […, d_head, d_model]"
            )

    def __getitem__(self, index: Any) -> Head:
        """Some of several heads, by an index of the leading axes."""
        return Head(self.W_Q[index], self.W_K[index], self.W_V[index], self.W_O[index])

    @property
    def OV(self) -> Float[Tensor, "*heads d_model d_model"]:
        """What the head writes for what it reads: ``x @ OV``."""
        return self.W_V @ self.W_O

    @property
    def QK(self) -> Float[Tensor, "*heads d_model d_model"]:
        """The attention score's bilinear form: ``x_query @ QK @ x_key``, before the square root."""
        return self.W_Q @ self.W_K.mT


def heads_of(model: Any) -> Head:
    """All heads of a ``TransformerBridge``, axes ``[layer, head]``.

    Raises:
        ValueError: the model has a norm, MLPs or biases, so that its circuits are no plain products.
    """
    require_plain(model)
    found = (getattr(model, name).detach() for name in ("W_Q", "W_K", "W_V", "W_O"))
    return Head(*found)


def require_plain(model: Any) -> None:
    """Refuse a model whose stream is no plain sum of its heads' writes.

    Raises:
        ValueError: it has a norm, MLPs or biases.
    """
    cfg = model.cfg
    if cfg.normalization_type is not None or not cfg.attn_only:
        has = "MLPs" if cfg.normalization_type is None else f"a norm ({cfg.normalization_type})"
        raise ValueError(
            f"the model has {has}; this holds for attention alone, without norms. Give "
            "circuits.Head its matrices with the gains folded in, and say so"
        )
    for name in ("b_Q", "b_K", "b_V", "b_O"):
        bias = getattr(model, name, None)
        if bias is not None and bool((bias != 0).any()):
            raise ValueError(f"the model has biases ({name}); these circuits hold without them")


# --- from token to token ----------------------------------------------------------------------


def full_ov(
    W_E: Float[Tensor, "type d_model"],
    head: Head,
    W_U: Float[Tensor, "d_model type"],
) -> Float[Tensor, "*heads source output"]:
    """What seeing a token adds to the logits: ``W_E W_V W_O W_U``.

    Row: the token that is attended to. Column: the token whose logit changes.
    """
    return W_E @ head.OV @ W_U


def full_qk(W_E: Float[Tensor, "type d_model"], head: Head) -> Float[Tensor, "*heads query key"]:
    """The attention score between two tokens, as far as it depends on them: ``W_E W_Q W_Kᵀ W_Eᵀ``."""
    return W_E @ head.QK @ W_E.mT


def k_composed_qk(
    W_E: Float[Tensor, "type d_model"], writer: Head, reader: Head
) -> Float[Tensor, "*heads query before"]:
    """The score between a token and what stands **before** the key: ``W_E W_Q W_Kᵀ (W_E W_V W_O)ᵀ``.

    The writer (a previous-token head) puts the token before into the key's place, and the reader's
    key matrix reads it there.

    Row: the query token. Column: the token before the key.
    """
    return W_E @ reader.QK @ (W_E @ writer.OV).mT


def q_composed_qk(
    W_E: Float[Tensor, "type d_model"], writer: Head, reader: Head
) -> Float[Tensor, "*heads before key"]:
    """The same on the other side: the score between what stands before the query, and a key token."""
    return (W_E @ writer.OV) @ reader.QK @ W_E.mT


def both_composed_qk(
    W_E: Float[Tensor, "type d_model"], for_query: Head, for_key: Head, reader: Head
) -> Float[Tensor, "*heads by_query by_key"]:
    """The score between what one head brought to the query and what another brought to the key.

    ``(W_E W_V W_O) W_Q W_Kᵀ (W_E W_V W_O)ᵀ``, with the OV circuit of a head of its own on each side.
    """
    return (W_E @ for_query.OV) @ reader.QK @ (W_E @ for_key.OV).mT


def v_composed_ov(
    W_E: Float[Tensor, "type d_model"],
    writer: Head,
    reader: Head,
    W_U: Float[Tensor, "d_model type"],
) -> Float[Tensor, "*heads source output"]:
    """What a token adds to the logits through both heads, one after the other (a virtual head)."""
    return W_E @ writer.OV @ reader.OV @ W_U


# --- is it diagonal? --------------------------------------------------------------------------


def diagonal_share(
    circuit: Float[Tensor, "*heads type type"], axis: int = -1
) -> Float[Tensor, "*heads"]:
    """Share of rows (``axis`` -1) or columns (-2) whose greatest entry is on the diagonal.

    By chance ``1 / n_types``.

    Raises:
        ValueError: the matrix is not square, or another axis is given.
    """
    n = _require_square(circuit)
    if axis not in (-1, -2):
        raise ValueError(f"axis is {axis}; give -1 for rows or -2 for columns")
    return (circuit.argmax(axis) == torch.arange(n)).float().mean(-1)


def eigenvalues(circuit: Float[Tensor, "*heads type type"]) -> Complex[Tensor, "*heads type"]:
    """The eigenvalues; of a circuit of rank ``d_head`` only as many differ from zero.

    Raises:
        ValueError: the matrix is not square.
    """
    _require_square(circuit)
    return torch.linalg.eigvals(circuit)


def positive_ratio(circuit: Float[Tensor, "*heads type type"]) -> Float[Tensor, "*heads"]:
    """``Σ Re λ / Σ |λ|``: 1 where the head copies every token's own direction, 0 on average by chance.

    0 as well for a head that writes nothing.

    Source: Elhage et al. 2021, section "Detecting copying behavior".

    Raises:
        ValueError: the matrix is not square.
    """
    values = eigenvalues(circuit)
    return values.real.sum(-1) / values.abs().sum(-1).clamp(min=torch.finfo(torch.float32).tiny)


def _require_square(circuit: Float[Tensor, "*heads row column"]) -> int:
    if circuit.shape[-1] != circuit.shape[-2]:
        raise ValueError(
            f"the circuit is {circuit.shape[-2]} × {circuit.shape[-1]}; give one from tokens to "
            "tokens of the same vocabulary"
        )
    return circuit.shape[-1]


def random_heads(head: Head, count: int, generator: torch.Generator) -> Head:
    """Random heads to compare with: Gaussian matrices of the same shapes and sizes.

    Returns:
        Heads with a leading axis of ``count``; each matrix has the norm of the head's own.
    """

    def like(W: Tensor) -> Tensor:
        drawn = torch.randn(count, *W.shape, generator=generator)
        norms = [torch.linalg.matrix_norm(matrix, keepdim=True) for matrix in (W, drawn)]
        return drawn / norms[1] * norms[0]

    return Head(like(head.W_Q), like(head.W_K), like(head.W_V), like(head.W_O))
