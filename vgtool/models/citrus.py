"""Citrus-V's language side: a Qwen2.5-VL saved inside a model that can also segment (SAM 2).

Its weights stand under `mllm.`; the segmentation model and the projector before it are left out by name. What they
would draw from a [SEG] token is no part of an answer.
"""

from dataclasses import dataclass
from typing import Any, Self

from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from vgtool.models.chat import conversation
from vgtool.models.checkpoint import Checkpoint, Placement
from vgtool.models.qwen import Qwen25, processor_of

SIDE = "mllm."
LEFT_OUT = ("grounding_encoder.", "seg_projector.")
"""Parts that segment."""
FOREIGN = frozenset({
    "architectures", "auto_map", "model_type", "seg_token_idx", "grounding_encoder_config", "loss_mask_config",
    "loss_dice_config", "frozen_sam2_decoder", "frozen_sam2_image_encoder", "frozen_sam2_prompt_encoder",
    "use_seg_loss", "use_res_seg_projector",
})  # fmt: skip
"""Fields of config.json that are not the language side's."""
NESTED = frozenset({"text_config", "vision_config", "tie_word_embeddings"})


@dataclass(kw_only=True)
class Citrus(Qwen25):
    """CitrusV, as its repository saves it."""

    alpha = "drop"
    settings = Qwen25.settings - {"twice"}

    @classmethod
    def open(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        fields = {name: value for name, value in checkpoint.config().items() if name not in FOREIGN}
        if isinstance(fields.get("text_config"), dict):  # the same fields stand beside it, too
            fields = {name: fields[name] for name in fields if name in NESTED or name.endswith("_token_id")}
        config = checkpoint.configured(Qwen2_5_VLConfig, fields)
        processor = processor_of(checkpoint, config)
        tokenizer = checkpoint.tokenizer(native=False)
        words = conversation(checkpoint, tokenizer, config.image_token_id, fields.get("eos_token_id"), strip="none")
        tensors: dict[str, Any] = {
            name.removeprefix(SIDE): tensor
            for name, tensor in checkpoint.tensors().items()
            if not name.startswith(LEFT_OUT)
        }
        model = checkpoint.build(Qwen2_5_VLForConditionalGeneration, config, placement, tensors=tensors)
        return cls(model=model, image_processor=processor, **words)
