"""A network that adds months by turning, written down by hand: what interventions do to it is known."""

from types import SimpleNamespace

import torch

from mechbook.geometry.arithmetic import FINAL, ITEM, Task

TASK = Task(offsets=24, cycles=1)
D_MODEL = 40


def month_waves(items=12):
    """Orthogonal rows for the months: cosine and sine of harmonics 1 to 5, and the last one's sign."""
    angle = 2 * torch.pi * torch.arange(items)[:, None] * torch.arange(1, 6) / items
    sign = 1 - 2.0 * (torch.arange(items)[:, None] % 2)
    return torch.cat([angle.cos(), angle.sin(), sign], 1)


class Clock:
    """One block: the last token gets the month's waves, turned by the offset, in other dimensions."""

    def __init__(self, strengths=(1, 1, 1, 1, 1, 1)):
        self.cfg = SimpleNamespace(n_layers=1, n_ctx=5, d_model=D_MODEL, d_vocab=len(TASK.words))
        weights = torch.tensor([*strengths[:5], *strengths[:5], strengths[5]], dtype=torch.float)
        generator = torch.Generator().manual_seed(0)
        self.first = TASK.first_item(0)
        self.E = torch.zeros(len(TASK.words), D_MODEL)
        self.E[:, 22:] = torch.randn(len(TASK.words), 18, generator=generator)
        self.E[self.first :, 22:] = self.E[self.first, 22:]  # all that differs is the waves
        self.E[self.first :, :11] = month_waves() * weights
        self.U = torch.zeros(D_MODEL, len(TASK.words))
        self.U[11:22, self.first :] = month_waves().T

    def _turned(self, waves, offset):
        k = torch.arange(1, 6)
        angle = 2 * torch.pi * offset[:, None] * k / 12
        cos, sin, sign = waves[:, :5], waves[:, 5:10], waves[:, 10:]
        new = angle.cos() * cos - angle.sin() * sin, angle.sin() * cos + angle.cos() * sin
        return torch.cat([*new, sign * (1 - 2.0 * (offset[:, None] % 2))], 1)

    def run_with_hooks(self, tokens, fwd_hooks=()):
        hooks = dict(fwd_hooks)
        stream = self.E[tokens]
        for name in ("blocks.0.hook_resid_pre", "blocks.0.hook_resid_post"):
            if name.endswith("post"):
                stream = stream.clone()
                stream[:, FINAL, 11:22] += self._turned(stream[:, ITEM, :11], tokens[:, 0])
            if name in hooks:
                stream = hooks[name](stream, None)
        return stream @ self.U

    def __call__(self, tokens):
        return self.run_with_hooks(tokens)

    def run_with_cache(self, tokens, names_filter):
        cache = {}

        def keep(name):
            def hook(stream, _):
                cache[name] = stream.clone()
                return stream

            return name, hook

        return self.run_with_hooks(tokens, [keep(name) for name in names_filter]), cache
