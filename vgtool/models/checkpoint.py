"""A folder of weights on disk: found, checked, and only then opened, without running anything in it.

Nothing a checkpoint holds chooses code: `trust_remote_code` is never set, `auto_map` is refused where a library would
read it, pickles are read by torch's weights-only reader and must hold tensors alone. A model that would keep one
random weight is refused: missing and mismatched names are errors that name them, and so are unexpected ones outside
an allow-list. Weights are read lazily, one tensor at a time, so loading needs no second copy of them.
"""

import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, GenerationConfig, PreTrainedConfig
from transformers.models.auto.image_processing_auto import AutoImageProcessor  # transformers 5.17 hides it at its top
from transformers.utils import logging

from vgtool.errors import VgError, one_line
from vgtool.models import quantised
from vgtool.models.files import processor_type, read_json, refuse_lfs, weight_files
from vgtool.models.fitting import fitting
from vgtool.models.pieces import Pieces, fast
from vgtool.registry import ModelSpec

UNUSED = (r"rotary_emb\.inv_freq$", r"embeddings\.position_ids$")
"""Buffers that old files carry and current classes compute."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and in which precision the weights go."""

    dtype: torch.dtype
    device: str = "cpu"
    device_map: str | None = None
    """A strategy of accelerate ("auto", "balanced"), for a model larger than one card; overrides `device`."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint folder. Making one checks its JSON files."""

    folder: Path
    spec: ModelSpec
    revision: str
    offline: bool = False
    """Whether a part that the checkpoint leaves to another repository may be fetched."""

    # ---- small files -------------------------------------------------------------------------------------------

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object of the folder; {} when the file is not there."""
        return read_json(self.folder / name)

    def config(self, sub: str = "", *, native: bool = False) -> dict[str, Any]:
        """config.json of the folder, or of a folder inside it. `native`: it is read as transformers reads it, so that
        its weights may be quantised."""
        config = self.json(f"{sub}config.json")
        if not config:
            raise VgError(f"'{self.folder}' has no {sub}config.json.", "Give the folder of a whole checkpoint.")
        quantised.refuse(self, config, native)
        return config

    def refuse_remote_code(self, *names: str) -> None:
        """VgError when one of these files names classes of its own to run."""
        for name in names:
            config = read_json(self.folder / name)
            if any(isinstance(part, dict) and part.get("auto_map") for part in (config, *config.values())):
                raise VgError(
                    f"{name} of '{self.spec.name}' asks to run code from the checkpoint (auto_map).",
                    "vgtool never does; use a checkpoint in the native transformers layout.",
                )

    def tokenizer(
        self, sub: str = "", *, native: bool = True, legacy: bool | None = None, own: bool = False
    ) -> Any:
        """The checkpoint's tokenizer. `native`: the folder's config.json is one that transformers knows; otherwise it
        is read as the model's own repository reads it, by the reader that the entry's option `tokenizer` names (slow
        where it names none). `legacy`: what the repository tells the slow reader. `own`: the files
        name a class of their own, which is known to read as one of those."""
        if not own:
            self.refuse_remote_code(f"{sub}tokenizer_config.json")
        folder = self.folder / sub
        names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
        there = {name for name in names if (folder / name).exists()}
        for name in there:
            refuse_lfs(folder / name)
        if not there:
            raise VgError(f"'{folder}' holds no tokenizer.", f"Looked for {', '.join(names)}.")
        reader = self.spec.options.get("tokenizer", "slow")
        if reader not in ("slow", "fast"):
            raise VgError(f"'{self.spec.name}' has tokenizer '{reader}'.", "Known: slow, fast.")
        slow = "tokenizer.model" in there and ("tokenizer.json" not in there if native else reader == "slow")
        try:
            if slow:
                return Pieces(folder, legacy=legacy)
            if not native and there & {"tokenizer.json", "tokenizer.model"}:
                return fast(folder)
            known = {} if native else {"config": PreTrainedConfig()}
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True, **known)
        except VgError:
            raise
        except Exception as error:  # the tokenizer libraries raise many kinds, plain Exception among them
            said = f"The tokenizer in '{folder}' cannot be read: {one_line(error)}."
            raise VgError(said, "Fetch it again.") from None

    def image_processor(self, backend: str = "pil", **settings: Any) -> Any:
        """The checkpoint's image processor, on the PIL backend, which matches the original pipelines."""
        self.refuse_remote_code("preprocessor_config.json", "processor_config.json")
        if not (self.json("preprocessor_config.json") or self.json("processor_config.json")):
            raise VgError(f"'{self.folder}' has no preprocessor_config.json.", "Copy it from the original checkpoint.")
        try:
            return AutoImageProcessor.from_pretrained(
                self.folder, backend=backend, trust_remote_code=False, local_files_only=True, **settings
            )
        except Exception as error:  # unknown types and malformed sizes each raise something else
            reason = " ".join(str(error).split()).split(". Should have")[0][:300] or type(error).__name__
            named = f"The image processor in '{self.folder}' ({processor_type(self.folder)})"
            raise VgError(f"{named} cannot be read: {reason}.", "Copy it from the original one.") from None

    def configured(self, kind: Any, fields: Mapping[str, Any], where: str = "config.json", **others: Any) -> Any:
        """A config object of class `kind`. VgError when the fields do not make one."""
        with fitting(f"{where} of '{self.spec.name}' is not a {kind.__name__}", "Fetch it again."):
            return kind.from_dict({**fields, **others})

    def chat_template(self) -> str | None:
        """The processor's own chat template, where it is kept apart from the tokenizer. Of two, chat_template.json
        counts, as for transformers' processors."""
        jinja = self.folder / "chat_template.jinja"
        named = self.json("chat_template.json").get("chat_template")
        return named or (jinja.read_text("utf-8") if jinja.exists() else None)

    # ---- weights -----------------------------------------------------------------------------------------------

    def tensors(self, sub: str = "", prefix: str = "") -> dict[str, Any]:
        """Every tensor of a folder by name, read when it is used."""
        folder = self.folder / sub
        files = weight_files(folder)
        if not files:
            raise VgError(f"'{folder}' holds no weights.", "Looked for *.safetensors and pytorch_model*.bin.")
        return {prefix + name: tensor for path in files for name, tensor in read_tensors(path).items()}

    def build(
        self,
        kind: Any,
        config: PreTrainedConfig,
        placement: Placement,
        *,
        tensors: Mapping[str, Any] | None = None,
        renames: Mapping[str, str] | None = None,
        missing: Iterable[str] = (),
        unexpected: Iterable[str] = (),
    ) -> Any:
        """A model of class `kind` with this checkpoint's weights, in eval mode on its device.

        `missing`, `unexpected`: patterns of names that may be absent from, or left over in, the checkpoint.
        """
        by = quantised.method(config)
        tensors = dict(self.tensors() if tensors is None else tensors)
        tied = getattr(config.get_text_config(), "tie_word_embeddings", False)
        if tied and not any(n.endswith("lm_head.weight") for n in tensors):
            config.tie_word_embeddings = True  # some files say so of the text model alone
        whole: Any = {"pretrained_model_name_or_path": None, "state_dict": tensors}
        source = quantised.source(self, config) if by else whole
        verbosity = logging.get_verbosity()
        logging.set_verbosity(logging.CRITICAL)  # transformers prints a table of what is refused below anyway
        try:
            with self.making(kind), quantised.told(self.spec.name, by), self._told(placement):
                model, info = kind.from_pretrained(
                    **source,
                    config=config,
                    key_mapping=dict(renames) if renames else None,
                    generation_config=GenerationConfig(),
                    dtype=placement.dtype,
                    device_map=placement.device_map or (None if placement.device == "cpu" else {"": placement.device}),
                    attn_implementation="sdpa",
                    ignore_mismatched_sizes=True,  # so that they come back as a list, which is refused below
                    output_loading_info=True,
                )
        finally:
            logging.set_verbosity(verbosity)
        if {"cpu", "disk"} & set(map(str, getattr(model, "hf_device_map", {}).values())) and torch.cuda.is_available():
            raise self._too_large(placement)  # it would run, hundreds of times slower
        self._refuse(info["missing_keys"], missing, "lacks")
        self._refuse([key[0] for key in info["mismatched_keys"]], (), "has another shape for")
        self._refuse(info["unexpected_keys"], (*unexpected, *UNUSED), "holds, and the model has no place for,")
        return model.eval()

    def making(self, kind: Any) -> AbstractContextManager[None]:
        """VgError where its config is one of which no `kind` can be made."""
        said = f"'{self.spec.name}' cannot be made as a {kind.__name__}"
        return fitting(said, "Fetch its config.json again, or install the package it names.")

    @contextmanager
    def _told(self, placement: Placement) -> Iterator[None]:
        """What loading raises for want of room or of SDPA, as a sentence."""
        try:
            yield
        except torch.cuda.OutOfMemoryError:
            raise self._too_large(placement) from None
        except ValueError as error:
            if "scaled_dot_product_attention" in str(error):  # Gemma 2's soft caps, gpt-oss's sinks
                raise VgError(
                    f"'{self.spec.name}' has a part whose attention transformers does not run through SDPA: "
                    f"{str(error).split(' does not')[0]}.",
                    "Soft caps, attention sinks and towers of that kind cannot be read yet; use another model.",
                ) from None
            if "offload" not in str(error):  # what accelerate says when a device map reaches the disk
                raise
            raise self._too_large(placement) from None

    def _too_large(self, placement: Placement) -> VgError:
        return VgError(
            f"'{self.spec.name}' does not fit on {placement.device_map or placement.device}.",
            "Give it more cards with --device-map auto, a smaller --dtype, or --device cpu.",
        )

    def _refuse(self, names: Iterable[str], allowed: Iterable[str], verb: str) -> None:
        patterns = [re.compile(pattern) for pattern in allowed]
        bad = sorted(name for name in names if not any(pattern.search(name) for pattern in patterns))
        if bad:
            shown = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
            raise VgError(
                f"The checkpoint of '{self.spec.name}' {verb} {shown}.",
                "It is damaged, or of another layout than its config says; nothing was loaded.",
            )


# ---- reading ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rows:
    """One of `parts` equal runs of a stored tensor's rows, read when it is used (a fused qkv holds three)."""

    tensor: Any
    part: int
    parts: int

    def __getitem__(self, index: Any) -> torch.Tensor:
        size = shape(self.tensor)[0] // self.parts
        return self.tensor[self.part * size : (self.part + 1) * size][index]

    def get_shape(self) -> list[int]:
        """As a safetensors slice has it."""
        first, *rest = shape(self.tensor)
        return [first // self.parts, *rest]


def shape(tensor: Any) -> list[int]:
    """The shape of a tensor of `Checkpoint.tensors`, without reading it."""
    return list(tensor.shape) if isinstance(tensor, torch.Tensor) else list(tensor.get_shape())


def split_qkv(tensors: Mapping[str, Any], fused: str, parts: Sequence[str]) -> dict[str, Any]:
    """Every tensor whose name holds `fused`, as one tensor for each name of `parts`; the others as they are."""
    out: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if fused in name and shape(tensor)[0] % len(parts) == 0:
            out |= {name.replace(fused, part): Rows(tensor, at, len(parts)) for at, part in enumerate(parts)}
        else:
            out[name] = tensor
    return out


def read_tensors(path: Path) -> dict[str, Any]:
    """The tensors of one weight file by name, read when they are used."""
    return _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        file = safe_open(path, framework="pt", device="cpu")
        return {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise VgError(f"'{path}' is not a whole safetensors file: {error}.", "Fetch it again.") from None


def _pickled(path: Path) -> dict[str, Any]:
    try:
        value = torch.load(path, map_location="cpu", mmap=zipfile.is_zipfile(path), weights_only=True)
    except Exception as error:  # the weights-only reader raises many kinds; each means the same to a user
        said = f"'{path}' is not a plain file of tensors, and nothing in it was run: {one_line(error)}."
        raise VgError(said, "Use the safetensors version of the checkpoint.") from None
    if not isinstance(value, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in value.values()):
        raise VgError(f"'{path}' holds more than named tensors.", "Use the safetensors version of the checkpoint.")
    return value
