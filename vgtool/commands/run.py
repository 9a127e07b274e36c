"""The commands that run a model, and what goes before: probe, refine, heads, plan."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from vgtool import console
from vgtool.commands.options import (
    BenchmarkName,
    Benchmarks,
    Heads,
    Json,
    Mapping,
    Maps,
    Methods,
    Model,
    Models,
    Out,
    Partial,
    Region,
    Registry,
    Row,
    RowOptions,
    RunOptions,
    WitnessOptions,
    one_of,
    whole,
)
from vgtool.errors import VgError

MetricKind = Literal["kl", "js", "ratio"]


def probe(
    *,
    model: Models = ["huatuogpt-vision-7b"],  # noqa: B006
    benchmark: Benchmarks = ["vgmed"],  # noqa: B006
    rows: RowOptions,
    out: Out = None,
    maps: Maps = "layers",
    row: Row = "last",
    box_mapping: Mapping = "exact",
    region: Region = "box",
    beside: WitnessOptions,
    at: RunOptions,
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """Where does the model look? Grounding metrics and heatmaps per sample.

    Example: vgtool probe --model phantom-vlm --benchmark scenes --out runs/scenes
    """
    if len(model) * len(benchmark) > 1:
        own: dict[str, Any] = {"maps": maps, "row": row, "box_mapping": box_mapping, "region": region}
        own |= beside.typed()
        _each("probe", model, benchmark, rows, at, out, {**own, "registry": registry, "json": as_json})
    from vgtool.runs import imports, launch

    found = rows.load(benchmark[0], registry)
    known: dict[str, Any] = {"maps": maps, "row": row, "box_mapping": box_mapping, "region": region}
    known |= {} if at.dtype == "auto" else {"dtype": at.dtype}
    known |= {name: None for name in ("reliance", "ask", "sinks") if not getattr(beside, name)}
    known |= {"relevance": beside.relevance}
    older = rows.older(benchmark[0], registry)
    here = launch.prepare("probe", model[0], registry, found, out, at.shard, at.batch_size, at.images, known, older)
    if (code := launch.already(here, [""], as_json)) is not None:
        raise typer.Exit(code)
    imports.engine(own=True)  # a mistyped name is answered before
    from vgtool.methods.probe import Probe
    from vgtool.methods.witnesses import Asking, Witnesses

    placed = here.device(at.device, at.device_map)
    opened = launch.load(model[0], registry, at.dtype, placed, at.device_map, at.offline, at.lora)
    witnesses = Witnesses(opened, Asking(**beside.typed(), seed=at.seed), found.decoding, maps)
    task = Probe(opened, maps=maps, row=row, mapping=box_mapping, region=region, witnesses=witnesses)
    raise typer.Exit(launch.execute(task, opened, found, here, as_json))


def refine(
    *,
    method: Methods = None,
    heads: Heads = None,
    model: Models = ["huatuogpt-vision-7b"],  # noqa: B006
    benchmark: Benchmarks = ["vqa-rad"],  # noqa: B006
    rows: RowOptions,
    out: Out = None,
    box_mapping: Mapping = "exact",
    at: RunOptions,
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """Answer with VGRefine, a rival or a control, beside the plain baseline.

    Example: vgtool refine --model phantom-vlm --benchmark phantom --heads heads.json --method vgrefine
    """
    labels = method or ["vgrefine"]
    if len(set(labels)) < len(labels):
        raise VgError("The same --method is given twice.", "Name each variant once.")
    from vgtool.models.load import resolve

    if len(model) * len(benchmark) > 1:
        own = {"method": labels, "heads": heads, "box_mapping": box_mapping}
        _each("refine", model, benchmark, rows, at, out, {**own, "registry": registry, "json": as_json})
    from vgtool.methods.parse import parse
    from vgtool.runs import imports, launch

    methods = {label: parse(label) for label in labels}
    found = rows.load(benchmark[0], registry)
    _refuse_boxless(methods, found)
    known = {"box_mapping": box_mapping, **({} if at.dtype == "auto" else {"dtype": at.dtype})}
    older = rows.older(benchmark[0], registry)
    here = launch.prepare("refine", model[0], registry, found, out, at.shard, at.batch_size, at.images, known, older)
    from vgtool.methods.base import expected_facts, read_facts
    from vgtool.methods.settings import settings

    expected = expected_facts(resolve(model[0], registry)[0], heads, found.image_ids, at.seed)
    here.store.compare("refine", {"methods": ["baseline", *labels], "settings": settings(methods, expected)})
    if (code := launch.already(here, ["baseline", *labels], as_json)) is not None:
        raise typer.Exit(code)
    imports.engine(own=True)  # whatever can be settled is settled before
    from vgtool.methods.pictures import other_image
    from vgtool.methods.refine import Refine

    placed = here.device(at.device, at.device_map)
    opened = launch.load(model[0], registry, at.dtype, placed, at.device_map, at.offline, at.lora)
    facts = read_facts(opened.adapter, heads, found.image_ids, at.seed)
    partner = other_image(found.samples, at.seed, opened.adapter.alpha)
    task = Refine(opened, methods, facts, found.decoding, mapping=box_mapping, partner=partner)
    raise typer.Exit(launch.execute(task, opened, found, here, as_json))


def _refuse_boxless(methods: dict[str, Any], found: Any) -> None:
    needy = [label for label, method in methods.items() if getattr(method, "needs_boxes", False)]
    if needy and found.samples and not any(sample.boxes for sample in found.samples):
        raise VgError(f"--method {needy[0]} needs boxes, and no sample of '{found.name}' has one.", "Leave it out.")


def _each(
    kind: str,
    models: list[str],
    benchmarks: list[str],
    rows: RowOptions,
    at: RunOptions,
    out: Path | None,
    own: dict[str, Any],
) -> NoReturn:
    """A run for every model and benchmark, in a process each; a name that is not known is told before the first."""
    from vgtool.benchmarks.load import find
    from vgtool.models.load import resolve
    from vgtool.runs import launch, steps

    shared = {**dataclasses.asdict(rows), **dataclasses.asdict(at), **own}
    del shared["shard"]
    found = []
    for model in models:
        named = resolve(model, own["registry"])[0].name
        for benchmark in benchmarks:
            find(benchmark, rows.data_root, own["registry"])
            folder = launch.folder(kind, named, benchmark, out or Path("runs"))
            words = steps.words({"model": model, "benchmark": benchmark, "out": folder, **shared})
            found.append(steps.Step(folder.name, (kind, *words)))
    if twice := [step.name for step in found if [one.name for one in found].count(step.name) > 1]:
        raise VgError(f"Two of these runs are called '{twice[0]}'.", "Give each a --out of its own, in two commands.")
    raise typer.Exit(steps.run(found, at.shard))


def heads(
    *,
    run: Annotated[Path, typer.Argument(help="Probe run on natural images.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Head file to write.")],
    k: Annotated[int, whole("Heads to keep.", "-k", least=1)] = 20,
    metric: Annotated[
        MetricKind, one_of(MetricKind, "Ranked by mean kl (the paper's), js, or attention ratio.", "--metric")
    ] = "kl",
    partial: Partial = False,
) -> None:
    """Rank a probe run's heads on natural images and write the head file that refine reads.

    Example: vgtool heads runs/scenes -k 4 -o heads.json
    """
    from vgtool.grounding import heads as head_files
    from vgtool.scoring.ranking import rank_run

    file = rank_run(run, k, metric, partial, console.warn)
    head_files.write(out, file)
    if len(file.ranked) < k:
        console.warn(f"-k {k}, but only {len(file.ranked)} heads could be ranked: all of them are kept.")
    console.say(f"{len(file.ranked)} heads and knockout layer {file.knockout_layers[0]} written to {out}.")


def plan(
    *,
    model: Model = "huatuogpt-vision-7b",
    benchmark: BenchmarkName = "vgmed",
    rows: RowOptions,
    method: Methods = None,
    maps: Maps = "layers",
    shards: Annotated[int, whole("Processes or cards to deal the images to.", "--shards", least=1)] = 1,
    image_tokens: Annotated[
        int | None, whole("Tokens of an image, where the grid follows it.", "--image-tokens", least=1)
    ] = None,
    card: Annotated[str, typer.Option(help="h200, h100, a100, a100-40gb, l40s, rtx4090 or cpu-core.")] = "h200",
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """What a run will take: samples, images, tokens, shards, time, memory and disk. Loads no model.

    A refine run with the methods named, a probe when none is.

    Example: vgtool plan --model phantom-vlm --benchmark phantom --method vgrefine --shards 8
    """
    from vgtool.methods.parse import parse
    from vgtool.models import hub
    from vgtool.models.load import resolve
    from vgtool.runs import plan as plans
    from vgtool.runs import sizes

    spec, source = resolve(model, registry)
    folder = source or (hub.embedded_folder(spec) if spec.embedded else hub.cached_folder(spec))
    chosen, asked = plans.card(card), [parse(text) for text in method or ()]
    shape = sizes.shape(spec, folder)
    if image_tokens is not None:
        shape = dataclasses.replace(shape, image_tokens=image_tokens, assumed="")
    loaded = rows.load(benchmark, registry)
    found = plans.estimate(
        loaded.samples,
        loaded.rejected,
        shape,
        chosen,
        shards=shards,
        methods=len(asked),
        maps=maps,
        max_new_tokens=loaded.decoding.max_new_tokens,
        thought=loaded.decoding.thinking_tokens if spec.thinking else 0,
    )
    if as_json:
        console.show(json.dumps(dataclasses.asdict(found)))
        return
    for name, text in plans.readable(found, card).items():
        console.show(f"{name:8} {text}")
    for index, (samples, images, tokens) in enumerate(found.shards, 1):
        console.show(f"shard {index}/{shards}: {samples:,} samples, {images:,} images, {tokens:,} tokens read")
    if found.assumed:
        console.warn(f"{found.assumed}. `vgtool models {model} --size WxH` counts them; then give --image-tokens.")


def slurm(context: typer.Context) -> None:
    """Inside a Slurm job: run a vgtool command as a step, and queue the job again when it should go on.

    Example: vgtool slurm refine --model phantom-vlm --benchmark phantom --out runs/rad --shard slurm
    """
    from vgtool.runs import slurm

    raise typer.Exit(slurm.run(context.args, console.warn))
