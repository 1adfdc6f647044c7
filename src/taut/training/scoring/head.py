"""From hidden states to log-probs of given tokens, without the table of all logits.

A language model ends in one large product: hidden states (tokens, width) times a head (vocabulary,
width). Its result, tokens x vocabulary, is what fills memory, and all that is wanted of it is one
logit and one log-sum-exp a token. Here the product is made tile by tile in float32 and the
log-sum-exp is carried along, so that memory does not grow with vocabulary x tokens.

What a model does to its logits behind the head (Gemma caps them, Cohere, Granite and Falcon-H1
scale them) is not read from its name but measured: planted logits go in at the head, and what the
model's own forward makes of them must be a scaling, or a scaling and a soft cap. A model for which
that, or a comparison with its own logits, fails is run with its own head in full.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from taut.errors import UsageError

# Tile of the product, tokens x entries of the vocabulary: 32 MiB of float32 on a CPU, 512 on a GPU.
# Tiles that fit the caches save 10% on an idle machine; on a busy one, where the threads of each
# step wait for one another, they cost five times as much.
_TILES = {"cpu": (512, 16384), "cuda": (8192, 16384)}
_PROBE_TOKENS = 3
_LARGEST_PLANTED = 1e4  # saturates any soft cap in use (30 to 50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How log-probs are read from a model.

    Attributes:
        kind: "fused", tiles of a plain linear head; "chunked", the model's own head module on some
            tokens at a time; "naive", the model's whole forward with all logits.
        module: The head, None where it is not known.
        scale: What logits are multiplied by.
        cap: Then capped at, cap tanh(logit / cap); None for no cap.
        notice: Why the head is not fused, empty where it is.
    """

    kind: Literal["fused", "chunked", "naive"]
    module: nn.Module | None = None
    scale: float = 1.0
    cap: float | None = None
    notice: str = ""


class _Stop(Exception):
    """No error: it ends a forward at the head."""


def find_head(model: nn.Module, device: torch.device) -> Head:
    """Find a model's head and what follows it, and check both against the model's own logits."""
    module = model.get_output_embeddings()
    if module is None:
        return Head(kind="naive", notice="the model names no output embeddings")
    ids = torch.arange(1, 1 + _PROBE_TOKENS, device=device)[None]
    with torch.inference_mode():
        after = _after_head(model, module, ids)
        if isinstance(after, str):
            return Head(kind="naive", notice=after)
        fused = type(module) is nn.Linear
        head = Head(
            kind="fused" if fused else "chunked",
            module=module,
            scale=after[0],
            cap=after[1],
            notice=""
            if fused
            else f"its head is a {type(module).__name__}, not a plain linear map",
        )
        return (
            head
            if _agrees(model, head, ids)
            else Head(kind="naive", notice="tiles of its head do not give its own logits")
        )


def _after_head(
    model: nn.Module, module: nn.Module, ids: torch.Tensor
) -> tuple[float, float | None] | str:
    """Measure what a model does to logits: plant some at its head, and see what its forward gives.

    Returns:
        Scale and cap, or what is in the way of them.
    """
    planted: list[torch.Tensor] = []

    def plant(_module, _args, output: torch.Tensor) -> torch.Tensor:
        half = (output.numel() + 1) // 2
        sizes = torch.logspace(-3, torch.log10(torch.tensor(_LARGEST_PLANTED)), half)
        signed = torch.stack([sizes, -sizes], dim=1).flatten()[: output.numel()]
        planted.append(signed.reshape(output.shape).to(output.device))
        return planted[-1].clone()  # the model may change it in place

    handle = module.register_forward_hook(plant)
    try:
        found = model(input_ids=ids, use_cache=False).logits
    except RuntimeError:  # planted float32 where the model insists on its own dtype
        return "what it does behind its head cannot be measured"
    finally:
        handle.remove()
    if len(planted) != 1 or planted[0].shape[:2] != ids.shape:
        return "its head is not called once on all tokens"
    if found.shape != planted[0].shape:
        return "it changes the shape of its logits behind the head"
    return _scale_and_cap(planted[0].double(), found.double())


def _scale_and_cap(planted: torch.Tensor, found: torch.Tensor) -> tuple[float, float | None] | str:
    small = planted.abs() < 1e-2
    scale = float((found[small] / planted[small]).median())
    scale = 1.0 if abs(scale - 1) < 1e-6 else scale
    if torch.allclose(found, scale * planted, rtol=1e-5, atol=0):
        return scale, None
    cap = float(found.abs().max())
    if cap > 0 and torch.allclose(found, cap * torch.tanh(scale * planted / cap), rtol=1e-4):
        return scale, cap
    return "it does more to its logits than to scale or cap them"


def _agrees(model: nn.Module, head: Head, ids: torch.Tensor) -> bool:
    """Compare log-probs of all tokens with the model's own, as closely as its dtype allows."""
    own = model(input_ids=ids, use_cache=False).logits[0].float()
    hidden = hidden_states(model, head, ids)[0]
    if hidden.shape[0] != ids.shape[1]:
        return False
    targets = own.argmax(dim=1)
    ours = token_log_probs(head, hidden, targets)
    theirs = own.log_softmax(dim=1).gather(1, targets[:, None])[:, 0]
    step = torch.finfo(hidden.dtype).eps  # 2^-7 in bfloat16: the model rounds its logits to that
    room = max(1e-4, 4 * step) * (1 + float(own.abs().max()))
    return bool(((ours - theirs).abs() <= room).all())


def hidden_states(model: nn.Module, head: Head, ids: torch.Tensor) -> torch.Tensor:
    """Return what the head is given for each token, shape (rows, tokens, width).

    The forward ends there, so that no logits are made.
    """
    caught: list[torch.Tensor] = []

    def stop(_module, args: tuple) -> None:
        caught.append(args[0])
        raise _Stop

    handle = head.module.register_forward_pre_hook(stop)
    try:
        model(input_ids=ids, use_cache=False)
    except _Stop:
        pass
    finally:
        handle.remove()
    return caught[0]


def token_log_probs(
    head: Head, hidden: torch.Tensor, targets: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """Return log-probs of given tokens.

    Args:
        head: A fused or chunked head.
        hidden: What the head is given, shape (tokens, width).
        targets: Token whose log-prob is wanted at each place, int64, shape (tokens,).
        temperature: Logits are divided by it.

    Returns:
        Log-probs in nats, float32, shape (tokens,).
    """
    tokens, entries = _TILES[hidden.device.type]
    if head.kind == "chunked":
        tokens = max(tokens // 8, 1)  # the module makes whole rows of logits
    product = _tiles(head, entries) if head.kind == "fused" else _whole(head)
    out = torch.empty(len(targets), device=hidden.device)
    for start in range(0, len(targets), tokens):
        part = slice(start, start + tokens)
        out[part] = _one_pass(head, product(hidden[part]), targets[part], temperature)
    return out


def _one_pass(head: Head, tiles, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """Carry maximum, sum of exponentials and the wanted logit over tiles of the vocabulary."""
    top = torch.full(targets.shape, -torch.inf, device=targets.device)
    total = torch.zeros_like(top)
    wanted = torch.full_like(top, torch.nan)
    for first, logits in tiles:
        shape_logits(head, logits, temperature)
        here = (targets >= first) & (targets < first + logits.shape[1])
        local = (targets - first).clamp(0, logits.shape[1] - 1)
        wanted = torch.where(here, logits.gather(1, local[:, None])[:, 0], wanted)
        new = torch.maximum(top, logits.amax(dim=1))
        logits.sub_(new[:, None]).exp_()
        total = total * (top - new).exp() + logits.sum(dim=1)
        top = new
    return (wanted - top) - total.log()


def shape_logits(head: Head, logits: torch.Tensor, temperature: float) -> None:
    """Do to logits, in place, what the model does behind its head, then the temperature."""
    if head.scale != 1:
        logits.mul_(head.scale)
    if head.cap is not None:
        logits.div_(head.cap).tanh_().mul_(head.cap)
    if temperature != 1:
        logits.div_(temperature)


def _tiles(head: Head, entries: int) -> Callable:
    weight, bias = head.module.weight, head.module.bias
    product = _product(weight)

    def tiles(hidden: torch.Tensor):
        for first in range(0, len(weight), entries):
            logits = product(hidden, weight[first : first + entries])
            if bias is not None:
                logits += bias[first : first + entries].float()
            yield first, logits

    return tiles


def _product(weight: torch.Tensor) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return a product with float32 sums and a float32 result, whatever the weights are."""
    if weight.dtype == torch.float32:
        return lambda hidden, part: hidden.to(torch.float32) @ part.T
    if weight.is_cuda and _mixed_product_works(weight):
        return lambda hidden, part: torch.mm(hidden, part.T, out_dtype=torch.float32)
    return lambda hidden, part: hidden.float() @ part.float().T


def _mixed_product_works(weight: torch.Tensor) -> bool:
    """Ask whether this torch multiplies half-precision matrices into float32 (2.8 and later)."""
    try:
        torch.mm(weight[:16], weight[:16].T, out_dtype=torch.float32)
    except (TypeError, RuntimeError):
        return False
    return True


def _whole(head: Head) -> Callable:
    def whole(hidden: torch.Tensor):
        # A copy: the head may hand out a tensor that it keeps.
        yield 0, head.module(hidden[None])[0].to(torch.float32, copy=True)

    return whole


def naive_log_probs(
    model: nn.Module,
    ids: torch.Tensor,
    targets: torch.Tensor,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Return log-probs by the model's whole forward and all its logits.

    Args:
        model: Any causal language model.
        ids: Tokens, shape (rows, tokens).
        targets: Token wanted after each place, int64, shape (rows, tokens).
        temperature: Logits are divided by it.

    Returns:
        Log-probs in nats, float32, shape (rows, tokens).

    Raises:
        UsageError: The model gives no logits of all tokens.
    """
    logits = model(input_ids=ids, use_cache=False).logits
    if logits is None or logits.shape[:2] != ids.shape:
        raise UsageError(
            f"{type(model).__name__} gives no logits for each token; expected a causal language "
            "model."
        )
    out = torch.empty(targets.shape, device=ids.device)
    for row in range(len(ids)):
        scores = (logits[row].float() / temperature).log_softmax(dim=1)
        out[row] = scores.gather(1, targets[row][:, None])[:, 0]
    return out
