"""Layout `dicom`: series of DICOM pictures anywhere in a folder, and DICOM SEG or RT-STRUCT objects that mark them.

Series are ordered by position; a mark belongs to the slice in whose plane it lies. Which files are which their headers
say, not their names.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vgtool.build.dicom_marks import Mark, contours, segments
from vgtool.build.folder import Folder, modality, patient_of
from vgtool.build.layers import united
from vgtool.build.nifti import chosen
from vgtool.build.picture import Layer, Options, Picture, Report
from vgtool.errors import SampleError, VgError
from vgtool.images import dicom, series
from vgtool.images.series import Slice
from vgtool.records import View

MARKS = ("SEG", "RTSTRUCT")
"""Modality of files that mark."""
SUFFIXES = (".dcm", ".dicom", ".ima", "")


def has_marks(root: Path) -> bool:
    """Whether a folder holds DICOM marks (for --format auto): headers are read until one is found."""
    for path in _files(Folder(root)):
        try:
            file = dicom.read(path.read_bytes(), path.name, pixels=False)
            if str(file.get("Modality", "")) in MARKS:
                return True
        except (SampleError, OSError):
            continue
    return False


def pictures(root: Path, options: Options, report: Report) -> Iterator[Picture]:
    folder = Folder(root)
    stacks, headers, marking = _indexed(folder, report)
    if not marking:
        raise VgError(f"'{root.name}' holds no DICOM SEG or RT-STRUCT.", "Name the folder that holds them.")
    marks: dict[Slice, list[Mark]] = defaultdict(list)
    for path in marking:
        name = folder.name(path)
        try:
            file = dicom.read(folder.source(path).read(), name)
            read = segments if str(file.Modality) == "SEG" else contours
            read(file, name, stacks, marks, report)
        except SampleError as error:
            report(error.code.replace("image_", "mask_"), name, error.detail)
    for stack in stacks:
        counts = [sum(_drawn(marks[one], report)) if one in marks else 0 for one in stack]
        if not any(counts):
            report("image_without_mask", stack[0].name, "no mark lies in its series")
        for at in chosen(counts, options.slices):
            yield _picture(folder, stack[at], marks[stack[at]], headers[stack[at].name], options)


def _drawn(marks: list[Mark], report: Report) -> list[int]:
    """Pixels of each mark; what cannot be drawn is reported, and taken out."""
    found = []
    for mark in list(marks):
        try:
            found.append(int(mark.mask().sum()))
        except SampleError as error:
            report(error.code.replace("image_", "mask_"), mark.name, error.detail)
            marks.remove(mark)
    return found


def _picture(folder: Folder, one: Slice, marks: list[Mark], header: tuple[str, str, str], options: Options) -> Picture:
    said, patient, number = header

    def layers(width: int, height: int, report: Report) -> list[Layer]:
        found = defaultdict(list)
        for mark in marks:
            if (mask := mark.mask()).any():
                found[mark.label].append(mask)
        return [united(label, found[label]) for label in sorted(found)]

    view = View(slice=one.frame, window=options.window)
    name = one.name if one.frame is None else f"{one.name}.{one.frame:04d}"
    return Picture(
        name,
        number or folder.root.name,
        options.modality or modality(said),
        patient_of(one.name, options, patient),
        folder.source(folder.root / one.name, view),
        layers,
    )


def _files(folder: Folder) -> list[Path]:
    found = (path for path in folder.root.rglob("*") if path.suffix.lower() in SUFFIXES or path.suffix[1:].isdigit())
    return sorted(path for path in found if not path.name.startswith(".") and path.is_file())


def _indexed(
    folder: Folder, report: Report
) -> tuple[list[list[Slice]], dict[str, tuple[str, str, str]], list[Path]]:
    """Series in order, modality, patient and study of each file, and the files that mark."""
    found: dict[str, list[Slice]] = defaultdict(list)
    headers: dict[str, tuple[str, str, str]] = {}
    marking: list[Path] = []
    for path in _files(folder):
        name = folder.name(path)
        try:
            data = folder.source(path).read()
            if not dicom.is_dicom(data):
                continue
            file: Any = dicom.read(data, name, pixels=False)
            if str(file.get("Modality", "")) in MARKS:
                marking.append(path)
                continue
            for one in series.slices(file, name):
                found[one.series].append(one)
            headers[name] = (str(file.get("Modality", "")), str(file.get("PatientID", "")), folder.root.name)
        except SampleError as error:
            report(error.code, name, error.detail)
    stacks = []
    for uid in sorted(found):
        try:
            stacks.append(series.ordered(found[uid], found[uid][0].name))
        except SampleError as error:
            report(error.code, found[uid][0].name, error.detail)
    return stacks, headers, marking
