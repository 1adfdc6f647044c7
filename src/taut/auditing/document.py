"""The certificate as plain data: the JSON contract `taut.certificate/1` (design §5)."""

import math
from collections.abc import Mapping

from taut.auditing.certificate import Certificate
from taut.auditing.compose import TargetCertificate
from taut.decisions.transport.transport import Transport
from taut.draws.health import Check
from taut.types import Interval, Status, Term
from taut.version import __version__

SCHEMA = "taut.certificate/1"
GROUPS_SCHEMA = "taut.certificates/1"


def certificate_document(certificate: Certificate) -> dict:
    """Return the certificate as JSON-ready data: finite numbers or None, reward units, nats."""
    main = certificate.main
    return plain_data(
        {
            "schema": SCHEMA,
            "version": __version__,
            "target": certificate.target,
            "settings": _settings(certificate),
            "log": dict(certificate.log),
            "measured": fields_of(certificate.measured),
            "terms": {name: _term(getattr(main.terms, name)) for name in _TERM_NAMES},
            "certificate": {
                "lower": main.lower,
                "upper": main.upper,
                "level": certificate.level,
                "status": main.status,
            },
            "proxy": _proxy(main),
            "targets": {
                name: _target(name, item, certificate) for name, item in certificate.targets.items()
            },
            "coverage": certificate.coverage,
            "routes": [fields_of(item) for item in main.routes],
            "paper": fields_of(certificate.paper),
            "comparison": {
                "normal_lower": main.normal.lower,
                "normal_upper": main.normal.upper,
                "status": Status.ESTIMATED,
            },
            "log_ratio": certificate.log_ratio,
            "token_clipping": certificate.token_clipping,
            "ledger": [{"event": item.event, "delta": item.delta} for item in main.ledger],
            "assumptions": _assumptions(certificate),
            "advice": _advice(certificate),
            "health": health_document(certificate.health),
        }
    )


def groups_document(by: str, certificates: Mapping[int | str, Certificate]) -> dict:
    """Return the simultaneous certificates of `--by` as JSON-ready data."""
    first = next(iter(certificates.values()))
    return {
        "schema": GROUPS_SCHEMA,
        "version": __version__,
        "by": by,
        "delta": first.options.delta,
        "groups": [
            {"value": value, "certificate": certificate_document(certificate)}
            for value, certificate in certificates.items()
        ],
    }


def transport_document(transport: Transport) -> dict:
    """Return the audit of a calibrated score as JSON-ready data, reward units."""
    audit = transport.audit
    return plain_data(
        {
            "state": str(audit.state),
            "margin": audit.margin,
            "residual": {"lower": audit.residual.lower, "upper": audit.residual.upper},
            "level": 1 - audit.delta,
            "probe_prompts": audit.probe_prompts,
            "fewest_prompts": audit.fewest_prompts,
            "detail": audit.detail,
            "predicted": transport.predicted,
            "certificate": {
                "lower": transport.certified.lower,
                "upper": transport.certified.upper,
                "status": transport.status,
            },
            "gold_only": {
                "lower": transport.gold_only.lower,
                "upper": transport.gold_only.upper,
            },
        }
    )


def health_document(checks: tuple[Check, ...]) -> list[dict]:
    """Return the health checks as JSON-ready data."""
    return [
        {
            "check": item.check,
            "status": item.status,
            "detail": item.detail,
            "remedy": item.remedy,
        }
        for item in checks
    ]


_TERM_NAMES = ("sampling", "reward_shift", "kl_clipping")


def _settings(certificate: Certificate) -> dict:
    options = certificate.options
    thresholds = certificate.thresholds
    return {
        "beta": options.beta,
        "delta": options.delta,
        "target": options.target,
        "tau": certificate.tau,
        "tau_negative": certificate.tau_negative,
        "tau_source": None if thresholds is None else thresholds.source,
        "reward_range": list(certificate.reward_range),
        "reward_range_source": certificate.log["reward_range_source"],
        "gold_range": None if options.gold_range is None else list(options.gold_range),
        "method": options.method,
        "side": options.side,
        "calibration_share": options.calibration,
        "seed": options.seed,
        "held_out": options.held_out,
        "coverage": options.coverage,
        "reward_mse": options.reward_mse,
        "log_ratio_max": options.log_ratio_max,
        "log_ratio_second_moment": options.log_ratio_second_moment,
        "simultaneous": certificate.simultaneous,
    }


def fields_of(record) -> dict:
    """Return the fields of a slotted record by name."""
    return {name: getattr(record, name) for name in record.__slots__}


def _term(term: Term) -> dict:
    out = {
        "lower": term.lower,
        "upper": term.upper,
        "delta": term.delta,
        "status": term.status,
        "assumes": list(term.assumes),
        "source": term.source,
    }
    return out if term.route is None else {"route": term.route, **out}


def _proxy(item: TargetCertificate) -> dict:
    interval: Interval = item.proxy
    return {"lower": interval.lower, "upper": interval.upper, "status": item.proxy_status}


def _target(name: str, item: TargetCertificate | None, certificate: Certificate) -> dict:
    if item is None:
        return {"unavailable": certificate.unavailable[name]}
    return {
        "measured": item.measured,
        "lower": item.lower,
        "upper": item.upper,
        "status": item.status,
        "route": item.terms.reward_shift.route,
        "proxy": _proxy(item),
    }


def _assumptions(certificate: Certificate) -> list[dict]:
    """What the result rests on, each with what was checked."""
    checks = {item.check: item for item in certificate.health}

    def checked(text: str, name: str) -> dict:
        item = checks[name]
        done = item.status != "not_checked"
        return {"text": text, "checked": done, "outcome": item.detail}

    out = [
        checked(
            "prompts are independent draws, and no policy was trained or chosen on them",
            "recurring_prompts",
        ),
        checked("the number of rollouts does not depend on outcomes", "rollouts_per_prompt"),
        checked("the reward range was fixed before this log was seen", "reward_range"),
    ]
    shift = certificate.main.terms.reward_shift
    if shift.source == "theory §3.6":
        out.append(checked("which rows carry gold labels is blind to outcomes", "labels_blind"))
    if certificate.target == "objective":
        out.append(checked("log-probs are those of the policy that sampled", "exp_minus_log_ratio"))
    stated = [text for term in certificate.main.terms for text in term.assumes]
    for text in dict.fromkeys(stated):
        if not text.startswith(("which rows carry gold labels", "log-probs are those")):
            out.append({"text": text, "checked": False, "outcome": "declared or unchecked"})
    return out


def _advice(certificate: Certificate) -> dict:
    """Name the one thing that would tighten the certificate most."""
    main, options = certificate.main, certificate.options
    if main.terms.reward_shift.status is Status.VACUOUS:
        return {
            "text": "Label a random subset of these rollouts with the true reward (100 prompts are "
            "a start) in a column `gold`: nothing else ties the learned reward to the true one.",
            "lower_gain": None,
        }
    if options.reward_range is None:
        return {
            "text": "Declare --reward-range LOW HIGH, fixed before the data: a range read off the "
            "log turns the certificate into an estimate.",
            "lower_gain": None,
        }
    if main.terms.sampling.status is Status.ESTIMATED:
        return {
            "text": "Audit each policy on fresh prompts that it was not trained on (--by step, "
            "--held-out where the prompts were kept out of training). If the policies were fixed "
            "before these prompts were seen, taut select bounds all of them at once and pays for "
            "choosing; nothing here pays for training on them.",
            "lower_gain": None,
        }
    if certificate.options.log_ratio_max is None and (
        main.terms.kl_clipping.status is Status.ESTIMATED
    ):
        return {
            "text": "Declare --log-ratio-max NATS where the log-ratio has a known maximum, or "
            "certify the objective that was optimised with --target clipped: without either "
            "the positive tail of the log-ratio can only be estimated.",
            "lower_gain": None,
        }
    return _more_data(certificate)


def _more_data(certificate: Certificate) -> dict:
    """Say what twice as many labels or prompts would bring: the half-width falls as 1/sqrt."""
    main, log = certificate.main, certificate.log
    gold = main.terms.reward_shift.source == "theory §3.6"
    shift = main.terms.reward_shift
    sampling = main.terms.sampling
    by_labels = gold and (shift.upper - shift.lower) >= (sampling.upper - sampling.lower)
    scarce = by_labels and log["gold_prompts"] < log["prompts"]
    width = shift.upper - shift.lower if scarce else sampling.upper - sampling.lower
    gain = (1 - math.sqrt(0.5)) * width / 2
    what = "gold labels" if scarce else "prompts"
    count = log["gold_prompts"] if scarce else log["prompts"]
    return {
        "text": f"Twice as many {what} ({2 * count} prompts) would raise the lower end by about "
        f"{gain:.2g} (a forecast).",
        "lower_gain": gain,
    }


def plain_data(value):
    """Replace what JSON cannot hold: non-finite numbers by None, enums and tuples by plain data."""
    if isinstance(value, Mapping):
        return {str(key): plain_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(item) for item in value]
    if isinstance(value, Status):
        return value.value
    if isinstance(value, float):
        # -0.0 and 0.0 are one number; bytes must not depend on which one came out.
        return value + 0.0 if math.isfinite(value) else None
    return value
