"""What vgtool needs to know of a multimodal model, and what every family shares.

An adapter's one honest duty: given images and a text, say which token ids surround the images, what goes into the
forward pass, at which columns the image tokens stand, and the geometry that laid them over the image. Everything in
columns is listed in image-space row-major order, so a column-major model (VILA-M3, MedRegA) needs no care elsewhere.
A family subclasses `Adapter` and overrides what differs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from vgtool.errors import SampleError
from vgtool.grounding.geometry import Geometry
from vgtool.registry import ModelSpec

IMAGE = "<image>"
"""Stands for the image in a ModelSpec prompt template; never a token of the user's text."""


@dataclass(frozen=True, slots=True)
class Vision:
    """One image, prepared for one model on the CPU."""

    tensors: Mapping[str, Tensor]
    """Inputs of the vision tower, batch axis first (`pixel_values` [1, 3, H, W], ...)."""
    geometry: Geometry
    order: Tensor | None = None
    """Model token index of each image-space token [T]; None when the model's own order is row-major already."""
    overview: int = 0
    """Extra tokens after the grid's that show the whole image again (a thumbnail tile)."""

    @property
    def tokens(self) -> int:
        """Image tokens in the prompt: the grid's and the overview's."""
        return self.geometry.tokens + self.overview


@dataclass(frozen=True, slots=True)
class Prompt:
    """A chat-formatted text around an image: ids before the first image token, and after the last."""

    head: tuple[int, ...]
    tail: tuple[int, ...]
    question: tuple[int, int] = (0, 0)
    """Where the user's text stands in the tail: [start, stop)."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """One prompt (batch of 1), ready for the model: head, image tokens, tail."""

    kwargs: Mapping[str, Any]
    """Keyword arguments of the model's forward, `position_ids` among them."""
    length: int
    columns: tuple[Tensor, ...]
    """Per image, the columns of its grid tokens in image-space row-major order [T]."""
    overview: tuple[Tensor, ...]
    """Per image, the columns of its overview tokens (often empty)."""
    next_position: int
    """The rope position of the first token that would follow."""


@dataclass
class Adapter:
    """One loaded model of one family. Subclasses override `prepare`, `features`, and what else differs."""

    model: Any
    """A transformers *ForConditionalGeneration, in eval mode."""
    tokenizer: Any
    spec: ModelSpec
    revision: str = "local"
    """Resolved commit, or a digest of a local checkpoint."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer, beside the eos ids."""
    image_processor: Any = None
    eos: frozenset[int] = field(default_factory=frozenset)

    # ---- facts -------------------------------------------------------------------------------------------------

    @property
    def text(self) -> nn.Module:
        """The text model: has `.layers`, and each layer's attention goes through AttentionInterface."""
        return self.model.model.language_model

    @property
    def layers(self) -> int:
        return len(self.text.layers)

    @property
    def heads(self) -> int:
        return self.model.config.get_text_config().num_attention_heads

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.get_input_embeddings().weight.dtype

    # ---- images ------------------------------------------------------------------------------------------------

    def prepare(self, image: Image.Image) -> Vision:
        """An RGB image -> tensors and geometry. CPU only, safe to call from several threads."""
        raise NotImplementedError

    def features(self, vision: Vision) -> Tensor:
        """Projected image features [tokens, hidden] in the model's own token order."""
        out = self.model.get_image_features(
            **{k: v.to(self.device, self.dtype if v.is_floating_point() else None) for k, v in vision.tensors.items()}
        )
        pooled = out.pooler_output if hasattr(out, "pooler_output") else out
        return torch.cat(list(pooled), 0) if isinstance(pooled, (list, tuple)) else pooled.reshape(-1, pooled.shape[-1])

    # ---- text --------------------------------------------------------------------------------------------------

    def chat(self, text: str) -> tuple[str, str]:
        """The chat text before the image and after it, with the user's `text` in place. From the spec's template."""
        template = self.spec.prompt or f"{IMAGE}\n{{question}}"
        head, _, tail = template.partition(IMAGE)
        return head, tail.replace("{question}", text)

    def encode(self, text: str, *, first: bool) -> list[int]:
        """Token ids of a piece of the prompt; `first`: the piece that may carry the tokenizer's BOS.

        Pieces are tokenised apart, as the original repositories do around their image sentinel.
        """
        ids = self.tokenizer(text, add_special_tokens=True).input_ids
        bos = self.tokenizer.bos_token_id
        if not first and bos is not None and ids[:1] == [bos]:
            ids = ids[1:]
        return ids

    @property
    def image_tokens(self) -> frozenset[int]:
        """Ids that stand for an image in this model's prompts; a user's text may not produce one."""
        ids = {
            getattr(self.model.config, "image_token_id", None),
            getattr(self.model.config, "image_token_index", None),
        }
        return frozenset(i for i in ids if i is not None)

    def prompt(self, text: str) -> Prompt:
        """The chat prompt around an image. SampleError when the text holds the image placeholder."""
        if IMAGE in text or set(self.tokenizer(text, add_special_tokens=False).input_ids) & self.image_tokens:
            raise SampleError("placeholder_in_question", "the question holds the model's image placeholder")
        head, tail = self.chat(text)
        return Prompt(tuple(self.encode(head, first=True)), tuple(self.encode(tail, first=False)))

    # ---- forward inputs ----------------------------------------------------------------------------------------

    between: tuple[int, ...] = ()
    """Ids between two images of one prompt."""

    def inputs(self, visions: Sequence[Vision], head: Sequence[int], tail: Sequence[int]) -> Inputs:
        """The forward pass of head + images + tail, as input embeddings (no placeholder id is ever needed)."""
        embed = self.model.get_input_embeddings()
        ids = lambda values: torch.tensor([list(values)], dtype=torch.long, device=self.device)  # noqa: E731
        parts, columns, overview, at = [embed(ids(head))], [], [], len(head)
        for index, vision in enumerate(visions):
            if index:
                parts.append(embed(ids(self.between)))
                at += len(self.between)
            features = self.features(vision)
            if len(features) != vision.tokens:
                raise SampleError("grid_mismatch", f"{len(features)} image tokens for a grid of {vision.tokens}")
            parts.append(features[None].to(parts[0].dtype))
            order = torch.arange(vision.geometry.tokens) if vision.order is None else vision.order
            columns.append((order + at).to(self.device))
            overview.append(torch.arange(at + vision.geometry.tokens, at + vision.tokens, device=self.device))
            at += vision.tokens
        parts.append(embed(ids(tail)))
        embeds = torch.cat(parts, 1)
        positions = self.positions(torch.arange(embeds.shape[1], device=self.device))
        kwargs = {"inputs_embeds": embeds, "position_ids": positions}
        return Inputs(kwargs, embeds.shape[1], tuple(columns), tuple(overview), embeds.shape[1])

    def positions(self, text_positions: Tensor) -> Tensor:
        """Rope positions of text tokens [L] in the shape the model takes ([1, L]; [3, 1, L] under mrope)."""
        return text_positions[None]
