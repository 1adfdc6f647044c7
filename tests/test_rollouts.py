"""Rollouts and blocks: what a draw is, and that order means nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from check import blocks_of
from taut.draws.rollouts import Rollouts
from taut.errors import LogError
from taut.logs.keys import combine, hash_ids, scramble


def blocks_as_sets(rollouts, **options):
    blocks = blocks_of(rollouts, **options)
    return [
        frozenset(blocks.rows[a:b].tolist())
        for a, b in zip(blocks.starts[:-1], blocks.starts[1:], strict=True)
    ]


def test_rows_of_one_prompt_form_one_block():
    """A block holds all rollouts of a prompt."""
    rollouts = Rollouts.from_arrays(prompt_id=["a", "b", "a"], reward=[1.0, 2.0, 3.0])
    assert set(blocks_as_sets(rollouts)) == {frozenset({0, 2}), frozenset({1})}


def test_groups_are_draws_only_where_replacement_is_declared():
    """A group marks one draw of a prompt where prompts were drawn with replacement, else not."""
    rollouts = Rollouts.from_arrays(
        prompt_id=["a", "a", "a", "a"], group=[1, 1, 2, 2], reward=[0.0, 1.0, 2.0, 3.0]
    )
    assert blocks_as_sets(rollouts) == [frozenset({0, 1, 2, 3})]
    apart = set(blocks_as_sets(rollouts, mode="with-replacement"))
    assert apart == {frozenset({0, 1}), frozenset({2, 3})}


@pytest.mark.parametrize("column", ["step", "policy", "run"])
def test_steps_policies_and_runs_never_make_draws(column):
    """The prompt is the draw, whatever answered it."""
    rollouts = Rollouts.from_arrays(
        {"prompt_id": [7, 7, 8], column: [0, 1, 1], "reward": [0.0, 1.0, 2.0]}
    )
    assert set(blocks_as_sets(rollouts)) == {frozenset({0, 1}), frozenset({2})}


def test_integer_and_text_ids_agree():
    """7 and "7" name the same prompt, in every container."""
    assert (hash_ids([7, -1]) == hash_ids(["7", "-1"])).all()
    assert (hash_ids(np.array([7], dtype=np.int16)) == hash_ids(["7"])).all()


def test_keys_are_stable():
    """Keys never change between versions: a log audited tomorrow gives the same order."""
    assert [hex(k) for k in hash_ids(["arena_12", ""])] == [
        hex(k) for k in scramble(fnv(["arena_12", ""]))
    ]
    assert combine(hash_ids(["a"]), hash_ids(["b"])) != combine(hash_ids(["b"]), hash_ids(["a"]))


def fnv(texts):
    out = []
    for text in texts:
        h = 0xCBF29CE484222325
        for byte in text.encode():
            h = ((h ^ byte) * 0x100000001B3) % 2**64
        out.append(h)
    return np.array(out, dtype=np.uint64)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), min_size=1), st.randoms())
@settings(max_examples=60, deadline=None)
def test_block_means_do_not_depend_on_row_order(rows, chance):
    """Any order of the rows gives the same blocks, in the same order, with the same bytes."""
    order = list(range(len(rows)))
    chance.shuffle(order)
    values = np.random.default_rng(0).normal(size=len(rows))

    def means(index):
        rollouts = Rollouts.from_arrays(
            prompt_id=[rows[i][0] for i in index],
            group=[rows[i][1] for i in index],
            reward=values[index],
        )
        return blocks_of(rollouts, seed=3).means(rollouts.reward)

    assert means(list(range(len(rows)))).tobytes() == means(order).tobytes()


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.data())
@settings(max_examples=60, deadline=None)
def test_subset_keeps_the_chosen_blocks_whole(sizes, data):
    """A subset holds exactly the rows of the chosen blocks, in draw order."""
    ids = np.repeat(np.arange(len(sizes)), sizes)
    rollouts = Rollouts.from_arrays(prompt_id=ids, reward=np.arange(len(ids), dtype=float))
    blocks = blocks_of(rollouts)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes))))
    part = blocks.subset(mask)
    assert part.sizes.tolist() == blocks.sizes[mask].tolist()
    assert part.means(rollouts.reward).tolist() == blocks.means(rollouts.reward)[mask].tolist()


def test_draw_order_depends_on_the_seed_and_not_on_values():
    """Another seed gives another order; other values give the same one."""
    ids = np.arange(100)
    zeros = Rollouts.from_arrays(prompt_id=ids, reward=np.zeros(100))
    first, other = blocks_of(zeros), blocks_of(zeros, seed=1)
    values = blocks_of(Rollouts.from_arrays(prompt_id=ids, reward=np.arange(100.0)))
    assert (first.rows == values.rows).all()
    assert (first.rows != other.rows).any()


@pytest.mark.parametrize(
    ("columns", "fragment"),
    [
        ({"reward": [1.0]}, "'prompt_id'"),
        ({"prompt_id": ["a"], "reward": [1.0, 2.0]}, "'prompt_id' has 1 values, 'reward' 2"),
        ({"prompt_id": ["a"], "reward": [float("nan")]}, "row 0: 'reward' is nan"),
        ({"prompt_id": ["a"], "reward": [1.0], "gold": [float("inf")]}, "row 0: 'gold' is inf"),
    ],
)
def test_arrays_that_are_no_rollouts_are_refused(columns, fragment):
    """A missing column, a wrong length or a value that is no number is named."""
    with pytest.raises(LogError, match=fragment):
        Rollouts.from_arrays(columns)
