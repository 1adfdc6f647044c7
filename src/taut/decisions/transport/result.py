"""What became of a calibrated score on another policy, and its JSON, `taut.transport/2`."""

from enum import StrEnum
from typing import Literal

import numpy as np
from pydantic import Field

from taut.auditing.certificate import Span, StatedSpan
from taut.draws.assumptions import Assumption
from taut.draws.check import Check
from taut.results import Document, Part
from taut.types import Status
from taut.version import __version__


class TransportState(StrEnum):
    """What the probe says about a calibration, against a margin declared beforehand."""

    PASS = "PASS"  # the mean residual is certainly within the margin
    FAIL = "FAIL"  # it is certainly outside
    INCONCLUSIVE = "INCONCLUSIVE"  # the interval reaches across
    NOT_GRADED = "NOT_GRADED"  # no margin, or no data of this size could have passed


class Curve(Part):
    """A non-decreasing function: linear between knots, constant beyond the outer ones.

    Attributes:
        knots: Increasing arguments.
        values: Non-decreasing values.
    """

    knots: tuple[float, ...]
    values: tuple[float, ...]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the value at each of x, any shape."""
        return np.asarray(np.interp(x, self.knots, self.values))


class Calibration(Part):
    """g and how it does on prompts that it was not fitted on.

    Attributes:
        g: Raw reward-model score to expected target reward, units of gold.
        prompts: Number of teaching prompts.
        bias: Mean out-of-fold residual r* - g(r^) over teaching prompts; an estimate.
        mse: Mean out-of-fold squared residual; an estimate.
        constant_mse: The same for the out-of-fold mean of gold in place of g: what it is to know
            nothing of r^.
        folds: Number of folds, by prompt.
    """

    g: Curve
    prompts: int
    bias: float
    mse: float
    constant_mse: float
    folds: int


class TransportLog(Part):
    """Counts of both logs."""

    rollouts: int
    prompts: int
    draws: int
    cells: int
    reward_data_rollouts: int


class Transport(Document):
    """A calibrated prediction of E_theta r*, its verdict, an interval without faith in it.

    All values are in units of gold.

    Attributes:
        state: PASS is given wrongly with probability at most delta, and so is FAIL.
        margin: Largest harmless |E_theta[r* - g(r^)]|, declared before the probe; None if not.
        residual: Interval for E_theta[r* - g(r^)] at `level`.
        probe_prompts: Labelled draws that it rests on.
        fewest_prompts: Draws without which no data at all could pass; None without a margin.
        detail: The verdict in a sentence.
        predicted: Mean g(r^) over the certifying draws; estimated, as good as g.
        certificate: Interval for E_theta r* at `level` from g and the probe together; true whatever
            the verdict. It and `residual` are two statements, each at `level`.
        gold_only: The same from the probe's labels alone, for comparison; neither it nor the
            narrower of the two is the result.
        weight: Factor of g in `certificate`, fixed on the teaching prompts: 0 is gold only; above 1
            where g is flatter than the target reward was forecast to be.
        calibration: g.
        certifying_draws: Audited draws that certify.
        shared: How prompts in both logs were dealt with: "none", "set aside" or "split".
        assumptions: What `certificate` and the verdict rest on, each with how it stands.
    """

    schema_name: Literal["taut.transport/2"] = Field("taut.transport/2", alias="schema")
    version: str = __version__
    state: TransportState
    margin: float | None
    residual: Span
    level: float
    probe_prompts: int
    fewest_prompts: int | None
    detail: str
    predicted: float
    certificate: StatedSpan
    gold_only: Span
    weight: float
    calibration: Calibration
    certifying_draws: int
    shared: str
    source: str = "theory §3.6"
    log: TransportLog
    assumptions: tuple[Assumption, ...]
    health: tuple[Check, ...]

    @property
    def status(self) -> Status:
        """What `certificate` and the verdict are worth."""
        return self.certificate.status
