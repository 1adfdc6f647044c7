"""The report says what the document says: the verdict first, every status, nothing made up."""

import io
import re
import subprocess
import sys
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.cells import cell_len

import taut
from taut.auditing.certificate import Certificate
from taut.auditing.certificates import Certificates
from taut.auditing.health import Health
from taut.report import digits, names, wording
from taut.report.door import report_text, terminal_report
from taut.report.terminal.layout import print_report, save_svg

WIDTHS = (60, 80, 100, 160)


def term(
    lower, upper, status="certified", *, route=None, source="theory §2.4", assumes=(), delta=0.025
):
    return {
        "lower": lower,
        "upper": upper,
        "delta": delta,
        "status": status,
        "route": route,
        "source": source,
        "assumes": list(assumes),
        "reason": None,
    }


def target(lower, upper, measured, *, status="certified", route="rectifier", proxy=None):
    return {
        "measured": measured,
        "lower": lower,
        "upper": upper,
        "status": status,
        "units": "reward",
        "range": [0, 1],
        "route": route,
        "proxy": proxy,
        "unavailable": None,
    }


def certified():
    """Return a full document: gold labels and a declared largest log-ratio."""
    return {
        "schema": "taut.certificate/2",
        "version": "0.1.0",
        "target": "objective",
        "target_reason": None,
        "settings": {
            "beta": 0.005,
            "delta": 0.05,
            "target": "objective",
            "target_asked": "objective",
            "tau": 24.6,
            "tau_negative": 3.2,
            "tau_source": "auto, from the calibration split",
            "reward_range": [0, 1],
            "reward_range_source": "declared",
            "gold_range": [0, 1],
            "gold_scale": None,
            "method": "betting",
            "side": "both",
            "calibration_share": 0.2,
            "seed": 0,
            "held_out": True,
            "declare": ["held-out", "random-labels"],
            "prompts": "sample",
            "missing": None,
            "launched": None,
            "log_prob_noise": None,
            "coverage": 2.6,
            "reward_mse": 0.0144,
            "log_ratio_max": 60.0,
            "log_ratio_second_moment": None,
            "simultaneous": 1,
        },
        "log": {
            "rollouts": 4000,
            "prompts": 1000,
            "draws": 1000,
            "cells": 1,
            "certifying_prompts": 803,
            "rollouts_per_prompt": {"min": 4, "mean": 4.0, "max": 4},
            "gold_rollouts": 480,
            "gold_prompts": 480,
            "labels": "whole",
            "rejected_rows": 0,
            "steps": 1,
            "reward_range_source": "declared",
        },
        "measured": {
            "objective": 0.8423,
            "reward": 0.8764,
            "raw_reward": 0.8771,
            "gold": 0.8011,
            "kl": 6.83,
            "clipped_kl": 6.81,
            "clipped_share": 0.04,
        },
        "terms": {
            "sampling": term(-0.0212, 0.0198, route="betting"),
            "reward_shift": term(
                -0.0984, -0.0107, route="rectifier", source="theory §3.6", delta=0.02
            ),
            "kl_clipping": term(-0.0061, 0.0004, route="log_ratio_max", source="theory §4.4"),
        },
        "certificate": {
            "lower": 0.7166,
            "upper": 0.8518,
            "level": 0.95,
            "status": "certified",
            "units": "reward",
            "range": [0, 1],
        },
        "proxy": {"lower": 0.8211, "upper": 0.8621, "status": "certified"},
        "targets": {
            "reward": target(0.7531, 0.8879, 0.8764),
            "clipped": target(0.7227, 0.8514, 0.8423),
            "objective": target(0.7166, 0.8518, 0.8423),
        },
        "coverage": None,
        "routes": [],
        "paper": {
            "alpha": 0.072,
            "sampling": 0.0897,
            "reward_shift": 0.312,
            "kl_clipping": 0.0101,
            "total": 0.4118,
            "coverage": 2.6,
            "reward_mse": 0.0144,
        },
        "comparison": {"normal_lower": 0.8252, "normal_upper": 0.8594, "status": "estimated"},
        "log_ratio": {
            "k1": 6.83,
            "k2": 31.2,
            "k3": 6.1,
            "mean_exp_minus": 0.962,
            "clipped_share_positive": 0.012,
            "clipped_share_negative": 0.0004,
            "max": 41.3,
            "min": -7.2,
        },
        "token_clipping": {
            "clip": 10.0,
            "bias": 0.013,
            "absolute": 0.019,
            "negative_bound": 0.0081,
            "share_changed": 0.021,
        },
        "ledger": [
            {"event": "lower end (rectifier blocks)", "delta": 0.025},
            {"event": "upper end (rectifier blocks)", "delta": 0.025},
        ],
        "assumptions": [
            {
                "name": "held-out",
                "text": "prompts are independent draws, untouched before",
                "stands": "declared",
                "by": "--declare held-out",
            },
            {
                "name": "complete",
                "text": "which rollouts are in the log is blind to their outcomes",
                "stands": "recorded",
                "by": "the log's own record (trl)",
            },
            {
                "name": "random-labels",
                "text": "which rollouts carry gold labels is blind to their outcomes",
                "stands": "declared",
                "by": "--declare random-labels",
            },
            {
                "name": "reward-range",
                "text": "the range of reward was fixed before this log was seen",
                "stands": "checked",
                "by": "a test",
            },
        ],
        "health": [
            *(
                {"check": name, "status": "pass", "detail": "fine", "remedy": ""}
                for name in ("duplicates", "recurring_prompts", "log_ratio_zero", "finite", "drift")
            ),
            {
                "check": "truncated",
                "status": "warn",
                "detail": "3.2% of responses were cut at the length limit.",
                "remedy": "Raise the limit, or read the certificate as one for cut responses.",
            },
            {
                "check": "token_logprobs",
                "status": "not_checked",
                "detail": "no token log-probs",
                "remedy": "",
            },
        ],
        "advice": {"text": "Label 400 more rollouts with gold rewards.", "lower_gain": 0.0213},
    }


def vacuous():
    """Return a document without labels or declarations: only the learned reward is certified."""
    document = certified()
    proxy = {"lower": 0.8211, "upper": 0.8621, "status": "certified"}
    document["proxy"] = proxy
    document["terms"]["reward_shift"] = term(
        -0.8764, 0.1236, "vacuous", route="trivial", source="theory §3.9"
    )
    document["certificate"].update(lower=-0.06, upper=0.98, status="vacuous")
    for name, entry in document["targets"].items():
        shift = 0.034 if name == "reward" else 0.0
        entry.update(lower=0.0 - shift, upper=1.0 - shift, status="vacuous", route="trivial")
        entry["proxy"] = {
            "lower": 0.8211 + shift,
            "upper": 0.8621 + shift,
            "status": "certified",
        }
    document["log"].update(gold_rollouts=0, gold_prompts=0)
    document["measured"]["gold"] = None
    document["paper"].update(reward_shift=None, total=None, coverage=None, reward_mse=None)
    document["advice"] = {"text": "Label 200 rollouts with gold rewards.", "lower_gain": None}
    return document


def estimated():
    """Return a document without a declared bound on the log-ratio: J* is an estimate only."""
    document = certified()
    document["terms"]["kl_clipping"] = term(
        -0.0127,
        0.0004,
        "estimated",
        route="pareto_tail",
        source="theory §4.4",
        assumes=["the tail of the log-ratio follows a generalised Pareto law"],
    )
    document["certificate"].update(lower=0.7101, status="estimated")
    document["targets"]["objective"].update(lower=0.7101, status="estimated")
    document["paper"].update(kl_clipping=None, total=None)
    return document


def conditional():
    document = certified()
    document["terms"]["reward_shift"] = term(
        -0.13,
        0.13,
        "conditional",
        route="paper",
        source="theory §3.1",
        assumes=["coverage C is at most 1.2 and L at most 0.012, as declared"],
    )
    document["certificate"].update(lower=0.69, status="conditional")
    document["assumptions"].append(
        {
            "name": "quantity",
            "text": "coverage C is at most 1.2 and L at most 0.012, as declared",
            "stands": "declared",
            "by": "declared",
        }
    )
    return document


def reward_only():
    """Return a document of a log without log-probs: only E[r*] can be spoken of."""
    document = certified()
    document["target"] = "reward"
    for name in ("clipped", "objective"):
        document["targets"][name] = {"unavailable": "the log has no log-probs"}
    document["log_ratio"] = document["token_clipping"] = None
    document["measured"].update(objective=None, kl=None, clipped_kl=None, clipped_share=None)
    document["terms"]["kl_clipping"] = term(0.0, 0.0, source="theory §4")
    document["settings"].update(beta=0.0, tau=None, tau_negative=None, tau_source=None)
    document["certificate"].update(lower=0.7531, upper=0.8879)
    document["paper"].update(kl_clipping=None, total=None)
    return document


def other_scale():
    """Return a document on a reward scale of [-4, 4], measured below zero."""
    document = certified()
    document["settings"]["reward_range"] = [-4, 4]
    document["measured"].update(objective=-1.2, reward=-1.1)
    document["certificate"].update(lower=-1.538, upper=-0.92)
    for entry in document["targets"].values():
        entry.update(measured=-1.2, lower=-1.538, upper=-0.92)
    return document


def by_step():
    groups = []
    for index, (measured, lower, upper) in enumerate(
        [(0.61, 0.52, 0.66), (0.74, 0.63, 0.77), (0.84, 0.7166, 0.8518), (0.91, 0.58, 0.79)]
    ):
        document = certified()
        document["targets"]["objective"].update(measured=measured, lower=lower, upper=upper)
        document["measured"]["objective"] = measured
        document["certificate"].update(lower=lower, upper=upper, level=0.9875)
        groups.append({"value": 100 * (index + 1), "certificate": document})
    return {
        "schema": "taut.certificates/2",
        "version": "0.1.0",
        "by": "step",
        "delta": 0.05,
        "groups": groups,
    }


def unbounded():
    """Return a document whose target nothing bounds from below."""
    document = certified()
    for entry in (document["certificate"], document["targets"]["objective"]):
        entry.update(lower=None, status="vacuous")
    document["certificate"]["range"] = [None, 1]
    for entry in (document["proxy"], document["terms"]["kl_clipping"]):
        entry.update(lower=None)
    document["paper"].update(total=None, kl_clipping=None)
    return document


DOCUMENTS = {
    "certified": certified,
    "vacuous": vacuous,
    "estimated": estimated,
    "conditional": conditional,
    "reward only": reward_only,
    "other scale": other_scale,
    "unbounded": unbounded,
}


def certificate(document):
    return Certificate.model_validate(document)


def page(document):
    """Return the report of a certificate, given as plain data."""
    return terminal_report(certificate(document))


def groups_page(document):
    return terminal_report(Certificates.model_validate(document))


def notebook(document):
    return certificate(document)._repr_html_()


def health(checks):
    log = {"rollouts": 4000, "prompts": 1000, "draws": 1000, "cells": 1, "labels": "whole"}
    return Health.model_validate(
        {"log": {**log, "rejected_rows": 0}, "certifiable": [], "assumptions": [], "health": checks}
    )


def shown(renderable, *, width=100, encoding="utf-8"):
    """Return what is printed to a stream that is no terminal."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    print_report(renderable, file=stream, width=width)
    return raw.getvalue().decode(encoding)


def flat(text):
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (certified, "Of the 0.84 measured, at least 0.71 is real (95%)."),
        (
            conditional,
            "If coverage C is at most 1.2 and L at most 0.012, as declared: "
            "of the 0.84 measured, at least 0.69 is real (95%).",
        ),
        (
            estimated,
            "Of the 0.84 measured, at least 0.71 seems real – an estimate, not a guarantee.",
        ),
        (
            vacuous,
            "For the learned reward only: measured 0.842, at least 0.821 on new prompts (95%). "
            "Nothing is known about the true reward yet.",
        ),
        (reward_only, "Of the 0.88 reward measured, at least 0.75 is real (95%)."),
        (other_scale, "Measured −1.20; the true value is at least −1.54 (95%)."),
    ],
)
def test_report_opens_with_the_verdict(make, sentence):
    """The first words on the page are the answer, for every kind of certificate."""
    assert flat(shown(page(make()), width=160)).startswith(sentence)


def test_printed_ends_are_never_better_than_the_true_ones():
    """A lower end of 0.7199 must not be printed as 0.72: the claim would be false."""
    document = certified()
    document["certificate"]["lower"] = 0.7199
    assert "at least 0.71 " in wording.verdict(certificate(document)).sentence


def test_refuted_measurement_is_said():
    """Where even the upper end lies below what was measured, the verdict says so."""
    document = certified()
    document["certificate"].update(lower=0.344, upper=0.396)
    sentence = wording.verdict(certificate(document)).sentence
    assert sentence == "Of the 0.842 measured, at least 0.344 and at most 0.396 is real (95%)."


@given(
    value=st.floats(-1e6, 1e6),
    places=st.integers(0, 6),
)
def test_rounding_is_outwards(value, places):
    """Printed lower ends are at most, and printed upper ends at least, the number itself."""
    low, high = (
        Decimal(text.replace("−", "-"))
        for text in (digits.down(value, places), digits.up(value, places))
    )
    assert low <= Decimal(repr(value)) <= high
    assert high - low <= Decimal(1).scaleb(-places)


@pytest.mark.parametrize("name", ["certified", "estimated", "conditional", "vacuous"])
def test_all_three_targets_stand_in_the_report(name):
    """The three targets are always shown, each with its own status, and each on its own."""
    text = shown(page(DOCUMENTS[name]()))
    section = text.split("The three targets")[1].split("Beside the paper")[0]
    for target in ("reward ", "clipped objective", "objective "):
        line = next(line for line in section.splitlines() if line.strip().startswith(target))
        assert re.search("certified|conditional|estimated|vacuous", line)
    assert "each holds at 95% on its own" in section


def test_unavailable_targets_say_why():
    """A target that cannot be had is named, with the reason."""
    text = flat(shown(page(reward_only())))
    assert text.count("unavailable: the log has no log-probs") == 2


def test_estimate_says_why_and_names_the_certified_target():
    """An estimate says why it is one, and that the clipped objective is certified."""
    text = flat(shown(page(estimated())))
    assert "Why: KL clipping assumes that the tail of the log-ratio follows" in text
    assert "The clipped objective is certified: at least 0.72 (95%)." in text


def test_range_read_off_the_data_is_said():
    document = estimated()
    document["settings"]["reward_range_source"] = "read off the data"
    assert "read off the data, not declared" in flat(shown(page(document)))


def test_vacuous_report_keeps_the_vacuous_certificate():
    """Without labels the r* certificate is shown as vacuous, not left out."""
    text = flat(shown(page(vacuous())))
    assert "vacuous for the true objective" in text
    assert "learned 0.8211 to 0.8621, certified" in text
    assert "−0.0600 to 0.9800" in text


def test_paper_stands_beside_ours():
    """Each term of the paper's bound is beside ours; what is missing says what it needs."""
    text = flat(shown(page(certified())))
    assert "sampling ±0.020 ±0.090 4.4×" in text
    assert "total ±0.068 ±0.412 6.1×" in text
    missing = flat(shown(page(vacuous())))
    assert "needs declared C and L (--coverage, --reward-mse)" in missing
    assert "needs all three terms" in missing


def test_normal_interval_is_not_called_a_certificate():
    """The normal interval is for comparison, and says so."""
    text = shown(page(certified()))
    line = next(line for line in text.splitlines() if line.strip().startswith("normal"))
    assert "not a certificate" in line


def test_assumptions_ledger_health_and_advice_are_shown():
    text = flat(shown(page(certified())))
    assert "declared Prompts are independent draws, untouched before – --declare held-out" in text
    assert "recorded Which rollouts are in the log is blind to their outcomes" in text
    assert "checked The range of reward was fixed before this log was seen – a test" in text
    assert "Error budget δ = 0.05: 0.025 lower end (rectifier blocks) + 0.025 upper end" in text
    assert "1 warning, 5 checks passed, 1 could not be checked" in text
    assert "truncated – 3.2% of responses were cut" in text
    assert "→ Raise the limit" in text
    assert "Label 400 more rollouts with gold rewards: the lower end would rise" in text


@pytest.mark.parametrize(("stands", "words"), [("violated", "violated"), ("in_doubt", "in doubt")])
def test_failed_assumption_does_not_read_as_confirmed(stands, words):
    """What a test speaks against is shown as it stands, with what the test found."""
    document = certified()
    found = "labels go with the rewards of a prompt, p = 1e-09, " + "so they are chosen " * 6
    document["assumptions"][2].update(stands=stands, by=found.strip())
    text = flat(shown(page(document)))
    assert f"{words} Which rollouts carry gold labels is blind to their outcomes – labels" in text
    assert "p = 1e-09" in text
    assert f"{words}: which rollouts carry gold labels" in notebook(document).lower()


def test_an_estimate_says_what_is_violated_and_not_what_is_merely_assumed():
    """The reason is the test that failed; what nobody can look at makes no estimate."""
    document = estimated()
    labels, rest = document["assumptions"][2], document["assumptions"][0]
    labels.update(stands="violated", by="labels go with rewards, p = 1e-09")
    rest.update(stands="assumed", by="nobody said so")
    document["terms"]["reward_shift"].update(
        status="estimated", assumes=[rest["text"], labels["text"]]
    )
    text = flat(shown(page(document)))
    assert f"Why: this is violated: {labels['text']} – labels go with rewards" in text
    assert f"assumes that {rest['text']}" not in text


def test_what_is_merely_assumed_says_what_to_declare():
    """One line names the words that --declare takes."""
    document = certified()
    document["assumptions"][0].update(stands="assumed", by="nobody said so")
    document["assumptions"][2].update(stands="assumed", by="nobody said so")
    document["certificate"].update(status="conditional")
    assert "--declare held-out,random-labels" in flat(shown(page(document)))
    assert "--declare" not in flat(shown(page(reward_only()))).replace("– --declare", "")


def test_plain_text_is_the_page_without_colour():
    """The text of `print(certificate)` is the terminal page."""
    text = report_text(certificate(certified()))
    assert "\x1b" not in text
    assert text == shown(page(certified())).strip("\n")


def test_passed_checks_are_only_counted():
    assert "recurring prompts" not in shown(page(certified()))


def test_normal_certificate_fits_a_screen():
    """A full certificate takes at most 55 lines at 100 columns."""
    for make in DOCUMENTS.values():
        assert len(shown(page(make())).splitlines()) <= 55


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_line_is_wider_than_the_terminal(width, encoding):
    """Nothing overflows, and nothing is cut away with dots, from 60 to 160 columns."""
    pages = [page(make()) for make in DOCUMENTS.values()]
    pages += [groups_page(by_step()), terminal_report(health(certified()["health"]))]
    for report in pages:
        text = shown(report, width=width, encoding=encoding)
        assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= width
        assert "…" not in text


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_leaks_from_the_machine_room(name, width):
    """No NaN, None, inf, Python literal or raw key reaches the page."""
    document = DOCUMENTS[name]()
    html = re.sub(r' title="[^"]*"', "", notebook(document))
    for text in (shown(page(document), width=width), html):
        assert not re.search(r"\b(nan|None|inf|True|False|null)\b|[{}\[\]]'|reward_shift", text)


def paths_of(document, prefix=()):
    for key, value in document.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from paths_of(value, (*prefix, key))


def without(path, replacement):
    """Return a full document with one entry replaced."""
    document = certified()
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = replacement
    return document


def may_be_null(path):
    try:
        certificate(without(path, None))
    except ValidationError:
        return False
    return True


NULLABLE = sorted(filter(may_be_null, paths_of(certified())))


def test_what_makes_a_certificate_must_be_there():
    """Level, status, target, seed, ledger and health are never null; the others are tried below."""
    needed = ("target", "certificate.level", "certificate.status", "settings.seed", "ledger")
    assert not {*needed, "health", "assumptions"} & set(map(".".join, NULLABLE))
    assert len(NULLABLE) > 40


@pytest.mark.parametrize("replacement", [None, float("nan"), float("inf")])
@pytest.mark.parametrize("path", NULLABLE, ids=".".join)
def test_whatever_may_be_null_can_be_shown(path, replacement):
    """The report never fails and never leaks, whatever is null or was not a finite number."""
    if replacement is not None and not isinstance(certified_at(path), float):
        replacement = None
    document = without(path, replacement)
    text = shown(page(document)) + notebook(document)
    assert "nan" not in text.replace("unnamed", "")
    assert "None" not in text


def certified_at(path):
    value = certified()
    for key in path:
        value = value[key]
    return value


@settings(max_examples=60, deadline=None)
@given(
    ends=st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=2).map(sorted),
    measured=st.floats(-1e9, 1e9),
    total=st.floats(0, 1e9),
    width=st.integers(60, 160),
)
@example(ends=[0.0, 5e-324], measured=0.0, total=0.0, width=60)
@example(ends=[1.0, 1.0000000000000002], measured=1.0, total=0.0, width=100)
def test_any_numbers_can_be_drawn(ends, measured, total, width):
    """Pictures stand whatever the numbers are: equal, tiny, huge, far apart."""
    document = certified()
    document["certificate"].update(lower=ends[0], upper=ends[1])
    document["targets"]["objective"]["measured"] = measured
    document["terms"]["sampling"].update(lower=ends[0], upper=ends[1])
    document["paper"]["total"] = total
    text = shown(page(document), width=width)
    assert max(cell_len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_streams_without_utf8_get_ascii(encoding):
    """The report never fails to encode; Greek letters are spelled out."""
    for report in (page(certified()), groups_page(by_step())):
        text = shown(report, encoding=encoding)
        assert text.isascii()
        assert "?" not in text
    assert "beta 0.005" in shown(page(certified()), encoding=encoding)


def test_no_colour_when_not_a_terminal():
    assert "\x1b" not in shown(page(certified()))


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_no_color_is_respected(monkeypatch):
    """With NO_COLOR a terminal gets no colour; without it the status is coloured."""
    monkeypatch.setenv("TERM", "xterm-256color")
    colour = re.compile(r"\x1b\[[0-9;]*3[0-7]")
    for set_to, expected in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", set_to)
        stream = Terminal()
        print_report(page(certified()), file=stream, width=100)
        assert bool(colour.search(stream.getvalue())) is expected


def test_text_from_the_log_cannot_drive_the_terminal():
    """Control characters and markup in names are shown as text."""
    document = certified()
    document["assumptions"][0]["by"] = "\x1b[2J[red]x[/red].parquet"
    document["health"][5]["detail"] = "two\nlines [bold]and\x07"
    text = shown(page(document))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[bold]and" in text


def test_report_reads_what_json_gives(tmp_path):
    """A result read back from its file is equal, and gives the same page and the same bytes."""
    found = certificate(certified())
    found.save(tmp_path / "certificate.json")
    again = taut.load(tmp_path / "certificate.json")
    assert again == found
    assert str(again) == str(found)
    assert again.to_json() == found.to_json() == (tmp_path / "certificate.json").read_text()


def test_paper_interval_may_run_off_the_picture():
    """A paper interval much wider than ours does not squeeze ours to a dot: it gets arrows."""
    document = certified()
    document["paper"]["total"] = 50.0
    line = next(
        line for line in shown(page(document)).splitlines() if line.strip().startswith("paper")
    )
    assert "◀" in line and "▶" in line


def test_groups_name_the_best_measured_and_the_best_certified():
    """By step: all rows, the joint level, and that the best measured is not the best certified."""
    text = flat(shown(groups_page(by_step())))
    assert "Step 400 has the best measured value, 0.910." in text
    assert "Step 300 has the best certified lower end, 0.716." in text
    assert "All 4 rows hold together at 95%" in text
    counts = "1,000 / 480"
    for value in (f"100 {counts} 0.610", f"200 {counts} 0.740", f"400 {counts} 0.910"):
        assert value in text


def test_groups_of_learned_rewards_say_so():
    document = by_step()
    for group in document["groups"]:
        group["certificate"] = vacuous()
    text = flat(shown(groups_page(document)))
    assert text.startswith("For the learned reward only. Nothing is known about the true reward")


def test_health_report_shows_every_check_worst_first():
    """`taut check` shows each check with status and remedy; failures come first."""
    checks = [*certified()["health"]]
    checks.append(
        {
            "check": "log_ratio_zero",
            "status": "fail",
            "detail": "all log-ratios are 0.",
            "remedy": "Score with the reference model.",
        }
    )
    text = shown(terminal_report(health(checks)))
    assert flat(text).startswith("1 problem, 1 warning, 5 checks passed, 1 could not be checked.")
    assert text.index("× fail") < text.index("! warn") < text.index("✓ pass")
    assert "→ Score with the reference model." in text
    assert "recurring prompts" in text


def test_svg_is_written(tmp_path):
    path = tmp_path / "report.svg"
    save_svg(page(certified()), path, "taut audit")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<svg")
    assert "0.716" in text


def test_html_escapes_what_comes_from_the_log():
    document = certified()
    document["assumptions"][0]["by"] = "<script>alert(1)</script>"
    document["advice"]["text"] = "a & b <b>"
    page = notebook(document)
    assert "<script>" not in page
    assert "a &amp; b &lt;b&gt;" in page
    assert "at least 0.71 is real (95%)" in page
    assert "warn: truncated – 3.2% of responses" in page
    for word in ("reward", "clipped objective", "objective", "certified", "0.412"):
        assert word in page


def test_every_status_has_its_sentence():
    from taut.types import Status

    assert list(names.HELP_STATUS) == [str(status) for status in Status]


def test_rich_stays_in_its_room():
    """Neither `import taut` nor the wording of the report loads rich."""
    code = (
        "import sys, taut, taut.report.wording, taut.report.notebook, taut.results; "
        "sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
