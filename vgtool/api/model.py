"""A loaded model that is asked about one image at a time: `vgtool.load`, `Model.look`, `Model.refine`."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vgtool.api.given import natural, several
from vgtool.api.look import Look, Refined, on_grid
from vgtool.api.picture import Pixels
from vgtool.api.picture import picture as as_picture
from vgtool.errors import SampleError, VgError, did_you_mean
from vgtool.records import Box, ImageSource, Sample

if TYPE_CHECKING:
    from vgtool.attention.sharing import Sessions

Boxes = Iterable[Sequence[float] | Box]


def load(
    model: str | Path,
    *,
    dtype: str = "auto",
    device: str | None = None,
    device_map: str | None = None,
    offline: bool = False,
    lora: str | Path | None = None,
    registry: str | Path | None = None,
) -> "Model":
    """A model of models.yaml by its name, or a checkpoint folder, ready to be asked. The options are those of
    `vgtool probe`. VgError says in a sentence what is wrong and what to do."""
    from vgtool.runs import launch

    named = None if registry is None else Path(registry)
    low_rank = None if lora is None else Path(lora)
    return Model(launch.load(str(model), named, dtype, device, device_map, offline, low_rank))


class Model:
    """A loaded model, its attention readable."""

    def __init__(self, sessions: "Sessions") -> None:
        self.sessions = sessions
        self.adapter = sessions.adapter

    @property
    def name(self) -> str:
        return self.adapter.spec.name

    def __repr__(self) -> str:
        one = self.adapter
        kind = str(one.dtype).removeprefix("torch.")
        return f"Model({self.name!r}, {one.layers} layers x {one.heads} heads, {kind} on {one.device})"

    def look(
        self,
        image: Pixels,
        question: str,
        *,
        boxes: Boxes | None = None,
        protocol: str | None = None,
        choices: str | Sequence[str] | None = None,
        row: str = "last",
        box_mapping: str = "exact",
        max_new_tokens: int = 32,
    ) -> Look:
        """Ask one question about one image (a file, a PIL image, or an array of pixels).

        boxes: x0, y0, x1, y1 in pixels, for metrics. protocol: how the question is put; None as in the paper (a short
        answer is asked for), `plain` as it stands, BENCHMARK/PROTOCOL of benchmarks.yaml, or a text with {question}.
        row, box_mapping: as the options of `vgtool probe`.
        """
        from vgtool.methods.probe import Probe

        word(row, ("last", "question", "text"), "row")
        word(box_mapping, ("exact", "stretch"), "box_mapping")
        picture = as_picture(image)
        sample = asked(question, boxes, protocol, choices)
        settings: dict[str, Any] = {"maps": "heads", "row": row, "mapping": box_mapping}
        found = self._rows(Probe(self.sessions, **settings), sample, picture)[0]
        answer = self._rows(self._refining({}, None, max_new_tokens, box_mapping), sample, picture)[0]
        shape = (self.adapter.layers, self.adapter.heads, found["grid_rows"], found["grid_cols"])
        maps = [np.asarray(found[f"{of}head_attention"], np.float32).reshape(shape) for of in ("", "general_")]
        place = place_of(picture, sample, found)
        sent = self._sent(sample)
        return Look(**place, answer=answer["answer"], confidence=answer["confidence"], prompt=sent,
                    attention=maps[0], general=maps[1], region=tuple(found["region"]))  # fmt: skip

    def refine(
        self,
        image: Pixels,
        question: str,
        method: str = "vgrefine",
        *,
        heads: str | Path | None = None,
        boxes: Boxes | None = None,
        protocol: str | None = None,
        choices: str | Sequence[str] | None = None,
        box_mapping: str = "exact",
        max_new_tokens: int = 32,
        seed: int = 0,
    ) -> Refined:
        """Answer under a method, written as for `--method` (`vgrefine:percentile=80`), beside the plain answer. heads:
        a head file of `vgtool heads`; the model's published heads when not given. The rest is as in `look`."""
        word(box_mapping, ("exact", "stretch"), "box_mapping")
        picture, sample = as_picture(image), asked(question, boxes, protocol, choices)
        task = self._refining({method: natural(seed)}, heads, max_new_tokens, box_mapping)
        plain, found = self._rows(task, sample, picture)
        rows, cols = found["grid_rows"], found["grid_cols"]
        kept = None
        if found["kept"] is not None:
            kept = np.zeros(rows * cols, bool)
            kept[[token for token in found["kept"] if token < rows * cols]] = True
            kept = kept.reshape(rows, cols)
        own: dict[str, Any] = {name: found.get(name) for name in ("answer", "confidence", "insertion", "deletion")}
        triage = on_grid(found["triage"], rows, cols)
        return Refined(**place_of(picture, sample, found), **own, method=method, baseline=plain["answer"],
                       prompt=self._sent(sample), kept=kept, triage=triage)  # fmt: skip

    def _refining(
        self, methods: Mapping[str, int], heads: str | Path | None, max_new_tokens: int, box_mapping: Any
    ) -> Any:
        from vgtool.methods.base import read_facts
        from vgtool.methods.parse import parse
        from vgtool.methods.refine import Refine
        from vgtool.records import Decoding

        made = {label: parse(label) for label in methods}
        file = None if heads is None else Path(heads)
        facts = read_facts(self.adapter, file, (), next(iter(methods.values()), 0))
        return Refine(self.sessions, made, facts, Decoding(max_new_tokens), mapping=box_mapping, partner=no_partner)

    def _rows(self, task: Any, sample: Sample, picture: Image.Image) -> Sequence[Mapping[str, Any]]:
        """The rows of one sample. VgError for what would cost a run this sample."""
        from vgtool.methods.task import ImageGroup
        from vgtool.models.adapter import vision_of

        try:
            group = ImageGroup((sample,), (picture,), (vision_of(self.adapter, picture),))
            rows = task.run([group], None)
        except SampleError as error:
            raise VgError(f"This cannot be asked: {error}.", "Change the image, the question or the boxes.") from None
        for row in rows:
            if row["error"]:
                raise VgError(f"This cannot be asked: {row['error']}.", "Change the image, the question or the boxes.")
        return rows

    def _sent(self, sample: Sample) -> str:
        return str(self.adapter.sent(self.adapter.prompt(sample.prompt)))


def asked(
    question: str, boxes: Boxes | None, protocol: str | None, choices: str | Sequence[str] | None
) -> Sample:
    """The question as a sample of no benchmark."""
    from vgtool.benchmarks.rows import dressed

    if not isinstance(question, str) or not question.strip():
        raise VgError(f"{question!r} is no question.", "Give a text.")
    options = None if choices is None else several(choices)
    try:
        given = () if boxes is None else boxes  # an array has no truth value of its own
        found = tuple(box if isinstance(box, Box) else Box(*map(float, box)) for box in given)
    except (TypeError, ValueError) as error:
        raise VgError(f"Not boxes: {error}.", "Give each as x0, y0, x1, y1 in pixels.") from None
    prompt = dressed(template(protocol, bool(options)), question, options or ())
    try:
        prompt.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, or a byte of a shell that is no UTF-8
        raise VgError(f"{error.object[error.start]!r} in the question is no character.", "Give it as UTF-8.") from None
    nothing = ImageSource("image", bytes)
    kind: Any = "choice" if options else "open"
    return Sample("look", "look", nothing, question, prompt, "medical", "", kind, choices=options or None, boxes=found)


def template(protocol: str | None, choice: bool) -> str:
    """How a protocol puts a question."""
    from vgtool.benchmarks.rows import PROMPTS
    from vgtool.registry import benchmarks, pick

    kind: Any = "choice" if choice else "open"
    if protocol is None:
        return PROMPTS[kind]
    if protocol == "plain":
        return "{question}\n{options}" if choice else "{question}"
    if "{question}" in protocol:
        return protocol
    name, slash, which = protocol.partition("/")
    if not slash:
        raise VgError(f"No protocol '{protocol}'.", "Give plain, BENCHMARK/PROTOCOL, or a text with {question}.")
    protocols = pick(benchmarks(), name, "benchmarks.yaml").protocols
    if which not in protocols:
        raise VgError(f"Benchmark '{name}' has no protocol '{which}'.", did_you_mean(which, protocols))
    return protocols[which].prompts.get(kind, PROMPTS[kind])


def word(given: str, known: Sequence[str], what: str) -> None:
    if given not in known:
        raise VgError(f"No {what} '{given}'.", did_you_mean(given, known))


def place_of(picture: Image.Image, sample: Sample, row: Mapping[str, Any]) -> dict[str, Any]:
    """What every result says of its image."""
    boxes = tuple((box.x0, box.y0, box.x1, box.y1) for box in sample.boxes)
    return {"image": picture, "question": sample.question, "boxes": boxes, "grid_box": tuple(row["grid_box"])}


def no_partner(sample: Sample) -> Image.Image:
    raise SampleError("no_other_image", "there is no benchmark to take another image from")
