"""What measuring where image tokens stand costs, beside loading and checking a model of 7 billion parameters.

    python perf/geometry.py [--layers 1 5] [--of 32]
A LLaVA-1.5-7B-shaped checkpoint, random, in float32 on the CPU: the whole tower (CLIP ViT-L/14 at 336 px, 576 tokens)
and the first text layers of 32, so that it fits. Loading and the self-check, which every model has, are timed at two
numbers of text layers, each the least of three after one that warms up, and drawn out to 32 in a straight line; a pass
of the tower is timed as the measurement makes it, and counted. Files are in the system's cache, so that loading is the
least it can be and the share the most. Nothing is measured for a second image of a shape. Seconds are of the processor
(user and system), since wall time depends on what else runs.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

TOWER = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
         "image_size": 336, "patch_size": 14, "projection_dim": 768}  # fmt: skip
TEXT = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_key_value_heads": 32,
        "head_dim": 128}  # fmt: skip
SIZE = (1024, 768)


def main() -> None:
    """Print seconds and shares as one JSON object."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--layers", type=int, nargs=2, default=(1, 5))
    parse.add_argument("--of", type=int, default=32)
    asked = parse.parse_args()
    warnings.filterwarnings("ignore")
    few, more = (one(layers) for layers in asked.layers)
    out = {name: _drawn(few[name], more[name], *asked.layers, asked.of) for name in ("load", "check")}
    out |= {"pass": more["pass"], "passes": more["passes"], "measure": more["pass"] * more["passes"]}
    out |= {"second image": more["second"], "share": out["measure"] / (out["load"] + out["check"])}
    print(json.dumps({name: round(value, 3) for name, value in out.items()}))


def one(layers: int) -> dict[str, float]:
    """Seconds of loading, of the self-check and of a tower pass with so many text layers; how many passes."""
    import torch
    from PIL import Image

    from tests import families
    from vgtool.attention.sharing import sessions
    from vgtool.models import stripes
    from vgtool.models.load import load
    from vgtool.registry import ModelSpec

    with tempfile.TemporaryDirectory() as at:
        folder = Path(at) / "model"
        text = {**TEXT, "num_hidden_layers": layers}
        families.write("llava", folder, vision_config=TOWER, text_config=text, image_seq_length=576)
        path = folder / "preprocessor_config.json"
        wide = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
        path.write_text(json.dumps(json.loads(path.read_text()) | wide))
        loads, checks = [], []
        for _ in range(4):
            start = time.process_time()
            hand = load(ModelSpec(name="m", title="m", adapter="llava"), source=folder, device="cpu", offline=True)
            loaded = time.process_time()
            sessions(hand)
            loads.append(loaded - start)
            checks.append(time.process_time() - loaded)
            del hand
        native: Any = load(ModelSpec(name="m", title="m", adapter="native"), source=folder, device="cpu", offline=True)
    counted = list[int]()

    def states(image: Image.Image) -> torch.Tensor:
        counted.append(1)
        return torch.full((2048, 1), float(len(counted)))

    begun = time.process_time()
    with torch.inference_mode(), stripes.alone(native.model, native.text):
        found = stripes.columns(native.first_states, *SIZE)
    seconds = (time.process_time() - begun) / 2
    stripes.measure(states, found, *SIZE)  # counted alone
    native.settled[SIZE] = _settled(found, native)
    begun = time.process_time()
    native.prepare(Image.new("RGB", SIZE))
    return {"load": min(loads[1:]), "check": min(checks[1:]), "pass": seconds, "passes": len(counted) + 3,
            "second": time.process_time() - begun}  # fmt: skip


def _settled(found: Any, native: Any) -> Any:
    from vgtool.models.shapes import Shape

    places = (found - len(native.around.lead)).tolist()
    whole: Any = {"x": [0.0, SIZE[0] / len(found)], "y": [0.0, SIZE[1]], "how": "fit", "error": 0.0, "stripe": 1.0}
    return Shape(1, len(found), places, [], reach=576, axes=0, tiles=1, passes=0, **whole)


def _drawn(few: float, more: float, a: int, b: int, of: int) -> float:
    """A straight line through two numbers of layers, at `of`."""
    return few + (more - few) / (b - a) * (of - a)


if __name__ == "__main__":
    main()
