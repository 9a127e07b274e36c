"""One picture measured: the questions that its masks answer, its image and masks written into the benchmark."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgtool.build import measure, questions
from vgtool.build.measure import Mask
from vgtool.build.picture import Layer, Picture
from vgtool.build.questions import LOCALIZATION, Question
from vgtool.build.settings import Settings
from vgtool.errors import SampleError
from vgtool.images.levels import USED


@dataclass(frozen=True, slots=True)
class Facts:
    """What stays of a picture."""

    image_id: str
    dataset: str
    modality: str
    units: tuple[str, ...]
    """Patient and content: what a split must not tear apart."""
    present: frozenset[str]
    asked: tuple[Question, ...]
    shares: Mapping[str, float]
    """Class -> share of the grid."""
    left_out: Counter[str]
    skipped: tuple[tuple[str, str, str], ...]
    masks: int
    window: str | None
    """What a deep picture shows as black to white."""


def facts(picture: Picture, stored: str, out: Path, settings: Settings) -> Facts:
    """Measure a picture and write its image, as `stored`, and masks below `out`."""
    skipped: list[tuple[str, str, str]] = []
    patient = (f"patient {picture.dataset}/{picture.patient}",) if picture.patient else ()
    modality = picture.modality or "unknown"
    try:
        image, digest = picture.open()
    except SampleError as error:
        failed = ((error.code, picture.source.name, error.detail),)
        return Facts(stored, picture.dataset, modality, patient, frozenset(), (), {}, Counter(), failed, 0, None)
    layers = picture.layers(*image.size, lambda code, name, detail: skipped.append((code, name, detail)))
    asked, shares, left_out = _asked(layers, image, stored, out, settings)
    if not skipped or layers:
        _keep_image(picture, image, out / stored)
    return Facts(
        stored,
        picture.dataset,
        modality,
        (*patient, f"content {digest}"),
        frozenset(layer.label for layer in layers),
        tuple(asked) if layers or not skipped else (),
        shares,
        left_out,
        tuple(skipped),
        sum(len(layer.instances) for layer in layers),
        image.info.get(USED),
    )


def stored_name(picture: Picture) -> str:
    """Path of a picture's image in the benchmark."""
    stored = f"images/{picture.image_id.removeprefix('images/')}"
    return stored if picture.path is not None or stored.endswith(".png") else f"{stored}.png"


def _asked(
    layers: Sequence[Layer], image: Image.Image, stored: str, out: Path, settings: Settings
) -> tuple[list[Question], dict[str, float], Counter[str]]:
    """Every question that a picture's masks answer."""
    found: list[Question] = []
    shares: dict[str, float] = {}
    left_out: Counter[str] = Counter()
    gray = np.asarray(image.convert("L"))
    kept: list[tuple[Layer, Question]] = []
    for layer in layers:
        boxes = tuple(one.box for one in layer.instances if one.area >= settings.min_pixels)
        if not boxes:
            left_out["filter: too small"] += 1
            continue
        share = measure.grid_share(boxes, *image.size, settings.grid)
        if share > settings.max_share:
            left_out["filter: covers too much of the grid"] += 1
            continue
        shares[layer.label] = share
        mask = None if layer.mask is None else _keep_mask(layer.mask, stored, (layer.label,), out)
        positive = Question(stored, LOCALIZATION, (layer.label,), "yes", boxes, mask)
        kept.append((layer, positive))
        found.append(positive)
        if layer.mask is None:
            left_out["attributes: no mask, boxes only"] += 1
            continue
        for kind, answer in _attributes(layer, gray, settings).items():
            if questions.tells(layer.label, kind):
                left_out[f"{kind}: the name tells"] += 1
            elif answer is None:
                left_out[f"{kind}: ambiguous"] += 1
            else:
                found.append(Question(stored, kind, (layer.label,), answer, boxes, mask))
    if "size" in settings.kinds:
        found += _compared(kept, stored, out, settings, left_out)
    return found, shares, left_out


def _attributes(layer: Layer, gray: NDArray[np.uint8], settings: Settings) -> dict[str, str | None]:
    mask = layer.mask
    assert mask is not None
    ways = {
        "side": lambda: measure.side(mask),
        "quadrant": lambda: measure.quadrant(mask),
        "tone": lambda: measure.tone(gray, mask),
        "count": lambda: _few(measure.count(mask, layer.instances, settings.min_pixels)) if layer.countable else None,
        "border": lambda: measure.border(mask),
        "shape": lambda: measure.shape(mask),
    }
    return {kind: way() for kind, way in ways.items() if kind in settings.kinds}


def _few(number: int | None) -> str | None:
    """A count that is one of the options."""
    return str(number) if number is not None and str(number) in questions.OPTIONS["count"] else None


def _compared(
    kept: Sequence[tuple[Layer, Question]], stored: str, out: Path, settings: Settings, left_out: Counter[str]
) -> list[Question]:
    """One question of larger or smaller of two classes, drawn from the clear pairs of a picture."""
    pairs: list[Question] = []
    areas: dict[str, tuple[Mask, Question]] = {a.label: (a.mask, q) for a, q in kept if a.mask is not None}
    for one, two in combinations(sorted(areas), 2):
        if questions.tells(one, "size") or questions.tells(two, "size"):
            left_out["size: the name tells"] += 1
            continue
        first = measure.larger(int(areas[one][0].sum()), int(areas[two][0].sum()))
        if first is None:
            left_out["size: ambiguous"] += 1
            continue
        kind = ("larger", "smaller")[questions.chance(settings.seed, "size", stored, one, two) % 2]
        boxes = areas[one][1].boxes + areas[two][1].boxes
        pairs.append(Question(stored, kind, (one, two), one if first == (kind == "larger") else two, boxes))
    if not pairs:
        return []
    chosen = min(pairs, key=lambda pair: questions.chance(settings.seed, "pair", pair.key))
    one, two = chosen.labels
    mask = _keep_mask(areas[one][0] | areas[two][0], stored, chosen.labels, out)
    return [Question(stored, chosen.kind, chosen.labels, chosen.answer, chosen.boxes, mask)]


def _keep_mask(mask: Mask, stored: str, labels: Sequence[str], out: Path) -> str:
    text = "+".join(labels)
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]
    name = f"masks/{stored.removeprefix('images/')}/{slug}-{crc32(text.encode()):08x}.png"
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(out / name, compress_level=1)
    return name


def _keep_image(picture: Picture, image: Image.Image, target: Path) -> None:
    """The file itself, linked where the disk allows it; a PNG without any header data for a slice or a DICOM file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if picture.path is None:
        image.save(target, compress_level=1)
        return
    try:
        os.link(picture.path.resolve(), target)
    except OSError:
        shutil.copyfile(picture.path, target)
