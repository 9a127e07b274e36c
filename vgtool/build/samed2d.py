"""Layout `samed2d`: <stem>.png and <stem>_<class>_<instance>.png, in one folder or in images/ and masks/, with or
without JSON maps at the top: class number -> name, image -> its masks.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from vgtool.benchmarks.tables import read_json
from vgtool.build.folder import IMAGE_FOLDERS, MASK_FOLDERS, Folder, bare
from vgtool.build.layers import binary, united
from vgtool.build.measure import Mask
from vgtool.build.picture import Layer, Options, Picture, Report

_MASK_NAME = re.compile(r"(?P<class>.+?)_(?P<instance>\d+)")
_LOOKS_LIKE_MASK = re.compile(r".+(_|--)[A-Za-z].*_\d{3}")


def pictures(root: Path, options: Options, report: Report) -> Iterator[Picture]:
    folder = Folder(root)
    classes, assigned = _json_maps(folder)
    images, masks = _told_apart(folder, report)
    owned: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for name in sorted(masks):
        path = masks[name]
        key = folder.side(path, MASK_FOLDERS) or bare(name)
        owner = assigned.get(name) or _owner(key, images.keys())
        if owner is None or owner not in images:
            report("mask_without_image", name, "no image has the beginning of its name")
        elif label := _class(key, owner, classes):
            owned[owner].append((label, path))
        else:
            report("unknown_class", name, "neither its name nor a JSON map says which class it is")
    split = any(folder.side(path, MASK_FOLDERS) is not None for path in masks.values())
    for key in sorted(images):
        if key in owned:
            yield folder.picture(images[key], key, options, _of_files(owned[key], folder))
        elif not split and _LOOKS_LIKE_MASK.fullmatch(key):
            report("mask_without_image", folder.name(images[key]), "no image has the beginning of its name")
        else:
            report("image_without_mask", folder.name(images[key]), "no mask has its name")


def _told_apart(folder: Folder, report: Report) -> tuple[dict[str, Path], dict[str, Path]]:
    """Images by key and masks by name: by their folders, else by their names."""
    files = folder.files()
    split = any(folder.side(path, MASK_FOLDERS) is not None for path in files)
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for path in files:
        name = folder.name(path)
        if split and folder.side(path, MASK_FOLDERS) is not None:
            masks[name] = path
            continue
        key = folder.side(path, IMAGE_FOLDERS) or bare(name)
        if key in images:
            report("image_twice", name, f"the same name as '{folder.name(images[key])}'")
        else:
            images[key] = path
    if not split:
        keys = set(images)
        for key in sorted(keys):
            if _owner(key, keys):
                path = images.pop(key)
                masks[folder.name(path)] = path
    return images, masks


def _class(key: str, owner: str, classes: dict[int, str]) -> str:
    """The class that a mask's name says, by word or by number; empty where it says none."""
    match = _MASK_NAME.fullmatch(key[len(owner) :].lstrip("_-")) if key.startswith(owner) else None
    label = match["class"] if match else ""
    if label.isdecimal():
        label = classes.get(int(label), "")
    return label.replace("_", " ").strip()


def _of_files(owned: Sequence[tuple[str, Path]], folder: Folder) -> Callable[[int, int, Report], list[Layer]]:
    def layers(width: int, height: int, report: Report) -> list[Layer]:
        found: dict[str, list[Mask]] = defaultdict(list)
        for label, path in owned:
            mask = binary(folder.source(path), width, height, report)
            if mask is not None:
                found[label].append(mask)
        return [united(label, found[label]) for label in sorted(found)]

    return layers


def _owner(key: str, images: Collection[str]) -> str | None:
    """The longest image name that a mask's name continues with _ or --."""
    for at in range(len(key) - 1, 0, -1):
        joined = key[at] == "_" or key.startswith("--", at)
        if joined and key[:at] in images and _MASK_NAME.fullmatch(key[at:].lstrip("_-")):
            return key[:at]
    return None


def _json_maps(folder: Folder) -> tuple[dict[int, str], dict[str, str]]:
    """Class number -> name, and mask path -> image key, from the JSON files at the top."""
    classes: dict[int, str] = {}
    assigned: dict[str, str] = {}
    for path in sorted(folder.root.glob("*.json")):
        raw = read_json(path)
        for one, other in raw.items() if isinstance(raw, dict) else ():
            if isinstance(other, list):
                name = str(one).replace("\\", "/")
                image = folder.root / name
                key = folder.side(image, IMAGE_FOLDERS) if image.is_relative_to(folder.root) else None
                key = key or bare(name) or name
                assigned |= {str(mask).replace("\\", "/"): key for mask in other}
            elif str(one).isdecimal() and isinstance(other, str):
                classes[int(one)] = other
            elif str(other).isdecimal():
                classes[int(other)] = str(one)
    return classes, assigned
