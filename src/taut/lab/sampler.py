"""Responses of a model of the lab, and their log-probs, many rows at a time."""

from pathlib import Path

import numpy as np

from taut.lab import language


class Sampler:
    """A model with which to draw responses, and to read log-probs."""

    def __init__(self, folder: Path) -> None:
        import torch

        from taut.training.pipeline.models import load_causal

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = load_causal(str(folder)).to(self.device).eval()

    def responses(
        self, prompts: np.ndarray, rng: np.random.Generator, batch: int = 2000
    ) -> np.ndarray:
        """Draw one response to each prompt, shape (prompts, LONGEST), padded after the end."""
        import torch

        from taut.training.pipeline.models import sample

        out = np.full((len(prompts), language.LONGEST), language.PAD)
        with torch.random.fork_rng():
            torch.manual_seed(int(rng.integers(2**31)))
            for start in range(0, len(prompts), batch):
                rows = sample(
                    self.model,
                    prompts[start : start + batch].tolist(),
                    pad=language.PAD,
                    ends=[language.END],
                    max_new_tokens=language.LONGEST,
                    temperature=1.0,
                )
                for place, row in enumerate(rows, start):
                    out[place, : len(row)] = row
        return out

    def log_probs(self, prompts: np.ndarray, responses: np.ndarray) -> np.ndarray:
        """Return the log-prob of each response up to its end, nats."""
        import torch

        ids = torch.as_tensor(np.concatenate([prompts, responses], axis=1), device=self.device)
        said = ids[:, prompts.shape[1] :]
        with torch.inference_mode():
            logits = self.model(input_ids=ids, logits_to_keep=said.shape[1] + 1).logits[:, :-1]
            each = logits.float().log_softmax(-1).gather(-1, said[..., None])[..., 0]
            before = (said == language.END).cumsum(1) - (said == language.END).long()
            return (each.double() * (before == 0)).sum(1).cpu().numpy()
