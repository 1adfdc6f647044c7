"""The settings of an audit, checked once at the door."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from taut.auditing.words import METHODS, ROUTES, SIDES
from taut.draws.declared import Declared, declared_words
from taut.draws.modes import LIST, PROMPT_MODES, SAMPLE
from taut.errors import UsageError

TARGETS = ("reward", "clipped", "objective")
AUTO = "auto"
Range = tuple[float, float]
Threshold = float | Literal["auto"] | None
GoldKind = Literal["binary"] | None
Prompts = Literal["sample", "list", "with-replacement"]
GOLD_KINDS = (None, "binary")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the caller declares and asks for. Units are those of the log; see `taut.audit`."""

    beta: float | None
    reward_range: tuple[float, float] | None = None
    gold_range: tuple[float, float] | None = None
    gold_scale: tuple[float, float] | None = None
    tau: float | str | None = "auto"
    tau_negative: float | None = None
    delta: float = 0.05
    target: str = AUTO
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
    declare: tuple[str, ...] | str = ()
    prompts: str = SAMPLE
    missing: str | None = None
    launched: tuple[int, int] | None = None
    log_prob_noise: float | None = None
    gold_kind: GoldKind = None

    def __post_init__(self) -> None:
        _one_of("target", self.target, (AUTO, *TARGETS))
        _one_of("prompts", self.prompts, PROMPT_MODES)
        words = declared_words(self.declare, held_out=self.held_out)
        object.__setattr__(self, "declare", tuple(sorted(words)))
        object.__setattr__(self, "held_out", "held-out" in words)
        _one_of("method", self.method, METHODS)
        _one_of("side", self.side, SIDES)
        _one_of("gold_kind", self.gold_kind, GOLD_KINDS)
        _one_of("route", self.route, ROUTES)
        _between("delta", self.delta, 0, 1, "a probability above 0 and below 1", open_low=True)
        _between("calibration", self.calibration, 0, 1, "a share, 0 or more and below 1")
        for name in _NOT_NEGATIVE:
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
        self._check_scale()
        self._check_missing()

    def _check_scale(self) -> None:
        if self.gold_scale is None:
            return
        if len(self.gold_scale) != 2 or not all(map(math.isfinite, self.gold_scale)):
            raise UsageError(f"gold_scale is {self.gold_scale}; expected two finite numbers P, Q.")
        if not self.gold_scale[0] > 0:
            raise UsageError(
                f"gold_scale is {self.gold_scale}; expected P > 0: gold * P + Q must grow with "
                "gold. Turn gold round where less is better."
            )
        if self.gold_range is None:
            raise UsageError("gold_scale without gold_range: declare the range that gold lies in.")

    def _check_missing(self) -> None:
        _one_of("missing", self.missing, (None, "worst"))
        if self.missing is not None and self.launched is None:
            raise UsageError(
                "missing='worst' without launched: say how many prompts and how many rollouts of "
                "each were launched (--launched PROMPTS K), so that what is missing can be counted."
            )
        if self.launched is not None and not all(count >= 1 for count in self.launched):
            raise UsageError(f"launched is {self.launched}; expected two counts of 1 or more.")
        if self.missing is not None and self.prompts == LIST:
            raise UsageError("missing='worst' counts draws of prompts; leave prompts='list' out.")

    @property
    def declared(self) -> Declared:
        """What was said of the log, as `taut.draws` takes it."""
        return Declared(
            reward_range=self.reward_range,
            gold_range=self.gold_range,
            gold_scale=self.gold_scale,
            words=frozenset(self.declare),
            prompts=self.prompts,
            imputed=self.missing is not None,
            log_prob_noise=self.log_prob_noise,
            seed=self.seed,
        )


def options_of(arguments: Mapping[str, Any]) -> Options:
    """Return the options among the arguments of a verb, whose names are those of `Options`."""
    names = [item.name for item in fields(Options)]
    return Options(**{name: arguments[name] for name in names if name in arguments})


_NOT_NEGATIVE = ("beta", "tau_negative", "reward_mse", "log_ratio_second_moment", "log_prob_noise")


def _one_of(name: str, value: str | None, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}; expected one of {', '.join(map(str, allowed))}.")


def _between(
    name: str, value: float, low: float, high: float, text: str, *, open_low: bool = False
) -> None:
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
