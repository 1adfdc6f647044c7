"""Checks of docs/theory.md, sections 3 to 8: shift, clipping, formulas, PAC-Bayes, plans."""

import itertools
import math
from fractions import Fraction

import numpy as np
from validation.exact import binomial, capital, check, coin, half, outcomes, poisson_binomial

from taut.inequalities.mean import mean_interval
from taut.inequalities.pac_bayes import log_xi

WORLDS = 400


def _world(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return a random finite world, joint over (prompt, response); some of it uncovered."""
    prompts, responses = int(rng.integers(1, 4)), int(rng.integers(2, 6))
    rho = rng.dirichlet(np.ones(prompts))[:, None]
    policy, reference, behaviour = (
        rng.dirichlet(np.full(responses, rng.choice([0.2, 1.0])), prompts) for _ in range(3)
    )
    tiny = 1e-12
    policy, reference = ((law + tiny) / (1 + responses * tiny) for law in (policy, reference))
    behaviour = np.where(rng.random(behaviour.shape) < 0.15, 0.0, behaviour) + 0.0
    behaviour[:, 0] += 1e-3
    behaviour /= behaviour.sum(axis=1, keepdims=True)
    weight = np.divide(policy, behaviour, out=np.full_like(policy, np.inf), where=behaviour > 0)
    values = {"deployed": rho * policy, "train": rho * behaviour, "weight": weight}
    learned, target = rng.random((2, prompts, responses))
    return {
        **values,
        "learned": learned,
        "target": target,
        "ratio": np.log(policy / reference),
        "beta": rng.random(),
        "tau": 3 * rng.random(),
        "below": 3 * rng.random(),
        "most": 0.3 + 5 * rng.random(),
    }


def _worlds():
    rng = np.random.default_rng(0)
    return (_world(rng) for _ in range(WORLDS))


def _mean(law: np.ndarray, values: np.ndarray) -> float:
    return float(np.sum(law * np.where(law > 0, values, 0.0)))


@check("3.2", "|E e| <= |mean| + sqrt(chi2) sd <= C sqrt(L); the truncated form without coverage")
def shift_bounds():
    for w in _worlds():
        e = w["learned"] - w["target"]
        shift, bias = _mean(w["deployed"], e), _mean(w["train"], e)
        mse = _mean(w["train"], e**2)
        sd = math.sqrt(max(0.0, mse - bias**2))
        cut = np.minimum(w["weight"], w["most"])
        mass = _mean(w["train"], cut)
        spread = math.sqrt(max(0.0, _mean(w["train"], cut**2) - mass**2))
        assert mass <= 1 + 1e-12
        assert abs(shift) <= mass * abs(bias) + spread * sd + 1 - mass + 1e-9
        if np.isfinite(w["weight"]).all():
            chi2 = max(0.0, _mean(w["train"], w["weight"] ** 2) - 1)
            centred = abs(bias) + math.sqrt(chi2) * sd
            assert abs(shift) <= centred + 1e-9
            assert centred <= math.sqrt(1 + chi2) * math.sqrt(mse) + 1e-9
            kl = _mean(w["deployed"], np.log(w["weight"]))
            assert math.sqrt(1 + chi2) >= math.exp(kl / 2) * (1 - 1e-9)
    return f"{WORLDS} worlds"


@check("3.4", "double lower bound, and its moments on-policy, whatever is uncovered")
def double_lower_bound():
    for w in _worlds():
        most, weight = w["most"], w["weight"]
        cut = np.minimum(weight, most)
        share = np.minimum(1.0, most / weight)
        low = _mean(w["train"], cut * w["target"])
        high = 1 - _mean(w["train"], cut * (1 - w["target"]))
        assert low - 1e-12 <= _mean(w["deployed"], w["target"]) <= high + 1e-12
        assert math.isclose(_mean(w["train"], cut), _mean(w["deployed"], share), abs_tol=1e-9)
        square = np.minimum(weight, most * share)  # min(w, M^2/w), 0 where D_train is not
        assert math.isclose(
            _mean(w["train"], cut**2), _mean(w["deployed"], square), rel_tol=1e-9, abs_tol=1e-9
        )
    return f"{WORLDS} worlds"


@check("3.5", "linear errors: |E e - mean| <= Delta sd, and Delta^2 <= chi2")
def class_coverage():
    rng = np.random.default_rng(1)
    for _ in range(200):
        train, deployed = rng.dirichlet(np.ones(8)), rng.dirichlet(np.ones(8))
        features = rng.normal(size=(8, 3))
        e = features @ rng.normal(size=3) + rng.normal()
        centre = train @ features
        covariance = (features - centre).T @ (train[:, None] * (features - centre))
        moved = deployed @ features - centre
        squared = moved @ np.linalg.solve(covariance, moved)
        sd = math.sqrt(train @ (e - train @ e) ** 2)
        assert abs(deployed @ e - train @ e) <= math.sqrt(squared) * sd * (1 + 1e-9) + 1e-12
        assert squared <= (deployed**2 / train).sum() - 1 + 1e-9
    return "200 worlds"


def _draw_laws() -> dict:
    """Law of a draw: (r* and r of its two rows); prompts differ in how good the judge is."""
    law = {}
    for judge, gold in ((half(), Fraction(1, 4)), (Fraction(1), Fraction(3, 4))):
        for rows, chance in outcomes([coin(gold), coin(gold)]):
            marks = tuple((g, judge * g + (1 - judge) / 2) for g in rows)
            law[marks] = law.get(marks, 0) + chance / 2
    return law


def _rectifier(labelled, other, weight, row=0):
    """Return B: one labelled row, control averaged in each draw, then over the draw and another."""
    control = sum(weight * r for draw in (labelled, other) for _, r in draw) / 4
    gold, learned = labelled[row]
    return gold - weight * learned + control


@check("3.6", "predictable weight of the judge and bets: E capital = 1; own block's weight: > 1")
def predictable_rectifier():
    law = _draw_laws()
    mean = sum(chance * draw[0][0] for draw, chance in law.items())
    honest = leak = Fraction(0)
    for (one, two, three, four), chance in outcomes([law] * 4):
        first = _rectifier(one, two, half())
        learned = abs(one[0][0] - one[0][1])  # how far the judge was off, one block ago
        bet = Fraction(1, 3) if first < mean else Fraction(2, 3)
        start = 1 + half() * (first - mean)
        honest += chance * start * (1 + bet * (_rectifier(three, four, 1 - learned, row=1) - mean))
        peek = max(_rectifier(three, four, w, row=1) for w in (Fraction(0), Fraction(1)))
        leak += chance * start * (1 + bet * (peek - mean))
    assert honest == 1 < leak
    return f"honest {honest}, peeking {float(leak):.3f}"


@check("3.6", "pooling the control's rows where K depends on the prompt: .882 for .5")
def pooled_rows():
    pooled = Fraction(15 * 1 + 2 * 0, 15 + 2)  # half the prompts r* = r = 1 with K = 15, half 0, 2
    mean = half()
    assert (mean - mean) + pooled == Fraction(15, 17)  # rectifier is 0 on every labelled row
    return f"{float(pooled):.3f}"


@check("3.6", "rows labelled by coin flips, unequal K: row and prompt means are biased")
def row_labelling():
    kinds, p = ((2, Fraction(9, 10)), (7, Fraction(1, 5))), Fraction(1, 8)
    truth = sum(r for _, r in kinds) / 2
    rows = sum(k * r for k, r in kinds) / sum(k for k, _ in kinds)
    seen = [1 - (1 - p) ** k for k, _ in kinds]
    prompts = sum(s * r for s, (_, r) in zip(seen, kinds, strict=True)) / sum(seen)
    weighted = sum(s * r / s for s, (_, r) in zip(seen, kinds, strict=True)) / 2
    assert weighted == truth == Fraction(11, 20)
    assert prompts < truth and rows < prompts
    return f"rows {float(rows):.3f}, prompts {float(prompts):.3f}, weighted {float(weighted):.3f}"


@check("3.6", "stratified labels with shares of the log, read as E r*: missed by .6")
def stratified_shares():
    draws, blocks, delta = 1000, 200, 0.05
    missed = 0.0
    for ones in range(400, 601):
        interval = mean_interval(np.full(blocks, ones / draws), low=0, high=1, delta=delta)
        if not interval.lower <= 0.5 <= interval.upper:
            missed += binomial(draws, ones, 0.5)
    assert missed > 0.5
    fresh = Fraction(0)  # blocks of 2 fresh draws, one label of each stratum there, weights G_h/G
    for (one, two), chance in outcomes([coin(Fraction(1, 3))] * 2):
        strata = {one, two}
        fresh += chance * sum(Fraction([one, two].count(s), 2) * s for s in strata)
    assert fresh == Fraction(1, 3)
    return f"misses {missed:.2f}; blocks of fresh draws are unbiased"


@check("3.6", "coming back: bets made stay made, P <= eta; made anew for the new n: 3/4 for 1/2")
def coming_back():
    anew = kept = Fraction(0)
    for labels, chance in outcomes([coin(half()), coin(half())]):
        first = 1 + 2 * (labels[0] - half())  # all on the one label that was planned
        second = 1 + 2 * (labels[1] - half())
        anew += chance * (first >= 2 or second >= 2)  # two labels: none on the first, all on this
        kept += chance * (first >= 2 or first * second >= 2)
    assert anew == Fraction(3, 4) and kept <= half()
    return f"anew {float(anew)}, kept {float(kept)}"


@check("3.6", "gold and reward data in one fortune: a prompt in two blocks leaks")
def one_fortune():
    mean = half()  # of r*, which is the prompt's own 0 or 1; two prompts; importance mean lower

    def bet(past):
        return Fraction(2) if past and past[0] == 1 else Fraction(0)

    split = joined = Fraction(0)
    for (x, y), chance in outcomes([coin(mean), coin(mean)]):
        split += chance * capital((x, x * Fraction(9, 10)), mean, bet)
        together = half() * x + half() * x * Fraction(9, 10)
        joined += chance * capital((together, y), mean, lambda p: bet((1,) if p and p[0] else ()))
    assert split > 1 >= joined
    return f"in two blocks {float(split):.2f}, in one {float(joined):.3f}"


@check("3.6", "active labels: unbiased for any chances made of r; the range is attained")
def active_labels():
    size, floor, weight = 3, Fraction(1, 2), Fraction(3, 4)
    ends = [Fraction(10), Fraction(-10)]
    grid = (Fraction(0), half(), Fraction(1))
    chances = [floor / size, floor / size, 1 - 2 * floor / size]
    for g in itertools.product(grid, repeat=size):
        for gold in itertools.product((0, 1), repeat=size):
            for q in set(itertools.permutations(chances)):
                control = weight * sum(g) / size
                blocks = [control + (gold[j] - weight * g[j]) / (size * q[j]) for j in range(size)]
                mean = sum(q[j] * blocks[j] for j in range(size))
                assert mean == Fraction(sum(gold), size)
                ends = [min(ends[0], *blocks), max(ends[1], *blocks)]
    low = -weight * (1 / floor - Fraction(1, size))
    high = 1 / floor + weight * (1 - Fraction(1, size))
    assert ends == [low, high]
    return f"[{low}, {high}] at G = 3, c = 1/2, lambda = 3/4"


@check("3.6", "active labels on one row of K: 1/G in the range becomes 1/(GK)")
def active_rows():
    size, rows, floor, weight = 2, 2, Fraction(1, 2), Fraction(3, 4)
    ends = [Fraction(10), Fraction(-10)]
    bits = (Fraction(0), Fraction(1))
    chances = (floor / size, 1 - floor / size)
    for g in itertools.product(bits, repeat=size * rows):
        for q in (chances, chances[::-1]):
            control = weight * sum(g) / (size * rows)
            for j, row, gold in itertools.product(range(size), range(rows), bits):
                block = control + (gold - weight * g[j * rows + row]) / (size * q[j])
                ends = [min(ends[0], block), max(ends[1], block)]
    single = -weight * (1 / floor - Fraction(1, size))
    assert ends[0] == -weight * (1 / floor - Fraction(1, size * rows)) < single
    assert ends[1] == 1 / floor + weight * (1 - Fraction(1, size * rows))
    return f"{ends[0]} where K = 1 has {single}"


@check("3.6", "active labels: labelling later a draw that was passed over is a leak")
def passed_over():
    total = Fraction(0)  # r* = g; blocks of two draws, lambda = 1: the block shows both g
    for (x, y), chance in outcomes([coin(half()), coin(half())]):
        for shown, passed in ((x, y), (y, x)):
            first = (x + y) / 2  # = r*_J - g_J + mean g, whichever is labelled
            bet = Fraction(2) if first == 1 else Fraction(0)
            total += half() * chance * (1 + bet * (passed - half()))
            assert shown in (0, 1)
    assert total > 1
    return f"expected capital {float(total):.3f}"


@check("3.7", "log-prob noise nu: pure forms hold with w e^-nu, the control form fails by .632")
def noise():
    nu, rng = 0.5, np.random.default_rng(2)
    cut = math.exp(-2 * nu)
    control = cut * (0 - 1) + 1.0
    assert round(control, 3) == 0.632
    for w in _worlds():
        logged = w["weight"] * np.exp(rng.uniform(-nu, nu, w["weight"].shape))
        u = np.minimum(logged * math.exp(-nu), w["most"])
        assert _mean(w["train"], u * w["target"]) <= _mean(w["deployed"], w["target"]) + 1e-12
        share = np.minimum(math.exp(-2 * nu), w["most"] * math.exp(-nu) / logged)
        mended = _mean(w["train"], u * (w["target"] - w["learned"]))
        mended += _mean(w["deployed"], share * w["learned"])
        assert mended <= _mean(w["train"], u * w["target"]) + 1e-9
    return f"control form {control:.3f} for 0; with g = u e^-nu / w it holds in {WORLDS} worlds"


@check("4.2", "E e^-l <= 1, T- <= e^(-1-tau), sharp")
def negative_side():
    for w in _worlds():
        ratio, tau = w["ratio"], w["below"]
        assert _mean(w["deployed"], np.exp(-ratio)) <= 1 + 1e-9
        assert _mean(w["deployed"], np.maximum(-ratio - tau, 0)) <= math.exp(-1 - tau) + 1e-12
    tau, rest = 1.5, 1e-9
    mass = math.exp(-1 - tau) * (1 - rest)  # policy mass where the reference has all but `rest`
    reached = mass * (math.log((1 - rest) / mass) - tau)
    assert reached > math.exp(-1 - tau) * (1 - 1e-6)
    return f"sup reached to {reached / math.exp(-1 - tau):.7f}"


@check("4.3", "J* = E[f - e] - beta T+ + beta T-, and both final formulas of section 5")
def final_formulas():
    for w in _worlds():
        clipped = np.clip(w["ratio"], -w["below"], w["tau"])
        on, train, beta = w["deployed"], w["train"], w["beta"]
        objective = _mean(on, w["target"] - beta * w["ratio"])
        positive = beta * _mean(on, np.maximum(w["ratio"] - w["tau"], 0))
        negative = beta * _mean(on, np.maximum(-w["ratio"] - w["below"], 0))
        gold = _mean(on, w["target"] - beta * clipped)
        assert math.isclose(objective, gold - positive + negative, abs_tol=1e-9)
        u, g = np.minimum(w["weight"], w["most"]), np.minimum(1, w["most"] / w["weight"])
        e = w["learned"] - w["target"]
        low = _mean(train, -u * e) + _mean(on, w["learned"] * g - beta * clipped)
        high = 1 - _mean(train, u * e) - _mean(on, (1 - w["learned"]) * g + beta * clipped)
        assert low - positive - 1e-9 <= objective <= high + negative + 1e-9
        if np.isfinite(w["weight"]).all():
            chi2, mse = max(0.0, _mean(train, w["weight"] ** 2) - 1), _mean(train, e**2)
            bias = min(max(math.sqrt(mse / (1 + chi2)), _mean(train, e) - 0.1), _mean(train, e))
            worst = bias + math.sqrt(max(0.0, chi2 * (mse - bias**2)))
            learned = _mean(on, w["learned"] - beta * clipped)
            assert learned - worst - positive <= objective + 1e-9
    return f"{WORLDS} worlds"


@check("4.4", "second moment: E(l - tau)+ <= s^2/(4 tau) for s <= 2 tau, else s - tau; attained")
def second_moment():
    x = np.linspace(0, 20, 20001)
    for s, tau in ((1.0, 2.0), (2.0, 1.0), (3.0, 0.0), (1.0, 0.5)):
        bound = s * s / (4 * tau) if s <= 2 * tau else s - tau
        reached = np.max(np.maximum(x - tau, 0) * np.minimum(1, (s / np.maximum(x, 1e-12)) ** 2))
        assert abs(reached - bound) < 1e-3
    return "two-point laws reach it"


@check("4.5", "token clipping: what the negative side hides is at most E[length] e^(-1-tau)")
def token_clipping():
    rng, tau, tightest = np.random.default_rng(7), 0.4, np.inf
    for _ in range(200):
        hidden = length = 0.0
        prefixes = [1.0]  # policy mass of each unfinished prefix; token 0 ends the response
        for depth in range(4):
            grown = []
            for mass in prefixes:
                policy, reference = rng.dirichlet(np.full(3, 0.5), 2) + 1e-9
                excess = np.maximum(np.log(reference / policy) - tau, 0)
                hidden += mass * (policy / policy.sum() @ excess)
                length += mass
                grown += list(mass * policy[1:] / policy.sum())
            prefixes = grown if depth < 3 else []
        bound = length * math.exp(-1 - tau)
        tightest = min(tightest, bound - hidden)
    assert tightest >= -1e-6
    return "200 random trees of tokens"


@check("4.6", "a sampler b scored as p: the mean of f moves by at most sd_p(f) sqrt(chi2(b||p))")
def sampler_shift():
    rng = np.random.default_rng(3)
    swapped = 0
    for _ in range(500):
        b, p = rng.dirichlet(np.full(5, 0.5)) + 1e-9, rng.dirichlet(np.full(5, 0.5)) + 1e-9
        b, p, f = b / b.sum(), p / p.sum(), rng.random(5)
        chi2 = (b * b / p).sum() - 1
        gap = abs(b @ f - p @ f)
        assert gap <= math.sqrt(p @ (f - p @ f) ** 2 * chi2) + 1e-12
        swapped += gap > math.sqrt(b @ (f - b @ f) ** 2 * chi2) + 1e-12
        assert (b * (p / b)).sum() <= 1 + 1e-12
    assert swapped  # with the spread of f under b, which the log shows, it is false
    return f"with sd_b in place of sd_p it fails in {swapped} of 500"


@check("6.1", "xi(n) <= 2 sqrt(n) for all n up to 2,000; and for independent, different laws")
def xi():
    assert all(math.exp(log_xi(n)) <= 2 * math.sqrt(n) * (1 + 1e-12) for n in range(1, 2001))
    rng, worst = np.random.default_rng(4), 0.0
    for _ in range(200):
        n = int(rng.integers(2, 9))
        p = rng.uniform(0.01, 0.99, n) ** rng.integers(1, 3)
        law, mean = poisson_binomial(p), p.mean()
        value = 0.0
        for k, chance in enumerate(law):
            share = k / n
            kl = sum(
                a * math.log(a / b) for a, b in ((share, mean), (1 - share, 1 - mean)) if a > 0
            )
            value += chance * math.exp(n * kl)
        worst = max(worst, value / math.exp(log_xi(n)))
    assert worst <= 1 + 1e-9
    return f"largest E e^(n kl) / xi(n) over different laws {worst:.3f}"


@check("6.4", "SGD at rest: A S + S A - eta A S A = (eta/b) C; tr S = eta/(2b) tr A^-1 C")
def ornstein_uhlenbeck():
    rng = np.random.default_rng(5)
    root, noise = rng.normal(size=(2, 3, 3))
    hessian, noise = root @ root.T + np.eye(3), noise @ noise.T
    rate, batch = 0.01, 4
    step = np.eye(3) - rate * hessian
    sigma = np.zeros((3, 3))
    for _ in range(20000):
        sigma = step @ sigma @ step + rate**2 * noise / batch
    left = hessian @ sigma + sigma @ hessian - rate * hessian @ sigma @ hessian
    assert np.allclose(left, rate / batch * noise)
    flow = rate / (2 * batch) * np.trace(np.linalg.solve(hessian, noise))
    assert abs(np.trace(sigma) - flow) < 0.1 * flow
    return "iterated to its fixed point"


@check("7.1", "2 tau alpha + E(|l| - tau)+ is least at the (1 - 2 alpha)-quantile of |l|")
def paper_threshold():
    sizes = np.sort(np.random.default_rng(6).exponential(2.0, 1001))
    grid = np.linspace(0, 15, 3001)
    for alpha in (0.05, 0.2, 0.45, 0.6):
        cost = [2 * t * alpha + np.maximum(sizes - t, 0).mean() for t in grid]
        quantile = 0.0 if alpha >= 0.5 else float(np.quantile(sizes, 1 - 2 * alpha))
        assert abs(grid[int(np.argmin(cost))] - quantile) < 0.06
    return "on a grid of 0.005 nats"


@check("8", "K* = (c_p/c_d)^(2/3); sqrt(c_p s_r^2/(c_d s_p^2)); rollouts : labels = (A'/C')^(2/3)")
def plans():
    grid = np.linspace(1, 60, 59001)
    price = (40.0 + grid * 1.0) ** 0.5 * (1 + grid**-0.5)
    assert abs(grid[np.argmin(price)] - 40 ** (2 / 3)) < 0.01
    variance = (40.0 + grid) * (0.02 + 0.1 / grid)
    assert abs(grid[np.argmin(variance)] - math.sqrt(40 * 0.1 / 0.02)) < 0.01
    share = np.linspace(0.001, 0.999, 99801)
    width = 3.0 * share**-0.5 + 2.0 * (1 - share) ** -0.5
    best = share[np.argmin(width)]
    assert abs(best / (1 - best) - (3 / 2) ** (2 / 3)) < 1e-3
    pairs = np.geomspace(1, 1e6, 4001)
    for power in (0.3, 1.0, 2.5):
        root = np.sqrt(0.01 + 3 * pairs**-power)
        slopes = np.diff(root) / np.diff(pairs)
        assert (np.diff(slopes) >= -1e-15).all()  # convex in the number of pairs
    return "minima on grids; sqrt(L_inf + a m^-g) convex"
