"""What the interval of a growing log rests on, and how each assumption stands (theory §5).

While a log grows, declarations and what arrives decide. Where a decision is taken, and where the
log is finished, all rows are looked at (`taut.decisions.stopping.rows`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from taut.decisions.stopping.options import WatchOptions
from taut.draws import assumptions as about
from taut.draws.assumptions import Assumption, Standing
from taut.draws.check import FAIL, NOT_CHECKED, NOTE, PASS, WARN, Check
from taut.draws.declared import standing
from taut.draws.modes import REPLACEMENT
from taut.logs.facts import LogFacts

_STANDINGS = tuple(Standing)
_STATUSES = (PASS, NOT_CHECKED, NOTE, WARN, FAIL)

TEXTS = {
    about.HELD_OUT: (
        "prompts are independent draws, and no policy, choice of what is logged, reward model or "
        "range looked at them before"
    ),
    about.COMPLETE: (
        "which rollouts are in the log, and how many of each prompt, is blind to their outcomes"
    ),
    about.RANDOM_LABELS: "which rollouts carry gold labels is blind to their outcomes",
    about.ORDER: "which prompt counts first is blind to how its responses turned out",
    about.LOG_PROBS: (
        "log-probs are those of the policy that sampled, and of its reference, from one engine"
    ),
}

# Where the order of rows decides nothing, it still says that a log may end too early.
_CUT_OFF = {
    "text": "no response is missing because it was slower than those in the log",
    "stands": Standing.IN_DOUBT,
}
_SAY = "; say --whole-batches where they are not"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of a series without looking at all of its rows.

    Attributes:
        facts: What the log records of itself.
        recurs: Prompts of it were counted at other steps too.
        missing: What is surely missing of the log, in words; None where nothing is.
        lost: A file that is gone, and may hold rows that were never read; None where none is.
        between: Several files grew at once, without an order of their draws.
        launch: Draws count in the order of `launch`.
        shuffled: They count in an order made from their ids, as the log was finished when read.
        uneven: Rows were labelled one by one while prompts have unequal numbers of rollouts.
    """

    facts: LogFacts | None
    recurs: bool
    missing: str | None
    lost: str | None
    between: bool
    launch: bool
    shuffled: bool
    uneven: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a look at all rows of a series found.

    Attributes:
        assumptions: Each with how it stands.
        health: Checks of the rows.
        cells, prompts: Of the rows: steps, policies and runs; distinct prompts.
        labels: How labelled rows lie in their draws.
    """

    assumptions: tuple[Assumption, ...] = ()
    health: tuple[Check, ...] = ()
    cells: int | None = None
    prompts: int | None = None
    labels: str | None = None

    @property
    def state(self) -> dict:
        """As plain data for JSON."""
        return {
            "assumptions": [item.model_dump(mode="json") for item in self.assumptions],
            "health": [item.model_dump(mode="json") for item in self.health],
            "cells": self.cells,
            "prompts": self.prompts,
            "labels": self.labels,
        }

    @classmethod
    def from_state(cls, state: dict) -> "Checked":
        """Go on from a state."""
        return cls(
            assumptions=tuple(Assumption(**item) for item in state["assumptions"]),
            health=tuple(Check(**item) for item in state["health"]),
            cells=state["cells"],
            prompts=state["prompts"],
            labels=state["labels"],
        )


# --- without a look at all rows -------------------------------------------------------------------


def rests_on(options: WatchOptions, seen: Seen, checked: Checked | None) -> tuple[Assumption, ...]:
    """Return what a series rests on: what its rows say, and what arrived; the worse of both."""
    arrived = [
        _held_out(options, seen),
        _one_law(options),
        _complete(options, seen),
        _order(options, seen),
    ]
    if options.prompts == REPLACEMENT:
        text = "prompts were drawn with replacement, and `group` tells their draws apart"
        by = "--prompts with-replacement"
        arrived.append(_item(about.REPLACEMENT, Standing.DECLARED, by, text))
    if options.gold:
        arrived += [_random_labels(options, seen), _range(about.GOLD_RANGE, "gold")]
    if not options.gold or options.control or options.target == "clipped":
        arrived.append(_range(about.REWARD_RANGE, "reward"))
    if options.target == "clipped":
        by = "no test has looked yet: all rows are tested where a decision is taken"
        arrived.append(_item(about.LOG_PROBS, Standing.ASSUMED, by))
    if checked is None:
        return tuple(arrived)
    found = {item.name: item for item in checked.assumptions}
    order = found.get(about.ORDER)
    if order is not None and seen.shuffled:
        found[about.ORDER] = order.model_copy(update=_CUT_OFF | {"by": f"{order.by}{_SAY}"})
        if options.whole_batches:
            del found[about.ORDER]
    return tuple(_joined(item, found.get(item.name)) for item in arrived)


def _joined(arrived: Assumption, found: Assumption | None) -> Assumption:
    if found is None:
        return arrived
    if arrived.doubted and _rank(arrived) >= _rank(found):
        return arrived
    return found


def _rank(item: Assumption) -> tuple[int, bool]:
    return _STANDINGS.index(item.stands), not item.settled


def _item(name: str, stands: Standing, by: str, text: str | None = None) -> Assumption:
    return Assumption(name=name, text=text or TEXTS[name], stands=stands, by=by)


def _held_out(options: WatchOptions, seen: Seen) -> Assumption:
    stands, by = standing(about.HELD_OUT, options.declared, seen.facts)
    if stands is Standing.ASSUMED and seen.recurs:
        stands = Standing.VIOLATED
        by = (
            "prompts recur across steps, as training epochs do: a policy trained or chosen on them "
            "is not independent of them; --declare held-out where none was"
        )
    return _item(about.HELD_OUT, stands, by)


def _one_law(options: WatchOptions) -> Assumption:
    text = "one policy made all rows of an interval; of several visits to a prompt one counts"
    stands, by = Standing.CHECKED, "step, policy and run do not change within it"
    if options.one_policy:
        stands, by = Standing.DECLARED, "--one-policy"
    if options.average:
        text = (
            "the running average over the prompts so far is meant, whatever the policy became; of "
            "several visits to a prompt one counts"
        )
        by = "--average: a bound that needs no common law"
    return _item(about.ONE_LAW, stands, by, text)


def _complete(options: WatchOptions, seen: Seen) -> Assumption:
    stands, by = standing(about.COMPLETE, options.declared, seen.facts)
    if seen.lost is not None:
        stands = Standing.VIOLATED
        by = (
            f"{seen.lost} is gone, and with it may be rows that were written to it since the last "
            "look; put it back, or take files away once they are finished and compressed"
        )
    elif seen.missing is not None and stands is Standing.ASSUMED:
        stands = Standing.VIOLATED
        by = (
            f"{seen.missing}: which are missing may depend on how they turned out; log failed ones "
            "too, or --declare complete where those were left out blindly"
        )
    return _item(about.COMPLETE, stands, by)


def _order(options: WatchOptions, seen: Seen) -> Assumption:
    if seen.launch:
        by = "prompts count in the order of `launch`, set before any response was made"
        return _item(about.ORDER, Standing.CHECKED, by)
    if options.whole_batches:
        return _item(about.ORDER, Standing.DECLARED, "--whole-batches")
    if seen.between:
        by = (
            "several files grow at once and rows have no launch: a worker whose responses are "
            "short is ahead; log launch, or say --whole-batches where each file grows by whole "
            "batches that are waited for"
        )
        return _item(about.ORDER, Standing.VIOLATED, by)
    if seen.shuffled:
        by = "the log was finished when it was read: an order made from prompt ids alone"
        return _item(about.ORDER, Standing.CHECKED, by)
    by = (
        "rows have no launch, and nobody said whether they are written as responses finish; log "
        "launch, or say --whole-batches where batches are written whole"
    )
    return _item(about.ORDER, Standing.ASSUMED, by)


def _random_labels(options: WatchOptions, seen: Seen) -> Assumption:
    stands, by = standing(about.RANDOM_LABELS, options.declared, seen.facts)
    if seen.uneven:
        stands = Standing.VIOLATED
        by = (
            "rollouts were labelled one by one while prompts have unequal numbers of rollouts, so "
            "that some prompts are labelled more often than others; label whole prompts"
        )
    return _item(about.RANDOM_LABELS, stands, by)


def _range(name: str, column: str) -> Assumption:
    text = f"the range of {column} was fixed before this log was seen"
    option = "--reward-range" if column == "reward" else "--gold-range, else --reward-range"
    return _item(name, Standing.DECLARED, option, text)


# --- several looks, several series ----------------------------------------------------------------


def worse(before: Checked | None, now: Checked) -> Checked:
    """Return what was found now, where an earlier look did not find worse: doubts stay."""
    if before is None:
        return now
    return replace(
        now,
        assumptions=worst_assumptions([now.assumptions, _doubted(before.assumptions)]),
    )


def _doubted(items: Iterable[Assumption]) -> tuple[Assumption, ...]:
    return tuple(item for item in items if item.doubted)


def worst_assumptions(several: Sequence[Iterable[Assumption]]) -> tuple[Assumption, ...]:
    """Return each assumption as it stands in the worst of several results."""
    out: dict[str, Assumption] = {}
    for item in (item for items in several for item in items):
        if item.name not in out or _rank(item) > _rank(out[item.name]):
            out[item.name] = item
    return tuple(out.values())


def worst_health(several: Sequence[Iterable[Check]]) -> tuple[Check, ...]:
    """Return each check as it turned out in the worst of several series."""
    out: dict[str, Check] = {}
    for item in (item for items in several for item in items):
        known = out.get(item.check)
        if known is None or _STATUSES.index(item.status) > _STATUSES.index(known.status):
            out[item.check] = item
    return tuple(out.values())
