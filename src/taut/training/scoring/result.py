"""What `taut score` returns."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Noise(_Record):
    """How much a sum of log-probs moves when only the batch and its padding change.

    Attributes:
        rows: Rows that were computed twice.
        largest: Largest difference, nats a sequence.
        median: Median size of the difference, nats a sequence.
        rms: Root of the mean square difference, nats a sequence.
    """

    rows: int
    largest: float
    median: float
    rms: float


class ScoredModel(_Record):
    """A model as it was scored.

    Attributes:
        name: Folder as the user wrote it.
        fingerprint: SHA-256 of configuration and weights.
        head: How its last step is computed: "fused", "modules" or "naive".
        notice: Why it is not fused; empty where it is.
        noise: What other padding does to its sums.
    """

    name: str
    fingerprint: str
    head: str
    notice: str
    noise: Noise


class Scored(_Record):
    """What was scored, and what there is to know about it.

    Attributes:
        output: The file written.
        rollouts, tokens: Rows, and response tokens among them.
        rejected_rows: Rows left out, here or when the input was converted.
        models: Role to model.
        counts: As `taut.training.scoring.words.Counts`.
        log_ratio: Mean and standard deviation of policy minus ref, nats a response; None without
            ref.
        estimated: Responses were tokenised from text: which tokens were sampled is a guess.
        settings: Device, dtype, temperature, end token.
        notices: What the reader should know, a sentence each.
    """

    output: str
    rollouts: int
    tokens: int
    rejected_rows: int
    models: dict[str, ScoredModel]
    counts: dict[str, int]
    log_ratio: tuple[float, float] | None
    estimated: bool
    settings: dict[str, Any]
    notices: tuple[str, ...]
