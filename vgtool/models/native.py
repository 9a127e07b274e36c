"""Any image-text model that transformers reads by its auto classes, without remote code and without code of a family.

Prompt from the chat template, ids and pixels from the checkpoint's own processor, positions as the model hands them to
its own text model. Image columns are measured: those of the first text layer's input that change with the image, so
that separators, newlines, row and column marks drop out by themselves. Where they stand in the image is measured too,
once per model and image shape (stripes.py, gridfit.py), and kept on disk (shapes.py).
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import Cache

from vgtool.errors import SampleError, VgError
from vgtool.models import auto, shapes, stripes
from vgtool.models.adapter import Adapter
from vgtool.models.chat import conversation, ends
from vgtool.models.checkpoint import Checkpoint, Placement
from vgtool.models.entering import entering
from vgtool.models.fitting import fitting
from vgtool.models.inputs import Inputs, Prompt, Vision
from vgtool.models.prompts import IMAGE, QUESTION, covered
from vgtool.models.shapes import Shape
from vgtool.models.wording import refused
from vgtool.models.written import SAMPLE, SMALL, Around, NativeVision, Writer, per_token, separating


@dataclass(kw_only=True)
class Native(Adapter):
    """AutoModelForImageTextToText with AutoProcessor."""

    writer: Writer
    """Its processor."""
    around: Around
    """The ids around an image."""
    decoder: nn.Module
    """The text model inside."""
    axes: int = 0
    """Rope axes that the model hands to its text model; 0 is one position a token."""
    settled: dict[tuple[int, int], Shape] = field(default_factory=dict)
    """Image shape (width, height) -> what was measured."""
    lock: Any = field(default_factory=threading.RLock)
    """Held by each pass: shapes are measured in the threads that prepare images."""

    embeds = False

    @classmethod
    def open(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        config, kind = auto.model_class(checkpoint)
        processor = auto.processor(checkpoint, config)
        tokenizer, name = processor.tokenizer, checkpoint.spec.name
        mark, template = auto.template(checkpoint, processor)
        words = conversation(checkpoint, tokenizer, None, *ends(config), template=template)
        model = checkpoint.build(kind, config, placement)
        decoder = auto.text_model(model, checkpoint)
        writer = Writer(name, processor, tokenizer, words["template"], mark, words["separator"])
        with fitting(f"The processor of '{name}' fails at an image", "It is another model's, or damaged."):
            around = writer.around()
        made = cls(model=model, decoder=decoder, writer=writer, around=around, **words)
        if model.device.type != "meta":  # where doctor looks, nothing can be measured
            made._seeing()
        return made

    # ---- facts -------------------------------------------------------------------------------------------------

    @property
    def text(self) -> nn.Module:
        return self.decoder

    @property
    def follows_image(self) -> bool:
        return self.around.grown

    @property
    def backend(self) -> str:
        """What its image processor runs on."""
        return "pil" if type(self.writer.processor.image_processor).__name__.endswith("Pil") else "torchvision"

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

    # ---- the prompt --------------------------------------------------------------------------------------------

    def _seeing(self) -> None:
        """VgError when the model cannot take what its processor makes of an image, shows it in no token of its prompt,
        or reads a question otherwise."""
        with (
            torch.inference_mode(),
            fitting(
                f"'{self.spec.name}' cannot take what its processor makes of an image",
                "The processor is another model's, or this class of transformers works in a way of its own.",
            ),
        ):
            changing = stripes.columns(self.first_states, *SMALL)
        if not len(changing):
            raise VgError(
                f"No token of the prompt of '{self.spec.name}' changes with the image.",
                "It takes its image beside the text (cross-attention), where vgtool reads no map.",
            )
        if self._put(SAMPLE).tail != self.around.trail:
            raise VgError(
                f"The tokenizer of '{self.spec.name}' reads a question otherwise than its processor does.",
                "vgtool cannot rebuild the prompt for another question; use another model.",
            )

    def processed(self, text: str, images: Sequence[Image.Image]) -> dict[str, Any]:
        return self.writer(text, images)

    def rephrased(self, ask: str, prompt: str | None = None) -> Self:
        if prompt is not None:
            raise VgError(f"'{self.spec.name}' is asked through its own processor.", "Leave prompt out of its boxes.")
        made = super().rephrased(ask)
        lead, _, trail = ask.partition(QUESTION)
        around = self.around
        made.around = replace(around, before=around.before + lead, after=trail + around.after)
        return made

    def beside(self) -> Self:
        made = super().beside()
        made.writer = replace(self.writer, separator=made.separator)
        return made

    def prompt(self, text: str, images: int = 1) -> Prompt:
        return self._put(self.wording(text))

    def _put(self, text: str) -> Prompt:
        """The prompt of a text as it stands."""
        if IMAGE in text or self.around.special & set(self.tokenizer(text, add_special_tokens=False).input_ids):
            raise SampleError("placeholder_in_question", "the question holds a token that stands for an image")
        around = self.around
        lead = around.anchor + around.before
        encoded = self.tokenizer(lead + text + around.after, add_special_tokens=False, return_offsets_mapping=True)
        start, stop = covered([tuple(span) for span in encoded.offset_mapping], len(lead), len(lead) + len(text))
        for token in encoded.input_ids[start:stop]:
            if token in self.marks:
                raise refused(self.tokenizer.convert_ids_to_tokens(token))
        return Prompt(around.lead, tuple(encoded.input_ids[1:]), (max(start - 1, 0), max(stop - 1, 0)))

    def spoken(self, text: str) -> set[int]:
        return set(self._prepared([Image.new("RGB", SMALL)])["input_ids"][0].tolist())

    # ---- images ------------------------------------------------------------------------------------------------

    def prepare(self, image: Image.Image) -> Vision:
        size = image.size
        with self.lock:  # a tokenizer is not to be used by two threads, nor the model
            out = self._prepared([image])
            span, kinds = self._inner(out), per_token(out)
            shape = self.settled.get(size) or shapes.read(self, size, len(span))
            if shape is None:
                shape = self._measured(size)
                shapes.write(self, size, len(span), shape)
            self.settled[size] = shape
        start = len(self.around.lead)
        return NativeVision(
            self._tensors(out),
            shape.geometry(*size),
            overview=len(shape.overview),
            image=image,
            span=tuple(span),
            kinds={name: tuple(values[start : start + len(span)]) for name, values in kinds.items()},
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

    def _inner(self, out: Mapping[str, Any]) -> list[int]:
        """The ids of a prompt's images. SampleError when they change the words around them."""
        inner = self.around.inner(out["input_ids"][0].tolist())
        if inner is None:
            raise SampleError("grid_mismatch", "the processor writes other words around this image")
        return inner

    def _tensors(self, out: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: value
            for name, value in out.items()
            if name not in ("input_ids", "attention_mask") and name not in self.around.kinds
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
        plain = self.around.kinds
        kinds = {name: [kind] * len(head) for name, kind in plain.items()}
        tensors, between = self._several(visions)
        for index, vision in enumerate(visions):
            assert isinstance(vision, NativeVision) and vision.shape is not None
            if index:
                ids += between
                reach += len(between)
                kinds = {name: [*kind, *[plain[name]] * len(between)] for name, kind in kinds.items()}
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
                kwargs[name] = torch.tensor([[*kind, *[plain[name]] * len(tail)]], device=self.device)
        return Inputs(kwargs, len(ids), tuple(columns), tuple(overview), reach + len(tail))

    def _several(self, visions: Sequence[Vision]) -> tuple[dict[str, Any], tuple[int, ...]]:
        """The pixels of a prompt's images as the processor prepares them together, and the ids between two."""
        if len(visions) < 2:
            return (self.placed(visions[0]) if visions else {}), ()
        some = [vision for vision in visions if isinstance(vision, NativeVision) and vision.image is not None]
        with self.lock:
            out = self._prepared([vision.image for vision in some if vision.image is not None])
        inner = self._inner(out)
        between = separating(inner, [vision.span for vision in some])
        if between is None:
            raise SampleError("several_images", "the processor prepares an image otherwise beside another")
        return {name: self._to(value) for name, value in self._tensors(out).items()}, between

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
        return self._entering(self.processed(SAMPLE, [image]))[0]

    def _entering(self, out: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        return entering(self.model, self.decoder, {name: self._to(value) for name, value in out.items()})

    def reach(self, image: Image.Image) -> int:
        """How many rope positions an image's span takes; notes how many axes there are."""
        out = self.processed(SAMPLE, [image])
        _, positions = self._entering(out)
        start, length = len(self.around.lead), out["input_ids"].shape[1]
        stop = length - len(self.around.trail)
        if positions is None:
            return stop - start
        self.axes = positions.shape[0] if positions.dim() == 3 else 0
        after = positions[..., stop] if self.around.trail else positions.max() + 1
        return int(after.max()) - start
