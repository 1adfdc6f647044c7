"""Several logs as one, without losing what a status rests on (theory §2).

What a log loses on the way is a status lost: so columns are filled in where that is harmless, the
origin, rejected rows and facts stay, and a join that would drop anything else stops.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from taut.draws import assumptions as about
from taut.draws.assumptions import Assumption, Standing
from taut.draws.layout import cell_keys
from taut.draws.rollouts import Rollouts
from taut.errors import LogError, UsageError
from taut.logs.facts import LogFacts, merge_facts
from taut.logs.keys import scramble
from taut.logs.origin import Origin

# What fills a column that one of the logs lacks, where nothing rests on the difference.
_FILL = {"truncated": False, "failed": False, "n_tokens": -1, "group": 0, "step": -1}
# Columns that are used in all logs or in none; a target that needs them says so.
_ALL_OR_NONE = ("log_ratio", "policy_logprob", "behaviour_logprob")


def join_logs(logs: Mapping[str, Rollouts]) -> Rollouts:
    """Put the logs of named policies into one, whose `policy` is their names.

    Steps, policies and runs within a log stay apart from each other, in `run`.

    Raises:
        UsageError: No logs.
        LogError: Chances of a label are recorded in some logs only.
    """
    if not logs:
        raise UsageError(
            "no candidates: expected a mapping of names to rollouts, with two or more."
        )
    names = sorted(logs)
    parts = [logs[name] for name in names]
    columns = {name: _column(parts, name) for name in ("prompt", "reward", *_ALL_OR_NONE)}
    columns |= {name: _filled(parts, name, value) for name, value in _FILL.items()}
    chances = [part.label_probability is not None for part in parts]
    if any(chances) and not all(chances):
        raise LogError(
            "'label_probability' is in some of the logs only: rows without it were labelled by a "
            "chance that nobody knows. Record it in all of them, or in none."
        )
    if any(part.sheet is not None and not part.sheet.uniform for part in parts):
        raise LogError(
            "labels were drawn by strata or where the judge errs, which holds for the log of their "
            "sheet alone; audit that one by itself, or draw a sheet with one chance for all."
        )
    runs, run_names = _runs(parts)
    return Rollouts(
        **columns,
        gold=_gold(parts),
        text_key=_text_keys(parts),
        label_probability=_column(parts, "label_probability"),
        policy=np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts]),
        policy_names=tuple(map(str, names)),
        run=runs,
        run_names=run_names,
        rejected_rows=sum(part.rejected_rows for part in parts),
        sources=tuple(source for part in parts for source in part.sources),
        origin=_origin([part.origin for part in parts]),
        facts=_facts(parts),
    )


def alike_prompts(shared: int, draws: Sequence[int]) -> Assumption | None:
    """Return what a difference of two logs rests on where they do not hold the same prompts.

    Args:
        shared: Draws that both have.
        draws: How many each has.
    """
    if shared == max(draws):
        return None
    lone = " and ".join(f"{count - shared:,}" for count in draws)
    return Assumption(
        name=about.SAME_PROMPTS,
        text="both logs' prompts are draws of one population, and which ones both hold is blind "
        "to their outcomes",
        stands=Standing.ASSUMED,
        by=f"{shared:,} draws are in both, {lone} in one alone",
    )


def _column(parts: list[Rollouts], name: str) -> np.ndarray | None:
    found = [getattr(part, name) for part in parts]
    return None if any(column is None for column in found) else np.concatenate(found)


def _filled(parts: list[Rollouts], name: str, value: object) -> np.ndarray | None:
    found = [getattr(part, name) for part in parts]
    kinds = [column.dtype for column in found if column is not None]
    if not kinds:
        return None
    return np.concatenate(
        [
            np.full(len(part), value, dtype=kinds[0]) if column is None else column
            for part, column in zip(parts, found, strict=True)
        ]
    )


def _gold(parts: list[Rollouts]) -> np.ndarray | None:
    if all(part.gold is None for part in parts):
        return None
    return np.concatenate(
        [np.full(len(part), np.nan) if part.gold is None else part.gold for part in parts]
    )


def _text_keys(parts: list[Rollouts]) -> np.ndarray | None:
    """A log without texts gives each prompt id a text of its own."""
    if all(part.text_key is None for part in parts):
        return None
    return np.concatenate(
        [scramble(part.prompt) if part.text_key is None else part.text_key for part in parts]
    )


def _runs(parts: list[Rollouts]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Number the policies and runs that a log tells apart itself; None where each holds one."""
    keys = [cell_keys(replace(part, step=None)) for part in parts]
    if all(len(np.unique(part)) <= 1 for part in keys):
        return None, ()
    kinds, codes = np.unique(np.concatenate(keys), return_inverse=True)
    return codes.astype(np.int32), tuple(f"cell {index}" for index in range(len(kinds)))


def _origin(origins: list[Origin | None]) -> Origin | None:
    """Keep the origin that says most against a log; a common one otherwise."""
    chosen = [origin for origin in origins if origin is not None and origin.chosen]
    if chosen:
        return chosen[0]
    return origins[0] if all(origin == origins[0] for origin in origins) else None


def _facts(parts: list[Rollouts]) -> LogFacts | None:
    if any(part.facts is None for part in parts):
        return None
    return merge_facts(*(part.facts for part in parts))
