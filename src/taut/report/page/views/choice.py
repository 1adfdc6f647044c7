"""Which view shows which result."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taut.report.page.blocks import View

if TYPE_CHECKING:
    from taut.results import Document


def view_of(result: "Document") -> View:
    """Return what a page says of a result, by its schema."""
    from taut.report.page.views import (
        certificate,
        comparison,
        generic,
        groups,
        health,
        lab,
        monitor,
        plan,
        selection,
        threshold,
    )

    views: dict[str, Callable[[Any], View]] = {
        "taut.certificate": certificate.certificate_view,
        "taut.certificates": groups.groups_view,
        "taut.comparison": comparison.comparison_view,
        "taut.health": health.health_view,
        "taut.lab": lab.lab_view,
        "taut.monitor": monitor.monitor_view,
        "taut.plan": plan.plan_view,
        "taut.selection": selection.selection_view,
        "taut.threshold": threshold.threshold_view,
        "taut.transport": health.transport_view,
        "taut.watch": monitor.watch_view,
    }
    name = result.document["schema"].partition("/")[0]
    return views.get(name, generic.generic_view)(result)
