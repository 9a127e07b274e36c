"""The picture that is looked at: a file, a slice of a series or volume, a PIL image or an array, as RGB."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from vgtool.errors import SampleError, VgError
from vgtool.images import open_image
from vgtool.records import ImageSource, View

Pixels = str | Path | Image.Image | np.ndarray
Window = Sequence[float] | int | str


def picture(
    image: Pixels, *, slice: int | None = None, axis: str | int | None = None, window: Window | None = None
) -> Image.Image:
    """The picture as RGB, in stored pixels. VgError when there is none to be had.

    Of a file, or a folder that is a DICOM series, what a row of one's own data names (docs/benchmarks.md): `slice` from
    0, `axis` of a volume (sagittal, coronal, axial), `window` ([low, high], number or name of a stated one, or full).
    """
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if isinstance(image, np.ndarray):
        flat = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
        if image.dtype != np.uint8 or not flat or not image.size:
            raise VgError(
                f"An array of {image.dtype} {image.shape} is no picture.",
                "Give uint8 [height, width] or [height, width, 3].",
            )
        return Image.fromarray(image).convert("RGB")
    if not isinstance(image, (str, Path)):
        kind = type(image).__name__
        raise VgError(f"A value of type {kind} is no picture.", "Give a file, a PIL image, or an array of pixels.")
    from vgtool.benchmarks.views import view_of

    path = Path(image)
    if path.is_dir() and slice is None:
        raise VgError(f"'{path}' is a folder, and no slice is named.", "Of a DICOM series give one: --slice N, from 0.")
    try:
        view = view_of({"slice": slice, "axis": axis, "window": window})
        return open_image(_source(path, view))
    except OSError as error:
        raise VgError(f"Cannot read '{path}': {error.strerror}.", "Check the path.") from None
    except SampleError as error:
        view_is_odd = error.code in ("malformed_row", "image_slice", "image_window")
        hint = "Name another slice, axis or window." if view_is_odd else "Give a picture that opens."
        raise VgError(f"'{path}' cannot be shown to a model: {error}.", hint) from None


def _source(path: Path, view: View) -> ImageSource:
    """A file as it is seen, or a slice of the series in a folder."""
    from vgtool.benchmarks.sources import Files

    if path.is_dir() and view.slice is not None:
        whole = path.resolve()
        found: ImageSource = Files([whole.parent]).series(whole.name, view.slice)
        return replace(found, view=replace(view, slice=None))
    data = path.read_bytes()
    return ImageSource(path.name, lambda: data, view=view)
