"""taut: how much of the reward you measured is real.

Public names load on first use, so that `import taut` stays fast.
"""

from importlib import import_module

from taut.version import __version__

_HOME = {
    "AssumptionError": "taut.errors",
    "Certificate": "taut.certificate",
    "Costs": "taut.decisions.costs",
    "Interval": "taut.types",
    "Monitor": "taut.decisions.monitor",
    "LogError": "taut.errors",
    "Rollouts": "taut.rollouts",
    "Status": "taut.types",
    "TautError": "taut.errors",
    "Term": "taut.types",
    "UsageError": "taut.errors",
    "anytime_path": "taut.inequalities.mean",
    "audit": "taut.certificate",
    "audit_by": "taut.certificate",
    "audit_transport": "taut.transport",
    "check": "taut.certificate",
    "clip_threshold": "taut.decisions.threshold",
    "convert": "taut.engines.local",
    "kl_gaussian": "taut.posterior.sgd",
    "mean_interval": "taut.inequalities.mean",
    "ou_posterior": "taut.posterior.sgd",
    "pac_bayes_interval": "taut.inequalities.pac_bayes",
    "plan": "taut.decisions.budget",
    "read_rollouts": "taut.engines.local",
    "reward_mse_from_preferences": "taut.preferences",
    "select": "taut.decisions.checkpoint",
    "simulate": "taut.worlds",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'taut' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
