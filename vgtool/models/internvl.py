"""InternVL in the native layout (the -hf repositories): tiles of 448 x 448 pixels with 16 x 16 tokens (tiles.py)."""

from dataclasses import dataclass
from typing import Any, Self

from PIL import Image
from transformers import InternVLConfig, InternVLForConditionalGeneration

from vgtool.errors import SampleError, VgError
from vgtool.models import tiles
from vgtool.models.adapter import Adapter
from vgtool.models.chat import conversation, ends
from vgtool.models.checkpoint import Checkpoint, Placement
from vgtool.models.inputs import Vision
from vgtool.records import Grid

OPEN, CLOSE = "<img>", "</img>"


@dataclass(kw_only=True)
class InternVL(Adapter):
    """InternVLForConditionalGeneration in the native layout."""

    image_processor: Any
    tile: Grid
    """Tokens of one tile."""
    tiles: bool
    """False: one squash of the whole image, whatever its shape."""

    settings = Adapter.settings | {"tiles"}

    @property
    def follows_image(self) -> bool:
        return self.tiles

    @classmethod
    def open(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        checkpoint.refuse_remote_code("config.json")
        config = checkpoint.configured(InternVLConfig, checkpoint.config(native=True))
        processor = checkpoint.image_processor()
        side = config.vision_config.image_size[0]
        if (processor.size.height, processor.size.width) != (side, side) or not processor.do_resize:
            raise VgError(
                f"The image processor of '{checkpoint.spec.name}' does not make tiles of {side} x {side}.",
                "Copy preprocessor_config.json from the original checkpoint.",
            )
        words = conversation(
            checkpoint,
            checkpoint.tokenizer(),
            config.image_token_id,
            *ends(config),
            wrap=(OPEN, CLOSE),
        )
        return cls(
            model=checkpoint.build(InternVLForConditionalGeneration, config, placement),
            image_processor=processor,
            tile=token_grid(config),
            tiles=bool(checkpoint.spec.options.get("tiles", True)),
            **words,
        )

    def prepare(self, image: Image.Image) -> Vision:
        processor = self.image_processor
        out = processor(
            image, crop_to_patches=self.tiles, input_data_format="channels_last", return_tensors="pt"
        ).pixel_values
        across, down, side = 1, 1, processor.size.height
        if self.tiles:
            across, down = tiles.arrangement(image, side, processor.min_patches, processor.max_patches)
        thumbnail = across * down > 1
        if len(out) != across * down + thumbnail:
            raise SampleError("grid_mismatch", f"{len(out)} tiles where {across} x {down} were expected")
        geometry, order = tiles.laid(image, side, self.tile, across, down)
        return Vision({"pixel_values": out}, geometry, order, self.tile.tokens if thumbnail else 0)


def token_grid(config: Any) -> Grid:
    """Tokens of one tile."""
    rows, cols = (
        int(side // patch * config.downsample_ratio)
        for side, patch in zip(config.vision_config.image_size, config.vision_config.patch_size, strict=True)
    )
    return Grid(rows, cols)
