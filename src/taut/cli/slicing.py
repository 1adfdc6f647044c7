"""What `taut audit` audits: the log, its slices, best of k, or parts of the reward."""

import click

from taut.cli.reading import name_pairs
from taut.errors import UsageError


def _numbers(option: str):
    def read(_context, _parameter, text: str | None) -> tuple[int, ...] | None:
        if text is None:
            return None
        try:
            return tuple(int(part) for part in text.split(","))
        except ValueError:
            raise UsageError(f"{option} {text}: expected whole numbers, as in 1,4,8.") from None

    return read


def slicing_options(function):
    """Add --by and what goes with it, --pass-at and its kin, and the parts of a reward."""
    for option in reversed(
        (
            click.option(
                "--by",
                multiple=True,
                metavar="COLUMN",
                help="Audit each slice by this column, or by several; all intervals hold together. "
                "Step, policy, run, n_tokens, or any other column by its dotted path.",
            ),
            click.option(
                "--by-file",
                "by_table",
                metavar="FILE",
                help="Table of prompts (CSV, JSONL, Parquet) with prompt_id or prompt, and "
                "columns for --by that the log lacks.",
            ),
            click.option(
                "--weight",
                "weights",
                multiple=True,
                metavar="VALUE=W",
                help="Weight of a slice in the split of delta, fixed before the data; else 1.",
            ),
            click.option(
                "--cut",
                "cuts",
                multiple=True,
                metavar="COLUMN=A,B,…",
                help="Where --by cuts a column of numbers; deciles by default.",
            ),
            click.option(
                "--mix",
                metavar="[COLUMN=]VALUE:SHARE,…",
                help="With --by: the total at a target mix, as in domain=chat:.6,code:.4.",
            ),
            click.option(
                "--gap",
                is_flag=True,
                help="With --by: how far the learned reward is off in each slice, r-hat - r*.",
            ),
            click.option(
                "--pass-at",
                metavar="K,…",
                callback=_numbers("--pass-at"),
                help="That some of k rollouts passes, for each k; 0/1 rewards.",
            ),
            click.option(
                "--all-of",
                metavar="K,…",
                callback=_numbers("--all-of"),
                help="That all of k rollouts pass; the worst of k for graded rewards.",
            ),
            click.option(
                "--best-of",
                metavar="K,…",
                callback=_numbers("--best-of"),
                help="What the best of k rollouts is worth, for graded rewards.",
            ),
            click.option(
                "--parts",
                is_flag=True,
                help="Certify each part rewards.NAME of the reward, and the sum.",
            ),
            click.option(
                "--reward-weights",
                metavar="NAME=W,…",
                help="With --parts: weights of the sum; checked against the reward in the log.",
            ),
            click.option(
                "--gold-part", metavar="NAME", help="With --parts: the part that gold is of."
            ),
            click.option(
                "--part-range",
                "part_ranges",
                multiple=True,
                metavar="NAME=LOW,HIGH",
                help="With --parts: the range of a part, fixed before the data.",
            ),
        )
    ):
        function = option(function)
    return function


CHOSEN = (
    "by",
    "by_table",
    "weights",
    "cuts",
    "mix",
    "gap",
    "pass_at",
    "all_of",
    "best_of",
    "parts",
    "reward_weights",
    "gold_part",
    "part_ranges",
)
_AT = ("pass_at", "all_of", "best_of")
_OPTION = {"reward_weights": "reward-weights", "gold_part": "gold-part"}
_OPTION |= {"part_ranges": "part-range"}
_OF_ONE = {"reward_data": None, "beta": None, "gold_scale": None, "tau_negative": None}
_OF_ONE |= {"reward_mse": None, "coverage": None, "log_ratio_max": None, "missing": None}
_OF_ONE |= {"log_ratio_second_moment": None, "launched": None, "log_prob_noise": None}
_OF_ONE |= {"gold_kind": None, "tau": "auto"}


def wanted(chosen: dict) -> str:
    """Return which form of audit is asked for: "one", "by", "at" or "parts".

    Raises:
        UsageError: Options of two forms, or of none.
    """
    at = [name for name in _AT if chosen[name] is not None]
    for option in ("reward_weights", "gold_part", "part_ranges"):
        if chosen[option] and not chosen["parts"]:
            raise UsageError(f"--{_OPTION[option]} speaks of the parts of --parts; give that too.")
    if (
        any(chosen[name] for name in ("by_table", "weights", "cuts", "mix", "gap"))
        and not chosen["by"]
    ):
        raise UsageError(
            "--by-file, --weight, --cut, --mix and --gap speak of the slices of --by; give that "
            "too."
        )
    if at and chosen["gap"]:
        raise UsageError("--gap goes with neither --pass-at nor its kin: one question at a time.")
    if chosen["parts"] and (at or chosen["by"]):
        raise UsageError("--parts goes with neither --by nor --pass-at: one question at a time.")
    if chosen["parts"]:
        return "parts"
    return "at" if at else "by" if chosen["by"] else "one"


def certify(form: str, rollouts, chosen: dict, settings: dict):
    """Certify a log in the form asked for."""
    if form == "one":
        from taut.auditing.audit import audit

        return audit(rollouts, **settings)
    if form == "by":
        from taut.auditing.by import audit_by

        return audit_by(
            rollouts,
            chosen["by"],
            weights=_floats("--weight", chosen["weights"]),
            cuts=_lists("--cut", chosen["cuts"]),
            mix=_mix(chosen["mix"], chosen["by"]),
            gap=chosen["gap"],
            by_table=chosen["by_table"],
            **settings,
        )
    if form == "at":
        from taut.auditing.pass_at import audit_at

        if settings["target"] not in ("reward", "auto"):
            raise UsageError(
                "--pass-at, --all-of and --best-of are of the reward: --target reward."
            )
        asked = {name: chosen[name] for name in _AT}
        own = _without(settings, _OF_ONE) | {"target": "reward"}
        sides = {"by": chosen["by"], "by_table": chosen["by_table"]}
        return audit_at(rollouts, **sides, **asked, **own)
    from taut.auditing.parts import audit_parts

    ranges = _lists("--part-range", chosen["part_ranges"])
    if any(len(ends) != 2 for ends in ranges.values()):
        raise UsageError("--part-range: expected NAME=LOW,HIGH.")
    foreign = {name: default for name, default in _OF_ONE.items() if name != "beta"}
    return audit_parts(
        rollouts,
        reward_weights=_floats("--reward-weights", (chosen["reward_weights"] or "").split(",")),
        gold_part=chosen["gold_part"],
        part_ranges=ranges,
        **_without(settings, foreign),
    )


def _mix(text: str | None, by: tuple[str, ...]) -> dict[str, float] | None:
    """Read VALUE:SHARE,…, also behind the name of the column."""
    if text is None:
        return None
    column = ", ".join(by)
    pairs = text.removeprefix(f"{column}=").split(",")
    try:
        return {value: float(share) for value, _, share in (p.rpartition(":") for p in pairs)}
    except ValueError:
        raise UsageError(f"--mix {text}: expected VALUE:SHARE,…, as in chat:.6,code:.4.") from None


def _without(settings: dict, foreign: dict) -> dict:
    """Return settings without those of one policy's audit, which must not have been given."""
    for name, default in foreign.items():
        if settings.get(name, default) not in (default, ()):
            raise UsageError(f"--{name.replace('_', '-')} does not go with this form of audit.")
    return {name: value for name, value in settings.items() if name not in foreign}


def _floats(option: str, pairs) -> dict[str, float]:
    given = name_pairs(tuple(filter(None, pairs)))
    try:
        return {name: float(text) for name, text in given.items()}
    except ValueError:
        raise UsageError(f"{option} {' '.join(pairs)}: expected NAME=NUMBER.") from None


def _lists(option: str, pairs) -> dict[str, tuple[float, ...]]:
    given = name_pairs(pairs)
    try:
        return {name: tuple(map(float, text.split(","))) for name, text in given.items()}
    except ValueError:
        raise UsageError(f"{option} {' '.join(pairs)}: expected NAME=A,B,… in numbers.") from None
