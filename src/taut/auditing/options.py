"""The settings of an audit, checked once at the door."""

import math
from dataclasses import dataclass

from taut.bounds.sampling import METHODS
from taut.errors import UsageError

TARGETS = ("reward", "clipped", "objective")
SIDES = ("both", "lower", "upper")
ROUTES = ("auto", "gold", "paper", "centred", "truncated", "importance", "score", "trivial")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the caller declares and asks for. Units are those of the log; see `taut.audit`."""

    beta: float | None
    reward_range: tuple[float, float] | None = None
    gold_range: tuple[float, float] | None = None
    tau: float | str | None = "auto"
    tau_negative: float | None = None
    delta: float = 0.05
    target: str = "objective"
    method: str = "betting"
    side: str = "both"
    route: str = "auto"
    reward_mse: float | None = None
    coverage: float | None = None
    log_ratio_max: float | None = None
    log_ratio_second_moment: float | None = None
    calibration: float = 0.2
    seed: int = 0
    held_out: bool = False

    def __post_init__(self):
        _one_of("target", self.target, TARGETS)
        _one_of("method", self.method, METHODS)
        _one_of("side", self.side, SIDES)
        _one_of("route", self.route, ROUTES)
        _between("delta", self.delta, 0, 1, "a probability above 0 and below 1", open_low=True)
        _between("calibration", self.calibration, 0, 1, "a share, 0 or more and below 1")
        for name in ("beta", "tau_negative", "reward_mse", "log_ratio_second_moment"):
            _at_least(name, getattr(self, name), 0)
        _at_least("coverage", self.coverage, 1)
        _at_least("log_ratio_max", self.log_ratio_max, 0)
        for name in ("reward_range", "gold_range"):
            _range(name, getattr(self, name))
        if isinstance(self.tau, str) and self.tau != "auto":
            raise UsageError(f"tau is {self.tau!r}; expected 'auto', 'none' (None) or nats.")
        if not isinstance(self.tau, str):
            _at_least("tau", self.tau, 0)
        if self.tau is None and self.tau_negative is not None:
            raise UsageError("tau_negative without tau: with tau none nothing is clipped.")
        if self.reward_mse is not None and self.coverage is None:
            raise UsageError("reward_mse without coverage: C sqrt(L) needs both; declare C too.")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}; expected one of {', '.join(allowed)}.")


def _between(name, value, low, high, text, *, open_low=False) -> None:
    if not low <= value < high or (open_low and value == low):
        raise UsageError(f"{name} is {value}; expected {text}.")


def _at_least(name: str, value: float | None, least: float) -> None:
    if value is not None and not (math.isfinite(value) and value >= least):
        raise UsageError(f"{name} is {value}; expected a finite number of at least {least}.")


def _range(name: str, value: tuple[float, float] | None) -> None:
    if value is None:
        return
    if len(value) != 2 or not all(map(math.isfinite, value)) or not value[0] < value[1]:
        raise UsageError(f"{name} is {tuple(value)}; expected two finite numbers, LOW < HIGH.")
    if not math.isfinite(value[1] - value[0]) or value[1] - value[0] < 1e-300:
        raise UsageError(f"{name} is {tuple(value)}; its width is beyond what doubles can hold.")
