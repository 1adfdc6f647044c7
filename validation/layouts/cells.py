"""The cells: layout × labels × breach × command, each with what must be true of it.

honest     nothing is wrong with the log: guarantees hold, nothing is doubted, the status is what
           was declared.
wide       nothing is wrong with the log, but it may be past what can be certified: whatever is
           claimed with a guarantee holds.
visible    a sound test can see that something is wrong: it is doubted, estimated or refused.
invisible  no test can see it: without a declaration nothing is certified.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from validation.layouts import breaches, frames, labels, laws
from validation.layouts.data import Data, draw, train
from validation.layouts.laws import LAWS, Law, Styles
from validation.layouts.log import ALL, BETA, TAU, Log, Scale, Truth, written

HONEST, WIDE, VISIBLE, INVISIBLE = "honest", "wide", "visible", "invisible"
Change = Callable[[np.random.Generator, Data], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One kind of log under one command.

    Attributes:
        kind: What must be true; see the module.
        family: Layouts that belong together.
        name: Of the layout, the labels and the breach.
        command: One of `adapter.COMMANDS`.
        best: The status that an honest log must have; "vacuous" asks for none.
        laws: Of rewards; the i-th log takes the (i mod laws)-th.
        lose, spoil: Breaches, before and after labels are given.
        of_the_logged: The truth is of the rows that are logged.
    """

    kind: str
    family: str
    name: str
    command: str
    layout: frames.Layout
    labels: Callable = labels.whole_draws
    best: str = "certified"
    laws: tuple[Law, ...] = LAWS
    styles: Styles | None = None
    lose: Change | None = None
    spoil: Change | None = None
    of_the_logged: bool = False
    trains: bool = False
    scale: Scale = field(default=Scale())
    declare: tuple[str, ...] = ALL
    prompts: str = "sample"
    settings: tuple[tuple[str, object], ...] = (("target", "reward"),)
    reward_data: Callable | None = None
    chosen_by_reward: bool = False

    def __str__(self) -> str:
        return f"{self.family} / {self.name} / {self.command}"

    def law(self, seed: int) -> Law:
        """Return the law of a log."""
        return self.laws[seed % len(self.laws)]

    def log(self, seed: int) -> Log:
        """Make a log."""
        rng = np.random.default_rng([seed, *f"{self.family} / {self.name}".encode()])
        law = self.law(seed)
        data = (train if self.trains else draw)(rng, law, self.layout(rng), self.styles)
        truth = Truth.of(data, self.scale)
        if self.lose is not None:
            self.lose(rng, data)
        if self.of_the_logged:
            truth = Truth.of(data, self.scale)
        data.label = self.labels(rng, data)
        if self.spoil is not None:
            self.spoil(rng, data)
        return Log(
            columns=written(data, self.scale),
            settings={**self.scale.settings, **dict(self.settings)},
            truth=truth,
            declare=self.declare,
            prompts=self.prompts,
            reward_data=None if self.reward_data is None else self.reward_data(rng, law),
            chosen_by_reward=self.chosen_by_reward,
            through_file="prompt" in data.columns,
        )


def _each(commands: tuple[str, ...], **cell) -> list[Cell]:
    cell.setdefault("name", "")
    return [Cell(command=command, **cell) for command in commands]


# --- honest layouts -------------------------------------------------------------------------------

_BLIND = {
    "no labels": labels.nothing,
    "all labelled": labels.everything,
    "whole draws": labels.whole_draws,
    "twenty draws": labels.few_draws,
    "a row of some draws": labels.one_row_of_some,
    "a row of each draw": labels.one_row,
    "rows": labels.rows,
    "coins": labels.coins,
    "recorded chances": labels.chances,
    "last draws": labels.last_draws,
}
_BINARY = (laws.COIN, laws.EASY)
_GRADED = (LAWS[0], LAWS[6], LAWS[7])


def _label_designs() -> list[Cell]:
    """Every blind design, on the plainest layouts."""
    out = []
    for name, how in _BLIND.items():
        best = {"no labels": "vacuous", "recorded chances": "conditional"}.get(name, "certified")
        for layout in (frames.once, frames.many_rows):
            commands = ("audit",) if name != "whole draws" else ("audit", "watch")
            what = f"{layout.__name__}, {name}"
            one = dict(kind=HONEST, family="labels", name=what, layout=layout, labels=how)
            out += _each(commands, best=best, **one)
    for name in ("whole draws", "a row of each draw", "all labelled"):
        one = dict(kind=HONEST, family="labels", name=f"unequal K, {name}", layout=frames.unequal)
        out += _each(("audit",), labels=_BLIND[name], **one)
    for name in ("rows", "coins"):
        one = dict(kind=WIDE, family="labels", name=f"unequal K, {name}", layout=frames.unequal)
        out += _each(("audit",), labels=_BLIND[name], **one)
    big = dict(
        kind=HONEST, family="labels", layout=lambda rng: frames.once(rng, prompts=3000, size=1)
    )
    skewed = tuple(law for law in LAWS if law.name in ("success .99", "constant", "lottery .02"))
    out += _each(
        ("audit",), name="3,000 skewed rows, 20 draws", labels=labels.few_draws, laws=skewed, **big
    )
    undeclared = dict(kind=HONEST, family="labels", declare=(), best="conditional")
    out += _each(
        ("audit", "watch"), name="once, nothing declared", layout=frames.once, **undeclared
    )
    return out


def _layouts() -> list[Cell]:
    """Layouts of one policy or several, all sound."""
    step, policy, run = (
        ("audit", f"audit --by {by}", f"watch --by {by}") for by in ("step", "policy", "run")
    )
    table = (
        ("few rows", frames.few_rows, ("audit", "watch"), "certified"),
        ("groups that say nothing", frames.groups_once, ("audit", "watch"), "certified"),
        ("steps on prompts of their own", frames.steps_apart, step, "certified"),
        ("every prompt at every step", frames.every_step, step, "certified"),
        ("the same, shuffled", frames.shuffled, step[:2], "certified"),
        ("(prompt, group) pairs recur", frames.every_step_pairs, step, "certified"),
        ("unique groups", frames.every_step_unique, step, "certified"),
        ("30 prompts at 40 steps", frames.every_step_one_policy, step[:1], "certified"),
        ("20 of 30 at 40 steps", frames.some_each_step, step[:1], "certified"),
        ("20 of 30, pairs", frames.some_each_step_pairs, step[:1], "certified"),
        ("20 of 30, drifting", frames.some_each_step_drifting, step[:1], "certified"),
        ("2-3 prompts × 100 groups", frames.few_prompts_many_groups, ("audit",), "vacuous"),
        ("policies on the same prompts", frames.policies_shared, policy, "certified"),
        ("the same with groups", frames.policies_shared_groups, policy, "certified"),
        ("runs on prompts of their own", frames.runs_apart, run, "certified"),
        ("steps × groups × policies × runs", frames.crossed, policy[:2] + step[1:2], "certified"),
        ("profiles (7, 1) and (1, 7)", frames.unequal_profiles, ("audit",), "certified"),
        ("the same text under six ids", frames.same_text, ("audit",), "certified"),
        ("templates", frames.templates, ("audit",), "certified"),
        ("two logs, same prompts", frames.two_logs, run[:2], "certified"),
        ("two logs, many groups", frames.two_logs_groups, run[:2], "certified"),
        ("even pool, merged", frames.pool_merged, ("audit",), "certified"),
    )
    out = []
    for name, layout, commands, best in table:
        for text, how in (("all labelled", labels.everything), ("whole draws", labels.whole_draws)):
            one = dict(family="layouts", name=f"{name}, {text}", layout=layout, labels=how)
            for command in commands:
                # A growing log cannot merge what comes later: it may say less, never what is false.
                grows = command == "watch"
                out += _each((command,), kind=WIDE if grows else HONEST, best=best, **one)
    merged = dict(kind=WIDE, family="layouts", labels=labels.everything)
    for layout in (
        frames.every_step_one_policy,
        frames.some_each_step,
        frames.two_logs_groups,
        frames.same_text,
    ):
        out += _each(("watch",), name=layout.__name__, layout=layout, **merged)
    return out


def _declared_prompts() -> list[Cell]:
    """Lists and pools, where somebody knows better and says so."""
    one = dict(kind=HONEST, family="prompts", best="conditional")
    listed = dict(layout=frames.listed, prompts="list", **one)
    pool = dict(layout=frames.pool, prompts="with-replacement", labels=labels.everything, **one)
    return [
        *_each(("audit",), name="list, all labelled", labels=labels.everything, **listed),
        *_each(("audit",), name="list, whole draws", labels=labels.whole_draws, **listed),
        *_each(("audit",), name="list, a row of each", labels=labels.one_row, **listed),
        *_each(("audit", "watch"), name="pool with an atom", **pool),
    ]


def _uneven_labels() -> list[Cell]:
    """Labels blind to outcomes that prefer a step, a policy or a run."""
    out = []
    for layout, by in (
        (frames.steps_apart, "step"),
        (frames.every_step, "step"),
        (frames.policies_shared, "policy"),
        (frames.runs_apart, "run"),
    ):
        for how in (labels.last_cell_only, labels.uneven_cells):
            text = f"{layout.__name__}, {how.__name__}"
            one = dict(family="cells", name=text, layout=layout, labels=how)
            out += _each(("audit", "watch"), kind=WIDE, **one)
            out += _each((f"audit --by {by}",), kind=HONEST, best="vacuous", **one)
    return out


def _selections() -> list[Cell]:
    table = (
        ("every prompt at every step", frames.every_step, "select step"),
        ("equal checkpoints", lambda rng: frames.every_step(rng, strength=0.0), "select step"),
        ("(prompt, group) pairs", frames.every_step_pairs, "select step"),
        ("steps on prompts of their own", frames.steps_apart, "select step"),
        ("policies on the same prompts", frames.policies_shared, "select policy"),
        ("the same with groups", frames.policies_shared_groups, "select policy"),
        ("policies on the same prompts", frames.policies_shared, "select files by policy"),
        ("the same with groups", frames.policies_shared_groups, "select files by policy"),
        ("equal policies, recurring steps", _equal_policies_over_steps, "select policy"),
        ("two logs, same prompts", frames.two_logs, "select files by run"),
        ("two logs, many groups", frames.two_logs_groups, "select files by run"),
    )
    out = []
    for name, layout, command in table:
        for text, how in (("all labelled", labels.everything), ("whole draws", labels.whole_draws)):
            what = f"{name}, {text}"
            out += _each(
                (command,), kind=HONEST, family="select", name=what, layout=layout, labels=how
            )
    return out


def _equal_policies_over_steps(rng) -> frames.Frame:
    """Two equally good policies, each on its own few prompts at every one of thirty steps."""
    parts = [frames.every_step(rng, prompts=25, steps=30, size=1, strength=0.0) for _ in range(2)]
    prompt = np.concatenate([parts[0].prompt, parts[1].prompt + 25])
    step = np.concatenate([part.columns["step"] for part in parts])
    columns = {
        "step": step,
        "policy": np.where(prompt < 25, "A", "B"),
        "group": np.arange(len(prompt)),
    }
    return frames.Frame(prompt=prompt, columns=columns)


_SCORED = (("target", "clipped"), ("beta", BETA), ("tau", TAU))


def _log_probs() -> list[Cell]:
    usual = dict(layout=frames.once, styles=laws.USUAL, settings=_SCORED, family="log-probs")
    objective = (("target", "objective"), *_SCORED[1:], ("log_ratio_max", laws.USUAL.most))
    honest = dict(kind=HONEST, best="conditional", **usual)
    # Only a reference within reach of the policy is sure to be seen when it is swapped.
    visible = dict(kind=VISIBLE, **usual)
    return [
        *_each(("audit",), name="clipped", **honest),
        *_each(("audit",), name="objective", **{**honest, "settings": objective}),
        *_each(("audit",), name="skewed log-ratio", **{**honest, "styles": laws.SKEWED}),
        *_each(("audit",), name="noise of .1 nats", spoil=breaches.engine_noise, **honest),
        *_each(("audit",), name="log-ratio only", spoil=breaches.ratio_only, **honest),
        *_each(("audit",), name="swapped", spoil=breaches.swap_policies, **visible),
        *_each(("audit",), name="two engines", spoil=breaches.other_engine, **visible),
        *_each(("audit",), name="masked tokens", spoil=breaches.masked_tokens, **visible),
        *_each(("audit",), name="the next policy's", spoil=breaches.next_policy, **visible),
    ]


def _units() -> list[Cell]:
    percent, shifted = Scale(reward=(0, 100)), Scale(gold=(-4, 4), reward=(-10, 2))
    grown = dict(layout=frames.once, family="units")
    out = _each(
        ("audit", "watch"), kind=HONEST, name="gold [0, 1], reward [0, 100]", scale=percent, **grown
    )
    out += _each(("audit",), kind=HONEST, name="gold [-4, 4]", scale=shifted, **grown)
    by = dict(kind=HONEST, family="units", layout=frames.policies_shared, scale=percent)
    out += _each(("audit --by policy", "select policy"), name="policies", **by)
    scored = dict(styles=laws.USUAL, settings=_SCORED, scale=percent, **grown)
    out += _each(("audit",), kind=VISIBLE, name="clipped objective of two scales", **scored)
    part = breaches.scores_partly_out_of_range
    out += _each(("audit",), kind=WIDE, name="a tenth of scores outside", spoil=part, **grown)
    scored = {**scored, "scale": Scale()}
    far = dict(spoil=breaches.scores_out_of_range, laws=_GRADED)
    out += _each(("audit",), kind=VISIBLE, name="scores outside", **far, **scored)
    past = dict(spoil=breaches.gold_out_of_range, laws=(laws.EASY,), **grown)
    out += _each(("audit", "watch"), kind=VISIBLE, name="gold outside", **past)
    return out


# --- breaches -------------------------------------------------------------------------------------


def _biased_labels() -> list[Cell]:
    seen = dict(kind=VISIBLE, family="labels by outcome", laws=_GRADED)
    once, single = dict(layout=frames.once), dict(layout=frames.many_rows)
    steps, policies = dict(layout=frames.every_step), dict(layout=frames.policies_shared)
    unseen = dict(kind=INVISIBLE, family="labels by outcome", laws=(laws.BLIND_JUDGE,), declare=())
    by_rows, by_draws = labels.rows_by_outcome, labels.draws_by_outcome
    best, worst = labels.best_of_draw, labels.worst_of_draw
    return [
        *_each(("audit", "watch"), name="rows, K = 1", labels=by_rows, **single, **seen),
        *_each(("audit", "watch"), name="rows, K = 4", labels=by_rows, **once, **seen),
        *_each(("audit", "watch"), name="whole draws", labels=by_draws, **once, **seen),
        *_each(("audit", "watch"), name="best of K", labels=best, **once, **seen),
        *_each(("audit", "watch"), name="worst of K", labels=worst, **once, **seen),
        *_each(("audit",), name="better half", labels=labels.better_half_of_draw, **once, **seen),
        *_each(
            ("audit",), name="likely successes", labels=labels.likely_successes, **single, **seen
        ),
        *_each(("audit", "select step"), name="best of K by step", labels=best, **steps, **seen),
        *_each(
            ("audit", "audit --by policy", "select policy", "select files by policy"),
            name="rows by policy",
            labels=by_rows,
            **{**policies, "layout": lambda rng: frames.policies_shared(rng, 100, 4, 2)},
            **seen,
        ),
        *_each(("audit", "watch"), name="a blind judge", labels=by_rows, **single, **unseen),
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
        *_each(both, name="failures", lose=breaches.drop_failures, **unseen, **everything),
        *_each(
            both, name="half of them", lose=breaches.drop_half_of_failures, **unseen, **everything
        ),
        *_each(both, name="truncated", lose=breaches.drop_truncated, **unseen, **everything),
        *_each(both, name="until success", lose=breaches.stop_at_success, **unseen, **everything),
        *_each(both, name="hopeless", lose=breaches.more_of_the_good, **unseen, **everything),
        *_each(both, name="worst draws", lose=breaches.drop_worst_draws, **unseen, **everything),
        *_each(both, name="draws of equal rewards", **equal, **seen),
        *_each(
            ("audit", "select policy", "select files by policy"),
            name="draws of equal rewards, two policies",
            **equal,
            **{**seen, **policies},
        ),
        *_each(("audit",), name="the framework says so", **origin, **seen),
        *_each(
            ("select files by policy", "select policy"),
            name="the framework says so, two policies",
            **origin,
            **{**seen, **policies},
        ),
        *_each(
            ("audit",),
            name="successes twice",
            spoil=breaches.duplicate_successes,
            laws=(laws.COIN,),
            **{**seen, "layout": frames.once, "styles": laws.USUAL},
        ),
    ]
    ordered = dict(
        kind=VISIBLE, family="lost rows", name="order of finishing", laws=_GRADED, **everything
    )
    return out + _each(
        ("watch",), layout=frames.many_rows, spoil=breaches.finished_first, **ordered
    )


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
    trains = dict(trains=True, laws=(laws.COIN, LAWS[6]), **family)
    return [
        *_each(("audit", "watch"), kind=VISIBLE, name="recurring", layout=recurring, **trains),
        *_each(("audit", "watch"), kind=INVISIBLE, name="fresh", layout=checkpoints, **trains),
        *_each(("audit",), kind=INVISIBLE, name="top 5", lose=breaches.keep_top_steps, **logged),
        *_each(
            ("audit",), kind=INVISIBLE, name="early stop", lose=breaches.stop_when_good, **logged
        ),
    ]


# --- reward data and transport --------------------------------------------------------------------

_MOVED = Styles(behaviour=0.6, effect=0.5)
_OWN = Styles(effect=0.5)


def _data_of(layout=frames.once, how=labels.everything, lose=None) -> Callable:
    """Return a maker of reward data: fresh prompts, responses of the behaviour policy."""

    def make(rng, law: Law) -> dict[str, np.ndarray]:
        frame = layout(rng)
        data = draw(rng, law, frame, _MOVED)
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
    text, ones = _OWN.read(data.columns)
    data.columns["behaviour_logprob"] = text + _OWN.log_prob(ones, _MOVED.behaviour)


def _trusted() -> list[Cell]:
    """Reward data of an earlier policy; the audited log has no labels, or a probe of them."""
    own = dict(layout=frames.once, styles=_OWN, family="reward data")
    alone = dict(labels=labels.nothing, spoil=_no_sampler, **own)
    probe = dict(labels=labels.whole_draws, spoil=_no_sampler, **own)
    coin = dict(laws=_GRADED)
    honest = dict(kind=HONEST, best="conditional")
    many = dict(layout=lambda rng: frames.many_rows(rng))
    pairs = _data_of(frames.every_step_one_policy)
    equal = _data_of(lambda rng: frames.once(rng, 150, 8), lose=breaches.drop_equal_draws)
    until = _data_of(lambda rng: frames.once(rng, 150, 8), lose=breaches.stop_at_success)
    by_rows = _data_of(how=labels.rows_by_outcome, **many)
    by_draws = _data_of(how=labels.draws_by_outcome)
    best = _data_of(how=labels.best_of_draw)
    out = [
        *_each(("audit",), name="all labelled", reward_data=_data_of(), **honest, **alone),
        *_each(
            ("audit",),
            name="whole draws",
            reward_data=_data_of(how=labels.whole_draws),
            **honest,
            **alone,
        ),
        *_each(
            ("audit",),
            name="the data's sampler is in the log",
            reward_data=_data_of(),
            **honest,
            **{**alone, "spoil": _data_sampler},
        ),
        *_each(
            ("audit",),
            name="the log's own sampler is in the log",
            reward_data=_data_of(),
            kind=WIDE,
            **{**alone, "spoil": None},
        ),
        *_each(("audit",), name="prompts recur at steps", reward_data=pairs, kind=WIDE, **alone),
    ]
    for name, data in (
        ("labels by outcome, K = 1", by_rows),
        ("whole draws by outcome", by_draws),
        ("best of K", best),
    ):
        seen = dict(name=name, reward_data=data, kind=VISIBLE, **coin)
        out += _each(("audit",), **seen, **alone) + _each(("transport",), **seen, **probe)
    easy = dict(laws=(laws.EASY,), kind=VISIBLE, name="draws of equal rewards", reward_data=equal)
    out += _each(("audit",), **easy, **alone)
    unseen = dict(kind=INVISIBLE, laws=(laws.COIN,), declare=(), name="until success")
    return out + _each(("audit",), reward_data=until, **unseen, **alone)


def _probes() -> list[Cell]:
    """Transport: a calibration from reward data, audited by labels in the log."""
    given = dict(family="transport", styles=_OWN, spoil=_no_sampler, reward_data=_data_of())
    once = dict(layout=frames.once, **given)
    coin, everything = dict(laws=_GRADED), dict(labels=labels.everything)
    one = ("transport",)
    by_rows, best = labels.rows_by_outcome, labels.best_of_draw
    equal = dict(
        layout=lambda rng: frames.once(rng, 150, 8), lose=breaches.drop_equal_draws, **given
    )
    return [
        *_each(one, kind=HONEST, name="whole draws", labels=labels.whole_draws, **once),
        *_each(one, kind=HONEST, name="a row of each draw", labels=labels.one_row, **once),
        *_each(
            one,
            kind=WIDE,
            name="20 of 30 at 40 steps",
            layout=frames.some_each_step,
            **everything,
            **given,
        ),
        *_each(
            one,
            kind=WIDE,
            name="30 prompts at 40 steps",
            layout=frames.every_step_one_policy,
            **everything,
            **given,
        ),
        *_each(one, kind=VISIBLE, name="rows by outcome", labels=by_rows, **coin, **once),
        *_each(one, kind=VISIBLE, name="best of K", labels=best, **coin, **once),
        *_each(
            one,
            kind=VISIBLE,
            name="draws of equal rewards",
            laws=(laws.EASY,),
            **everything,
            **equal,
        ),
        *_each(
            one,
            kind=VISIBLE,
            name="gold outside",
            laws=(laws.EASY,),
            **{**once, "spoil": breaches.gold_out_of_range},
        ),
    ]


def cells() -> tuple[Cell, ...]:
    """Return every cell, in the order in which they are shown."""
    makers = (
        _label_designs,
        _layouts,
        _declared_prompts,
        _uneven_labels,
        _selections,
        _log_probs,
        _units,
        _biased_labels,
        _lost_rows,
        _policies_that_moved,
        _trusted,
        _probes,
    )
    return tuple(cell for maker in makers for cell in maker())
