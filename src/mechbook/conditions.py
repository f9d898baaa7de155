"""What must hold of a measured number, in the words of the ledger: `> 0.9`, `0.5 ± 0.03`, `< control / 2`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

GRAMMAR = (
    '"< 1e-5", "<= 0.1", "> 0.9" or ">= 0.9"; "0.5 ± 0.03"; "0.4 to 0.6"; '
    'against the control: "< control / 2", "> 3 * control", "> control + 0.1"'
)


@dataclass(frozen=True)
class Bound:
    """One end of a condition: `scale * control + offset`, itself excluded when `strict`."""

    offset: float
    scale: float = 0.0
    strict: bool = False

    def at(self, control: float | None) -> float:
        """Return the bound as a number; `ValueError` when it needs a control and has none."""
        if self.scale == 0:
            return self.offset
        if control is None:
            raise ValueError("this condition compares with the control: give the control's value")
        return self.scale * control + self.offset


@dataclass(frozen=True)
class Condition:
    """What must hold of a number: an interval whose ends may depend on the control."""

    text: str
    lower: Bound | None = None
    upper: Bound | None = None

    def holds(self, value: float, control: float | None = None) -> bool:
        """Return whether `value` lies inside; NaN never does."""
        if math.isnan(value):
            return False
        above = self.lower is None or beyond(value, self.lower.at(control), self.lower.strict)
        below = self.upper is None or beyond(-value, -self.upper.at(control), self.upper.strict)
        return above and below

    @property
    def needs_control(self) -> bool:
        """Whether one of the ends depends on the control."""
        return any(end is not None and end.scale != 0 for end in (self.lower, self.upper))

    @property
    def pretty(self) -> str:
        """The condition as readers see it: `≤ 3 × 10⁻⁵`."""
        return pretty(self.text.replace("<=", "≤").replace(">=", "≥").replace(" * ", " × "))

    def __str__(self) -> str:
        return self.text


def beyond(value: float, bound: float, strict: bool) -> bool:
    """Whether the value lies above the bound, or on it where that counts."""
    return value > bound if strict else value >= bound


_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_COMPARED = re.compile(rf"(<=|>=|<|>)\s*({_NUMBER})")
_AROUND = re.compile(rf"({_NUMBER})\s*±\s*({_NUMBER})")
_BETWEEN = re.compile(rf"({_NUMBER})\s+to\s+({_NUMBER})")
_AGAINST = re.compile(
    rf"(?P<sign><=|>=|<|>)\s*(?:(?P<times>{_NUMBER})\s*\*\s*)?control"
    rf"(?:\s*/\s*(?P<over>{_NUMBER}))?(?:\s*(?P<plus>[+-])\s*(?P<shift>{_NUMBER}))?"
)


def parse_condition(text: str) -> Condition:
    """Read a condition of the ledger.

    Args:
        text: one of the forms in `GRAMMAR`; `≤`, `≥`, `×`, `−`, `+-` and `+/-` are understood too.

    Raises:
        ValueError: the text fits no form; the message shows the forms.
    """
    if not isinstance(text, str):
        raise ValueError(_grammar_error(text, "write it as a quoted string"))
    clean = _ascii(text)
    for pattern, build in (
        (_COMPARED, _compared),
        (_AROUND, _around),
        (_BETWEEN, _between),
        (_AGAINST, _against),
    ):
        if match := pattern.fullmatch(clean):
            return build(clean, match)
    raise ValueError(_grammar_error(text, "it fits no allowed form"))


def _ascii(text: str) -> str:
    clean = " ".join(text.split())
    for given, meant in (("≤", "<="), ("≥", ">="), ("×", "*"), ("−", "-")):
        clean = clean.replace(given, meant)
    return re.sub(r"\s*(\+/-|\+-|±)\s*", " ± ", clean)


def _grammar_error(text: object, why: str) -> str:
    return f"condition {text!r}: {why}. Allowed: {GRAMMAR}."


def _number(text: str, whole: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(_grammar_error(whole, f"{text} is too large for a number"))
    return value


def _one_sided(text: str, sign: str, offset: float, scale: float = 0.0) -> Condition:
    bound = Bound(offset, scale, strict=len(sign) == 1)
    return Condition(text, upper=bound) if sign[0] == "<" else Condition(text, lower=bound)


def _compared(text: str, match: re.Match[str]) -> Condition:
    return _one_sided(text, match[1], _number(match[2], text))


def _around(text: str, match: re.Match[str]) -> Condition:
    center, tolerance = _number(match[1], text), _number(match[2], text)
    if tolerance < 0:
        raise ValueError(_grammar_error(text, "the number after ± is negative"))
    return Condition(text, Bound(center - tolerance), Bound(center + tolerance))


def _between(text: str, match: re.Match[str]) -> Condition:
    low, high = _number(match[1], text), _number(match[2], text)
    if low > high:
        raise ValueError(_grammar_error(text, "the first number is the larger one"))
    return Condition(text, Bound(low), Bound(high))


def _against(text: str, match: re.Match[str]) -> Condition:
    scale = _number(match["times"] or "1", text)
    over = _number(match["over"] or "1", text)
    if scale == 0 or over == 0:
        raise ValueError(_grammar_error(text, "the control is multiplied or divided by zero"))
    shift = _number(match["shift"] or "0", text) * (-1 if match["plus"] == "-" else 1)
    return _one_sided(text, match["sign"], shift, scale / over)


_POWER = re.compile(r"(-?)(\d+(?:\.\d+)?)[eE]([+-]?\d+)")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def pretty(text: str) -> str:
    """Write powers of ten and minus signs as in print: `3.1e-07` becomes `3.1 × 10⁻⁷`."""

    def power(match: re.Match[str]) -> str:
        exponent = str(int(match[3])).translate(_SUPERSCRIPT)
        factor = "" if match[2] == "1" else f"{match[2]} × "
        return f"{match[1]}{factor}10{exponent}"

    return re.sub(r"-(?=[\d.])", "−", _POWER.sub(power, text))
