"""Probe: grounding metrics and maps of every question (paper section 3)."""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from vgtool.attention.asks import Ask, Rows
from vgtool.attention.sharing import GENERAL_PROMPT, Sessions
from vgtool.errors import SampleError, VgError
from vgtool.grounding.geometry import BoxMapping, Geometry
from vgtool.grounding.metrics import groundings, relative_attention
from vgtool.methods.names import Role
from vgtool.methods.questions import COMMON, FLOATS, Question, common, failure, rounds
from vgtool.methods.task import ImageGroup, Row
from vgtool.methods.witnesses import COLUMNS, NOTHING, Witnesses
from vgtool.records import Rejected, Sample

Region = Literal["box", "mask"]
SLAB = 1 << 20
"""Numbers of maps that are measured at once: what a core's cache holds."""


class Probe:
    """The task behind `vgtool probe`."""

    kind = "probe"
    labels: tuple[str, ...] = ("",)
    roles: Mapping[str, Role] = {}
    schema = pa.schema(
        [
            *COMMON,
            ("domain", pa.string()),
            *((f"{level}_{name}", FLOATS) for level in ("layer", "head") for name in ("ratio", "kl", "js")),
            *((name, FLOATS) for name in ("attention", "general_attention")),
            *((name, FLOATS) for name in ("head_attention", "general_head_attention")),
            ("warning", pa.string()),
            *COLUMNS,
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
        witnesses: Witnesses | None = None,
    ) -> None:
        self.sessions, self.adapter = sessions, sessions.adapter
        self.maps, self.row, self.mapping, self.region = maps, row, mapping, region
        if why := self.adapter.ungridded:
            raise VgError(
                f"'{self.adapter.spec.name}' cannot be probed: {why}, so no region of the image is any of them.",
                "vgtool refine answers with it, with methods that need no grid.",
            )
        self.witnesses = witnesses
        self.notes: Sequence[str] = witnesses.notes if witnesses else ()
        self.prompt = lru_cache(4096)(self.adapter.prompt)  # benchmarks ask the same of many images

    def identity(self) -> Mapping[str, Any]:
        return {
            "maps": self.maps,
            "row": self.row,
            "box_mapping": self.mapping,
            "region": self.region,
            "attention": self.sessions.kernel,
            "prompts": {"general": GENERAL_PROMPT},
            **(self.witnesses.identity() if self.witnesses else NOTHING),
        }

    def failed(self, sample: Sample | Rejected, reason: str) -> Sequence[Row]:
        return [failure(sample, reason)]

    def only(self, labels: Collection[str]) -> "Probe":
        return self

    def run(self, groups: Sequence[ImageGroup], max_questions: int | None) -> Sequence[Row]:
        passes, failed = rounds(groups, self.prompt, max_questions)
        rows: list[Row] = [failure(sample, str(error)) for sample, error in failed]
        with torch.inference_mode():
            general = self.prompt(GENERAL_PROMPT, len(groups[0].images))
            asks = [Ask(general.tail, general.question, self.row, image=at) for at in range(len(groups))]
            session = self.sessions.open([group.visions for group in groups], general.head)
            below: np.ndarray | None = None
            for questions in passes:
                wanted = [Ask(q.prompt.tail, q.prompt.question, self.row, image=q.image) for q in questions]
                wanted += asks if below is None else ()
                asked = session.ask(wanted, self.adapter.readable, self._keep) if self._answers else None
                found = session.look(wanted, self.adapter.readable) if asked is None else asked.maps
                if len(questions) > 1 and not all(bool(torch.isfinite(one).all()) for one in found.values()):
                    # what one question has may have spread to others
                    raise SampleError("not_finite", "attention holds NaN or infinity")
                maps = stacked(found, self.adapter.layers)
                below = maps[len(questions) :] if below is None else below
                mine = self._rows(questions, groups, maps[: len(questions)], below)
                if self.witnesses is not None:
                    self.witnesses.testify(mine, session, asked, questions, groups, (maps, below))
                rows += mine
        return rows

    @property
    def _answers(self) -> bool:
        return self.witnesses is not None and self.witnesses.answers

    @property
    def _keep(self) -> frozenset[int]:
        return self.witnesses.keep if self.witnesses is not None else frozenset()

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

    def _rows(
        self, questions: Sequence[Question], groups: Sequence[ImageGroup], maps: np.ndarray, general: np.ndarray
    ) -> list[Row]:
        """The rows of questions with maps [Q, L, H, T] on images with general maps [B, L, H, T]."""
        regions, rows = dict[int, list[int]](), list[Row]()
        for at, question in enumerate(questions):
            try:
                geometry = groups[question.image].visions[0].geometry
                if not geometry.placed:
                    raise SampleError("no_grid", "the tokens of an image of this shape form no grid")
                regions[at] = self._region(question.sample, geometry)
            except SampleError as error:
                rows.append(failure(question.sample, str(error)))
        some, size = list(regions), max(SLAB // maps[0].size, 1)
        for first in range(0, len(some), size):
            here = some[first : first + size]
            shown = [questions[at].image for at in here]
            tokens = groups[shown[0]].visions[0].geometry.tokens
            above, below = (one[..., :tokens].astype(np.float64) for one in (maps[here], general[shown]))
            measured = self._measured(above, below, [regions[at] for at in here])
            for at, values in zip(here, measured, strict=True):
                group = groups[questions[at].image]
                sent = self.adapter.sent(questions[at].prompt)
                rows.append(common(questions[at], group, regions[at], sent) | values)
                rows[-1]["domain"] = questions[at].sample.domain
        return rows

    def _measured(self, above: np.ndarray, below: np.ndarray, regions: Sequence[Sequence[int]]) -> list[Row]:
        """Metrics and maps to keep of n samples from question and general maps [n, L, H, T], first image's tokens."""
        rows: list[Row] = [{} for _ in regions]
        broken = ~(np.isfinite(above) & np.isfinite(below)).all((2, 3))
        broken[:, list(self.adapter.without)] = False
        for at in np.flatnonzero(broken.any(1)).tolist():
            rows[at]["warning"] = f"not_finite: layers {', '.join(map(str, np.flatnonzero(broken[at])))}"
        inside = np.zeros((len(regions), above.shape[-1]), bool)
        for at, region in enumerate(regions):
            inside[at, region] = True
        measured = np.flatnonzero(inside.any(1)).tolist()
        levels = {"layer": (above.mean(2), below.mean(2)), "head": (above, below)}
        for level, (question, general) in levels.items() if measured else ():
            found = groundings(relative_attention(question[measured], general[measured]), inside[measured])
            for name in ("ratio", "kl", "js"):
                values = getattr(found, name).reshape(len(measured), -1)
                for at, numbers in zip(measured, nullable(values), strict=True):
                    rows[at][f"{level}_{name}"] = numbers
        kept = {"layers": ("layer",), "heads": ("layer", "head"), "none": ()}[self.maps]
        for level in kept:
            prefix = "" if level == "layer" else "head_"
            for name, values in zip((f"{prefix}attention", f"general_{prefix}attention"), levels[level], strict=True):
                flat = values.astype(np.float32).reshape(len(rows), -1)
                for row, one in zip(rows, nullable(flat) if self.adapter.without else flat, strict=True):
                    row[name] = one
        return rows


def stacked(maps: Mapping[int, torch.Tensor], layers: int) -> np.ndarray:
    """[Q, L, H, T]; NaN in layers that were not read."""
    nothing = torch.full_like(next(iter(maps.values())), torch.nan)
    return torch.stack([maps.get(layer, nothing) for layer in range(layers)], 1).numpy()


def nullable(values: np.ndarray) -> list[list[float | None]]:
    """Lists [n][...] with null where there is no number."""
    if np.isfinite(values).all():
        return values.tolist()
    return [[one if math.isfinite(one) else None for one in row] for row in values.tolist()]
