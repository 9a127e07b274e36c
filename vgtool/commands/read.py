"""The commands that read finished runs: score, report."""

from pathlib import Path
from typing import Annotated

import typer

from vgtool import console
from vgtool.commands.options import DataRoot, Json, Partial, Registry, Rule, Seed, whole
from vgtool.errors import Exit

Form = Annotated[
    str | None, typer.Option("--format", help="table, markdown, latex; every number: csv, json, parquet.")
]
Out = Annotated[
    Path | None, typer.Option("-o", "--out", help="File to write; its ending says the format where none is given.")
]


def score(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders, or files of predictions (JSONL, csv, tsv, Parquet).")
    ] = None,
    rule: Rule = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Also split by a field: group or question_type; repeat for both.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="Compare with a METHOD, RUN, MODEL or RUN::METHOD on the same rows; repeat for several."),
    ] = None,
    table: Annotated[
        list[str] | None, typer.Option(help="Only this table; repeat for several. `list` names them.")
    ] = None,
    column: Annotated[list[str] | None, typer.Option(help="Only this column of tables; repeat for several.")] = None,
    form: Form = None,
    out: Out = None,
    partial: Partial = False,
    allow_mixed: Annotated[bool, typer.Option(help="Label runs that differ in protocol, kernel or rows.")] = False,
    bertscore: Annotated[
        str | None, typer.Option(help="Also BERTScore open answers, with this model (name or folder).")
    ] = None,
    bertscore_layer: Annotated[
        int | None, whole("Layer of a model that bert-score does not list.", "--bertscore-layer")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Accuracy and grounding tables, with intervals and paired tests; csv, json and parquet hold an estimate a row.

    Example: vgtool score runs/phantom-refined --by question_type --format markdown
    """
    from vgtool.scoring.tables import TABLES

    if "list" in (table or ()):
        console.show("\n".join(f"{name:14} {about}" for name, about in TABLES.items()))
        return
    from vgtool.scoring import render
    from vgtool.scoring.output import deliver
    from vgtool.scoring.score import score as scored

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
    for sentence in (*found.unmeasured, *found.failed):
        console.warn(sentence)
    if found.failed:
        raise typer.Exit(Exit.SOME_FAILED)


def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders; every one below ./runs or .demo when not given.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page and the figures.")] = Path("report"),
    images: Annotated[
        bool, typer.Option("--images", help="Include the benchmark's pictures; mind patient data.")
    ] = False,
    heads: Annotated[Path | None, typer.Option(help="Head file whose heads are marked on the head map.")] = None,
    partial: Partial = False,
    rule: Rule = None,
    data_root: DataRoot = None,
    registry: Registry = None,
    seed: Seed = 0,
) -> None:
    """Figures (PDF, SVG, PNG) and a page to look through the samples. Without --images it holds no image data.

    Example: vgtool report runs/scenes runs/phantom runs/phantom-refined --out report
    """
    from vgtool.reporting.album import Pictures
    from vgtool.reporting.page import write

    pictures = Pictures(data_root, registry) if images else None
    page = write(runs or [], out, rule=rule, partial=partial, seed=seed, heads=heads, pictures=pictures)
    console.say(f"Open {page}")
