"""Layouts: which rows a log has, which prompt each answers, and what step, policy, run and group.

Prompts are independent draws from one population unless the layout says otherwise. Every layout
returns a `Frame`; nothing in it depends on outcomes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass(slots=True, kw_only=True)
class Frame:
    """Rows before their rewards; all arrays have shape (rows,).

    Attributes:
        prompt: Which draw from the population each row answers, 0, 1, ….
        columns: step, policy, run, group, prompt_id, prompt, as the log has them.
        strength: Of the policy that made each row.
        means: What is meant: "population", "list" (these prompts) or "pool" (prompt i has mass
            `mass[i]` and is drawn again and again).
        mass: Shape (prompts of the pool,); None otherwise.
        by_trait: Prompts are numbered by their trait, so that the layout may go by it.
    """

    prompt: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    strength: np.ndarray | None = None
    means: str = "population"
    mass: np.ndarray | None = None
    by_trait: bool = False

    def __post_init__(self):
        if self.strength is None:
            self.strength = np.zeros(len(self.prompt))


Layout = Callable[[np.random.Generator], Frame]


def once(rng, prompts=120, size=4) -> Frame:
    """Each prompt once, K constant."""
    return Frame(prompt=np.repeat(np.arange(prompts), size))


def few_rows(rng) -> Frame:
    """Thirty prompts with one rollout each."""
    return once(rng, prompts=30, size=1)


def many_rows(rng) -> Frame:
    """Three hundred prompts with one rollout each."""
    return once(rng, prompts=300, size=1)


def groups_once(rng) -> Frame:
    """Each prompt once, with a group of its own: the group says nothing new."""
    frame = once(rng)
    frame.columns["group"] = frame.prompt + 1000
    return frame


def unequal(rng, prompts=120) -> Frame:
    """K differs, whatever the prompt and its outcomes."""
    return Frame(prompt=np.repeat(np.arange(prompts), rng.integers(1, 9, prompts)))


def hard_prompts_more(rng, prompts=120) -> Frame:
    """K goes by how hard the prompt is, not by outcomes: hard ones get most."""
    size = np.where(np.arange(prompts) < prompts // 3, 8, 2)
    return Frame(prompt=np.repeat(np.arange(prompts), size), by_trait=True)


def file_twice(rng, prompts=120) -> Frame:
    """Every prompt has its rows in two places of the file."""
    return Frame(prompt=np.tile(np.repeat(np.arange(prompts), 2), 2))


def steps_apart(rng, prompts=40, steps=4, size=3) -> Frame:
    """Fixed policies, each on prompts of its own at its step."""
    prompt = np.repeat(np.arange(prompts * steps), size)
    step = prompt // prompts
    return Frame(prompt=prompt, columns={"step": 10 * step}, strength=0.15 * step)


def steps_of_other_sizes(rng) -> Frame:
    """Two policies on prompts of their own: a hundred prompts with K = 2, twenty with K = 8."""
    prompt = np.r_[np.repeat(np.arange(100), 2), np.repeat(np.arange(100, 120), 8)]
    step = (prompt >= 100).astype(int)
    return Frame(prompt=prompt, columns={"step": step}, strength=0.5 * step)


def one_prompt_alone(rng) -> Frame:
    """A policy that answered a single prompt, beside one that answered sixty."""
    prompt = np.repeat(np.arange(61), 3)
    names = np.where(prompt < 60, "usual", "tried once")
    return Frame(prompt=prompt, columns={"policy": names})


def few_recur(rng, prompts=90, again=8, size=2) -> Frame:
    """Nearly all prompts at one step, a few of them at two."""
    kinds = np.r_[np.arange(prompts), rng.choice(prompts // 2, again, replace=False)]
    step = np.r_[np.arange(prompts) >= prompts // 2, np.ones(again)].astype(int)
    return _over_steps(kinds, step, size, None, 0.3)


def every_step(rng, prompts=40, steps=6, size=2, groups=None, strength=0.1) -> Frame:
    """Every prompt at every step; groups are None, "pairs" (recurring) or "unique"."""
    step, prompt = (part.ravel() for part in np.mgrid[:steps, :prompts])
    return _over_steps(prompt, step, size, groups, strength)


def every_step_unique(rng) -> Frame:
    """Every prompt at every step, each time with a new group."""
    return every_step(rng, groups="unique")


def every_step_pairs(rng) -> Frame:
    """Pairs of prompt and group that recur at every step."""
    return every_step(rng, groups="pairs")


def every_step_one_policy(rng) -> Frame:
    """Every prompt at each of forty steps by a policy that does not change, unique groups."""
    return every_step(rng, prompts=30, steps=40, size=1, groups="unique", strength=0.0)


def every_step_one_policy_pairs(rng) -> Frame:
    """The same with pairs of prompt and group that recur."""
    return every_step(rng, prompts=30, steps=40, size=1, groups="pairs", strength=0.0)


def some_each_step(rng, groups="unique", strength=0.0, prompts=30, share=20, steps=40) -> Frame:
    """Twenty of thirty prompts, at random, at each of forty steps."""
    prompt = np.concatenate([rng.choice(prompts, share, replace=False) for _ in range(steps)])
    step = np.repeat(np.arange(steps), share)
    prompt = np.unique(prompt, return_inverse=True)[1]
    return _over_steps(prompt, step, 1, groups, strength)


def some_each_step_pairs(rng) -> Frame:
    """The same with groups that recur."""
    return some_each_step(rng, groups="pairs")


def some_each_step_drifting(rng) -> Frame:
    """The same with fixed checkpoints that get better: profiles differ."""
    return some_each_step(rng, groups=None, strength=0.02)


def _over_steps(prompt, step, size, groups, strength) -> Frame:
    prompt, step = np.repeat(prompt, size), np.repeat(step, size)
    columns = {"step": step}
    if groups == "unique":
        columns["group"] = np.arange(len(prompt)) // size
    elif groups == "pairs":
        columns["group"] = prompt % 7
    return Frame(prompt=prompt, columns=columns, strength=strength * step)


def few_prompts_many_groups(rng, prompts=3, groups=100) -> Frame:
    """Two or three prompts with a hundred groups each."""
    prompts = int(rng.integers(2, prompts + 1))
    draw = np.arange(prompts * groups)
    return Frame(prompt=draw % prompts, columns={"group": draw})


def policies_shared(rng, prompts=60, size=2, policies=3) -> Frame:
    """Several policies answer the same prompts."""
    policy, prompt = (part.ravel() for part in np.mgrid[:policies, :prompts])
    policy, prompt = np.repeat(policy, size), np.repeat(prompt, size)
    names = np.array([f"policy {chr(65 + place)}" for place in range(policies)])
    return Frame(prompt=prompt, columns={"policy": names[policy]}, strength=0.25 * policy)


def policies_shared_groups(rng) -> Frame:
    """The same with a group for each prompt and policy."""
    frame = policies_shared(rng)
    frame.columns["group"] = np.arange(len(frame.prompt)) // 2
    return frame


def runs_apart(rng, prompts=50, size=2, runs=3) -> Frame:
    """Several runs, each on prompts of its own."""
    prompt = np.repeat(np.arange(prompts * runs), size)
    run = prompt // prompts
    names = np.array([f"run {place}" for place in range(runs)])
    return Frame(prompt=prompt, columns={"run": names[run]}, strength=0.2 * run)


def crossed(rng, prompts=16, size=1) -> Frame:
    """Steps × groups × policies × runs, all crossed, over the same prompts."""
    axes = np.mgrid[:prompts, :2, :2, :2, :2]
    prompt, step, group, policy, run = (np.repeat(part.ravel(), size) for part in axes)
    columns = {
        "step": step,
        "group": group,
        "policy": np.array(["A", "B"])[policy],
        "run": np.array(["first", "second"])[run],
    }
    return Frame(prompt=prompt, columns=columns, strength=0.1 * step + 0.2 * policy + 0.05 * run)


def unequal_profiles(rng, prompts=120) -> Frame:
    """Rows (7, 1) or (1, 7) in the same two steps, dealt blindly: laws differ between draws."""
    many = rng.random(prompts) < 0.5
    counts = np.stack([np.where(many, 7, 1), np.where(many, 1, 7)])
    prompt = np.concatenate([np.repeat(np.arange(prompts), counts[step]) for step in (0, 1)])
    step = np.repeat([0, 1], counts.sum(axis=1))
    return Frame(prompt=prompt, columns={"step": step}, strength=0.6 * step)


def same_text(rng, prompts=60, copies=6) -> Frame:
    """The same text under several ids."""
    prompt, copy = (part.ravel() for part in np.mgrid[:prompts, :copies])
    ids = np.array([f"{copy}-{prompt}" for prompt, copy in zip(prompt, copy, strict=True)])
    return Frame(prompt=prompt, columns={"prompt_id": ids, "prompt": _texts(prompt)})


def templates(rng, prompts=120, size=2) -> Frame:
    """Prompts cut from one template: texts are near, and yet each is a draw of its own."""
    frame = once(rng, prompts=prompts, size=size)
    frame.columns["prompt"] = _texts(frame.prompt)
    return frame


def _texts(prompt) -> np.ndarray:
    return np.array([f"What is {place} plus {place + 1}? Answer in one word." for place in prompt])


def two_logs(rng, prompts=60, size=2) -> Frame:
    """Two logs over the same prompts, joined; each numbers its groups."""
    log, prompt = (np.repeat(part.ravel(), size) for part in np.mgrid[:2, :prompts])
    order = np.concatenate([rng.permutation(prompts), rng.permutation(prompts)])
    columns = {
        "run": np.array(["log 1", "log 2"])[log],
        "group": order[log * prompts + prompt],
    }
    return Frame(prompt=prompt, columns=columns)


def two_logs_groups(rng, prompts=25, groups=8) -> Frame:
    """The same, with many groups for each prompt in each log."""
    log, prompt, group = (part.ravel() for part in np.mgrid[:2, :prompts, :groups])
    columns = {
        "run": np.array(["log 1", "log 2"])[log],
        "group": prompt * groups + group,
    }
    return Frame(prompt=prompt, columns=columns)


def listed(rng, prompts=60, size=4) -> Frame:
    """A benchmark: these prompts are meant, and no others."""
    frame = once(rng, prompts=prompts, size=size)
    frame.means = "list"
    return frame


def pool(rng, prompts=25, draws=200) -> Frame:
    """A pool drawn from with replacement, one prompt of which has half of the mass."""
    mass = np.r_[0.5, np.full(prompts - 1, 0.5 / (prompts - 1))]
    prompt = rng.choice(prompts, size=draws, p=mass)
    return Frame(prompt=prompt, columns={"group": np.arange(draws)}, means="pool", mass=mass)


def pool_merged(rng, prompts=60, draws=150) -> Frame:
    """Draws from an even pool, each prompt counted once: K is how often it came."""
    prompt = np.unique(rng.choice(prompts, size=draws), return_inverse=True)[1]
    return Frame(prompt=np.sort(prompt), columns={"group": np.arange(draws)})


def shuffled(rng) -> Frame:
    """Every prompt at every step, rows in no order at all."""
    frame = every_step(rng)
    order = rng.permutation(len(frame.prompt))
    columns = {name: values[order] for name, values in frame.columns.items()}
    return Frame(prompt=frame.prompt[order], columns=columns, strength=frame.strength[order])
