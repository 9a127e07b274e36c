"""Layout `slake`: xmlab*/source.jpg with mask.png and mask.txt (value -> class), else detection.json (boxes)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vgtool.benchmarks.slake import detections
from vgtool.benchmarks.tables import read_json, read_text
from vgtool.build.folder import Folder, modality, names_file, patient_of
from vgtool.build.layers import boxed, label_map
from vgtool.build.picture import Layer, Options, Picture, Report
from vgtool.errors import SampleError, VgError
from vgtool.images import Names
from vgtool.images import names as naming


def pictures(root: Path, options: Options, report: Report) -> Iterator[Picture]:
    folder = Folder(root)
    chosen = options.names or names_file(root) or names_file(root / "imgs")
    names = naming.parse(read_text(chosen), chosen.name) if chosen else Names({})
    found = {path.parent for pattern in ("xmlab*/source.jpg", "imgs/xmlab*/source.jpg") for path in root.glob(pattern)}
    for place in sorted(found):

        def layers(width: int, height: int, report: Report, place: Path = place) -> list[Layer]:
            if (place / "mask.png").is_file() and names.marked:
                return label_map(folder.source(place / "mask.png"), names, width, height, report)
            return _detected(folder, place, width, height, report)

        image = place / "source.jpg"
        name = folder.name(image)
        said = options.modality or modality(str(_asked(place, report).get("modality", "")))
        patient = patient_of(name, options)
        yield Picture(name, "SLAKE", said, patient, folder.source(image), layers, path=image)


def _asked(place: Path, report: Report) -> dict[str, Any]:
    """The first question about an image, which says its modality."""
    path = place / "question.json"
    if not path.is_file():
        return {}
    try:
        asked = read_json(path)
    except VgError as error:
        report("question_unreadable", f"{place.name}/question.json", error.message)
        return {}
    return asked[0] if isinstance(asked, list) and asked and isinstance(asked[0], dict) else {}


def _detected(folder: Folder, place: Path, width: int, height: int, report: Report) -> list[Layer]:
    boxes, where = place / "detection.json", f"{place.name}/detection.json"
    if not boxes.is_file():
        report("image_without_mask", place.name, "neither mask.png with mask.txt nor detection.json")
        return []
    try:
        listed = detections(folder.source(boxes).read(), where)
    except SampleError as error:
        report(error.code, where, error.detail)
        return []
    found = []
    for label, there in sorted(listed.items()):
        if isinstance(there, SampleError):
            report(there.code, where, there.detail)
        else:
            found.append(boxed(label, there, width, height))
    return found
