"""Turning the residual stream: which changes of basis leave a transformer's answers alone.

A ``Transformer`` is a GPT-style model as plain named tensors, in the **row convention** of
TransformerLens: a stream vector is a row ``x``, a reader gives ``x @ W`` and a writer adds
``z @ W``. To see the stream through new axes, ``x → x @ R``, every writer becomes ``W @ R`` and
every reader becomes ``R⁻¹ @ W``. In the column convention, ``x → R @ x``, the same thing reads
``R @ W`` for writers and ``W @ R⁻¹`` for readers.

Whether the answers stay is then up to the normalization between stream and readers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Norm = Literal["none", "LN", "RMS"]
Matrix = Float[Tensor, "d_model d_model"]

NORMS: tuple[Norm, ...] = ("none", "LN", "RMS")
WRITERS = ("embed.W_E", "pos_embed.W_pos", "attn.W_O", "attn.b_O", "mlp.W_out", "mlp.b_out")
READERS = ("attn.W_Q", "attn.W_K", "attn.W_V", "mlp.W_in", "unembed.W_U")
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
}


@dataclass(frozen=True)
class Transformer:
    """A causal transformer with learned positions, as named tensors.

    Attributes:
        tensors: by TransformerLens' names: ``embed.W_E [d_vocab d_model]``,
            ``blocks.0.attn.W_Q [head d_model d_head]``,
            ``blocks.0.attn.W_O [head d_head d_model]``,
            ``blocks.0.mlp.W_in [d_model d_mlp]``, ``blocks.0.ln1.w [d_model]``, ...
        norm: what stands between the stream and every reader.
        act: the activation inside the MLPs.
        eps: added to the variance by the norms.
    """

    tensors: Mapping[str, Tensor]
    norm: Norm
    act: str = "relu"
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ValueError(f"norm is {self.norm!r}; choose one of {NORMS}")
        if self.act not in _ACTIVATIONS:
            raise ValueError(f"act is {self.act!r}; choose one of {sorted(_ACTIVATIONS)}")

    @property
    def d_model(self) -> int:
        """Width of the stream."""
        return self.tensors["embed.W_E"].shape[-1]

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return sum(name.endswith("attn.W_O") for name in self.tensors)

    @property
    def attn_only(self) -> bool:
        """Whether the blocks have no MLP."""
        return not any(name.endswith("mlp.W_in") for name in self.tensors)

    def to(self, dtype: torch.dtype) -> Transformer:
        """The same model in another number format."""
        return self.map(lambda name, w: w.to(dtype))

    def map(self, change: Callable[[str, Tensor], Tensor]) -> Transformer:
        """The model with ``change(name, tensor)`` in place of each tensor."""
        return replace(self, tensors={name: change(name, w) for name, w in self.tensors.items()})


@dataclass(frozen=True)
class Run:
    """What one forward pass gave.

    Attributes:
        logits: before the softmax.
        streams: the stream after the embedding and after each block.
        writes: what each writer added, by name: ``embed``, ``pos_embed``, ``L0H1``, ``L0 b_O``,
            ``L0 mlp``, ...
    """

    logits: Float[Tensor, "batch posn d_vocab"]
    streams: Float[Tensor, "layer batch posn d_model"]
    writes: dict[str, Float[Tensor, "batch posn d_model"]]


# --- the model, one equation a function -------------------------------------------------------


def normalize(
    x: Float[Tensor, "... d_model"], norm: Norm, eps: float = 1e-5
) -> Float[Tensor, "... d_model"]:
    """LayerNorm or RMSNorm without gain and bias, or nothing.

    Raises:
        ValueError: ``norm`` is not one of ``NORMS``.
    """
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}; choose one of {NORMS}")
    if norm == "none":
        return x
    if norm == "LN":
        x = x - x.mean(-1, keepdim=True)
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def run(model: Transformer, tokens: Int[Tensor, "batch posn"], *, parallel: bool = False) -> Run:
    """Logits, streams and every component's write, in plain einsums.

    Args:
        model: the transformer.
        tokens: token numbers below ``d_vocab``; no more positions than ``W_pos`` has.
        parallel: let the MLP read the stream from before its layer's attention (as in GPT-J).

    Raises:
        ValueError: tokens out of range or too long.
    """
    w = model.tensors
    _require_tokens(model, tokens)
    posn = tokens.shape[1]
    writes = {"embed": w["embed.W_E"][tokens]}
    writes["pos_embed"] = w["pos_embed.W_pos"][:posn].expand_as(writes["embed"])
    x = writes["embed"] + writes["pos_embed"]
    streams = [x]
    for layer in range(model.n_layers):
        before = x
        for name, write in _attention_writes(model, layer, before).items():
            writes[name] = write
            x = x + write
        if not model.attn_only:
            writes[f"L{layer} mlp"] = _mlp_write(model, layer, before if parallel else x)
            x = x + writes[f"L{layer} mlp"]
        streams.append(x)
    logits = _read(model, x, "ln_final") @ w["unembed.W_U"] + w["unembed.b_U"]
    return Run(logits, torch.stack(streams), writes)


def _require_tokens(model: Transformer, tokens: Tensor) -> None:
    vocab, positions = len(model.tensors["embed.W_E"]), len(model.tensors["pos_embed.W_pos"])
    if tokens.ndim != 2 or tokens.shape[1] > positions:
        raise ValueError(
            f"tokens have shape {tuple(tokens.shape)}; give [batch, posn] with posn ≤ {positions}"
        )
    if tokens.numel() and (int(tokens.min()) < 0 or int(tokens.max()) >= vocab):
        raise ValueError(
            f"tokens run from {int(tokens.min())} to {int(tokens.max())}; "
            f"keep them from 0 to {vocab - 1}"
        )


def _read(model: Transformer, x: Tensor, name: str) -> Tensor:
    """The stream as a reader sees it: normalized, times gain, plus bias."""
    if model.norm == "none":
        return x
    x = normalize(x, model.norm, model.eps)
    return x * model.tensors[f"{name}.w"] + model.tensors[f"{name}.b"]


def _attention_writes(model: Transformer, layer: int, x: Tensor) -> dict[str, Tensor]:
    block = f"blocks.{layer}.attn."
    w = {k.removeprefix(block): v for k, v in model.tensors.items() if k.startswith(block)}
    seen = _read(model, x, f"blocks.{layer}.ln1")
    q, k, v = (
        torch.einsum("bpd,hde->bhpe", seen, w[f"W_{i}"]) + w[f"b_{i}"][:, None] for i in "QKV"
    )
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    future = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
    pattern = scores.masked_fill(future, -torch.inf).softmax(-1)
    results = torch.einsum("bhpe,hed->hbpd", pattern @ v, w["W_O"])
    writes = {f"L{layer}H{head}": result for head, result in enumerate(results)}
    return {**writes, f"L{layer} b_O": w["b_O"].expand_as(x)}


def _mlp_write(model: Transformer, layer: int, x: Tensor) -> Tensor:
    w, block = model.tensors, f"blocks.{layer}.mlp."
    seen = _read(model, x, f"blocks.{layer}.ln2")
    hidden = _ACTIVATIONS[model.act](seen @ w[block + "W_in"] + w[block + "b_in"])
    return hidden @ w[block + "W_out"] + w[block + "b_out"]


# --- models to turn ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """Sizes of a random transformer (numbers, not units)."""

    d_model: int = 32
    n_heads: int = 4
    d_head: int = 8
    d_mlp: int = 64
    n_layers: int = 3
    n_ctx: int = 16
    d_vocab: int = 24


def random_transformer(norm: Norm, *, seed: int, size: Size | None = None) -> Transformer:
    """A transformer with random weights, gains in [0.5, 1.5] and biases that are not zero.

    Gains of one and biases of zero, as at initialization, would hide what they do.

    Raises:
        ValueError: ``norm`` is unknown.
    """
    s = size or Size()
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, shape in _shapes(s, norm).items():
        values = torch.randn(*shape, generator=generator)
        if name.endswith((".w", ".b")):
            values = torch.rand(*shape, generator=generator) + (0.5 if name[-1] == "w" else -0.5)
        elif name not in ("embed.W_E", "pos_embed.W_pos"):
            values = values / math.sqrt(shape[-2] if len(shape) > 1 else s.d_model)
        if role(name) == "writer":
            values = values / math.sqrt(2 * s.n_layers)  # keeps the stream near unit size
        tensors[name] = values
    return Transformer(tensors, norm)


def _shapes(s: Size, norm: Norm) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "embed.W_E": (s.d_vocab, s.d_model),
        "pos_embed.W_pos": (s.n_ctx, s.d_model),
    }
    for layer in range(s.n_layers):
        attn, mlp = f"blocks.{layer}.attn.", f"blocks.{layer}.mlp."
        for i in "QKV":
            shapes[f"{attn}W_{i}"] = (s.n_heads, s.d_model, s.d_head)
            shapes[f"{attn}b_{i}"] = (s.n_heads, s.d_head)
        shapes |= {f"{attn}W_O": (s.n_heads, s.d_head, s.d_model), f"{attn}b_O": (s.d_model,)}
        shapes |= {f"{mlp}W_in": (s.d_model, s.d_mlp), f"{mlp}b_in": (s.d_mlp,)}
        shapes |= {f"{mlp}W_out": (s.d_mlp, s.d_model), f"{mlp}b_out": (s.d_model,)}
    shapes |= {"unembed.W_U": (s.d_model, s.d_vocab), "unembed.b_U": (s.d_vocab,)}
    if norm != "none":
        for place in _norm_places(s.n_layers, attn_only=False):
            shapes |= {f"{place}.w": (s.d_model,), f"{place}.b": (s.d_model,)}
    return shapes


def _norm_places(n_layers: int, *, attn_only: bool) -> list[str]:
    inside = ("ln1",) if attn_only else ("ln1", "ln2")
    return [f"blocks.{layer}.{ln}" for layer in range(n_layers) for ln in inside] + ["ln_final"]


def from_bridge(bridge: Any) -> Transformer:
    """The weights of a TransformerLens ``TransformerBridge`` as a ``Transformer``.

    Raises:
        ValueError: the model has something a ``Transformer`` has not: rotary positions, grouped
            heads, a gated MLP, soft caps, or an unknown norm or activation.
    """
    cfg = bridge.cfg
    _require_plain(cfg)
    norm = _norm_of(cfg.normalization_type)
    tensors = {"embed.W_E": bridge.W_E, "pos_embed.W_pos": bridge.W_pos}
    tensors |= {"unembed.W_U": bridge.W_U, "unembed.b_U": bridge.b_U}
    for layer in range(cfg.n_layers):
        for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"):
            tensors[f"blocks.{layer}.attn.{name}"] = getattr(bridge, name)[layer]
        if not cfg.attn_only:
            for name in ("W_in", "b_in", "W_out", "b_out"):
                tensors[f"blocks.{layer}.mlp.{name}"] = getattr(bridge, name)[layer]
    if norm != "none":
        for place in _norm_places(cfg.n_layers, attn_only=cfg.attn_only):
            gain, bias = _gain_and_bias(bridge, place)
            tensors |= {f"{place}.w": gain, f"{place}.b": bias}
    detached = {name: w.detach().clone() for name, w in tensors.items()}
    return Transformer(detached, norm, act=(cfg.act_fn or "gelu").lower(), eps=cfg.eps)


def _norm_of(normalization_type: str | None) -> Norm:
    kinds: dict[str | None, Norm] = {None: "none", "LN": "LN", "LNPre": "LN"}
    kinds |= {"RMS": "RMS", "RMSPre": "RMS"}
    if normalization_type not in kinds:
        raise ValueError(f"normalization_type is {normalization_type!r}; known are {list(kinds)}")
    return kinds[normalization_type]


def _require_plain(cfg: Any) -> None:
    groups = getattr(cfg, "n_key_value_heads", None)
    special = {
        "positions that are not learned vectors": cfg.positional_embedding_type != "standard",
        "grouped key-value heads": groups not in (None, cfg.n_heads),
        "a gated MLP": bool(cfg.gated_mlp),
        "soft-capped scores or logits": max(cfg.attn_scores_soft_cap, cfg.output_logits_soft_cap)
        > 0,
        "a final norm of another kind": bool(cfg.final_rms)
        and "RMS" not in str(cfg.normalization_type),
        "attention that is not causal": cfg.attention_dir != "causal",
        "its own attention scale": cfg.attn_scale > 0
        and not math.isclose(cfg.attn_scale, math.sqrt(cfg.d_head)),
    }
    found = [what for what, there in special.items() if there]
    if found:
        raise ValueError(
            f"this model has {' and '.join(found)}, which Transformer does not describe; "
            "use a GPT-2-style model"
        )


def _norm_module(bridge: Any, place: str) -> Any:
    if place == "ln_final":
        return bridge.ln_final.original_component
    _, layer, name = place.split(".")
    return getattr(bridge.blocks[int(layer)], name).original_component


def _gain_and_bias(bridge: Any, place: str) -> tuple[Tensor, Tensor]:
    module = _norm_module(bridge, place)
    gain = getattr(module, "weight", None)
    bias = getattr(module, "bias", None)
    like = bridge.W_E[0]
    return (
        torch.ones_like(like) if gain is None else gain,
        torch.zeros_like(like) if bias is None else bias,
    )


def to_bridge(model: Transformer, bridge: Any) -> Any:
    """A copy of a native bridge that holds the weights of ``model``.

    Args:
        model: e.g. ``rotate(fold_norms(from_bridge(bridge)), R)``.
        bridge: a bridge from ``TransformerBridge.boot_native``; it is left as it is.

    Raises:
        ValueError: the bridge has another norm, or no place for a gain or bias that is not trivial.
    """
    if _norm_of(bridge.cfg.normalization_type) != model.norm:
        raise ValueError(
            f"the bridge normalizes by {bridge.cfg.normalization_type!r} and the weights are meant "
            f"for {model.norm!r}; boot a bridge with the same norm"
        )
    twin = type(bridge).boot_native(copy.deepcopy(bridge.cfg))  # deepcopy fails after a forward
    with torch.no_grad():
        for name, w in model.tensors.items():
            _store(twin, name, w)
    return twin


def _store(bridge: Any, name: str, w: Tensor) -> None:
    place, _, kind = name.rpartition(".")
    if place in ("embed", "pos_embed", "unembed"):
        module = getattr(bridge, place).original_component
    elif kind in ("w", "b"):
        module = _norm_module(bridge, place)
    else:
        _, layer, part = place.split(".")
        submodule = kind.split("_")[1].lower()
        module = getattr(getattr(bridge.blocks[int(layer)], part), submodule).original_component
    is_bias = kind.startswith("b")
    target = getattr(module, "bias" if is_bias else "weight", None)
    if target is None:
        if not torch.equal(w, torch.full_like(w, 0.0 if is_bias else 1.0)):
            raise ValueError(f"the bridge has no place for {name}; fold it first (fold_norms)")
        return
    target.copy_(_as_linear(name, w, target.shape))


def _as_linear(name: str, w: Tensor, shape: torch.Size) -> Tensor:
    """Reshape ``[head d_model d_head]`` and the like to ``nn.Linear``'s ``[out in]``."""
    if name.endswith(("W_Q", "W_K", "W_V")):
        return w.transpose(1, 2).reshape(shape)
    if name.endswith("W_O"):
        return w.reshape(-1, w.shape[-1]).T
    if name.endswith(("W_in", "W_out", "W_U")):
        return w.T
    return w.reshape(shape)


# --- turning ----------------------------------------------------------------------------------


def role(name: str) -> Literal["writer", "reader", "norm", "other"]:
    """Whether a tensor writes to the stream, reads from it, sits in a norm, or does none of it."""
    if name.endswith(WRITERS):
        return "writer"
    if name.endswith(READERS):
        return "reader"
    return "norm" if name.endswith((".w", ".b")) else "other"


def rotate(model: Transformer, R: Matrix, *, leave_out: Collection[str] = ()) -> Transformer:
    """The model with stream ``x @ R`` in place of ``x``: writers ``W @ R``, readers ``R⁻¹ @ W``.

    Any invertible ``R`` is taken: whether the logits stay is the question. Gains and biases of the
    norms cannot be turned (they act coordinate by coordinate): fold them first, ``fold_norms``.

    Args:
        model: the model, left as it is.
        R: invertible.
        leave_out: names of tensors to leave as they are, to see that each one matters.

    Raises:
        ValueError: ``R`` has the wrong shape or is singular, or a name in ``leave_out`` is unknown.
    """
    _require_invertible(R, model.d_model)
    turnable = [name for name in model.tensors if role(name) in ("writer", "reader")]
    unknown = sorted(set(leave_out) - set(turnable))
    if unknown:
        raise ValueError(f"leave_out names {unknown}; it can name {turnable}")

    def turn(name: str, w: Tensor) -> Tensor:
        if name in leave_out or name not in turnable:
            return w
        r = R.to(w.dtype)
        return w @ r if role(name) == "writer" else torch.linalg.solve(r, w)

    return model.map(turn)


def _require_invertible(R: Tensor, d_model: int) -> None:
    if tuple(R.shape) != (d_model, d_model):
        raise ValueError(f"R has shape {tuple(R.shape)}; this stream needs ({d_model}, {d_model})")
    if not bool(torch.isfinite(R).all()) or float(torch.linalg.matrix_rank(R.double())) < d_model:
        raise ValueError(
            f"R is singular (rank {int(torch.linalg.matrix_rank(R.double()))} of {d_model}) or not "
            "finite, so readers cannot undo it; give an invertible matrix"
        )


def fold_norms(model: Transformer) -> Transformer:
    """Move each norm's gain and bias into the readers behind it: the same function, gains of one.

    ``(n * w + b) @ W + c = n @ (w[:, None] * W) + (b @ W + c)`` for every reader ``W``, ``c``.
    """
    if model.norm == "none":
        return model
    t = dict(model.tensors)
    for place in _norm_places(model.n_layers, attn_only=model.attn_only):
        gain, bias = t[f"{place}.w"], t[f"{place}.b"]
        for reader, offset in _readers_behind(place):
            t[offset] = t[offset] + bias @ t[reader]
            t[reader] = gain[:, None] * t[reader]
        t |= {f"{place}.w": torch.ones_like(gain), f"{place}.b": torch.zeros_like(bias)}
    return replace(model, tensors=t)


def _readers_behind(place: str) -> list[tuple[str, str]]:
    if place == "ln_final":
        return [("unembed.W_U", "unembed.b_U")]
    block, _, name = place.rpartition(".")
    if name == "ln2":
        return [(f"{block}.mlp.W_in", f"{block}.mlp.b_in")]
    return [(f"{block}.attn.W_{i}", f"{block}.attn.b_{i}") for i in "QKV"]


def center_writers(model: Transformer) -> Transformer:
    """Take from every write its mean over the coordinates; LayerNorm then *is* RMSNorm.

    LayerNorm never sees the mean, so the function stays; without a mean there is nothing left to
    subtract, so the result is a ``Transformer`` with ``norm="RMS"``.

    Raises:
        ValueError: the model is not a LayerNorm model (for the others the mean matters).
    """
    if model.norm != "LN":
        raise ValueError(f"the model's norm is {model.norm!r}; only LayerNorm ignores the mean")

    def center(name: str, w: Tensor) -> Tensor:
        return w - w.mean(-1, keepdim=True) if role(name) == "writer" else w

    return replace(model.map(center), norm="RMS")


def rotate_bridge(
    bridge: Any, R: Matrix, *, fold: bool = True, leave_out: Collection[str] = ()
) -> Any:
    """A copy of a native ``TransformerBridge`` whose stream is turned by ``R``.

    Args:
        bridge: from ``TransformerBridge.boot_native``; left as it is.
        R: invertible.
        fold: fold gains and biases of the norms into the readers first.
        leave_out: tensors to leave unturned, see ``rotate``.

    Raises:
        ValueError: as ``from_bridge``, ``rotate`` and ``to_bridge`` do.
    """
    model = from_bridge(bridge)
    return to_bridge(rotate(fold_norms(model) if fold else model, R, leave_out=leave_out), bridge)


# --- matrices to turn by ----------------------------------------------------------------------


def random_orthogonal(d_model: int, *, seed: int) -> Matrix:
    """A uniformly (Haar) random orthogonal matrix, float64.

    Source: F. Mezzadri, "How to generate random matrices from the classical compact groups" (2007).

    Raises:
        ValueError: ``d_model`` is below 1.
    """
    _require_width(d_model, 1)
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(d_model, d_model, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    return q * torch.sign(torch.diagonal(r))


def random_invertible(d_model: int, *, condition: float, seed: int) -> Matrix:
    """A random matrix with the given condition number: U · diag(s) · V, s evenly spaced in log.

    Raises:
        ValueError: the condition number is below 1 or above 1e12 (hardly invertible in float64).
    """
    _require_width(d_model, 2)
    if not 1 <= condition <= 1e12:
        raise ValueError(f"condition is {condition}; give a number from 1 to 1e12")
    half = math.log10(condition) / 2
    s = torch.logspace(half, -half, d_model, dtype=torch.float64)
    u, v = (random_orthogonal(d_model, seed=2 * seed + i) for i in range(2))
    return u @ torch.diag(s) @ v


def rotation_by_angle(d_model: int, degrees: float, *, seed: int) -> Matrix:
    """Turn d_model/2 random planes, at right angles to each other, by the same angle.

    0° is the identity, 180° is −I.

    Raises:
        ValueError: ``d_model`` is odd or the angle is not finite.
    """
    _require_width(d_model, 2)
    if d_model % 2 or not math.isfinite(degrees):
        raise ValueError(
            f"d_model is {d_model} and the angle {degrees}; give an even width and a finite angle"
        )
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    plane = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    axes = random_orthogonal(d_model, seed=seed)
    return axes @ torch.block_diag(*[plane] * (d_model // 2)) @ axes.T


def rotation_fixing_ones(d_model: int, *, seed: int) -> Matrix:
    """A random orthogonal matrix that leaves the direction (1, 1, …, 1) where it is.

    Raises:
        ValueError: ``d_model`` is below 2.
    """
    _require_width(d_model, 2)
    frame = torch.eye(d_model, dtype=torch.float64)
    frame[:, 0] = 1.0
    q = torch.linalg.qr(frame)[0]
    return (
        q
        @ torch.block_diag(
            torch.ones(1, 1, dtype=torch.float64), random_orthogonal(d_model - 1, seed=seed)
        )
        @ q.T
    )


def _require_width(d_model: int, least: int) -> None:
    if d_model < least:
        raise ValueError(f"d_model is {d_model}; give a width of at least {least}")


# --- how far apart ----------------------------------------------------------------------------


def relative_error(value: Tensor, reference: Tensor) -> float:
    """The largest difference, in standard deviations of the reference.

    Raises:
        ValueError: the shapes differ.
    """
    if value.shape != reference.shape:
        raise ValueError(
            f"shapes are {tuple(value.shape)} and {tuple(reference.shape)}; compare like with like"
        )
    value, reference = value.detach(), reference.detach()
    return float((value - reference).abs().max() / reference.std())


def mean_kl(logits: Tensor, reference: Tensor) -> float:
    """KL(reference ‖ logits) in nats a token, averaged."""
    p, q = reference.log_softmax(-1), logits.log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def rotation_error(
    model: Transformer,
    R: Matrix,
    tokens: Int[Tensor, "batch posn"],
    *,
    leave_out: Collection[str] = (),
) -> float:
    """``relative_error`` of the logits after turning the model's stream by ``R``."""
    turned = run(rotate(model, R, leave_out=leave_out), tokens).logits
    return relative_error(turned, run(model, tokens).logits)


def product_orders(d: int = 4, *, seed: int) -> dict[tuple[str, str], tuple[bool, bool]]:
    """Which order of the factors undoes which: one square writer, one square reader, a rotation.

    Returns:
        For each pair (new writer, new reader) of ``"WR"``/``"RW"`` and ``"WR⁻¹"``/``"R⁻¹W"``:
        whether write-then-read stays the same (in the row convention, in the column convention).
    """
    generator = torch.Generator().manual_seed(seed)
    write, read = (torch.randn(d, d, generator=generator, dtype=torch.float64) for _ in range(2))
    R = random_orthogonal(d, seed=seed)
    writers = {"WR": write @ R, "RW": R @ write}
    readers = {"WR⁻¹": read @ R.T, "R⁻¹W": R.T @ read}
    return {
        (w, r): (
            torch.allclose(writers[w] @ readers[r], write @ read),
            torch.allclose(readers[r] @ writers[w], read @ write),
        )
        for w in writers
        for r in readers
    }
