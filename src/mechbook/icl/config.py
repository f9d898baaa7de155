"""What names one run completely: its classes, its sequences, its model, its decay, its length, its seed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

CHOICES = {
    "source": ("omniglot", "gaussian", "glyphs"),
    "features": ("pca", "pixels"),
    "embedder": ("linear", "resnet", "none"),
    "positions": ("sinusoidal", "learned", "one-hot"),
    "readout": ("linear", "mlp"),
    "arm": ("AdamW", "L2 in the loss", "L1", "L1 in the loss", "unsquared norm"),
    "decayed": ("all", "mlp", "attention", "embedder"),
    "schedule": ("constant", "inverse square root", "cosine"),
    "precision": ("float32", "bfloat16"),
}
PAIRS = 8
"""Pairs of picture and label before the query."""
OF_A_MEMBER = (
    "seed",
    "decay",
    "arm",
    "decayed",
    "n_classes",
    "p_bursty",
    "zipf",
    "label_scale",
)
"""Fields in which the members of one ensemble may differ: they change values, not the program."""


@dataclass(frozen=True)
class IclConfig:
    """One run. The defaults are those of the Omniglot runs on a laptop.

    Attributes:
        source: of the classes: ``omniglot``, ``gaussian`` (a mean and noise), ``glyphs`` (drawn).
        features: of drawings: ``pca`` (whitened, fitted without the held-out classes) or ``pixels``.
        n_features: whitened dimensions, or dimensions of a Gaussian class.
        side: pixels along a side to which a drawing is averaged.
        noise: of a Gaussian class, ε in Reddy 2024.
        versions: of each drawing in training; those after the first are shifted and turned.
        n_classes: classes seen in training; fewer are a subset of more, drawn by the seed.
        n_holdout: classes never seen, the same for every run.
        n_labels: outputs; class c has the label c mod n_labels, so there are ``n_labels`` ≥
            ``n_classes`` for one label a class.
        p_bursty: share of bursty sequences; in the others all nine items are drawn alone.
        burst: copies of each class in a bursty context, the query's class first; 8 in all.
        zipf: exponent of the classes' frequencies; 0 for equal ones.
        n_layers: layers.
        d_model: width of the residual stream.
        n_heads: heads a layer.
        mlp: whether a layer has an MLP (four times as wide).
        norm: whether LayerNorm stands before each block and before the readout.
        embedder: of a picture; ``none`` gives the features to the stream as they are.
        positions: ``one-hot`` ones take 17 dimensions of the stream for themselves.
        label_scale: standard deviation of the initial label vectors (without an embedder they stay
            as they are; Reddy 2024 has 1 / √63).
        readout: of the last token: ``linear``, or an ``mlp`` of three layers as in Reddy 2024.
        arm: kind of decay, see ``mechbook.icl.decay``.
        decayed: which weights: ``all``, or those of one part.
        decay: its coefficient.
        lr: highest learning rate of Adam.
        warmup: updates until it, linear.
        schedule: after the warmup.
        clip: greatest norm of a gradient; 0 for none.
        batch: sequences an update.
        steps: updates.
        evaluate_every: updates from one evaluation to the next.
        episodes: of each kind in an evaluation.
        precision: ``bfloat16`` for matrix products in half precision (autocast).
        seed: of the initial weights, the choice of classes and the sequences.
    """

    source: str = "omniglot"
    features: str = "pca"
    n_features: int = 64
    side: int = 28
    noise: float = 0.1
    versions: int = 1
    n_classes: int = 1600
    n_holdout: int = 23
    n_labels: int = 32
    p_bursty: float = 0.9
    burst: tuple[int, ...] = (3, 3, 1, 1)
    zipf: float = 0.0
    n_layers: int = 2
    d_model: int = 64
    n_heads: int = 1
    mlp: bool = False
    norm: bool = True
    embedder: str = "linear"
    positions: str = "sinusoidal"
    label_scale: float = 1.0
    readout: str = "linear"
    arm: str = "AdamW"
    decayed: str = "all"
    decay: float = 0.0
    lr: float = 1e-3
    warmup: int = 0
    schedule: str = "constant"
    clip: float = 0.0
    batch: int = 128
    steps: int = 12_000
    evaluate_every: int = 250
    episodes: int = 512
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "burst", tuple(int(copies) for copies in self.burst))
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; give one of {', '.join(allowed)}"
                )
        self._refuse_impossible_data()
        self._refuse_impossible_model()
        self._refuse_impossible_training()

    def _refuse_impossible_data(self) -> None:
        if sum(self.burst) != PAIRS or min(self.burst) < 1 or len(self.burst) < 2:
            raise ValueError(
                f"burst is {self.burst}; give copies of two classes or more that make {PAIRS} pairs"
            )
        if self.n_holdout < len(self.burst):
            raise ValueError(
                f"n_holdout is {self.n_holdout}, but an episode needs {len(self.burst)} classes "
                "(ways); hold out more classes"
            )
        if min(self.n_classes, self.n_labels) < PAIRS + 1:
            raise ValueError(
                f"n_classes={self.n_classes}, n_labels={self.n_labels}; give {PAIRS + 1} or more "
                "of both, so that a context can do without the query's class and label"
            )
        if not 0 <= self.p_bursty <= 1 or self.zipf < 0 or self.noise < 0:
            raise ValueError(
                f"p_bursty={self.p_bursty}, zipf={self.zipf}, noise={self.noise}; give a share "
                "from 0 to 1, and the others not below 0"
            )

    def _refuse_impossible_model(self) -> None:
        if min(self.n_layers, self.n_heads, self.n_features, self.side) < 1:
            raise ValueError(f"{self}: layers, heads, features and pixels must be 1 or more")
        odd = self.positions == "sinusoidal" and self.d_model % 2
        if self.content < 1 or self.d_model % self.n_heads or odd:
            raise ValueError(
                f"d_model={self.d_model}, n_heads={self.n_heads}; give a width that the heads "
                "divide, even for sinusoidal positions, above 17 for one-hot ones"
            )
        if self.embedder == "resnet" and (self.features != "pixels" or self.source == "gaussian"):
            raise ValueError(
                "a resnet embedder reads pictures; give features='pixels' and a source that draws"
            )
        if self.embedder == "none" and self.n_inputs != self.content:
            raise ValueError(
                f"without an embedder the stream must hold the {self.n_inputs} features; it has "
                f"{self.content} dimensions for them (d_model, less 17 with one-hot positions)"
            )

    def _refuse_impossible_training(self) -> None:
        least = min(self.batch, self.steps, self.evaluate_every, self.episodes, self.versions)
        if least < 1 or self.lr < 0 or self.decay < 0 or self.warmup < 0 or self.clip < 0:
            raise ValueError(
                f"{self}: batch, steps, evaluate_every, episodes and versions must be 1 or more, "
                "lr, decay, warmup and clip not below 0"
            )
        if self.decayed == "mlp" and not (self.mlp or self.readout == "mlp"):
            raise ValueError("decayed is 'mlp', but the model has none; give mlp=True")
        if self.decayed == "embedder" and self.embedder == "none":
            raise ValueError("decayed is 'embedder', but the model has none; give an embedder")

    @property
    def posn(self) -> int:
        """Tokens of a sequence: pairs and the query."""
        return 2 * PAIRS + 1

    @property
    def n_inputs(self) -> int:
        """Numbers that describe a picture."""
        pixels = self.features == "pixels" and self.source != "gaussian"
        return self.side**2 if pixels else self.n_features

    @property
    def content(self) -> int:
        """Dimensions of the stream that hold a picture or label at first."""
        return self.d_model - (self.posn if self.positions == "one-hot" else 0)

    @property
    def program(self) -> IclConfig:
        """The same with the fields of a member reset: equal for runs that one ensemble can hold."""
        fields = {f.name: f.default for f in dataclasses.fields(self) if f.name in OF_A_MEMBER}
        return dataclasses.replace(self, **fields)  # type: ignore[arg-type]

    def rate(self, step: int) -> float:
        """The learning rate of an update as a share of the highest."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "inverse square root":
            return warm * min(1.0, (max(1, self.warmup) / (step + 1)) ** 0.5)
        if self.schedule == "cosine":
            from math import cos, pi

            return warm * 0.5 * (1 + cos(pi * min(1.0, step / self.steps)))
        return warm

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON knows them (the burst as a list)."""
        return {**dataclasses.asdict(self), "burst": list(self.burst)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> IclConfig:
        """The run that `to_dict` described.

        Raises:
            ValueError: a field that a run does not have.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        if set(fields) - known:
            raise ValueError(
                f"unknown fields {sorted(set(fields) - known)}; a run has {', '.join(sorted(known))}"
            )
        return cls(**fields)

    @property
    def run(self) -> str:
        """A name of the run: 12 hexadecimal digits that hang on every field."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def gaussian(**changes: Any) -> IclConfig:
    """Classes after Reddy 2024: Gaussian, two layers of one head, one-hot positions, an MLP readout.

    The changes are fields of `IclConfig`; without any: 1,024 classes, 32 labels, two copies of each
    of four classes in the context, fixed label vectors. Differences, said: LayerNorm, label vectors
    three times as long, Adam, positions without a random offset.
    """
    fields = {
        "source": "gaussian",
        "n_features": 63,
        "n_classes": 1024,
        "n_holdout": 512,
        "burst": (2, 2, 2, 2),
        "d_model": 80,
        "embedder": "none",
        "positions": "one-hot",
        "label_scale": 0.4,
        "readout": "mlp",
        "steps": 8000,
    }
    return IclConfig(**(fields | changes))  # type: ignore[arg-type]


def paper(**changes: Any) -> IclConfig:
    """The setting of Chan et al. 2022: 12 layers, one label a class, a convolutional embedder.

    Differences, said: drawings of 28 pixels a side where theirs have 105 (``side=105`` for theirs),
    no batch normalization, no dropout, 23 held-out classes. The changes are fields of `IclConfig`.
    """
    fields = {
        "features": "pixels",
        "n_labels": 1600,
        "n_layers": 12,
        "n_heads": 8,
        "mlp": True,
        "embedder": "resnet",
        "label_scale": 0.02,
        "lr": 3e-4,
        "warmup": 4000,
        "schedule": "inverse square root",
        "clip": 0.25,
        "batch": 32,
        "steps": 500_000,
        "evaluate_every": 1000,
    }
    return IclConfig(**(fields | changes))  # type: ignore[arg-type]
