"""Layout `nifti`: as pairs, of .nii or .nii.gz volumes; each picture is a slice, each label on its image's grid."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgtool.build.folder import Folder, modality, patient_of
from vgtool.build.layers import labelled, tell_unknown
from vgtool.build.picture import Layer, Options, Picture, Report
from vgtool.errors import SampleError
from vgtool.images import volumes
from vgtool.images.levels import between
from vgtool.images.volumes import Volume
from vgtool.records import ImageSource

SUFFIXES = (".nii", ".nii.gz")


def pictures(root: Path, options: Options, report: Report) -> Iterator[Picture]:
    """Slices in the closest canonical orientation. Axial ones show the patient's right on the left, front up."""
    folder = Folder(root)
    names = folder.names(options)
    for key, image, label in folder.paired(SUFFIXES, report):
        found = _read(folder, image, label, options, report)
        if found is None:
            continue
        volume, marks, (low, high) = found
        where = folder.name(label)
        tell_unknown(set(np.unique(marks).tolist()), names, where, report)
        if not np.isin(marks, sorted(names.marked)).any():
            report("mask_empty", where, "no voxel has a value that is named as a class")
        for at in chosen_slices(np.isin(marks, sorted(names.marked)), options.axis, options.slices):
            flat = volumes.displayed(np.take(marks, at, options.axis))
            pixels = volumes.grey(np.take(volume.values, at, options.axis), low, high)

            def layers(width: int, height: int, report: Report, flat: Any = flat, where: str = where) -> list[Layer]:
                return labelled(flat, names, where, report)

            yield Picture(
                f"{key}_{'xyz'[options.axis]}{at:04d}.png",
                root.name,
                options.modality or (modality(key.split("/", 1)[0]) if "/" in key else ""),
                patient_of(key, options, key),
                ImageSource(folder.name(image), lambda: b""),
                layers,
                pixels=pixels,
                window=between(low, high),
            )


def _read(
    folder: Folder, image: Path, label: Path, options: Options, report: Report
) -> tuple[Volume, NDArray[np.int32], tuple[float, float]] | None:
    """The image, the label's values on its grid, and its window; None, reported, where there are none."""
    try:
        volume = volumes.load(folder.source(image).read(), folder.name(image))
        window = volumes.window(volume.values, folder.name(image), options.window)
    except SampleError as error:
        report(error.code, folder.name(image), error.detail)
        return None
    where = folder.name(label)
    try:
        marks, resampled = volumes.labels_on(volumes.load(folder.source(label).read(), where), volume, where)
    except SampleError as error:
        report(error.code.replace("image_", "mask_"), where, error.detail)
        return None
    if resampled:
        report("mask_resampled", where, "its grid is not its image's: each voxel takes the nearest label")
    return volume, marks, window


def chosen_slices(marked: NDArray[np.bool_], axis: int, rule: str) -> list[int]:
    """Slices with voxels of a class: the one with most of them (the first of equals), all, or every Nth of them."""
    return chosen(marked.sum(axis=tuple(i for i in range(3) if i != axis)).tolist(), rule)


def chosen(marked: list[int], rule: str) -> list[int]:
    """As `chosen_slices`, from the number of marked pixels in each slice."""
    filled = [at for at, number in enumerate(marked) if number]
    if not filled:
        return []
    if rule == "largest":
        return [marked.index(max(marked))]
    return filled[:: 1 if rule == "all" else int(rule)]
