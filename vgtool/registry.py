"""models.yaml and benchmarks.yaml, read safely into checked, typed entries.

YAML is data (`vgtool.safe_yaml`): unknown keys are refused with "did you mean", types are strict (`layer: "16"` is an
error, not 16). Every complaint is one sentence with file and line. An entry names its adapter or reader by a short key
from a fixed table, never by import path. `--registry DIR` adds entries or replaces whole entries of the same name.
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vgtool.errors import VgError, did_you_mean
from vgtool.safe_yaml import line_of, read_yaml


class Entry(BaseModel):
    """What every registry entry has in common: frozen, strict types, no unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", protected_namespaces=())

    name: str
    title: str
    license: str = ""
    notes: list[str] = Field(default_factory=list)
    """What a user should know, one sentence each."""
    unverified: list[str] = Field(default_factory=list)
    """What has not been seen on the real files, one sentence each."""


E = TypeVar("E", bound=Entry)


def asks(prompt: str) -> str:
    """A chat template, as it is. ValueError unless it holds `<image>` and behind it `{question}`, each once."""
    marks = [prompt.count(mark) for mark in ("<image>", "{question}")]
    if marks != [1, 1] or prompt.index("<image>") > prompt.index("{question}"):
        raise ValueError(f"its prompt {prompt!r} does not hold <image> and then {{question}}, each once")
    return prompt


class Thinking(BaseModel):
    """Where a model that reasons first puts its answer."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    opens: str = Field(min_length=1)
    """The text after which the answer stands (`<answer>`, `</think>`); the last of several counts."""
    closes: str | None = None
    """The text that ends it; None: the end of what was written."""
    begins: str | None = None
    """The text that a reasoning begins with; what was written without it is the answer itself."""


class Boxes(BaseModel):
    """How a model that was trained to answer with boxes is asked for one, and what its numbers mean."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    ask: str = "{question}"
    """What stands in the chat template where the question does, around `{question}`."""
    prompt: Annotated[str, AfterValidator(asks)] | None = None
    """Chat template in place of the model's own, for one that asks before the image."""
    scale: Literal["0-1", "0-999", "0-1000", "pixels"]
    """What the numbers run over."""
    frame: Literal["stored", "model"] = "stored"
    """Of the stored image, or of the picture that the model's preprocessing makes of it."""
    order: Literal["xyxy", "yxyx"] = "xyxy"
    source: str = Field(min_length=1)
    """Where all this is written."""

    @field_validator("ask")
    @classmethod
    def _asks(cls, ask: str) -> str:
        if ask.count("{question}") != 1:
            raise ValueError(f"its ask {ask!r} does not hold {{question}} once")
        return ask


class ModelSpec(Entry):
    """One model of models.yaml."""

    adapter: str
    """Short key of the adapter family (see vgtool.models)."""
    hub: str | None = None
    """Hugging Face repository id; None for a model that ships inside vgtool or has no public checkpoint."""
    embedded: str | None = None
    """Folder inside the package, for a model that ships with vgtool."""
    revision: str = "main"
    """Commit to load; pin one for work that must be repeatable."""
    gated: bool = False
    parameters: float | None = None
    """In billions."""
    size_gb: float | None = None
    """Checkpoint size on disk."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """The checkpoint's own dtype, used on an accelerator unless --dtype says otherwise."""
    layers: int | None = None
    heads: int | None = None
    grid: str | None = None
    """Image tokens as `rows x cols` and their order, in words."""
    prompt: Annotated[str, AfterValidator(asks)] | None = None
    """Chat template with `<image>` and `{question}`; None means the checkpoint's own chat template."""
    system: str | None = None
    """System message that a chat template, the checkpoint's own, is given."""
    question: str = "{question}"
    """What the user says: `{question}` with the instructions that the model was trained on around it."""
    thinking: Thinking | None = None
    """Given: the model reasons first; its answer is read where this says, within the protocol's thinking_tokens."""
    boxes: Boxes | None = None
    """None: the model was not trained to answer with boxes, as far as is known."""
    knockout_layers: list[int] | None = None
    """Default VGRefine layers, 0-based; None: the most sensitive layer of the head file."""
    heads_ranked: list[list[int]] | None = None
    """Published heads, [layer, head] in rank order."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Facts the adapter needs (stop strings, feature select, ...); each adapter checks its own."""

    @model_validator(mode="after")
    def _speaks(self) -> Self:
        if self.question.count("{question}") != 1:
            raise ValueError(f"its question {self.question!r} does not hold {{question}} once")
        if self.system is not None and self.prompt is not None:
            raise ValueError("a prompt holds its system message itself; system is for a checkpoint's own template")
        return self


class ProtocolSpec(BaseModel):
    """One named way to ask and score a benchmark: rows, prompt, decoding and rule."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    rule: Literal["strict", "paper", "huatuo", "llava-med"] = "strict"
    splits: list[str] | None = None
    """Splits this protocol reads when the user names none; None: the benchmark's default split."""
    filter: dict[str, list[str]] = Field(default_factory=dict)
    """Field of the published row (or fact the reader derives) -> values as they stand there, nothing stripped; rows
    outside are not part of the protocol (not failures)."""
    prompts: dict[Literal["closed", "choice", "open"], str] = Field(default_factory=dict)
    """Question type -> template with {question} and {options}; a missing type uses the default one."""
    max_new_tokens: int = Field(default=32, ge=1)
    thinking_tokens: int = Field(default=1024, ge=1)
    """What a model that reasons first may write in place of max_new_tokens, its answer included."""
    rows: dict[str, int] = Field(default_factory=dict)
    """Published row count per split (or several, joined by +) under this protocol, checked and reported."""
    note: str = ""
    """What a reader of the numbers must know; goes into run.json and below tables."""

    @field_validator("prompts")
    @classmethod
    def _asks(cls, prompts: dict[str, str]) -> dict[str, str]:
        for kind, text in prompts.items():
            if "{question}" not in text:
                raise ValueError(f"the prompt for '{kind}' has no {{question}}")
        return prompts


class BenchmarkSpec(Entry):
    """One benchmark of benchmarks.yaml. Patterns are globs below the benchmark's folder; `all` means every split."""

    reader: str
    """Short key of the layout (see vgtool.benchmarks)."""
    domain: Literal["medical", "natural"]
    hub: str | None = None
    """Hugging Face dataset id; None for a generated or local one."""
    revision: str = "main"
    files: dict[str, list[str]] = Field(default_factory=dict)
    """Split (or `all`) -> what to fetch from the hub, only these."""
    data: dict[str, list[str]] = Field(default_factory=dict)
    """Split (or `all`) -> where its rows are, best form first: the first pattern that finds files is read."""
    folders: list[str] = Field(default_factory=lambda: [""])
    """Folders that image paths start from."""
    archives: list[str] = Field(default_factory=list)
    """Zip archives with images (and data), read in place."""
    beside: list[str] = Field(default_factory=list)
    """Other benchmarks whose folders (or shared image folders), next to this one's, also hold its images."""
    splits: dict[str, int | None] = Field(default_factory=dict)
    """Split -> published row count of the whole split, None where unknown."""
    published: dict[str, int] = Field(default_factory=dict)
    """Data file -> its published row count, where a form of the benchmark has other rows than its splits."""
    default_split: str
    protocols: dict[str, ProtocolSpec] = Field(default_factory=lambda: {"default": ProtocolSpec()})
    box_format: Literal["xyxy", "xywh", "xyxy-inclusive", "normalised", "normalised-1000", "vgmed"] | None = None
    """None: no boxes, or stated in the rows. `vgmed`: the authors' per-row rule."""
    has_answers: bool = True
    groups: dict[str, str] = Field(default_factory=dict)
    """Modality as the rows write it (letters and digits count, case does not) -> as it is shown."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further facts the reader needs; each reader checks its own."""

    @model_validator(mode="after")
    def _names_known_splits(self) -> Self:
        used = {"default_split": [self.default_split], "files": [*self.files], "data": [*self.data]}
        for name, protocol in self.protocols.items():
            rows = [one for names in protocol.rows for one in names.split("+")]
            used[f"protocols.{name}"] = [*(protocol.splits or ()), *rows]
        for where, names in used.items():
            if unknown := sorted(set(names) - {*self.splits, "all"}):
                raise ValueError(f"'{where}' names split '{unknown[0]}', which 'splits' has not")
        return self

    def of_split(self, patterns: Mapping[str, list[str]], split: str) -> list[str]:
        """The patterns of `files` or `data` for a split."""
        return patterns.get(split) or patterns.get("all") or []


def _inner(kind: type[BaseModel], loc: tuple[Any, ...]) -> type[BaseModel]:
    """The model inside `kind` that a place in its data belongs to."""
    for part in loc:
        if part in kind.model_fields:
            stack = [kind.model_fields[part].annotation]
            while stack:
                inner = stack.pop()
                if isinstance(inner, type) and issubclass(inner, BaseModel):
                    kind = inner
                stack += get_args(inner)
    return kind


def explain(error: ValidationError, kind: type[BaseModel]) -> tuple[tuple[Any, ...], str, str]:
    # An unknown key explains a missing one better than the other way round: it is usually the same key, mistyped.
    first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    loc = first["loc"]
    where = ".".join(str(part) for part in loc)
    if first["type"] == "value_error":  # a check of our own, which says all there is to say
        return loc, first["msg"].removeprefix("Value error, "), "Correct the value."
    if first["type"] == "extra_forbidden":
        return loc, f"unknown key '{where}'", did_you_mean(str(loc[-1]), _inner(kind, loc[:-1]).model_fields)
    if first["type"] == "missing":
        return loc, f"key '{where}' is missing", "Add it."
    message = first["msg"][0].lower() + first["msg"][1:]
    return loc, f"'{where}' is {first['input']!r}, but {message}", "Correct the value."


def read_entries(path: Path, kind: type[E]) -> dict[str, E]:
    """Every entry of one registry file, checked. VgError names file and line of the first fault."""
    raw, node = read_yaml(path)
    entries = {}
    for name, fields in raw.items():
        if not isinstance(fields, Mapping):
            where = f"{path}:{line_of(node, (name,))}"
            raise VgError(f"{where}: entry '{name}' holds no keys.", "Indent its keys below it.")
        try:
            entries[name] = kind(**{**fields, "name": name})
        except ValidationError as error:
            loc, problem, hint = explain(error, kind)
            raise VgError(f"{path}:{line_of(node, (name, *loc))}: entry '{name}': {problem}.", hint) from None
        except TypeError as error:
            raise VgError(f"{path}:{line_of(node, (name,))}: entry '{name}': {error}.", "Correct the keys.") from None
    return entries


def _shipped(file: str) -> Path:
    inside = Path(str(resources.files("vgtool") / file))
    return inside if inside.exists() else Path(__file__).resolve().parent.parent / file


def _own_entries(path: Path, kind: type[E]) -> dict[str, E]:
    """The entries of a file that ships with vgtool, by libyaml where PyYAML has it, which takes a tenth of the time."""
    if yaml.__with_libyaml__:
        try:
            raw = yaml.load(path.read_bytes(), yaml.CSafeLoader)
            return {name: kind(**{**fields, "name": name}) for name, fields in raw.items()}
        except (yaml.YAMLError, ValidationError, TypeError, AttributeError, OSError):
            pass  # read_entries says what is wrong, and where
    return read_entries(path, kind)


def _merged(file: str, kind: type[E], extra: Path | None) -> dict[str, E]:
    entries = _own_entries(_shipped(file), kind)
    if extra is not None:
        if not extra.is_dir():
            raise VgError(f"--registry '{extra}' is not a folder.", f"Give a folder that holds {file}.")
        if (extra / file).exists():
            entries |= read_entries(extra / file, kind)
    return entries


def models(extra: Path | None = None) -> dict[str, ModelSpec]:
    """models.yaml by name, with the entries of `extra`/models.yaml added or replacing."""
    return _merged("models.yaml", ModelSpec, extra)


def benchmarks(extra: Path | None = None) -> dict[str, BenchmarkSpec]:
    """benchmarks.yaml by name, with the entries of `extra`/benchmarks.yaml added or replacing."""
    return _merged("benchmarks.yaml", BenchmarkSpec, extra)


def pick(entries: Mapping[str, E], name: str, file: str) -> E:
    """The entry called `name`, or a VgError that suggests the nearest one."""
    if name not in entries:
        raise VgError(f"No entry '{name}' in {file}.", did_you_mean(name, entries))
    return entries[name]
