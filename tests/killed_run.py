"""A training script that kills itself without warning in the middle of a step, if told to.

python tests/killed_run.py MODEL FOLDER [STEP]
"""

import os
import signal
import sys
from pathlib import Path

import trl

import tiny
from taut.training import ClippedKLRLOOTrainer, record


def make_trainer(model, folder, kill_at=None):
    """Return a trainer that saves every second step, recorded to FOLDER/log."""

    def reward(completion_ids, trainer_state, **_):
        if trainer_state.global_step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return tiny.reward_even(completion_ids)

    trainer = ClippedKLRLOOTrainer(
        model=model,
        reward_funcs=reward,
        args=trl.RLOOConfig(
            **tiny.settings(
                Path(folder, "out"), max_steps=6, beta=0.1, save_strategy="steps", save_steps=2
            )
        ),
        train_dataset=tiny.make_prompts(24),
        tau=0.3,
    )
    record(trainer, Path(folder, "log"))
    return trainer


if __name__ == "__main__":
    make_trainer(sys.argv[1], sys.argv[2], int(sys.argv[3])).train()
