"""The clip threshold as plain data: the JSON contract `taut.threshold/1`."""

from taut.decisions.threshold.choose import ClipThreshold, Point, SequenceClip, TokenClip, too_few
from taut.decisions.threshold.clip_options import OPTIONS
from taut.results import fields_of, plain_data
from taut.version import __version__

SCHEMA = "taut.threshold/1"


def threshold_document(found: ClipThreshold) -> dict:
    """Return the result as JSON-ready data: finite numbers or None, reward units, nats."""
    options = found.options
    best_token = _best_token(found.tokens)
    return plain_data(
        {
            "schema": SCHEMA,
            "version": __version__,
            "kind": "forecast",
            "settings": {
                "beta": options.beta,
                "delta": options.delta,
                "reward_range": found.reward_range,
                "reward_range_source": (
                    "declared" if found.reward_range_declared else "read off the data"
                ),
                "log_ratio_max": options.log_ratio_max,
                "log_ratio_second_moment": options.log_ratio_second_moment,
                "calibration_share": options.calibration,
                "seed": options.seed,
                "held_out": options.held_out,
            },
            "log": found.log,
            "draws": fields_of(found.draws),
            "tau": found.tau,
            "tau_negative": found.tau_negative,
            "tau_source": found.thresholds.source,
            "too_few": too_few(found),
            "chosen": _point(found.chosen),
            "symmetric": _point(found.symmetric),
            "paper": {
                **fields_of(found.paper),
                "apart": dict(zip(("tau", "tau_negative"), found.paper.apart, strict=True)),
                "point": _point(found.at_paper),
            },
            "negative": found.negative,
            "log_probs_sound": found.log_probs_sound,
            "merged_steps": found.merged,
            "curve": [_point(point) for point in found.curve],
            "sequence": [_sequence(item) for item in found.sequence],
            "tokens": [_token(item) for item in found.tokens],
            "token_constant": best_token,
            "options": [
                {
                    **fields_of(item),
                    "line": _line(item.line, found.tau, best_token),
                }
                for item in OPTIONS
            ],
        }
    )


def _point(point: Point) -> dict:
    return {**fields_of(point), "total": point.total, "paper_total": point.paper_total}


def _sequence(item: SequenceClip) -> dict:
    return {**fields_of(item), "point": _point(item.point)}


def _token(item: TokenClip) -> dict:
    known = item.sampling is not None
    return {**fields_of(item), "total": item.sampling + item.clipping if known else None}


def _best_token(tokens: tuple[TokenClip, ...]) -> float | None:
    """Return the constant whose half-width is least; the largest of equals hides least."""
    known = [item for item in tokens if item.sampling is not None]
    if not known:
        return None
    return min(known, key=lambda item: (item.sampling + item.clipping, -item.constant)).constant


def _line(line: str | None, tau: float, token: float | None) -> str | None:
    """Fill in a config line; None where it needs a token constant and there is none."""
    if line is None or (token is None and "{token}" in line):
        return None
    return line.format(tau=f"{tau:.4g}", token="" if token is None else f"{token:g}")
