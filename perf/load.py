"""What loading costs: peak memory against the size of the weights, and time, for a layout of each kind.

    python perf/load.py [--megabytes 1000 --layouts native original fused bin --dtype float32]
Writes a random checkpoint of about that size (float32) and loads it in a process of its own. `anonymous` is memory the
process owns, sampled every 5 ms: a second copy of the weights would show there. `resident` also counts pages of the
mapped files, which the system drops when it needs them. Both are above an identical process that loads a tiny one, as
a part of the checkpoint's size; another --dtype than the file's has to copy.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

LAYOUTS = ("native", "original", "fused", "bin")
"""llava-hf, LLaVA's own in safetensors, InternVL chat with fused qkv, LLaVA's own as .bin."""


def sizes(megabytes: int) -> dict[str, int]:
    """A Llama of about that size in float32, vision tower aside."""
    width = max(64, round(math.sqrt(megabytes * 1e6 / 4 / 8 / 12) / 64) * 64)
    return {"hidden_size": width, "intermediate_size": 8 * width // 3, "num_attention_heads": width // 64}


def write(folder: Path, layout: str, megabytes: int) -> int:
    """A checkpoint of a layout; bytes of its weights."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPVisionConfig,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    def put(name: str, value: dict[str, Any]) -> None:
        (folder / name).write_text(json.dumps(value))

    text = {**sizes(megabytes), "num_hidden_layers": 8, "vocab_size": 4096}
    text["num_key_value_heads"] = text["num_attention_heads"]
    symbols = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(symbols, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<image>", "<IMG_CONTEXT>"])
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    put("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    vision = {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.device("meta"):
        if layout == "fused":
            wide = sizes(megabytes)  # the fused weights are the tower's, so that is where the bytes go
            tower = {**wide, "num_hidden_layers": 8, "use_qk_norm": True, "norm_type": "rms_norm", "image_size": 112}
            text |= {"hidden_size": 128, "intermediate_size": 128, "num_attention_heads": 2, "num_key_value_heads": 2}
            config: Any = InternVLConfig(vision_config=InternVLVisionConfig(**tower), text_config=LlamaConfig(**text))
            config.tie_word_embeddings = False
            model: Any = InternVLForConditionalGeneration(config)
        else:
            clip = CLIPVisionConfig(**vision, image_size=84, patch_size=14)
            config = LlavaConfig(vision_config=clip, text_config=LlamaConfig(**text), image_token_index=256)
            model = LlavaForConditionalGeneration(config)
    tensors = {name: torch.randn(tensor.shape) for name, tensor in model.state_dict().items()}
    if layout == "native":
        config.save_pretrained(folder)
        square = {"crop_size": {"height": 84, "width": 84}, "size": {"shortest_edge": 84}}
        put("preprocessor_config.json", {"image_processor_type": "CLIPImageProcessor", **square})
    elif layout == "fused":
        chat = {"model_type": "internvl_chat", "force_image_size": 112, "template": "Hermes-2", "select_layer": -1}
        put("config.json", {**chat, "llm_config": {"model_type": "llama", **text}, "vision_config": tower})
        tensors = chat_names(tensors)
    else:
        own = {"model_type": "llava_llama", "image_aspect_ratio": "pad", "mm_vision_select_layer": -2}
        put("config.json", {**own, **text})
        names = (
            ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
            ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
            ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
            ("model.language_model.", "model."),
        )
        for native, published in names:
            tensors = {name.replace(native, published): value for name, value in tensors.items()}
    if layout == "bin":
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file(tensors, folder / "model.safetensors")
    return sum(value.numel() * value.element_size() for value in tensors.values())


def chat_names(tensors: dict[str, Any]) -> dict[str, Any]:
    """InternVL's own weight names, q, k and v fused."""
    import torch

    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from checkpoints import INTERN_CHAT

    for native, published in INTERN_CHAT:
        tensors = {name.replace(native, published): value for name, value in tensors.items()}
    for name in [name for name in tensors if name.endswith("attention.q_proj.weight")]:
        block = name.removesuffix("attention.q_proj.weight")
        parts = [tensors.pop(f"{block}attention.{one}_proj.weight") for one in "qkv"]
        tensors[f"{block}attn.qkv.weight"] = torch.cat(parts)
    return tensors


def load(folder: Path, layout: str, dtype: str) -> None:
    """Load in this process and print its peaks, in bytes, as JSON."""
    from vgtool.models.load import load as opened
    from vgtool.models.load import resolve

    peaks = {"RssAnon": 0, "VmRSS": 0}
    going = threading.Event()

    def watch() -> None:
        while not going.wait(0.005):
            for line in Path("/proc/self/status").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name in peaks:
                    peaks[name] = max(peaks[name], int(rest.split()[0]) * 1024)

    thread = threading.Thread(target=watch, daemon=True)  # a failed load ends the process
    thread.start()
    own = layout in ("original", "bin")  # whose small vocabulary tells no entry
    spec, _ = resolve("llava-1.5-7b-original" if own else str(folder))
    if layout == "native":
        spec = spec.model_copy(update={"prompt": "<image>{question}"})
    began = time.perf_counter()
    adapter = opened(spec, source=folder, device="cpu", dtype=dtype, offline=True)
    assert float(sum(p.sum() for p in adapter.model.parameters())) != 0  # every page read
    seconds = time.perf_counter() - began
    going.set()
    thread.join()
    print(json.dumps({**peaks, "seconds": seconds}))


def measured(folder: Path, layout: str, dtype: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--load", str(folder), "--layouts", layout, "--dtype", dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--layouts", nargs="+", default=LAYOUTS, choices=LAYOUTS)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.load is not None:
        load(args.load, args.layouts[0], args.dtype)
        return
    for layout in args.layouts:
        with tempfile.TemporaryDirectory() as home:
            size = write(Path(home) / "large", layout, args.megabytes)
            write(Path(home) / "tiny", layout, 1)
            large, tiny = (measured(Path(home) / name, layout, args.dtype) for name in ("large", "tiny"))
        row = {
            "layout": layout,
            "weights_mb": round(size / 1e6),
            "anonymous": round((large["RssAnon"] - tiny["RssAnon"]) / size, 3),
            "resident": round((large["VmRSS"] - tiny["VmRSS"]) / size, 3),
            "seconds": round(large["seconds"], 2),
        }
        print(json.dumps(row) if args.json else row)


if __name__ == "__main__":
    main()
