"""NIfTI volumes: a slice as a picture, and a label volume on the grid of its image.

A volume is turned to the closest canonical orientation (axes towards the patient's right, front and head) by its
sform, else its qform, as nibabel takes them; an oblique volume keeps its own slices. Two volumes are compared in the
space that both state: a label on another grid is resampled to the image's, each voxel taking the nearest label.
"""

import gzip
import io
import logging
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgtool.errors import SampleError
from vgtool.images.files import MAX_BYTES, reading, refuse_large
from vgtool.images.levels import USED, between, given, spread
from vgtool.records import View

PERCENTILES = (0.5, 99.5)
"""Of a volume's finite voxels: its window where none is given."""
SAME_GRID = 0.05
"""Voxels that two grids may differ by at their corners and still be one."""
WHOLE = 0.01
"""A label that is stored with a scale may miss its whole number by this."""
_MAGIC = {348: (344, (b"n+1", b"ni1")), 540: (4, (b"n+2", b"ni2"))}


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Voxels in closest canonical orientation."""

    values: NDArray[Any]
    """[right, front, head]"""
    affine: NDArray[np.float64]
    """Voxel indices to millimetres in the patient."""
    framed: bool
    """Whether the file states where it lies: an sform or qform that is not the identity."""


def is_volume(data: bytes) -> bool:
    """NIfTI 1 or 2, gzipped or not, by its header."""
    head = data[:600]
    if head[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(31).decompress(data[:65536], 600)
        except zlib.error:
            return False
    for order in ("little", "big"):
        at, magics = _MAGIC.get(int.from_bytes(head[:4], order), (0, ()))
        if head[at : at + 3] in magics:
            return True
    return False


def load(data: bytes, name: str, max_voxels: int = 4 * MAX_BYTES) -> Volume:
    """A volume of one number a voxel, in three dimensions. SampleError for what is none."""
    try:
        import nibabel
        from nibabel.imageglobals import logger
        from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
    except ImportError:
        raise SampleError("nifti_support_missing", f"'{name}' is NIfTI; install vgtool[masks]") from None
    logger.handlers = [logging.NullHandler()]  # it prints what it finds odd, beside the exception that says so
    with reading(name, "image_unreadable", "cannot be read as NIfTI"):
        plain = _unpacked(data, name)
        kind = nibabel.Nifti2Image if int.from_bytes(plain[:4], "little") in (540, 469893120) else nibabel.Nifti1Image
        image = kind.from_bytes(plain)
        _refuse_other_kinds(image, name, max_voxels)
        values = _voxels(image)
        affine = np.asarray(image.affine, float)
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise SampleError("image_unreadable", f"'{name}' states an orientation that cannot be: {affine.tolist()}")
        turn = io_orientation(affine)
        codes = (int(image.header["sform_code"]), int(image.header["qform_code"]))
        framed = any(codes) and not np.array_equal(affine, np.eye(4))
        return Volume(apply_orientation(values, turn), affine @ inv_ornt_aff(turn, values.shape), framed)


def _unpacked(data: bytes, name: str) -> bytes:
    if data[:2] != b"\x1f\x8b":
        return data
    plain = gzip.GzipFile(fileobj=io.BytesIO(data)).read(4 * MAX_BYTES + 1)
    if len(plain) > 4 * MAX_BYTES:
        raise SampleError("image_too_large", f"'{name}' unpacks to more than {4 * MAX_BYTES:,} bytes")
    return plain


def _refuse_other_kinds(image: Any, name: str, max_voxels: int) -> None:
    shape, kind = image.shape, image.header.get_data_dtype()
    codes = [extension.get_code() for extension in image.header.extensions]
    if 32 in codes or str(image.header["intent_code"].item()).startswith("30"):
        raise SampleError("image_unreadable", f"'{name}' is CIFTI: values of surfaces, not of a picture")
    if kind.fields or kind.kind not in "iufb":
        what = "colours" if kind.fields else "complex numbers" if kind.kind == "c" else str(kind)
        raise SampleError("image_unreadable", f"'{name}' holds {what}; one real number a voxel is needed")
    if len(shape) < 3 or any(side != 1 for side in shape[3:]):
        size = " x ".join(map(str, shape))
        raise SampleError("image_dimensions", f"'{name}' is {size}; a volume has three dimensions (or is one of one)")
    if min(shape) < 1 or int(np.prod(shape, dtype=np.int64)) * kind.itemsize > max_voxels:
        raise SampleError("image_too_large", f"'{name}' is {' x '.join(map(str, shape))} voxels of {kind}")


def _voxels(image: Any) -> NDArray[Any]:
    """[i, j, k] as stored where nothing scales them, else float32."""
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    values = image.dataobj.get_unscaled() if (slope, intercept) == (1, 0) else image.get_fdata(dtype=np.float32)
    return np.asanyarray(values).reshape(image.shape[:3])


@dataclass(frozen=True, slots=True)
class _Named:
    """A file's bytes, or the volume in them, under the name that messages use: equal by content alone."""

    what: Any
    name: str = field(compare=False)


@lru_cache(maxsize=2)
def _loaded(file: _Named) -> Volume:
    return load(file.what, file.name)


@lru_cache(maxsize=4)
def _own_window(volume: _Named, full: bool) -> tuple[float, float]:
    return window(volume.what.values, volume.name, full=full)


def _recent(data: bytes, name: str) -> Volume:
    """As `load`; an image and its label are kept, for slices of one volume are mostly asked for after each other."""
    return _loaded(_Named(data, name))


# ---- pictures --------------------------------------------------------------------------------------------------------


def size(data: bytes, name: str, max_pixels: int, view: View) -> tuple[int, int]:
    """Width and height of a slice along the view's axis."""
    width, height = displayed(_recent(data, name).values.take(0, _axis(view, name))).shape[::-1]
    refuse_large(width, height, name, max_pixels)
    return width, height


def picture(data: bytes, name: str, max_pixels: int, view: View) -> Image.Image:
    """The slice that `view` names, in grey."""
    volume = _recent(data, name)
    plane = _plane(volume.values, name, view)
    if isinstance(view.window, int) or (isinstance(view.window, str) and view.window != "full"):
        raise SampleError("image_window", f"'{name}' states no windows; give [low, high] or full")
    low, high = given(view.window) or _own_window(_Named(volume, name), view.window == "full")
    refuse_large(plane.shape[0], plane.shape[1], name, max_pixels)
    image = Image.fromarray(grey(plane, low, high)).convert("RGB")
    kind = "" if given(view.window) else "full range, " if view.window else "percentiles 0.5 and 99.5, "
    image.info[USED] = kind + between(low, high)
    return image


def _plane(values: NDArray[Any], name: str, view: View) -> NDArray[Any]:
    """The slice that a view names. SampleError where it names none, or one that is not there."""
    axis = _axis(view, name)
    slices = values.shape[axis]
    if view.slice is None and slices > 1:
        raise SampleError("image_animated", f"'{name}' has {slices} slices; name one with `slice` (from 0)")
    at = view.slice or 0
    if not 0 <= at < slices:
        raise SampleError("image_slice", f"'{name}' has {slices} slices; slice {at} is none of 0 to {slices - 1}")
    return values.take(at, axis)


def _axis(view: View, name: str) -> int:
    if view.axis not in (0, 1, 2):
        raise SampleError("image_slice", f"'{name}' has axes 0, 1 and 2, not {view.axis}")
    return view.axis


def window(
    values: NDArray[Any], name: str, chosen: tuple[float, float] | None = None, *, full: bool = False
) -> tuple[float, float]:
    """Least and greatest value that is shown: as chosen, else by percentiles (or extremes) of what is finite."""
    if chosen is not None:
        return chosen
    finite = values if values.dtype.kind in "iub" else values[np.isfinite(values)]
    if not finite.size:
        raise SampleError("image_unreadable", f"'{name}' has no finite voxel")
    low, high = (finite.min(), finite.max()) if full else np.percentile(finite, PERCENTILES)
    return float(low), float(high)


def grey(plane: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """A canonical slice as the rows and columns of a picture; what is not finite (outside the body) is black."""
    shown = displayed(plane)
    there = np.isfinite(shown)
    return np.where(there, spread(np.where(there, shown, low), low, high), 0).astype(np.uint8)


def displayed(plane: NDArray[Any]) -> NDArray[Any]:
    """A canonical slice [a, b] as rows and columns of a picture: the second axis upwards, the first to the left."""
    return plane[::-1, ::-1].T


# ---- labels ----------------------------------------------------------------------------------------------------------


def whole_numbers(volume: Volume, name: str) -> NDArray[np.int32]:
    """The labels of a volume; a scale's rounding error is taken off. SampleError when they are no labels."""
    values = volume.values
    if values.dtype.kind in "iub":
        return values.astype(np.int32)
    if not np.isfinite(values).all():
        raise SampleError("mask_not_labels", f"'{name}' has labels that are not finite")
    rounded = np.round(values)
    if values.size and float(np.abs(values - rounded).max()) > WHOLE:
        raise SampleError("mask_not_labels", f"'{name}' has labels that are no whole numbers")
    return rounded.astype(np.int32)


def labels_on(label: Volume, image: Volume, name: str) -> tuple[NDArray[np.int32], bool]:
    """A label's values on the image's grid, and whether they were resampled. SampleError `mask_frame` where the two do
    not lie in the same space, or nothing says where the label lies."""
    values = whole_numbers(label, name)
    if _same_grid(label, image):
        return values, False
    if not (label.framed and image.framed):
        which = "its image" if label.framed else "it"
        raise SampleError("mask_frame", f"'{name}' lies elsewhere than its image, or {which} states no orientation")
    from scipy.ndimage import affine_transform

    step = np.linalg.inv(label.affine) @ image.affine
    placed = affine_transform(values, step, output_shape=image.values.shape, order=0, mode="grid-constant", cval=0)
    if values.any() and not placed.any():
        raise SampleError("mask_frame", f"'{name}' marks nothing inside its image: the two lie in different places")
    return placed, True


def label_slice(data: bytes, name: str, view: View, image: bytes | None) -> NDArray[np.int32]:
    """The labels of a slice as rows and columns of a picture, on the grid of the volume `image` where it is given."""
    label = _recent(data, name)
    if image is None:
        return displayed(_plane(whole_numbers(label, name), name, view))
    if not is_volume(image):
        raise SampleError("mask_frame", f"'{name}' is a volume, and its image is none")
    return displayed(_plane(labels_on(label, _recent(image, name), name)[0], name, view))


def _same_grid(one: Volume, other: Volume) -> bool:
    """Whether the corners of two grids fall together."""
    if one.values.shape != other.values.shape:
        return False
    ends = np.array([[a, b, c, 1] for a in (0, 1) for b in (0, 1) for c in (0, 1)], float)
    ends[:, :3] *= np.array(one.values.shape) - 1
    moved = ends @ (np.linalg.inv(one.affine) @ other.affine).T
    return float(np.abs(moved - ends).max()) <= SAME_GRID
