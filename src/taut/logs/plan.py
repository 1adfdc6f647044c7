"""Which column of a file stands for which native column, and which of them are worth reading."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from taut.errors import LogError
from taut.logs.facts import LogFacts
from taut.logs.layout import Layout, Layouts, native_layout
from taut.logs.origin import Origin
from taut.logs.schema import ANY, KEPT, LIST, NATIVE, SUMMAND, WORDS
from taut.logs.text import safe


@dataclass(frozen=True, slots=True)
class Plan:
    """How to read one file.

    Attributes:
        read: Native or raw name to path in the file, of the columns to read.
        absent: Native or raw name to path of the columns that the file does not have.
        columns: All columns of the file, for messages.
        layout: Where the paths come from, and what becomes of raw columns.
        rejected_rows: Rows that were left out when the file was converted.
        origin: The framework that wrote the log; None for a native one.
        raw: Native names of the columns whose values are handed on as they are in the file.
        facts: What the file, and a `taut.toml` beside it, know about the log.
        notes: What people should know of how the file is read.
    """

    read: dict[str, str]
    absent: dict[str, str]
    columns: tuple[str, ...] = ()
    layout: Layout = field(default_factory=lambda: native_layout({}))
    rejected_rows: int = 0
    origin: Origin | None = None
    raw: frozenset[str] = frozenset()
    facts: LogFacts = field(default_factory=LogFacts)
    notes: tuple[str, ...] = ()


def check_mapping(mapping: Mapping[str, str] | None) -> dict[str, str]:
    """Return the path of every native column, mapped or its own name; NAME= leaves a column out.

    Raises:
        LogError: A name is not native, or one path is to serve two columns.
    """
    mapping = dict(mapping or {})
    for name in mapping:
        if name not in NATIVE:
            raise LogError(
                f"mapping: '{name}' is not a native column{_close(name, NATIVE)}; "
                f"native columns are {', '.join(NATIVE)}."
            )
    seen: dict[str, str] = {}
    for name, path in mapping.items():
        if path and path in seen:
            raise LogError(
                f"mapping: '{path}' is to be both '{seen[path]}' and '{name}'; "
                "expected a column of its own for each: map one of them elsewhere."
            )
        seen[path] = name
    paths = {name: mapping.get(name, name) for name in NATIVE}
    return {name: path for name, path in paths.items() if path}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """What the readers of all formats ask: how a file's columns are read, and which of them.

    Attributes:
        layouts: Tells from a file's columns how they are read.
        token_clip, raw, wanted: As in `make_plan`.
    """

    layouts: Layouts
    token_clip: float | tuple[float, ...] | None = None
    raw: frozenset[str] = frozenset()
    wanted: frozenset[str] = frozenset()

    def plan(
        self,
        file: str,
        layout: Layout,
        present: Collection[str],
        columns: Collection[str],
        *,
        stored_clip: float | None = None,
    ) -> Plan:
        """Choose what to read from one file; see `make_plan`."""
        return make_plan(
            file,
            layout,
            present,
            columns,
            token_clip=self.token_clip,
            stored_clip=stored_clip,
            raw=self.raw,
            wanted=self.wanted,
        )


def make_plan(
    file: str,
    layout: Layout,
    present: Collection[str],
    columns: Collection[str],
    *,
    token_clip: float | tuple[float, ...] | None,
    stored_clip: float | None = None,
    raw: frozenset[str] = frozenset(),
    wanted: frozenset[str] = frozenset(),
) -> Plan:
    """Choose what to read from one file.

    Args:
        file: Name shown in messages.
        layout: Native or raw name to path, and which of them must exist.
        present: Names whose path exists in the file.
        columns: All columns of the file, shown when one is missing.
        token_clip: Token log-ratios are to be clipped at this many nats; several are clipped at
            where there are token lists, and are no error where there are none.
        stored_clip: What `token_clipped_log_ratio` in the file was clipped at, nats.
        raw: Native names of words (`WORDS`) to read as they are; else words are left alone.
        wanted: Names among `ON_REQUEST` to read where they are there.

    Raises:
        LogError: A mapped or a required column is missing.
    """
    paths = layout.paths
    for name, path in paths.items():
        if name in layout.required and name not in present:
            named, remedy = f" (mapped to '{name}')", "correct the mapping"
            if name.startswith(KEPT):
                named, remedy = " (to keep)", "correct its name"
            elif name.startswith((SUMMAND, ANY, LIST)):
                named = f" (part of '{name.split()[1]}')"
            elif name not in NATIVE:
                named, remedy = "", "log it too, or say --format native and map other columns"
            raise LogError(
                f"{file}: expected '{safe(path)}'{named}, found {_names(columns)}"
                f"{_close(path, columns)}; {remedy}."
            )
    given = set(present) | layout.derived
    if "reward" not in given:
        raise _missing(file, "'reward'", "reward", columns)
    if not {"prompt_id", "prompt"} & given:
        raise _missing(file, "'prompt_id' (or 'prompt')", "prompt_id", columns)
    lists = {"policy_logprobs", "ref_logprobs"} <= set(present)
    if isinstance(token_clip, tuple) and not lists:
        token_clip = None
    if token_clip is not None and stored_clip == token_clip:
        token_clip = None  # done already
    else:
        present = set(present) - {"token_clipped_log_ratio"}
    if token_clip is not None and not lists:
        raise LogError(
            f"{file}: expected 'policy_logprobs' and 'ref_logprobs' to clip token by token, found "
            f"{_names(columns)}; log them per token, or leave token_clip out."
        )
    chosen = {
        name
        for name in present
        if name not in layout.derived and _wanted(name, set(present) | given, token_clip, wanted)
    }
    chosen |= raw & set(present)
    return Plan(
        read={name: path for name, path in paths.items() if name in chosen},
        absent={name: path for name, path in paths.items() if name not in present},
        columns=tuple(sorted(columns)),
        layout=layout,
        origin=layout.origin,
        raw=raw & chosen,
    )


def may_lack(native: str, layout: Layout) -> bool:
    """Say whether a file may do without a column: where it is all null it is as if absent."""
    return native not in layout.required and native not in ("reward", "prompt_id", "prompt")


def no_labels(file: str, path: str, plan: Plan) -> LogError:
    """Return the error for a mapped gold column in which no row has a value."""
    return LogError(
        f"{file}: expected labels in '{path}' (mapped to 'gold'), found none in any row; columns "
        f"are {_names(plan.columns)}{_close(path, plan.columns)}: correct the mapping, or leave "
        "it out."
    )


ON_REQUEST = frozenset({"prompt", "response", "rollout_id", "content_key"})


def _wanted(name: str, present: set[str], token_clip: float | None, wanted: frozenset[str]) -> bool:
    """Sequence sums win over token lists, keys over texts: those are then not even read."""
    if name == "prompt":
        return "prompt_id" not in present or (name in wanted and "prompt_key" not in present)
    if name == "response":
        return name in wanted and not {"rollout_id", "content_key"} & present
    if name in ON_REQUEST:
        return name in wanted
    if name in NATIVE and NATIVE[name].kind == "tokens":
        role = name.removesuffix("_logprobs")
        return f"{role}_logprob" not in present or (token_clip is not None and role != "behaviour")
    return name not in WORDS


# What people call the columns that every log needs.
_SYNONYMS = {
    "reward": ("score", "rewards", "scores", "total_reward", "return", "value"),
    "prompt_id": ("id", "task_id", "example_id", "question", "problem", "input", "instruction"),
}


def _missing(file: str, what: str, name: str, columns: Collection[str]) -> LogError:
    if name in columns:
        return LogError(f"{file}: '{name}' is needed; it cannot be left out by --map {name}=.")
    known = next((word for word in _SYNONYMS[name] if word in columns), None)
    known = known or safe(_guess(name, columns) or "COLUMN", limit=60)
    return LogError(
        f"{file}: expected a column {what}, found {_names(columns)}{_close(name, columns)}; "
        f"add it, or name the column that holds it: --map {name}={known}."
    )


def _names(columns: Collection[str]) -> str:
    names = sorted(columns)
    shown = ", ".join(f"'{safe(name, limit=60)}'" for name in names[:12])
    return f"{shown}{f' and {len(names) - 12} more' if len(names) > 12 else ''}" or "no columns"


def _close(name: str, columns: Collection[str]) -> str:
    guess = _guess(name, columns)
    return f" (did you mean '{safe(guess, limit=60)}'?)" if guess else ""


def _guess(name: str, columns: Collection[str]) -> str | None:
    """Return a guess at what was meant: by the whole path, else by its last part."""
    leaves = {column.rsplit(".", 1)[-1]: column for column in sorted(columns, reverse=True)}
    whole = difflib.get_close_matches(name, sorted(columns), n=1, cutoff=0.7)
    leaf = difflib.get_close_matches(name.rsplit(".", 1)[-1], leaves, n=1, cutoff=0.5)
    guess = whole[0] if whole else leaves[leaf[0]] if leaf else name
    return None if guess == name else guess
