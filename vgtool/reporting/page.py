"""The report: figures, tables and one self-contained page to look through the samples. No network, ever.

The page's policy allows its own script and style by their hashes and, where the data is too large for the page, the
chunk files beside it; every text is escaped by the template or set as text by the script.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

import jinja2

from vgtool.errors import VgError
from vgtool.garbage import uncollected
from vgtool.grounding import heads as head_files
from vgtool.reporting import paper, steps
from vgtool.reporting.album import Pictures
from vgtool.reporting.figures.draw import Written, draw, drawings
from vgtool.reporting.figures.examples import examples
from vgtool.reporting.figures.repairs import repairs
from vgtool.reporting.folder import replaced
from vgtool.reporting.inputs import Source, expected, families, found_runs, sources
from vgtool.reporting.overview import summary
from vgtool.reporting.pack import Pack, encoded
from vgtool.reporting.samples import begin, index
from vgtool.reporting.workers import Workers, processes
from vgtool.scoring.export import exported
from vgtool.scoring.frame import TABLES, Estimates, joined
from vgtool.scoring.runs import FIELDS
from vgtool.scoring.score import estimates
from vgtool.scoring.views import Table, view

SCRIPTS = ("picture.js", "witness.js", "tables.js", "chunks.js", "filters.js", "sample.js", "take.js", "browser.js")


def write(
    inputs: Sequence[Path],
    out: Path,
    *,
    rule: str | None,
    partial: bool,
    seed: int,
    heads: Path | None = None,
    pictures: Pictures | None = None,
) -> Path:
    """Write figures and index.html (and data/ beside it, where the page would be too large) as `out`; the page.

    No `inputs`: every run folder below ./runs or .demo. VgError when `out` holds anything else or cannot be written;
    a report that is there stays then.
    """
    paths = inputs or found_runs()
    # A report makes millions of objects, which live to its end, and no circle but the few of each figure.
    with steps.shown() as told, uncollected(), Workers(processes(expected(paths))) as workers:
        told.start("reading the runs")
        read = sources(paths, rule, partial)
        chosen = None if heads is None else head_files.read(heads)
        try:
            with replaced(out) as folder:
                _fill(folder, read, chosen, seed, pictures, told, rule, workers)
        except OSError as error:
            raise VgError(f"Cannot write in '{out}': {error.strerror}.", "Choose another --out.") from None
    return out / "index.html"


def _fill(
    folder: Path,
    read: Sequence[Source],
    heads: head_files.HeadFile | None,
    seed: int,
    pictures: Pictures | None,
    told: steps.Steps,
    rule: str | None,
    workers: Workers,
) -> None:
    """Everything of a report, into an empty folder."""
    grouped = families(read)
    pack = Pack(folder / "data")
    begin(grouped[0], pictures, workers)
    told.start("tables")
    parts = tables_of(read, seed, rule)
    frame = joined(parts)
    for form in ("json", "parquet"):
        (folder / f"results.{form}").write_bytes(exported(frame, form))
    shown = drawings(read, grouped, frame, heads, seed)
    if pictures is not None:
        shown = chain(shown, examples(read, pictures), repairs(grouped, pictures, seed))
    drawn = draw(shown, folder, workers, lambda stem: told.start(f"figure {stem}"))
    listed = index(grouped, pack, pictures, told, workers)
    told.start("the page")
    for task in chain.from_iterable(one.tasks for one in drawn):
        task.result()
    tables = [summary(read, frame), *map(view, parts)]
    (folder / "index.html").write_text(_page(tables, drawn, read, listed, pack), encoding="utf-8")


def _page(
    tables: Sequence[Table], drawn: Sequence[Written], read: Sequence[Source], listed: dict[str, Any], pack: Pack
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vgtool.reporting"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    templates = resources.files("vgtool.reporting") / "templates"
    script = "".join((templates / name).read_text("utf-8") for name in SCRIPTS)
    style = (templates / "page.css").read_text("utf-8")
    beside = pack.chunks > len(pack.kept)
    policy = [
        "default-src 'none'",
        "img-src data:",
        f"style-src {_hashed(style)}",
        f"script-src {_hashed(script)}{' ' + chr(39) + 'self' + chr(39) + ' file:' if beside else ''}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return environment.get_template("page.html").render(
        policy="; ".join(policy),
        script=script,
        paper=paper,
        style=style,
        summary=tables[0],
        tables=tables[1:],
        figures=[(one, base64.b64encode(one.svg.read_bytes()).decode()) for one in drawn],
        runs=read,
        index=encoded(json.dumps(listed, allow_nan=False, separators=(",", ":")).encode()),
        chunks=pack.kept,
        samples=len(listed["items"]),
        pictures=listed["images"],
    )


def _hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def tables_of(read: Sequence[Source], seed: int, rule: str | None = None) -> list[Estimates]:
    """Every table these runs allow, split by each field that has several values; runs that differ are labelled."""
    runs = [one.scored for one in read if one.best is not None or (one.run.kind == "refine" and one.samples)]
    found = estimates(runs, FIELDS, seed, frozenset(TABLES), allow_mixed=True, rule=rule)
    return [part for part in found if part.frame["field"][0] not in FIELDS or part.frame["level"].n_unique() > 1]
