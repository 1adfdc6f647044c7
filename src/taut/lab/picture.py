"""The picture of an experiment: learned and true reward over the steps, and its certificates."""

from collections.abc import Callable

from taut.lab.outcome import Outcome


def draw(found: Outcome) -> Callable:
    """Return a function that draws the outcome on matplotlib axes, for `save_plot`."""
    from taut.report.plot import ACCENT, INK, QUIET, WARM

    rows = found.steps
    across = [row.step for row in rows]

    def on(axes) -> None:
        ends = [row.certificates["reward"] for row in rows]
        lower, upper = ([getattr(end, side) for end in ends] for side in ("lower", "upper"))
        axes.fill_between(across, lower, upper, color=ACCENT, alpha=0.18, linewidth=0)
        axes.vlines(across, lower, upper, color=ACCENT, linewidth=2, label="certificate of E r*")
        axes.plot(
            across,
            [row.proxy for row in rows],
            color=WARM,
            marker="o",
            markersize=4,
            label="learned reward",
        )
        axes.plot(
            across,
            [row.truth.gold for row in rows],
            color=INK,
            marker="o",
            markersize=4,
            label="true reward",
        )
        chosen = found.selection.chosen
        if chosen is not None:
            axes.axvline(chosen, color=QUIET, linestyle=":", label="chosen by taut select")
        axes.set_xlabel("optimisation step")
        axes.set_ylabel("mean reward")
        axes.set_ylim(0, 1)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=4, fontsize=8)

    return on  # fmt: skip
