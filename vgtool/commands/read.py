"""The commands that read finished runs: score, report."""

from pathlib import Path
from typing import Annotated

import typer

from vgtool import console
from vgtool.commands.options import DataRoot, Json, Partial, Registry, Rule, Seed, whole


def score(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or files of predictions (JSONL, csv, Parquet).")],
    rule: Rule = None,
    by: Annotated[str | None, typer.Option(help="Also split by a field: group or question_type.")] = None,
    form: Annotated[str, typer.Option("--format", help="table, markdown, latex, csv or json.")] = "table",
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
    """Accuracy and grounding tables, with intervals and paired tests.

    Example: vgtool score runs/phantom-refined --by question_type --format markdown
    """
    from vgtool.scoring.render import check_format, for_terminal
    from vgtool.scoring.render import render as rendered
    from vgtool.scoring.tables import score as tables

    form = check_format("json" if as_json else form)
    found = tables(
        runs,
        rule=rule,
        by=by,
        partial=partial,
        seed=seed,
        allow_mixed=allow_mixed,
        bertscore=None if bertscore is None else (bertscore, bertscore_layer),
        every_count=form == "json",
    )
    if form == "table" and console.out.is_terminal:
        for table in found:
            console.out.print(for_terminal(table, console.out.width), soft_wrap=True)
        return
    console.show(rendered(found, form))


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
    from vgtool.reporting.page import write
    from vgtool.reporting.samples import Pictures

    pictures = Pictures(data_root, registry) if images else None
    page = write(runs or [], out, rule=rule, partial=partial, seed=seed, heads=heads, pictures=pictures)
    console.say(f"Open {page}")
