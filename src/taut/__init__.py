"""taut: how much of the reward you measured is real.

Public names load on first use, so that `import taut` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from taut.version import __version__

if TYPE_CHECKING:
    from taut.auditing.audit import audit as audit, audit_by as audit_by
    from taut.auditing.certificate import Certificate as Certificate, Certificates as Certificates
    from taut.auditing.check import check as check
    from taut.bounds.preferences import reward_mse_from_preferences as reward_mse_from_preferences
    from taut.decisions.budget.costs import Costs as Costs
    from taut.decisions.budget.plan import plan as plan
    from taut.decisions.selection.select import select as select
    from taut.decisions.stopping.monitor import Monitor as Monitor
    from taut.decisions.threshold.choose import clip_threshold as clip_threshold
    from taut.decisions.transport.transport import audit_transport as audit_transport
    from taut.draws.rollouts import Rollouts as Rollouts
    from taut.engines.local import convert as convert, read_rollouts as read_rollouts
    from taut.engines.tables import as_rollouts as as_rollouts
    from taut.errors import (
        AssumptionError as AssumptionError,
        LogError as LogError,
        TautError as TautError,
        UsageError as UsageError,
    )
    from taut.inequalities.mean import anytime_path as anytime_path, mean_interval as mean_interval
    from taut.inequalities.pac_bayes import pac_bayes_interval as pac_bayes_interval
    from taut.lab.overoptimise import overoptimise as overoptimise
    from taut.posterior.sgd import kl_gaussian as kl_gaussian, ou_posterior as ou_posterior
    from taut.schemas import load as load
    from taut.training.pipeline.run import train as train
    from taut.training.scoring.score import score as score
    from taut.types import Interval as Interval, Status as Status, Term as Term
    from taut.worlds import simulate as simulate

_HOME = {
    "AssumptionError": "taut.errors",
    "Certificate": "taut.auditing.certificate",
    "Certificates": "taut.auditing.certificate",
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
    "audit_by": "taut.auditing.audit",
    "audit_transport": "taut.decisions.transport.transport",
    "check": "taut.auditing.check",
    "clip_threshold": "taut.decisions.threshold.choose",
    "convert": "taut.engines.local",
    "kl_gaussian": "taut.posterior.sgd",
    "load": "taut.schemas",
    "mean_interval": "taut.inequalities.mean",
    "ou_posterior": "taut.posterior.sgd",
    "pac_bayes_interval": "taut.inequalities.pac_bayes",
    "overoptimise": "taut.lab.overoptimise",
    "plan": "taut.decisions.budget.plan",
    "read_rollouts": "taut.engines.local",
    "reward_mse_from_preferences": "taut.bounds.preferences",
    "score": "taut.training.scoring.score",
    "select": "taut.decisions.selection.select",
    "simulate": "taut.worlds",
    "train": "taut.training.pipeline.run",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'taut' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
