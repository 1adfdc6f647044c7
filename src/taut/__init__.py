"""taut: how much of the reward you measured is real.

Public names load on first use, so that `import taut` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from taut.version import __version__

if TYPE_CHECKING:
    from taut.auditing.audit import audit
    from taut.auditing.by import audit_by
    from taut.auditing.certificate import Certificate
    from taut.auditing.certificates import Certificates
    from taut.auditing.check import check
    from taut.auditing.parts import audit_parts
    from taut.auditing.pass_at import audit_at
    from taut.bounds.preferences import reward_mse_from_preferences
    from taut.decisions.budget.costs import Costs
    from taut.decisions.budget.plan import plan
    from taut.decisions.comparison.compare import compare
    from taut.decisions.selection.select import select
    from taut.decisions.stopping.monitor import Monitor
    from taut.decisions.threshold.choose import clip_threshold
    from taut.decisions.transport.transport import audit_transport
    from taut.draws.rollouts import Rollouts
    from taut.engines.local import convert, read_rollouts
    from taut.engines.tables import as_rollouts
    from taut.errors import AssumptionError, LogError, TautError, UsageError
    from taut.inequalities.mean import anytime_path, mean_interval
    from taut.inequalities.pac_bayes import pac_bayes_interval
    from taut.lab.overoptimise import overoptimise
    from taut.labels.onto import with_labels
    from taut.posterior.gaussian import kl_gaussian
    from taut.posterior.sgd import ou_posterior
    from taut.schemas import load
    from taut.training.pipeline.run import train
    from taut.training.scoring.score import score
    from taut.types import Interval, Status, Term
    from taut.worlds import simulate

_HOME = {
    "AssumptionError": "taut.errors",
    "Certificate": "taut.auditing.certificate",
    "Certificates": "taut.auditing.certificates",
    "Costs": "taut.decisions.budget.costs",
    "Interval": "taut.types",
    "Monitor": "taut.decisions.stopping.monitor",
    "LogError": "taut.errors",
    "Rollouts": "taut.draws.rollouts",
    "Status": "taut.types",
    "TautError": "taut.errors",
    "Term": "taut.types",
    "UsageError": "taut.errors",
    "anytime_path": "taut.inequalities.mean",
    "as_rollouts": "taut.engines.tables",
    "audit": "taut.auditing.audit",
    "audit_by": "taut.auditing.by",
    "audit_at": "taut.auditing.pass_at",
    "audit_parts": "taut.auditing.parts",
    "audit_transport": "taut.decisions.transport.transport",
    "check": "taut.auditing.check",
    "clip_threshold": "taut.decisions.threshold.choose",
    "convert": "taut.engines.local",
    "kl_gaussian": "taut.posterior.gaussian",
    "load": "taut.schemas",
    "mean_interval": "taut.inequalities.mean",
    "ou_posterior": "taut.posterior.sgd",
    "pac_bayes_interval": "taut.inequalities.pac_bayes",
    "overoptimise": "taut.lab.overoptimise",
    "plan": "taut.decisions.budget.plan",
    "read_rollouts": "taut.engines.local",
    "reward_mse_from_preferences": "taut.bounds.preferences",
    "score": "taut.training.scoring.score",
    "compare": "taut.decisions.comparison.compare",
    "select": "taut.decisions.selection.select",
    "simulate": "taut.worlds",
    "train": "taut.training.pipeline.run",
    "with_labels": "taut.labels.onto",
}

__all__ = [
    "AssumptionError",
    "Certificate",
    "Certificates",
    "Costs",
    "Interval",
    "LogError",
    "Monitor",
    "Rollouts",
    "Status",
    "TautError",
    "Term",
    "UsageError",
    "__version__",
    "anytime_path",
    "as_rollouts",
    "audit",
    "audit_at",
    "audit_by",
    "audit_parts",
    "audit_transport",
    "check",
    "clip_threshold",
    "compare",
    "convert",
    "kl_gaussian",
    "load",
    "mean_interval",
    "ou_posterior",
    "overoptimise",
    "pac_bayes_interval",
    "plan",
    "read_rollouts",
    "reward_mse_from_preferences",
    "score",
    "select",
    "simulate",
    "train",
    "with_labels",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'taut' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
