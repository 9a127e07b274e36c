"""The command that runs many: study."""

from pathlib import Path
from typing import Annotated

import typer

from vgtool import console
from vgtool.commands.options import Shard


def study(
    *,
    file: Annotated[Path, typer.Argument(help="YAML: models, benchmarks, methods, heads; docs/study.md explains it.")],
    step: Annotated[list[str] | None, typer.Option(help="Only this step; repeat for several.")] = None,
    listed: Annotated[
        bool, typer.Option("--list", help="Print the steps (name, cards, steps before, command), and run none.")
    ] = False,
    shard: Shard = "auto",
) -> None:
    """Models x benchmarks x methods from one file, every step going on from where it was; ends in tables and a page.

    Example: vgtool study study.yaml
    """
    from vgtool.runs import steps
    from vgtool.runs import study as studies

    found = steps.chosen(studies.steps(studies.read(file)), step or ())
    if not listed:
        raise typer.Exit(steps.run(found, shard))
    for one in found:
        console.show(f"{one.name} {one.cards} {','.join(one.after) or '-'} {one.line}")
