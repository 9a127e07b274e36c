"""The command that looks at one image, or at one sample of finished runs: look."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vgtool import console
from vgtool.commands.options import (
    DataRoot,
    Heads,
    Json,
    LoadOptions,
    Mapping,
    Methods,
    Registry,
    Row,
    Seed,
    model_names,
    whole,
)
from vgtool.errors import VgError

MODEL = "huatuogpt-vision-7b"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """Which picture of a file or series, and in which window."""

    slice: Annotated[
        int | None, whole("Slice of a volume or of a folder that is a DICOM series, from 0.", "--slice")
    ] = None
    axis: Annotated[str | None, typer.Option(help="Of a volume: sagittal, coronal or axial.")] = None
    window: Annotated[
        str | None, typer.Option(help="LOW,HIGH; the number or name of a window that the file states; or full.")
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class AskOptions(LoadOptions):
    """How a model is loaded and asked."""

    model: Annotated[
        str | None,
        typer.Option(help=f"Name in models.yaml, or a checkpoint folder ({MODEL}).", autocompletion=model_names),
    ] = None
    box: Annotated[
        list[str] | None, typer.Option(help="Where the answer is, X0,Y0,X1,Y1 in pixels; repeat for several.")
    ] = None
    heads: Heads = None
    protocol: Annotated[
        str | None,
        typer.Option(help="How it is asked: plain, BENCHMARK/PROTOCOL, a text with {question}; else as in the paper."),
    ] = None
    choice: Annotated[list[str] | None, typer.Option(help="An answer to choose from; repeat for each.")] = None
    row: Row = "last"
    box_mapping: Mapping = "exact"
    seed: Seed = 0


def look(
    *,
    image: Annotated[Path, typer.Argument(help="Picture, DICOM or NIfTI file, DICOM series; or a run folder.")],
    question: Annotated[str, typer.Argument(help="What to ask about it; or the id of a sample of that run.")],
    asked: AskOptions,
    view: ViewOptions,
    method: Methods = None,
    layer: Annotated[int | None, whole("Layer to show; of lowest KL with boxes, else all.", "--layer")] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="With a run: another one of the same rows (answers beside a probe's maps); repeat."),
    ] = None,
    data_root: DataRoot = None,
    out: Annotated[
        list[Path] | None, typer.Option("-o", "--out", help="Figure, FILE.pdf, .svg or .png; repeat for several.")
    ] = None,
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """One image, one question: the answer, where the model looked, and the figure for a paper.

    Of a finished run, RUN ID: what was asked and answered, whether it was right, and where the model looked; no model.

    Example: vgtool look scan.png "Is the lesion bright?" --model phantom-vlm --box 20,30,60,70 -o look.pdf
    Example: vgtool look runs/scenes scenes-calibration-0000-side -o look.pdf
    """
    from vgtool.api.figure import kind_of

    for path in out or ():
        kind_of(path)
    if (image / "run.json").is_file():
        for one in (asked, view):
            _refuse(one, f"asks a model, and '{image}' is a finished run")
        _sample(image, question, beside or (), data_root, registry, layer, method or (), out or (), as_json)
        return
    if beside:
        raise VgError(f"--beside '{beside[0]}' is for a run, and '{image}' is none.", "Name a run folder first.")
    if not image.exists():
        raise VgError(f"There is no picture, series or run folder '{image}'.", "Check the path.")
    _ask(image, question, asked, view, registry, layer, method or (), out or (), as_json)


def _refuse(given: Any, why: str) -> None:
    """VgError for the first option of a group that was given."""
    for one in dataclasses.fields(given):
        if getattr(given, one.name) not in (one.default, [], None):
            raise VgError(f"--{one.name.replace('_', '-')} {why}.", "Leave it out, or name a picture.")


def _ask(
    image: Path,
    question: str,
    asked: AskOptions,
    view: ViewOptions,
    registry: Path | None,
    layer: int | None,
    methods: Sequence[str],
    out: Sequence[Path],
    as_json: bool,
) -> None:
    """One question to a model."""
    boxes = [numbers(text) for text in asked.box or ()]
    from vgtool.api import words
    from vgtool.api.model import load
    from vgtool.api.picture import picture
    from vgtool.runs import imports

    shown = picture(image, slice=view.slice, axis=view.axis, window=window_of(view.window))
    how = {field.name: getattr(asked, field.name) for field in dataclasses.fields(LoadOptions)}
    imports.engine(own=True)
    loaded = load(asked.model or MODEL, registry=registry, **how)
    put: dict[str, Any] = {"boxes": boxes, "protocol": asked.protocol, "choices": asked.choice}
    put |= {"box_mapping": asked.box_mapping}
    seen = loaded.look(shown, question, row=asked.row, **put)
    refined = [loaded.refine(shown, question, one, heads=asked.heads, seed=asked.seed, **put) for one in methods]
    _drawn(out, lambda path: seen.figure(path, layer=layer))
    if as_json:
        console.show(json.dumps(words.as_json(seen, refined)))
        return
    lines = [*words.look_lines(seen, layer)]
    for one in refined:
        lines += ["", *words.refined_lines(one, seen.region)]
    console.show("\n".join(lines))


def _sample(
    run: Path,
    name: str,
    beside: Sequence[Path],
    data_root: Path | None,
    registry: Path | None,
    layer: int | None,
    methods: Sequence[str],
    out: Sequence[Path],
    as_json: bool,
) -> None:
    """One sample of finished runs."""
    from vgtool.api import words
    from vgtool.api.sample import sample

    found = sample(run, name, beside=beside, data_root=data_root, registry=registry)
    for method in methods:
        found.of(method)
    if layer is not None:
        found.layer(layer)
    _drawn(out, lambda path: found.figure(path, layer=layer, method=methods[0] if methods else None))
    if as_json:
        console.show(json.dumps(words.sample_json(found)))
    else:
        console.show("\n".join(words.sample_lines(found, layer, methods)))


def _drawn(out: Sequence[Path], draw: Callable[[Path], object]) -> None:
    """The figure, in every file that was asked for."""
    for path in out:
        draw(path)
        console.say(f"Written: {path}.")


def window_of(text: str | None) -> list[float] | int | str | None:
    """A window as a row of a data file names it."""
    if text is None or "," not in text:
        return int(text) if text is not None and text.isdecimal() else text
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise VgError(f"--window '{text}' is not LOW,HIGH.", "Write for example --window=-160,240.") from None


def numbers(text: str) -> list[float]:
    """Four numbers with commas between."""
    try:
        found = [float(part) for part in text.split(",")]
        if len(found) != 4:
            raise ValueError
    except ValueError:
        raise VgError(f"--box '{text}' is not four numbers.", "Write X0,Y0,X1,Y1 in pixels.") from None
    return found
