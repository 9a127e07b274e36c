"""The report: figures, tables and one self-contained page to look through the samples. No network, ever.

The page's policy allows its own script and style by their hashes and, where the data is too large for the page, the
chunk files beside it; every text is escaped by the template or set as text by the script.
"""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import polars as pl

from vgtool.errors import VgError
from vgtool.grounding import heads as head_files
from vgtool.reporting import figures
from vgtool.reporting.examples import examples
from vgtool.reporting.folder import replaced
from vgtool.reporting.inputs import Source, families, found_runs, sources
from vgtool.reporting.pack import Pack, encoded
from vgtool.reporting.samples import Pictures, index
from vgtool.scoring.export import exported
from vgtool.scoring.frame import Estimates, joined
from vgtool.scoring.runs import FIELDS
from vgtool.scoring.score import estimates
from vgtool.scoring.views import Cell, Table, view

SCRIPTS = ("picture.js", "tables.js", "browser.js")


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
    read = sources(inputs or found_runs(), rule, partial)
    chosen = None if heads is None else head_files.read(heads)
    grouped = families(read)
    try:
        with replaced(out) as folder:
            pack = Pack(folder / "data")
            listed = index(grouped, pack, pictures)
            shown = [] if pictures is None else examples(read, pictures)
            drawn = figures.draw(read, grouped, chosen, seed, folder, shown)
            parts = _estimates(read, seed)
            frame = joined(parts)
            for form in ("json", "parquet"):
                (folder / f"results.{form}").write_bytes(exported(frame, form))
            tables = [_summary(read, frame), *_failures(read), *map(view, parts)]
            (folder / "index.html").write_text(_page(tables, drawn, read, listed, pack), encoding="utf-8")
    except OSError as error:
        raise VgError(f"Cannot write in '{out}': {error.strerror}.", "Choose another --out.") from None
    return out / "index.html"


def _page(
    tables: Sequence[Table], drawn: Sequence[tuple[str, Path]], read: Sequence[Source], listed: object, pack: Pack
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
        style=style,
        summary=tables[0],
        tables=tables[1:],
        figures=[(caption, base64.b64encode(path.read_bytes()).decode()) for caption, path in drawn],
        runs=[one.run for one in read],
        index=encoded(json.dumps(listed, allow_nan=False, separators=(",", ":")).encode()),
        chunks=pack.kept,
        samples=len(listed["items"]) if isinstance(listed, dict) else 0,
        pictures=isinstance(listed, dict) and listed["images"],
    )


def _hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# ---- tables ------------------------------------------------------------------------------------------------------


def _estimates(read: Sequence[Source], seed: int) -> list[Estimates]:
    """Every table these runs allow, split by each field that has several values; runs that differ are labelled."""
    runs = [one.scored for one in read if (one.measured if one.run.kind == "probe" else one.run.rows).height]
    found = estimates(runs, FIELDS, seed, allow_mixed=True)
    return [part for part in found if part.frame["field"][0] not in FIELDS or part.frame["level"].n_unique() > 1]


def _summary(read: Sequence[Source], found: pl.DataFrame) -> Table:
    """A line for each run: what it holds and its main number."""
    lines: list[list[Cell]] = []
    for one in read:
        rows, i = one.run.rows, one.run.identity
        samples = rows["sample_id"].n_unique()
        failed = rows.filter(pl.col("error").is_not_null())["sample_id"].n_unique()
        said = "no rows" if not samples else _refined(one, found) if one.run.kind == "refine" else _probed(one)
        lines.append([one.run.kind, i["model"], i["benchmark"], i.get("split"), samples, failed, said])
    columns = ["run", "model", "benchmark", "split", "samples", "failed", "in short"]
    notes = [f"{one.name}: {note}" for one in read for note in one.run.notes]
    return Table("Summary", columns, lines, list(dict.fromkeys(notes)))


def _refined(one: Source, found: pl.DataFrame) -> str:
    """The baseline, the claim of greatest gain beside random tokens, and the ceiling, each named as what it is."""
    mine = (pl.col("table") == "accuracy") & pl.col("field").is_null() & (pl.col("run") == one.name)
    rows = found.filter(mine & pl.col("value").is_not_null())
    levels = {row["method"]: row["value"] for row in rows.filter(pl.col("metric") == "accuracy").iter_rows(named=True)}
    if not levels:
        return "no answer to score"
    gains = rows.filter(pl.col("metric") == "gain").sort("value", descending=True, maintain_order=True)
    claim = gains.filter(pl.col("kind") == "claim").head(1)
    random = gains.filter(pl.col("method").str.starts_with("random-keep")).head(1)
    ceiling = gains.filter(pl.col("kind") == "ceiling").head(1)
    said = [f"baseline {100 * levels['baseline']:.1f} %"] if "baseline" in levels else []
    for word, few in (("best claim", claim), ("control", random), ("ceiling", ceiling)):
        said += [f"{word} {_gained(row)}" for row in few.iter_rows(named=True)]
    if not gains.height:
        said += [f"{method} {100 * level:.1f} %" for method, level in levels.items() if method != "baseline"]
    return "; ".join(said)


def _gained(row: Mapping[str, Any]) -> str:
    """A method's paired gain in points, its interval (from two images on) and the larger p, with Holm's for a claim."""
    ends = "" if row["low"] is None else f" [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
    holm = "" if row["p_holm"] is None else f", Holm {row['p_holm']:.3g}"
    return f"{row['method']} {100 * row['value']:+.1f}{ends}, p {max(row['p'], row['p_image']):.3g}{holm}"


def _probed(one: Source) -> str:
    good = one.measured
    if not good.height:
        return "no grounding metric: no boxes, or none that the model sees"
    kl = figures.stacked(good, "layer_kl")
    layer = figures.best_layer(kl)
    column = figures.stacked(good, "layer_ratio")[:, layer]
    known = column[column == column]
    ratio = f"attention ratio {known.mean():.2f} at layer {layer}" if known.size else "no finite metric"
    return f"{good.height} measured, {ratio}"


def _failures(read: Sequence[Source]) -> list[Table]:
    """Why samples failed, by the code of the reason; nothing when none did."""
    lines: list[list[Cell]] = []
    for one in read:
        failed = one.run.rows.filter(pl.col("error").is_not_null())
        reasons = failed.unique(["sample_id", "error"], maintain_order=True)["error"].to_list()
        for code, count in Counter(reason.split(":")[0] for reason in reasons).most_common():
            example = next(reason for reason in reasons if reason.split(":")[0] == code)
            lines.append([one.run.kind, one.name, code, count, example[:200]])
    return [Table("Failed samples", ["run", "of", "code", "samples", "for example"], lines)] if lines else []
