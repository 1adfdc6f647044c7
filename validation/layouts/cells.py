"""All cells, and the short form of them."""

from validation.layouts import breached, honest, trusted
from validation.layouts.cell import Cell

_FULL, _PARTLY = ", all labelled", ", whole draws"


def cells() -> tuple[Cell, ...]:
    """Return every cell, in the order in which they are shown."""
    return (*honest.cells(), *breached.cells(), *trusted.cells())


def short() -> tuple[Cell, ...]:
    """Return cells for a quick look: of layouts under every command, one design of labels."""
    every = cells()
    plain = ("audit", "transport")
    twice = {(cell.family, cell.name.removesuffix(_FULL), cell.command) for cell in every}
    return tuple(
        cell
        for cell in every
        if cell.command in plain
        or not cell.name.endswith(_FULL)
        or (cell.family, cell.name.removesuffix(_FULL) + _PARTLY, cell.command) not in twice
    )
