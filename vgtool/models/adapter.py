"""What vgtool needs to know of a multimodal model, and what every family shares.

An adapter's one honest duty: given images and a text, say which token ids surround the images, what goes into the
forward pass, at which columns the image tokens stand, and the geometry that laid them over the image. Everything in
columns is listed in image-space row-major order, so a column-major model (VILA-M3, MedRegA) needs no care elsewhere.
A family subclasses `Adapter` and overrides what differs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from vgtool.errors import SampleError
from vgtool.images import Alpha
from vgtool.models.checkpoint import Checkpoint, Placement
from vgtool.models.inputs import Batch, Inputs, Vision
from vgtool.models.prompts import Prompts

PLAIN = (DynamicLayer, DynamicSlidingWindowLayer)
"""Cache layers that hold keys and values and nothing else."""


@dataclass(kw_only=True)
class Adapter(Prompts):
    """One loaded model of one family. Subclasses override `open`, `prepare`, and what else differs."""

    model: Any
    """A transformers *ForConditionalGeneration, in eval mode."""
    revision: str = "local"
    """Resolved commit, or a digest of a local checkpoint."""
    eos: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    """Texts that end an answer, beside the eos ids."""
    min_new_tokens: int = 0
    """Tokens that an answer has at least: what the original asks of `generate`."""
    held: frozenset[int] = frozenset()
    """Of `eos`, the ids that no answer takes before that: what `generate` is told of, not the tokens of `stop`."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """What the checkpoint's generation_config asks beyond ids; of it, greedy decoding follows repetition_penalty."""
    without: Mapping[int, str] = field(default_factory=dict)
    """Text layers that have no softmax attention, by their kind (`linear_attention`, `conv`); known once the engine is
    attached. They have no map and cannot be edited."""

    embeds: ClassVar[bool] = True
    """True: `inputs` takes an image as `features` has it. False: the model computes them from pixels as it goes."""
    alpha: ClassVar[Alpha] = "white"
    """What becomes of a transparent picture: laid over white, or its alpha dropped as the original's code drops it."""
    penalises_prompt: ClassVar[bool] = True
    """False: the published code generates from embeddings alone, so a repetition penalty never sees the prompt."""
    settings: ClassVar[frozenset[str]] = frozenset({
        "stop", "eos", "separator", "several", "numbered", "bos", "tokenizer", "strip", "delete", "reserved",
        "min_new_tokens",
    })  # fmt: skip
    """What the `options` of a registry entry may hold for this family."""
    renames: ClassVar[Mapping[str, str]] = {}
    """Published weight name (regex) -> native name, in order; empty for native layouts."""

    @classmethod
    def open(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Load a checkpoint of this family."""
        raise NotImplementedError

    # ---- facts -------------------------------------------------------------------------------------------------

    @property
    def text(self) -> nn.Module:
        """The text model: has `.layers`, and each layer's attention goes through AttentionInterface."""
        return self.model.model.language_model

    @property
    def layers(self) -> int:
        return len(self.text.layers)  # type: ignore[arg-type]

    @property
    def heads(self) -> int:
        return self.model.config.get_text_config().num_attention_heads

    @property
    def readable(self) -> frozenset[int]:
        """Layers whose attention can be read and edited."""
        return frozenset(range(self.layers)) - self.without.keys()

    @property
    def unshared(self) -> str:
        """Why questions may not be packed behind one prefix; empty where every layer sees the past through keys and
        values alone, in a window or in full."""
        config = self.model.config.get_text_config()
        if self.without:
            return "what its recurrent layers remember would run from one question into the next"
        if "chunked_attention" in (getattr(config, "layer_types", None) or ()):
            return "its attention counts chunks from the start of the prompt"
        if getattr(config, "num_kv_shared_layers", None):
            return "layers take keys from others, which a rerun skips"
        if not all(type(layer) in PLAIN for layer in self._typed().layers):
            return "its cache holds more than keys and values"
        return ""

    @property
    def ungridded(self) -> str:
        """Why the image tokens form no grid over the image; empty where they do."""
        return ""

    @property
    def notes(self) -> list[str]:
        """What a user should know of this model as it was loaded, one sentence each."""
        if not self.without:
            return []
        kinds = ", ".join(dict.fromkeys(self.without.values()))
        layers = ", ".join(map(str, sorted(self.without)))
        around = "no maps, and a knockout leaves them as a path around it"
        return [f"Layers {layers} have no softmax attention ({kinds}): {around}."]

    @property
    def follows_image(self) -> bool:
        """Whether an image goes in at a size of its own, not at the model's."""
        return False

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
        out = self.model.get_image_features(**self.placed(vision))
        pooled = out.pooler_output if hasattr(out, "pooler_output") else out
        return torch.cat(list(pooled), 0) if isinstance(pooled, (list, tuple)) else pooled.reshape(-1, pooled.shape[-1])

    @property
    def one_tower_call(self) -> bool:
        """Whether `features` takes the tensors of several images, one after the other, as it takes those of one."""
        return type(self).features is Adapter.features

    def featured(self, scenes: Sequence[Sequence[Vision]]) -> list[list[Vision]]:
        """The images of several prompts with their features, all through the vision tower in one call where the model
        takes a batch of them as it takes one."""
        visions = [vision for scene in scenes for vision in scene]
        if not self.one_tower_call or len({vision.form for vision in visions}) != 1:
            return [[replace(vision, features=self.features(vision)) for vision in scene] for scene in scenes]
        tensors = {name: torch.cat([one.tensors[name] for one in visions]) for name in visions[0].tensors}
        made = iter(self.features(replace(visions[0], tensors=tensors)).chunk(len(visions)))
        return [[replace(vision, features=next(made)) for vision in scene] for scene in scenes]

    def placed(self, vision: Vision) -> dict[str, Tensor]:
        """The vision inputs on the model's device, floats in the model's dtype."""
        return {
            name: value.to(self.device, self.dtype if value.is_floating_point() else None)
            for name, value in vision.tensors.items()
        }

    # ---- text --------------------------------------------------------------------------------------------------

    @property
    def image_token(self) -> int | None:
        """The id that stands for an image token in this model's prompts, where it has one."""
        return getattr(self.model.config, "image_token_id", None) if self.placeholder else None

    def spoken(self, text: str) -> set[int]:
        """Ids that stand in a prompt about an image and go through the embeddings."""
        prompt, token = self.prompt(text), self.image_token
        return {*prompt.head, *prompt.tail} | (set() if type(self).embeds or token is None else {token})

    # ---- forward inputs ----------------------------------------------------------------------------------------

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Input embeddings [1, len(ids), hidden]."""
        return self.model.get_input_embeddings()(torch.tensor([list(ids)], dtype=torch.long, device=self.device))

    def inputs(self, visions: Sequence[Vision], head: Sequence[int], tail: Sequence[int]) -> Inputs:
        """The forward pass of head + images + tail, as input embeddings (no placeholder id is ever needed)."""
        return self._embedded([visions], head, tail)

    def _embedded(self, scenes: Sequence[Sequence[Vision]], head: Sequence[int], tail: Sequence[int]) -> Inputs:
        """As `inputs`, of several prompts whose images are of one form: a line each."""

        def text(ids: Sequence[int]) -> Tensor:
            return self.embed(ids).expand(len(scenes), -1, -1)

        parts, columns, overview, at = [text(head)], [], [], len(head)
        for index, visions in enumerate(zip(*scenes, strict=True)):
            if index:
                parts.append(text(self.between(index + 1)))
                at += parts[-1].shape[1]
            features = [self.features(one) if one.features is None else one.features for one in visions]
            for found, vision in zip(features, visions, strict=True):
                if len(found) != vision.tokens:
                    raise SampleError("grid_mismatch", f"{len(found)} image tokens for a grid of {vision.tokens}")
            parts.append(torch.stack(features).to(parts[0]))
            grid, extra = self.places(visions[0], at)
            columns.append(grid)
            overview.append(extra)
            at += visions[0].tokens
        embeds = torch.cat([*parts, text(tail)], 1)
        length = embeds.shape[1]
        positions = self.positions(torch.arange(length, device=self.device).expand(len(scenes), -1))
        kwargs = {"inputs_embeds": embeds, "position_ids": positions}
        return Inputs(kwargs, length, tuple(columns), tuple(overview), length)

    def together(self, scenes: Sequence[Sequence[Vision]], head: Sequence[int]) -> Batch:
        """The forward pass of several prompts in one batch: one head, each its own images, all of one form."""
        if type(self).embeds and any(scenes):
            scenes = self.featured(scenes)
        if type(self).inputs is Adapter.inputs:
            one = self._embedded(scenes, head, ())
            return Batch(one.kwargs, one.length, one.columns, (one.next_position,) * len(scenes), one.overview)
        each = [self.inputs(visions, head, ()) for visions in scenes]
        kwargs: dict[str, Any] = dict(each[0].kwargs)
        if len(each) > 1:
            for name, value in kwargs.items():
                if isinstance(value, (list, tuple)):
                    kwargs[name] = [item for one in each for item in one.kwargs[name]]
                elif isinstance(value, Tensor):
                    axis = value.dim() - 2 if name == "position_ids" else 0  # [B, L]; [3, B, L] under mrope
                    kwargs[name] = torch.cat([one.kwargs[name] for one in each], axis)
        following = tuple(one.next_position for one in each)
        return Batch(kwargs, each[0].length, each[0].columns, following, each[0].overview)

    def places(self, vision: Vision, at: int) -> tuple[Tensor, Tensor]:
        """Columns of an image that starts at column `at`: its grid tokens in image-space order, its overview's."""
        tokens = vision.geometry.tokens
        order = torch.arange(tokens) if vision.order is None else vision.order
        return (order + at).to(self.device), torch.arange(at + tokens, at + vision.tokens, device=self.device)

    def positions(self, rope: Tensor) -> Tensor:
        """Rope positions of text tokens [B, S] in the shape the model takes ([B, S]; [3, B, S] under mrope)."""
        return rope

    # ---- passes ------------------------------------------------------------------------------------------------

    def cache(self) -> Cache:
        """A new empty cache for one prompt or batch. Layers of keys and values grow by concatenation and keep all,
        since masks count windows; others (recurrent states, indexers) are what the model's config asks for."""
        typed = self._typed()
        if all(type(layer) in PLAIN for layer in typed.layers):
            return DynamicCache()
        typed.layers = [DynamicLayer() if type(layer) in PLAIN else layer for layer in typed.layers]
        return typed

    def _typed(self) -> DynamicCache:
        return DynamicCache(config=self.model.config)

    def continuation(self, ids: Tensor, rope: Tensor) -> dict[str, Any]:
        """What the forward takes for text tokens behind a prefix that is in the cache.

        `ids` [B, S]; `rope` [B, S], the position of each, which restarts for every question of a pack.
        """
        return {"inputs_embeds": self.model.get_input_embeddings()(ids), "position_ids": self.positions(rope)}

    def answered(self, kwargs: Mapping[str, Any], made: int) -> Mapping[str, Any]:
        """Inputs of a whole prompt whose last `made` tokens are an answer, where the model tells them apart."""
        return kwargs

    def forward(self, kwargs: Mapping[str, Any], keep: Sequence[int], cache: Cache | None = None) -> Tensor:
        """One pass; the logits at the rows `keep`, float32 [B, len(keep), vocabulary]. `cache` grows by the pass.

        `kwargs`: of `Inputs` or `continuation`. `keep`: non-negative rows of the pass.
        """
        kept = list(keep)  # a list: on a model over several devices a tensor would be on the wrong one
        out = self.model(**kwargs, past_key_values=cache, use_cache=cache is not None, logits_to_keep=kept)
        logits = out.logits
        if logits.shape[1] != len(kept):  # the model ignores logits_to_keep (VideoLLaMA 3, MiniCPM-V 4.6)
            logits = logits[:, kept]
        return logits.float()


def vision_of(adapter: Adapter, image: Image.Image) -> Vision:
    """An image as `Adapter.prepare` makes it. SampleError `image_too_large` where that wants more memory than there is:
    a strip of 100,000 x 1 pixels is no large picture, and its padded square is one of 30 GB."""
    try:
        return adapter.prepare(image)
    except MemoryError:
        pass
    except RuntimeError as error:  # what torch's allocator of the CPU raises
        if "can't allocate memory" not in str(error):
            raise
    size = f"{image.width} x {image.height}"
    raise SampleError("image_too_large", f"prepared for the model, {size} pixels need more memory than there is")
