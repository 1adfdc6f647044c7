"""The page of one certificate."""

from collections.abc import Iterator

from taut.auditing.certificate import Certificate, Target, TermResult
from taut.decisions.transport.result import Transport
from taut.report import names, statements, wording
from taut.report.digits import (
    count,
    decimals_for,
    down,
    level_text,
    near,
    percent,
    plus_minus,
    short,
    up,
)
from taut.report.names import TARGET_FORMULAS, TARGET_NAMES, TERM_NAMES
from taut.report.page.blocks import Block, Card, Figure, Section, Status, Table, Text, View
from taut.report.page.views import parts
from taut.report.page.views.parts import NONE, number, span
from taut.report.terminal.certificate import half_width, ratio_text
from taut.report.wording import ends

PAPER_NOTE = "Theorem 1 of arXiv 2602.21765 on the same log; half-widths, reward units."
_WHY = {
    "sampling": "Mostly chance: the log holds only so many prompts.",
    "reward_shift": "Mostly the learned reward itself, which is not the true one.",
    "kl_clipping": "Mostly the clipped part of the KL cost.",
}


def certificate_view(found: Certificate) -> View:
    """Return the page of one certificate."""
    verdict = wording.verdict(found)
    status = Status("vacuous" if verdict.learned_only else str(verdict.status))
    return View(
        verdict=verdict.sentence,
        kind="taut audit",
        status=status,
        about=_about(found, verdict),
        cards=cards(found),
        lead=[*verdict.details, *_counts(found)],
        plain=plain(found),
        sections=sections(found),
    )


def plain(found: Certificate) -> list[str]:
    """Say what it is about, for who never saw taut, the target included."""
    log = found.log
    words = parts.plain_words(log.rollouts, log.prompts, log.gold_rollouts, level_text(found.level))
    if found.target != "reward":
        clipped = " (cut at a threshold τ)" if found.target == "clipped" else ""
        beta = "" if found.settings.beta is None else f" β = {short(found.settings.beta)}"
        words.insert(
            2,
            f"What is certified is the {TARGET_NAMES[found.target]}: the true reward less a price"
            f"{beta} for each nat by which the policy drifted from its reference model{clipped}.",
        )
    return words


def _about(found: Certificate, verdict: wording.Verdict) -> str:
    name = f"{TARGET_NAMES[found.target]} {TARGET_FORMULAS[found.target]}"
    if verdict.learned_only:
        return f"for the true {name}"
    both, digits = ends(found.certificate), wording.table_decimals(found)
    if both is None:
        return name
    return (
        f"{name} is between {span(both, digits).replace(' to ', ' and ')} {wording.units_of(found)}"
    )


def _counts(found: Certificate) -> Iterator[str]:
    if found.log.cells > 1:
        yield statements.estimand_text(found.log)
    yield f"{statements.log_text(found.log)}."


# --- the answers at the top -----------------------------------------------------------------------


def cards(found: Certificate) -> list[Card]:
    """Answer what was measured, what is certified, why they differ, and what to do next."""
    made = (_measured(found), _certified(found), _why(found), _next(found))
    return [card for card in made if card is not None]


def _measured(found: Certificate) -> Card | None:
    value, digits = wording.measured_of(found), wording.headline_decimals(found)
    if value is None:
        value, digits = found.measured.reward, 3
    scored = "learned reward"
    if found.target != "reward":
        scored = "learned reward less the KL cost"
    text = f"The mean {scored} over {count(found.log.certifying_prompts, 'prompt')}."
    return Card("Measured", near(value, digits), text, "learned")


def _certified(found: Certificate) -> Card:
    name, level = TARGET_NAMES[found.target], level_text(found.level)
    both, digits = ends(found.certificate), wording.headline_decimals(found)
    status = wording.status_of(found)
    if wording.learned_only(found) or both is None or status == "vacuous":
        proxy = ends(wording.proxy_of(found))
        text = f"Nothing is known about the true {name} yet."
        if proxy:
            digits = decimals_for(proxy[1] - proxy[0])
            text += f" The learned one is {span(proxy, digits)} on new prompts ({level})."
        return Card("Certified", "nothing", text, "doubt")
    title = {"certified": "Certified", "conditional": "Certified, on conditions"}.get(
        str(status), "Estimated"
    )
    where = f"The true {name} lies here with a probability of {level}"
    where += {
        "certified": ".",
        "conditional": ", if the assumptions below hold.",
    }.get(str(status), ", by estimate: there is no guarantee.")
    return Card(title, f"{down(both[0], digits)} to {up(both[1], digits)}", where, "certified")


def _why(found: Certificate) -> Card | None:
    """Name the largest of the three terms, and what it takes."""
    if wording.learned_only(found) or (not found.log.gold_rollouts and found.coverage is None):
        text = (
            "Nothing in the log says how far the learned reward is from the true one: that takes "
            "gold labels on a random part of the rollouts."
        )
        return Card("Why they differ", "no gold labels", text)
    known = [(name, both) for name, term in found.terms.named() if (both := ends(term))]
    if not known:
        reasons = [term.reason for term in found.terms if term.reason]
        return Card("Why they differ", "", reasons[0]) if reasons else None
    name, both = max(known, key=lambda item: max(abs(item[1][0]), abs(item[1][1])))
    digits = decimals_for(both[1] - both[0])
    answer = f"{down(both[0], digits, signed=True)} to {up(both[1], digits, signed=True)}"
    text = _WHY[name]
    if name == "reward_shift" and found.log.gold_rollouts and both[1] < 0:
        text = (
            "Mostly the learned reward: on the labelled rollouts gold is that much lower, beyond "
            "chance. Training has found what the reward model overrates."
        )
    elif name == "reward_shift" and both[0] <= 0 <= both[1]:
        text = "Little: on the labelled rollouts gold and learned reward agree within chance."
    return Card("Why they differ", answer, text)


def _next(found: Certificate) -> Card | None:
    broken = parts.worst_check(found.health)
    if broken is not None:
        text = f"{statements.check_name(broken)}: {broken.remedy or broken.detail}"
        return Card("Do next", "mend the log", text, "doubt")
    advice, declare = wording.advice_text(found), wording.to_declare(found)
    text = " ".join(part for part in (advice, declare) if part)
    return Card("Do next", "", text) if text else None


# --- sections -------------------------------------------------------------------------------------


def sections(found: Certificate) -> list[Section]:
    """Return what stands below the answers."""
    title = f"From measured to true {TARGET_NAMES[found.target]}"
    return [
        Section("terms", title, [Figure("waterfall"), *_terms(found)], _units(found)),
        Section("ledger", "Error budget δ", parts.ledger(found.ledger, found.settings.delta)),
        Section("targets", "The three targets", [_targets(found)], _each(found)),
        Section("routes", "Ways to the true reward", [*_routes(found)]),
        Section("transport", "Calibrated reward", [*_transport(found)]),
        Section("tau", "Log-ratio and clipping", [*_tau(found)]),
        parts.health(found.health),
        parts.assumptions(found.assumptions, [wording.to_declare(found)]),
        Section("paper", "Beside the paper", [_paper(found)], PAPER_NOTE),
        Section("settings", "Settings", [_settings(found)]),
    ]


def _units(found: Certificate) -> str:
    return f"Each error's share, {wording.units_of(found)}; holds at {level_text(found.level)}."


def _each(found: Certificate) -> str:
    return f"Each holds at {level_text(found.level)} on its own, not all at once."


def _terms(found: Certificate) -> Iterator[Block]:
    known = [both for term in found.terms if (both := ends(term))]
    digits = decimals_for(max((high - low for low, high in known), default=None), steps=100)
    rows = [_term(name, term, digits) for name, term in found.terms.named()]
    titles = ("error", "lower to upper", "how it is bounded", "status", "source")
    yield Table(titles, rows, {1}, "The three errors between measured and true")
    if wording.learned_only(found):
        both = ends(wording.proxy_of(found))
        yield Text(f"Learned reward alone: {span(both, wording.table_decimals(found))}.")


def _term(name: str, term: TermResult, digits: int) -> tuple:
    both = ends(term)
    where = NONE
    if both:
        where = f"{down(both[0], digits, signed=True)} to {up(both[1], digits, signed=True)}"
    how = statements.route_name(term.route) if both else term.reason or ""
    return TERM_NAMES[name], where, how, Status(str(term.status)), term.source


def _targets(found: Certificate) -> Table:
    digits = wording.table_decimals(found)
    rows = [_target(name, entry, digits) for name, entry in found.targets.items()]
    strong = [at for at, name in enumerate(found.targets) if name == found.target]
    titles = ("target", "what it is", "measured", "lower to upper", "status", "")
    return Table(titles, rows, {2, 3}, "The three targets", strong)


def _target(name: str, entry: Target, digits: int) -> tuple:
    label, formula = TARGET_NAMES[name], TARGET_FORMULAS[name]
    if entry.unavailable:
        return label, formula, NONE, NONE, Status("unavailable"), entry.unavailable
    proxy = ends(entry.proxy)
    note = ""
    if entry.status == "vacuous" and proxy:
        note = f"learned {span(proxy, digits)}, {entry.proxy.status}"
    worth = Status(str(entry.status or "vacuous"))
    return label, formula, number(entry.measured, digits), span(ends(entry), digits), worth, note


def _routes(found: Certificate) -> Iterator[Block]:
    """Show every way to bound the reward shift beside the one taken, where there is a choice."""
    choice = any(item.route in ("paper", "centred") and ends(item) for item in found.routes)
    if found.coverage is None and not choice:
        return
    digits, rows, strong = wording.table_decimals(found), [], []
    for at, item in enumerate(found.routes):
        both = ends(item)
        taken = both is not None and not item.reason
        strong += [at] if taken else []
        worth = Status(str(item.status)) if both else "not open"
        name = names.ROUTE_LABELS.get(item.route, item.route)
        rows.append((name, span(both, digits), worth, "taken" if taken else item.reason))
    yield Text("Each would hold on its own.", "quiet")
    yield Table(
        ("way", "lower to upper", "status", ""), rows, {1}, "Ways to the true reward", strong
    )
    if found.coverage is not None:
        yield Text(f"{statements.coverage_text(found.coverage)} (§3.7).", "quiet")
    if sensitive := statements.sensitivity_text(found):
        yield Text(f"{sensitive}.")


def _transport(found: Certificate) -> Iterator[Block]:
    if found.transport is None:
        return
    calibrated = Transport.model_validate(found.transport)
    yield Text(f"{calibrated.state}: {calibrated.detail}", "strong")
    yield Text(f"{statements.transport_text(calibrated)}.")


def _tau(found: Certificate) -> Iterator[Block]:
    settings = found.settings
    if settings.tau is not None:
        negative = settings.tau if settings.tau_negative is None else settings.tau_negative
        source = f" ({settings.tau_source})" if settings.tau_source else ""
        yield Text(
            f"ℓ is clipped at −{short(negative)} and +{short(settings.tau)} nats{source}: "
            "what that hides is the third error (§4)."
        )
    if found.measured.clipped_share is not None:
        yield Text(f"Clipped: {percent(found.measured.clipped_share)} of the rollouts.")
    for line in statements.log_ratio_lines(found):
        yield Text(f"{line}.", "quiet")


def _paper(found: Certificate) -> Table:
    ours = {name: half_width(term) for name, term in found.terms.named()}
    ours["total"] = half_width(found.certificate)
    digits = decimals_for(max((value for value in ours.values() if value), default=None), steps=50)
    rows = []
    for name, value in ours.items():
        theirs = getattr(found.paper, name)
        label, left = (
            TERM_NAMES.get(name, name),
            NONE if value is None else plus_minus(value, digits),
        )
        if theirs is None:
            rows.append((label, left, NONE, names.PAPER_NEEDS[name]))
        else:
            rows.append((label, left, plus_minus(theirs, digits), ratio_text(value, theirs)))
    return Table(("", "taut", "paper", "paper / taut"), rows, {1, 2}, "Beside the paper", {3})


def _settings(found: Certificate) -> Text:
    return Text(f"{statements.settings_text(found)}.")
