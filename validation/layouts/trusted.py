"""Reward data beside a log, and transport: other rows, and what can be wrong with them."""

from collections.abc import Callable

import numpy as np
from validation.layouts import breaches, frames, labels, laws
from validation.layouts.cell import HONEST, INVISIBLE, VISIBLE, WIDE, Cell, each
from validation.layouts.data import Data, draw
from validation.layouts.laws import Law, Styles
from validation.layouts.log import Scale, written

_MOVED = Styles(behaviour=0.6, effect=0.5)
_OWN = Styles(effect=0.5)
# The policy found a loophole where the data hardly ever went.
_FAR = Styles(behaviour=0.3, loophole=True)
_HACKED = Styles(loophole=True)


def _data_of(
    layout=frames.once, how=labels.everything, lose=None, styles: Styles = _MOVED
) -> Callable:
    """Return a maker of reward data: fresh prompts, responses of the behaviour policy."""

    def make(rng, law: Law) -> dict[str, np.ndarray]:
        frame = layout(rng)
        data = draw(rng, law, frame, styles)
        if lose is not None:
            lose(rng, data)
        data.label = how(rng, data)
        columns = written(data, Scale())
        return {**columns, "prompt_id": np.char.add("data ", columns["prompt_id"])}

    return make


def _no_sampler(rng, data: Data) -> None:
    """The audited log does not say how likely the behaviour policy of the data finds its rows."""
    del data.columns["behaviour_logprob"]


def _data_sampler(rng, data: Data) -> None:
    """It does."""
    text, ones = data.styles.read(data.columns)
    sampler = _FAR if data.styles is _HACKED else _MOVED
    data.columns["behaviour_logprob"] = text + sampler.log_prob(ones, sampler.behaviour)


def _trusted() -> list[Cell]:
    """Reward data of an earlier policy; the audited log has no labels, or a probe of them."""
    own = dict(layout=frames.once, styles=_OWN, family="reward data")
    alone = dict(labels=labels.nothing, spoil=_no_sampler, **own)
    probe = dict(labels=labels.whole_draws, spoil=_no_sampler, **own)
    coin = dict(laws=laws.GRADED)
    honest = dict(kind=HONEST, best="conditional")
    many = dict(layout=frames.many_rows)
    pairs = _data_of(frames.every_step_one_policy)
    equal = _data_of(lambda rng: frames.once(rng, 150, 8), lose=breaches.drop_equal_draws)
    until = _data_of(lambda rng: frames.once(rng, 150, 8), lose=breaches.stop_at_success)
    by_rows = _data_of(how=labels.rows_by_outcome, **many)
    by_draws = _data_of(lambda rng: frames.once(rng, 200), labels.draws_by_outcome)
    best = _data_of(how=labels.best_of_draw)
    out = [
        *each(("audit",), name="all labelled", reward_data=_data_of(), **honest, **alone),
        *each(
            ("audit",),
            name="whole draws",
            reward_data=_data_of(how=labels.whole_draws),
            **honest,
            **alone,
        ),
        *each(
            ("audit",),
            name="the data's sampler is in the log",
            reward_data=_data_of(),
            **honest,
            **{**alone, "spoil": _data_sampler},
        ),
        *each(
            ("audit",),
            name="the log's own sampler is in the log",
            reward_data=_data_of(),
            kind=WIDE,
            **{**alone, "spoil": None},
        ),
        *[
            cell
            for name, sampler in (
                ("no sampler", _no_sampler),
                ("the data's sampler", _data_sampler),
                ("its own sampler", None),
            )
            for cell in each(
                ("audit",),
                name=f"a loophole, {name} in the log",
                reward_data=_data_of(frames.many_rows, styles=_FAR),
                kind=WIDE,
                **{**alone, "layout": frames.many_rows, "styles": _HACKED, "spoil": sampler},
            )
        ],
        *each(("audit",), name="30 prompts at 40 steps", reward_data=pairs, kind=WIDE, **alone),
        *each(
            ("audit",),
            name="20 of 30 at 40 steps, pairs",
            reward_data=_data_of(frames.some_each_step_pairs),
            kind=WIDE,
            **alone,
        ),
        *each(
            ("audit",),
            name="K by how hard a prompt is",
            reward_data=_data_of(frames.hard_prompts_more),
            kind=WIDE,
            **alone,
        ),
        *each(
            ("audit", "transport"),
            name="the log's prompts recur",
            reward_data=_data_of(),
            kind=WIDE,
            **{**probe, "layout": frames.some_each_step_pairs},
        ),
    ]
    for name, data in (
        ("labels by outcome, K = 1", by_rows),
        ("whole draws by outcome", by_draws),
        ("best of K", best),
    ):
        biased = dict(name=name, reward_data=data, **coin)
        out += each(("audit",), kind=VISIBLE, **biased, **alone)
        # A calibration may be wrong: the probe makes the interval true all the same.
        out += each(("transport",), kind=WIDE, **biased, **probe)
    easy = dict(laws=(laws.EASY,), kind=VISIBLE, name="draws of equal rewards", reward_data=equal)
    out += each(("audit",), **easy, **alone)
    unseen = dict(kind=INVISIBLE, laws=(laws.COIN,), declare=(), name="until success")
    return out + each(("audit",), reward_data=until, **unseen, **alone)


def _probes() -> list[Cell]:
    """Transport: a calibration from reward data, audited by labels in the log."""
    given = dict(family="transport", styles=_OWN, spoil=_no_sampler, reward_data=_data_of())
    once = dict(layout=frames.once, **given)
    coin, everything = dict(laws=laws.GRADED), dict(labels=labels.everything)
    one = ("transport",)
    by_rows, best = labels.rows_by_outcome, labels.best_of_draw
    equal = dict(
        layout=lambda rng: frames.once(rng, 150, 8), lose=breaches.drop_equal_draws, **given
    )
    return [
        *each(one, kind=HONEST, name="whole draws", labels=labels.whole_draws, **once),
        *each(one, kind=HONEST, name="a row of each draw", labels=labels.one_row, **once),
        *each(
            one,
            kind=WIDE,
            name="20 of 30 at 40 steps",
            layout=frames.some_each_step,
            **everything,
            **given,
        ),
        *each(
            one,
            kind=WIDE,
            name="30 prompts at 40 steps",
            layout=frames.every_step_one_policy,
            **everything,
            **given,
        ),
        *each(one, kind=VISIBLE, name="rows by outcome", labels=by_rows, **coin, **once),
        *each(one, kind=VISIBLE, name="best of K", labels=best, **coin, **once),
        *each(
            one,
            kind=VISIBLE,
            name="draws of equal rewards",
            laws=(laws.EASY,),
            **everything,
            **equal,
        ),
        *each(
            one,
            kind=VISIBLE,
            name="gold outside",
            laws=(laws.EASY,),
            **{**once, "spoil": breaches.gold_out_of_range},
        ),
    ]


def cells() -> list[Cell]:
    """Return the cells of this file."""
    return [*_trusted(), *_probes()]
