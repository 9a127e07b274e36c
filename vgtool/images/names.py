"""What the values of a label map stand for: read from the files in which data sets and viewers name them.

JSON     {"1": "liver"}, {"liver": 1}, or below `labels` (nnU-Net's dataset.json, regions {"tumour": [1, 2]} included);
         a value may be {"name": ..., "color": "#ff0000"}, a key "#ff0000"
lines    `1 liver`, `liver: 1`, with a colour `1 liver 255 0 0` or `liver #ff0000`
viewers  FreeSurfer's colour table and Slicer's .ctbl (number, name, R, G, B, A), Slicer's CSV (LabelValue, Name, ...),
         ITK-SNAP's label descriptions (number, R, G, B, A, visibility, mesh, "name")
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vgtool.errors import VgError

IGNORED = 255
"""A label map's value for pixels nobody labelled, unless the names say otherwise."""
NO_CLASS = frozenset(
    (
        *("background", "bg", "ignore", "ignored", "ignore label", "unlabelled", "unlabeled"),
        *("clear", "clear label", "unknown", "void", "none", "no label"),
    )
)
"""Names of values that are no class."""
_ITK_SNAP = re.compile(r'(-?\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+[\d.]+\s+\d+\s+\d+\s+"(.*)"')
_TABLE = re.compile(r"(-?\d+)\s+(\S.*?)\s+(\d+)\s+(\d+)\s+(\d+)(?:\s+\d+)?")
_SEP = r"\s*(?:[:=,]\s*|\s+)"
_NUMBER_FIRST = re.compile(rf"(-?\d+){_SEP}(.*\S)")
_NAME_FIRST = re.compile(rf"(.*?\S){_SEP}(-?\d+)")
_COLOUR_FIRST = re.compile(rf"(#[0-9a-fA-F]{{6}}){_SEP}(.*\S)")
_COLOUR_LAST = re.compile(rf"(.*?\S){_SEP}(#[0-9a-fA-F]{{6}})")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_WHOLE = re.compile(r"-?\d+")

Entry = tuple[str, int | None, int | None]
"""Name, value and colour 0xRRGGBB, as far as they are told."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the values of label maps stand for."""

    classes: Mapping[int, str]
    """Value -> class; what is no class is not there."""
    colours: Mapping[int, int] = field(default_factory=dict)
    """0xRRGGBB -> value, where the file of names says it."""
    nothing: frozenset[int] = frozenset()
    """Values that are named as background, ignore, void or their like."""
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Class -> several values (nnU-Net's regions)."""

    @property
    def by_class(self) -> dict[str, frozenset[int]]:
        """Class -> its values, by name."""
        found: dict[str, set[int]] = {name: set(values) for name, values in self.regions.items()}
        for value, name in self.classes.items():
            found.setdefault(name, set()).add(value)
        return {name: frozenset(found[name]) for name in sorted(found)}

    @property
    def marked(self) -> frozenset[int]:
        """Every value of a class."""
        return frozenset().union(*self.by_class.values())

    def knows(self, value: int) -> bool:
        return value in self.marked or value in self.nothing or value in (0, IGNORED)


def parse(text: str, name: str) -> Names:
    """The names in a file of this name. VgError, quoting what is odd."""
    if name.lower().endswith(".json"):
        return _gathered(_json_entries(text, name), name)
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and {"LabelValue", "Name"} <= set(next(csv.reader(lines[:1]), ())):
        return _gathered(_slicer_csv(lines, name), name)
    told = [line for line in lines if not line.lstrip().startswith("#") or _COLOUR_FIRST.fullmatch(line.strip())]
    return _gathered((_line(line.strip(), name) for line in told), name)


def _line(line: str, name: str) -> Entry:
    found = entry(line)
    if found is None:
        raise VgError(f"'{name}' has the line '{line[:80]}'.", "Write one value and name a line.")
    return found


def entry(line: str) -> Entry | None:
    """What one line names, quoted and ended by a comma or not; None for nothing."""
    if match := _ITK_SNAP.fullmatch(line.strip()):
        return match[5], int(match[1]), _rgb(match[2], match[3], match[4])
    line = line.replace("：", ":").replace('"', "").strip(", \t\n")
    if match := _TABLE.fullmatch(line):
        return match[2], int(match[1]), _rgb(match[3], match[4], match[5])
    if match := _COLOUR_FIRST.fullmatch(line):
        return match[2], None, int(match[1][1:], 16)
    if match := _COLOUR_LAST.fullmatch(line):
        return match[1], None, int(match[2][1:], 16)
    if match := _NUMBER_FIRST.fullmatch(line):
        return match[2], int(match[1]), None
    if match := _NAME_FIRST.fullmatch(line):
        return match[1], int(match[2]), None
    return None


def _rgb(red: Any, green: Any, blue: Any) -> int | None:
    levels = [int(red), int(green), int(blue)]
    return levels[0] << 16 | levels[1] << 8 | levels[2] if max(levels) < 256 else None


def _slicer_csv(lines: list[str], name: str) -> Iterator[Entry]:
    for row in csv.DictReader(lines):
        try:
            levels = [row.get(f"Color_{band}") or "" for band in "RGB"]
            colour = _rgb(*levels) if all(levels) else None
            yield str(row["Name"]), int(row["LabelValue"]), colour
        except (ValueError, TypeError):
            raise VgError(f"'{name}' has the row {list(row.values())}.", "Give LabelValue a whole number.") from None


def _json_entries(text: str, name: str) -> Iterator[Entry | tuple[str, list[int], None]]:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise VgError(f"'{name}' cannot be read as JSON: {error}.", "Correct the file.") from None
    raw = raw.get("labels", raw) if isinstance(raw, dict) else raw
    if not isinstance(raw, dict):
        raise VgError(f"'{name}' is no object of values and names.", 'Write {"1": "liver"}.')
    for key, value in raw.items():
        yield _json_entry(str(key).strip(), value, name)


def _json_entry(key: str, value: Any, name: str) -> Entry | tuple[str, list[int], None]:
    colour = None
    if isinstance(value, dict) and "name" in value:
        stated = str(value.get("color", value.get("colour", "")))
        colour, value = int(stated[1:], 16) if _COLOUR.fullmatch(stated) else None, value["name"]
    if isinstance(value, list) and value and all(type(one) is int for one in value):
        return key, value, None
    if isinstance(value, str) and _COLOUR.fullmatch(key):
        return value, None, int(key[1:], 16)
    if isinstance(value, str) and _COLOUR.fullmatch(value):
        return key, None, int(value[1:], 16)
    if _WHOLE.fullmatch(key) and isinstance(value, str):
        return value, int(key), colour
    if _WHOLE.fullmatch(str(value).strip()) and not isinstance(value, bool):
        return key, int(value), colour
    raise VgError(f"'{name}' pairs '{key}' with '{value}'.", "One of them must be a whole number.")


def _gathered(entries: Iterator[Any], name: str) -> Names:
    classes: dict[int, str] = {}
    colours: dict[int, int] = {}
    nothing: set[int] = set()
    regions: dict[str, tuple[int, ...]] = {}
    told = list(entries)
    free = max([0, *(value for _, value, _ in told if isinstance(value, int))])
    for label, value, colour in told:
        shown = label.strip().strip('"').replace("_", " ").strip()
        if isinstance(value, list):
            regions[shown] = tuple(value)
            continue
        if value is None:  # known by its colour alone
            free += 1
            value = free
        if value in classes or value in nothing:
            raise VgError(f"'{name}' names value {value} twice.", "Name each value once.")
        if shown.lower() in NO_CLASS or not shown:
            nothing.add(value)
        else:
            classes[value] = shown
        if colour is not None and colours.setdefault(colour, value) != value and colour:
            raise VgError(f"'{name}' gives colour #{colour:06x} to two values.", "Give each value its own colour.")
    return Names(classes, colours, frozenset(nothing), regions)
