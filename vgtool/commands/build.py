"""The command that makes a benchmark: build."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from vgtool import console
from vgtool.commands.options import Json, Seed, one_of, whole
from vgtool.errors import Exit

GroupKind = Literal["modality", "class", "kind"]
NegativesKind = Literal["balanced", "none"]
DomainKind = Literal["medical", "natural"]


def build(
    masks: Annotated[Path, typer.Option(help="Folder with images and masks, or a COCO FILE.json.")],
    out: Annotated[Path, typer.Option(help="New folder for the benchmark.")],
    name: Annotated[str | None, typer.Option(help="Its name; that of --out when not given.")] = None,
    form: Annotated[str, typer.Option("--format", help="auto, samed2d, pairs, coco, slake, nifti or dicom.")] = "auto",
    names: Annotated[Path | None, typer.Option(help="File that names a label map's values.")] = None,
    modality: Annotated[str | None, typer.Option(help="Modality of all images, where their files do not say.")] = None,
    patient: Annotated[
        str | None, typer.Option(help="Regular expression: its first group in a path is the patient.")
    ] = None,
    splits: Annotated[str, typer.Option(help="Splits and their shares of patients: train=0.8,test=0.2.")] = "test=1",
    questions: Annotated[str, typer.Option(help="Kinds, by comma; see docs/build.md.")] = "all",
    group: Annotated[GroupKind, one_of(GroupKind, "What score --by group will tell apart.", "--group")] = "modality",
    negatives: Annotated[
        NegativesKind, one_of(NegativesKind, "As many absent classes as present ones, or none.", "--negatives")
    ] = "balanced",
    max_share: Annotated[float, typer.Option(min=0, max=1, help="Largest share of the grid under the boxes.")] = 0.4,
    min_pixels: Annotated[int, whole("Fewest pixels of an instance.", "--min-pixels", least=1)] = 16,
    grid: Annotated[int, whole("Cells along a side, for --max-share.", "--grid", least=1, most=256)] = 24,
    axis: Annotated[int, whole("Volumes: 0 sagittal, 1 coronal, 2 axial.", "--axis", most=2)] = 2,
    slices: Annotated[str, typer.Option(help="Of a volume or series: largest, all or every Nth slice.")] = "largest",
    window: Annotated[
        str | None, typer.Option(help="Values LOW,HIGH shown of volumes and DICOM; see docs/images.md.")
    ] = None,
    domain: Annotated[DomainKind, one_of(DomainKind, "What the images are.", "--domain")] = "medical",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Segmentation masks to a grounding benchmark: boxes, regions and questions whose answers are measured.

    Example: vgtool build --masks scans --out scans-bench --splits train=0.8,test=0.2
    """
    from vgtool.build import count, make
    from vgtool.build.questions import KINDS
    from vgtool.build.settings import Settings, read_options, shares
    from vgtool.scoring.render import render

    options = read_options(names, modality, patient, axis, slices, window)
    kinds = KINDS if questions == "all" else tuple(part.strip() for part in questions.split(","))
    settings = Settings(
        out.resolve().name if name is None else name,
        domain,
        kinds,
        shares(splits),
        group,
        negatives,
        max_share,
        min_pixels,
        grid,
        seed,
    )
    built = make.build(masks, out, form, options, settings)
    text = json.dumps(built.counts, indent=1) if as_json else render(count.tables(built.counts), "table").strip()
    console.show(text)
    if built.failures:
        console.warn(f"{built.failures:,} inputs skipped; {out / 'skipped.jsonl'} names each.")
    console.say(f"Run it with `vgtool probe --registry {out} --benchmark {settings.name}`.")
    raise typer.Exit(Exit.SOME_FAILED if built.failures else Exit.DONE)
