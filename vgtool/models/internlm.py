"""InternLM2, the language model of InternVL 1.5 to 2.5, as a Llama: its arithmetic is Llama's under other names.

Queries, keys and values are one weight (wqkv). Its tokenizer class is code of the checkpoint; here its tokenizer.model
is read into a BPE of the tokenizers library, which splits off added tokens and normalises what lies between them, as
that class does.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2 as sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import LlamaConfig, PreTrainedTokenizerFast

from vgtool.errors import VgError
from vgtool.models import parts
from vgtool.models.checkpoint import Checkpoint
from vgtool.models.files import refuse_lfs
from vgtool.models.stored import Grouped

KIND = "internlm2"
BPE = 2
"""SentencePiece's number for byte-pair encoding."""
RENAMES = {
    r"^language_model\.output": "lm_head",
    r"^language_model\.model\.tok_embeddings": "model.language_model.embed_tokens",
    r"^language_model\.model": "model.language_model",
    r"\.attention\.wo\.": ".self_attn.o_proj.",
    r"\.feed_forward\.w1\.": ".mlp.gate_proj.",
    r"\.feed_forward\.w2\.": ".mlp.down_proj.",
    r"\.feed_forward\.w3\.": ".mlp.up_proj.",
    r"\.attention_norm\.": ".input_layernorm.",
    r"\.ffn_norm\.": ".post_attention_layernorm.",
}
"""Published weight name (regex) -> native name."""


def config(checkpoint: Checkpoint, fields: Mapping[str, Any], where: str) -> Any:
    """The config of the Llama that computes the same."""
    return parts.config(checkpoint, LlamaConfig, fields, where, attention_bias=bool(fields.get("bias", True)))


def split(tensors: Mapping[str, Any], text: Any) -> dict[str, Any]:
    """Every wqkv as q_proj, k_proj and v_proj of the Llama with config `text`; the others as they are."""
    groups = text.num_attention_heads // text.num_key_value_heads
    width = text.hidden_size // text.num_attention_heads
    out: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if ".attention.wqkv." in name:
            for part in "qkv":
                native = name.replace(".attention.wqkv.", f".self_attn.{part}_proj.")
                out[native] = Grouped(tensor, groups, width, part)
        else:
            out[name] = tensor
    return out


def tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer of tokenizer.model and the added tokens beside it."""
    proto, settings = _model(checkpoint), checkpoint.json("tokenizer_config.json")
    vocabulary = {piece.piece: index for index, piece in enumerate(proto.pieces)}
    made = Tokenizer(
        models.BPE(vocabulary, list(_merges(proto, vocabulary)), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    prefix = [normalizers.Prepend("\u2581")] if proto.normalizer_spec.add_dummy_prefix else []
    made.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", "\u2581")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    marks = {f"{name}_token": settings.get(f"{name}_token") or text for name, text in
             (("bos", "<s>"), ("eos", "</s>"), ("unk", "<unk>"))}  # fmt: skip
    for word in (*marks.values(), *_added(checkpoint, settings, len(vocabulary))):
        made.add_special_tokens([AddedToken(word, normalized=False, special=True)])
    if settings.get("add_bos_token", True):
        bos = marks["bos_token"]
        made.post_processor = processors.TemplateProcessing(f"{bos} $A", special_tokens=[(bos, vocabulary[bos])])
    return PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False, **marks)


def _model(checkpoint: Checkpoint) -> Any:
    path = checkpoint.folder / "tokenizer.model"
    if not path.exists():
        raise VgError(f"'{checkpoint.folder}' holds no tokenizer.", "Looked for tokenizer.model.")
    refuse_lfs(path)
    proto: Any = sentencepiece.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError:
        raise VgError(f"The tokenizer in '{path}' cannot be read.", "Fetch it again.") from None
    spec = proto.normalizer_spec
    if proto.trainer_spec.model_type != BPE or spec.remove_extra_whitespaces or spec.precompiled_charsmap:
        raise VgError(f"'{path}' is no tokenizer of the kind InternLM2 has.", "Use the files of the original model.")
    return proto


def _merges(proto: Any, vocabulary: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Pairs to join, best first: SentencePiece joins the pair whose whole has the best score."""
    for piece in sorted(proto.pieces, key=lambda piece: -piece.score):
        word = piece.piece
        halves = [(word[:at], word[at:]) for at in range(1, len(word))]
        known = [pair for pair in halves if pair[0] in vocabulary and pair[1] in vocabulary]
        yield from sorted(known, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))


def _added(checkpoint: Checkpoint, settings: Mapping[str, Any], size: int) -> list[str]:
    """Added tokens in the order of their ids. VgError when the ids do not follow the model's."""
    decoder = settings.get("added_tokens_decoder") or {}
    by_id = {int(index): token["content"] for index, token in decoder.items()}
    by_id |= {index: word for word, index in checkpoint.json("added_tokens.json").items()}
    later = sorted(index for index in by_id if index >= size)
    if later != list(range(size, size + len(later))):
        raise VgError(f"The added tokens of '{checkpoint.spec.name}' leave ids out.", "Fetch its tokenizer again.")
    return [by_id[index] for index in sorted(by_id)]
