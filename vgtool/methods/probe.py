"""Probe: grounding metrics and maps of every question (paper section 3)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from vgtool.attention.session import Ask, Asked, Rows, Session
from vgtool.attention.sharing import GENERAL_PROMPT, Sessions
from vgtool.attention.whole import WholeSession
from vgtool.errors import SampleError, VgError
from vgtool.grounding.geometry import BoxMapping, Geometry
from vgtool.grounding.metrics import grounding, relative_attention
from vgtool.images.levels import USED
from vgtool.methods.names import Role
from vgtool.methods.task import ImageGroup, Row
from vgtool.models.adapter import Adapter, Prompt
from vgtool.records import Rejected, Sample

Region = Literal["box", "mask"]

PACK_TOKENS = 512
"""A pack's tokens: longer ones gain nothing and their masks grow with the square."""

COMMON = [
    ("sample_id", pa.string()),
    ("image_id", pa.string()),
    ("group", pa.string()),
    ("question_type", pa.string()),
    ("question", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("window", pa.string()),
    ("grid_rows", pa.int32()),
    ("grid_cols", pa.int32()),
    ("grid_box", pa.list_(pa.float64())),
    ("boxes", pa.list_(pa.list_(pa.float64()))),
    ("region", pa.list_(pa.int32())),
    ("error", pa.string()),
]
FLOATS = pa.list_(pa.float32())


def chunks(
    adapter: Adapter, samples: Sequence[Sample], most: int | None
) -> Iterator[tuple[list[tuple[Sample, Prompt]], list[tuple[Sample, SampleError]]]]:
    """Questions that fit one pack, with their prompts, and those whose prompt cannot be made."""
    ready: list[tuple[Sample, Prompt]] = []
    failed: list[tuple[Sample, SampleError]] = []
    used = 0
    for sample in samples:
        try:
            prompt = adapter.prompt(sample.prompt)
        except SampleError as error:
            failed.append((sample, error))
            continue
        if ready and (used + len(prompt.tail) > PACK_TOKENS or len(ready) == most):
            yield ready, []
            ready, used = [], 0
        ready.append((sample, prompt))
        used += len(prompt.tail)
    yield ready, failed


def common(sample: Sample, group: ImageGroup, region: Sequence[int]) -> Row:
    """The columns that probe and refine rows share."""
    geometry = group.visions[0].geometry
    return {
        "sample_id": sample.id,
        "image_id": sample.image_id,
        "group": sample.group,
        "question_type": sample.question_type,
        "question": sample.question,
        "width": geometry.width,
        "height": geometry.height,
        "window": group.images[0].info.get(USED),
        "grid_rows": geometry.grid.rows if geometry.placed else None,
        "grid_cols": geometry.grid.cols if geometry.placed else None,
        "grid_box": list(geometry.grid_box()) if geometry.placed else None,
        "boxes": [box.as_list() for box in sample.boxes],
        "region": list(region),
        "error": None,
    }


def failure(sample: Sample | Rejected, reason: str) -> Row:
    """A row without a result."""
    known = {"group": sample.group, "question_type": sample.question_type} if isinstance(sample, Sample) else {}
    ids = {"sample_id": sample.id, "image_id": sample.image_id, "question": sample.question}
    return {**ids, **known, "error": reason}


class Probe:
    """The task behind `vgtool probe`."""

    kind = "probe"
    labels: tuple[str, ...] = ("",)
    notes: Sequence[str] = ()
    roles: Mapping[str, Role] = {}
    schema = pa.schema(
        [
            *COMMON,
            ("domain", pa.string()),
            *((f"{level}_{name}", FLOATS) for level in ("layer", "head") for name in ("ratio", "kl", "js")),
            *((name, FLOATS) for name in ("attention", "general_attention")),
            *((name, FLOATS) for name in ("head_attention", "general_head_attention")),
            ("warning", pa.string()),
        ]
    )

    def __init__(
        self,
        sessions: Sessions,
        *,
        maps: Literal["layers", "heads", "none"],
        row: Rows,
        mapping: BoxMapping,
        region: Region = "box",
    ) -> None:
        self.sessions, self.adapter = sessions, sessions.adapter
        self.maps, self.row, self.mapping, self.region = maps, row, mapping, region
        if why := self.adapter.ungridded:
            raise VgError(
                f"'{self.adapter.spec.name}' cannot be probed: {why}, so no region of the image is any of them.",
                "vgtool refine answers with it, with methods that need no grid.",
            )

    def identity(self) -> Mapping[str, Any]:
        return {
            "maps": self.maps,
            "row": self.row,
            "box_mapping": self.mapping,
            "region": self.region,
            "attention": self.sessions.kernel,
            "prompts": {"general": GENERAL_PROMPT},
        }

    def only(self, labels: Collection[str]) -> "Probe":
        return self

    def failed(self, sample: Sample | Rejected, reason: str) -> Sequence[Row]:
        return [failure(sample, reason)]

    def run(self, group: ImageGroup, max_questions: int | None) -> Sequence[Row]:
        rows: list[Row] = []
        with torch.inference_mode():
            general = self.adapter.prompt(GENERAL_PROMPT)
            session = self.sessions.open(group.visions, general.head)
            below: np.ndarray | None = None
            for ready, failed in chunks(self.adapter, group.samples, max_questions):
                rows += [failure(sample, str(error)) for sample, error in failed]
                prompts = [prompt for _, prompt in ready] + ([general] if below is None else [])
                asked = self._ask(session, prompts)
                maps = stacked(asked, self.adapter.layers)
                if below is None:
                    below = maps[-1]
                rows += [self._row(sample, group, maps[i], below) for i, (sample, _) in enumerate(ready)]
        return rows

    def _ask(self, session: Session | WholeSession, prompts: Sequence[Prompt]) -> Asked:
        return session.ask([Ask(p.tail, p.question, self.row) for p in prompts], self.adapter.readable)

    def _region(self, sample: Sample, geometry: Geometry) -> list[int]:
        """Tokens under the boxes, or under the mask; none for a sample that shows neither (an absent class)."""
        if self.region == "box" or not (sample.boxes or sample.mask):
            region = geometry.region(sample.boxes, self.mapping)
            if sample.boxes and not region:
                raise SampleError("no_region", "the boxes touch no image token")
            return region
        if sample.mask is None:
            raise SampleError("no_mask", "the sample has boxes but no mask; --region box measures it")
        mask = np.asarray(sample.mask(), bool)
        if mask.shape != (geometry.height, geometry.width):
            size = f"{mask.shape[1]} x {mask.shape[0]}, the image {geometry.width} x {geometry.height}"
            raise SampleError("mask_size", f"the mask is {size}")
        region = (geometry if self.mapping == "exact" else geometry.stretched()).mask_region(mask)
        if not region:
            raise SampleError("no_region", "the mask touches no image token")
        return region

    def _row(self, sample: Sample, group: ImageGroup, question: np.ndarray, general: np.ndarray) -> Row:
        geometry = group.visions[0].geometry
        if not geometry.placed:
            return failure(sample, "no_grid: the tokens of an image of this shape form no grid")
        question, general = question[..., : geometry.tokens], general[..., : geometry.tokens]
        try:
            region = self._region(sample, geometry)
        except SampleError as error:
            return failure(sample, str(error))
        row = common(sample, group, region) | {"domain": sample.domain}
        broken = ~(np.isfinite(question).all((1, 2)) & np.isfinite(general).all((1, 2)))
        broken[list(self.adapter.without)] = False
        if broken.any():
            row["warning"] = f"not_finite: layers {', '.join(map(str, np.flatnonzero(broken)))}"
        levels = {"layer": (question.mean(1), general.mean(1)), "head": (question, general)}
        for level, (above, below) in levels.items():
            if region:
                metrics = grounding(relative_attention(above, below), region)
                for name in ("ratio", "kl", "js"):
                    row[f"{level}_{name}"] = nullable(getattr(metrics, name))
        if self.maps != "none":
            for name, values in (("attention", levels["layer"][0]), ("general_attention", levels["layer"][1])):
                row[name] = self._map(values)
        if self.maps == "heads":
            for name, values in (("head_attention", question), ("general_head_attention", general)):
                row[name] = self._map(values)
        return row

    def _map(self, values: np.ndarray) -> np.ndarray | list[float | None]:
        """A map's column [L, ...]: null in layers that have no attention."""
        return nullable(values) if self.adapter.without else values.astype(np.float32).ravel()


def stacked(asked: Asked, layers: int) -> np.ndarray:
    """[Q, L, H, T] float64; NaN in layers that were not read."""
    nothing = torch.full_like(next(iter(asked.maps.values())), torch.nan)
    return torch.stack([asked.maps.get(layer, nothing) for layer in range(layers)], 1).double().numpy()


def nullable(values: np.ndarray) -> list[float | None]:
    """A flat list with null where there is no number."""
    return [float(v) if np.isfinite(v) else None for v in values.ravel()]
