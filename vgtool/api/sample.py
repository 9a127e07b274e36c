"""One sample of finished runs: what was asked, where the model looked, what it answered, and whether that was right."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from vgtool.api.figure import Kind, draw, of_method, png
from vgtool.api.given import several
from vgtool.api.look import Metrics, on_grid, slice_of
from vgtool.errors import SampleError, VgError, did_you_mean
from vgtool.grounding.metrics import Grounding, relative_attention
from vgtool.records import Sample
from vgtool.runs.parts import read_part, told_damaged
from vgtool.runs.store import Store

NEAR = 5000
"""Ids among which a mistyped one is looked for."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """What one method answered."""

    run: str
    """Name of the run's folder."""
    method: str
    answer: str | None
    """None where the sample failed."""
    verdict: str | None
    """right, wrong, undecided, unfinished or failed, by the run's own rule; None where there is no reference."""
    confidence: float | None
    error: str | None
    kept: NDArray[np.bool_] | None
    """Image tokens that stayed visible [rows, cols]."""
    triage: NDArray[np.float32] | None
    """The map that chose them, likewise."""
    insertion: float | None
    deletion: float | None


@dataclass(frozen=True, repr=False)
class Recorded:
    """One sample of a run, or of several on the same rows."""

    sample_id: str
    image_id: str
    group: str | None
    question_type: str
    question: str
    prompt: str | None
    """As the protocol puts the question; None where the benchmark is not at hand."""
    reference: str | None
    choices: tuple[str, ...] | None
    image: Image.Image | None
    """None where the benchmark is not at hand, or its image is another one."""
    missing: str
    """Why there is no image or prompt."""
    size: tuple[int, int]
    """Of the stored image, width and height."""
    boxes: tuple[tuple[float, ...], ...]
    grid_box: tuple[float, ...]
    region: tuple[int, ...]
    """Image tokens under the boxes, row-major."""
    attention: NDArray[np.float32] | None
    """Head means of the question's row [layers, rows, cols]; None where no run kept maps."""
    general: NDArray[np.float32] | None
    """Of the general prompt's row, likewise."""
    metrics: Metrics | None
    answers: tuple[Answered, ...]
    errors: tuple[str, ...]
    """Why a run has no result for this sample."""

    def layer(self, at: int | None = None) -> NDArray[np.float64]:
        """Relative attention of a layer's head means [rows, cols]; of all layers' together when none is named. VgError
        when no run kept maps, or there is no such layer."""
        if self.attention is None or self.general is None:
            raise self._mapless()
        chosen = slice(None) if at is None else slice_of(at, len(self.attention))
        return relative_attention(*(one[chosen].astype(np.float64).mean(0) for one in (self.attention, self.general)))

    def shown(self, layer: int | None) -> int | None:
        """The layer that is shown where `layer` is asked for: of lowest KL by itself, None for all together."""
        return self.metrics.best if layer is None and self.metrics is not None else layer

    def figure(self, path: str | Path | None = None, *, layer: int | None = None, method: str | None = None) -> Any:
        """The image, a layer's relative attention over it and the boxes, as a matplotlib figure; also written to `path`
        (pdf, svg or png). Without maps, or for a `method`: what the method kept, else its map."""
        if method is None and (self.attention is not None or layer is not None):
            at = self.shown(layer)
            heat, below = self.layer(at), "all layers" if at is None else f"layer {at}"
            if self.metrics is not None and at is not None:
                below += f", attention ratio {self.metrics.layers.ratio[at]:.2f}"
            told = [f"{one.method}: {one.answer} ({one.verdict or 'no reference'})" for one in self.answers[:1]]
            return self._draw("attention", heat, "; ".join([*told, below]), path)
        one = self._drawn(method)
        below = f"{one.method}: {one.answer} ({one.verdict or 'no reference'})"
        return self._draw(*of_method(one.kept, one.triage), below, path)

    def _draw(self, kind: Kind, values: NDArray[Any], below: str, path: str | Path | None) -> Any:
        return draw(self.image, self.size, kind, values, self.grid_box, self.boxes, self.question, below, path)

    def of(self, method: str) -> list[Answered]:
        """What a method answered, by run. VgError when there is none."""
        found = [one for one in self.answers if one.method == method]
        if not found:
            hint = did_you_mean(method, {one.method for one in self.answers})
            hint = hint or "A probe holds none; name a refine run of these rows, here or beside it."
            raise VgError(f"Sample '{self.sample_id}' has no answer of method '{method}'.", hint)
        return found

    def _drawn(self, method: str | None) -> Answered:
        some = self.answers if method is None else self.of(method)
        for one in some:
            if one.kept is not None or one.triage is not None:
                return one
        if method is None or any(one.error for one in some):
            raise self._mapless()
        raise VgError(f"'{method}' hides no image token and has no map to draw.", "Name no method, or another one.")

    def _mapless(self) -> VgError:
        failed = [*self.errors, *(f"{one.run}: {one.error}" for one in self.answers if one.error)]
        if failed:
            said = f"Sample '{self.sample_id}' failed and has no map: {failed[0].rstrip('.')}."
            return VgError(said, "Name another sample.")
        return VgError(f"No map of sample '{self.sample_id}' was kept.", "Probe it with --maps layers.")

    def _repr_png_(self) -> bytes:
        return png(self.figure())

    def __repr__(self) -> str:
        said = ", ".join(f"{one.method}: {one.answer!r} {one.verdict or ''}".rstrip() for one in self.answers)
        metrics = f", {self.metrics!r}" if self.metrics else ""
        return f"Recorded({self.sample_id!r}, {self.question!r}{', ' if said else ''}{said}{metrics})"


def sample(
    run: str | Path,
    id: str,
    *,
    beside: str | Path | Sequence[str | Path] = (),
    data_root: str | Path | None = None,
    registry: str | Path | None = None,
) -> Recorded:
    """A sample of a run folder by its id; `beside`: runs of the same rows, whose maps or answers are shown with it. The
    picture and the prompt come from the benchmark, where it is on this machine. VgError for what is not there."""
    id = str(id)  # rows that number their samples have their numbers as texts
    stores = [Store(Path(one)) for one in (run, *several(beside))]
    held = [(store, store.read(), _rows_of(store, id)) for store in stores]
    if not held[0][2]:
        raise VgError(f"'{run}' has no sample '{id}'.", _near(id, stores[0]))
    rows = [row for _, _, some in held for row in some]
    first = next((row for row in rows if row["error"] is None), rows[0])
    for store, _, some in held[1:]:
        if not some:
            raise VgError(f"'{store.root}' has no sample '{id}'.", "Name runs of the same rows.")
        if odd := [row for row in some if row["question"] != first["question"] and row["error"] is None]:
            raise VgError(
                f"'{store.root}' asks '{odd[0]['question']}' as sample '{id}', not '{first['question']}'.",
                "Name runs of the same rows.",
            )
    answers = tuple(one for store, record, some in held for one in _answers(store, record, some))
    probed = next((row for row in rows if row.get("attention") is not None), None)
    measured = next((row for row in rows if row.get("layer_kl") is not None and first["region"]), None)
    told = next((row for row in rows if row.get("reference")), {})
    asked, missing = _asked(held[0][1]["identity"], first, data_root, registry)
    picture, missing = (None, missing) if asked is None else _picture(asked, first)
    if asked is not None and asked.reference:
        told = {"reference": asked.reference, "choices": asked.choices, **told}
    return Recorded(
        id,
        first["image_id"] or "",
        first["group"],
        first["question_type"] or "",
        first["question"] or "",
        None if asked is None else asked.prompt,
        told.get("reference"),
        tuple(told["choices"]) if told.get("choices") else None,
        picture,
        missing,
        (first["width"] or 1, first["height"] or 1),
        tuple(tuple(box) for box in first["boxes"] or ()),
        tuple(first["grid_box"] or (0, 0, 1, 1)),
        tuple(first["region"] or ()),
        None if probed is None else _map(probed, "attention"),
        None if probed is None else _map(probed, "general_attention"),
        None if measured is None else _metrics(measured),
        answers,
        tuple(dict.fromkeys(f"{store.root.name}: {row['error']}" for store, _, some in held for row in some
                            if row["error"] and "method" not in row)),
    )  # fmt: skip


def _rows_of(store: Store, id: str) -> list[Row]:
    """The rows of a sample, each once, with every column."""

    def those(part: Path) -> list[Row]:
        if id not in read_part(part, ["sample_id"])["sample_id"]:
            return []
        return read_part(part).filter(pl.col("sample_id") == id).to_dicts()

    rows, bad = store.each(those)
    found: dict[Any, Row] = {}
    for row in chain.from_iterable(rows):
        found.setdefault(row.get("method"), row)
    if bad and not found:
        raise VgError(f"{told_damaged(store.root, bad)}, and no other has sample '{id}'.", "Run its command again.")
    return [*found.values()]


def _near(id: str, store: Store) -> str:
    """What the ids of a run look like."""
    known = [name for frame in store.frames(["sample_id"])[0] for name in frame["sample_id"]]
    if not known:
        return "It holds no rows yet."
    near = did_you_mean(id, set(known)) if len(known) <= NEAR else ""
    return near if near.startswith("Did") else f"Its ids look like '{known[0]}' and '{known[-1]}'."


def _answers(store: Store, record: dict[str, Any], rows: Sequence[Row]) -> Iterator[Answered]:
    """What a run's methods answered, in the order the run names them."""
    from vgtool.scoring.inputs import Run, judged

    if record["kind"] != "refine" or not rows:
        return
    frame = pl.DataFrame(rows, infer_schema_length=None)
    judgement = judged(Run(store.root, "refine", record["identity"], frame), None)
    verdicts = dict(judgement.select("method", "outcome").iter_rows())
    order = {name: at for at, name in enumerate(record["identity"]["methods"])}
    for row in sorted(rows, key=lambda row: order.get(row["method"], len(order))):
        shape = (row["grid_rows"] or 0, row["grid_cols"] or 0)
        kept = None
        if row["kept"] is not None:
            kept = np.isin(np.arange(shape[0] * shape[1]), row["kept"]).reshape(shape)
        numbers = {name: row[name] for name in ("confidence", "error", "insertion", "deletion")}
        yield Answered(
            run=store.root.name,
            method=row["method"],
            answer=None if row["error"] else row["answer"],
            verdict=verdicts.get(row["method"]),
            kept=kept,
            triage=on_grid(row["triage"], *shape),
            **numbers,
        )


def _map(row: Row, name: str) -> NDArray[np.float32]:
    """[layers, rows, cols]"""
    return np.asarray(row[name], np.float32).reshape(-1, row["grid_rows"], row["grid_cols"])


def _metrics(row: Row) -> Metrics:
    """As the run measured them; NaN where it has none."""
    layers = len(row["layer_kl"])
    numbers = {
        of: [np.array(row[f"{of}_{name}"], np.float64) for name in ("ratio", "kl", "js")] for of in ("layer", "head")
    }
    return Metrics(Grounding(*numbers["layer"]), Grounding(*(one.reshape(layers, -1) for one in numbers["head"])))


def _asked(identity: dict[str, Any], row: Row, data_root: Any, registry: Any) -> tuple[Sample | None, str]:
    """The sample as its benchmark has it, or why it is not at hand."""
    from vgtool.benchmarks.load import load

    root, more = (None if one is None else Path(one) for one in (data_root, registry))
    named: dict[str, Any] = {"split": identity.get("split"), "protocol": identity.get("protocol") or "default"}
    try:
        benchmark = load(identity["benchmark"], data_root=root, registry=more, **named)
    except VgError as error:
        return None, str(error)
    found = next((one for one in benchmark.samples if one.id == row["sample_id"]), None)
    if found is None:
        return None, f"Benchmark '{benchmark.name}' on this machine has no such sample."
    if row["question"] not in (None, found.question):
        return None, f"Benchmark '{benchmark.name}' on this machine asks '{found.question}' as this sample."
    return found, ""


def _picture(asked: Sample, row: Row) -> tuple[Image.Image | None, str]:
    """A sample's picture, or why there is none."""
    from vgtool.images import open_image

    try:
        found = open_image(asked.image)
    except SampleError as error:
        return None, f"{error}."
    if row["width"] and found.size != (row["width"], row["height"]):
        return None, f"The image on this machine is {found.width} x {found.height}: another one."
    return found, ""
