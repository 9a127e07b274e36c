"""Which figures a report has, laid out and written."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from vgtool.grounding.heads import HeadFile
from vgtool.reporting import fonts
from vgtool.reporting.figures.ablation import ablation
from vgtool.reporting.figures.accuracy import accuracy
from vgtool.reporting.figures.files import DATES, save, styled
from vgtool.reporting.figures.gain import gain
from vgtool.reporting.figures.heads import head_map, ringed
from vgtool.reporting.figures.layers import layers
from vgtool.reporting.figures.modality import modality, modality_grounding
from vgtool.reporting.figures.style import COLUMN, Drawn
from vgtool.reporting.inputs import Family, Source
from vgtool.reporting.workers import Task, Workers


@dataclass(frozen=True)
class Written:
    """A figure that is written, or will be when `tasks` are done: what it shows, its SVG file, and whether it is two
    columns wide."""

    caption: str
    svg: Path
    wide: bool
    tasks: Sequence[Task[None]] = ()


def draw(
    figures: Iterable[Drawn], out: Path, workers: Workers, say: Callable[[str], None] = lambda stem: None
) -> list[Written]:
    """Have figures written into `out`. `say` is told each one's stem first."""
    written = []
    with styled():
        for one in figures:
            say(one.stem)
            laid_out(one.figure)
            wide = one.figure.get_figwidth() > COLUMN
            tasks = []
            for kind in DATES:
                given = (one.figure, out / f"{one.stem}.{kind}", kind)
                if workers.count:
                    tasks.append(workers.submit(save, partial(tuple, given)))
                else:  # not in another thread of this process, where matplotlib is drawing
                    save(*given)
            written.append(Written(one.caption + fonts.remark(one.figure), out / f"{one.stem}.svg", wide, tasks))
    return written


def laid_out(figure: Figure) -> None:
    """Give everything its place, once for all files: the first pass moves what the second makes room for."""
    engine = figure.get_layout_engine()
    if engine is not None:
        for _ in range(2):
            engine.execute(figure)
        figure.set_layout_engine(None)


def drawings(
    sources: Sequence[Source], families: Sequence[Family], frame: pl.DataFrame, heads: HeadFile | None, seed: int
) -> Iterator[Drawn]:
    """Every figure these runs allow; `frame`: the estimates of all tables."""
    probes = [one for one in sources if one.best is not None]
    refines = [one for one in sources if one.run.kind == "refine" and one.run.rows.height]
    if probes:
        yield layers(probes, frame)
    yield from (head_map(one, ringed(one, refines, heads)) for one in probes)
    if refines:
        yield from accuracy(refines, frame)
    yield from (modality(one, frame) for one in refines if one.run.rows["group"].drop_nulls().n_unique() > 1)
    yield from (modality_grounding(one, frame) for one in probes if one.measured["group"].n_unique() > 1)
    swept = ablation(refines, frame)
    yield from [swept] if swept else []
    pairs = ((probe, refine) for family in families for refine in family.refines for probe in family.probes)
    binned = (gain(probe, refine, seed) for probe, refine in pairs if probe.best is not None)
    yield from (one for one in binned if one is not None)
