"""The design of a log: draws, labels, units, and how everything stands that a result rests on.

One place decides. Every verb asks here which rows are one draw, under how many laws, whose labels
count, in which units, and what a number made from them can be worth (theory §1, §2, §5).
"""

from dataclasses import dataclass, replace

from taut.draws import assumptions as about
from taut.draws.assumptions import Assumption, Standing, status_of
from taut.draws.declared import Declared, standing
from taut.draws.findings import Findings, look, tests_of_the_whole
from taut.draws.framework_health import BY_DEFAULT, dropped_by_default
from taut.draws.health import Check, check_health
from taut.draws.labels import LabelKind, Labels, describe_labels
from taut.draws.layout import Layout, Whole, in_draw_order, lay_out, settle
from taut.draws.modes import LIST, REPLACEMENT
from taut.draws.rollouts import Blocks, Rollouts
from taut.draws.sheets import SheetLabels, has_equal_chances
from taut.draws.units import MOST_CLIPPED, Units, clipped_share, measure_units
from taut.errors import AssumptionError, LogError
from taut.logs.facts import LogFacts
from taut.types import Status

# What every number made from the audited draws rests on.
_ALWAYS = (
    about.HELD_OUT,
    about.ONE_LAW,
    about.COMPLETE,
    about.REPLACEMENT,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What the rows of a log, or of a part of it, are worth.

    Attributes:
        whole: What was decided on the whole log.
        rollouts: The rows, with one prompt key per distinct prompt.
        declared: What was said of them.
        units: Their scales.
        layout: Their draws.
        ordered: Rows and draws again, rows in draw order.
        labels: How they are labelled; None without labels.
        sheet: The blocks that its labels certify in, where they came on a sheet and these rows
            are the draws that it dealt, of one law; else None.
        findings: What the tests of the assumptions found.
        checks: Their health.
        assumptions: What a result may rest on, by name.
    """

    whole: Whole
    rollouts: Rollouts
    declared: Declared
    units: Units
    layout: Layout
    ordered: tuple[Rollouts, Layout]
    labels: Labels | None
    findings: Findings
    checks: tuple[Check, ...]
    assumptions: dict[str, Assumption]
    sheet: SheetLabels | None = None

    def in_draw_order(self) -> "Design":
        """Return the same with rows in draw order, for what does not ask where they stood."""
        rollouts, layout = self.ordered
        return replace(self, rollouts=rollouts, layout=layout)

    @property
    def blocks(self) -> Blocks:
        """All draws, in draw order."""
        return self.layout.blocks

    @property
    def one_law(self) -> bool:
        """Draws are identically distributed: predictable bets hold (theory §2.4)."""
        return self.layout.one_law

    @property
    def log_probs_sound(self) -> bool:
        """No test found log-probs that cannot be right."""
        return self.assumptions[about.LOG_PROBS].stands is not Standing.VIOLATED

    def resting_on(self, *names: str) -> tuple[Assumption, ...]:
        """Return what a number rests on: the layout always, and the named assumptions."""
        wanted = (*_ALWAYS, *names)
        if about.RANDOM_LABELS in names:
            wanted = (*wanted, about.LABEL_CHANCES)
        return tuple(self.assumptions[name] for name in wanted if name in self.assumptions)

    def status(self, *names: str) -> Status:
        """Return what a number can be worth that rests on the layout and the named assumptions."""
        return status_of(self.resting_on(*names))


def settled(rollouts: Rollouts) -> Whole:
    """Decide what holds for every part of a log: its prompts, and what tests of all of it say."""
    whole = settle(rollouts)
    return replace(whole, tests=tests_of_the_whole(whole.rollouts))


def design(
    rollouts: Rollouts,
    declared: Declared,
    *,
    whole: Whole | None = None,
    logs: int = 1,
    sampler: bool = True,
) -> Design:
    """Decide what a log's rows are worth.

    Args:
        rollouts: The rows; a part of `whole.rollouts` where that is given.
        declared: What was said of them.
        whole: What was decided on the whole log; decided here where absent.
        logs: Parts of one log that are looked at, this among them.
        sampler: `behaviour_logprob` is that of the policy that made these rows; False for reward
            data, and for rows beside them, where it is that of another policy.

    Raises:
        LogError: No rows, or numbers beyond what can be averaged.
        AssumptionError: Gold outside its range.
    """
    if len(rollouts) == 0:
        raise LogError("the log holds no rollouts; expected at least one row.")
    if whole is None:
        whole = settle(rollouts)
        rollouts = whole.rollouts
    shared = () if len(rollouts) == len(whole.rollouts) else whole.tests
    units = measure_units(
        rollouts,
        reward_range=declared.reward_range,
        gold_range=declared.gold_range,
        gold_scale=declared.gold_scale,
    )
    layout = lay_out(rollouts, seed=declared.seed, mode=declared.prompts)
    labels = describe_labels(rollouts, layout)
    sheet = _sheet(rollouts, layout, declared)
    tested = labels if _compared(rollouts.sheet, sheet) else None
    ordered = in_draw_order(rollouts, layout)
    findings = look(*ordered, tested, declared, shared=shared, logs=logs, sampler=sampler)
    return Design(
        whole=whole,
        rollouts=rollouts,
        declared=declared,
        units=units,
        layout=layout,
        ordered=ordered,
        labels=labels,
        findings=findings,
        sheet=sheet,
        checks=check_health(*ordered, whole, units, findings),
        assumptions={
            item.name: item
            for item in _assumptions(
                rollouts, layout, labels, units, declared, whole, findings, sheet
            )
        },
    )


def _sheet(rollouts: Rollouts, layout: Layout, declared: Declared) -> SheetLabels | None:
    """Return the sheet of a log whose blocks are draws of one law here."""
    sheet = rollouts.sheet
    if sheet is None or sheet.part or declared.imputed or not layout.one_law:
        return None
    return sheet if sheet.has_draws(layout.blocks.rows, layout.blocks.starts) else None


def _compared(drawn: SheetLabels | None, sheet: SheetLabels | None) -> bool:
    """Whether tests of blind labels apply: unequal chances and gaps may go with rewards."""
    return drawn is None or (drawn.uniform and (drawn.complete or sheet is None))


def refuse_clipped_estimate(design: Design) -> None:
    """Stop where the learned reward is the estimate and its range cuts much of it off.

    Raises:
        AssumptionError: More than a fifth of the rewards lie outside the declared range.

    Source: theory §1.
    """
    share = clipped_share(design.rollouts, design.units)
    if design.units.reward_declared and share > MOST_CLIPPED:
        low, high = design.units.reward_range
        seen = design.rollouts.reward
        raise AssumptionError(
            f"{100 * share:.3g}% of the rewards lie outside the declared range [{low:g}, {high:g}] "
            f"(they reach from {seen.min():.6g} to {seen.max():.6g}, mean {seen.mean():.6g}): what "
            "is left is not the reward that was measured. Declare a range that holds for nearly "
            "all possible responses."
        )


def _assumptions(rollouts, layout, labels, units, declared, whole, findings, sheet):
    """Yield every assumption with how it stands (the table of theory §5)."""
    facts = rollouts.facts
    yield _held_out(layout, declared, whole, facts)
    yield _one_law(layout, rollouts)
    yield _complete(rollouts, layout, declared, whole, findings)
    if declared.prompts == REPLACEMENT:
        yield Assumption(
            name=about.REPLACEMENT,
            text="prompts were drawn with replacement, and `group` tells their draws apart",
            stands=Standing.DECLARED,
            by="--prompts with-replacement",
        )
    yield _reward_range(rollouts, units)
    if labels is not None:
        yield _random_labels(labels, declared, rollouts, findings, sheet)
        if labels.uneven and sheet is None:
            yield _label_chances()
        yield _gold_range(units, declared)
    if rollouts.log_ratio is not None or rollouts.policy_logprob is not None:
        yield _log_probs(rollouts, findings)


def _held_out(layout: Layout, declared: Declared, whole: Whole, facts) -> Assumption:
    text = (
        "prompts are independent draws, and no policy, choice of what is logged, reward model or "
        "range looked at them before"
    )
    if declared.prompts == LIST:
        text = (
            "no policy, choice of what is logged, reward model or range looked at these prompts "
            "before"
        )
    stands, by = standing(about.HELD_OUT, declared, facts)
    if stands is Standing.ASSUMED and whole.recurs:
        stands = Standing.VIOLATED
        by = (
            "prompts recur across steps, as training epochs do: a policy trained or chosen on them "
            "is not independent of them; --declare held-out where none was"
        )
    elif stands is Standing.ASSUMED and layout.cell_count > 1 and whole.steps > 1:
        stands = Standing.VIOLATED
        by = (
            "several steps are averaged, and in a training run later policies depend on earlier "
            "prompts; audit --by step, or --declare held-out where no prompt was trained on"
        )
    return Assumption(name=about.HELD_OUT, text=text, stands=stands, by=by)


def _one_law(layout: Layout, rollouts: Rollouts) -> Assumption:
    text = "draws are alike in which steps, policies and runs answered them"
    by = "every draw has the same number of rows in each step, policy and run"
    if layout.cell_count <= 1:
        by = "one step, policy and run"
    if not layout.one_law:
        text = "the average over the draws of this log, as it is laid out, is meant"
        by = (
            f"{layout.cell_count} steps, policies and runs, with different rows for different "
            "prompts: order-free bounds are used, which need no common law"
        )
        if layout.mode == LIST:
            by = "--prompts list: order-free bounds on the mean of this list"
    return Assumption(name=about.ONE_LAW, text=text, stands=Standing.CHECKED, by=by)


def _complete(
    rollouts: Rollouts, layout: Layout, declared: Declared, whole: Whole, findings: Findings
) -> Assumption:
    text = "which rollouts are in the log, and how many of each prompt, is blind to their outcomes"
    facts = rollouts.facts
    stands, by = standing(about.COMPLETE, declared, facts)
    origin = rollouts.origin
    found = findings.complete
    settled, short = True, _short_of(facts, whole.rollouts)
    if declared.imputed:
        stands, by = Standing.DECLARED, "--launched, and --missing worst for what is not there"
    elif origin is not None and origin.chosen:
        stands, by = Standing.VIOLATED, "the file says that draws of equal rewards were dropped"
    elif stands is Standing.VIOLATED:  # the log says so itself: no test makes it better
        pass
    elif found.speaks:
        stands, by = found.standing, found.detail
    elif stands is Standing.ASSUMED and dropped_by_default(rollouts, layout.blocks):
        stands, by = Standing.IN_DOUBT, BY_DEFAULT
    elif short is not None and stands is not Standing.DECLARED:
        stands, by, settled = Standing.ASSUMED, short, False
    elif rollouts.rejected_rows and stands is not Standing.DECLARED:
        stands = Standing.ASSUMED
        by = (
            f"{rollouts.rejected_rows:,} rows were left out of the log (broken, or without a "
            "reward); --declare complete where that had nothing to do with what they held"
        )
        settled = False
    elif stands is Standing.ASSUMED and _varies(layout):
        sizes = layout.blocks.sizes
        by = (
            f"prompts have between {sizes.min()} and {sizes.max()} rollouts and nobody said why; "
            "--declare complete where none was dropped"
        )
        settled = False
    return Assumption(name=about.COMPLETE, text=text, stands=stands, by=by, settled=settled)


def _short_of(facts: LogFacts | None, rollouts: Rollouts) -> str | None:
    """Say where other rollouts are in the log than it records to have been launched."""
    if facts is None or facts.launched_prompts is None or facts.rollouts_per_prompt is None:
        return None
    launched = facts.launched_prompts * facts.rollouts_per_prompt
    if len(rollouts) > launched:
        return (
            f"{launched:,} rollouts were launched and {len(rollouts):,} are here: some stand "
            "in the log more than once, or belong to another"
        )
    if len(rollouts) == launched:
        return None
    return (
        f"{launched:,} rollouts were launched and {len(rollouts):,} are here; --declare complete "
        "where those that are missing were left out blindly, or --missing worst"
    )


def _varies(layout: Layout) -> bool:
    sizes = layout.blocks.sizes
    return bool((sizes != sizes[0]).any())


def _random_labels(
    labels: Labels, declared: Declared, rollouts: Rollouts, findings: Findings, sheet
) -> Assumption:
    facts = rollouts.facts
    text = "which rollouts carry gold labels is blind to their outcomes"
    stands, by = standing(about.RANDOM_LABELS, declared, facts)
    found = findings.labels
    if labels.kind is LabelKind.ALL:
        stands, by = Standing.CHECKED, "every rollout is labelled"
    elif sheet is not None and not (found.speaks and sheet.complete):
        stands = stands if stands is Standing.DECLARED else Standing.ASSUMED
        stands, by = (stands if sheet.skipped else Standing.RECORDED), _on_sheet(sheet)
    elif not has_equal_chances(facts.random_labels):
        pass  # whatever tests say
    elif found.speaks and stands is not Standing.VIOLATED:
        stands, by = found.standing, found.detail
    elif stands is Standing.ASSUMED:
        by = f"{found.detail}; no test sees every choice: --declare random-labels"
    return Assumption(name=about.RANDOM_LABELS, text=text, stands=stands, by=by)


def _label_chances() -> Assumption:
    """Weights by shares read off the log: nobody said with which chances rows were labelled."""
    return Assumption(
        name=about.LABEL_CHANCES,
        text="prompts were labelled with chances that go by their number of rollouts alone",
        stands=Standing.ASSUMED,
        by="read off the log, as it looks like rollouts labelled one by one: label whole prompts "
        "or one rollout of each, by a sheet of taut, or log label_probability",
    )


def _on_sheet(sheet: SheetLabels) -> str:
    """Say what came back of a sheet."""
    rows, blocks = int(sheet.missing.sum()), len(sheet.horizon)
    if not rows:
        return f"sheet of taut, complete ({blocks:,} units)"
    said = f"sheet of taut, the first {sheet.prefix:,} of {blocks:,} units"
    if not sheet.skipped:
        return said
    return (
        f"{said}; and beyond, {rows:,} rows without a label at their worst, if who left one out "
        "went by it and earlier ones alone"
    )


def _reward_range(rollouts: Rollouts, units: Units) -> Assumption:
    found = _range(about.REWARD_RANGE, "reward", units.reward_declared)
    share = clipped_share(rollouts, units)
    if not units.reward_declared or share <= MOST_CLIPPED:
        return found
    by = f"{100 * share:.3g}% of the rewards lie outside it, and are clipped"
    return found.model_copy(update={"stands": Standing.IN_DOUBT, "by": by})


def _gold_range(units: Units, declared: Declared) -> Assumption:
    found = _range(about.GOLD_RANGE, "gold", units.gold_declared)
    if declared.gold_range is not None or not units.gold_declared:
        return found
    by = "that of --reward-range; --gold-range where gold has a scale of its own"
    return found.model_copy(update={"by": by})


def _range(name: str, column: str, declared: bool) -> Assumption:
    return Assumption(
        name=name,
        text=f"the range of {column} was fixed before this log was seen",
        stands=Standing.DECLARED if declared else Standing.ASSUMED,
        by=f"--{column}-range" if declared else "it was read off the data; declare one",
    )


def _log_probs(rollouts: Rollouts, findings: Findings) -> Assumption:
    found = findings.log_probs
    stands, by = (found.standing if found.speaks else Standing.ASSUMED), found.detail
    if rollouts.facts.log_probs_estimated:
        stands = Standing.VIOLATED
        by = "the log records that its texts were cut into tokens anew, not as they were sampled"
    return Assumption(
        name=about.LOG_PROBS,
        text="log-probs are those of the policy that sampled, and of its reference, from one "
        "engine",
        stands=stands,
        by=by,
    )
