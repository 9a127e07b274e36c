"""A folder with images and masks: its files, how they pair by name, and what their names and headers say of them."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vgtool.benchmarks.sources import Files
from vgtool.benchmarks.tables import read_text
from vgtool.build.picture import Layer, Options, Picture, Report
from vgtool.errors import SampleError, VgError
from vgtool.images import Names
from vgtool.images import names as naming
from vgtool.records import ImageSource, View

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".dcm")
NAME_FILES = ("names.json", "names.txt", "classes.txt", "labels.txt", "mask.txt", "dataset.json")
MASK_FOLDERS = ("masks", "mask", "labels", "labelsTr", "annotations", "segmentations")
IMAGE_FOLDERS = ("images", "imagesTr", "imgs")
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


class Folder:
    """A folder that is read; links that lead out of it are refused when they are opened."""

    def __init__(self, root: Path, places: Sequence[str] = ("",)) -> None:
        """`places`: folders in it that names of files may start from."""
        self.root = root
        self._files = Files([root], places)

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def source(self, path: Path, view: View = View()) -> ImageSource:  # noqa: B008
        """A file in it; one whose name cannot be a row's fails when it is read."""
        name = self.name(path)
        try:
            found = self._files.source(name)
        except SampleError:
            found = None
        if found is None or found.name != name:
            return ImageSource(name, _misnamed(name), view=view)
        return replace(found, view=view)

    def named(self, name: str) -> tuple[ImageSource, Path | None]:
        """A file under its name in one of the places, and where it is on disk, if it is."""
        return self._files.source(name), self._files.on_disk(name)

    def files(self, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
        """All its files that end so, by name, hidden ones aside."""
        found = (path for path in self.root.rglob("*") if path.name.lower().endswith(tuple(suffixes)))
        return sorted(path for path in found if not path.name.startswith(".") and path.is_file())

    def side(self, path: Path, folders: Sequence[str]) -> str | None:
        """The path's name without its images/ or masks/ folder and its suffix; None when it is in none of them."""
        parts = list(path.relative_to(self.root).parts)
        at = next((i for i, part in enumerate(parts[:-1]) if part in folders), None)
        if at is None:
            return None
        del parts[at]
        return bare("/".join(parts))

    def paired(self, suffixes: Sequence[str], report: Report) -> Iterator[tuple[str, Path, Path]]:
        """Name, image and label map, by name. A channel number at an image's end (_0000) is not part of its name."""
        images: dict[str, Path] = {}
        labels: dict[str, Path] = {}
        for path in self.files(suffixes):
            mask = self.side(path, MASK_FOLDERS)
            key = mask or self.side(path, IMAGE_FOLDERS)
            found, what = (images, "image") if mask is None else (labels, "mask")
            if key is None:
                continue
            if key in found:
                report(f"{what}_twice", self.name(path), f"'{self.name(found[key])}' has its name")
            else:
                found[key] = path
        if not images or not labels:
            named = self.root.name
            both = " or ".join(IMAGE_FOLDERS), " or ".join(dict.fromkeys(MASK_FOLDERS))
            which = "images" if not images else "label maps"
            raise VgError(
                f"'{named}' has no {which}: looked for {', '.join(suffixes)} in folders called {both[0]}, and "
                f"{both[1]}.",
                "Put images and label maps there, under equal names.",
            )
        for key in sorted(key for key in images if key not in labels and key.endswith("_0000")):
            if key[:-5] in labels and key[:-5] not in images:
                images[key[:-5]] = images.pop(key)
        for key in sorted(labels.keys() - images.keys()):
            report("mask_without_image", self.name(labels[key]), "no image has its name")
        for key in sorted(images):
            if key in labels:
                yield key, images[key], labels[key]
            else:
                report("image_without_mask", self.name(images[key]), "no label map has its name")

    def names(self, options: Options) -> Names:
        """What its values stand for. VgError when no file says."""
        path = options.names or names_file(self.root)
        if path is None:
            named = self.root.name
            raise VgError(
                f"'{named}' has no file that names its values: none of {', '.join(NAME_FILES)} is in it.",
                "Add names.txt, or give --names FILE.",
            )
        return naming.parse(read_text(path), path.name)

    def picture(self, path: Path, key: str, options: Options, layers: Callable[..., list[Layer]]) -> Picture:
        """A picture of one file, about which its name or its DICOM header says something."""
        dataset, modality, patient = self._about(key, path, options)
        source, linked = self.source(path, view_of(path.name, options)), None if is_dicom(path.name) else path
        return Picture(self.name(path), dataset, modality, patient, source, layers, path=linked)

    def _about(self, key: str, path: Path, options: Options) -> tuple[str, str, str]:
        """Data set, modality and patient, from SA-Med2D's own names where it has one, or DICOM's header."""
        parts = path.stem.split("--")
        dataset, said, patient = self.root.name, "", ""
        if len(parts) >= 4:
            said, dataset = re.sub(r"_\d+$", "", parts[0]), parts[1]
            patient = f"{parts[1]}--{parts[2]}"
        elif "/" in key:
            said = key.split("/", 1)[0]
        if is_dicom(path.name):
            said, patient = _dicom_header(path)
        return dataset, options.modality or modality(said), patient_of(key, options, patient)


def is_dicom(name: str) -> bool:
    return name.lower().endswith(".dcm")


def view_of(name: str, options: Options) -> View:
    """How a file is shown: DICOM in the window asked for."""
    return View(window=options.window) if is_dicom(name) else View()


def _misnamed(name: str) -> Callable[[], bytes]:
    def read() -> bytes:
        raise SampleError("image_missing", f"no row can name an image '{name}'; rename the file")

    return read


def _dicom_header(path: Path) -> tuple[str, str]:
    from vgtool.images import dicom

    try:
        file = dicom.read(path.read_bytes(), path.name, pixels=False)
        return str(file.get("Modality", "")), str(file.get("PatientID", ""))
    except (SampleError, OSError):
        return "", ""  # opening the image names the fault


def bare(name: str) -> str:
    """Without its suffix."""
    return name[: -len(".nii.gz")] if name.lower().endswith(".nii.gz") else name.rpartition(".")[0]


def modality(written: str) -> str:
    """A modality under its clean name, or as written."""
    return MODALITIES.get(written.lower(), written)


def patient_of(name: str, options: Options, known: str = "") -> str:
    """What --patient finds in a path, else what the file itself says."""
    match = options.patient.search(name) if options.patient else None
    if match is None:
        return known
    return (match.group(1) if match.re.groups else match.group(0)) or known


def names_file(root: Path) -> Path | None:
    """The file beside images and masks that names their values."""
    return next((root / name for name in NAME_FILES if (root / name).is_file()), None)
