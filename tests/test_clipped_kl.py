"""The clipped KL in training: both ways do what a computation by hand says, and agree."""

import math
from pathlib import Path

import numpy as np
import pytest

from taut.errors import AssumptionError, UsageError
from taut.inequalities.concentration import paper_alpha
from taut.training.clipping.threshold import FixedThreshold, PhasedThreshold, as_threshold
from taut.training.clipping.threshold import quantile_threshold as quantile

torch = pytest.importorskip("torch")
trl = pytest.importorskip("trl")
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning:torch"
)

from transformers import set_seed  # noqa: E402

import tiny  # noqa: E402
from taut.training import ClippedKLReward, ClippedKLRLOOTrainer, clipped_kl_trainer  # noqa: E402
from taut.training.clipping.clipped_kl import clip_reference  # noqa: E402

BETA, TAU = 0.1, 0.4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save_model(tmp_path_factory.mktemp("model"))


def rloo(model, folder, *, tau=TAU, tau_negative=None, lora=False, **changes):
    """Return a trainer with the clipped KL."""
    more = {}
    if lora:
        from peft import LoraConfig

        more["peft_config"] = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.0)
    return ClippedKLRLOOTrainer(
        model=model,
        reward_funcs=tiny.reward_even,
        args=trl.RLOOConfig(**tiny.settings(folder, **{"beta": BETA} | changes)),
        train_dataset=tiny.make_prompts(),
        tau=tau,
        tau_negative=tau_negative,
        **more,
    )


def by_hand(model, prompt_ids, prompt_mask, completion_ids, mask, temperature=1.0):
    """Return sequence log-probs by the textbook: log-softmax, gather, sum, in float64."""
    ids = torch.cat([prompt_ids, completion_ids], dim=1)
    full = (torch.arange(completion_ids.shape[1]) < mask.sum(1, keepdim=True)).long()
    attention = torch.cat([prompt_mask, full], dim=1)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=attention).logits.double() / temperature
    keep = completion_ids.shape[1]
    logps = torch.log_softmax(logits[:, -keep - 1 : -1], dim=2)
    return (logps.gather(2, completion_ids[:, :, None]).squeeze(2) * mask).sum(dim=1)


def train(trainer):
    """Train from the same random numbers, whatever came before."""
    set_seed(0)
    trainer.train()


class Spy:
    """Checks each generation batch of a trainer against the hand computation."""

    def __init__(self, trainer, reference, tau, tau_negative=math.inf):
        self.trainer, self.reference = trainer, reference
        self.tau, self.tau_negative = tau, tau_negative
        self.inner = trainer._generate_and_score_completions
        self.log_ratios, self.gaps, self.masked = [], [], 0
        trainer._generate_and_score_completions = self

    def __call__(self, inputs):
        out = self.inner(inputs)
        self.masked += int((out["completion_mask"].sum(1) == 0).sum())
        parts = [out[k] for k in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")]
        temperature = self.trainer.temperature
        policy = by_hand(self.trainer.model, *parts, temperature)
        log_ratio = policy - by_hand(self.reference, *parts, temperature)
        rewards = []
        for row in out["completion_ids"].tolist():
            stop = row.index(1) + 1 if 1 in row else len(row)
            rewards += tiny.reward_even([row[:stop]])
        clipped = log_ratio.clamp(-self.tau_negative, self.tau)
        total = (torch.tensor(rewards) - BETA * clipped).view(-1, self.trainer.num_generations)
        others = (total.sum(1, keepdim=True) - total) / (total.shape[1] - 1)
        self.gaps.append(float(((total - others).view(-1) - out["advantages"]).abs().max()))
        self.log_ratios.append(log_ratio.numpy())
        return out


@pytest.mark.parametrize(
    "changes",
    [
        {"tau_negative": 0.2},
        {"lora": True, "learning_rate": 3e-2},
        {"num_iterations": 2, "gradient_accumulation_steps": 2, "max_steps": 4},
        {"mask_truncated_completions": True},
        pytest.param({"temperature": 0.7}, marks=pytest.mark.slow),
    ],
    ids=["two sides", "LoRA", "iterations", "truncation", "temperature"],
)
def test_clipped_kl_equals_the_hand_computation(model, tmp_path, changes):
    """Advantages are those of r - beta clip(l, -tau_negative, tau), to 1e-6 reward units."""
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    trainer = rloo(model, tmp_path, **changes)
    spy = Spy(trainer, reference, TAU, changes.get("tau_negative", TAU))
    trainer.train()
    log_ratio = np.concatenate(spy.log_ratios)
    assert max(spy.gaps) < 1e-6
    assert (np.abs(log_ratio) > 2 * TAU).any(), "nothing was clipped, so nothing was tested"
    if "mask_truncated_completions" in changes:
        assert spy.masked > 0


def test_metrics_are_those_of_the_batch(model, tmp_path):
    """The trainer's own log has the mean sequence KL, its clipped mean, the clip share and tau."""
    from transformers import AutoModelForCausalLM

    trainer = rloo(model, tmp_path)
    spy = Spy(trainer, AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), TAU, TAU)
    trainer.train()
    for line, log_ratio in zip(trainer.state.log_history, spy.log_ratios, strict=False):
        clipped = np.clip(log_ratio, -TAU, TAU)
        assert line["kl/sequence"] == pytest.approx(log_ratio.mean(), abs=1e-5)
        assert line["kl/clipped"] == pytest.approx(clipped.mean(), abs=1e-5)
        assert line["kl/clip_share"] == pytest.approx((np.abs(log_ratio) > TAU).mean())
        assert line["tau"] == TAU


def test_without_tau_training_is_bit_for_bit_that_of_trl(model, tmp_path):
    """tau=None changes nothing: the same weights as TRL's own trainer."""
    plain = trl.RLOOTrainer(
        model=model,
        reward_funcs=tiny.reward_even,
        args=trl.RLOOConfig(**tiny.settings(tmp_path, beta=BETA)),
        train_dataset=tiny.make_prompts(),
    )
    ours = rloo(model, tmp_path, tau=None)
    for trainer in (plain, ours):
        train(trainer)
    for one, two in zip(plain.model.parameters(), ours.model.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_steps": 4, "gradient_accumulation_steps": 2},
        pytest.param({"lora": True, "learning_rate": 3.0}, marks=pytest.mark.slow),
        pytest.param(
            {"mask_truncated_completions": True, "temperature": 0.7}, marks=pytest.mark.slow
        ),
    ],
    ids=["full weights", "LoRA", "truncation"],
)
def test_the_two_ways_agree_at_every_step(model, tmp_path, changes):
    """The trainer's subclass and the reward function give the same KL, advantages and weights."""
    # Plain gradient steps: Adam would blow rounding up to whole steps where a gradient is 0.
    changes = {"optim": "sgd", "learning_rate": 0.5} | changes
    set_seed(0)
    one = rloo(model, tmp_path, **changes)
    more = {}
    if changes.pop("lora", False):
        from peft import LoraConfig

        more["peft_config"] = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.0)
    penalty = ClippedKLReward(tau=TAU)
    set_seed(0)
    two = trl.RLOOTrainer(
        model=model,
        reward_funcs=[tiny.reward_even, penalty],
        args=trl.RLOOConfig(
            **tiny.settings(tmp_path, beta=0.0, reward_weights=[1.0, BETA], **changes)
        ),
        train_dataset=tiny.make_prompts(),
        **more,
    )
    penalty.attach(two)
    for trainer in (one, two):
        train(trainer)
    names = ("kl/sequence", "kl/clipped", "kl/clip_share")
    lines = [
        [[line[name] for name in names] for line in trainer.state.log_history[:-1]]
        for trainer in (one, two)
    ]
    np.testing.assert_allclose(*lines, rtol=1e-4, atol=1e-5)
    assert lines[0][-1][2] > 0, "nothing was clipped"
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_reward_function_leashes_grpo(model, tmp_path):
    """With GRPO the penalty is minus the clipped log-ratio against the policy before training."""
    penalty = ClippedKLReward(tau=TAU)
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=[tiny.reward_even, penalty],
        args=trl.GRPOConfig(
            **tiny.settings(tmp_path, reward_weights=[1.0, BETA], scale_rewards="none", beta=0.0)
        ),
        train_dataset=tiny.make_prompts(),
    )
    penalty.attach(trainer)
    trainer.train()
    log = trainer.state.log_history[:-1]
    assert log[0]["kl/sequence"] == pytest.approx(0.0, abs=1e-4)
    assert abs(log[-1]["kl/sequence"]) > 0.01
    for line in log:
        assert line["rewards/clipped_kl/mean"] == pytest.approx(-line["kl/clipped"], abs=1e-5)


def test_moved_reference_sums_to_the_clipped_log_ratio():
    """Over thousands of tokens the sum is off by rounding of one token; others stay as they are."""
    generator = torch.Generator().manual_seed(0)
    policy = -torch.rand(6, 3000, generator=generator) * 8
    reference = policy - torch.randn(6, 3000, generator=generator) * 0.05
    mask = (torch.arange(3000) < torch.tensor([3000, 5, 700, 1, 0, 2999])[:, None]).long()
    log_ratio, clipped, moved = clip_reference(policy, reference, mask, tau=0.1, tau_negative=0.05)
    outside = (log_ratio > 0.1) | (log_ratio < -0.05)
    assert 0 < outside.sum() < 6
    sums = ((policy.double() - moved.double()) * mask).sum(dim=1)
    torch.testing.assert_close(sums[outside], clipped[outside], rtol=0, atol=1e-6)
    assert torch.equal(moved[~outside], reference[~outside])


def test_moved_reference_of_16_bit_models_is_32_bit():
    """bfloat16 could not hold the moved log-probs: they come back as float32."""
    policy = torch.full((1, 50), -2.03125, dtype=torch.bfloat16)
    _, clipped, moved = clip_reference(
        policy, policy - 0.5, torch.ones(1, 50), tau=1.0, tau_negative=1.0
    )
    assert moved.dtype == torch.float32
    assert float((policy - moved).sum()) == pytest.approx(float(clipped), abs=1e-5)


def test_refuses_what_it_cannot_clip(model, tmp_path):
    """GRPO's KL is no penalty on the sequence, and beta=0 has none: both are said."""
    with pytest.raises(UsageError, match="ClippedKLReward"):
        clipped_kl_trainer(trl.GRPOTrainer)
    with pytest.raises(UsageError, match="beta above 0"):
        rloo(model, tmp_path, beta=0.0)
    with pytest.raises(UsageError, match="attach"):
        ClippedKLReward(tau=1.0)(prompts=["a"], completion_ids=[[1]])


# Thresholds need no trainer.


def test_quantile_threshold_is_the_papers():
    """tau is the (1 - 2 alpha)-quantile of |l|, with alpha of Theorem 1."""
    log_ratio = np.random.default_rng(0).normal(size=4000)
    alpha = paper_alpha(400, np.full(400, 4), 0.05)
    tau = quantile(log_ratio, prompts=400, rollouts_per_prompt=4, delta=0.05)
    assert tau == pytest.approx(np.quantile(np.abs(log_ratio), 1 - 2 * alpha), rel=1e-12)
    # It minimises 2 tau alpha + E(|l| - tau)_+ over the data.
    cost = [2 * t * alpha + np.maximum(np.abs(log_ratio) - t, 0).mean() for t in (tau, 0, 1, 3)]
    assert cost[0] == min(cost)
    assert quantile(log_ratio, prompts=5, rollouts_per_prompt=1) == 0.0


@pytest.mark.parametrize("bad", [[], [1.0, math.nan]])
def test_quantile_threshold_refuses_no_numbers(bad):
    """Nothing and NaN have no quantile."""
    with pytest.raises(AssumptionError, match="finite"):
        quantile(bad, prompts=100, rollouts_per_prompt=2)


def test_phased_threshold_is_frozen_within_a_phase():
    """No clip in the burn-in; then tau changes at the first batch of a phase and never inside."""
    threshold = PhasedThreshold(
        prompts=2000, rollouts_per_prompt=4, burn_in=3, calibration=2, phase=4, floor=0.01
    )
    rng, taus = np.random.default_rng(0), []
    for batch in range(12):
        taus.append(threshold.tau)
        threshold.observe(rng.normal(scale=1 + batch, size=500))
    assert taus[:3] == [math.inf] * 3
    assert taus[3] < taus[7] < taus[11]
    assert len(set(taus[3:7])) == len(set(taus[7:11])) == 1


def test_a_quantile_that_follows_the_policy_runs_away_and_a_frozen_one_does_not():
    """Clipped samples feel no leash: with phases of one batch tau grows, frozen it stays."""

    def last_tau(phase):
        threshold = PhasedThreshold(
            prompts=300, rollouts_per_prompt=4, burn_in=5, calibration=1, phase=phase, floor=0.5
        )
        rng, mean = np.random.default_rng(0), 0.0
        for _ in range(60):
            log_ratio = mean + rng.normal(size=400)
            free = (np.abs(log_ratio) > threshold.tau).mean()
            mean += 0.5 - 0.5 * (1 - free) * mean  # reward pushes out, unclipped samples pull back
            threshold.observe(log_ratio)
        return threshold.tau

    assert last_tau(None) < last_tau(1)


def test_phased_threshold_goes_on_from_its_state():
    """A restored threshold chooses what the unbroken one chooses."""

    def new():
        return PhasedThreshold(prompts=500, rollouts_per_prompt=4, burn_in=4, calibration=3)

    rng = np.random.default_rng(1)
    batches = [rng.normal(size=50) for _ in range(6)]
    whole, first, second = new(), new(), new()
    for batch in batches:
        whole.observe(batch)
    for batch in batches[:2]:
        first.observe(batch)
    second.restore(first.state())
    for batch in batches[2:]:
        second.observe(batch)
    assert second.tau == whole.tau < math.inf


def test_thresholds_say_what_is_wrong():
    """Negative and missing numbers are refused with their name."""
    with pytest.raises(UsageError, match="tau"):
        as_threshold(-1.0, None)
    with pytest.raises(UsageError, match="tau_negative"):
        as_threshold(FixedThreshold(1.0, 1.0), 2.0)
    with pytest.raises(UsageError, match="burn_in"):
        PhasedThreshold(prompts=10, rollouts_per_prompt=1, burn_in=1, calibration=2)
    with pytest.raises(UsageError, match="floor"):
        PhasedThreshold(prompts=10, rollouts_per_prompt=1, floor=0.0)


def test_training_goes_on_with_the_threshold_of_its_checkpoint(model, tmp_path):
    """A resumed run has the frozen tau of the unbroken one, from trainer_state.json."""

    def phased():
        return PhasedThreshold(
            prompts=500, rollouts_per_prompt=4, burn_in=2, calibration=1, floor=0.01
        )

    settings = {"max_steps": 3, "save_strategy": "steps", "save_steps": 2}
    whole = rloo(model, tmp_path, tau=phased(), **settings)
    whole.train()
    again = rloo(model, tmp_path, tau=phased(), **settings)
    again.train(resume_from_checkpoint=str(Path(tmp_path, "checkpoint-2")))
    assert again.threshold.tau == whole.threshold.tau < math.inf
