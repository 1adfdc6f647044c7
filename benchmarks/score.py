"""Log-probs of responses: our tiles against the ways of the field, and against the machine.

    python benchmarks/score.py [--repeat 3] [--vocabulary 151936] [--tokens 512] [--width 128]

Each way runs in a process of its own, on the same random Qwen2 model, which is small but for its
vocabulary: there the head is what costs. "naive" is the whole forward and log_softmax of all
logits, "gather" the whole forward, the wanted logits and a logsumexp row by row, "ours" what
`taut score` does. Peak is what a process has in memory at most, over what it has once the model is
loaded and warm. The ceiling is the rate of one large matrix product, measured in the same process;
the share of it counts only the arithmetic that the model needs (two operations a weight and token,
attention included), so that 1 cannot be passed.

With a GPU everything runs there, in bfloat16, and the ceiling is the product's rate in bfloat16.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

WAYS = ("naive", "gather", "ours")


def build(given):
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=given.vocabulary,
        hidden_size=given.width,
        intermediate_size=4 * given.width,
        num_hidden_layers=given.layers,
        num_attention_heads=max(given.width // 64, 1),
        num_key_value_heads=max(given.width // 64, 1),
        max_position_embeddings=given.tokens + 1,
    )
    cuda = torch.cuda.is_available()
    dtype = torch.bfloat16 if cuda else torch.float32
    model = Qwen2ForCausalLM(config).eval().requires_grad_(False)
    return model.to("cuda" if cuda else "cpu", dtype)


def way(name, model, ids):
    """Return a function that gives the log-probs of all tokens but the first, (rows, tokens)."""
    import torch

    from taut.training.scoring.head import find_head, hidden_states, token_log_probs

    after = ids[:, 1:]
    if name == "naive":

        def run():
            scores = model(ids, use_cache=False).logits[:, :-1].float().log_softmax(-1)
            return scores.gather(2, after[..., None])[..., 0]

    elif name == "gather":

        def run():
            logits = model(ids, use_cache=False).logits[:, :-1]
            wanted = logits.gather(2, after[..., None])[..., 0].float()
            return wanted - torch.stack([row.float().logsumexp(-1) for row in logits])

    else:
        head = find_head(model, ids.device)
        assert head.kind == "fused", head

        def run():
            hidden = hidden_states(model, head, ids[:, :-1])
            flat = token_log_probs(head, hidden.flatten(0, 1), after.flatten())
            return flat.reshape(after.shape)

    return run


def peak_mb(torch, cuda):
    if cuda:
        return torch.cuda.max_memory_allocated() / 2**20
    with open("/proc/self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    return int(status["VmHWM"].split()[0]) / 1024


def forget_peak(torch, cuda):
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    else:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")


def seconds(task, torch, cuda):
    """Return wall seconds, and those of the processor, which say more on a busy machine."""
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter(), time.process_time()
    task()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def ceiling(torch, cuda, dtype, repeat):
    """Return the operations a second (wall, processor) of one large product, the best of some."""
    size = 8192 if cuda else 1536
    a, b = (torch.randn(size, size, dtype=dtype, device="cuda" if cuda else "cpu") for _ in "ab")
    times = [seconds(lambda: a @ b, torch, cuda) for _ in range(repeat + 2)][1:]
    return tuple(2 * size**3 / min(t[i] for t in times) for i in (0, 1))


def operations(model, rows, tokens):
    """Count what the model needs for the log-probs: products of weights, and attention."""
    weights = sum(
        module.weight.numel()
        for module in model.modules()
        if type(module).__name__ == "Linear"  # the head too, the embedding not
    )
    config = model.config
    attention = 2 * config.num_hidden_layers * config.hidden_size * tokens**2  # causal: half of 4
    return rows * (2 * weights * tokens + attention)


def child(given):
    import torch

    if given.threads:
        torch.set_num_threads(given.threads)
    model = build(given)
    cuda = next(model.parameters()).is_cuda
    device = next(model.parameters()).device
    ids = torch.randint(0, given.vocabulary, (given.rows, given.tokens), device=device)
    with torch.inference_mode():
        way(given.way, model, ids[:1, :16])()  # warm
        forget_peak(torch, cuda)
        before = peak_mb(torch, cuda)
        run = way(given.way, model, ids)
        kept = {}
        times = [seconds(lambda: kept.update(out=run()), torch, cuda) for _ in range(given.repeat)]
        peak = peak_mb(torch, cuda) - before
        top = ceiling(torch, cuda, next(model.parameters()).dtype, given.repeat)
    wall, cpu = (statistics.median(t[i] for t in times) for i in (0, 1))
    work = operations(model, given.rows, given.tokens - 1)
    print(
        json.dumps(
            {
                "wall": wall,
                "cpu": cpu,
                "peak": peak,
                "share": work / wall / top[0],
                "cpu_share": work / cpu / top[1] if not cuda else None,
                "top": top[0],
                "sums": kept["out"].double().sum(1).tolist(),
                "device": torch.cuda.get_device_name() if cuda else "CPU",
            }
        )
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--vocabulary", type=int, default=151_936)
    options.add_argument("--tokens", type=int, default=512)
    options.add_argument("--rows", type=int, default=8)
    options.add_argument("--width", type=int, default=128)
    options.add_argument("--layers", type=int, default=2)
    options.add_argument("--threads", type=int, default=0)
    options.add_argument("--way", choices=WAYS)
    given = options.parse_args()
    if given.way:
        child(given)
        return
    found = {}
    for name in WAYS:
        command = [sys.executable, __file__, *sys.argv[1:], "--way", name]
        out = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        found[name] = json.loads(out.splitlines()[-1])
    ours = found["ours"]
    places = given.rows * given.tokens
    print(
        f"{given.rows} rows x {given.tokens} tokens, vocabulary {given.vocabulary:,}, width "
        f"{given.width}, {given.layers} layers, {ours['device']}; product alone "
        f"{ours['top'] / 1e9:,.0f} GFLOP/s"
    )
    for name, one in found.items():
        gap = max(abs(a - b) for a, b in zip(one["sums"], ours["sums"], strict=True))
        cpu = f" ({one['cpu_share']:.2f} of processor time)" if one["cpu_share"] else ""
        print(
            f"  {name:6s} {places / one['wall']:9,.0f} tokens/s, peak {one['peak']:6,.0f} MB, "
            f"{one['share']:.2f}{cpu} of the product's rate   {name}/ours: time "
            f"{one['wall'] / ours['wall']:.2f}, processor {one['cpu'] / ours['cpu']:.2f}, memory "
            f"{one['peak'] / ours['peak']:.1f}; sums differ by {gap:.1e} nats at most"
        )


if __name__ == "__main__":
    main()
