"""What a person sees of an experiment with a known truth: the turn, the certificates, the choice.

Nothing is computed here.
"""

from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from taut.report.digits import count, decimals_for, interval, level_text, near, up
from taut.report.names import TARGET_NAMES
from taut.report.terminal.certificate import certificate_lines
from taut.report.terminal.charts import Axis, Chart, Ink, Line, Ruler, Span
from taut.report.terminal.layout import (
    LABEL,
    NUMBER,
    PICTURE,
    PROSE,
    Report,
    grid,
    heading,
    spaced,
)

LEARNED, TRUE, CERTIFIED = "yellow", "bold green", "blue"
_DIGITS = 3


def lab_report(found: Any) -> RenderableType:
    """Return the report of an experiment; an audit of one checkpoint in it stands first.

    Args:
        found: A `taut.lab.outcome.Outcome`, which lives above the reports.
    """
    return Report(lambda ink: _lab(found, ink))


def _lab(found: Any, ink: Ink) -> list[RenderableType]:
    first = []
    if found.audit is not None:
        first = [[_audited(found, ink)], certificate_lines(found.audit, ink)]
    parts = (_verdict, _chart, _table, _examples, _foundations, _related)
    return spaced([*first, *(part(found, ink) for part in parts)])


def _audited(found: Any, ink: Ink) -> Text:
    last = found.steps[-1].step
    return heading(ink, f"taut audit, step {last}", "the checkpoint with the best learned reward")


def _verdict(found: Any, ink: Ink) -> list[RenderableType]:
    return [
        ink.text(text, "bold" if place == 0 else "")
        for place, text in enumerate(lab_sentences(found))
    ]


def lab_sentences(found: Any) -> list[str]:
    """Say where the truth turns, what the log proves, what was chosen, and what was covered."""
    turn = found.turn
    sentences = [_turn(found), _proof(turn), _choice(found), _coverage(found)]
    return [text for text in sentences if text]


def has_turned(found: Any) -> bool:
    """Whether the true reward has surely fallen from its best step to the last."""
    turn = found.turn
    return turn.step != found.steps[-1].step and turn.fall > 3 * turn.fall_se


def _turn(found: Any) -> str:
    turn, first, last = found.turn, found.steps[0], found.steps[-1]
    learned = f"the learned reward goes from {near(first.proxy, 2)} to {near(last.proxy, 2)}"
    if not has_turned(found):
        end = near(last.truth.gold, 2)
        return f"No turn yet: the true reward is {end} at the end, while {learned}."
    return (
        f"The true reward turns at step {turn.step}: from {near(turn.gold, 2)} it falls to "
        f"{near(last.truth.gold, 2)}, while {learned}."
    )


def _proof(turn: Any) -> str:
    if turn.seen_from is None:
        return ""
    return (
        f"From step {turn.seen_from} on the log alone proves that the learned reward is too "
        "high: it is above the certificate."
    )


def _choice(found: Any) -> str:
    choice = found.selection
    if choice.chosen is None:
        return "taut select chooses nothing: no certificate says enough."
    text = f"taut select chooses step {choice.chosen}: {_lost(choice.regret)}"
    if choice.remaining == (choice.chosen,):
        text += ", and it certifies that"
    elif choice.certified_regret is not None:
        text += f" (it certifies at most {up(choice.certified_regret, 2)})"
    if choice.best_proxy == choice.chosen:
        return f"{text}. So does the learned reward."
    other = f"step {choice.best_proxy}, {_lost(choice.best_proxy_regret)}"
    return f"{text}. By learned reward it would be {other}."


def _lost(regret: float) -> str:
    return "the best" if regret == 0 else f"{near(regret, 2)} below the best"


def _coverage(found: Any) -> str:
    rows = found.steps
    inside = sum(row.covered["reward"] for row in rows)
    level = level_text(found.level)
    if inside == len(rows):
        return f"The truth is inside the certificate at all {len(rows)} steps (asked for: {level})."
    return (
        f"The truth is inside the certificate at {inside} of {len(rows)} steps (asked for: all, "
        f"{level})."
    )


def _chart(found: Any, ink: Ink) -> list[RenderableType]:
    rows = found.steps
    low, high = found.settings["reward_range"]
    steps = [row.step for row in rows]
    edge = 0.03 * (steps[-1] - steps[0])
    ends = [row.certificates["reward"] for row in rows]
    bars = [
        Line([(step, end.lower), (step, end.upper)], CERTIFIED, letter="|")
        for step, end in zip(steps, ends, strict=True)
    ]
    bands = [
        Line(
            [(step, getattr(end, side)) for step, end in zip(steps, ends, strict=True)],
            CERTIFIED,
            letter=".",
        )
        for side in ("lower", "upper")
    ]
    learned = Line([(row.step, row.proxy) for row in rows], LEARNED, letter="o")
    true = Line([(row.step, row.truth.gold) for row in rows], TRUE, letter="x")
    chart = Chart(
        ink,
        Axis(steps[0] - edge, steps[-1] + edge),
        Axis(low, high),
        [*bands, *bars, learned, true],
        height=14,
        across_name="optimisation step",
    )
    return [_legend(ink), chart]


def _legend(ink: Ink) -> Text:
    text = ink.text("mean reward:", "dim")
    kinds = (("learned", LEARNED, "o"), ("true", TRUE, "x"))
    for name, style, letter in (*kinds, ("certificate of the true one", CERTIFIED, ".")):
        mark = letter if ink.ascii else ink.mark("line")
        text.append("   ").append_text(ink.text(f"{mark * 2} {name}", style))
    return text


def _table(found: Any, ink: Ink) -> list[RenderableType]:
    axis = Axis(*found.settings["reward_range"])
    chosen = found.selection.chosen
    titles = ("step", "learned", "true", "", "certificate", "shift", "KL", "truth")
    cells = [[ink.text(title, "dim") for title in titles]]
    cells += [_row(row, row.step == chosen, axis, ink) for row in found.steps]
    rulers = [Ruler(ink, axis, labels=labels) for labels in (False, True)]
    cells += [["", "", "", ruler, "", "", "", ""] for ruler in rulers]
    cells[-1][6] = ink.text("nats", "dim")
    columns = [NUMBER, NUMBER, NUMBER, PICTURE, NUMBER, NUMBER, NUMBER, LABEL]
    kept: Sequence[int] = range(len(columns))
    if ink.narrow:  # no room for the picture, the shift and the KL
        kept, cells = (0, 1, 2, 4, 7), cells[:-2]
    elif not ink.wide:
        kept = (0, 1, 2, 3, 4, 7)
    cells = [[row[place] for place in kept] for row in cells]
    columns = [columns[place] for place in kept]
    table = grid(*columns, expand=not ink.narrow)
    for row in cells:
        table.add_row(*row)
    return [table]


def _row(row: Any, chosen: bool, axis: Axis, ink: Ink) -> list[RenderableType]:
    end, truth = row.certificates["reward"], row.truth.gold
    bounds, strong = (end.lower, end.upper), "bold" if chosen else ""
    shift = (row.shift.lower + row.shift.upper) / 2
    return [
        ink.text(row.step, strong),
        ink.text(near(row.proxy, _DIGITS)),
        ink.text(near(truth, _DIGITS)),
        Span(ink, axis, bounds, point=truth, guide=row.proxy, style=CERTIFIED),
        ink.text(interval(*bounds, _DIGITS), strong),
        ink.text(near(shift, _DIGITS, signed=True)),
        ink.text(near(row.kl, 1)),
        _inside(row, chosen, ink),
    ]


def _inside(row: Any, chosen: bool, ink: Ink) -> Text:
    word, style = ("inside", "green") if row.covered["reward"] else ("OUTSIDE", "red")
    text = ink.text(word, style)
    return text.append("  ").append_text(ink.text("chosen", "bold")) if chosen else text


def _examples(found: Any, ink: Ink) -> list[RenderableType]:
    examples = found.examples
    if not examples:
        return []
    turn = found.turn.step
    wanted = [row for row in examples if row.step in (examples[0].step, turn, examples[-1].step)]
    lines: list[RenderableType] = [heading(ink, "One response each", "the first that was drawn")]
    for row in wanted:
        scores = f"learned {near(row.reward, 2)}, true {near(row.gold, 2)}"
        lines.append(ink.text(f"step {row.step}, asked “{row.prompt}”: {scores}", "dim"))
        lines.append(Padding(ink.text(row.response or "(nothing)"), (0, 0, 0, 2)))
    return lines


def related_rows(found: Any) -> list[tuple[str, str, str]]:
    """Say of the audited step how its intervals differ: what each is about, its ends, and why.

    Nothing where no audit of it is at hand.
    """
    audit, last = found.audit, found.steps[-1]
    if audit is None or (reward := audit.targets["reward"]).lower is None:
        return []
    alone, main = (reward.lower, reward.upper), (audit.lower, audit.upper)
    together = last.certificates["reward"]
    all_at_once = (together.lower, together.upper)
    digits = decimals_for(min(high - low for low, high in (alone, all_at_once)), steps=20)
    level, steps = level_text(found.level), len(found.steps)
    inside = "inside" if last.covered["reward"] else "OUTSIDE"
    known = f"known here: {inside} the interval of all {steps} steps"
    rows = [("learned", near(last.proxy, digits), "measured; what the policy was trained for")]
    if reward.proxy is not None:
        new = interval(reward.proxy.lower, reward.proxy.upper, digits)
        rows.append(("learned, on new prompts", new, "what other prompts could change"))
    rows += [
        ("true", interval(*alone, digits), f"this step by itself, {level}"),
        (
            f"true, all {steps} steps",
            interval(*all_at_once, digits),
            f"at once, {level}: wider, since whoever looks at {steps} may pick the luckiest",
        ),
    ]
    if audit.target != "reward":
        name = f"true {TARGET_NAMES[audit.target]}"
        why = "less what leaving the reference costs: the certificate above"
        rows.append((name, interval(*main, digits), why))
    rows.append(("truth", near(last.truth.gold, digits), known))
    return rows


def _related(found: Any, ink: Ink) -> list[RenderableType]:
    rows = related_rows(found)
    if not rows:
        return []
    table = grid(LABEL, NUMBER, PROSE)
    for name, ends, why in rows:
        table.add_row(ink.text(name), ink.text(ends), ink.text(why, "dim"))
    title = f"Step {found.steps[-1].step} in several intervals"
    return [heading(ink, title, "mean reward, reward units"), table]


def _foundations(found: Any, ink: Ink) -> list[RenderableType]:
    return [ink.text(text, "dim") for text in made_lines(found)]


def made_lines(found: Any) -> list[str]:
    """Say what was audited, how the truth is known, and how good the reward model is."""
    settings = found.settings
    error = max(row.truth.gold_se for row in found.steps)
    texts = [
        f"Audited: {count(settings['prompts'], 'prompt')} that nothing was trained on, the same "
        f"for all steps; {count(settings['gold'], 'random one')} with gold labels.",
        f"True: mean over {count(settings['truth_prompts'], 'fresh prompt')} a step, standard "
        f"error at most {up(error, 4)}. The audit never sees it.",
    ]
    model, rho = found.reward_model, found.shift_correlation
    if model:
        texts.append(
            f"Reward model: {count(model['pairs'], 'comparison')}, held-out accuracy "
            f"{near(model['accuracy'], 2)}."
        )
    if rho is not None:
        texts.append(f"Measured and true shift over the steps: correlation {near(rho, 3)}.")
    return texts
