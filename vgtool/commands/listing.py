"""The commands that say what there is: models, benchmarks, methods, and what this machine has (doctor)."""

import dataclasses
import json
import textwrap
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
from vgtool.errors import Exit, VgError, did_you_mean


def models(
    model: Annotated[str | None, typer.Argument(help="Show this one in full; a folder is loaded.")] = None,
    size: Annotated[str | None, typer.Option(help="Load MODEL, and count the tokens of an image of this size.")] = None,
    offline: Offline = False,
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """The models vgtool knows: on disk or not, size, license, grid. With MODEL: all of one, and what to know of it.

    With --size, or a folder, it is loaded: its family, its layers with attention and without, its tokens for an image,
    how their places were found and how well, whether an image's prefix is shared, and what will not work.

    Example: vgtool models phantom-vlm --size 160x120
    """
    from vgtool.models import listing
    from vgtool.models.load import resolve
    from vgtool.registry import models as entries

    if model is not None:
        spec, folder = resolve(model, registry)
        if size is None and folder is None:
            _one(listing.rows([spec])[0], as_json)
            return
        from vgtool.runs import imports, inspect, launch

        wanted = inspect.size(size or "448x448")
        imports.engine(own=True)
        _list(inspect.rows(launch.load(model, registry, "auto", None, None, offline, None), wanted), as_json)
        return
    rows = listing.rows(entries(registry).values())
    short = [{key: textwrap.shorten(row[key], 28, placeholder=" ...") for key in listing.SHOWN} for row in rows]
    _list(rows if as_json else short, as_json)
    if not as_json:
        console.say("`vgtool models NAME` shows one in full, with what to know before running it.")


def benchmarks(
    *,
    benchmark: Annotated[str | None, typer.Argument(help="Show this one in full.")] = None,
    check: Annotated[str | None, typer.Option(help="Read every row of this benchmark (or file) and count.")] = None,
    fetch: Annotated[str | None, typer.Option(help="Fetch this benchmark's files from Hugging Face.")] = None,
    which: RowOptions,
    rows: Annotated[Path | None, typer.Option(help="With --check: write the rows, normalised, as Parquet.")] = None,
    offline: Offline = False,
    registry: Registry = None,
    as_json: Json = False,
) -> None:
    """The benchmarks vgtool knows, what of them is on disk; with BENCHMARK all of one; --check reads, --fetch fetches.

    Example: vgtool benchmarks --check slake --data-root data --protocol paper
    """
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
        from vgtool.benchmarks import check as checking

        found = which.load(check, registry)
        if rows is not None:
            checking.write_rows(found, rows)
            console.say(f"{found.rows:,} rows written to {rows}.")
        counts = checking.check(found)
        if as_json:
            console.show(json.dumps(counts, indent=1))
        else:
            console.show(console.table([counts["benchmark"], "", "count"], checking.lines(counts)))
            for line in checking.remarks(counts):
                console.warn(line)
        raise typer.Exit(Exit.DONE if checking.is_clean(counts) else Exit.SOME_FAILED)
    if fetch is not None:
        return
    if benchmark is not None:
        _one(listing.rows([pick(entries(registry), benchmark, "benchmarks.yaml")], which.data_root)[0], as_json)
        return
    listed = listing.rows(entries(registry).values(), which.data_root)
    _list(listed if as_json else listing.shown(listed), as_json)
    if not as_json:
        console.say(
            "`vgtool benchmarks NAME` shows one in full, with its protocols and what to know before running it."
        )


def methods(
    method: Annotated[str | None, typer.Argument(help="Show this one in full.")] = None,
    as_json: Json = False,
) -> None:
    """The methods refine knows; with METHOD, or as JSON, every parameter with its default and what it does.

    Example: vgtool methods vgrefine
    """
    from vgtool.methods.listing import rows

    listed = rows()
    if method is not None:
        known = {row["method"]: row for row in listed}
        if method not in known:
            raise VgError(f"No method '{method}'.", did_you_mean(method, known))
        listed = [known[method]]
    if as_json:
        console.show(json.dumps(listed if method is None else listed[0], indent=1))
    elif method is None:
        columns = ["method", "what", "parameters"]
        shown = [[row["method"], row["what"], _defaults(row["parameters"])] for row in listed]
        console.show(console.table(columns, shown))
        console.say("`vgtool methods NAME` explains the parameters of one.")
    else:
        [row] = listed
        parameters = [[p["name"], p["default"], p["type"], p["help"]] for p in row["parameters"]]
        console.show(f"{row['method']} ({row['role']}): {row['what']}")
        if parameters:
            console.show("\n" + console.table(["parameter", "default", "type", ""], parameters))


def _defaults(parameters: list[dict[str, Any]]) -> str:
    return textwrap.shorten(" ".join(f"{one['name']}={one['default']}" for one in parameters), 36, placeholder=" ...")


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
    shown = json.dumps(rows, indent=1) if as_json else console.table(list(rows[0]), [list(r.values()) for r in rows])
    console.show(shown)


def _one(row: dict[str, Any], as_json: bool) -> None:
    """Everything of one entry, a key a line; lists and protocols below their key."""
    if as_json:
        console.show(json.dumps(row, indent=1))
        return
    for key, value in row.items():
        if value in (None, "", [], {}):
            continue
        several = [f"{name}: {one}" for name, one in value.items()] if isinstance(value, dict) else value
        if isinstance(several, list) and not all(isinstance(one, int) for one in several):
            console.show("\n".join([f"{key}:", *(f"  {one}" for one in several)]))
        else:
            console.show(f"{key}: {value}")
