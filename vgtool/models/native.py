"""Any image-text model that transformers reads by its auto classes, without remote code and without code of a family.

Prompt from the chat template, ids and pixels from the checkpoint's own processor, positions as the model hands them to
its own text model. Image columns are measured: those of the first text layer's input that change with the image, so
that separators, newlines, row and column marks drop out by themselves. Where they stand in the image is measured too,
once per model and image shape (stripes.py, gridfit.py), and kept on disk (shapes.py).
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import Cache

from vgtool.errors import SampleError, VgError
from vgtool.models import auto, shapes, stripes
from vgtool.models.adapter import IMAGE, QUESTION, Adapter, Inputs, Prompt, Vision, covered
from vgtool.models.chat import conversation, ends
from vgtool.models.checkpoint import Checkpoint, Placement
from vgtool.models.shapes import Shape
from vgtool.models.wording import refused

SAMPLE, OTHER = "Is there a mass?", "Which side?"
"""The user's text while a prompt's parts are told apart."""


@dataclass(frozen=True, slots=True)
class NativeVision(Vision):
    """An image as the model's own processor prepares it."""

    image: Image.Image | None = None
    """For prompts with several images, which the processor prepares together."""
    span: tuple[int, ...] = ()
    """Ids that stand in the prompt because of the image."""
    kinds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Per-token inputs (token types) of the span."""
    shape: Shape | None = None

    @property
    def form(self) -> tuple[int, ...]:
        """Images whose processor writes the same ids, with their tokens in the same places."""
        shape = self.shape
        return (*self.span, *((shape.rows, shape.cols, *shape.cells) if shape else ()))


@dataclass(kw_only=True)
class Native(Adapter):
    """AutoModelForImageTextToText with AutoProcessor."""

    processor: Any
    decoder: nn.Module
    """The text model inside."""
    mark: str
    """What the chat template writes for an image."""
    lead: tuple[int, ...] = ()
    """Ids before the image."""
    trail: tuple[int, ...] = ()
    """Ids after it, with SAMPLE as the user's text."""
    anchor: str = ""
    """The last special token of an image, behind which a text is tokenised as in the whole prompt."""
    before: str = ""
    """What stands between the anchor and the user's text."""
    after: str = ""
    """What follows the user's text."""
    special: frozenset[int] = frozenset()
    """Special tokens of an image, which no question may hold."""
    text_kinds: Mapping[str, int] = field(default_factory=dict)
    """Per-token inputs of the processor -> what text has there."""
    axes: int = 0
    """Rope axes that the model hands to its text model; 0 is one position a token."""
    settled: dict[tuple[int, int], Shape] = field(default_factory=dict)
    """Image shape (width, height) -> what was measured."""
    lock: Any = field(default_factory=threading.RLock)
    """Held by each pass: shapes are measured in the threads that prepare images."""
    backend: str = "pil"
    """What its image processor runs on."""
    grown: bool = False
    """Whether the number of tokens follows the image."""

    embeds = False
    settings: ClassVar[frozenset[str]] = Adapter.settings

    @classmethod
    def open(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        config, kind = auto.model_class(checkpoint)
        processor = auto.processor(checkpoint, config)
        mark, template = auto.template(checkpoint, processor)
        words = conversation(checkpoint, processor.tokenizer, None, *ends(config), template=template)
        model = checkpoint.build(kind, config, placement)
        made = cls(model=model, processor=processor, decoder=auto.text_model(model, checkpoint), mark=mark, **words)
        if not type(processor.image_processor).__name__.endswith("Pil"):
            made.backend = "torchvision"
        if model.device.type != "meta":  # where doctor looks, nothing can be measured
            made._learn()
        return made

    # ---- facts -------------------------------------------------------------------------------------------------

    @property
    def text(self) -> nn.Module:
        return self.decoder

    @property
    def follows_image(self) -> bool:
        return self.grown

    @property
    def ungridded(self) -> str:
        shapes = list(self.settled.values())
        return shapes[0].why if shapes and all(shape.why for shape in shapes) else ""

    @property
    def notes(self) -> list[str]:
        own = [] if self.backend == "pil" else [f"Its image processor runs on {self.backend}, its only backend."]
        return [*super().notes, *own]

    @property
    def image_token(self) -> int | None:
        return None

    # ---- the prompt's parts ------------------------------------------------------------------------------------

    def _learn(self) -> None:
        """Tell the ids of an image from those of the text, on two image shapes and two texts."""
        small, other = (self.processed(SAMPLE, [Image.new("RGB", size)]) for size in ((96, 72), (72, 216)))
        ids = small["input_ids"][0].tolist()
        start, stop = self._cut(ids, self.processed(OTHER, [Image.new("RGB", (96, 72))])["input_ids"][0].tolist())
        self.lead, self.trail = tuple(ids[:start]), tuple(ids[stop:])
        self.special = frozenset(ids[start:stop]) & self._added
        try:
            with torch.inference_mode():
                changing = stripes.columns(self.first_states, 96, 72)
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError, TypeError, IndexError, AttributeError) as error:
            raise VgError(
                f"'{self.spec.name}' cannot take what its processor makes of an image: {' '.join(str(error).split())}",
                "The processor is another model's, or this class of transformers works in a way of its own.",
            ) from None
        self.anchor = self.tokenizer.convert_ids_to_tokens(ids[stop - 1])
        self.grown = len(other["input_ids"][0]) != len(ids) or any(
            one.shape != small[name].shape for name, one in other.items() if torch.is_tensor(one)
        )
        if not len(changing):
            raise VgError(
                f"No token of the prompt of '{self.spec.name}' changes with the image.",
                "It takes its image beside the text (cross-attention), where vgtool reads no map.",
            )
        for name, values in self._per_token(small).items():
            outside = set(values[:start]) | set(values[stop:])
            if len(outside) > 1:
                raise VgError(
                    f"The processor of '{self.spec.name}' marks the words of a prompt by several {name}.",
                    "vgtool cannot rebuild them for another question; use another model.",
                )
            self.text_kinds = {**self.text_kinds, name: outside.pop() if outside else 0}
        words = self.tokenizer.decode(self.trail, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        self.before, _, self.after = words.partition(SAMPLE)  # with what the processor itself puts around a question
        if self.prompt(SAMPLE).tail != self.trail:
            raise VgError(
                f"The tokenizer of '{self.spec.name}' reads a question otherwise than its processor does.",
                "Give its entry a prompt with a special token before the question (docs/models.md).",
            )

    @property
    def _added(self) -> frozenset[int]:
        return frozenset(self.tokenizer.get_added_vocab().values())

    def _cut(self, ids: list[int], other: list[int]) -> tuple[int, int]:
        """[start, stop) of the image's ids: from where the prompt without an image differs to before where another
        question does, from special token to special token."""
        bare = self._ids(self.template.replace(IMAGE, "").replace(QUESTION, SAMPLE))
        question = _common(ids, other)
        inside = [at for at in range(min(_common(ids, bare), question), question) if ids[at] in self._added]
        if not inside or len(ids) <= len(bare):
            raise VgError(
                f"The processor of '{self.spec.name}' writes no image tokens into its prompt.",
                "It is another model's, or this model takes its image beside the text, where no map can be read.",
            )
        # What stands between the image and the question in a prompt without one is text, as in any prompt.
        text = len(bare) - _common(ids, bare) - (len(ids) - question)
        return inside[0], max(at for at in inside if at < question - max(text, 0)) + 1

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=not self._spelled(text)).input_ids)

    def _spelled(self, text: str) -> bool:
        """Whether a text begins with the BOS that the tokenizer would add."""
        return bool(self.tokenizer.bos_token) and text.startswith(self.tokenizer.bos_token)

    def processed(self, text: str, images: Sequence[Image.Image]) -> dict[str, Any]:
        """The processor's output for a prompt with images."""
        head, _, rest = self.template.partition(IMAGE)
        marks = self.separator.join([self.mark] * len(images))
        words = head + marks + rest.replace(QUESTION, text)
        spelled = {"add_special_tokens": False} if self._spelled(words) else {}
        out = self.processor(text=[words], images=list(images), return_tensors="pt", **spelled)
        return {name: value for name, value in out.items() if name != "labels"}

    @staticmethod
    def _per_token(out: Mapping[str, Any]) -> dict[str, list[int]]:
        """Inputs beside the ids that have one number a token."""
        shape = out["input_ids"].shape
        return {
            name: value[0].tolist()
            for name, value in out.items()
            if torch.is_tensor(value) and value.shape == shape and name not in ("input_ids", "attention_mask")
        }

    def prompt(self, text: str) -> Prompt:
        text = self.wording(text)
        if IMAGE in text or self.special & set(self.tokenizer(text, add_special_tokens=False).input_ids):
            raise SampleError("placeholder_in_question", "the question holds a token that stands for an image")
        lead = self.anchor + self.before
        encoded = self.tokenizer(lead + text + self.after, add_special_tokens=False, return_offsets_mapping=True)
        start, stop = covered([tuple(span) for span in encoded.offset_mapping], len(lead), len(lead) + len(text))
        for token in encoded.input_ids[start:stop]:
            if token in self.marks:
                raise refused(self.tokenizer.convert_ids_to_tokens(token))
        return Prompt(self.lead, tuple(encoded.input_ids[1:]), (max(start - 1, 0), max(stop - 1, 0)))

    def spoken(self, text: str) -> set[int]:
        return set(self._prepared([Image.new("RGB", (96, 72))])["input_ids"][0].tolist())

    # ---- images ------------------------------------------------------------------------------------------------

    def prepare(self, image: Image.Image) -> Vision:
        size = image.size
        with self.lock:  # a tokenizer is not to be used by two threads, nor the model
            out = self._prepared([image])
            ids, kinds = out["input_ids"][0].tolist(), self._per_token(out)
            self._expect(ids)
            start, stop = len(self.lead), len(ids) - len(self.trail)
            shape = self.settled.get(size) or shapes.read(self, size, stop - start)
            if shape is None:
                shape = self._measured(size)
                shapes.write(self, size, stop - start, shape)
            self.settled[size] = shape
        return NativeVision(
            self._tensors(out),
            shape.geometry(*size),
            overview=len(shape.overview),
            image=image,
            span=tuple(ids[start:stop]),
            kinds={name: tuple(values[start:stop]) for name, values in kinds.items()},
            shape=shape,
        )

    def _measured(self, size: tuple[int, int]) -> Shape:
        try:
            return shapes.measure(self, size)
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError, IndexError) as error:
            detail = f"{size[0]} x {size[1]} pixels: {' '.join(str(error).split())}"
            raise SampleError("image_shape", detail) from None

    def _prepared(self, images: Sequence[Image.Image]) -> dict[str, Any]:
        try:
            return self.processed(SAMPLE, images)
        except (ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
            shape = ", ".join(f"{image.width} x {image.height}" for image in images)
            raise SampleError("image_shape", f"{shape} pixels: {' '.join(str(error).split())}") from None

    def _expect(self, ids: Sequence[int]) -> None:
        """SampleError when an image changes the words around it."""
        if tuple(ids[: len(self.lead)]) != self.lead or tuple(ids[len(ids) - len(self.trail) :]) != self.trail:
            raise SampleError("grid_mismatch", "the processor writes other words around this image")

    def _tensors(self, out: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: value
            for name, value in out.items()
            if name not in ("input_ids", "attention_mask") and name not in self.text_kinds
        }

    def placed(self, vision: Vision) -> dict[str, Any]:
        return {name: self._to(value) for name, value in vision.tensors.items()}

    def _to(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._to(one) for one in value]
        if not torch.is_tensor(value):
            return value
        return value.to(self.device, self.dtype if value.is_floating_point() else None)

    # ---- forward inputs ----------------------------------------------------------------------------------------

    def inputs(self, visions: Sequence[Vision], head: Sequence[int], tail: Sequence[int]) -> Inputs:
        ids, columns, overview, reach = list(head), list[Tensor](), list[Tensor](), len(head)
        kinds = {name: [kind] * len(head) for name, kind in self.text_kinds.items()}
        tensors, between = self._several(visions)
        for index, vision in enumerate(visions):
            assert isinstance(vision, NativeVision) and vision.shape is not None
            if index:
                ids += between
                reach += len(between)
                kinds = {name: [*kind, *[self.text_kinds[name]] * len(between)] for name, kind in kinds.items()}
            columns.append(torch.tensor(vision.shape.cells, device=self.device) + len(ids))
            overview.append(torch.tensor(vision.shape.overview, dtype=torch.long, device=self.device) + len(ids))
            ids += vision.span
            reach += vision.shape.reach
            kinds = {name: [*kind, *vision.kinds[name]] for name, kind in kinds.items()}
        ids += tail
        kwargs: dict[str, Any] = {"input_ids": torch.tensor([ids], device=self.device)}
        if visions:
            kwargs |= {"attention_mask": torch.ones_like(kwargs["input_ids"])} | tensors
            for name, kind in kinds.items():
                kwargs[name] = torch.tensor([[*kind, *[self.text_kinds[name]] * len(tail)]], device=self.device)
        return Inputs(kwargs, len(ids), tuple(columns), tuple(overview), reach + len(tail))

    def _several(self, visions: Sequence[Vision]) -> tuple[dict[str, Any], tuple[int, ...]]:
        """The pixels of a prompt's images as the processor prepares them together, and the ids between two."""
        if len(visions) < 2:
            return (self.placed(visions[0]) if visions else {}), ()
        some = [vision for vision in visions if isinstance(vision, NativeVision) and vision.image is not None]
        with self.lock:
            out = self._prepared([vision.image for vision in some if vision.image is not None])
        ids = out["input_ids"][0].tolist()
        self._expect(ids)
        inner = ids[len(self.lead) : len(ids) - len(self.trail)]
        spans = [list(vision.span) for vision in some]
        room = len(inner) - sum(map(len, spans))
        size = room // (len(spans) - 1) if room >= 0 else 0
        between = inner[len(spans[0]) : len(spans[0]) + size]
        wanted = spans[0] + [token for span in spans[1:] for token in [*between, *span]]
        if inner != wanted:
            raise SampleError("several_images", "the processor prepares an image otherwise beside another")
        return {name: self._to(value) for name, value in self._tensors(out).items()}, tuple(between)

    def positions(self, rope: Tensor) -> Tensor:
        return rope[None].expand(self.axes, -1, -1) if self.axes else rope

    def continuation(self, ids: Tensor, rope: Tensor) -> dict[str, Any]:
        """By ids, since some models read them again in later layers (Gemma 3n, Gemma 4)."""
        return {"input_ids": ids, "position_ids": self.positions(rope)}

    def answered(self, kwargs: Mapping[str, Any], made: int) -> Mapping[str, Any]:
        """Of a prefix model (PaliGemma), whose prompt is of one type, an answer is of the other, and causal."""
        kinds = kwargs.get("token_type_ids")
        if kinds is None or bool(kinds.any()) or "mm_token_type_ids" in kwargs:
            return kwargs
        kinds = kinds.clone()
        kinds[:, kinds.shape[1] - made :] = 1
        return {**kwargs, "token_type_ids": kinds}

    def forward(self, kwargs: Mapping[str, Any], keep: Sequence[int], cache: Cache | None = None) -> Tensor:
        with self.lock:
            return super().forward(kwargs, keep, cache)

    # ---- measuring ---------------------------------------------------------------------------------------------

    def first_states(self, image: Image.Image) -> Tensor:
        """What goes into the first text layer [L, hidden]."""
        return self._first(self.processed(SAMPLE, [image]))[0]

    def _first(self, out: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """(input of the first text layer [L, hidden], rope positions that the model hands to its text model)."""
        got: dict[str, Any] = {}

        def entering(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            got["positions"] = kwargs.get("position_ids")

        def reaching(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states = args[0] if args else kwargs["hidden_states"]
            got["states"] = states.reshape(-1, *states.shape[-2:])[0]  # several streams (AltUp) begin alike
            raise _Reached

        layers: Any = self.decoder.layers
        hooks = [
            self.decoder.register_forward_pre_hook(entering, with_kwargs=True),
            layers[0].register_forward_pre_hook(reaching, with_kwargs=True),
        ]
        try:
            self.model(**{name: self._to(value) for name, value in out.items()}, use_cache=False)
        except _Reached:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return got["states"], got["positions"]

    def reach(self, image: Image.Image) -> int:
        """How many rope positions an image's span takes; notes how many axes there are."""
        out = self.processed(SAMPLE, [image])
        _, positions = self._first(out)
        start, length = len(self.lead), out["input_ids"].shape[1]
        stop = length - len(self.trail)
        if positions is None:
            return stop - start
        self.axes = positions.shape[0] if positions.dim() == 3 else 0
        after = positions[..., stop] if self.trail else positions.max() + 1
        return int(after.max()) - start


class _Reached(Exception):
    """Ends a pass at the first text layer."""


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common start."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
