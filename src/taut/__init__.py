"""taut: how much of the reward you measured is real.

Public names load on first use, so that `import taut` stays fast.
"""

from importlib import import_module

from taut.version import __version__

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


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'taut' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
