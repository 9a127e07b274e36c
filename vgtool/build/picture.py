"""What a layout hands over: pictures with the layers of their masks, one at a time, nothing opened yet."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgtool.build.measure import Instance, Mask
from vgtool.images import open_image
from vgtool.images.levels import USED
from vgtool.records import ImageSource

Report = Callable[[str, str, str], None]
"""code, file, detail: of what cannot be used."""


@dataclass(frozen=True, slots=True)
class Options:
    """How masks are read."""

    names: Path | None = None
    modality: str | None = None
    patient: re.Pattern[str] | None = None
    """Its first group (or all of it) in an image's path is the patient."""
    axis: int = 2
    slices: str = "largest"
    """Of a volume or series: largest (most labelled pixels), all, or every Nth."""
    window: tuple[float, float] | None = None
    """Least and greatest value shown of volumes and DICOM; what docs/images.md says when not given."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One class in one picture."""

    label: str
    instances: tuple[Instance, ...]
    mask: Mask | None
    """All instances together; None where only boxes are known."""
    countable: bool = True
    """False where one mask may stand for several things (COCO's crowds)."""


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
    window: str | None = None
    """Of `pixels`: the window in words."""
    path: Path | None = None
    """The file, where it can stand in the benchmark as it is."""
    orientation: Literal["stored", "apply"] = "stored"
    """Whether masks are drawn on the picture as stored, or as its EXIF rotation shows it."""

    def open(self) -> tuple[Image.Image, str]:
        """The picture as RGB, and a digest of its content. SampleError when there is none."""
        if self.pixels is not None:
            image = Image.fromarray(self.pixels).convert("RGB")
            if self.window:
                image.info[USED] = self.window
            return image, hashlib.sha256(self.pixels.tobytes()).hexdigest()
        data = self.source.read()
        image = open_image(replace(self.source, read=lambda: data), orientation=self.orientation)
        return image, hashlib.sha256(data + self.source.view.suffix.encode()).hexdigest()
