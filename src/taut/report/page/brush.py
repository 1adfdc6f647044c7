"""A brush on the chart of a run: the steps that it covers choose rows of the tables on the page."""

from collections.abc import Mapping
from typing import Any

NAME = "brush"
STEPS = "steps"  # the name of charts whose abscissa is the steps of the tables


def brushed(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a specification with a brush along its abscissa; as it is where it has one, or none.

    Args:
        spec: Vega-Lite, one view or layers of them.
    """
    if _has_brush(spec):
        return spec
    if "layer" in spec:
        layers = list(spec["layer"])
        shared = spec.get("encoding", {})
        for at, layer in enumerate(layers):
            if "layer" not in layer and _numbers({**shared, **layer.get("encoding", {})}):
                layers[at] = {**layer, "params": [*layer.get("params", []), _PARAM]}
                return {**spec, "layer": layers}
        return spec
    if _numbers(spec.get("encoding", {})):
        return {**spec, "params": [*spec.get("params", []), _PARAM]}
    return spec


_PARAM = {"name": NAME, "select": {"type": "interval", "encodings": ["x"]}}


def _numbers(encoding: Mapping[str, Any]) -> bool:
    x = encoding.get("x", {})
    return "field" in x and x.get("type") in ("quantitative", "ordinal")


def _has_brush(spec: Mapping[str, Any]) -> bool:
    own = any(item.get("name") == NAME for item in spec.get("params", []))
    return own or any(map(_has_brush, spec.get("layer", [])))
