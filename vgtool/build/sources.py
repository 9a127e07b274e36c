"""Pictures with their masks, one at a time, from the layouts in which segmentation data is published.

samed2d   <stem>.png and <stem>_<class>_<instance>.png, in one folder or in images/ and masks/; JSON maps optional
pairs     images/ and labels/ (or masks/) with equal names, and names.json or names.txt: value -> class
coco      FILE.json with images, annotations (polygons, run lengths, else boxes) and categories
slake     xmlab*/source.jpg with mask.png, and mask.txt: value -> class
nifti     as pairs, of .nii or .nii.gz volumes: slices along an axis (needs vgtool[build])
An image may be DICOM in samed2d and pairs (needs vgtool[dicom]); its first stated window applies, else its extremes.
What cannot be used is told to `report` by code and name; the rest goes on.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgtool.benchmarks.slake import detections
from vgtool.benchmarks.sources import safe_name
from vgtool.build.measure import Instance, Mask, box_around, components, polygon
from vgtool.errors import SampleError, VgError, did_you_mean
from vgtool.grounding import runlength
from vgtool.images import Names, open_binary, open_image, open_labels
from vgtool.records import Box, ImageSource

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".dcm")
VOLUMES = (".nii", ".nii.gz")
FORMATS = ("samed2d", "pairs", "coco", "slake", "nifti")
NAME_FILES = ("names.json", "names.txt", "classes.txt", "labels.txt", "mask.txt", "dataset.json")
MASK_FOLDERS = ("masks", "mask", "labels", "labelsTr", "annotations", "segmentations")
IMAGE_FOLDERS = ("images", "imagesTr", "imgs")
IGNORED = 255
"""A label map's value for pixels nobody labelled, unless the names say otherwise."""
MODALITIES = {
    "ct": "CT",
    "mr": "MRI",
    "mri": "MRI",
    "x_ray": "X-ray",
    "xray": "X-ray",
    "x-ray": "X-ray",
    "cr": "X-ray",
    "dx": "X-ray",
    "pet": "PET",
    "pt": "PET",
    "ultrasound": "Ultrasound",
    "us": "Ultrasound",
    "dermoscopy": "Dermoscopy",
    "endoscopy": "Endoscopy",
    "fundus_photography": "Fundus",
    "fundus": "Fundus",
    "microscopy": "Microscopy",
}
_MASK_NAME = re.compile(r"(?P<class>.+?)_(?P<instance>\d+)")
_LOOKS_LIKE_MASK = re.compile(r".+(_|--)[A-Za-z].*_\d{3}")
_NAME_LINE = re.compile(r"(?:(\d+)\s*[:=,\t ]\s*(.*\S)|(.*\S)\s*[:=,\t ]\s*(\d+))")

Report = Callable[[str, str, str], None]
"""code, file, detail."""


@dataclass(frozen=True, slots=True)
class Options:
    """How masks are read."""

    names: Path | None = None
    modality: str | None = None
    patient: re.Pattern[str] | None = None
    """Its first group (or all of it) in an image's path is the patient."""
    axis: int = 2
    slices: str = "largest"
    """Of a volume: largest (most labelled pixels), all, or every Nth."""
    window: tuple[float, float] | None = None
    """Of a volume: least and greatest value shown; its 0.5 and 99.5 percentiles when not given."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One class in one picture."""

    label: str
    instances: tuple[Instance, ...]
    mask: Mask | None
    """All instances together; None where only boxes are known."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture, not yet opened."""

    image_id: str
    """Relative path."""
    dataset: str
    modality: str
    patient: str
    """Empty where nothing says."""
    source: ImageSource
    layers: Callable[[int, int, Report], list[Layer]]
    """Of a picture of this width and height."""
    pixels: NDArray[np.uint8] | None = None
    """For what is no image file: the slice as shown."""
    path: Path | None = None
    """The file, where it can stand in the benchmark as it is."""

    def open(self) -> tuple[Image.Image, str]:
        """The picture as RGB, and a digest of its content. SampleError when there is none."""
        if self.pixels is not None:
            return Image.fromarray(self.pixels).convert("RGB"), hashlib.sha256(self.pixels.tobytes()).hexdigest()
        data = self.source.read()
        return open_image(ImageSource(self.source.name, lambda: data)), hashlib.sha256(data).hexdigest()


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
    return "pairs" if _names_file(path) else "samed2d"


def pictures(path: Path, form: str, options: Options, report: Report) -> Iterator[Picture]:
    """Every picture that has masks, by name. VgError where the layout is not there."""
    readers = {"samed2d": _samed2d, "pairs": _pairs, "coco": _coco, "slake": _slake, "nifti": _nifti}
    if form not in readers:
        raise VgError(f"No format '{form}'.", did_you_mean(form, readers))
    if (form == "coco") != path.is_file():
        raise VgError(f"Format '{form}' is not what '{path}' is.", "coco is a JSON file, the others are folders.")
    return readers[form](path.resolve(), options, report)


# ---- one file --------------------------------------------------------------------------------------------------------


def _source(path: Path, root: Path) -> ImageSource:
    name = path.relative_to(root).as_posix()

    def read() -> bytes:
        if not path.resolve().is_relative_to(root):
            raise SampleError("image_outside_root", f"'{name}' is a link that leads out of the folder")
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise SampleError("image_missing", f"'{name}' is not in the folder") from None
        except OSError as error:
            raise SampleError("image_unreadable", f"'{name}': {error.strerror}") from None

    return ImageSource(name, read)


def _files(root: Path, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    found = (path for path in root.rglob("*") if path.name.lower().endswith(tuple(suffixes)))
    return sorted(path for path in found if not path.name.startswith(".") and path.is_file())


def _modality(written: str) -> str:
    return MODALITIES.get(written.lower(), written)


def _binary(path: Path, root: Path, width: int, height: int, report: Report) -> Mask | None:
    """A mask of one class: 0 and one other value. None, reported, for anything else."""
    source = _source(path, root)
    try:
        mask = open_binary(source)
    except SampleError as error:
        report(error.code.replace("image_", "mask_"), source.name, error.detail)
        return None
    if mask.shape != (height, width):
        report("mask_size", source.name, f"{mask.shape[1]} x {mask.shape[0]}, the image {width} x {height}")
        return None
    if not mask.any():
        report("mask_empty", source.name, "no pixel is set")
        return None
    return mask


def _labelled(values: NDArray[Any], names: Mapping[int, str], where: str, report: Report) -> list[Layer]:
    """A label map's classes; instances are connected parts."""
    merged: dict[str, list[int]] = defaultdict(list)
    for value in np.unique(values).tolist():
        if value in names:
            if names[value].lower() != "background":
                merged[names[value]].append(value)
        elif value not in (0, IGNORED):
            report("unknown_class", where, f"value {value} has no name")
    layers = []
    for label in sorted(merged):
        mask = np.isin(values, merged[label]) if len(merged[label]) > 1 else values == merged[label][0]
        layers.append(Layer(label, tuple(components(mask)), mask))
    return layers


def _label_map(path: Path, root: Path, names: Mapping[int, str], size: tuple[int, int], report: Report) -> list[Layer]:
    source = _source(path, root)
    try:
        values = open_labels(source, Names(names))
    except SampleError as error:
        report(error.code.replace("image_", "mask_"), source.name, error.detail)
        return []
    width, height = size
    if values.shape != (height, width):
        report("mask_size", source.name, f"{values.shape[1]} x {values.shape[0]}, the image {width} x {height}")
        return []
    return _labelled(values, names, source.name, report)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise VgError(f"'{path.name}' cannot be read as JSON: {error}.", "Correct the file.") from None


def _names_file(root: Path) -> Path | None:
    return next((root / name for name in NAME_FILES if (root / name).is_file()), None)


def read_names(path: Path) -> dict[int, str]:
    """value -> class: JSON either way round (or below `labels`), or lines, either way round."""
    pairs: list[tuple[Any, Any]]
    if path.suffix.lower() == ".json":
        raw = _json(path)
        raw = raw.get("labels", raw) if isinstance(raw, dict) else raw
        if not isinstance(raw, dict):
            raise VgError(f"'{path.name}' is no object of values and names.", 'Write {"1": "liver"}.')
        pairs = list(raw.items())
    else:
        matches = [(line, _NAME_LINE.fullmatch(line.strip())) for line in path.read_text("utf-8-sig").splitlines()]
        if wrong := [line for line, match in matches if line.strip() and not line.startswith("#") and not match]:
            raise VgError(f"'{path.name}' has the line '{wrong[0]}'.", "Write one value and name a line.")
        pairs = [(match[1] or match[4], match[2] or match[3]) for _, match in matches if match]
    names: dict[int, str] = {}
    for one, other in pairs:
        value, name = (one, other) if str(one).strip().isdigit() else (other, one)
        if not str(value).strip().isdigit() or not isinstance(name, str):
            raise VgError(f"'{path.name}' pairs '{one}' with '{other}'.", "One of them must be a whole number.")
        if int(value) in names:
            raise VgError(f"'{path.name}' names value {value} twice.", "Name each value once.")
        names[int(value)] = name.strip().replace("_", " ")
    return names


def _wanted_names(root: Path, options: Options) -> dict[int, str]:
    path = options.names or _names_file(root)
    if path is None or not path.is_file():
        raise VgError(f"'{root.name}' has no file that names its values.", "Add names.txt, or give --names FILE.")
    return read_names(path)


def _patient(name: str, options: Options, known: str = "") -> str:
    if options.patient is None:
        return known
    match = options.patient.search(name)
    if match is None:
        return ""
    return match.group(1) if match.re.groups else match.group(0)


def _side(path: Path, root: Path, folders: Sequence[str]) -> str | None:
    """The path's name without its images/ or masks/ folder and without its suffix; None when it is in none of them."""
    parts = list(path.relative_to(root).parts)
    at = next((i for i, part in enumerate(parts[:-1]) if part in folders), None)
    if at is None:
        return None
    del parts[at]
    return _bare("/".join(parts))


def _bare(name: str) -> str:
    return name[: -len(".nii.gz")] if name.lower().endswith(".nii.gz") else name.rpartition(".")[0]


def _about(key: str, path: Path, root: Path, options: Options) -> tuple[str, str, str]:
    """Data set, modality and patient of an image, from SA-Med2D's own names where it has one, or DICOM's header."""
    parts = path.stem.split("--")
    dataset, modality, patient = root.name, "", ""
    if len(parts) >= 4:
        modality, dataset = re.sub(r"_\d+$", "", parts[0]), parts[1]
        patient = f"{parts[1]}--{parts[2]}"
    elif "/" in key:
        modality = key.split("/", 1)[0]
    if path.suffix.lower() == ".dcm":
        modality, patient = _dicom_header(path)
    return dataset, options.modality or _modality(modality), _patient(key, options, patient)


def _dicom_header(path: Path) -> tuple[str, str]:
    try:
        import pydicom
    except ImportError:
        raise VgError(f"'{path.name}' is DICOM.", "Install vgtool[dicom].") from None
    try:
        file = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality", "PatientID"])
    except (pydicom.errors.InvalidDicomError, OSError, ValueError, TypeError, EOFError):
        return "", ""  # opening the image names the fault
    return str(file.get("Modality", "")), str(file.get("PatientID", ""))


def _picture(path: Path, root: Path, key: str, options: Options, layers: Callable[..., list[Layer]]) -> Picture:
    dataset, modality, patient = _about(key, path, root, options)
    name = path.relative_to(root).as_posix()
    plain = None if path.suffix.lower() == ".dcm" else path
    return Picture(name, dataset, modality, patient, _source(path, root), layers, path=plain)


# ---- SA-Med2D --------------------------------------------------------------------------------------------------------


def _samed2d(root: Path, options: Options, report: Report) -> Iterator[Picture]:
    files = _files(root)
    classes, assigned = _json_maps(root)
    split = any(_side(path, root, MASK_FOLDERS) is not None for path in files)
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for path in files:
        name = path.relative_to(root).as_posix()
        key = _side(path, root, MASK_FOLDERS) if split else None
        if key is not None:
            masks[name] = path
        else:
            key = _side(path, root, IMAGE_FOLDERS) or _bare(name)
            if key in images:
                report("image_twice", name, f"the same name as '{images[key].relative_to(root).as_posix()}'")
                continue
            images[key] = path
    if not split:
        keys = set(images)
        for key in sorted(keys):
            if _owner(key, keys):
                path = images.pop(key)
                masks[path.relative_to(root).as_posix()] = path
    owned: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for name in sorted(masks):
        path = masks[name]
        key = (_side(path, root, MASK_FOLDERS) if split else None) or _bare(name)
        owner = assigned.get(name) or _owner(key, images.keys())
        if owner is None or owner not in images:
            report("mask_without_image", name, "no image has the beginning of its name")
            continue
        match = _MASK_NAME.fullmatch(key[len(owner) :].lstrip("_-")) if key.startswith(owner) else None
        label = match["class"] if match else ""
        if label.isdigit():
            label = classes.get(int(label), "")
        if not label:
            report("unknown_class", name, "neither its name nor a JSON map says which class it is")
            continue
        owned[owner].append((label.replace("_", " ").strip(), path))
    for key in sorted(images):
        path = images[key]
        name = path.relative_to(root).as_posix()
        if key not in owned:
            code = "mask_without_image" if not split and _LOOKS_LIKE_MASK.fullmatch(key) else "image_without_mask"
            report(code, name, "no image has the beginning of its name" if code[0] == "m" else "no mask has its name")
            continue
        yield _picture(path, root, key, options, _of_files(owned[key], root))


def _of_files(owned: Sequence[tuple[str, Path]], root: Path) -> Callable[[int, int, Report], list[Layer]]:
    def layers(width: int, height: int, report: Report) -> list[Layer]:
        found: dict[str, list[Mask]] = defaultdict(list)
        for label, path in owned:
            mask = _binary(path, root, width, height, report)
            if mask is not None:
                found[label].append(mask)
        return [_united(label, found[label]) for label in sorted(found)]

    return layers


def _united(label: str, masks: Sequence[Mask]) -> Layer:
    union = masks[0] if len(masks) == 1 else np.logical_or.reduce(masks)
    parts = [Instance(box_around(mask), int(mask.sum())) for mask in masks]
    return Layer(label, tuple(sorted(parts, key=lambda one: (one.box.y0, one.box.x0, one.box.as_list()))), union)


def _owner(key: str, images: Collection[str]) -> str | None:
    """The longest image name that a mask's name continues with _ or --."""
    for at in range(len(key) - 1, 0, -1):
        joined = key[at] == "_" or key.startswith("--", at)
        if joined and key[:at] in images and _MASK_NAME.fullmatch(key[at:].lstrip("_-")):
            return key[:at]
    return None


def _json_maps(root: Path) -> tuple[dict[int, str], dict[str, str]]:
    """Class number -> name, and mask path -> image key, from the JSON files at the top."""
    classes: dict[int, str] = {}
    assigned: dict[str, str] = {}
    for path in sorted(root.glob("*.json")):
        raw = _json(path)
        for one, other in raw.items() if isinstance(raw, dict) else ():
            if isinstance(other, list):
                image = root / str(one)
                key = _side(image, root, IMAGE_FOLDERS) or _bare(str(one))
                assigned |= {str(mask).replace("\\", "/"): key for mask in other}
            elif str(one).isdigit() and isinstance(other, str):
                classes[int(one)] = other
            elif str(other).isdigit():
                classes[int(other)] = str(one)
    return classes, assigned


# ---- label maps ------------------------------------------------------------------------------------------------------


def _paired(root: Path, suffixes: Sequence[str], report: Report) -> Iterator[tuple[str, Path, Path]]:
    """Name, image and label map, by name. A trailing channel number of the image (_0000) is not part of it."""
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for path in _files(root, suffixes):
        if (key := _side(path, root, MASK_FOLDERS)) is not None:
            labels[key] = path
        elif (key := _side(path, root, IMAGE_FOLDERS)) is not None:
            if key in images:
                report("image_twice", path.relative_to(root).as_posix(), "another image has its name")
                continue
            images[key] = path
    if not images or not labels:
        raise VgError(f"'{root.name}' has no images/ with labels/ beside it.", "Put them there, under equal names.")
    for key in sorted(key for key in images if key not in labels and key.endswith("_0000")):
        if key[:-5] in labels and key[:-5] not in images:
            images[key[:-5]] = images.pop(key)
    for key in sorted(labels.keys() - images.keys()):
        report("mask_without_image", labels[key].relative_to(root).as_posix(), "no image has its name")
    for key in sorted(images):
        if key in labels:
            yield key, images[key], labels[key]
        else:
            report("image_without_mask", images[key].relative_to(root).as_posix(), "no label map has its name")


def _pairs(root: Path, options: Options, report: Report) -> Iterator[Picture]:
    names = _wanted_names(root, options)
    for key, image, label in _paired(root, SUFFIXES, report):

        def layers(width: int, height: int, report: Report, label: Path = label) -> list[Layer]:
            return _label_map(label, root, names, (width, height), report)

        yield _picture(image, root, key, options, layers)


def _slake(root: Path, options: Options, report: Report) -> Iterator[Picture]:
    found = _names_file(root) or _names_file(root / "imgs")
    chosen = options.names or found
    names = read_names(chosen) if chosen else {}
    folders = {
        path.parent for pattern in ("xmlab*/source.jpg", "imgs/xmlab*/source.jpg") for path in root.glob(pattern)
    }
    for folder in sorted(folders):

        def layers(width: int, height: int, report: Report, folder: Path = folder) -> list[Layer]:
            if (folder / "mask.png").is_file() and names:
                return _label_map(folder / "mask.png", root, names, (width, height), report)
            boxes = folder / "detection.json"
            if not boxes.is_file():
                report("image_without_mask", folder.name, "neither mask.png with mask.txt nor detection.json")
                return []
            try:
                listed = detections(_source(boxes, root).read(), f"{folder.name}/detection.json")
            except SampleError as error:
                report(error.code, f"{folder.name}/detection.json", error.detail)
                return []
            found = []
            for label, there in sorted(listed.items()):
                if isinstance(there, SampleError):
                    report(there.code, f"{folder.name}/detection.json", there.detail)
                else:
                    found.append(_boxed(label, there, width, height))
            return found

        image = folder / "source.jpg"
        name = image.relative_to(root).as_posix()
        asked = _json(folder / "question.json") if (folder / "question.json").is_file() else []
        first = asked[0] if isinstance(asked, list) and asked and isinstance(asked[0], dict) else {}
        modality = options.modality or _modality(str(first.get("modality", "")))
        patient = _patient(name, options)
        yield Picture(name, "SLAKE", modality, patient, _source(image, root), layers, path=image)


def _boxed(label: str, boxes: Sequence[Box], width: int, height: int) -> Layer:
    inside = [part for box in boxes if (part := box.clipped(width, height))]
    return Layer(label, tuple(Instance(box, round(box.area)) for box in inside), None)


# ---- COCO ------------------------------------------------------------------------------------------------------------


def _coco(path: Path, options: Options, report: Report) -> Iterator[Picture]:
    raw = _json(path)
    if not isinstance(raw, dict) or not all(
        isinstance(raw.get(k), list) for k in ("images", "annotations", "categories")
    ):
        raise VgError(f"'{path.name}' has no images, annotations and categories.", "Give a COCO instances file.")
    root = path.parent
    try:
        classes = {one["id"]: str(one["name"]).replace("_", " ") for one in raw["categories"]}
        listed = {one["id"]: one for one in raw["images"]}
    except (KeyError, TypeError) as error:
        raise VgError(f"'{path.name}' has an image or category without {error}.", "Correct the file.") from None
    marks: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for one in raw["annotations"]:
        where = f"annotation {one.get('id', '?')}" if isinstance(one, dict) else "annotation"
        if not isinstance(one, dict) or one.get("image_id") not in listed:
            report("mask_without_image", where, "its image is not listed")
        elif one.get("category_id") not in classes:
            report("unknown_class", where, f"category {one.get('category_id')} has no name")
        else:
            marks[one["image_id"]].append(one)
    for key in sorted(listed, key=lambda one: str(listed[one].get("file_name"))):
        entry = listed[key]
        try:
            name = safe_name(entry.get("file_name"))
        except SampleError as error:
            report(error.code, f"image {key}", error.detail)
            continue
        places = [root / name, *(root / folder / name for folder in IMAGE_FOLDERS)]
        image = next((place for place in places if place.is_file()), places[0])

        def layers(width: int, height: int, report: Report, own: list[dict[str, Any]] = marks[key]) -> list[Layer]:
            return _annotated(own, classes, width, height, report)

        patient = str(entry.get("patient_id") or entry.get("patient") or "")
        modality = options.modality or _modality(str(entry.get("modality") or ""))
        yield Picture(
            name, path.stem, modality, _patient(name, options, patient), _source(image, root), layers, path=image
        )


def _annotated(
    marks: Sequence[dict[str, Any]], classes: Mapping[Any, str], width: int, height: int, report: Report
) -> list[Layer]:
    masks: dict[str, list[Mask]] = defaultdict(list)
    boxes: dict[str, list[Box]] = defaultdict(list)
    for one in marks:
        where, label = f"annotation {one.get('id', '?')}", classes[one["category_id"]]
        try:
            mask = _segmentation(one.get("segmentation"), width, height)
            if mask is None:
                x, y, w, h = map(float, one["bbox"])
                box = Box(x, y, x + w, y + h).clipped(width, height)
                if box is None:
                    report("mask_size", where, f"box {one['bbox']} lies outside {width} x {height}")
                else:
                    boxes[label].append(box)
            elif mask.any():
                masks[label].append(mask)
            else:
                report("mask_empty", where, "no pixel is set")
        except SampleError as error:
            report(error.code, where, error.detail)
        except (KeyError, TypeError, ValueError) as error:
            report("mask_unreadable", where, f"neither segmentation nor bbox can be used: {error}")
    found = []
    for label in sorted(masks.keys() | boxes.keys()):
        if label in boxes:  # one instance without a mask: the class has boxes only
            whole = [*boxes[label], *(box_around(mask) for mask in masks.get(label, ()))]
            found.append(_boxed(label, sorted(whole, key=Box.as_list), width, height))
        else:
            found.append(_united(label, masks[label]))
    return found


def _segmentation(value: Any, width: int, height: int) -> Mask | None:
    """A mask of polygons or run lengths; None where there is none."""
    if not value:
        return None
    if isinstance(value, list):
        drawn = np.zeros((height, width), bool)
        for ring in value:
            if len(ring) < 6 or len(ring) % 2 or not all(np.isfinite(float(number)) for number in ring):
                raise SampleError("mask_unreadable", f"a polygon of {len(ring)} numbers")
            drawn |= polygon(list(zip(map(float, ring[::2]), map(float, ring[1::2]), strict=True)), width, height)
        return drawn
    if list(value.get("size") or ()) != [height, width]:
        raise SampleError("mask_size", f"run lengths for {value.get('size')}, the image {width} x {height}")
    if isinstance(value["counts"], list):
        return runlength.decode(value)
    try:
        from pycocotools import mask as coco
    except ImportError:
        raise SampleError("mask_unreadable", "compressed run lengths; install vgtool[build]") from None
    counts = value["counts"]
    return coco.decode({"size": value["size"], "counts": counts.encode() if isinstance(counts, str) else counts}) > 0


# ---- volumes ---------------------------------------------------------------------------------------------------------


def _nifti(root: Path, options: Options, report: Report) -> Iterator[Picture]:
    """Slices in the closest canonical orientation. Axial ones show the patient's right on the left, front up."""
    try:
        import nibabel
    except ImportError:
        raise VgError(f"'{root.name}' holds NIfTI volumes.", "Install vgtool[build].") from None
    names = _wanted_names(root, options)

    def volume(path: Path) -> NDArray[Any] | None:
        name = path.relative_to(root).as_posix()
        try:
            data = np.asanyarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)
        except (nibabel.filebasedimages.ImageFileError, OSError, ValueError, EOFError) as error:
            report("mask_unreadable" if _side(path, root, MASK_FOLDERS) else "image_unreadable", name, str(error))
            return None
        if data.ndim != 3:
            report("mask_size", name, f"{data.ndim} dimensions; a volume has three")
            return None
        return data

    for key, image, label in _paired(root, VOLUMES, report):
        values, marks = volume(image), volume(label)
        where = label.relative_to(root).as_posix()
        if values is None or marks is None:
            continue
        if values.shape != marks.shape:
            report("mask_size", where, f"{marks.shape}, the image {values.shape}")
            continue
        if not np.isfinite(values).all():
            report("image_unreadable", image.relative_to(root).as_posix(), "voxels that are not finite")
            continue
        if not np.equal(marks, np.round(marks)).all():
            report("mask_not_binary", where, "values that are no whole numbers")
            continue
        low, high = options.window or tuple(map(float, np.percentile(values, (0.5, 99.5))))
        for at in chosen_slices(marks, options.axis, options.slices):
            flat = shown(np.take(marks, at, options.axis)).astype(np.int64)
            scaled = (shown(np.take(values, at, options.axis)).astype(np.float64) - low) / max(high - low, 1e-12)
            pixels = np.round(np.clip(scaled, 0, 1) * 255).astype(np.uint8)

            def layers(width: int, height: int, report: Report, flat: Any = flat, where: str = where) -> list[Layer]:
                return _labelled(flat, names, where, report)

            name = f"{key}_{'xyz'[options.axis]}{at:04d}.png"
            modality = options.modality or (_modality(key.split("/", 1)[0]) if "/" in key else "")
            patient = _patient(key, options, key)
            source = ImageSource(name, lambda: b"")
            yield Picture(name, root.name, modality, patient, source, layers, pixels=pixels)


def shown(plane: NDArray[Any]) -> NDArray[Any]:
    """A canonical slice [a, b] as rows and columns of a picture: the second axis upwards, the first to the left."""
    return plane[::-1, ::-1].T


def chosen_slices(marks: NDArray[Any], axis: int, rule: str) -> list[int]:
    """Slices with labelled voxels: the one with most of them (the first of equals), all, or every Nth of them."""
    filled = (marks > 0).sum(axis=tuple(i for i in range(3) if i != axis))
    if not filled.any():
        return []
    if rule == "largest":
        return [int(filled.argmax())]
    step = 1 if rule == "all" else int(rule)
    return np.flatnonzero(filled)[::step].tolist()
