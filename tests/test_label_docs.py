"""The page of the docs does what it says: its commands are run, in its order, and its Python."""

import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import taut
from test_label_cli import answered, run

PAGE = Path(__file__).parent.parent / "docs/labelling.md"


def test_the_commands_of_the_page_run(tmp_path, monkeypatch):
    """Every `taut` line in a fence, on a log with words, with a program that answers."""
    monkeypatch.chdir(tmp_path)
    Path("held_out").mkdir()
    rng = np.random.default_rng(0)
    gold = (rng.random(1600) < 0.7).astype(int)
    columns = {
        "prompt_id": [f"p{i // 4}" for i in range(1600)],
        "rollout_id": [f"r{i}" for i in range(1600)],
        "reward": np.clip(0.5 * gold + 0.6 * rng.random(1600), 0, 1),
        "prompt": [f"Question {i // 4}?" for i in range(1600)],
        "response": [f"Answer {i}." for i in range(1600)],
        "domain": [["math", "code"][i // 4 % 2] for i in range(1600)],
    }
    pq.write_table(pa.table(columns), "held_out/log.parquet")
    truth = {f"r{i}": int(gold[i]) for i in range(1600)}
    fences = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    lines = [line for fence in fences for line in fence.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("taut ")]
    assert len(commands) >= 8
    for command in commands:
        said = run(*command)
        if command[0] == "audit":
            assert "CERTIFIED" in said.upper()
        if command[1] != "draw" or "-o" not in command:
            continue
        stem = Path(command[command.index("-o") + 1]).stem
        for sheet in Path().glob(f"{stem}*"):
            who = sheet.name.split(".")[1] if sheet.name.count(".") == 2 else None
            name = "labels.jsonl" if stem == "sheet" else f"{sheet.stem}.labels.jsonl"
            if sheet.suffix != ".csv" and "labels" not in sheet.name:
                answered(sheet, Path(name), truth, who=who, slip=0.05)
    assert Path("labelled.parquet").exists() and Path("more.jsonl").exists()
    names = {"taut": taut}
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    exec(code, names)
    assert names["certificate"].lower <= gold.mean() <= names["certificate"].upper
