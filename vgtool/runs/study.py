"""A study file: models x benchmarks x methods, and the steps they make, each a command that could be typed.

    models: [phantom-vlm]
    benchmarks: [phantom, {benchmark: scenes, limit: 50}]    # answered with every method
    methods: [vgrefine, random-keep]
    heads: {benchmark: scenes, k: 4}                         # natural images, on which each model's heads are ranked
    probe: [phantom]                                         # where does it look
    out: runs

For every model: probe the heads' images, rank its heads, probe, answer every benchmark; then score and report.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vgtool.errors import VgError
from vgtool.registry import explain
from vgtool.runs.steps import Step, words
from vgtool.safe_yaml import line_of, read_yaml


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", protected_namespaces=())


def _named(value: Any, key: str) -> Any:
    return {key: value} if isinstance(value, str) else value


class Rows(_Strict):
    """A benchmark of the study: its name alone, or with what else names its rows."""

    benchmark: str
    name: str | None = None
    """In folders of the study; the benchmark's own when not given."""
    split: str | None = None
    protocol: str | None = None
    limit: int | None = Field(default=None, ge=1)
    box_format: str | None = None

    @property
    def label(self) -> str:
        return self.name or Path(self.benchmark).stem

    def options(self) -> dict[str, Any]:
        named = {"benchmark": self.benchmark, "split": self.split, "protocol": self.protocol}
        return {**named, "limit": self.limit, "box-format": self.box_format}


class Calibration(Rows):
    """Where each model's heads are ranked."""

    k: int = Field(default=20, ge=1)
    metric: Literal["kl", "js", "ratio"] = "kl"


class StudyModel(_Strict):
    """A model of the study: its name or folder alone, or with how it is loaded."""

    model: str
    name: str | None = None
    """In folders of the study; the model's own, or its folder's, when not given."""
    heads: str | None = None
    """A head file, or `published`: this model's heads are not ranked."""
    lora: str | None = None
    dtype: str | None = None
    cards: int = Field(default=1, ge=1)
    """Cards a process; more than one spreads the model (--device-map auto)."""

    @property
    def label(self) -> str:
        return self.name or Path(self.model).name

    def options(self) -> dict[str, Any]:
        spread = "auto" if self.cards > 1 else None
        return {"model": self.model, "lora": self.lora, "dtype": self.dtype, "device-map": spread}


class Study(_Strict):
    """The file."""

    models: list[StudyModel] = Field(min_length=1)
    benchmarks: list[Rows] = []
    methods: list[str] = ["vgrefine"]
    heads: Calibration | None = None
    """None: published heads, for what reads any."""
    probe: list[Rows] = []
    maps: Literal["layers", "heads", "none"] = "layers"
    protocol: str | None = None
    """Of every benchmark that is answered and names none."""
    limit: int | None = Field(default=None, ge=1)
    """Of every benchmark that names none."""
    seed: int = Field(default=0, ge=0)
    device: str | None = None
    offline: bool = False
    data_root: str | None = None
    registry: str | None = None
    out: str = "runs"

    @model_validator(mode="before")
    @classmethod
    def _names(cls, raw: dict[str, Any]) -> dict[str, Any]:
        raw = dict(raw)
        for key, inner in (("models", "model"), ("benchmarks", "benchmark"), ("probe", "benchmark")):
            if isinstance(raw.get(key), list):
                raw[key] = [_named(one, inner) for one in raw[key]]
        if "heads" in raw:
            raw["heads"] = _named(raw["heads"], "benchmark")
        return raw

    @field_validator("models", "benchmarks", "probe")
    @classmethod
    def _apart(cls, entries: list[Any]) -> list[Any]:
        labels = [one.label for one in entries]
        if odd := [label for label in labels if not re.fullmatch(r"[^\s,/]+", label)]:
            raise ValueError(f"'{odd[0]}' holds a space, comma or slash; give it a `name:` without")
        if twice := [label for label in labels if labels.count(label) > 1]:
            raise ValueError(f"two entries are called '{twice[0]}'; give one of them a `name:`")
        return entries

    @field_validator("methods")
    @classmethod
    def _once(cls, methods: list[str]) -> list[str]:
        if twice := [name for name in methods if methods.count(name) > 1]:
            raise ValueError(f"'{twice[0]}' is named twice")
        return methods


def read(path: Path) -> Study:
    """The study in a YAML file. VgError names file and line of the first fault."""
    raw, node = read_yaml(path)
    try:
        return Study.model_validate(raw)
    except ValidationError as error:
        where, problem, hint = explain(error, Study)
        raise VgError(f"{path}:{line_of(node, where)}: {problem}.", hint) from None


def steps(study: Study) -> list[Step]:
    """Every command of the study, each after those it needs."""
    out = Path(study.out)
    found: list[Step] = []
    for model in study.models:
        found += _of_model(study, model, out)
    runs = [str(out / step.name) for step in found if step.cards]
    every = tuple(step.name for step in found)
    shared = words({"seed": study.seed})
    found.append(Step("score", ("score", *runs, "--format", "markdown", *shared), every, 0, out / "tables.md"))
    found.append(Step("report", ("report", *runs, "--out", str(out / "report"), *shared), every, 0))
    return found


def _of_model(study: Study, model: StudyModel, out: Path) -> Iterator[Step]:
    common = {**model.options(), "seed": study.seed, "device": study.device, "offline": study.offline}
    common |= {"data-root": study.data_root, "registry": study.registry}
    probes = list(study.probe)
    heads: str | None = None if model.heads in (None, "published") else model.heads
    after: tuple[str, ...] = ()
    if study.heads is not None and model.heads is None:
        calibration = f"probe-{model.label}-{study.heads.label}"
        same = [one for one in probes if one.label == study.heads.label]
        if same and same[0].options() != study.heads.options():
            raise VgError(
                f"The study probes '{study.heads.label}' in two ways, for heads and by itself.",
                "Give one of them a `name:`.",
            )
        probes = [study.heads, *(one for one in probes if one not in same)]
        heads = str(out / f"heads-{model.label}.json")
    for rows in probes:
        name = f"probe-{model.label}-{rows.label}"
        options = {**common, **rows.options(), "limit": rows.limit or study.limit, "maps": study.maps}
        yield Step(name, ("probe", *words({**options, "out": out / name})), (), model.cards)
    if heads is not None and study.heads is not None and model.heads is None:
        ranked = words({"k": study.heads.k, "metric": study.heads.metric, "out": heads})
        yield Step(f"heads-{model.label}", ("heads", str(out / calibration), *ranked), (calibration,), 0)
        after = (f"heads-{model.label}",)
    for rows in study.benchmarks:
        name = f"refine-{model.label}-{rows.label}"
        options = {**common, **rows.options(), "limit": rows.limit or study.limit, "heads": heads}
        options |= {"protocol": rows.protocol or study.protocol, "method": study.methods, "out": out / name}
        yield Step(name, ("refine", *words(options)), after, model.cards)
