"""VGMED and its COCO control: questions with boxes and without answers, in the final and the early release.

Boxes follow the authors' reader: `bbox` where there is one, else `original_bboxes`; xyxy if the benchmark is VGMED and
the image does not come from SLAKE, else xywh. Those xyxy boxes are least and greatest pixels of a mask, so their far
edge is one further (`xyxy-inclusive`). Early rows name a bare image (`xmlab462`, or a COCO number) and are all xywh.
The rows' own `gt_tokens*` are not read: they keep only the last of several boxes.
"""

import re
from collections.abc import Iterator

from vgtool.benchmarks.boxes import boxes_of
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.rows import Draft, Row, build, files_of, group_name, optional, rows_of, side_mask, text
from vgtool.benchmarks.sources import safe_name
from vgtool.errors import SampleError
from vgtool.images import image_size
from vgtool.records import Rejected, Sample

_COCO = re.compile(r"COCO_(?:train|val)2014_(\d{12})\.jpg$")


def read(request: Request) -> Iterator[Sample | Rejected]:
    """Reader of the registry key `vgmed`."""
    files = files_of(request)

    def draft(row: Row) -> Draft:
        name = text(row, "image")
        places = locations(name)
        image = files.source(*places)
        boxes = boxes_of(
            row.get("bbox") or row.get("original_bboxes") or (), _format(request, name), lambda: image_size(image)
        )
        if not boxes:
            raise SampleError("malformed_row", "the row has no box")
        mask = optional(row, "mask")
        return Draft(
            image=image,
            image_id=safe_name(places[0]),
            question=text(row, "question"),
            kind="closed" if request.split == "localization" else "open",
            group=group_name(request.spec.groups, optional(row, "modality", "label")),
            boxes=boxes,
            mask=side_mask(files, mask, _inside(mask)) if mask else None,
        )

    return build(request, rows_of(request, files), draft)


def _is_early(name: str) -> bool:
    return "/" not in name and "." not in name


def _format(request: Request, name: str) -> str:
    form = request.box_format or request.spec.box_format or "vgmed"
    if form != "vgmed":
        return form
    return "xywh" if name.startswith("Slake") or _is_early(name) else "xyxy-inclusive"


def locations(name: str) -> list[str]:
    """Where an image may be: under its own name, without its source's folder, or as the early release means it."""
    if found := _COCO.search(name):  # 2014's name of an image that 2017's folders hold under its number alone
        return [name, _inside(name), found[1] + ".jpg"]
    if not _is_early(name):
        return [name, _inside(name)]
    if name.isdecimal():
        return [f"COCO_val2014_{int(name):012d}.jpg", f"COCO_train2014_{int(name):012d}.jpg", f"{int(name):012d}.jpg"]
    return [f"Slake1.0/imgs/{name}/source.jpg", f"imgs/{name}/source.jpg"]


def _inside(path: str) -> str:
    return path.split("/", 1)[1] if "/" in path else path
