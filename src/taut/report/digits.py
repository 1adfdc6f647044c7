"""Numbers as text: as many digits as the interval deserves, and never rounded into a false claim.

A lower end is rounded down and an upper end up, so that what is printed is still true.
"""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal

MINUS = "−"
_WIDE = Context(prec=400)  # any float has fewer digits before the point


def finite(value: object) -> float | None:
    """Return a number as float, or None for anything that is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def decimals_for(width: float | None, *, steps: int = 10) -> int:
    """Return how many decimals to print for an interval of some width.

    Args:
        width: Width of the interval, in the units that are printed.
        steps: The last digit is worth at most width / steps.
    """
    if width is None or width <= 0:
        return 3
    # In logarithms: width / steps may underflow.
    return min(max(0, math.ceil(math.log10(steps) - math.log10(width))), 6)


def _rounded(value: float, decimals: int, mode: str, signed: bool) -> str:
    exact = Decimal(repr(float(value)))
    number = exact.quantize(Decimal(1).scaleb(-decimals), rounding=mode, context=_WIDE)
    if number == 0:
        return f"{abs(number):f}"
    sign = MINUS if number < 0 else "+" if signed else ""
    return f"{sign}{abs(number):f}"


def down(value: float, decimals: int, *, signed: bool = False) -> str:
    """Return a lower end as text, rounded down."""
    return _rounded(value, decimals, ROUND_FLOOR, signed)


def up(value: float, decimals: int, *, signed: bool = False) -> str:
    """Return an upper end as text, rounded up."""
    return _rounded(value, decimals, ROUND_CEILING, signed)


def near(value: float, decimals: int, *, signed: bool = False) -> str:
    """Return a measured number as text, rounded to the nearest."""
    return _rounded(value, decimals, ROUND_HALF_EVEN, signed)


def interval(lower: float, upper: float, decimals: int) -> str:
    """Return an interval as text, rounded outwards."""
    return f"{down(lower, decimals)} to {up(upper, decimals)}"


def plus_minus(half: float, decimals: int) -> str:
    """Return a half-width as text; one that is not zero never reads as zero."""
    shown = near(half, decimals)
    if half > 0 and shown == near(0, decimals):
        return f"<{near(10.0**-decimals, decimals)}"
    return f"±{shown}"


def short(value: float) -> str:
    """Return a setting or a diagnostic as text, at most four significant digits."""
    text = f"{value:.4g}"
    if "e" in text:
        return text.replace("e-0", "e-").replace("e+0", "e").replace("-", MINUS)
    return text.replace("-", MINUS)


def percent(share: float) -> str:
    """Return a share in [0, 1] as text; a small share that is not zero never reads as 0%."""
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.999 < share < 1:
        return ">99.9%"
    return f"{100 * share:.2g}%" if share < 0.1 else f"{100 * share:.3g}%"


def level_text(level: float) -> str:
    """Return a confidence level as text, rounded down: 0.95 is "95%"."""
    scaled = Decimal(repr(float(level))) * 100
    digits = scaled.quantize(Decimal("0.001"), rounding=ROUND_FLOOR)
    return f"{digits.normalize():f}%"


def count(number: float, singular: str, plural: str | None = None) -> str:
    """Return a count with its noun: "1 prompt", "12,000 prompts"."""
    noun = singular if number == 1 else plural or f"{singular}s"
    return f"{int(number):,} {noun}"
