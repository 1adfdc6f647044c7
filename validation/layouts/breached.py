"""Logs with something wrong: labels by outcome, lost rows, other log-probs, other units."""

from dataclasses import replace

from validation.layouts import breaches, frames, labels, laws
from validation.layouts.cell import HONEST, INVISIBLE, VISIBLE, WIDE, Cell, each
from validation.layouts.log import BETA, TAU, Scale

_BINARY = (laws.COIN, laws.EASY)
_SCORED = (("target", "clipped"), ("beta", BETA), ("tau", TAU))


def _log_probs() -> list[Cell]:
    usual = dict(layout=frames.once, styles=laws.USUAL, settings=_SCORED, family="log-probs")
    objective = (("target", "objective"), *_SCORED[1:], ("log_ratio_max", 3.0))
    honest = dict(kind=HONEST, best="conditional", **usual)
    # Only a reference within reach of the policy is sure to be seen when it is swapped.
    visible = dict(kind=VISIBLE, **usual)
    return [
        *each(("audit",), name="clipped", **honest),
        *each(("audit",), name="objective", **{**honest, "settings": objective}),
        *each(("audit",), name="skewed log-ratio", **{**honest, "styles": laws.SKEWED}),
        *each(("audit",), name="noise of .1 nats", spoil=breaches.engine_noise, **honest),
        *each(("audit",), name="log-ratio only", spoil=breaches.ratio_only, **honest),
        *each(("audit",), name="swapped", spoil=breaches.swap_policies, **visible),
        *each(("audit",), name="two engines", spoil=breaches.other_engine, **visible),
        *each(("audit",), name="masked tokens", spoil=breaches.masked_tokens, **visible),
        *each(("audit",), name="the next policy's", spoil=breaches.next_policy, **visible),
    ]


def _units() -> list[Cell]:
    percent, shifted = Scale(reward=(0, 100)), Scale(gold=(-4, 4), reward=(-10, 2))
    grown = dict(layout=frames.once, family="units")
    out = each(
        ("audit", "watch"), kind=HONEST, name="gold [0, 1], reward [0, 100]", scale=percent, **grown
    )
    out += each(("audit",), kind=HONEST, name="gold [-4, 4]", scale=shifted, **grown)
    by = dict(kind=HONEST, family="units", layout=frames.policies_shared, scale=percent)
    out += each(("audit --by policy", "select policy"), name="policies", **by)
    scored = dict(styles=laws.USUAL, settings=_SCORED, scale=percent, **grown)
    out += each(("audit",), kind=VISIBLE, name="clipped objective of two scales", **scored)
    part = breaches.scores_partly_out_of_range
    out += each(("audit",), kind=WIDE, name="a tenth of scores outside", spoil=part, **grown)
    scored = {**scored, "scale": Scale()}
    far = dict(spoil=breaches.scores_out_of_range, laws=laws.GRADED)
    out += each(("audit",), kind=VISIBLE, name="scores outside", **far, **scored)
    past = dict(spoil=breaches.gold_out_of_range, laws=(laws.EASY,), **grown)
    out += each(("audit", "watch"), kind=VISIBLE, name="gold outside", **past)
    return out


def _biased_labels() -> list[Cell]:
    seen = dict(kind=VISIBLE, family="labels by outcome", laws=laws.GRADED)
    once, single = dict(layout=frames.once), dict(layout=frames.many_rows)
    more, hard = (
        dict(layout=lambda rng: frames.once(rng, 200)),
        dict(layout=frames.hard_prompts_more),
    )
    steps, policies = dict(layout=frames.every_step), dict(layout=frames.policies_shared)
    unseen = dict(kind=INVISIBLE, family="labels by outcome", laws=(laws.BLIND_JUDGE,), declare=())
    by_rows, by_draws = labels.rows_by_outcome, labels.draws_by_outcome
    best, worst = labels.best_of_draw, labels.worst_of_draw
    return [
        *each(("audit", "watch"), name="rows, K = 1", labels=by_rows, **single, **seen),
        *each(("audit", "watch"), name="rows, K = 4", labels=by_rows, **more, **seen),
        *each(("audit", "watch"), name="whole draws", labels=by_draws, **more, **seen),
        *each(
            ("audit",), name="draws of many rows", labels=labels.draws_of_many_rows, **hard, **seen
        ),
        *each(("audit", "watch"), name="best of K", labels=best, **once, **seen),
        *each(("audit", "watch"), name="worst of K", labels=worst, **once, **seen),
        *each(("audit",), name="better half", labels=labels.better_half_of_draw, **once, **seen),
        *each(
            ("audit",), name="likely successes", labels=labels.likely_successes, **single, **seen
        ),
        *each(("audit", "select step"), name="best of K by step", labels=best, **steps, **seen),
        *each(
            ("audit", "audit --by policy", "select policy", "select files by policy"),
            name="rows by policy",
            labels=by_rows,
            **{**policies, "layout": lambda rng: frames.policies_shared(rng, 150, 4, 2)},
            **seen,
        ),
        *each(("audit", "watch"), name="a blind judge", labels=by_rows, **single, **unseen),
    ]


def _lost_rows() -> list[Cell]:
    def wide(rng):
        return frames.once(rng, prompts=150, size=8)

    both = ("audit", "watch")
    unseen = dict(kind=INVISIBLE, family="lost rows", layout=wide, declare=(), laws=(laws.COIN,))
    everything = dict(labels=labels.everything)
    seen = dict(kind=VISIBLE, family="lost rows", layout=wide, **everything)
    policies = dict(layout=lambda rng: frames.policies_shared(rng, 150, 8, 2))
    equal = dict(lose=breaches.drop_equal_draws, laws=(laws.EASY,))
    origin = dict(chosen_by_reward=True, laws=_BINARY)
    out = [
        *each(both, name="failures", lose=breaches.drop_failures, **unseen, **everything),
        *each(
            both, name="half of them", lose=breaches.drop_half_of_failures, **unseen, **everything
        ),
        *each(both, name="truncated", lose=breaches.drop_truncated, **unseen, **everything),
        *each(both, name="until success", lose=breaches.stop_at_success, **unseen, **everything),
        *each(both, name="hopeless", lose=breaches.more_of_the_good, **unseen, **everything),
        *each(both, name="worst draws", lose=breaches.drop_worst_draws, **unseen, **everything),
        *each(
            ("audit",),
            name="failures come again",
            lose=breaches.failures_come_again,
            **{**unseen, "layout": lambda rng: frames.every_step(rng, 60, 6, 1, strength=0.0)},
            **everything,
        ),
        *each(both, name="draws of equal rewards", **equal, **seen),
        *each(
            ("audit",),
            name="draws of equal rewards, K = 4",
            **equal,
            **{**seen, "layout": lambda rng: frames.once(rng, 400, 4)},
        ),
        *each(
            ("audit", "select policy", "select files by policy"),
            name="draws of equal rewards, two policies",
            **equal,
            **{**seen, **policies},
        ),
        *each(("audit",), name="the framework says so", **origin, **seen),
        *each(
            ("select files by policy", "select policy"),
            name="the framework says so, two policies",
            **origin,
            **{**seen, **policies},
        ),
        *each(
            ("audit",),
            name="successes twice",
            spoil=breaches.duplicate_successes,
            laws=(laws.COIN,),
            **{**seen, "layout": frames.once, "styles": laws.USUAL},
        ),
    ]
    ordered = dict(
        kind=VISIBLE, family="lost rows", name="order of finishing", laws=laws.GRADED, **everything
    )
    return out + each(("watch",), layout=frames.many_rows, spoil=breaches.finished_first, **ordered)


def _policies_that_moved() -> list[Cell]:
    def checkpoints(rng):
        return frames.steps_apart(rng, prompts=12, steps=20, size=1)

    def equal(rng):
        frame = checkpoints(rng)
        return replace(frame, strength=0.0 * frame.strength)

    def recurring(rng):
        return frames.every_step(rng, prompts=30, steps=6, size=2)

    family = dict(family="training logs", labels=labels.everything, declare=())
    logged = dict(of_the_logged=True, layout=equal, laws=(laws.COIN,), **family)
    trains = dict(trains=True, laws=(laws.COIN, laws.LAWS[-2]), **family)
    return [
        *each(("audit", "watch"), kind=VISIBLE, name="recurring", layout=recurring, **trains),
        *each(("audit", "watch"), kind=INVISIBLE, name="fresh", layout=checkpoints, **trains),
        *each(("audit",), kind=INVISIBLE, name="top 5", lose=breaches.keep_top_steps, **logged),
        *each(
            ("audit",), kind=INVISIBLE, name="early stop", lose=breaches.stop_when_good, **logged
        ),
    ]


def cells() -> list[Cell]:
    """Return the cells of this file."""
    makers = (_log_probs, _units, _biased_labels, _lost_rows, _policies_that_moved)
    return [cell for maker in makers for cell in maker()]
