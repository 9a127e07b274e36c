"""Runs as tables read them: judged or measured once, and named among the others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import polars as pl

from vgtool.errors import VgError
from vgtool.methods.names import Role, role_of
from vgtool.runs.store import Store
from vgtool.scoring import thinking
from vgtool.scoring.frame import Row
from vgtool.scoring.inputs import ANSWERS, Run, judged, kind_of, read_run, unanswered
from vgtool.scoring.names import Names, told_apart

METRICS = ("layer_ratio", "layer_kl", "layer_js")
HEAD_METRICS = ("head_ratio", "head_kl", "head_js")
GROUNDING = ["image_id", "group", "question_type", "domain", "error", *METRICS, *HEAD_METRICS]
RELIANCE = ["question", "answer", "choices", "reference", "reliance", "reliance_random", "sufficiency",
            "reliance_curve", "reliance_random_curve", "unmeasured"]  # fmt: skip
WORDS = ["boxes", "box_outcome", "box_iou", "box_centre_inside", "box_attention_ratio", "unmeasured"]
FIELDS = ("group", "question_type")
"""What tables can be split by."""


@dataclass(frozen=True, eq=False)
class Scored:
    """One run among others."""

    run: Run
    """Its rows; of answers with `outcome`, without those that have no reference."""
    names: Names
    rule: str | None = None
    """The rule its answers were judged by; None for a probe."""
    unanswered: int = 0
    """Samples that ran and have no reference to be judged by."""

    @property
    def rows(self) -> pl.DataFrame:
        return self.run.rows

    @property
    def methods(self) -> list[str]:
        return list(self.run.identity.get("methods", []))

    @property
    def title(self) -> str:
        return self.names.title

    @cached_property
    def measured(self) -> pl.DataFrame:
        """The rows of a probe run that have metrics."""
        kept = self.rows.select(pl.col("error").is_null() & pl.col("layer_ratio").is_not_null()).to_series()
        return self.rows if kept.all() else self.rows.filter(kept)

    def role(self, method: str) -> Role:
        """Whether a method is the baseline, a claim, a control or the ceiling: as its run says, else by its name."""
        said = self.run.recorded.get("roles", {}).get(method)
        return said if said is not None else role_of(method)

    def columns(self, table: str) -> Row:
        """What every row of the frame says of this run."""
        i = self.run.identity
        return {
            "table": table,
            "run": self.names.name,
            "model": self.names.model,
            "benchmark": i["benchmark"],
            "split": i.get("split"),
            "protocol": i.get("protocol"),
            "row": i.get("row"),
            "rule": self.rule,
        }

    @property
    def outcomes(self) -> tuple[str, ...]:
        """What its answers can come to."""
        unfinished = ("unfinished",) if thinking.of(self.run.identity) else ()
        return ("right", "wrong", "undecided", *unfinished, "failed")

    def judging(self) -> list[str]:
        """How its answers were judged."""
        said = f"Rule: {self.rule}. Undecided counts as wrong; failed samples are left out."
        return [said, *thinking.note(self.run.identity)]


def scored(runs: Sequence[Run], rule: str | None) -> list[Scored]:
    """The runs, judged and named."""
    named = told_apart(runs)
    return [
        Scored(replace(run, rows=judged(run, rule)), names, rule or run.identity.get("rule", "strict"), unanswered(run))
        if run.kind == "refine"
        else Scored(run, names)
        for run, names in zip(runs, named, strict=True)
    ]


def read(inputs: Sequence[Path], rule: str | None, partial: bool) -> list[Scored]:
    """Run folders and prediction files, in the order given, each once. VgError when there is none."""
    if not inputs:
        raise VgError("No run is named.", "Name run folders or files of predictions: vgtool score RUN...")
    unique = {path.absolute(): path for path in reversed(inputs)}
    paths = [path for path in dict.fromkeys(inputs) if unique[path.absolute()] == path]
    return scored([read_run(path, columns_of(path), partial) for path in paths], rule)


def columns_of(path: Path) -> list[str]:
    """What tables read of a run: of a probe also what it asked for beside attention."""
    if kind_of(path) == "refine":
        return [*ANSWERS]
    identity = Store(path).read()["identity"]
    more = [*(RELIANCE if identity.get("reliance") else ()), *(WORDS if identity.get("ask") else ())]
    return list(dict.fromkeys([*GROUNDING, *more]))
