"""Every DICOM and NIfTI file that the installed reading libraries ship, through vgtool and through another reader.

    python perf/scans.py [--packages pydicom nibabel ...] [--list]
A picture is equal where no level differs by more than one of 256 (colours: two, for lossy decoders). The other reader:
of DICOM, pydicom's own pixel_array and look-up functions, put to the screen here by the definitions of PS3.3, and for
grey pictures ITK too; of NIfTI, ITK (each axial slice, full range). ITK is SimpleITK, where it is installed. Where it
is not, or refuses a volume, or reads NaN as 0, nibabel and the affine stand for it. Files are counted by what became of
them; --list names each. Exit code 1 when one differs.
"""

import argparse
import importlib.util
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vgtool.errors import SampleError
from vgtool.images import dicom, open_image, volumes
from vgtool.records import ImageSource, View

PACKAGES = ("pydicom", "nibabel", "highdicom", "nilearn", "dipy", "skimage", "imageio", "SimpleITK", "gdcm")
CODE = (".py", ".pyc", ".pyi", ".so", ".txt", ".md", ".rst", ".json", ".html", ".css", ".js")


def files(package: str) -> Iterator[Path]:
    """What looks like DICOM or NIfTI by its first bytes in the folder of a package."""
    spec = importlib.util.find_spec(package)
    for place in spec.submodule_search_locations or () if spec else ():
        for path in sorted(Path(place).rglob("*")):
            if path.is_file() and path.suffix not in CODE:
                head = path.open("rb").read(70_000)
                if dicom.is_dicom(head) or volumes.is_volume(head):
                    yield path


def shown(path: Path, view: View) -> np.ndarray:
    image = open_image(ImageSource(path.name, path.read_bytes, view=view))
    return np.asarray(image).astype(int)


# ---- DICOM -----------------------------------------------------------------------------------------------------------


def dicom_frames(path: Path) -> list[np.ndarray]:
    """Every frame as RGB, by pydicom and PS3.3 alone."""
    import pydicom

    file = pydicom.dcmread(path, force=True)
    values = file.pixel_array
    frames = list(values) if int(file.get("NumberOfFrames") or 1) > 1 else [values]
    return [_frame(file, one) for one in frames]


def _frame(file: Any, values: np.ndarray) -> np.ndarray:
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

    if file.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(values, file)
        return np.round(colours / (255 if colours.dtype == np.uint8 else 65535) * 255)
    if values.ndim == 3:
        return np.round(values / (2.0**file.BitsStored - 1) * 255)
    values = apply_modality_lut(values, file)
    if "VOILUTSequence" in file or file.get("WindowWidth") is not None:
        values = apply_voi_lut(values, file)
        low, high = _range(file)
    else:
        low, high = float(values.min()), float(values.max())
    grey = np.round(np.clip((values.astype(float) - low) / max(high - low, 1e-9), 0, 1) * 255)
    grey = 255 - grey if file.PhotometricInterpretation == "MONOCHROME1" else grey
    return np.repeat(grey[..., None], 3, 2)


def _range(file: Any) -> tuple[float, float]:
    """What apply_voi_lut spreads a window or table over."""
    if "VOILUTSequence" in file:
        return 0.0, 2.0 ** file.VOILUTSequence[0].LUTDescriptor[2] - 1
    if "ModalityLUTSequence" in file:
        return 0.0, 2.0 ** file.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    bits = file.BitsStored
    ends = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if file.PixelRepresentation else (0.0, 2.0**bits - 1)
    slope, intercept = file.get("RescaleSlope"), file.get("RescaleIntercept")
    if slope is None or intercept is None:
        return ends
    return ends[0] * float(slope) + float(intercept), ends[1] * float(slope) + float(intercept)


def itk_differs(path: Path) -> str:
    """How the values of a grey file, least to greatest, differ from ITK's; nothing where they do not, or ITK is not
    there, cannot read it, or knows no padding. It does not swap the bytes of 32-bit big-endian pixels (ITK 5.4)."""
    import pydicom

    file = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    if "PixelPaddingValue" in file or (file.BitsAllocated == 32 and not file.original_encoding[1]):
        return ""
    try:
        import SimpleITK

        SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
        values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).astype(float)
    except (ImportError, RuntimeError):
        return ""
    if values.ndim != 3:
        return ""
    worst = 0.0
    for at, plane in enumerate(values):
        ours = shown(path, View(slice=at, window="full"))[..., 0]
        if ours.shape != plane.shape:
            return f"ITK has {plane.shape}"
        low, high = plane.min(), plane.max()
        theirs = (plane - low) / max(high - low, 1e-9) * 255
        worst = max(worst, min(np.abs(ours - one).max() for one in (theirs, 255 - theirs)))
    ITK.append(path)
    return f"by {worst:g} levels from ITK" if worst > 1.5 else ""


ITK: list[Path] = []
"""What ITK has read too."""


# ---- NIfTI -----------------------------------------------------------------------------------------------------------


def nifti_slices(path: Path) -> list[np.ndarray]:
    """Every axial slice from least to greatest value, the patient's right on the left and the front up."""
    values = _oriented(path)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    grey = np.round(np.clip((np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-12), 0, 1) * 255)
    return [np.repeat(np.flip(grey[:, :, at]).T[..., None], 3, 2) for at in range(grey.shape[2])]


def _oriented(path: Path) -> np.ndarray:
    """[right, front, head]"""
    import nibabel

    image = nibabel.load(path)
    values, affine = image.get_fdata(), image.affine
    if np.isfinite(values).all():
        try:
            import SimpleITK

            turned = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "RAS")
            return np.moveaxis(SimpleITK.GetArrayFromImage(turned).astype(float), [0, 1, 2], [2, 1, 0])
        except (ImportError, RuntimeError):
            pass
    axes = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).argmax(0)
    if sorted(axes) != [0, 1, 2]:
        raise ValueError("an axis between two directions")
    values = np.transpose(values, np.argsort(axes))
    return np.flip(values, [axis for axis in range(3) if affine[axis, np.argsort(axes)[axis]] < 0])


# ---- all -------------------------------------------------------------------------------------------------------------


def verdict(path: Path) -> tuple[str, str]:
    """equal, different or refused (by our reader), and why; also where only the other reader cannot read it."""
    volume = not dicom.is_dicom(path.open("rb").read(70_000))
    window = "full" if volume else None
    try:
        pictures = [shown(path, View(slice=0, window=window))]
        wanted = _other(path, volume)
        if isinstance(wanted, str):
            return "read, the other reader cannot", wanted
        pictures += [shown(path, View(slice=at, window=window)) for at in range(1, len(wanted))]
    except SampleError as error:
        return f"refused: {error.code}", error.detail
    for ours, theirs in zip(pictures, wanted, strict=True):
        if ours.shape != theirs.shape:
            return "different", f"{ours.shape}, not {theirs.shape}"
        most = np.abs(ours - theirs).max()
        if most > (1 if volume or len(np.unique(ours[..., 0] - ours[..., 1])) == 1 else 2):
            return "different", f"by {most:g} levels"
    if not volume and (pictures[0][..., 0] == pictures[0][..., 1]).all() and (off := itk_differs(path)):
        return "different", off
    return "equal", f"{len(pictures)} pictures"


def _other(path: Path, volume: bool) -> list[np.ndarray] | str:
    try:
        return nifti_slices(path) if volume else dicom_frames(path)
    except Exception as error:  # the other reader's limits are no fault of the file
        return f"{type(error).__name__}: {error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", nargs="+", default=PACKAGES)
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for package in args.packages:
        for path in files(package):
            kind = "DICOM" if dicom.is_dicom(path.open("rb").read(70_000)) else "NIfTI"
            what, why = verdict(path)
            found[f"{package}, {kind}"][what] += 1
            if args.list or what == "different":
                print(f"{package} {path.name}: {what} ({why[:160]})")
    for row, counts in found.items():
        print(f"{row}: {counts.total()} files; " + "; ".join(f"{what} {n}" for what, n in counts.most_common()))
    print(f"Of the equal DICOM files, {len(ITK)} grey ones equal ITK's values too.")
    sys.exit(any(counts["different"] for counts in found.values()))


if __name__ == "__main__":
    main()
