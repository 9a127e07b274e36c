"""Every image-text type of the installed transformers through vgtool, each as a tiny random checkpoint.

    python perf/families.py [TYPE ...] [--json FILE] [--markdown FILE]
Goes over the mapping of AutoModelForImageTextToText, builds what tests/families.yaml knows how to build, and says of
each: refused how, or how far attention rows and logits are from the untouched model's on two image shapes, whether
questions share a prefix, what grid was found and its worst edge error, and whether probe, heads, refine and report run
end to end. A family whose image processor is written for torchvision alone needs it installed. `rows` is the largest
difference of an attention weight, `logits` of a logit over the largest, with two tokens decoded by transformers' own
generate; `edge` is in stripes. What it finds is kept family by family, and a rerun goes on from there.
"""

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

WIDE, TALL = (120, 90), (75, 180)
QUESTION = "Is there a mass? Answer the question using a single word or phrase."
EXACT = 1e-5
"""Of an attention weight, in float32."""
LOGITS = 2e-5
"""Of the largest logit, in float32."""


def main() -> None:
    """Print a line a type, then the table."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("types", nargs="*")
    parse.add_argument("--json", type=Path, help="keep what is found here, and go on from it")
    parse.add_argument("--exact", action="store_true", help="leave the commands out")
    parse.add_argument("--markdown", type=Path)
    asked = parse.parse_args()
    warnings.filterwarnings("ignore")
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN

    from tests import families

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    recipes = {name: dict(recipe).get("type", name) for name, recipe in families.known().items()}
    names = asked.types or [*recipes, *sorted(set(KNOWN) - set(recipes.values()))]
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        found = _kept(asked.json) or found  # others may run beside this one
        if name in found:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found[name] = one(name, Path(folder), asked.exact) if name in recipes else {"built": "no recipe"}
        print(name, json.dumps(found[name]), flush=True)
        found = _kept(asked.json) | found
        if asked.json:
            asked.json.write_text(json.dumps(found, indent=1) + "\n")
    table = markdown(found)
    if asked.markdown:
        asked.markdown.write_text(table)
    print(table)


def _kept(path: Path | None) -> dict[str, dict[str, Any]]:
    return json.loads(path.read_text()) if path and path.exists() else {}


def one(name: str, folder: Path, exactly: bool) -> dict[str, Any]:
    """What came of one family; `exactly`: without the commands."""
    from tests import families
    from vgtool.errors import SampleError, VgError

    at = folder / name
    try:
        families.write(name, at)
    except Exception as error:
        return {"built": f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"}
    try:
        return {"built": ""} | exact(name, at) | ({} if exactly else commands(at, folder))
    except (VgError, SampleError) as error:
        return {"built": "", "refused": str(error)}
    except Exception as error:  # what no user may see: it is counted, and the others go on
        return {"built": "", "fault": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def exact(name: str, folder: Path) -> dict[str, Any]:
    """Rows, logits and geometry against the model as transformers loads it."""
    import numpy as np
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText

    from vgtool.attention.asks import Ask
    from vgtool.attention.sharing import sessions
    from vgtool.models.load import load
    from vgtool.registry import ModelSpec

    spec = ModelSpec(name=name, title=name, adapter="native")
    adapter: Any = load(spec, source=folder, device="cpu", offline=True)
    opened = sessions(adapter)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    rows = logits = 0.0
    grids = []
    for size in (WIDE, TALL):
        image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
        inputs = {at: one.float() if torch.is_tensor(one) and one.is_floating_point() else one
                  for at, one in adapter.processed(QUESTION, [image]).items()}  # fmt: skip
        vision, prompt = adapter.prepare(image), adapter.prompt(QUESTION)
        with torch.inference_mode():
            plain = model(**inputs, output_attentions=True, use_cache=False)
            answer = model.generate(**inputs, max_new_tokens=3, do_sample=False, eos_token_id=None, pad_token_id=0,
                                    output_logits=True, return_dict_in_generate=True)  # fmt: skip
            columns = adapter.inputs([vision], prompt.head, prompt.tail).columns[0]
            session = opened.open([[vision]], prompt.head)
            asked = session.ask([Ask(prompt.tail), Ask(prompt.tail[:-2])], adapter.readable)
            steps = session.state([asked])
            made = answer.sequences[0, -3:]
            got = [asked.logits[0], *(steps.step([0], made[at : at + 1])[0] for at in range(2))]
        weights = [one for one in plain.attentions if one is not None]
        layers = [*range(adapter.layers)] if len(weights) == adapter.layers else sorted(adapter.readable)
        seen = dict(zip(layers, weights, strict=True))
        here = max(_off(asked.maps[at][0], seen[at][0, :, -1][:, columns]) for at in adapter.readable)
        rows = max(rows, here)
        logits = max(logits, *(_off(a, b[0]) / float(b.abs().max()) for a, b in zip(got, answer.logits, strict=True)))
        grids.append(vision.shape)
    return {
        "rows": rows,
        "logits": logits,
        "session": "shared" if opened.shared else "whole",
        "layers": f"{len(adapter.readable)} of {adapter.layers}",
        "backend": adapter.backend,
        "grid": [f"{one.rows} x {one.cols} + {len(one.overview)}" if not one.why else "none" for one in grids],
        "how": [one.how for one in grids],
        "why": next((one.why for one in grids if one.why), ""),
        "error": max(one.error for one in grids),
        "stripes": max(one.error / one.stripe for one in grids),
        "passes": [one.passes for one in grids],
    }


def _off(found: Any, expected: Any) -> float:
    return float((found.double() - expected.double()).abs().max())


def commands(model: Path, folder: Path) -> dict[str, Any]:
    """The commands on it, each run as a user runs it: which ended as they should."""
    from typer.testing import CliRunner

    from vgtool.commands import app

    probe, refine, heads = folder / "probe", folder / "refine", folder / "heads.json"
    method = f"vgrefine:layers={_layer(model)}"
    lines = {
        "probe": ["probe", "--model", str(model), "--benchmark", "scenes", "--limit", "3", "--out", str(probe)],
        "heads": ["heads", str(probe), "-o", str(heads)],
        "refine": ["refine", "--model", str(model), "--benchmark", "phantom", "--limit", "2", "--out", str(refine),
                   "--heads", str(heads), "--method", method],
        "report": ["report", str(probe), str(refine), "--out", str(folder / "report")],
    }  # fmt: skip
    out = {}
    for name, line in lines.items():
        done = CliRunner().invoke(app, line)
        ended = done.exception is None or isinstance(done.exception, SystemExit)  # which the output explains
        said = done.output[-300:] if ended else f"{type(done.exception).__name__}: {done.exception}"
        out[name] = "yes" if done.exit_code == 0 else " ".join(said.split())[:300]
    return {"commands": out}


def _layer(model: Path) -> int:
    """A layer with attention, by the config."""
    import transformers

    kinds = getattr(transformers.AutoConfig.from_pretrained(model).get_text_config(), "layer_types", None) or [""]
    return max((at for at, kind in enumerate(kinds) if "attention" in kind and "linear" not in kind), default=1)


def markdown(found: dict[str, dict[str, Any]]) -> str:
    """The table of docs/models.md: counts, families that run, families that are refused, types not built."""
    runs = {name: one for name, one in sorted(found.items()) if "rows" in one}
    whole = [name for name, one in runs.items() if _right(one) and set(one.get("commands", {}).values()) == {"yes"}]
    answering = [name for name, one in runs.items() if _right(one) and one["why"]]
    refused = {name: one["refused"] for name, one in sorted(found.items()) if "refused" in one}
    faults = {name: one["fault"] for name, one in sorted(found.items()) if "fault" in one}
    unbuilt = [name for name, one in sorted(found.items()) if one.get("built")]
    lines = [
        f"Exact from probe to report: {len(whole)}. Exact, and refused for probe by name: {len(answering)}. Refused: "
        f"{len(refused)}. Less: {len(runs) - len(whole) - len(answering)}. Faults: {len(faults)}.",
        "",
        "| type | rows | logits | prompts | layers | grid: wide; tall | edge | probe, heads, refine, report |",
        "|---" * 8 + "|",
        *(_row(name, one) for name, one in runs.items()),
        "",
        *(f"- `{name}`: {why}" for name, why in (refused | faults).items()),
        "",
        f"Not built: {', '.join(unbuilt) or 'none'}.",
    ]
    return "\n".join(lines) + "\n"


def _right(one: dict[str, Any]) -> bool:
    """Rows and logits equal the untouched model's."""
    return one["rows"] <= EXACT and one["logits"] <= LOGITS


def _row(name: str, one: dict[str, Any]) -> str:
    grids = zip(one["grid"], one["how"], strict=True)
    named = [(size.removesuffix(" + 0"), how) for size, how in grids]
    grid = "; ".join(size if how in ("squash", "none") else f"{size}, {how}" for size, how in named)
    steps = one.get("commands", {})
    ends = [step for step, said in steps.items() if said != "yes"]
    end = "-" if not steps else f"not {', '.join(ends)}" if ends else "yes"
    edge = "-" if one["why"] else f"{one['stripes']:.1f}"
    cells = [name, f"{one['rows']:.1e}", f"{one['logits']:.0e}", one["session"], one["layers"], grid, edge, end]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
