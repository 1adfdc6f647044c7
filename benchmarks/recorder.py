"""What recording a training step costs, against the step and against TRL's own completions log.

    python benchmarks/recorder.py [--steps 20] [--rollouts 64] [--tokens 16 64] [--hidden 64 256]

Each run trains a small Qwen2-shaped model by GRPO with a reference, on one thread; the smaller the
model, the larger the share of the recorder: sums alone, with words and token ids (`text=True`, the
default of evaluations), and with token log-probs. Its own time is what its wrappers take beyond
what they wrap, the peer's what `log_completions=True` adds to the trainer's `log`; both in
processor time, as a share of the processor time of the step. With another model and longer texts
the step grows and the recorder hardly does.
"""

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import pyarrow.parquet as pq

import tiny


class Timer:
    """Adds up the processor time of some calls."""

    def __init__(self) -> None:
        self.total = 0.0

    def wrap(self, function):
        def timed(*args, **kwargs):
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.total += time.process_time() - start

        return timed


def make(folder: Path, model: str, rollouts: int, tokens: int, steps: int, **changes):
    import trl

    settings = {
        "per_device_train_batch_size": rollouts,
        "max_completion_length": tokens,
        "max_steps": steps,
        "beta": 0.05,
        "disable_tqdm": True,
        "learning_rate": 1e-4,
    }
    return trl.GRPOTrainer(
        model=model,
        reward_funcs=tiny.reward_even,
        args=trl.GRPOConfig(**tiny.settings(folder, **settings, **changes)),
        train_dataset=tiny.make_prompts(64),
    )


def train(trainer) -> list[float]:
    """Train; return the processor time of each step but the first."""
    marks: list[float] = []
    inner = trainer.training_step

    def step(*args, **kwargs):
        marks.append(time.process_time())
        return inner(*args, **kwargs)

    trainer.training_step = step
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train()
    marks.append(time.process_time())
    return [b - a for a, b in pairwise(marks[1:])]


def recorded(trainer, folder: Path, **options) -> tuple[float, list[float]]:
    """Return the recorder's own processor time a step, and the steps'."""
    from taut.training import record

    outer, inner = Timer(), Timer()
    recorder = record(trainer, folder, check=False, **options)
    for name in list(recorder._inner):
        recorder._inner[name] = inner.wrap(recorder._inner[name])
        setattr(trainer, name, outer.wrap(getattr(trainer, name)))
    # Two of the wrappers run inside the third's inner call, which the difference counts once.
    steps = train(trainer)
    return (outer.total - inner.total) / (len(steps) + 1), steps


def size(folder: Path) -> float:
    """Return the bytes of a log's files a rollout."""
    files = [(path.stat().st_size, pq.read_metadata(path).num_rows) for path in folder.iterdir()]
    return sum(a for a, _ in files) / sum(b for _, b in files)


def peer(folder: Path, *shape) -> float:
    """Return the processor time that `log_completions=True` adds to a step."""
    times = {}
    for on in (False, True):
        timer = Timer()
        trainer = make(folder, *shape, log_completions=on)
        trainer.log = timer.wrap(trainer.log)
        steps = train(trainer)
        times[on] = timer.total / (len(steps) + 1)
    return times[True] - times[False]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rollouts", type=int, default=64)
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 256])
    given = parser.parse_args()
    kinds = {"sums": {}, "words": {"text": True}, "lists": {"token_lists": True}}
    titles = "".join(f"  {kind}, ms  share  B/row" for kind in kinds)
    print(f"hidden  tokens  step, ms{titles}  completions log, ms")
    for hidden, tokens in zip(given.hidden, given.tokens, strict=True):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            model = tiny.save_model(folder / "model", hidden=hidden, layers=hidden // 32)
            shape = (model, given.rollouts, tokens, given.steps)
            cells = ""
            for kind, options in kinds.items():
                own, steps = recorded(make(folder / "out", *shape), folder / kind, **options)
                share = own / statistics.median(steps)
                cells += f"  {1e3 * own:8.2f}  {share:5.2%}  {size(folder / kind):5.0f}"
            step, other = statistics.median(steps), peer(folder / "out", *shape)
        print(f"{hidden:6}  {tokens:6}  {1e3 * step:8.0f}{cells}  {1e3 * other:19.2f}")


if __name__ == "__main__":
    main()
