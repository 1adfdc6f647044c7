"""The page of a plan: what to buy, what it will give, and what the next money buys."""

from taut.decisions.budget.result import Plan
from taut.report.digits import count, decimals_for, near
from taut.report.page.blocks import Card, Figure, Section, Status, Table, Text, View
from taut.report.page.views import parts
from taut.report.terminal.budget import (
    asked_lines,
    marginal_rows,
    marks_of,
    money,
    paper_text,
    promise,
    purchase,
    says_nothing,
    spread_lines,
)


def plan_view(found: Plan) -> View:
    """Return the page of a plan."""
    lead = asked_lines(found)
    if found.chosen.route == "learned":
        lead.append("It says nothing about the true reward: that takes gold labels.")
    elif says_nothing(found):
        lead.append("It will hardly say more than is known without any data.")
    return View(
        verdict=f"Buy {purchase(found.chosen)}.",
        kind="taut plan: a forecast, not a guarantee",
        status=Status("estimated"),
        about="forecast",
        cards=_cards(found),
        lead=lead,
        plain=[
            parts.PLAIN_LEARNED,
            "A plan says, from a small pilot log, how many prompts, rollouts and gold labels to "
            "buy so that the next certificate is as narrow as the money allows.",
        ],
        sections=_sections(found),
    )


def _cards(found: Plan) -> list[Card]:
    digits, best = decimals_for(found.forecast.width, steps=50), marginal_rows(found)[0]
    cost = f"It costs {money(found, found.chosen.cost)}."
    width = near(found.forecast.width, digits)
    cards = [
        Card(
            "Buy", f"{count(found.chosen.prompts, 'prompt')}", f"{purchase(found.chosen)}. {cost}"
        ),
        Card("Forecast", f"{width} wide", promise(found), "certified"),
    ]
    if best[1] != "–":
        step = money(found, found.marginal.step)
        cards.append(Card(f"The next {step}", best[0], f"buy {best[1]}: width {best[2]}."))
    return [*cards, Card("Then", "", found.audit)]


def _sections(found: Plan) -> list[Section]:
    digits, marks = decimals_for(found.forecast.width, steps=50), marks_of(found)
    step = f"next {money(found, found.marginal.step)}"
    budgets = [
        (
            f"{item.budget:,.5g}",
            *(f"{number:,}" for number in (item.prompts, item.rollouts, item.labels)),
            near(item.width, digits),
        )
        for item in found.by_budget
    ]
    rollouts = [
        (
            str(item.rollouts),
            f"{item.prompts:,}",
            f"{item.labels:,}",
            near(item.width, digits),
            marks.get(item.rollouts, ""),
        )
        for item in found.by_rollouts
    ]
    titles = ("budget", "prompts", "rollouts each", "gold labels", "width")
    each = ("K", "prompts", "labels", "width", "")
    by_k = [Table(each, rollouts, {0, 1, 2, 3}, "Best plan at each K")] if len(rollouts) > 1 else []
    rests = [(item.kind, item.text) for item in found.rests_on]
    return [
        Section(
            "marginal",
            f"The {step}",
            [Table((step, "buys", "width", ""), marginal_rows(found), {1, 2}, "Marginal values")],
            "Change of the forecast width, reward units.",
        ),
        Section(
            "budgets",
            "Best plan at each budget",
            [Figure("budget"), Table(titles, budgets, {0, 1, 2, 3, 4}, "Best plan at each budget")],
        ),
        Section("rollouts-each", "Best plan at each K", [Figure("rollouts"), *by_k]),
        Section("paper", "Beside the paper", [Text(paper_text(found))]),
        Section("variances", "Variances", [*map(Text, spread_lines(found))], "Range taken as 1."),
        Section("assumptions", "What it rests on", [Table(("kind", ""), rests)] if rests else []),
        Section("then", "Then", [Text(found.audit, "code")]),
    ]
