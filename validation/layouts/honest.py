"""Honest logs: every layout and every blind design of labels, and what is past certifying."""

from functools import partial

import numpy as np
from validation.layouts import breaches, frames, labels, laws
from validation.layouts.cell import HONEST, WIDE, Cell, each
from validation.layouts.laws import LAWS

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


def _label_designs() -> list[Cell]:
    """Every blind design, on the plainest layouts."""
    out = []
    for name, how in _BLIND.items():
        best = {"no labels": "vacuous", "recorded chances": "conditional"}.get(name, "certified")
        for layout in (frames.once, frames.many_rows):
            commands = ("audit",) if name != "whole draws" else ("audit", "watch")
            what = f"{layout.__name__}, {name}"
            one = dict(kind=HONEST, family="labels", name=what, layout=layout, labels=how)
            out += each(commands, best=best, **one)
    for layout in (frames.unequal, frames.hard_prompts_more):
        for name in ("whole draws", "a row of each draw", "all labelled", "rows", "coins"):
            # Rows labelled one by one weight draws by K: that takes weights, or is past certifying.
            kind = WIDE if name in ("rows", "coins") else HONEST
            one = dict(kind=kind, family="labels", name=f"{layout.__name__}, {name}", layout=layout)
            out += each(("audit",), labels=_BLIND[name], **one)
    for layout in (frames.every_step, frames.policies_shared):
        one = dict(kind=HONEST, family="labels", layout=layout)
        name = f"{layout.__name__}, a row of each draw"
        out += each(("audit",), name=name, labels=labels.one_row, **one)
    big = dict(
        kind=HONEST, family="labels", layout=lambda rng: frames.once(rng, prompts=3000, size=1)
    )
    skewed = tuple(law for law in LAWS if law.name in ("success .99", "constant", "lottery .02"))
    out += each(
        ("audit",), name="3,000 skewed rows, 20 draws", labels=labels.few_draws, laws=skewed, **big
    )
    none_equal = dict(kind=HONEST, family="labels", laws=(laws.FAIR,), labels=labels.everything)
    for size in (4, 16):
        layout = partial(frames.once, prompts=80, size=size)
        out += each(("audit",), name=f"{size} fair coins", layout=layout, **none_equal)
    out += each(
        ("audit", "watch"),
        kind=HONEST,
        family="labels",
        name="truncated responses are kept",
        layout=frames.once,
        spoil=breaches.mark_truncated,
    )
    undeclared = dict(kind=HONEST, family="labels", declare=(), best="conditional")
    out += each(("audit", "watch"), name="once, nothing declared", layout=frames.once, **undeclared)
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
        ("steps of other sizes", frames.steps_of_other_sizes, step, "certified"),
        ("a prompt alone", frames.one_prompt_alone, policy, "vacuous"),
        ("a few prompts recur", frames.few_recur, step, "certified"),
        ("every prompt at every step", frames.every_step, step, "certified"),
        ("the same, shuffled", frames.shuffled, step[:2], "certified"),
        ("(prompt, group) pairs recur", frames.every_step_pairs, step, "certified"),
        ("unique groups", frames.every_step_unique, step, "certified"),
        ("30 prompts at 40 steps", frames.every_step_one_policy, step[:1], "certified"),
        ("30 at 40, pairs", frames.every_step_one_policy_pairs, step[:1], "certified"),
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
                out += each((command,), kind=WIDE if grows else HONEST, best=best, **one)
    out += each(
        ("audit",), kind=WIDE, family="layouts", name="a file twice", layout=frames.file_twice
    )
    merged = dict(kind=WIDE, family="layouts", labels=labels.everything)
    for layout in (
        frames.every_step_one_policy,
        frames.some_each_step,
        frames.two_logs_groups,
        frames.same_text,
    ):
        out += each(("watch",), name=layout.__name__, layout=layout, **merged)
    return out


def _declared_prompts() -> list[Cell]:
    """Lists and pools, where somebody knows better and says so."""
    one = dict(kind=HONEST, family="prompts", best="conditional")
    listed = dict(layout=frames.listed, prompts="list", **one)
    pool = dict(layout=frames.pool, prompts="with-replacement", labels=labels.everything, **one)
    return [
        *each(("audit",), name="list, all labelled", labels=labels.everything, **listed),
        *each(("audit",), name="list, whole draws", labels=labels.whole_draws, **listed),
        *each(("audit",), name="list, a row of each", labels=labels.one_row, **listed),
        *each(("audit", "watch"), name="pool with an atom", **pool),
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
            out += each(("audit", "watch"), kind=WIDE, **one)
            out += each((f"audit --by {by}",), kind=HONEST, best="vacuous", **one)
        text = f"{layout.__name__}, draws of each {by} apart"
        one = dict(family="cells", name=text, layout=layout, labels=labels.draws_of_each_cell)
        out += each(("audit",), kind=WIDE, **one)
        out += each((f"audit --by {by}",), kind=HONEST, **one)
        if by != "run":
            out += each((f"select {by}",), kind=HONEST, **one)
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
            out += each(
                (command,), kind=HONEST, family="select", name=what, layout=layout, labels=how
            )
    return out


def _equal_policies_over_steps(rng) -> frames.Frame:
    """Two equally good policies, each on some of its own thirty prompts at each of many steps."""
    parts = [frames.some_each_step(rng) for _ in range(2)]
    prompt = np.concatenate([parts[0].prompt, parts[1].prompt + 30])
    step = np.concatenate([part.columns["step"] for part in parts])
    columns = {
        "step": step,
        "policy": np.where(prompt < 30, "A", "B"),
        "group": np.arange(len(prompt)),
    }
    return frames.Frame(prompt=prompt, columns=columns)


def cells() -> list[Cell]:
    """Return the cells of this file."""
    makers = (_label_designs, _layouts, _declared_prompts, _uneven_labels, _selections)
    return [cell for maker in makers for cell in maker()]
