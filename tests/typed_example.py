"""A newcomer's code, as `mypy --strict` reads it (`make lint`); test_newcomer runs it."""

import numpy as np
import pandas as pd

import taut


def rollouts(prompts: int = 400, seed: int = 0) -> pd.DataFrame:
    """Return what people have: a frame with a row a rollout, two rollouts a prompt."""
    rng = np.random.default_rng(seed)
    quality = rng.random(2 * prompts)
    return pd.DataFrame(
        {
            "prompt_id": np.repeat(np.arange(prompts), 2),
            "step": np.tile([0, 1], prompts),
            "rm_score": np.clip(quality + 0.1 * rng.normal(size=2 * prompts), 0, 1),
            "gold": np.where(rng.random(2 * prompts) < 0.5, quality, np.nan),
            "log_ratio": rng.normal(0.1, 0.2, size=2 * prompts),
        }
    )


def main() -> None:
    """Audit, choose, plan, and take the primitive."""
    frame = rollouts()
    columns = {"reward": "rm_score"}
    cert = taut.audit(frame, columns=columns, beta=0.05, reward_range=(0, 1), held_out=True)
    lower: float = cert.lower
    shift: float | None = cert.terms.reward_shift.lower
    print(lower, cert.status.value, shift, [item.status for item in cert.health])
    print(taut.audit_by(frame, "step", columns=columns, reward_range=(0, 1))[0].upper)
    print(taut.select(frame, "step", columns=columns, reward_range=(0, 1)).chosen)
    costs = taut.Costs(decode=1.0, prefill=0.0, label=5.0, pair=None, unit="dollars")
    plan = taut.plan(frame, columns=columns, budget=500, costs=costs, reward_range=(0, 1))
    print(plan.prompts, plan.gold_labels, plan.width)
    interval: taut.Interval = taut.mean_interval(frame["rm_score"].to_numpy(), low=0, high=1)
    print(interval.lower, interval.upper)


if __name__ == "__main__":
    main()
