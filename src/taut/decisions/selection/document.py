"""The selection as plain data: the JSON contract `taut.selection/1`."""

from taut.auditing.document import certificate_document, fields_of, plain_data
from taut.decisions.selection.select import Candidate, Comparison, Exclusion, Selection
from taut.version import __version__

SCHEMA = "taut.selection/1"

TRAINED_ON = (
    "These prompts recur across steps and were not declared held out: a candidate that was trained "
    "on them can look better on them than it is, so every interval here is an estimate and nothing "
    "is chosen.",
    "Covered by the union over these candidates (theory §6.3): choosing among them by looking at "
    "these prompts, in any way at all, if every candidate was fixed before these prompts were "
    "drawn and every candidate that was looked at is in the log. Where that is so, say --held-out.",
    "Not covered: training on these prompts, or on others after having looked at these. Such a "
    "candidate is not one of a few fixed beforehand, but one of all that training could have made "
    "of them; that takes a prior over policies fixed before the prompts (PAC-Bayes, theory §6.1 to "
    "§6.4), or fresh prompts.",
)


def selection_document(selection: Selection) -> dict:
    """Return the selection as JSON-ready data: finite numbers or None, reward units, nats."""
    options = selection.options
    return plain_data(
        {
            "schema": SCHEMA,
            "version": __version__,
            "by": selection.by,
            "target": options.target,
            "level": 1 - options.delta,
            "settings": {
                "beta": options.beta,
                "delta": options.delta,
                "tau": selection.tau,
                "tau_negative": selection.tau_negative,
                "tau_source": selection.tau_source,
                "reward_range": options.reward_range,
                "gold_range": options.gold_range,
                "method": options.method,
                "side": options.side,
                "route": options.route,
                "calibration_share": options.calibration,
                "seed": options.seed,
                "held_out": options.held_out,
                "coverage": options.coverage,
                "reward_mse": options.reward_mse,
                "log_ratio_max": options.log_ratio_max,
                "log_ratio_second_moment": options.log_ratio_second_moment,
                "draws_set_aside": selection.set_aside,
            },
            "chosen": selection.chosen,
            "leader": selection.leader,
            "best_proxy": selection.best_proxy,
            "over_optimised": _over_optimised(selection),
            "not_excluded": selection.remaining,
            "not_excluded_by_estimate": selection.remaining_by_estimate,
            "regret": selection.regret,
            "price": None if selection.price is None else fields_of(selection.price),
            "candidates": [_candidate(item) for item in selection.candidates],
            "ledger": [{"event": item.event, "delta": item.delta} for item in selection.ledger],
            "trained_on": list(TRAINED_ON) if selection.trained_on else None,
        }
    )


def _over_optimised(selection: Selection) -> str | None:
    """Say whether the learned reward's favourite is the choice, doubted, or refuted as the best."""
    if selection.chosen is None:
        return None
    if selection.best_proxy == selection.chosen:
        return "no"
    return "doubted" if selection.best_proxy in selection.remaining else "caught"


def _candidate(item: Candidate) -> dict:
    certificate = item.certificate
    return {
        "value": item.name,
        "proxy": certificate.main.measured,
        "lower": certificate.lower,
        "upper": certificate.upper,
        "status": certificate.status,
        "gold_prompts": certificate.log["gold_prompts"],
        "comparison": _comparison(item.comparison),
        "excluded": _excluded(item.excluded),
        "certificate": certificate_document(certificate),
    }


def _comparison(item: Comparison | None) -> dict | None:
    if item is None:
        return None
    out = fields_of(item)
    del out["candidate"]
    return out


def _excluded(item: Exclusion | None) -> dict | None:
    return None if item is None else {"by": item.by, "status": item.status}
