"""A brush on charts over steps: what it covers chooses rows of the tables on the page."""

from collections.abc import Mapping
from typing import Any

NAME = "brush"
_STEPS = ("step", "value")  # fields of the abscissa that are the steps of the tables


def brushed(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a specification with a brush along its steps; as it is where it has none to give.

    Args:
        spec: Vega-Lite, one view or layers of them.
    """
    if _has_brush(spec):
        return spec
    if "layer" in spec:
        layers = list(spec["layer"])
        shared = spec.get("encoding", {})
        for at, layer in enumerate(layers):
            if "layer" not in layer and _over_steps({**shared, **layer.get("encoding", {})}):
                layers[at] = {**layer, "params": [*layer.get("params", []), _PARAM]}
                return {**spec, "layer": layers}
        return spec
    if _over_steps(spec.get("encoding", {})):
        return {**spec, "params": [*spec.get("params", []), _PARAM]}
    return spec


_PARAM = {"name": NAME, "select": {"type": "interval", "encodings": ["x"]}}


def over_steps(spec: Mapping[str, Any]) -> bool:
    """Whether a chart, or one of its layers, has the steps of the tables as its abscissa."""
    shared = spec.get("encoding", {})
    parts = [spec, *spec.get("layer", [])]
    return any(_over_steps({**shared, **part.get("encoding", {})}) for part in parts)


def _over_steps(encoding: Mapping[str, Any]) -> bool:
    x = encoding.get("x", {})
    return x.get("field") in _STEPS and x.get("type") in ("quantitative", "ordinal")


def _has_brush(spec: Mapping[str, Any]) -> bool:
    own = any(item.get("name") == NAME for item in spec.get("params", []))
    return own or any(map(_has_brush, spec.get("layer", [])))
