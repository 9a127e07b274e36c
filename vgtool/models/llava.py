"""LLaVA checkpoints in the native transformers layout (llava-hf and the embedded phantom-vlm).

Geometry follows the checkpoint's own image processor: padded to a square where it pads, centre-cropped where it crops,
squashed otherwise. llava-hf ships a processor that crops although LLaVA-1.5 was trained on padded images; vgtool does
what the checkpoint says and the notes of models.yaml say so.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

from PIL import Image
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

from vgtool.errors import VgError
from vgtool.grounding.geometry import Geometry
from vgtool.models.adapter import Adapter
from vgtool.models.chat import conversation, ends
from vgtool.models.checkpoint import Checkpoint, Placement
from vgtool.models.inputs import Vision
from vgtool.records import Grid

VICUNA = "USER: <image>\n{question} ASSISTANT:"
"""What llava-hf's LLaVA-1.5 was asked in before chat templates were kept with checkpoints."""
NATIVE = "Read it with an entry of your own that says adapter: native, in DIR/models.yaml, and add --registry DIR."


@dataclass(kw_only=True)
class Llava(Adapter):
    """LlavaForConditionalGeneration with any CLIP-like tower and any text model."""

    image_processor: Any
    grid: Grid

    @classmethod
    def open(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        checkpoint.refuse_remote_code("config.json")
        config = checkpoint.configured(LlavaConfig, checkpoint.config(native=True))
        processor = checkpoint.image_processor()
        layout(processor, 64, 64, Grid(1, 1))  # refuses settings this adapter does not know, before weights are read
        _fits(config, processor, checkpoint)
        tokenizer = checkpoint.tokenizer()
        silent = checkpoint.spec.prompt is None and not (checkpoint.chat_template() or tokenizer.chat_template)
        silent = silent and config.get_text_config().model_type == "llama"
        if silent:
            note = "It has no chat template; LLaVA-1.5's own words (Vicuna's) are used."
            spec = checkpoint.spec.model_copy(update={"notes": [*checkpoint.spec.notes, note]})
            checkpoint = replace(checkpoint, spec=spec)
        words = conversation(
            checkpoint, tokenizer, config.image_token_index, *ends(config), prompt=VICUNA if silent else None
        )
        return cls(
            model=checkpoint.build(LlavaForConditionalGeneration, config, placement),
            image_processor=processor,
            grid=_grid(config, processor),
            **words,
        )

    def prepare(self, image: Image.Image) -> Vision:
        values = self.image_processor(image, input_data_format="channels_last", return_tensors="pt").pixel_values
        return Vision({"pixel_values": values}, layout(self.image_processor, image.width, image.height, self.grid))


def _fits(config: Any, processor: Any, checkpoint: Checkpoint) -> None:
    """VgError where the pixels are not as many as the tower has places for."""
    side, (rows, cols) = getattr(config.vision_config, "image_size", None), canvas(processor)
    if isinstance(side, int) and (rows, cols) != (side, side):
        raise VgError(
            f"The image processor of '{checkpoint.spec.name}' makes {rows} x {cols} pixels, and its vision tower takes "
            f"{side} x {side}.",
            "Copy preprocessor_config.json from the original checkpoint.",
        )


def _grid(config: Any, processor: Any) -> Grid:
    height, width = canvas(processor)
    patch = config.vision_config.patch_size
    if config.vision_feature_select_strategy == "full" and isinstance(config.vision_config, CLIPVisionConfig):
        raise VgError(
            "vision_feature_select_strategy 'full' keeps CLIP's class token, which stands nowhere in the image.",
            NATIVE,
        )
    return Grid(height // patch, width // patch)


def canvas(processor: Any) -> tuple[int, int]:
    """(height, width) of the pixels that reach the vision tower."""
    if getattr(processor, "do_center_crop", False):
        return processor.crop_size.height, processor.crop_size.width
    size = processor.size
    return (size.height, size.width) if size.height else (size.shortest_edge, size.shortest_edge)


def pads(processor: Any) -> bool:
    """Whether it pads to a square first; CLIP's processor has a `do_pad` that means something else."""
    return bool(getattr(processor, "do_pad", False)) and hasattr(processor, "pad_to_square")


def layout(processor: Any, width: int, height: int, grid: Grid) -> Geometry:
    """Where an image lands under a LLaVA or CLIP image processor. VgError for settings that are none of the three."""
    size, crops = processor.size, bool(processor.do_center_crop)
    rows, cols = canvas(processor)
    shortest = size.shortest_edge
    if not processor.do_resize or rows != cols or size.longest_edge:
        raise VgError("The checkpoint's image processor does not make one square image.", NATIVE)
    if pads(processor) and (shortest or size.height) == rows:
        return Geometry.pad(width, height, rows, grid)
    if not pads(processor) and crops and shortest and shortest >= rows:
        return Geometry.crop(width, height, shortest, rows, grid)
    if not pads(processor) and size.height == rows and size.width == cols:
        return Geometry.squash(width, height, cols, rows, grid)
    raise VgError(
        f"The checkpoint's image processor resizes to {shortest or size.height} and keeps {rows} pixels, which vgtool "
        "cannot place boxes under.",
        NATIVE,
    )
