"""Every option that more than one command takes, declared once: its type, its help, what the shell completes.

`expanded` lets a command take a whole group (`RowOptions`, `RunOptions`) as one parameter.
"""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from vgtool import console
from vgtool.errors import VgError, did_you_mean

if TYPE_CHECKING:
    from vgtool.benchmarks.load import Benchmark


def one_of(kind: Any, about: str, name: str) -> Any:
    """An option that takes one of a Literal's words; another word is answered as every mistake is."""
    words = get_args(kind)

    def check(text: str) -> str:
        if text not in words:
            near = did_you_mean(text, words)
            hint = near if "?" in near else "Give one of them."
            raise VgError(f"{name} '{text}' is none of {', '.join(words)}.", hint)
        return text

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return typer.Option(name, help=about, parser=check, metavar="|".join(words), autocompletion=complete)


def whole(about: str, *names: str, least: int = 0, most: int = sys.maxsize) -> Any:
    """An option that takes a whole number from `least` to `most`."""
    named = max(names, key=len)

    def check(text: str | int) -> int:
        digits = str(text).strip()
        if not (digits.removeprefix("-").isdecimal() and least <= int(digits) <= most):
            to = f" to {most:,}" if most < sys.maxsize else " up"
            raise VgError(f"{named} '{digits}' is not a whole number from {least}{to}.", "Give such a number.")
        return int(digits)

    return typer.Option(*names, help=about, parser=check, metavar="N")


def model_names(incomplete: str) -> list[str]:
    from vgtool.registry import models

    return [name for name in models() if name.startswith(incomplete)]


def _benchmark_names(incomplete: str) -> list[str]:
    from vgtool.registry import benchmarks

    return [name for name in benchmarks() if name.startswith(incomplete)]


def _method_names(incomplete: str) -> list[str]:
    from vgtool.methods.names import NAMES

    return [name for name in NAMES if name.startswith(incomplete)]


MapsKind = Literal["layers", "heads", "none"]
RowKind = Literal["last", "question", "text"]
RegionKind = Literal["box", "mask"]
AskKind = Literal["box"]
MappingKind = Literal["exact", "stretch"]

Model = Annotated[str, typer.Option(help="Name in models.yaml, or a checkpoint folder.", autocompletion=model_names)]
Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        help="Name in models.yaml, or a checkpoint folder; repeat for a run each.",
        autocompletion=model_names,
    ),
]
Benchmarks = Annotated[
    list[str],
    typer.Option(
        "--benchmark",
        help="Name in benchmarks.yaml, or a FILE of questions (.csv, ...); repeat for a run each.",
        autocompletion=_benchmark_names,
    ),
]
BenchmarkName = Annotated[
    str,
    typer.Option(help="Name in benchmarks.yaml, or a FILE of questions (.csv, ...).", autocompletion=_benchmark_names),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help="NAME or NAME:key=value,...; repeat for several (vgtool methods lists them).",
        autocompletion=_method_names,
    ),
]
Heads = Annotated[
    Path | None, typer.Option(help="Head file of vgtool heads; the published heads when not given.")
]
Split = Annotated[str | None, typer.Option(help="Split of the benchmark; its own default when not given.")]
Protocol = Annotated[str, typer.Option(help="Protocol of the benchmark: rows, prompts and rule.")]
DataRoot = Annotated[
    Path | None, typer.Option(envvar="VGTOOL_DATA", help="Folder with the benchmark's files, or with NAME/ inside.")
]
BoxFormat = Annotated[
    str | None, typer.Option(help="Read boxes so: xyxy, xywh, xyxy-inclusive, normalised or normalised-1000.")
]
Limit = Annotated[int | None, whole("Only the first N rows.", "--limit", least=1)]
Registry = Annotated[
    Path | None, typer.Option(help="Folder whose models.yaml and benchmarks.yaml add or replace entries.")
]
Maps = Annotated[MapsKind, one_of(MapsKind, "Attention maps to keep.", "--maps")]
Row = Annotated[RowKind, one_of(RowKind, "Attention row read.", "--row")]
Region = Annotated[RegionKind, one_of(RegionKind, "Where a sample's object is: its boxes, or its mask.", "--region")]
Mapping = Annotated[
    MappingKind,
    one_of(
        MappingKind,
        "exact: through the model's own preprocessing; stretch: as the released code.",
        "--box-mapping",
    ),
]
Shard = Annotated[
    str,
    typer.Option(help="Share of the images: I/N; auto: the launcher's rank, else all; slurm, lsf: the array's task."),
]
Out = Annotated[
    Path | None, typer.Option(help="Run folder; of several runs, the one above. runs/KIND-MODEL-BENCHMARK else.")
]
Seed = Annotated[int, whole("Seed of whatever is random: controls, tokens outside a region, bootstrap.", "--seed")]
Offline = Annotated[bool, typer.Option(help="Load from disk only.")]
Partial = Annotated[bool, typer.Option(help="Accept unfinished runs.")]
Rule = Annotated[
    str | None, typer.Option(help="strict, paper, huatuo or llava-med; the protocol's own when not given.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but results, warnings and errors.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Also say how: versions, timings, failed samples.")]
Json = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowOptions:
    """Which rows of a benchmark."""

    split: Split = None
    protocol: Protocol = "default"
    data_root: DataRoot = None
    limit: Limit = None
    box_format: BoxFormat = None

    def load(self, name: str, registry: Path | None) -> "Benchmark":
        """The rows of a benchmark. VgError when there are none."""
        from vgtool.benchmarks.load import load

        rows = load(name, **dataclasses.asdict(self), registry=registry)
        if not rows.rows:
            raise VgError(f"Benchmark '{name}' has no rows in split '{rows.split}'.", "Check --data-root and --split.")
        return rows

    def older(self, name: str, registry: Path | None) -> Callable[[int], str]:
        """The digest of a benchmark's first N rows."""
        return lambda rows: dataclasses.replace(self, limit=rows).load(name, registry).digest


@dataclasses.dataclass(frozen=True, kw_only=True)
class WitnessOptions:
    """What a probe asks beside where the model looks."""

    reliance: Annotated[
        bool, typer.Option("--reliance", help="Measure how far the answer depends on the region (knockout).")
    ] = False
    window: Annotated[
        int | None, whole("Layers of a window of the reliance curve; a quarter of the depth else.", "--window", least=1)
    ] = None
    windows: Annotated[int, whole("Windows of the reliance curve, evenly over the depth; 0 for none.", "--windows")] = 8
    draws: Annotated[int, whole("Random choices of as many tokens outside the region.", "--draws", least=1)] = 1

    relevance: Annotated[
        bool, typer.Option("--relevance", help="Metrics and maps of attention times its gradient (a backward pass).")
    ] = False
    sinks: Annotated[
        bool, typer.Option("--sinks", help="Share of the image attention that is on sink tokens, per layer.")
    ] = False
    ask: Annotated[
        AskKind | None, one_of(AskKind, "Ask the model itself where the object is (trained models alone).", "--ask")
    ] = None

    def typed(self) -> dict[str, Any]:
        """As a command takes them again."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How a model is loaded."""

    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto"
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; a GPU when there is one.")] = None
    device_map: Annotated[
        str | None,
        typer.Option(
            help="Spread the model over devices as accelerate does: auto, balanced, balanced_low_0, sequential."
        ),
    ] = None
    offline: Offline = False
    lora: Annotated[
        Path | None, typer.Option(help="LoRA adapter folder, merged into the model (needs vgtool\\[lora]).")
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions(LoadOptions):
    """How a model is loaded, and which share of the work this process does."""

    images: Annotated[str, typer.Option(help="Most images in one forward pass: auto, or a number.")] = "auto"
    batch_size: Annotated[
        str, typer.Option(help="Most questions of an image in one forward pass: auto, or a number.")
    ] = "auto"
    shard: Shard = "auto"
    seed: Seed = 0


def expanded(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command, with the fields of every option group among its parameters in that group's place, and -q and -v."""
    params: list[inspect.Parameter] = []
    groups: dict[str, tuple[type[Any], Sequence[str]]] = {}
    for param in inspect.signature(command, eval_str=True).parameters.values():
        kind = param.annotation
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            params.append(param)
            continue
        fields = list(inspect.signature(kind, eval_str=True).parameters.values())
        groups[param.name] = kind, [field.name for field in fields]
        params += fields

    talk = {"quiet": Quiet, "verbose": Verbose}
    by_name = inspect.Parameter.KEYWORD_ONLY
    params += [inspect.Parameter(name, by_name, default=False, annotation=kind) for name, kind in talk.items()]

    def call(**values: Any) -> Any:
        quiet, verbose = values.pop("quiet"), values.pop("verbose")
        if quiet and verbose:
            raise VgError("-q and -v contradict each other.", "Give one of them.")
        console.hush(console.Talk.QUIET if quiet else console.Talk.VERBOSE if verbose else console.Talk.USUAL)
        taken = {}
        for name, (kind, fields) in groups.items():
            taken[name] = kind(**{field: values.pop(field) for field in fields})
        return command(**values, **taken)

    call.__name__, call.__doc__, call.__module__ = command.__name__, command.__doc__, command.__module__
    call.__signature__ = inspect.Signature(params)  # type: ignore[attr-defined]
    call.__annotations__ = {param.name: param.annotation for param in params}
    return call
