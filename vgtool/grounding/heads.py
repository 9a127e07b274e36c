"""Which heads ground: the ranking of a probe run, and the head file that refine reads.

Heads are ranked by mean head-level KL over natural images, ascending (paper section 4); the most sensitive layer, the
one of lowest mean layer KL, is the default knockout layer.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgtool.errors import VgError


@dataclass(frozen=True, slots=True)
class HeadFile:
    """A ranking and where it came from."""

    model: str
    revision: str
    layers: int
    heads: int
    selected_by: dict[str, Any]
    """metric, benchmark, samples (count), sample_ids (sha256), image_ids (sha256 of each calibration image id)."""
    ranked: list[tuple[int, int, float]]
    """(layer, head, score), best first."""
    knockout_layers: list[int]


def known_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over samples (the first axis) of what is finite; NaN where half of the samples or fewer have a number, for
    the few that do say nothing of the others."""
    counted = np.isfinite(values)
    total, rows = np.where(counted, values, 0).sum(0), counted.sum(0)
    return np.divide(total, rows, out=np.full(total.shape, np.nan), where=rows * 2 > len(values))


def rank(values: NDArray[np.float64], *, higher: bool = False) -> list[tuple[int, int, float]]:
    """(layer, head, mean over samples) of a head metric [samples, L, H], best first; `higher` is better or lower is.

    NaN where a sample has no metric; a head with none on half of the samples or more is left out.
    """
    mean = known_mean(values)
    order = np.argsort(-mean if higher else mean, axis=None, kind="stable")  # NaN sorts last
    pairs = [(int(i) // mean.shape[1], int(i) % mean.shape[1]) for i in order]
    return [(layer, head, float(mean[layer, head])) for layer, head in pairs if np.isfinite(mean[layer, head])]


def sensitive_layer(layer_kl: NDArray[np.float64]) -> int:
    """The layer of lowest mean KL [samples, L]: the default knockout layer (paper section 4). As with heads, one that
    is known on half of the samples or fewer is left out. VgError when none is left."""
    mean = known_mean(layer_kl)
    if np.isnan(mean).all():
        raise VgError(
            "No layer has a grounding metric on more than half of the samples.",
            "Its attention is not finite, or none of it reaches the image.",
        )
    return int(np.nanargmin(mean))


def fingerprint(image_id: str) -> str:
    """What a head file keeps of a calibration image's id."""
    return hashlib.sha256(image_id.encode()).hexdigest()[:16]


def write(path: Path, file: HeadFile) -> None:
    """Write a head file, whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(json.dumps(asdict(file), indent=1) + "\n", encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise VgError(f"Cannot write '{path}': {error.strerror}.", "Choose another -o.") from None


def read(path: Path) -> HeadFile:
    """Read and check a head file."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        wanted = {field.name for field in fields(HeadFile)}
        if not isinstance(raw, dict) or raw.keys() != wanted:
            raise ValueError(f"its keys are not {', '.join(sorted(wanted))}")
        file = HeadFile(**raw)
        if not isinstance(file.selected_by, dict) or not isinstance(file.selected_by.get("image_ids", []), list):
            raise ValueError("its selected_by does not say what the heads were chosen on")
        ranked = [(int(layer), int(head), float(score)) for layer, head, score in file.ranked]
        knockout = [int(layer) for layer in file.knockout_layers]
        inside = all(0 <= layer < file.layers and 0 <= head < file.heads for layer, head, _ in ranked)
    except OSError as error:
        raise VgError(f"Cannot read --heads '{path}': {error.strerror}.", "Make one with vgtool heads.") from None
    except (ValueError, TypeError) as error:
        raise VgError(f"'{path}' is not a head file: {error}.", "Make one with vgtool heads.") from None
    if not ranked or not inside:
        raise VgError(f"'{path}' names heads that do not exist in its own model.", "Make it again with vgtool heads.")
    return HeadFile(**{**raw, "ranked": ranked, "knockout_layers": knockout})


def refuse_mismatch(file: HeadFile, model: str, layers: int, heads: int) -> None:
    """VgError when the file's heads are another architecture's."""
    if (file.layers, file.heads) != (layers, heads):
        raise VgError(
            f"The head file is for '{file.model}' ({file.layers} layers x {file.heads} heads); "
            f"'{model}' has {layers} x {heads}.",
            "Rank this model's own heads with vgtool probe and vgtool heads.",
        )


def foreign(file: HeadFile, model: str, revision: str) -> tuple[str, ...]:
    """What to tell of heads that were ranked on another model of equal shape, or on another revision."""
    if file.model != model:
        return (f"The heads are those of '{file.model}', whose shape is equal; '{model}' was not ranked.",)
    if file.revision != revision:
        return (f"The heads are those of '{model}' at revision {file.revision[:12]}; this is {revision[:12]}.",)
    return ()


def refuse_overlap(file: HeadFile, image_ids: Iterable[str]) -> None:
    """VgError when a calibration image is a test image."""
    used = set(file.selected_by.get("image_ids", []))
    met = sorted({image for image in image_ids if fingerprint(image) in used})
    if met:
        raise VgError(
            f"{len(met)} test images were used to choose the heads, '{met[0]}' among them.",
            "Choose heads on another benchmark or split: selecting on test images inflates the result.",
        )


def digest(ids: Sequence[str]) -> str:
    """sha256 of a set of ids."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
