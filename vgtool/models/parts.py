"""Config objects for the parts of a model whose own config.json no library class reads.

Only fields that the native class knows are taken: what else stands in such a file (paths of training runs, generation
settings, classes to import) is left alone.
"""

from collections.abc import Mapping
from typing import Any

from transformers import LlamaConfig, MistralConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from vgtool.errors import VgError
from vgtool.models.checkpoint import Checkpoint

LANGUAGE = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}
ROPE = ("rope_theta", "rope_scaling")
"""Names of older files, which every native text config turns into rope_parameters."""
OWN = frozenset(PreTrainedConfig.__dataclass_fields__) - {"tie_word_embeddings"}


def config(checkpoint: Checkpoint, kind: Any, fields: Mapping[str, Any], where: str, **others: Any) -> Any:
    """A config of class `kind` from the fields it knows."""
    ids = ("bos_token_id", "eos_token_id", "pad_token_id")
    known = {name: fields[name] for name in fields if name in kind.__dataclass_fields__ and name not in OWN}
    kept = {name: fields[name] for name in (*ids, *ROPE) if fields.get(name) is not None}
    return checkpoint.configured(kind, {**known, **kept}, where, **others)


def language(checkpoint: Checkpoint, model_type: str, fields: Mapping[str, Any], where: str) -> Any:
    """The text config of a Llama, Mistral, Qwen2 or Qwen3 model."""
    if model_type not in LANGUAGE:
        raise VgError(
            f"{where} of '{checkpoint.spec.name}' names a language model of type '{model_type}'.",
            f"This layout is read with {', '.join(LANGUAGE)}.",
        )
    # transformers fills in a window of 4096 where a Mistral file says nothing or null; neither means one.
    window = {"sliding_window": fields.get("sliding_window")} if model_type == "mistral" else {}
    return config(checkpoint, LANGUAGE[model_type], fields, where, **window)


def layer(found: Any, layers: int, what: str, checkpoint: Checkpoint) -> int:
    """Which states of a tower with `layers` layers are taken: counted from its end, or from 1. VgError for one that it
    does not have; 0 would be the patches before the first layer."""
    index = found
    if isinstance(index, bool) or not isinstance(index, int) or index == 0 or not -layers <= index <= layers:
        raise VgError(
            f"'{checkpoint.spec.name}' has {what} {found!r}, and its tower {layers} layers.",
            f"It reads 1 to {layers}, or -1 to -{layers} from the last.",
        )
    return index


def ask(found: Any, wanted: Any, what: str, checkpoint: Checkpoint) -> None:
    """VgError when a setting of the checkpoint is one that this adapter would get wrong."""
    if found not in (wanted if isinstance(wanted, tuple) else (wanted,)):
        raise VgError(
            f"'{checkpoint.spec.name}' has {what} {found!r}, which vgtool does not know.",
            f"It reads {' or '.join(map(repr, wanted)) if isinstance(wanted, tuple) else repr(wanted)}.",
        )


def longest(config: Mapping[str, Any], checkpoint: Checkpoint) -> int | None:
    """Tokens behind which LLaVA's and VILA's code cuts off a prompt with its image; None where it does not."""
    found = config.get("tokenizer_model_max_length")
    return None if found is None else whole(found, "tokenizer_model_max_length", checkpoint, 1)


def whole(found: Any, what: str, checkpoint: Checkpoint, least: int = 0) -> int:
    """A setting that has to be a whole number from `least` on. VgError otherwise."""
    if isinstance(found, bool) or not isinstance(found, int) or found < least:
        raise VgError(
            f"'{checkpoint.spec.name}' has {what} {found!r}, which is no whole number from {least} on.",
            "Correct its entry, or fetch its files again.",
        )
    return found
