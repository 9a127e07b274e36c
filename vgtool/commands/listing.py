"""The commands that say what there is: models, benchmarks, methods, and what this machine has (doctor)."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vgtool import console
from vgtool.commands.options import (
    DataRoot,
    Json,
    Offline,
    Protocol,
    Registry,
    RowOptions,
    Split,
)
from vgtool.errors import Exit, VgError


def models(
    model: Annotated[str | None, typer.Argument(help="Load this model (name or folder) and say what it is.")] = None,
    size: Annotated[str, typer.Option(help="With MODEL: size of the image whose tokens are counted.")] = "448x448",
    offline: Offline = False,
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """The models vgtool knows: on disk or not, size, license, grid, and what to know before running one.

    With MODEL: its family, its layers with attention and without, its tokens for an image, how their places were found
    and how well, whether an image's prefix is shared, and what will not work.

    Example: vgtool models phantom-vlm --size 160x120
    """
    from vgtool.models import listing
    from vgtool.registry import models as entries

    if model is not None:
        from vgtool.runs import inspect, launch

        wanted = inspect.size(size)
        _list(inspect.rows(launch.load(model, registry, "auto", None, None, offline, None), wanted), as_json)
        return
    rows = listing.rows(entries(registry).values())
    _list(rows if as_json else [{key: row[key] for key in listing.SHOWN} for row in rows], as_json)
    if not as_json:
        console.show("\n".join(["", *listing.notes(rows)]))


def benchmarks(
    *,
    check: Annotated[str | None, typer.Option(help="Read every row of this benchmark (or file) and count.")] = None,
    fetch: Annotated[str | None, typer.Option(help="Fetch this benchmark's files from Hugging Face.")] = None,
    which: RowOptions,
    rows: Annotated[Path | None, typer.Option(help="With --check: write the rows, normalised, as Parquet.")] = None,
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

    if rows is not None and check is None:
        raise VgError(f"--rows '{rows}' without --check writes nothing.", "Name the benchmark with --check NAME.")
    if fetch is not None:
        spec = pick(entries(registry), fetch, "benchmarks.yaml")
        folder = fetching.fetch(spec, split=which.split, data_root=which.data_root, offline=offline)
        console.say(f"'{spec.name}' is in {folder}.")
    if check is not None:
        found = which.load(check, registry)
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
    listed = listing.rows(entries(registry).values(), which.data_root)
    _list(listed if as_json else listing.shown(listed), as_json)


def methods(as_json: Json = False) -> None:
    """The methods refine knows, with their parameters and defaults.

    Example: vgtool methods
    """
    from vgtool.methods.parse import known

    rows = []
    for name, kind in known().items():
        settings = " ".join(f"{f.name}={f.default}" for f in dataclasses.fields(kind))
        rows.append({"method": name, "what": kind.summary, "parameters": settings})
    _list(rows, as_json)


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
