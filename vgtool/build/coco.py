"""Layout `coco`: FILE.json with images, annotations (polygons, run lengths, else boxes) and categories.

Images lie beside the file or in images/, or, as COCO itself is published, in val2017/ and the like beside the folder
annotations/ that holds the file. Annotations are in the pixels of the size that their image's entry states. A file of
another size, but of the same proportions, has them scaled; one that EXIF turns to that size is taken as it is shown.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from PIL import ExifTags

from vgtool.benchmarks.sources import safe_name
from vgtool.benchmarks.tables import read_json
from vgtool.build.coco_marks import annotated
from vgtool.build.folder import IMAGE_FOLDERS, Folder, is_dicom, modality, patient_of, view_of
from vgtool.build.picture import Layer, Options, Picture, Report
from vgtool.errors import SampleError, VgError
from vgtool.images import pictures as stored
from vgtool.images.files import MAX_PIXELS
from vgtool.records import ImageSource

Row = dict[str, Any]
PARTS = ("val2017", "train2017", "test2017", "val2014", "train2014", "test2014")
"""Folders of images beside annotations/."""
TURNED = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


@dataclass(slots=True)
class _Listed:
    """One image of the file, under its first entry."""

    entry: Row
    marks: list[Row] = field(default_factory=list)


def pictures(path: Path, options: Options, report: Report) -> Iterator[Picture]:
    raw = read_json(path)
    if not isinstance(raw, dict) or not all(
        isinstance(raw.get(k), list) for k in ("images", "annotations", "categories")
    ):
        raise VgError(f"'{path.name}' has no images, annotations and categories.", "Give a COCO instances file.")
    folder = _folder(path)
    classes = _classes(raw["categories"], path)
    for name, listed in sorted(_images(raw, classes, path, report).items()):
        entry = listed.entry
        source, image = folder.named(name)
        source = replace(source, view=view_of(name, options))
        stated = _size(entry)
        try:
            shown = orientation(source, stated)
        except SampleError as error:
            report(error.code, name, error.detail)
            continue

        def layers(
            width: int, height: int, report: Report, marks: Sequence[Row] = listed.marks, stated: Any = stated
        ) -> list[Layer]:
            return annotated(marks, classes, stated or (width, height), (width, height), report)

        patient = str(entry.get("patient_id") or entry.get("patient") or "")
        plain = image if image is not None and shown == "stored" and not is_dicom(name) else None
        yield Picture(
            name,
            path.stem,
            options.modality or modality(str(entry.get("modality") or "")),
            patient_of(name, options, patient),
            source,
            layers,
            path=plain,
            orientation=shown,
        )


def _folder(path: Path) -> Folder:
    """Where the images of a file may be: in its own folder; or, for a file in annotations/, in those beside that."""
    if path.parent.name != "annotations":
        return Folder(path.parent, ("", *IMAGE_FOLDERS))
    own = path.stem.rpartition("_")[2]  # instances_val2017: val2017
    parts = dict.fromkeys((own, *PARTS))
    beside = [f"{top}{part}" for top in ("", "images/") for part in parts]
    inside = [f"annotations/{each}".rstrip("/") for each in ("", *IMAGE_FOLDERS)]
    return Folder(path.parent.parent, [*beside, *IMAGE_FOLDERS, "", *inside])


def _classes(categories: list[Any], path: Path) -> dict[str, str]:
    for one in categories:
        for key in ("id", "name"):
            if not isinstance(one, dict) or key not in one:
                raise VgError(f"'{path.name}' has the category {str(one)[:80]} without '{key}'.", "Correct the file.")
    return {str(one["id"]): str(one["name"]).replace("_", " ") for one in categories}


def _images(raw: Row, classes: Mapping[str, str], path: Path, report: Report) -> dict[str, _Listed]:
    """File name -> its entry and annotations. A file that is listed twice is one picture, with the marks of both; ids
    are compared as text, since tools write numbers and texts side by side."""
    found: dict[str, _Listed] = {}
    by_id: dict[str, _Listed] = {}
    for entry in raw["images"]:
        if not isinstance(entry, dict) or "id" not in entry:
            raise VgError(f"'{path.name}' has the image {str(entry)[:80]} without 'id'.", "Correct the file.")
        key = str(entry["id"])
        try:
            name = safe_name(entry.get("file_name"))
        except SampleError as error:
            report(error.code, f"image {key}", error.detail)
            by_id.setdefault(key, _Listed(entry))
            continue
        if key in by_id:
            report("image_twice", name, f"another image has the id {key}")
            continue
        same = found.get(name)
        if same is not None and _size(same.entry) != _size(entry):
            report("image_twice", name, "it is listed twice, with different sizes")
            by_id[key] = _Listed(entry)
            continue
        by_id[key] = found[name] = same or _Listed(entry)
    for one in raw["annotations"]:
        where = f"annotation {one.get('id', '?')}" if isinstance(one, dict) else "annotation"
        if not isinstance(one, dict) or str(one.get("image_id")) not in by_id:
            report("mask_without_image", where, "its image is not listed")
        elif str(one.get("category_id")) not in classes:
            report("unknown_class", where, f"category {one.get('category_id')} has no name")
        else:
            by_id[str(one["image_id"])].marks.append(one)
    return found


def _size(entry: Row) -> tuple[int, int] | None:
    """Width and height that an entry states; None where it states none."""
    sides = (entry.get("width"), entry.get("height"))
    if all(isinstance(side, (int, float)) and not isinstance(side, bool) and side > 0 for side in sides):
        return int(sides[0]), int(sides[1])  # type: ignore[arg-type]
    return None


def orientation(source: ImageSource, stated: tuple[int, int] | None) -> Literal["stored", "apply"]:
    """How a picture lies under its annotations: as stored, or as its EXIF rotation shows it, by the size they are drawn
    on. SampleError `image_rotated` where the size does not tell."""
    try:
        with stored.header(source.read(), source.name, MAX_PIXELS, source.view) as image:
            turn, size = image.getexif().get(ExifTags.Base.Orientation, 1), image.size
    except SampleError:
        return "stored"  # no picture, or not Pillow's: opening it names the fault
    if turn in (1, None):
        return "stored"
    if stated is not None and turn in TURNED and size[0] != size[1]:
        if stated == size:
            return "stored"
        if stated == size[::-1]:
            return "apply"
    said = f"EXIF turns it (orientation {turn}), and no size tells whether its annotations are drawn before or after"
    raise SampleError("image_rotated", f"'{source.name}': {said}")
