"""verl's rollouts: one JSONL file a step, named for it.

Read at verl 0.10.0.dev, 1dda039b9 (and 0.4 to 0.8): `_write_generations` in
verl/trainer/ppo/ray_trainer.py and verl/trainer/ppo/v1/trainer_base.py.
"""

import os
import re
from collections.abc import Mapping
from functools import partial

import pyarrow as pa

from taut.errors import LogError
from taut.logs.frameworks.common import expect, join, same, with_columns
from taut.logs.layout import Columns, Layout
from taut.logs.origin import Origin
from taut.logs.reduce import Chunk, Values

_DRAW = re.compile(r"(.+)_(\d+)_(\d+)")


def layout(file: str, columns: Columns, paths: Mapping[str, str], mapped: frozenset[str]) -> Layout:
    """input, output, gts, score, step, whatever the reward function adds; uid in trainer v1.

    No `group`: within a step verl draws each prompt once, so that text and step name the draw, and
    a `group` of epochs of training data would only look like a fixed list gone through repeatedly.
    """
    expect(file, "verl", columns, ("input", "output", "score"))
    trained = columns.get("reward") == "number"
    own = {"prompt": "input", "response": "output", "reward": "reward" if trained else "score"}
    stem = os.path.basename(file).split(".")[0]
    step = int(stem) if "step" not in columns and stem.isdigit() else None
    group = paths.get("group") == "uid"
    if group:
        paths = {**paths, "group": "group"}
    if "uid" in columns:
        own["draw"] = "uid"
    notes = ("'reward' is read, which verl trained on; the reward function's 'score' by --map",)
    return join(
        paths,
        own,
        mapped - {"group"} if group else mapped,
        required={"prompt", "reward"},
        derive=partial(_derive_verl, step=step, group=group),
        origin=Origin(format="verl"),
        notes=notes if trained and "reward" not in mapped else (),
    )


def _derive_verl(chunk: Chunk, step: int | None, group: bool) -> Chunk:
    columns = {} if step is None else {"step": same(chunk, step)}
    draws = chunk.columns.get("draw")
    if draws is not None:
        found = [_DRAW.fullmatch(text or "") for text in draws.data.to_pylist()]
        if any(match and match[3] != "0" for match in found):
            raise LogError(
                f"{chunk.file}: expected one row per rollout, found several outputs of one session "
                "(uid ends in _session_output); keep the last output of each session, which has "
                "its score, and leave the others out."
            )
        if group:
            names = [match[1] if match else None for match in found]
            texts = zip(names, draws.data.to_pylist(), strict=True)
            columns["group"] = Values(
                pa.array([name or text for name, text in texts], pa.large_string()), draws.missing
            )
    return with_columns(chunk, columns)
