"""Tiny random checkpoints in the layouts their models are published in. Built by code, nothing downloaded.

Each writer builds a model natively (the twin), renames its weights to the published names by a table of its own, and
writes the files of the published repository around them: names, config fields, tokenizer kind.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from .files import COMMIT, Published, in_cache, published, randomised, save, text_fields, write
from .internvl import INTERN_CHAT, internvl3, medrega, vila
from .llava import (
    CHAT,
    huatuo_7b,
    huatuo_34b,
    huatuo_bio,
    llava_hf,
    llava_med,
    llava_original,
    llava_tri,
    tiny_llava,
)
from .qwen_gemma import GEMMA_CHAT, medgemma, qwen
from .tokens import QWEN_MARKS, byte_level, converted, sentence_piece

__all__ = [
    "CHAT",
    "COMMIT",
    "GEMMA_CHAT",
    "INTERN_CHAT",
    "QWEN_MARKS",
    "WRITERS",
    "Published",
    "byte_level",
    "converted",
    "huatuo_7b",
    "huatuo_34b",
    "in_cache",
    "llava_hf",
    "llava_med",
    "llava_original",
    "llava_tri",
    "medrega",
    "published",
    "qwen",
    "qwen2",
    "qwen25",
    "randomised",
    "save",
    "sentence_piece",
    "text_fields",
    "tiny_llava",
    "vila",
    "write",
]

vila_8b, vila_13b = partial(vila, sentence=False), partial(vila, sentence=True)
qwen2, qwen25, qwen3 = (partial(qwen, kind=kind) for kind in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl"))
WRITERS: dict[str, Callable[[Path], Published]] = {
    "huatuogpt-vision-7b": huatuo_7b,
    "huatuogpt-vision-34b": huatuo_34b,
    "huatuogpt-v-bio": huatuo_bio,
    "llava-med": llava_med,
    "llava-tri": llava_tri,
    "vila-m3-8b": vila_8b,
    "vila-m3-13b": vila_13b,
    "medrega": medrega,
    "llava-1.5-7b": llava_hf,
    "llava-1.5-7b-original": llava_original,
    "qwen2.5-vl-7b": qwen25,
    "qwen2.5-vl-3b-vicrop": qwen25,
    "lingshu-7b": qwen25,
    "qwen3-vl-8b": qwen3,
    "internvl3-8b": internvl3,
    "medgemma-4b": medgemma,
    "aloe-vision-7b": qwen2,
    **dict.fromkeys(("medvlm-r1", "med-r1"), qwen2),
    **dict.fromkeys(
        ("lingshu-32b", "huatuogpt-vision-7b-qwen2.5vl", "qoq-med-7b", "qoq-med-32b", "medvlthinker-7b"), qwen25
    ),
    **dict.fromkeys(("medmo-4b", "medmo-8b", "healthgpt-pro-4b", "healthgpt-pro-8b"), qwen3),
    **dict.fromkeys(("medgemma-1.5-4b", "medgemma-27b"), medgemma),
}
"""Registry entry -> writer of a tiny checkpoint in its published layout."""
