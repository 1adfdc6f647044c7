"""The words that an audit's settings may be; apart, so that --help loads no numbers."""

from typing import Literal, get_args

Target = Literal["auto", "objective", "clipped", "reward"]
Method = Literal["betting", "bernstein", "hoeffding", "paper"]
Side = Literal["both", "lower", "upper"]
Route = Literal[
    "auto", "gold", "joint", "paper", "centred", "truncated", "importance", "score", "trivial"
]
By = Literal["step", "policy", "run"]

TARGET_CHOICES: tuple[str, ...] = get_args(Target)
METHODS: tuple[str, ...] = get_args(Method)
SIDES: tuple[str, ...] = get_args(Side)
ROUTES: tuple[str, ...] = get_args(Route)
BY_COLUMNS: tuple[str, ...] = get_args(By)
