"""The layouts in which segmentation data is published, one file each; which of them a path has.

What cannot be used is told to `report` by code and name; the rest goes on.
"""

import importlib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from vgtool.build.folder import names_file
from vgtool.build.picture import Options, Picture, Report
from vgtool.errors import VgError, did_you_mean

FORMATS = {
    "samed2d": ("window",),
    "pairs": ("names", "window"),
    "coco": ("window",),
    "slake": ("names",),
    "nifti": ("names", "axis", "slices", "window"),
    "dicom": ("slices", "window"),
}
"""Format, whose module here has `pictures(path, options, report)` -> what of `Options` it reads, beside `modality` and
`patient`, which all do."""


def detect(path: Path) -> str:
    """The layout of a file or folder."""
    if path.is_file():
        if path.suffix.lower() == ".json":
            return "coco"
        raise VgError(f"'{path}' is no COCO JSON file.", "Name a folder with masks, or FILE.json.")
    if not path.is_dir():
        raise VgError(f"No folder or file '{path}'.", "Name what holds the masks.")
    if next(path.rglob("*.nii"), None) or next(path.rglob("*.nii.gz"), None):
        return "nifti"
    if any((folder / "source.jpg").exists() for pattern in ("xmlab*", "imgs/xmlab*") for folder in path.glob(pattern)):
        return "slake"
    if names_file(path):
        return "pairs"
    from vgtool.build.dicom import has_marks

    return "dicom" if has_marks(path) else "samed2d"


def pictures(path: Path, form: str, options: Options, report: Report) -> Iterator[Picture]:
    """Every picture that has masks, by name. VgError where the layout is not there."""
    if form not in FORMATS:
        raise VgError(f"No format '{form}'.", did_you_mean(form, FORMATS))
    if (form == "coco") != path.is_file():
        raise VgError(f"Format '{form}' is not what '{path}' is.", "coco is a JSON file, the others are folders.")
    for given in fields(Options):
        name = given.name
        if name not in (*FORMATS[form], "modality", "patient") and getattr(options, name) != given.default:
            readers = " and ".join(one for one, read in FORMATS.items() if name in read)
            raise VgError(f"--{name} means nothing for format '{form}'.", f"Leave it out; {readers} read it.")
    reader = importlib.import_module(f"vgtool.build.{form}")
    found: Iterator[Picture] = reader.pictures(path.resolve(), options, report)
    return found
