"""Checks of docs/theory.md, sections 1 and 2: draws, laws, labels, missing rollouts."""

import itertools
import math
from fractions import Fraction

import numpy as np
from scipy import stats
from validation.exact import binomial, capital, check, coin, half, outcomes, poisson_binomial

from taut.inequalities.betting import mixture_lower, star_lower
from taut.inequalities.concentration import clopper_pearson

STAKE = Fraction(99, 100)  # of the fortune, at most, in one bet


@check("2", "merging prompts of a population with atoms changes the mean: .104 for a true .5")
def merged_atoms():
    n = 500
    others = Fraction(n, 2)
    merged = (Fraction(9, 10) + others / 10) / (1 + others)
    assert abs(merged - half()) > Fraction(1, 3)
    return f"{float(merged):.3f} for .5 at n = {n}"


@check("2", "rows (7, 1) and (1, 7) in the same two cells are two laws: expected capital 1.371")
def unequal_profiles():
    blocks, mean = (Fraction(1, 8), Fraction(7, 8)), half()

    def bet(past):
        return STAKE / mean if past and past[0] < mean else Fraction(0)

    mean_capital = sum(capital(o, mean, bet) for o in itertools.permutations(blocks)) / 2
    assert mean_capital == Fraction(137125, 100000)
    # Averaged cell by cell with weights 1/2, both draws have one mean: nothing to bet on.
    assert capital((mean, mean), mean, bet) == 1
    return f"{float(mean_capital):.5f}"


@check("2", "at the realised average of an on-policy log constant bets fail: 1.031")
def realised_average():
    total = Fraction(0)
    for first in (0, 1):
        second = Fraction(1) if first else half()
        average = (half() + second) / 2
        for (last,), chance in outcomes([coin(second)]):
            total += half() * chance * capital((first, last), average, lambda _: Fraction(1))
    assert total == Fraction(33, 32)
    return f"{float(total):.5f}"


@check("2", "several profiles and a small pool: no order-free bound on the pool's mean, capital 2")
def profiles_of_a_pool():
    # Two prompts, each logged once, in either cell; the policy of a cell knows one prompt only.
    means = {("A", 0): 1, ("A", 1): 0, ("B", 0): 0, ("B", 1): 1}
    pool = Fraction(sum(means.values()), 4)
    orders = list(itertools.permutations((0, 1)))
    total = Fraction(0)
    listed = Fraction(0)
    for one, two in orders:
        logged = (Fraction(means["A", one]), Fraction(means["B", two]))
        total += capital(logged, pool, lambda _: Fraction(1, 1) / pool) / len(orders)
        listed += capital(logged, sum(logged) / 2, lambda _: Fraction(1)) / len(orders)
    assert total == 2 and listed <= 1
    return (
        f"at the pool's mean {float(total):.0f}; at the mean of what was logged {float(listed):.2f}"
    )


@check("2", "checkpoints chosen by the outcomes that are logged: .75 for .5")
def chosen_checkpoints():
    best = sum(chance * max(pair) for pair, chance in outcomes([coin(half()), coin(half())]))
    assert best == Fraction(3, 4)
    return f"the better of two equal checkpoints shows {float(best)}"


@check("2", "dealt groups over different laws: E prod = E of Maclaurin's product, at most 1")
def dealt_groups():
    rng = np.random.default_rng(0)
    worst, n = Fraction(0), 6
    for trial in range(6):
        a, c = ([Fraction(int(v), 20) for v in rng.integers(0, 21, n)] for _ in range(2))
        weight = Fraction(int(rng.integers(0, 5)), 4)
        u = [x + weight * (y - min(c)) for x, y in zip(a, c, strict=True)]  # E r* of each draw
        control = [weight * (y - min(c)) for y in c]
        residual = [x - y for x, y in zip(u, control, strict=True)]
        mean = sum(u) / n
        eta = [STAKE / mean] * 2 if trial % 2 else [STAKE / mean, STAKE / (3 * mean)]
        sizes, own = ((1, 3), (2, 2))[trial % 2], trial % 3 == 0
        dealt = plain = Fraction(0)
        orders = list(itertools.permutations(range(n)))
        for order in orders:
            product, place = Fraction(1), 2
            for b, size in enumerate(sizes):
                group = [*order[place : place + size], *([order[b]] if own else [])]
                place += size
                group_mean = sum(control[i] for i in group) / len(group)
                product *= 1 + eta[b] * (residual[order[b]] + group_mean - mean)
            dealt += product
            plain += math.prod(1 + eta[b] * (u[order[b]] - mean) for b in range(2))
        assert dealt == plain <= len(orders)
        worst = max(worst, dealt / len(orders))
    return f"largest of 6 random worlds {float(worst):.4f}"


@check("2", "several laws: tau chosen on draws set aside leaks, 3/2; the judge's weight does not")
def chosen_on_calibration_draws():
    means = {1: (1, 0), 2: (0, 1)}  # E of both draws of a list at either threshold
    chosen = Fraction(0)
    for aside, left in ((0, 1), (1, 0)):
        tau = 2 if means[1][aside] == 1 else 1  # the threshold at which the other draw is high
        chosen += half() * (1 + (means[tau][left] - half()))
    fixed = sum(half() * (1 + (means[1][left] - half())) for left in (0, 1))
    assert chosen == Fraction(3, 2) and fixed == 1
    return f"chosen {float(chosen)}, fixed {float(fixed)}"


@check("2", "predictable bets on a list, or on labels that are a random subset of it, fail: 1.495")
def predictable_on_a_list():
    def bet(past):
        return 2 * STAKE if past and past[0] == 0 else Fraction(0)

    value = sum(capital(o, half(), bet) for o in itertools.permutations((0, 1))) / 2
    assert value == Fraction(1495, 1000)
    constant = capital((0, 1), half(), lambda _: STAKE)
    assert constant < 1
    drifting = np.repeat([1.0, 0.0], 50)
    ordered = star_lower(drifting, 0.025)
    assert ordered > 0.5 > mixture_lower(drifting, 0.025)
    return f"{float(value):.3f}; a drifting list in file order: lower end {ordered:.2f} for .5"


@check("2", "pooled within-draw label test accuses honest logs; the convolution is exact")
def labels_within_draws():
    draws, rows = 10, 4  # half the prompts all above the cut with 3 labels, half below with 1
    above, labels = [rows] * draws + [0] * draws, [3] * draws + [1] * draws
    seen = sum(k for a, k in zip(above, labels, strict=True) if a)
    urn = stats.hypergeom(2 * draws * rows, sum(above), sum(labels))
    pooled = urn.sf(seen - 1)
    law = np.ones(1)
    for a, k in zip(above, labels, strict=True):
        law = np.convolve(law, stats.hypergeom(rows, a, k).pmf(np.arange(k + 1)))
    exact = law[seen:].sum()
    assert pooled < 1e-3 < 0.999 < exact
    return f"pooled p = {pooled:.1e}, by draw p = {exact:.3f}"


def _moment(law, s: int, rows: int):
    return sum(w * p**s * (1 - p) ** (rows - s) for p, w in law)


def _factor(j: int, rows: int) -> Fraction:
    return 1 - Fraction(2 * math.comb(rows, j), math.comb(2 * rows, j))


@check("2", "equal rewards: P(one of a pair is all equal | sum) is at least 2C(K,j)/C(2K,j)")
def equal_reward_pairs():
    rng = np.random.default_rng(1)
    tightest = Fraction(10)
    for rows in (2, 3, 5, 8):
        for _ in range(20):
            laws = [
                [(Fraction(int(p), 12), Fraction(int(w))) for p, w in rng.integers(1, 12, (3, 2))]
                for _ in range(2)
            ]
            one, two = (
                [math.comb(rows, s) * _moment(law, s, rows) for s in range(rows + 1)]
                for law in laws
            )
            for total in range(1, 2 * rows):
                joint = {
                    a: one[a] * two[total - a] for a in range(rows + 1) if 0 <= total - a <= rows
                }
                equal = sum(w for a, w in joint.items() if {a, total - a} & {0, rows})
                j = min(total, 2 * rows - total)
                tightest = min(tightest, equal / sum(joint.values()) / (1 - _factor(j, rows)))
    assert tightest >= 1
    return f"smallest ratio to the bound {float(tightest):.4f}"


@check("2", "equal rewards: the p-value is valid in exact enumeration, one-sided form too")
def equal_reward_test():
    rows, found = 3, []
    high, even = [(Fraction(9, 10), 1)], [(half(), 1)]
    mixed = [(Fraction(1, 5), 1), (Fraction(4, 5), 2)]
    counts = []
    for law in (high, mixed, even, high):
        total = sum(w for _, w in law)
        counts.append(
            {
                s: math.comb(rows, s) * Fraction(_moment(law, s, rows)) / total
                for s in range(rows + 1)
            }
        )
    for one_sided in (False, True):
        values = {}
        for sums, chance in outcomes(counts):
            bad = {rows} if one_sided else {0, rows}
            p = Fraction(1)
            if not bad & set(sums):
                for pair in (sum(sums[:2]), sum(sums[2:])):
                    if pair >= rows or not one_sided:
                        p *= _factor(min(pair, 2 * rows - pair), rows)
            values[p] = values.get(p, 0) + chance
        level = Fraction(0)
        for p in sorted(values):
            level += values[p]
            assert level <= p
        found.append(float(min(values)))
    return f"P(p <= t) <= t at every t; smallest p {found[0]:.3f}, one-sided {found[1]:.3f}"


@check("2", "equal rewards, n = 600, success .9: p about 1e-49 at K = 8, 1e-28 at 16, 1e-7 at 32")
def equal_reward_power():
    logs = {}
    for rows in (8, 16, 32):
        law = np.array([binomial(rows, s, 0.9) for s in range(rows + 1)])
        law[[0, -1]] = 0.0
        law /= law.sum()
        sums = np.convolve(law, law)
        used = np.flatnonzero(sums > 0)
        factors = [float(_factor(min(j, 2 * rows - j), rows)) for j in used]
        logs[rows] = 300 * float(sums[used] @ np.log10(factors))
    assert 600 * math.log10(1 - 2.0 ** (1 - 16)) > -0.01  # the worst case over p sees nothing
    assert [round(logs[rows]) for rows in (8, 16, 32)] == [-49, -28, -7]
    return ", ".join(f"K = {rows}: 10^{value:.1f}" for rows, value in logs.items())


@check("2", "equal rewards must be tested cell by cell: an honest log of two policies")
def equal_rewards_by_cell():
    # One row of a policy that always fails and one of a policy that never does: no draw is equal.
    draws, rows = 1000, 2
    p = float(_factor(rows, rows)) ** (draws // 2)
    assert p < 1e-20
    return f"1,000 honest draws of one row from each of two policies, taken whole: p = {p:.0e}"


@check("2", "graded rewards: (1 - v^(1-K))^n with v read off the log is no p-value")
def graded_values_read_off():
    values, draws = 6, 3  # equally likely values, two rows a draw
    levels: dict[float, float] = {}
    for rolls in itertools.product(range(values), repeat=2 * draws):
        equal = any(a == b for a, b in zip(rolls[::2], rolls[1::2], strict=True))
        p = 1.0 if equal else (1 - 1 / len(set(rolls))) ** draws
        levels[p] = levels.get(p, 0.0) + values ** (-2.0 * draws)
    reached = np.cumsum([levels[p] for p in sorted(levels)])
    worst = float((reached / sorted(levels)).max())
    assert worst > 1.05
    return f"P(p <= t) reaches {worst:.2f} t"


@check("2", "graded rewards: one value's indicator is never the test of `no draw is all equal`")
def graded_indicator():
    # Values 0, 1, 2; draws of equal rewards dropped; (0, 2) stays, and is all equal in 1{r = 1}.
    kept = [pair for pair in itertools.product(range(3), repeat=2) if len(set(pair)) > 1]
    flat = [pair for pair in kept if len({r == 1 for r in pair}) == 1]
    assert flat and not any(set(pair) == {1} for pair in kept)
    return f"{len(flat)} of {len(kept)} kept pairs are all equal in the indicator; none is all 1"


@check("2", "imputing the least value: if gaps see later draws, predictable bets leak, 5/4")
def imputed_gaps():
    def bet(past):
        return Fraction(2) if past and past[0] == 0 else Fraction(0)

    told = constant = Fraction(0)
    for (first, second), chance in outcomes([coin(half()), coin(half())]):
        shown = Fraction(0) if second == 1 else first  # block 1 goes missing because of block 2
        told += chance * capital((shown, second), half(), bet)
        constant += chance * capital((shown, second), half(), lambda _: Fraction(1))
    expected = {}
    for rule in itertools.product((0, 1), repeat=6):  # every rule that looks at itself and back
        value = Fraction(0)
        for (first, second), chance in outcomes([coin(half()), coin(half())]):
            one = first * rule[int(first)]
            two = second * rule[2 + 2 * int(first) + int(second)]
            value += chance * capital((one, two), half(), bet)
        expected[rule] = value
    assert told == Fraction(5, 4) and max(expected.values()) <= 1 and constant <= 1
    return f"{float(told)}; gaps that look back only: {float(max(expected.values()))}"


@check("2", "missing draws imputed last are never bet on: lower end above the truth")
def imputed_last():
    blocks = np.r_[np.ones(50), np.zeros(50)]
    lower = star_lower(blocks, 0.025)
    assert lower > 0.5
    return f"50 ones, then 50 imputed zeros: lower end {lower:.2f} for .5"


@check("2.2", "constant bets are order-free: E prod <= 1 at the average of different laws")
def order_free():
    rng = np.random.default_rng(2)
    worst = 0.0
    for _ in range(200):
        p = rng.random(6) ** rng.integers(1, 4)
        bet = 0.99 / p.mean() * rng.random()
        worst = max(worst, math.prod(1 + bet * (p - p.mean())))
    subset = np.array([0.0, 0.2, 0.9, 1.0, 1.0])  # without replacement, 3 of 5
    bet = 0.99 / subset.mean()
    without = np.mean(
        [math.prod(1 + bet * (x - subset.mean())) for x in itertools.permutations(subset, 3)]
    )
    assert worst <= 1 and without <= 1
    return f"largest {worst:.4f}; without replacement {without:.4f}"


@check("2.4", "the median end of 21 orders at eta/2 each misses at most .955 eta")
def median_of_orders():
    bound = 21 / 2 / 11
    assert bound < 1
    return f"Markov: P(at least 11 of 21 miss) <= 21 (eta/2)/11 = {bound:.3f} eta"


@check("2.4b", "Clopper-Pearson over several laws: one draw of p = .0253 misses .0253 at .025")
def clopper_pearson_over_laws():
    for n in (20, 50, 1000):
        lower = clopper_pearson(np.eye(1, n)[0], delta=0.05).lower
        assert 0.0253 / n < lower, (n, lower)
    return "missed at n = 20, 50, 1,000"


@check("2.4b", "with eta/n as the lower end at one success it covers every average of laws")
def mended_clopper_pearson():
    rng = np.random.default_rng(3)
    eta, worst = 0.025, 0.0
    for n in (2, 3, 5, 8, 20):
        ends = np.array(
            [0.0, eta / n, *stats.beta.ppf(eta, np.arange(2, n + 1), np.arange(n - 1, 0, -1))]
        )
        for _ in range(400):
            p = rng.random(n) ** rng.integers(1, 12)
            p *= rng.random() ** rng.integers(0, 6)
            p[rng.integers(0, n) :] *= rng.integers(0, 2)
            law = np.array(poisson_binomial(p), dtype=float)
            worst = max(worst, float(law[ends > p.mean()].sum()))
        for p_one in np.linspace(0.02, 0.03, 41):
            law = np.array(poisson_binomial([p_one, *[0.0] * (n - 1)]), dtype=float)
            worst = max(worst, float(law[ends > p_one / n].sum()))
    assert worst <= eta
    return f"largest miss rate {worst:.4f} of {eta}"


@check("2.5", "the varying-mean supermartingale: E exp(f xi - psi(f) xi^2) <= 1 + f E xi")
def varying_means():
    worst = -1.0
    for f in (0.05, 0.3, 0.6, 0.95, 0.99):
        psi = -math.log1p(-f) - f
        xi = np.linspace(-1, 1, 2001)
        worst = max(worst, float((np.exp(f * xi - psi * xi**2) - 1 - f * xi).max()))
    assert worst <= 1e-12
    return "holds on [-1, 1] for every bet tried"
