"""Boxes in a model's own words: what an answer says, in the convention its model was trained on.

The convention is a trap: the same four numbers are shares of the image (0 to 1), thousandths of it (0 to 999 or 1000),
or pixels; and of the stored image, or of the model's own picture after its resize and padding. An answer that cannot be
of the convention (0.4 where thousandths are spoken, 870 where shares are) is unreadable, never rescaled by guess.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vgtool.grounding.geometry import Geometry
from vgtool.records import Box

Scale = Literal["0-1", "0-999", "0-1000", "pixels"]
Frame = Literal["stored", "model"]
Order = Literal["xyxy", "yxyx"]
Outcome = Literal["box", "none", "unreadable"]
Four = tuple[float, float, float, float]

WHOLE = {"0-1": 1.0, "0-999": 999.0, "0-1000": 1000.0}
"""What the far edge of the image is called."""
SLACK = {"0-1": 0.005, "0-999": 1.0, "0-1000": 1.0}
"""How far beyond it a number is a rounding."""
_N = r"[-+]?\d+(?:\.\d+)?"
_SEP = r"\s*[,;\s]\s*"
_FOUR = re.compile(rf"[\[(]\s*({_N}){_SEP}({_N}){_SEP}({_N}){_SEP}({_N})\s*[\])]")
_CORNERS = re.compile(rf"\(\s*({_N}){_SEP}({_N})\s*\)[\s,;to\-]*\(\s*({_N}){_SEP}({_N})\s*\)")
_PAIRS = re.compile(rf"\[\s*\[\s*({_N}){_SEP}({_N})\s*\]\s*,\s*\[\s*({_N}){_SEP}({_N})\s*\]\s*\]")
_NAMED = re.compile(
    rf"x_?(?:1|min)\W{{1,4}}({_N})\W+y_?(?:1|min)\W{{1,4}}({_N})\W+x_?(?:2|max)\W{{1,4}}({_N})\W+y_?(?:2|max)\W{{1,4}}({_N})",
    re.IGNORECASE,
)
_BARE = re.compile(rf"\s*({_N}){_SEP}({_N}){_SEP}({_N}){_SEP}({_N})\s*\.?\s*")
_NONE = re.compile(
    r"^\W*(?:none|null|n/?a|nothing|no)\W*$"
    r"|^\s*(?:```(?:json)?)?\s*\[\s*(?:\[\s*\]\s*)?\]\s*(?:```)?\s*$"
    r"|<box>\s*\[*\s*\]*\s*</box>"
    r"|\b(?:no|not any|cannot (?:find|see|locate|identify|detect)|can't (?:find|see|locate)"
    r"|(?:could not|unable to) (?:find|locate|see|detect)"
    r"|not (?:visible|present|found|shown|seen|detected|in (?:the|this) image)"
    r"|(?:isn't|aren't|is not|are not) (?:any|visible|present|shown)"
    r"|does not (?:show|contain|exist|appear)|absent)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer comes to."""

    outcome: Outcome
    boxes: tuple[Box, ...] = ()
    """In stored pixels, in the order they were said."""


def read(answer: str, geometry: Geometry, scale: Scale, frame: Frame = "stored", order: Order = "xyxy") -> Said:
    """The boxes of an answer. `none`: it says that there is none; `unreadable`: anything else without a usable one."""
    found = fours(answer)
    if found and all(four == (0, 0, 0, 0) for four in found):
        return Said("none")
    boxes = [box for four in found if (box := placed(four, geometry, scale, frame, order)) is not None]
    if boxes:
        return Said("box", tuple(boxes))
    return Said("none" if not found and _NONE.search(answer) else "unreadable")


def fours(answer: str) -> list[Four]:
    """Every four numbers that an answer writes as a box, without repeats."""
    whole = _BARE.fullmatch(answer)
    found = [(whole.start(), whole.groups())] if whole else []
    for pattern in (_FOUR, _CORNERS, _PAIRS, _NAMED):
        found += [(match.start(), match.groups()) for match in pattern.finditer(answer)]
    rows = [tuple(map(float, groups)) for _, groups in sorted(found)]
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in dict.fromkeys(rows)]


def placed(four: Four, geometry: Geometry, scale: Scale, frame: Frame, order: Order) -> Box | None:
    """A box of the convention in stored pixels, clipped to the image; None where it cannot be one."""
    a, b, c, d = four
    x0, y0, x1, y1 = (b, a, d, c) if order == "yxyx" else four
    if min(four) < 0 or x1 <= x0 or y1 <= y0:
        return None
    stored = frame == "stored"
    width, height = (geometry.width, geometry.height) if stored else (geometry.canvas_width, geometry.canvas_height)
    if scale != "pixels":
        whole = WHOLE[scale]
        if max(four) > whole + SLACK[scale] or (whole > 1 and max(four) <= 1 and any(n != int(n) for n in four)):
            return None
        x0, y0, x1, y1 = x0 / whole * width, y0 / whole * height, x1 / whole * width, y1 / whole * height
    elif max(four) <= 1 or x0 >= width or y0 >= height:
        return None
    if not stored:
        x0, x1 = ((x - geometry.offset_x) / geometry.scale_x for x in (x0, x1))
        y0, y1 = ((y - geometry.offset_y) / geometry.scale_y for y in (y0, y1))
    return Box(x0, y0, x1, y1).clipped(geometry.width, geometry.height)


def overlap(said: Sequence[Box], true: Sequence[Box]) -> float:
    """Intersection over union of two unions of boxes, exactly: on the grid of all their edges."""
    boxes = [*said, *true]
    xs = np.unique([edge for box in boxes for edge in (box.x0, box.x1)])
    ys = np.unique([edge for box in boxes for edge in (box.y0, box.y1)])
    areas = np.diff(ys)[:, None] * np.diff(xs)[None]

    def covered(some: Sequence[Box]) -> np.ndarray:
        cells = np.zeros(areas.shape, bool)
        for box in some:
            cells |= ((ys[:-1] >= box.y0) & (ys[1:] <= box.y1))[:, None] & ((xs[:-1] >= box.x0) & (xs[1:] <= box.x1))
        return cells

    one, other = covered(said), covered(true)
    return float(areas[one & other].sum() / areas[one | other].sum())


def centre_inside(said: Box, true: Sequence[Box]) -> bool:
    """Whether the middle of a box lies in one of the true ones."""
    x, y = (said.x0 + said.x1) / 2, (said.y0 + said.y1) / 2
    return any(box.x0 <= x < box.x1 and box.y0 <= y < box.y1 for box in true)
