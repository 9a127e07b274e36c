"""Runs as a report reads them: the light columns, judged once, and nothing that names a folder of this machine.

Runs of one model on the same rows (same benchmark, split and protocol) are one family: their samples are shown together
and their figures joined. Heavy columns (maps, masks) are streamed later, by `vgtool.reporting.samples`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import polars as pl

from vgtool.errors import VgError
from vgtool.grounding.heads import known_mean
from vgtool.reporting.paths import without_folders
from vgtool.runs.store import Store
from vgtool.scoring.grounding import stacked
from vgtool.scoring.inputs import Run, kind_of, read_run
from vgtool.scoring.runs import METRICS, Scored, columns_of, scored

PLACES = (Path("runs"), Path(".demo"))
"""Where runs are looked for when none is named, first found first."""
SHAPE = ["question", "question_type", "width", "height", "grid_rows", "grid_cols", "grid_box", "boxes"]
SAID = ("box_answer", "box_said")
"""What the page shows of a probe that asks for boxes, beside what tables read of it."""


@dataclass(frozen=True)
class Source:
    """One run among others."""

    scored: Scored
    benchmark: str
    """The benchmark as the run was given it, to find its images again; never shown."""
    number: int = 1
    """Its place among the runs of the report, from 1: figures of one run are numbered by it."""

    @property
    def run(self) -> Run:
        """Its rows: those of answers with `outcome`."""
        return self.scored.run

    @property
    def name(self) -> str:
        """Its name among the others."""
        return self.scored.names.name

    @property
    def model(self) -> str:
        """Its model, told from other checkpoints of that name."""
        return self.scored.names.model

    @property
    def apart(self) -> str:
        """What tells it from the other runs of its model and benchmark."""
        return ", ".join(self.scored.names.apart) or self.run.path.stem

    @property
    def family(self) -> tuple[str, ...]:
        i = self.run.identity
        return (self.model, *(str(i.get(name)) for name in ("revision", "benchmark", "split", "protocol")))

    @property
    def measured(self) -> pl.DataFrame:
        """The rows of a probe run that have metrics."""
        return self.scored.measured

    @property
    def samples(self) -> int:
        return self.run.rows["sample_id"].n_unique()

    @cached_property
    def best(self) -> int | None:
        """The layer of lowest mean KL; None when no layer is known on more than half of the samples."""
        if self.run.kind != "probe" or not self.measured.height:
            return None
        values = known_mean(stacked(self.measured, "layer_kl"))
        return None if np.isnan(values).all() else int(np.nanargmin(values))

    @property
    def methods(self) -> list[str]:
        return self.scored.methods


@dataclass
class Family:
    """The runs of one model on the same rows."""

    key: tuple[str, ...]
    probes: list[Source] = field(default_factory=list)
    refines: list[Source] = field(default_factory=list)


def found_runs() -> list[Path]:
    """Every run folder below ./runs, else below .demo. VgError when there is none."""
    for place in PLACES:
        runs = sorted(path.parent for path in place.rglob("run.json"))
        if runs:
            return runs
    raise VgError("No run folder below ./runs or .demo.", "Name the run folders: vgtool report RUN... --out DIR.")


def expected(paths: Sequence[Path]) -> int:
    """Samples of run folders, as their records say; 0 of files."""
    return sum(Store(path).read()["identity"].get("rows", 0) for path in paths if path.is_dir())


def sources(paths: Sequence[Path], rule: str | None, partial: bool) -> list[Source]:
    """The runs, cleaned and named. A run without any row is kept: the page says that it is empty."""
    found = [_read(path, partial) for path in dict.fromkeys(paths)]
    runs = scored([_cleaned(run) for run in found], rule)
    named = ((one, str(run.identity["benchmark"])) for one, run in zip(runs, found, strict=True))
    return [Source(one, benchmark, number) for number, (one, benchmark) in enumerate(named, 1)]


def families(sources: Iterable[Source]) -> list[Family]:
    """The runs by model and rows, in the order given."""
    found: dict[tuple[str, ...], Family] = {}
    for one in sources:
        mine = found.setdefault(one.family, Family(one.family))
        (mine.refines if one.run.kind == "refine" else mine.probes).append(one)
    return list(found.values())


def _read(path: Path, partial: bool) -> Run:
    kind = kind_of(path)
    asked = kind == "probe" and Store(path).read()["identity"].get("ask")
    more = [*SHAPE, *(["confidence"] if kind == "refine" else []), *(SAID if asked else ())]
    columns = list(dict.fromkeys([*columns_of(path), *more]))
    if path.is_dir() and not any(Store(path).parts()):
        record = Store(path).read()
        lists = {"choices", "boxes", "grid_box", *METRICS}
        schema: dict[str, Any] = {c: pl.List(pl.Float32) if c in lists else pl.String for c in ["sample_id", *columns]}
        return Run(path, kind, record["identity"], pl.DataFrame(schema=schema), ("This run holds no rows.",))
    return read_run(path, columns, partial)


def _cleaned(run: Run) -> Run:
    """The run without absolute paths in its identity, notes and errors."""
    rows = run.rows
    for name in ("error", "unmeasured"):
        if name in rows.columns and rows[name].null_count() < rows.height:
            rows = rows.with_columns(pl.Series(name, [e and without_folders(e) for e in rows[name]], pl.String))
    notes = tuple(without_folders(note.replace(str(run.path), run.path.name)) for note in run.notes)
    return replace(run, identity=_tails(run.identity), rows=rows, notes=notes)


def _tails(value: Any) -> Any:
    """A JSON value whose absolute paths are cut down to their last name."""
    if isinstance(value, dict):
        return {str(key): _tails(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_tails(one) for one in value]
    if isinstance(value, str):
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(value).is_absolute():
                return kind(value).name or "/"
    return value
