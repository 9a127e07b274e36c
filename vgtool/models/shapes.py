"""What is measured once per model and image shape, in memory and on disk.

The folder is the user's cache (XDG_CACHE_HOME, or ~/.cache)/vgtool/geometry. A file that cannot be read or does not fit
is measured again; a folder that cannot be written costs the time to measure again in the next run.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from PIL import Image

from vgtool import cached
from vgtool.errors import SampleError
from vgtool.grounding.geometry import Geometry
from vgtool.models import gridfit, stripes
from vgtool.records import Grid

if TYPE_CHECKING:
    from vgtool.models.native import Native

VERSION = 8
"""Raised when measuring or its file changes."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The tokens of one image shape."""

    rows: int
    cols: int
    cells: list[int]
    """Places of the grid's tokens within the image's span, row-major over the image."""
    overview: list[int]
    """Places of tokens that show the image again, or show none of it."""
    reach: int
    """Rope positions that the span takes."""
    axes: int
    x: list[float]
    """Left edge and cell width, stored pixels."""
    y: list[float]
    """Top edge and cell height."""
    how: str
    error: float
    stripe: float
    tiles: int
    passes: int
    why: str = ""
    """Why there is no grid; empty where there is one."""

    def geometry(self, width: int, height: int) -> Geometry:
        if self.why:
            return Geometry.unplaced(width, height, len(self.cells))
        return Geometry.cells(width, height, Grid(self.rows, self.cols), (self.x[0], self.x[1]), (self.y[0], self.y[1]))


def measure(adapter: "Native", size: tuple[int, int]) -> Shape:
    """Measure an image shape. SampleError when no column changes with the image."""
    width, height = size
    with torch.inference_mode():
        reach = adapter.reach(Image.new("RGB", size))
        found = stripes.columns(adapter.first_states, width, height)
        if not len(found):
            raise SampleError("no_image_columns", "no token of the prompt changes with the image")
        with stripes.alone(adapter.model, adapter.text):
            seen = stripes.measure(adapter.first_states, found, width, height)
            if seen.x.lost or seen.y.lost:
                seen = stripes.measure(adapter.first_states, found, width, height, every=True)
    places = found - len(adapter.around.lead)
    shared: Any = {"reach": reach, "axes": adapter.axes, "passes": seen.passes + 3}
    stripe = max(seen.x.stripe, seen.y.stripe)
    try:
        fitted = gridfit.fit(seen)
    except gridfit.NoGrid as error:
        nowhere: Any = {"x": [0.0, 1.0], "y": [0.0, 1.0], "how": "none", "error": 0.0, "tiles": 0, "why": str(error)}
        return Shape(1, len(found), places.tolist(), [], stripe=stripe, **nowhere, **shared)
    return Shape(
        fitted.grid.rows,
        fitted.grid.cols,
        places[fitted.order].tolist(),
        places[fitted.overview].tolist(),
        x=list(fitted.x),
        y=list(fitted.y),
        how=fitted.how,
        error=fitted.error,
        stripe=stripe,
        tiles=fitted.tiles,
        **shared,
    )


def read(adapter: "Native", size: tuple[int, int], span: int) -> Shape | None:
    """What an earlier run measured; None when there is nothing that fits."""
    path = _path(adapter, size)
    try:
        raw = json.loads(path.read_text("utf-8"))
        shape = Shape(**raw["shape"])
        whole = raw["span"] == span and all(0 <= at < span for at in [*shape.cells, *shape.overview])
        if not whole or len(shape.cells) != shape.rows * shape.cols or not np.isfinite([*shape.x, *shape.y]).all():
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    adapter.axes = shape.axes
    return shape


def write(adapter: "Native", size: tuple[int, int], span: int, shape: Shape) -> None:
    """Keep a shape for later runs, whole or not at all."""
    cached.keep(_path(adapter, size), json.dumps({"span": span, "shape": asdict(shape)}).encode())


def _path(adapter: "Native", size: tuple[int, int]) -> Path:
    facts: list[Any] = [VERSION, transformers.__version__, adapter.revision, adapter.template, str(adapter.dtype)]
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    return cached.folder("geometry") / name / f"{size[0]}x{size[1]}.json"
