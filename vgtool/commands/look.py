"""The command that looks at one image: look."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vgtool import console
from vgtool.commands.options import Heads, Json, LoadOptions, Mapping, Methods, Model, Registry, Row, Seed, whole
from vgtool.errors import VgError


def look(
    *,
    image: Annotated[Path, typer.Argument(help="Picture, DICOM or NIfTI file.")],
    question: Annotated[str, typer.Argument(help="What to ask about it.")],
    model: Model = "huatuogpt-vision-7b",
    box: Annotated[
        list[str] | None, typer.Option(help="Where the answer is, X0,Y0,X1,Y1 in pixels; repeat for several.")
    ] = None,
    method: Methods = None,
    heads: Heads = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="How it is asked: plain, BENCHMARK/PROTOCOL, a text with {question}; else as in the paper."),
    ] = None,
    choice: Annotated[list[str] | None, typer.Option(help="An answer to choose from; repeat for each.")] = None,
    layer: Annotated[int | None, whole("Layer to show; of lowest KL with boxes, else all.", "--layer")] = None,
    out: Annotated[
        list[Path] | None, typer.Option("-o", "--out", help="Figure, FILE.pdf, .svg or .png; repeat for several.")
    ] = None,
    row: Row = "last",
    box_mapping: Mapping = "exact",
    how: LoadOptions,
    seed: Seed = 0,
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """One image, one question: the answer, where the model looked, and the figure for a paper.

    Example: vgtool look scan.png "Is the lesion bright?" --model phantom-vlm --box 20,30,60,70 -o look.pdf
    """
    from vgtool.api.look import kind_of

    boxes = [numbers(text) for text in box or ()]
    for path in out or ():
        kind_of(path)
    from vgtool.api import words
    from vgtool.api.model import load, opened

    picture = opened(image)
    loaded = load(
        model,
        dtype=how.dtype,
        device=how.device,
        device_map=how.device_map,
        offline=how.offline,
        lora=how.lora,
        registry=registry,
    )
    asked: dict[str, Any] = {"boxes": boxes, "protocol": protocol, "choices": choice}
    seen = loaded.look(picture, question, row=row, box_mapping=box_mapping, **asked)
    refined = [
        loaded.refine(picture, question, one, heads=heads, box_mapping=box_mapping, seed=seed, **asked)
        for one in method or ()
    ]
    for path in out or ():
        seen.figure(path, layer=layer)
        console.say(f"Written: {path}.")
    if as_json:
        console.show(json.dumps(words.as_json(seen, refined)))
        return
    lines = [*words.look_lines(seen, layer)]
    for one in refined:
        lines += ["", *words.refined_lines(one, seen.region)]
    console.show("\n".join(lines))


def numbers(text: str) -> list[float]:
    """Four numbers with commas between."""
    try:
        found = [float(part) for part in text.split(",")]
        if len(found) != 4:
            raise ValueError
    except ValueError:
        raise VgError(f"--box '{text}' is not four numbers.", "Write X0,Y0,X1,Y1 in pixels.") from None
    return found
