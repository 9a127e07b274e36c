"""The commands: parse, call, exit code. Everything heavy is imported by the command that needs it."""

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import vgtool
from vgtool import console
from vgtool.errors import Exit, VgError

if TYPE_CHECKING:
    from vgtool.benchmarks.load import Benchmark

app = typer.Typer(
    help="Where medical multimodal LLMs look, and what happens when they are made to look again.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
RUN, READ = "Run a model", "Read results"


def _complete_model(incomplete: str) -> list[str]:
    from vgtool.registry import models

    return [name for name in models() if name.startswith(incomplete)]


def _complete_benchmark(incomplete: str) -> list[str]:
    from vgtool.registry import benchmarks

    return [name for name in benchmarks() if name.startswith(incomplete)]


def _complete_method(incomplete: str) -> list[str]:
    from vgtool.methods.names import NAMES

    return [name for name in NAMES if name.startswith(incomplete)]


Model = Annotated[
    str, typer.Option(help="Name in models.yaml, or a checkpoint folder.", autocompletion=_complete_model)
]
BenchmarkName = Annotated[
    str, typer.Option(help="Name in benchmarks.yaml, or a FILE.jsonl.", autocompletion=_complete_benchmark)
]
Split = Annotated[str | None, typer.Option(help="Split of the benchmark; its own default when not given.")]
Protocol = Annotated[str, typer.Option(help="Protocol of the benchmark: rows, prompts and rule.")]
DataRoot = Annotated[
    Path | None, typer.Option(envvar="VGTOOL_DATA", help="Folder with the benchmark's files, or with NAME/ inside.")
]
BoxFormat = Annotated[
    str | None, typer.Option(help="Read boxes as xyxy, xyxy-inclusive or xywh, whatever the benchmark says.")
]
Limit = Annotated[int | None, typer.Option(min=1, max=sys.maxsize, help="Only the first N rows.")]
Out = Annotated[Path | None, typer.Option(help="Run folder; runs/KIND-MODEL-BENCHMARK when not given.")]
Batch = Annotated[str, typer.Option(help="Most questions in one forward pass: auto, or a number.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; a GPU when there is one.")]
DeviceMap = Annotated[
    str | None,
    typer.Option(help="Spread the model over devices as accelerate does: auto, balanced, balanced_low_0, sequential."),
]
ShardText = Annotated[
    str,
    typer.Option(
        "--shard", help="Share of the images: I/N; auto: accelerate's rank, else all; slurm: the job array's task."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of whatever is random: controls, bootstrap; nothing in a probe.")]
Lora = Annotated[Path | None, typer.Option(help="LoRA adapter folder, merged into the model (needs vgtool\\[lora]).")]
Offline = Annotated[bool, typer.Option(help="Load from disk only.")]
Mapping = Annotated[
    Literal["exact", "stretch"],
    typer.Option("--box-mapping", help="exact: through the model's own preprocessing; stretch: as the released code."),
]
Registry = Annotated[
    Path | None, typer.Option(help="Folder whose models.yaml and benchmarks.yaml add or replace entries.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"vgtool {vgtool.__version__}", file=sys.stdout)  # noqa: T201
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(rich_help_panel=RUN)
def probe(
    model: Model = "huatuogpt-vision-7b",
    benchmark: BenchmarkName = "vgmed",
    split: Split = None,
    protocol: Protocol = "default",
    data_root: DataRoot = None,
    limit: Limit = None,
    out: Out = None,
    maps: Annotated[Literal["layers", "heads", "none"], typer.Option(help="Attention maps to keep.")] = "layers",
    row: Annotated[Literal["last", "question", "text"], typer.Option(help="Attention row read.")] = "last",
    batch_size: Batch = "auto",
    dtype: Dtype = "auto",
    device: Device = None,
    device_map: DeviceMap = None,
    shard: ShardText = "auto",
    seed: Seed = 0,
    offline: Offline = False,
    lora: Lora = None,
    box_mapping: Mapping = "exact",
    region: Annotated[
        Literal["box", "mask"], typer.Option(help="Where a sample's object is: its boxes, or its mask.")
    ] = "box",
    box_format: BoxFormat = None,
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """Where does the model look? Grounding metrics and heatmaps per sample.

    Example: vgtool probe --model phantom-vlm --benchmark scenes --out runs/scenes
    """
    from vgtool.runs import launch

    rows = _benchmark(benchmark, split, protocol, data_root, limit, registry, box_format)
    at = launch.prepare("probe", model, registry, rows, out, shard, batch_size)
    from vgtool.methods.probe import Probe  # torch takes seconds: a mistyped name is answered before it

    opened = launch.load(model, registry, dtype, at.device(device, device_map), device_map, offline, lora)
    task = Probe(opened, maps=maps, row=row, mapping=box_mapping, region=region)
    raise typer.Exit(launch.execute(task, opened, rows, at, as_json))


@app.command(rich_help_panel=RUN)
def refine(
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME or NAME:key=value,...; repeat for several (vgtool methods lists them).",
            autocompletion=_complete_method,
        ),
    ] = None,
    heads: Annotated[
        Path | None, typer.Option(help="Head file of vgtool heads; the published heads when not given.")
    ] = None,
    model: Model = "huatuogpt-vision-7b",
    benchmark: BenchmarkName = "vqa-rad",
    split: Split = None,
    protocol: Protocol = "default",
    data_root: DataRoot = None,
    limit: Limit = None,
    out: Out = None,
    batch_size: Batch = "auto",
    dtype: Dtype = "auto",
    device: Device = None,
    device_map: DeviceMap = None,
    shard: ShardText = "auto",
    seed: Seed = 0,
    offline: Offline = False,
    lora: Lora = None,
    box_mapping: Mapping = "exact",
    box_format: BoxFormat = None,
    explain: Annotated[str | None, typer.Option(help="Show this one sample id in full; writes nothing.")] = None,
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """Answer with VGRefine, a rival or a control, beside the plain baseline.

    Example: vgtool refine --model phantom-vlm --benchmark phantom --heads heads.json --method vgrefine
    """
    from vgtool.runs import launch

    labels = method or ["vgrefine"]
    if len(set(labels)) < len(labels):
        raise VgError("The same --method is given twice.", "Name each variant once.")
    rows = _benchmark(benchmark, split, protocol, data_root, limit, registry, box_format)
    at = None if explain is not None else launch.prepare("refine", model, registry, rows, out, shard, batch_size)
    from vgtool.methods.base import read_facts  # torch takes seconds: a mistyped name is answered before it
    from vgtool.methods.parse import parse
    from vgtool.methods.pictures import other_image
    from vgtool.methods.refine import Refine

    methods = {label: parse(label) for label in labels}
    placed = at.device(device, device_map) if at else device
    opened = launch.load(model, registry, dtype, placed, device_map, offline, lora)
    facts = read_facts(opened.adapter, heads, (sample.image_id for sample in rows.samples), seed)
    task = Refine(opened, methods, facts, rows.decoding, mapping=box_mapping, partner=other_image(rows.samples, seed))
    if at is None:
        from vgtool.methods.explain import explain as explained

        console.show(explained(task, rows.samples, explain or ""))
        return
    raise typer.Exit(launch.execute(task, opened, rows, at, as_json))


@app.command(rich_help_panel=RUN)
def heads(
    run: Annotated[Path, typer.Argument(help="Probe run on natural images.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Head file to write.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Heads to keep.")] = 20,
    metric: Annotated[
        Literal["kl", "js", "ratio"], typer.Option(help="Ranked by mean kl (the paper's), js, or attention ratio.")
    ] = "kl",
    partial: Annotated[bool, typer.Option(help="Accept an unfinished run.")] = False,
) -> None:
    """Rank a probe run's heads on natural images and write the head file that refine reads.

    Example: vgtool heads runs/scenes -k 4 -o heads.json
    """
    from vgtool.grounding import heads as head_files
    from vgtool.scoring.ranking import rank_run

    file = rank_run(run, k, metric, partial, console.say)
    head_files.write(out, file)
    console.say(f"{len(file.ranked)} heads and knockout layer {file.knockout_layers[0]} written to {out}.")


@app.command(rich_help_panel=RUN)
def plan(
    model: Model = "huatuogpt-vision-7b",
    benchmark: BenchmarkName = "vgmed",
    method: Annotated[list[str] | None, typer.Option(help="Plan a refine run with these; a probe without.")] = None,
    split: Split = None,
    protocol: Protocol = "default",
    data_root: DataRoot = None,
    limit: Limit = None,
    maps: Annotated[Literal["layers", "heads", "none"], typer.Option(help="Attention maps to keep.")] = "layers",
    shards: Annotated[int, typer.Option(min=1, help="Processes or cards to deal the images to.")] = 1,
    card: Annotated[str, typer.Option(help="h200, h100, a100, a100-40gb, l40s, rtx4090 or cpu-core.")] = "h200",
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """What a run will take: samples, images, tokens, shards, time, memory and disk. Loads no model.

    Example: vgtool plan --model phantom-vlm --benchmark phantom --method vgrefine --shards 8
    """
    import dataclasses

    from vgtool.methods.parse import parse
    from vgtool.models import hub
    from vgtool.models.load import resolve
    from vgtool.runs import plan as plans

    spec, source = resolve(model, registry)
    folder = source or (hub.embedded_folder(spec) if spec.embedded else hub.cached_folder(spec))
    chosen, asked = plans.card(card), [parse(text) for text in method or ()]
    rows = _benchmark(benchmark, split, protocol, data_root, limit, registry)
    found = plans.estimate(
        rows.samples,
        rows.rejected,
        plans.shape(spec, folder),
        chosen,
        shards=shards,
        methods=len(asked),
        maps=maps,
        max_new_tokens=rows.decoding.max_new_tokens,
    )
    if as_json:
        console.show(json.dumps(dataclasses.asdict(found)))
        return
    for name, text in plans.readable(found, card).items():
        console.show(f"{name:8} {text}")
    for index, (samples, images, tokens) in enumerate(found.shards, 1):
        console.show(f"shard {index}/{shards}: {samples:,} samples, {images:,} images, {tokens:,} tokens read")


@app.command(rich_help_panel=READ)
def score(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders, or files of predictions (JSONL, csv, Parquet).")
    ] = None,
    rule: Annotated[
        str | None, typer.Option(help="strict, paper, huatuo or llava-med; the protocol's own when not given.")
    ] = None,
    by: Annotated[list[str] | None, typer.Option(help="Also split by a field: group, question_type; repeatable.")] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="Compare with a METHOD, RUN, MODEL or RUN::METHOD on the same rows; repeatable."),
    ] = None,
    table: Annotated[list[str] | None, typer.Option(help="Only this table; repeatable. list: their names.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="Only this column of the tables; repeatable.")] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="table, markdown, latex; or every number: csv, json, parquet.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="File to write; its ending may say the format.")] = None,
    partial: Annotated[bool, typer.Option(help="Accept unfinished runs.")] = False,
    allow_mixed: Annotated[bool, typer.Option(help="Label runs that differ in protocol, kernel or rows.")] = False,
    bertscore: Annotated[
        str | None, typer.Option(help="Also BERTScore open answers, with this model (name or folder).")
    ] = None,
    bertscore_layer: Annotated[int | None, typer.Option(help="Layer of a model that bert-score does not list.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Accuracy and grounding tables, with intervals and paired tests; csv, json and parquet hold one estimate a row.

    Example: vgtool score runs/phantom-refined --by question_type --format markdown
    """
    from vgtool.scoring import render
    from vgtool.scoring.frame import TABLES
    from vgtool.scoring.output import deliver
    from vgtool.scoring.score import score as scored

    if "list" in (table or ()):
        console.show("\n".join(f"{name:14} {about}" for name, about in TABLES.items()))
        return
    form = render.format_of("json" if as_json else form, out)
    found = scored(
        runs or [],
        rule=rule,
        by=by or (),
        partial=partial,
        seed=seed,
        allow_mixed=allow_mixed,
        bertscore=None if bertscore is None else (bertscore, bertscore_layer),
        tables=table or (),
        against=against or (),
        every=form in render.DATA,
    )
    deliver(found, form, out, column or ())
    for sentence in found.failed:
        console.say(sentence)
    if found.failed:
        raise typer.Exit(Exit.SOME_FAILED)


@app.command(rich_help_panel=READ)
def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders; every one below ./runs or .demo when not given.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page and the figures.")] = Path("report"),
    images: Annotated[
        bool, typer.Option("--images", help="Include the benchmark's pictures; mind patient data.")
    ] = False,
    heads: Annotated[Path | None, typer.Option(help="Head file whose heads are marked on the head map.")] = None,
    partial: Annotated[bool, typer.Option(help="Accept unfinished runs.")] = False,
    rule: Annotated[
        str | None, typer.Option(help="strict, paper, huatuo or llava-med; the protocol's own when not given.")
    ] = None,
    data_root: DataRoot = None,
    registry: Registry = None,
    seed: Seed = 0,
) -> None:
    """Figures (PDF, SVG, PNG) and a page to look through the samples. Without --images it holds no image data.

    Example: vgtool report runs/scenes runs/phantom runs/phantom-refined --out report
    """
    from vgtool.reporting.page import write
    from vgtool.reporting.samples import Pictures

    pictures = Pictures(data_root, registry) if images else None
    page = write(runs or [], out, rule=rule, partial=partial, seed=seed, heads=heads, pictures=pictures)
    console.say(f"Open {page}")


@app.command(rich_help_panel=READ)
def build(
    masks: Annotated[Path, typer.Option(help="Folder with images and masks, or a COCO FILE.json.")],
    out: Annotated[Path, typer.Option(help="New folder for the benchmark.")],
    name: Annotated[str | None, typer.Option(help="Its name; that of --out when not given.")] = None,
    form: Annotated[str, typer.Option("--format", help="auto, samed2d, pairs, coco, slake or nifti.")] = "auto",
    names: Annotated[Path | None, typer.Option(help="File that names a label map's values.")] = None,
    modality: Annotated[str | None, typer.Option(help="Modality of all images, where their files do not say.")] = None,
    patient: Annotated[
        str | None, typer.Option(help="Regular expression: its first group in a path is the patient.")
    ] = None,
    splits: Annotated[str, typer.Option(help="Splits and their shares of patients: train=0.8,test=0.2.")] = "test=1",
    questions: Annotated[str, typer.Option(help="Kinds, by comma; see docs/build.md.")] = "all",
    group: Annotated[
        Literal["modality", "class", "kind"], typer.Option(help="What score --by group will tell apart.")
    ] = "modality",
    negatives: Annotated[
        Literal["balanced", "none"], typer.Option(help="As many absent classes as present ones, or none.")
    ] = "balanced",
    max_share: Annotated[float, typer.Option(min=0, max=1, help="Largest share of the grid under the boxes.")] = 0.4,
    min_pixels: Annotated[int, typer.Option(min=1, help="Fewest pixels of an instance.")] = 16,
    grid: Annotated[int, typer.Option(min=1, max=256, help="Cells along a side, for --max-share.")] = 24,
    axis: Annotated[int, typer.Option(min=0, max=2, help="Volumes: 0 sagittal, 1 coronal, 2 axial.")] = 2,
    slices: Annotated[str, typer.Option(help="Volumes: largest, all, or N for every Nth labelled slice.")] = "largest",
    window: Annotated[
        str | None, typer.Option(help="Volumes: LOW,HIGH shown; the 0.5 and 99.5 percentiles when not given.")
    ] = None,
    domain: Annotated[Literal["medical", "natural"], typer.Option(help="What the images are.")] = "medical",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Segmentation masks to a grounding benchmark: boxes, regions and questions whose answers are measured.

    Example: vgtool build --masks scans --out scans-bench --splits train=0.8,test=0.2
    """
    from vgtool.build import make
    from vgtool.scoring.render import render

    options = make.read_options(names, modality, patient, axis, slices, window)
    kinds = make.KINDS if questions == "all" else tuple(part.strip() for part in questions.split(","))
    settings = make.Settings(
        name or out.resolve().name,
        domain,
        kinds,
        make.shares(splits),
        group,
        negatives,
        max_share,
        min_pixels,
        grid,
        seed,
    )
    built = make.build(masks, out, form, options, settings)
    text = json.dumps(built.counts, indent=1) if as_json else render(make.tables(built.counts), "table").strip()
    console.show(text)
    if built.failures:
        console.say(f"{built.failures:,} inputs skipped; {out / 'skipped.jsonl'} names each.")
    console.say(f"Run it with `vgtool probe --registry {out} --benchmark {settings.name}`.")
    raise typer.Exit(Exit.SOME_FAILED if built.failures else Exit.DONE)


@app.command(rich_help_panel=READ)
def models(registry: Registry = None, as_json: Json = False) -> None:
    """The models vgtool knows: on disk or not, size, license, grid, and what to know before running one.

    Example: vgtool models --json
    """
    from vgtool.models import listing
    from vgtool.registry import models as entries

    rows = listing.rows(entries(registry).values())
    _list(rows if as_json else [{key: row[key] for key in listing.SHOWN} for row in rows], as_json)
    if not as_json:
        console.show("\n".join(["", *listing.notes(rows)]))


@app.command(rich_help_panel=READ)
def benchmarks(
    check: Annotated[str | None, typer.Option(help="Read every row of this benchmark (or file) and count.")] = None,
    fetch: Annotated[str | None, typer.Option(help="Fetch this benchmark's files from Hugging Face.")] = None,
    data_root: DataRoot = None,
    split: Split = None,
    protocol: Protocol = "default",
    rows: Annotated[Path | None, typer.Option(help="With --check: write the rows, normalised, as Parquet.")] = None,
    box_format: BoxFormat = None,
    offline: Offline = False,
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """The benchmarks vgtool knows, what of them is on disk; --check reads one, --fetch fetches one.

    Example: vgtool benchmarks --check slake --data-root data --protocol paper
    """
    from vgtool.benchmarks import check as checking
    from vgtool.benchmarks import fetch as fetching
    from vgtool.benchmarks import listing
    from vgtool.registry import benchmarks as entries
    from vgtool.registry import pick

    if fetch is not None:
        spec = pick(entries(registry), fetch, "benchmarks.yaml")
        folder = fetching.fetch(spec, split=split, data_root=data_root, offline=offline)
        console.say(f"'{spec.name}' is in {folder}.")
    if check is not None:
        found = _benchmark(check, split, protocol, data_root, None, registry, box_format)
        if rows is not None:
            checking.write_rows(found, rows)
            console.say(f"{found.rows:,} rows written to {rows}.")
        counts = checking.check(found)
        if as_json:
            console.show(json.dumps(counts, indent=1))
        else:
            console.show(_table([counts["benchmark"], "", "count"], checking.lines(counts)))
            for line in checking.remarks(counts):
                console.say(line)
        raise typer.Exit(Exit.DONE if checking.is_clean(counts) else Exit.SOME_FAILED)
    if fetch is not None:
        return
    listed = listing.rows(entries(registry).values(), data_root)
    _list(listed if as_json else listing.shown(listed), as_json)


@app.command(rich_help_panel=READ)
def methods(as_json: Json = False) -> None:
    """The methods refine knows, with their parameters and defaults.

    Example: vgtool methods
    """
    import dataclasses

    from vgtool.methods.parse import known

    rows = []
    for name, kind in known().items():
        settings = " ".join(f"{f.name}={f.default}" for f in dataclasses.fields(kind))
        rows.append({"method": name, "what": kind.summary, "parameters": settings})
    _list(rows, as_json)


@app.command(rich_help_panel=READ)
def doctor(
    model: Annotated[str | None, typer.Option(help="Also: can this model be had and held here?")] = None,
    benchmark: Annotated[str | None, typer.Option(help="Also: can this benchmark be read here?")] = None,
    split: Split = None,
    protocol: Protocol = "default",
    data_root: DataRoot = None,
    out: Annotated[Path, typer.Option(help="Folder that run folders would go to.")] = Path("runs"),
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """Versions, devices, disk, cache, and what would stop a run, with the fix. Exit code 2 when something would.

    Example: vgtool doctor --model llava-med --benchmark vqa-rad --data-root data
    """
    import dataclasses

    from vgtool import doctor as checks

    found = checks.examine(
        model, benchmark, split=split, protocol=protocol, data_root=data_root, out=out, registry=registry
    )
    text = (
        json.dumps([dataclasses.asdict(one) for one in found], indent=1) if as_json else "\n".join(checks.lines(found))
    )
    console.show(text)
    raise typer.Exit(Exit.USER if any(one.level == "stop" for one in found) else Exit.DONE)


def _list(rows: list[dict[str, Any]], as_json: bool) -> None:
    console.show(json.dumps(rows, indent=1) if as_json else _table(list(rows[0]), [list(row.values()) for row in rows]))


def _table(columns: list[str], rows: list[Any]) -> str:
    from vgtool.scoring.render import render
    from vgtool.scoring.views import Table

    return render([Table("", columns, rows)], "table").strip()


def _benchmark(
    name: str,
    split: str | None,
    protocol: str,
    data_root: Path | None,
    limit: int | None,
    registry: Path | None,
    box_format: str | None = None,
) -> "Benchmark":
    from vgtool.benchmarks.load import load

    rows = load(
        name,
        split=split,
        protocol=protocol,
        data_root=data_root,
        limit=limit,
        registry=registry,
        box_format=box_format,
    )
    if not rows.rows:
        raise VgError(f"Benchmark '{name}' has no rows in split '{rows.split}'.", "Check --data-root and --split.")
    return rows


def main() -> None:
    """Entry point: a user's mistake is one sentence and its exit code; a bug keeps its traceback."""
    try:
        app()
    except VgError as error:
        console.say(f"Error: {error}")
        sys.exit(error.exit_code)
    except PermissionError as error:
        console.say(f"Error: This user may not open '{error.filename}'. Change its permissions, or name another place.")
        sys.exit(Exit.USER)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
