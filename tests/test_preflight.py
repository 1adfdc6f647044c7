"""Pre-flight checks: each planted fault is found and named, and a sound run is left alone."""

import pytest

from taut.errors import UsageError

torch = pytest.importorskip("torch")
trl = pytest.importorskip("trl")
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning:torch"
)

import tiny  # noqa: E402
from taut.training import ClippedKLReward, preflight, record  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save_model(tmp_path_factory.mktemp("model"))


def make(model, folder, kind="RLOO", **changes):
    """Return a trainer that has not begun."""
    rewards = changes.pop("reward_funcs", tiny.reward_even)
    more = {name: changes.pop(name) for name in ("peft_config", "tokenizer") if name in changes}
    if "tokenizer" in more:
        more["processing_class"] = more.pop("tokenizer")
    return getattr(trl, f"{kind}Trainer")(
        model=model,
        reward_funcs=rewards,
        args=getattr(trl, f"{kind}Config")(**tiny.settings(folder, **{"beta": 0.1} | changes)),
        train_dataset=tiny.make_prompts(),
        **more,
    )


def lora(**changes):
    from peft import LoraConfig

    return LoraConfig(**{"r": 4, "target_modules": "all-linear", "lora_dropout": 0.0} | changes)


def loaded(model):
    """Return a policy in memory."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)


def names(trainer):
    return {(finding.check, finding.severity) for finding in preflight(trainer)}


def penalised(model, folder, *, attach=True, weight=0.1, **changes):
    """Return GRPO with the clipped KL as a reward function."""
    penalty = ClippedKLReward(tau=1.0)
    settings = {"beta": 0.0, "scale_rewards": "none", "reward_weights": [1.0, weight]} | changes
    trainer = make(model, folder, "GRPO", reward_funcs=[tiny.reward_even, penalty], **settings)
    if attach:
        penalty.attach(trainer)
    return trainer


def test_sound_runs_are_left_alone(model, tmp_path):
    """No finding for RLOO, RLOO with LoRA, GRPO, GRPO with the penalty; chance is not touched."""
    assert preflight(make(model, tmp_path, "GRPO", beta=0.0), extra_forward=True) == ()
    sound = [
        make(model, tmp_path),
        make(model, tmp_path, gradient_checkpointing=True),
        make(loaded(model), tmp_path, tokenizer=tiny.make_tokenizer()),
        make(model, tmp_path, peft_config=lora()),
        penalised(model, tmp_path),
    ]
    for trainer in sound:
        before, mode = torch.get_rng_state(), trainer.model.training
        assert preflight(trainer) == ()
        assert torch.equal(before, torch.get_rng_state()) and trainer.model.training == mode


def moved(model):
    policy = loaded(model)
    with torch.no_grad():
        policy.model.layers[0].mlp.up_proj.weight += 0.05
    return policy


def with_generation(model, **settings):
    policy = loaded(model)
    for name, value in settings.items():
        setattr(policy.generation_config, name, value)
    return policy


FAULTS = {
    "policy in memory is not the one on disk": (
        lambda m, d: make(moved(m), d, tokenizer=tiny.make_tokenizer()),
        ("log_ratio_at_start", "error"),
    ),
    "adapters that begin with noise": (
        lambda m, d: make(m, d, peft_config=lora(init_lora_weights=False)),
        ("log_ratio_at_start", "error"),
    ),
    "attention dropout, which disable_dropout does not reach": (
        lambda m, d: make(
            tiny.save_model(d / "model", attention_dropout=0.2), d, disable_dropout=True
        ),
        ("dropout", "rewards_only"),
    ),
    "dropout in adapters that change nothing yet": (
        lambda m, d: make(m, d, peft_config=lora(lora_dropout=0.1), disable_dropout=False),
        ("dropout", "rewards_only"),
    ),
    "reference that moves": (
        lambda m, d: make(m, d, sync_ref_model=True, ref_model_sync_steps=2),
        ("reference", "warning"),
    ),
    "top-p": (lambda m, d: make(m, d, top_p=0.9), ("sampling", "rewards_only")),
    "top-k": (lambda m, d: make(m, d, top_k=20), ("sampling", "rewards_only")),
    "min-p": (lambda m, d: make(m, d, min_p=0.1), ("sampling", "rewards_only")),
    "repetition penalty": (
        lambda m, d: make(m, d, repetition_penalty=1.1),
        ("sampling", "rewards_only"),
    ),
    "a setting of the model's own generation config": (
        lambda m, d: make(
            with_generation(m, no_repeat_ngram_size=3), d, tokenizer=tiny.make_tokenizer()
        ),
        ("sampling", "rewards_only"),
    ),
    "temperature of the sampler alone": (
        lambda m, d: make(m, d, generation_kwargs={"temperature": 0.5}),
        ("temperature", "rewards_only"),
    ),
    "temperature": (lambda m, d: make(m, d, temperature=0.7), ("temperature", "warning")),
    "truncated completions without a penalty": (
        lambda m, d: make(m, d, mask_truncated_completions=True),
        ("truncation", "warning"),
    ),
    "truncated completions without log-probs": (
        lambda m, d: make(m, d, mask_truncated_completions=True),
        ("log_probs", "warning"),
    ),
    "no reference": (lambda m, d: make(m, d, "GRPO", beta=0.0), ("log_probs", "warning")),
    "bfloat16": (
        lambda m, d: make(m, d, bf16=True, max_completion_length=200),
        ("precision", "warning"),
    ),
    "GRPO's own beta": (lambda m, d: make(m, d, "GRPO", beta=0.1), ("beta", "warning")),
    "penalty divided by a spread": (
        lambda m, d: penalised(m, d, scale_rewards="group"),
        ("beta", "error"),
    ),
    "penalty that knows no trainer": (
        lambda m, d: penalised(m, d, attach=False),
        ("penalty", "error"),
    ),
    "penalty with the wrong sign": (
        lambda m, d: penalised(m, d, weight=-0.1),
        ("penalty", "error"),
    ),
    "penalty inside the clip range of rewards": (
        lambda m, d: make(
            m,
            d,
            beta=0.0,
            reward_funcs=[tiny.reward_even, ClippedKLReward(tau=1.0)],
            reward_weights=[1.0, 0.1],
            reward_clip_range=(0.0, 1.0),
        ),
        ("penalty", "error"),
    ),
}


# One check finds these as it finds top-p.
SLOW = {"top-k", "min-p"}


@pytest.mark.parametrize(
    "fault",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in FAULTS],
)
def test_planted_fault_is_found(fault, model, tmp_path):
    """The check for this fault finds it, and a recorder refuses errors and warns of the rest."""
    build, (check, severity) = FAULTS[fault]
    trainer = build(model, tmp_path)
    assert (check, severity) in names(trainer)
    if severity == "error":
        with pytest.raises(UsageError, match=check):
            record(trainer, tmp_path / "log")
    else:
        with pytest.warns(UserWarning) as warned:
            record(trainer, tmp_path / "log")
        assert any(str(warning.message).startswith(check) for warning in warned)


def test_other_objects_are_refused():
    """What is no trainer is said so."""
    with pytest.raises(UsageError, match="RLOOTrainer or GRPOTrainer"):
        preflight(object())
