"""Which window a grey DICOM picture is shown in: the file's own (PS3.3 C.11.2, or C.7.6.16.2.10 for each frame), or the
one that its row names. The arithmetic of linear, linear exact and sigmoid windows is pydicom's.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgtool.errors import SampleError
from vgtool.images.levels import between, extremes, given, spread
from vgtool.records import View


@dataclass(frozen=True, slots=True)
class Stated:
    """A window that a file states: by centre and width, or as the item `lut` of its VOI LUT sequence."""

    name: str
    """Its explanation, such as LUNG; mostly empty."""
    centre: float = 0.0
    width: float = 0.0
    function: str = "LINEAR"
    lut: int | None = None

    def __str__(self) -> str:
        how = self.function.lower().replace("_", " ")
        return "lookup table" if self.lut is not None else f"{self.centre:g}/{self.width:g} {how}"


def stated(frame: Any, name: str) -> list[Stated]:
    """Every window of a frame's attributes, lookup tables first, as pydicom's apply_voi_lut prefers them."""
    tables = [item for item in frame.get("VOILUTSequence") or () if "LUTDescriptor" in item and "LUTData" in item]
    found = [Stated(str(item.get("LUTExplanation", "")), lut=at) for at, item in enumerate(tables)]
    centres = numbers(frame, "WindowCenter", name)
    widths = numbers(frame, "WindowWidth", name)
    if len(centres) != len(widths):
        lengths = f"{len(centres)} window centres and {len(widths)} widths"
        raise SampleError("image_window", f"'{name}' states {lengths}; give [low, high] as its window, or full")
    said = frame.get("WindowCenterWidthExplanation")
    names = [said] if isinstance(said, str) else list(said or ())
    function = str(frame.get("VOILUTFunction") or "LINEAR").upper()
    for at, (centre, width) in enumerate(zip(centres, widths, strict=True)):
        found.append(Stated(str(names[at]) if at < len(names) else "", centre, width, function))
    return found


def numbers(frame: Any, keyword: str, name: str) -> list[float]:
    """A DICOM number or several; none for a missing or empty element. SampleError for an item that is no number."""
    try:
        value = frame.get(keyword)
        listed = [] if value in (None, "") else [value] if isinstance(value, (str, float, int)) else list(value)
        found = [float(one) for one in listed]
    except Exception as error:  # as files.reading: elements are parsed when they are asked for
        raise SampleError("image_unreadable", f"'{name}' has no usable {keyword}: {error or 'an empty item'}") from None
    if not np.isfinite(found).all():
        raise SampleError("image_unreadable", f"'{name}' has the {keyword} {found}, which is not finite")
    return found


def shown(
    values: NDArray[Any], inside: NDArray[np.bool_] | None, frame: Any, name: str, view: View
) -> tuple[NDArray[np.uint8], str]:
    """Grey levels 0..255 of values after the modality LUT, and the window in words. `inside`: pixels that are no
    padding, which the full range leaves out of account and shows black; None for all."""
    chosen = given(view.window)
    if chosen is not None:
        return spread(values, *chosen), between(*chosen)
    windows = [] if view.window == "full" else stated(frame, name)
    if view.window == "full" or (view.window is None and not windows):
        seen = values if inside is None or not inside.any() else values[inside]
        low, high = extremes(seen, name)
        levels = spread(values, low, high)
        return levels if inside is None else np.where(inside, levels, 0), f"full range, {between(low, high)}"
    at = _pick(windows, view.window, name)
    one = windows[at]
    said = f"{one}, stated {at + 1} of {len(windows)}" + (f" ({one.name})" if one.name else "")
    return _applied(values, one, frame, name), said


def looked_up(values: NDArray[Any], item: Any) -> NDArray[np.int64]:
    """Values through a modality or VOI lookup table (PS3.3 C.11.1.1): the ends stand for what lies beyond them.

    pydicom 3.0 has it too, but wraps the entries beyond 255 of a table of 8 bits, and knows modality tables of 8 or 16.
    """
    entries, first, bits = (int(one) for one in item.LUTDescriptor)
    entries = entries or 65536
    data = item.LUTData
    if isinstance(data, bytes):
        packed = len(data) < 2 * entries
        order = ">" if item.original_encoding[1] is False else "<"
        table = np.frombuffer(data, np.uint8 if packed else f"{order}u2")
    else:
        table = np.atleast_1d(np.asarray(data))
    table = table[:entries].astype(np.int64)
    if len(table) < entries or table.max() >= 2**bits:
        raise ValueError(f"a table of {len(table)} entries up to {table.max()}, said to have {entries} of {bits} bits")
    return table[np.clip(np.floor(values).astype(np.int64) - first, 0, entries - 1)]


def _pick(windows: list[Stated], window: Any, name: str) -> int:
    if window is None:
        return 0
    if isinstance(window, int) and 0 <= window < len(windows):
        return window
    same = [at for at, one in enumerate(windows) if one.name.strip().lower() == str(window).strip().lower()]
    if isinstance(window, str) and same:
        return same[0]
    told = "; ".join(f"{at}: {one}{f' ({one.name})' if one.name else ''}" for at, one in enumerate(windows)) or "none"
    raise SampleError("image_window", f"'{name}' has no window {window!r}; it states {told}")


def _applied(values: NDArray[Any], window: Stated, frame: Any, name: str) -> NDArray[np.uint8]:
    from pydicom.dataset import Dataset
    from pydicom.pixels import apply_windowing

    if window.lut is not None:
        item = frame.VOILUTSequence[window.lut]
        return spread(looked_up(values, item), 0, 2 ** int(item.LUTDescriptor[2]) - 1)
    function = window.function
    if function == "LINEAR" and 0 < window.width < 1:  # C.11.2.1.2.1 forbids it; 0.5 and 1 are steps of whole numbers
        function = "LINEAR_EXACT"
    if window.width <= 0:
        said = f"'{name}' states the window width {window.width:g}"
        raise SampleError("image_window", f"{said}; give [low, high] as its window, or full")
    screen = Dataset()  # pydicom spreads a window over the range of the stored bits: over a screen's eight here
    screen.PhotometricInterpretation, screen.BitsStored, screen.PixelRepresentation = "MONOCHROME2", 8, 0
    screen.WindowCenter, screen.WindowWidth, screen.VOILUTFunction = window.centre, window.width, function
    return np.round(apply_windowing(values, screen)).astype(np.uint8)
