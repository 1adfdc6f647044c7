"""A training script for two processes: the clipped KL, recorded, and what each rank saw.

python -m torch.distributed.run --nproc-per-node 2 tests/two_ranks.py MODEL FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import trl

import tiny
from taut.training import ClippedKLRLOOTrainer, record


def main(model: str, folder: str) -> None:
    """Train three steps and save each rank's batches."""
    trainer = ClippedKLRLOOTrainer(
        model=model,
        reward_funcs=tiny.reward_even,
        args=trl.RLOOConfig(
            **tiny.settings(folder, beta=0.1, per_device_train_batch_size=6, ddp_backend="gloo")
        ),
        train_dataset=tiny.make_prompts(24),
        tau=0.3,
    )
    rank, batches = trainer.accelerator.process_index, []
    record(trainer, Path(folder, "log"), token_lists=True)
    generate = trainer._generate_and_score_completions

    def keep(inputs):
        out = generate(inputs)
        batches.append(out["advantages"].numpy())
        return out

    trainer._generate_and_score_completions = keep
    trainer.train()
    np.save(Path(folder, f"advantages{rank}.npy"), np.array(batches))
    if rank == 0:
        trainer.state.save_to_json(str(Path(folder, "state.json")))


if __name__ == "__main__":
    main(*sys.argv[1:])
