"""Tiny random checkpoints in the layouts their models are published in. Built by code, nothing downloaded.

Each writer builds a model natively (the twin), renames its weights to the published names by a table of its own, and
writes the files of the published repository around them: names, config fields, tokenizer kind.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers as tf
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

CHAT = (
    "{% for m in messages %}USER: {% for c in m.content %}{% if c.type == 'image' %}<image>\n{% else %}{{ c.text }}"
    "{% endif %}{% endfor %} {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def byte_tokenizer(special: list[str], **settings: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer without merges: 256 byte tokens, then the special ones."""
    vocabulary = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings)
    fast.add_special_tokens({"additional_special_tokens": [s for s in special if s not in settings.values()]})
    return fast


def tiny_llava(
    path: Path, *, pad: bool = True, size: int = 56, layers: int = 4, heads: int = 4, kv_heads: int = 2, seed: int = 0
) -> LlavaForConditionalGeneration:
    """Native LLaVA: CLIP tower (grid size/14), Llama text model, LlavaProcessor. Returns the model it saved."""
    torch.manual_seed(seed)
    tokenizer = byte_tokenizer(["<image>"], bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = CHAT
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=2,
            patch_size=14,
            image_size=size,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=8 * heads,
            intermediate_size=64,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(size // 14) ** 2,
    )
    model = LlavaForConditionalGeneration(config).eval()
    processor = LlavaProcessor(
        LlavaImageProcessorPil(
            do_pad=pad, size={"shortest_edge": size}, crop_size={"height": size, "width": size}, do_resize=True
        ),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    )
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return model


# ---- published layouts -------------------------------------------------------------------------------------------

CLIP_TOWER = (
    ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
    ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
    ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
    ("model.language_model.", "model."),
)
TIMM_TOWER = (
    ("model.vision_tower.embeddings.cls_token", "model.vision_tower.vision_tower.cls_token"),
    ("model.vision_tower.embeddings.position_embeddings", "model.vision_tower.vision_tower.pos_embed"),
    ("model.vision_tower.embeddings.patch_embeddings.projection.", "model.vision_tower.vision_tower.patch_embed.proj."),
    ("model.vision_tower.layernorm.", "model.vision_tower.vision_tower.norm."),
    ("model.vision_tower.layers.", "model.vision_tower.vision_tower.blocks."),
    ("layernorm_before.", "norm1."),
    ("layernorm_after.", "norm2."),
    ("attention.o_proj.", "attn.proj."),
    *CLIP_TOWER[1:],
)
LEGACY = (  # transformers 4: what llava-hf, InternVL -hf and Gemma 3 repositories hold
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
    ("model.vision_tower.", "vision_tower."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
)
LEGACY_TOWER = (("model.vision_tower.", "vision_tower.vision_model."), *LEGACY)
QWEN25 = (("model.language_model.", "model."), ("model.visual.", "visual."))
VILA = (
    ("model.language_model.", "llm/model."),
    ("lm_head.", "llm/lm_head."),
    ("model.vision_tower.", "vision_tower/vision_model."),
    ("model.multi_modal_projector.layer_norm.", "mm_projector/layers.1."),
    ("model.multi_modal_projector.linear_1.", "mm_projector/layers.2."),
    ("model.multi_modal_projector.linear_2.", "mm_projector/layers.4."),
)
INTERN_CHAT = (
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
    ("model.multi_modal_projector.layer_norm.", "mlp1.0."),
    ("model.multi_modal_projector.linear_1.", "mlp1.1."),
    ("model.multi_modal_projector.linear_2.", "mlp1.3."),
    ("model.vision_tower.embeddings.cls_token", "vision_model.embeddings.class_embedding"),
    ("model.vision_tower.embeddings.patch_embeddings.projection.", "vision_model.embeddings.patch_embedding."),
    ("model.vision_tower.embeddings.position_embeddings", "vision_model.embeddings.position_embedding"),
    ("model.vision_tower.encoder.layer.", "vision_model.encoder.layers."),
    ("layernorm_before.", "norm1."),
    ("layernorm_after.", "norm2."),
    ("lambda_1", "ls1"),
    ("lambda_2", "ls2"),
    ("attention.projection_layer.", "attn.proj."),
    ("attention.q_norm.", "attn.q_norm."),
    ("attention.k_norm.", "attn.k_norm."),
)


@dataclass
class Published:
    """A checkpoint on disk and the model it came from."""

    folder: Path
    twin: Any
    encode: Callable[[str], list[int]]
    """Ids of one stretch of text or special tokens, made without transformers."""
    layers: int
    heads: int


def randomised(model: Any, seed: int = 0) -> Any:
    """Weights large enough that attention is far from uniform."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1 if parameter.dim() > 1 else 0.3)
    return model.eval()


def published(twin: Any, table: tuple[tuple[str, str], ...], fused: str = "") -> dict[str, Tensor]:
    """The twin's weights under published names; `fused`: name of an attention block whose q, k, v are one tensor."""
    out: dict[str, Tensor] = {}
    split: dict[str, dict[str, Tensor]] = {}
    for name, value in twin.state_dict().items():
        for native, original in table:
            if native in name:
                name = name.replace(native, original, 1)
        block, _, rest = name.partition(".attention.")
        if fused and rest[1:].startswith("_proj."):
            split.setdefault(f"{block}{fused}.qkv.{rest[7:]}", {})[rest[0]] = value
        else:
            out[name] = value.contiguous()
    return out | {name: torch.cat([parts[one] for one in "qkv"]) for name, parts in split.items()}


def save(folder: Path, tensors: dict[str, Tensor], *, shards: int = 2, pickled: bool = False) -> None:
    """Weights as a repository has them: one file, or shards with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    stem, ending = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    names, files = sorted(tensors), {}
    for shard in range(shards):
        file = f"{stem}.{ending}" if shards == 1 else f"{stem}-{shard + 1:05}-of-{shards:05}.{ending}"
        part = {name: tensors[name] for name in names[shard::shards]}
        if pickled:
            torch.save(part, folder / file)
        else:
            save_file(part, folder / file, metadata={"format": "pt"})
        files |= dict.fromkeys(part, file)
    if shards > 1:
        write(folder / f"{stem}.{ending}.index.json", {"metadata": {}, "weight_map": files})


def write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


# ---- tokenizers --------------------------------------------------------------------------------------------------


def byte_level(
    folder: Path, special: list[str], *, kind: str = "PreTrainedTokenizerFast", bos: str | None = None, **config: Any
) -> tuple[Callable[[str], list[int]], dict[str, int]]:
    """tokenizer.json of the Qwen and Llama 3 kind (byte-level BPE), and its tokenizer_config.json. Returns the encoder
    of a special token or of a text without any, and the vocabulary."""
    vocabulary = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind == "Qwen2Tokenizer":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    if bos:
        pair = (bos, tokenizer.token_to_id(bos))
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[pair])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    added = {
        str(tokenizer.token_to_id(word)): {"content": word, "special": True, "lstrip": False, "rstrip": False,
                                           "normalized": False, "single_word": False}
        for word in special
    }  # fmt: skip
    settings = {"tokenizer_class": kind, "added_tokens_decoder": added, "bos_token": bos, "unk_token": None}
    write(folder / "tokenizer_config.json", settings | {"clean_up_tokenization_spaces": False} | config)
    everything = tokenizer.get_vocab(with_added_tokens=True)

    def encode(text: str) -> list[int]:
        if text in special:
            return [everything[text]]
        pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
        return [vocabulary[symbol] for piece, _ in pieces for symbol in piece]

    return encode, everything


def gemma_like(folder: Path, special: list[str], **config: Any) -> tuple[Callable[[str], list[int]], dict[str, int]]:
    """tokenizer.json of Gemma's kind: pieces of a SentencePiece model with byte fallback and no leading space, runs of
    newlines as one piece."""
    letters = [chr(code) for code in range(33, 127)]
    words = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "\n", "\n\n", "\n\n\n", "\u2581", *letters]
    vocabulary = {word: index for index, word in enumerate(words)}
    merges = [("\n", "\n"), ("\n\n", "\n")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "bos_token": "<bos>", "unk_token": "<unk>"}
    write(folder / "tokenizer_config.json", settings | config)

    def encode(text: str) -> list[int]:
        pieces = [text] if text in special else re.findall(r"\n{1,3}|.", text.replace(" ", "\u2581"))
        return [vocabulary[piece] for piece in pieces]

    return encode, vocabulary


SENTENCES = """You are a helpful medical assistant. Is there a lesion in the left lung? Answer the question using a
single word or phrase. A chat between a curious user and an artificial intelligence assistant. What is shown? USER:
ASSISTANT: [INST] [/INST] Write a general description of the image. yes no""".splitlines()


def sentence_piece(
    folder: Path, symbols: tuple[str, ...] = (), added: tuple[str, ...] = (), *, prefix: bool = True,
    listed: bool = True, rule: str = "identity", squeeze: bool = False, **config: Any
) -> tuple[Callable[[str], list[int]], dict[str, int]]:  # fmt: skip
    """tokenizer.model of the Llama kind, trained here, and its tokenizer_config.json. `symbols` are pieces of the
    model (Yi's chat marks), `added` tokens after it. `prefix`: its add_dummy_prefix; `listed`: whether the symbols
    stand in added_tokens_decoder too; `rule`, `squeeze`: its normalizer, and whether that drops blanks it finds extra.
    The encoder that is returned is sentencepiece's own, one stretch of text at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4), model_prefix=str(folder / "tokenizer"), vocab_size=360 + len(symbols),
        model_type="bpe", byte_fallback=True, character_coverage=1.0, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        normalization_rule_name=rule, remove_extra_whitespaces=squeeze, hard_vocab_limit=False,
        user_defined_symbols=list(symbols), minloglevel=2, add_dummy_prefix=prefix,
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    size = processor.get_piece_size()
    extra = {word: size + index for index, word in enumerate(added)}
    marks = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    known = {symbol: processor.piece_to_id(symbol) for symbol in symbols}
    tokens = {"<unk>": 0, "<s>": 1, "</s>": 2, **(known if listed else {}), **extra}
    decoder = {
        str(index): {"content": word, "special": True, "lstrip": False, "rstrip": False, "normalized": False,
                     "single_word": False}
        for word, index in tokens.items()
    }  # fmt: skip
    settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "legacy": True}
    write(folder / "tokenizer_config.json", {**settings, **marks, "added_tokens_decoder": decoder, **config})
    write(folder / "special_tokens_map.json", marks)
    if extra:
        write(folder / "added_tokens.json", extra)

    def encode(text: str) -> list[int]:
        whole = tokens | known
        return [whole[text]] if text in whole else processor.encode(text)

    return encode, {**{processor.id_to_piece(i): i for i in range(size)}, **extra}


def converted(folder: Path, *, prepends: bool = True) -> None:
    """A tokenizer.json beside a tokenizer.model, as transformers 4 converted and saved it. `prepends`: whether its
    normalizer puts a space before the first word, which tokenizer.model need not agree with."""
    backend = tf.AutoTokenizer.from_pretrained(folder, config=tf.PreTrainedConfig()).backend_tokenizer
    space = normalizers.Replace(" ", "\u2581")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), space]) if prepends else space
    backend.pre_tokenizer = None
    value = json.loads(backend.to_str())
    value["model"]["merges"] = [" ".join(pair) for pair in value["model"]["merges"]]  # as files before 2025 have them
    write(folder / "tokenizer.json", value)


# ---- the original LLaVA layout -----------------------------------------------------------------------------------

MM = {
    "freeze_mm_mlp_adapter": False,
    "image_aspect_ratio": "pad",
    "mm_hidden_size": 128,
    "mm_patch_merge_type": "flat",
    "mm_projector_type": "mlp2x_gelu",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.37.2",
    "tune_mm_mlp_adapter": False,
    "use_cache": True,
    "use_mm_proj": True,
}
VIT = dict(hidden_size=128, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2)


def text_fields(vocabulary: int, layers: int, heads: int, groups: int, **others: Any) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary, "hidden_size": 4 * heads, "intermediate_size": 64, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": groups, "max_position_embeddings": 4096,
        "hidden_act": "silu", "initializer_range": 0.02, "attention_dropout": 0.0, "tie_word_embeddings": False,
        **others,
    }  # fmt: skip


def original(
    folder: Path, kind: str, architecture: str, text: dict[str, Any], encode: Any, *, scales: int = 1,
    timm: bool = False, tower: bool = True, pickled: bool = False, shards: int = 2, **config: Any
) -> Published:  # fmt: skip
    """LLaVA's own layout. `tower` False: as LLaVA-1.5, whose tower stands in another repository."""
    configs = {"llava_qwen2": tf.Qwen2Config, "llava_mistral": tf.MistralConfig, "llava_llama": LlamaConfig}
    native = {"rope_parameters": {"rope_type": "default", "rope_theta": text["rope_theta"]}}
    native |= {name: value for name, value in text.items() if name != "rope_theta"}
    vision = tf.ViTConfig(**VIT, patch_size=16, image_size=96, layer_norm_eps=1e-6) if timm else tf.CLIPVisionConfig(
        **VIT, patch_size=14, image_size=84
    )  # fmt: skip
    host = LlavaConfig(
        vision_config=vision,
        text_config=configs[kind](**native),
        vision_feature_layer=[-2] * scales if scales > 1 else -2,
        vision_feature_select_strategy="default",
    )
    twin = randomised(LlavaForConditionalGeneration(host))
    tensors = published(twin, TIMM_TOWER if timm else CLIP_TOWER, ".attn" if timm else "")
    tensors = {name: value for name, value in tensors.items() if ".pooler." not in name}  # timm's ViT has none
    if not timm:  # buffers that such files carry
        tensors["model.vision_tower.vision_tower.vision_model.embeddings.position_ids"] = torch.arange(37)[None]
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(2)
    if not tower:
        lacking = {n for n in tensors if n.startswith("model.vision_tower.")}
        clip = {n.removeprefix("model.vision_tower.vision_tower."): tensors.pop(n) for n in lacking}
        save(folder.parent / "clip", {**clip, "logit_scale": torch.ones(())}, shards=1, pickled=True)
        write(folder.parent / "clip" / "config.json", {"model_type": "clip"})
    save(folder, tensors, shards=shards, pickled=pickled)
    if pickled:
        projector = {n: v for n, v in tensors.items() if "mm_projector" in n}
        torch.save(projector, folder / "mm_projector.bin")  # beside the shards, and listed nowhere
    write(folder / "config.json", {"architectures": [architecture], "model_type": kind, **MM, **text, **config})
    write(folder / "generation_config.json", {"_from_model_config": True, "transformers_version": "4.37.2"})
    return Published(folder, twin, encode, text["num_hidden_layers"], text["num_attention_heads"])


QWEN_MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA3_MARKS = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
]  # fmt: skip


def huatuo_7b(folder: Path) -> Published:
    encode, vocabulary = byte_level(
        folder, QWEN_MARKS, kind="Qwen2Tokenizer", eos_token="<|endoftext|>", pad_token="<|endoftext|>",
        add_prefix_space=False, errors="replace", split_special_tokens=False,
    )  # fmt: skip
    text = text_fields(
        len(vocabulary), 28, 28, 4, rope_theta=1000000.0, rms_norm_eps=1e-6, use_sliding_window=False,
        sliding_window=131072, max_window_layers=28, eos_token_id=vocabulary["<|endoftext|>"],
    )  # fmt: skip
    made = original(
        folder, "llava_qwen2", "LlavaQwen2ForCausalLM", text, encode, image_aspect_ratio="square",
        mm_vision_tower="./vit/clip_vit_large_patch14_336",
    )  # fmt: skip
    write(folder / "vit" / "clip_vit_large_patch14_336" / "preprocessor_config.json", {"do_center_crop": True})
    return made


def huatuo_34b(folder: Path, *, prepends: bool = True, **kind: Any) -> Published:
    encode, vocabulary = sentence_piece(folder, ("<|im_start|>", "<|im_end|>"), **kind)
    converted(folder, prepends=prepends)
    text = text_fields(
        len(vocabulary), 60, 56, 8, rope_theta=5000000.0, rms_norm_eps=1e-6, bos_token_id=1, eos_token_id=2,
        pad_token_id=0, pretraining_tp=1, rope_scaling=None, attention_bias=False,
    )  # fmt: skip
    return original(folder, "llava_llama", "LlavaLlamaForCausalLM", text, encode, shards=3)


def huatuo_bio(folder: Path) -> Published:
    encode, vocabulary = byte_level(folder, QWEN_MARKS, kind="Qwen2Tokenizer", eos_token="<|endoftext|>")
    text = text_fields(len(vocabulary), 4, 4, 2, rope_theta=1000000.0, rms_norm_eps=1e-6, use_sliding_window=False)
    return original(
        folder, "llava_qwen2", "LlavaQwen2ForCausalLM", text, encode, timm=True,
        mm_vision_tower="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    )  # fmt: skip


def llava_med(folder: Path, **kind: Any) -> Published:
    encode, vocabulary = sentence_piece(folder, **kind)
    text = text_fields(
        len(vocabulary), 4, 4, 2, rope_theta=1000000.0, rms_norm_eps=1e-5, sliding_window=None, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    return original(folder, "llava_mistral", "LlavaMistralForCausalLM", text, encode)


def llava_tri(folder: Path) -> Published:
    encode, vocabulary = byte_level(folder, LLAMA3_MARKS, bos="<|begin_of_text|>", eos_token="<|end_of_text|>")
    text = text_fields(len(vocabulary), 4, 4, 2, rope_theta=500000.0, rms_norm_eps=1e-5, rope_scaling=None)
    return original(
        folder, "llava_llama", "LlavaLlamaForCausalLM", text, encode, scales=3, s2=True, s2_scales="84,168,252"
    )


def llava_original(folder: Path, **kind: Any) -> Published:
    encode, vocabulary = sentence_piece(folder, **kind)
    text = text_fields(len(vocabulary), 4, 4, 4, rope_theta=10000.0, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
    return original(folder, "llava_llama", "LlavaLlamaForCausalLM", text, encode, tower=False, pickled=True)


# ---- InternVL's relatives ----------------------------------------------------------------------------------------


def vila(folder: Path, *, sentence: bool, **kind: Any) -> Published:
    """VILA's three folders. `sentence`: the 13B kind (Vicuna); otherwise the 8B kind (Llama 3)."""
    if sentence:
        encode, vocabulary = sentence_piece(folder / "llm", **kind)
        text = text_fields(len(vocabulary), 4, 4, 4, rope_theta=10000.0, rms_norm_eps=1e-5, eos_token_id=2)
    else:
        encode, vocabulary = byte_level(
            folder / "llm", LLAMA3_MARKS, bos="<|begin_of_text|>", eos_token="<|end_of_text|>"
        )
        text = text_fields(
            len(vocabulary), 4, 4, 2, rope_theta=500000.0, rms_norm_eps=1e-5,
            eos_token_id=vocabulary["<|end_of_text|>"],
        )  # fmt: skip
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=104,
                  patch_size=14, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6)  # fmt: skip
    native = {"rope_parameters": {"rope_type": "default", "rope_theta": text["rope_theta"]}}
    host = tf.InternVLConfig(
        vision_config=tf.SiglipVisionConfig(**vision),
        text_config=LlamaConfig(**native, **{k: v for k, v in text.items() if k != "rope_theta"}),
        downsample_ratio=0.5, vision_feature_layer=-2, vision_feature_select_strategy="full",
        tie_word_embeddings=False,
    )  # fmt: skip
    twin = randomised(tf.InternVLForConditionalGeneration(host))
    tensors = published(twin, VILA)
    for part, shards in (("llm", 2), ("vision_tower", 1), ("mm_projector", 1)):
        own = {n.removeprefix(f"{part}/"): v for n, v in tensors.items() if n.startswith(f"{part}/")}
        save(folder / part, own, shards=shards)
    write(folder / "llm" / "config.json", {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **text})
    write(folder / "llm" / "generation_config.json", {"eos_token_id": text["eos_token_id"], "temperature": 0.6})
    write(folder / "vision_tower" / "config.json", {"model_type": "siglip_vision_model", **vision})
    write(
        folder / "mm_projector" / "config.json", {"model_type": "v2l_projector", "mm_projector_type": "mlp_downsample"}
    )
    root = {"architectures": ["LlavaLlamaModel"], "model_type": "llava_llama", "image_aspect_ratio": "resize",
            "mm_vision_select_layer": -2, "mm_vision_select_feature": "cls_patch", "num_video_frames": 8}  # fmt: skip
    write(folder / "config.json", {**root, "llm_cfg": {}, "vision_tower_cfg": {}, "mm_projector_cfg": {}})
    return Published(folder, twin, encode, 4, 4)


def medrega(folder: Path, **kind: Any) -> Published:
    added = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")
    encode, vocabulary = sentence_piece(folder, ("<|im_start|>", "<|im_end|>"), added, add_bos_token=False, **kind)
    text = text_fields(
        len(vocabulary), 4, 4, 2, rope_theta=5000000.0, rms_norm_eps=1e-5, bos_token_id=1,
        eos_token_id=vocabulary["<|im_end|>"],
    )  # fmt: skip
    vision = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=3, intermediate_size=64, layer_norm_eps=1e-6)
    native = {"rope_parameters": {"rope_type": "default", "rope_theta": text["rope_theta"]}}
    host = tf.InternVLConfig(
        vision_config=tf.InternVLVisionConfig(
            **vision, use_qk_norm=True, norm_type="rms_norm", attention_bias=False, image_size=112, patch_size=14
        ),
        text_config=LlamaConfig(**native, **{k: v for k, v in text.items() if k != "rope_theta"}),
        image_token_id=vocabulary["<IMG_CONTEXT>"], vision_feature_layer=-1, tie_word_embeddings=False,
    )  # fmt: skip
    twin = randomised(tf.InternVLForConditionalGeneration(host))
    save(folder, published(twin, INTERN_CHAT, ".attn"))
    remote = {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig", "AutoModel": "modeling_chat.Model"}
    write(folder / "config.json", {
        "architectures": ["InternVLChatModel"], "auto_map": remote, "model_type": "internvl_chat",
        "downsample_ratio": 0.5, "dynamic_image_size": False, "force_image_size": 112, "select_layer": -1,
        "template": "Hermes-2", "use_backbone_lora": 0, "pad2square": False,
        "llm_config": {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "top_k": 50, **text},
        "vision_config": {"model_type": "intern_vit_6b", "qkv_bias": False, "qk_normalization": True,
                          "norm_type": "rms_norm", "patch_size": 14, "image_size": 112, **vision},
    })  # fmt: skip
    return Published(folder, twin, encode, 4, 4)


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}IMAGE"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def internvl3(folder: Path) -> Published:
    marks = [*QWEN_MARKS, "<IMG_CONTEXT>", "<img>", "</img>", "<video>"]
    extra = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    encode, vocabulary = byte_level(
        folder, marks, kind="Qwen2Tokenizer", eos_token="<|im_end|>", pad_token="<|endoftext|>",
        extra_special_tokens={**extra, "video_token": "<video>"},
    )  # fmt: skip
    (folder / "chat_template.jinja").write_text(CHATML.replace("IMAGE", "<IMG_CONTEXT>\n"), encoding="utf-8")
    text = text_fields(len(vocabulary), 4, 4, 2, rope_theta=1000000.0, rms_norm_eps=1e-6, use_sliding_window=False)
    vision = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=[56, 56],
                  patch_size=[14, 14], attention_bias=True)  # fmt: skip
    fields = {
        "image_token_id": vocabulary["<IMG_CONTEXT>"], "downsample_ratio": 0.5, "image_seq_length": 4,
        "vision_feature_layer": -1, "vision_feature_select_strategy": "default", "tie_word_embeddings": False,
        "text_config": {"model_type": "qwen2", **text}, "vision_config": {"model_type": "internvl_vision", **vision},
    }  # fmt: skip
    twin = randomised(tf.InternVLForConditionalGeneration(tf.InternVLConfig.from_dict(fields)))
    save(folder, published(twin, LEGACY))
    write(folder / "config.json", {"model_type": "internvl", **fields})
    write(folder / "preprocessor_config.json", {
        "image_processor_type": "GotOcr2ImageProcessorFast", "processor_class": "InternVLProcessor",
        "size": {"height": 56, "width": 56}, "crop_to_patches": False, "min_patches": 1, "max_patches": 12,
        "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True, "resample": 3,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    })  # fmt: skip
    return Published(folder, twin, encode, 4, 4)


# ---- Qwen and Gemma ----------------------------------------------------------------------------------------------


def qwen(folder: Path, *, kind: str) -> Published:
    """Qwen2-VL and Qwen2.5-VL in their flat config.json and first key layout, Qwen3-VL in its nested one."""
    third = kind == "qwen3_vl"
    marks = [*QWEN_MARKS, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    assistant = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    system = "" if third else f"{{% if messages[0].role != 'system' %}}{assistant}{{% endif %}}"
    chat = system + CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    encode, ids = byte_level(
        folder, marks, kind="Qwen2Tokenizer", eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=chat
    )
    write(folder / "chat_template.json", {"chat_template": chat})
    text = text_fields(len(ids), 4, 4, 2, rope_theta=1000000.0, rms_norm_eps=1e-6)
    text |= {"hidden_size": 32, "eos_token_id": ids["<|im_end|>"]}
    common = {
        "image_token_id": ids["<|image_pad|>"], "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"], "vision_end_token_id": ids["<|vision_end|>"],
    }  # fmt: skip
    vision: dict[str, Any] = dict(depth=2, hidden_size=32, intermediate_size=48, num_heads=2, out_hidden_size=32,
                                  spatial_merge_size=2, temporal_patch_size=2, in_channels=3)  # fmt: skip
    if third:
        vision |= dict(patch_size=16, num_position_embeddings=64, deepstack_visual_indexes=[0, 1])
        rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True}
        fields = {"text_config": {"model_type": "qwen3_vl_text", **text, "head_dim": 8, "rope_scaling": rope}, **common}
        config: Any = tf.Qwen3VLConfig.from_dict({**fields, "vision_config": vision})
        twin = randomised(tf.Qwen3VLForConditionalGeneration(config))
        save(folder, published(twin, ()))
        patch, budget = 16, {"size": {"shortest_edge": 65536, "longest_edge": 16777216}}
        processor = "Qwen2VLImageProcessorFast"
    else:
        vision |= dict(patch_size=14)
        if kind == "qwen2_vl":  # names its widths otherwise
            vision |= {"embed_dim": 32, "mlp_ratio": 2, "spatial_patch_size": 14, "in_chans": 3}
            for other in ("intermediate_size", "out_hidden_size"):
                del vision[other]
        else:
            vision |= dict(window_size=112, fullatt_block_indexes=[1])
        fields = {**text, **common, "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}}
        fields |= {"use_sliding_window": False, "sliding_window": 32768, "max_window_layers": 28}
        second = kind == "qwen2_vl"
        config = (tf.Qwen2VLConfig if second else tf.Qwen2_5_VLConfig).from_dict({**fields, "vision_config": vision})
        host = tf.Qwen2VLForConditionalGeneration if second else tf.Qwen2_5_VLForConditionalGeneration
        twin = randomised(host(config))
        save(folder, published(twin, QWEN25))
        patch, budget = 14, {"min_pixels": 3136, "max_pixels": 12845056}
        processor = "Qwen2VLImageProcessor"
    write(folder / "config.json", {"model_type": kind, **fields, "vision_config": vision})
    write(folder / "generation_config.json", {"repetition_penalty": 1.05, "eos_token_id": [ids["<|im_end|>"]]})
    mean = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    sizes = {"patch_size": patch, "temporal_patch_size": 2, "merge_size": 2}
    write(folder / "preprocessor_config.json", {"image_processor_type": processor, **budget, **sizes, **mean})
    return Published(folder, twin, encode, 4, 4)


GEMMA_CHAT = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}<start_of_image>{% else %}{{ c.text | trim }}{% endif %}{% endfor %}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def medgemma(folder: Path) -> Published:
    marks = [
        "<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>",
        "<image_soft_token>",
    ]  # fmt: skip
    encode, ids = gemma_like(
        folder, marks, eos_token="<eos>", pad_token="<pad>", boi_token="<start_of_image>",
        eoi_token="<end_of_image>", image_token="<image_soft_token>",
    )  # fmt: skip
    (folder / "chat_template.jinja").write_text(GEMMA_CHAT, encoding="utf-8")
    text = text_fields(
        len(ids), 6, 4, 2, rms_norm_eps=1e-6, head_dim=8, sliding_window=1024, query_pre_attn_scalar=8,
        rope_theta=1000000.0, rope_local_base_freq=10000.0,
        layer_types=["sliding_attention"] * 5 + ["full_attention"],
    )  # fmt: skip
    del text["tie_word_embeddings"], text["hidden_act"]
    text["hidden_activation"] = "gelu_pytorch_tanh"
    fields = {
        "boi_token_index": ids["<start_of_image>"], "eoi_token_index": ids["<end_of_image>"],
        "image_token_index": ids["<image_soft_token>"], "mm_tokens_per_image": 16,
        "eos_token_id": [ids["<eos>"], ids["<end_of_turn>"]],
        "text_config": {"model_type": "gemma3_text", **text},
        "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48,
                          "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 112, "patch_size": 7,
                          "vision_use_head": False},
    }  # fmt: skip
    twin = randomised(tf.Gemma3ForConditionalGeneration(tf.Gemma3Config.from_dict(fields)))
    tensors = published(twin, LEGACY_TOWER)
    tensors.pop("language_model.lm_head.weight")  # tied
    save(folder, tensors)
    write(folder / "config.json", {"model_type": "gemma3", **fields})
    write(folder / "preprocessor_config.json", {
        "image_processor_type": "Gemma3ImageProcessor", "processor_class": "Gemma3Processor", "image_seq_length": 16,
        "size": {"height": 112, "width": 112}, "resample": 2, "do_pan_and_scan": None, "do_convert_rgb": None,
        "do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    })  # fmt: skip
    return Published(folder, twin, encode, 6, 4)


def llava_hf(folder: Path) -> Published:
    encode, vocabulary = sentence_piece(folder, (), ("<image>", "<pad>"), pad_token="<pad>")
    converted(folder)
    text = text_fields(len(vocabulary), 4, 4, 4, rope_theta=10000.0, rms_norm_eps=1e-5)
    fields = {
        "image_token_index": vocabulary["<image>"], "vision_feature_layer": -2, "projector_hidden_act": "gelu",
        "vision_feature_select_strategy": "default", "ignore_index": -100, "pad_token_id": vocabulary["<pad>"],
        "text_config": {"model_type": "llama", **text},
        "vision_config": {"model_type": "clip_vision_model", **VIT, "patch_size": 14, "image_size": 84,
                          "projection_dim": 768, "vocab_size": 32000},
    }  # fmt: skip
    twin = randomised(LlavaForConditionalGeneration(LlavaConfig.from_dict(fields)))
    save(folder, published(twin, LEGACY_TOWER), shards=3)
    write(folder / "config.json", {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"], **fields})
    write(folder / "preprocessor_config.json", {
        "image_processor_type": "CLIPImageProcessor", "do_center_crop": True, "crop_size": {"height": 84, "width": 84},
        "size": {"shortest_edge": 84}, "do_resize": True, "do_rescale": True, "do_normalize": True, "resample": 3,
        "do_convert_rgb": True, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    })  # fmt: skip
    return Published(folder, twin, encode, 4, 4)


vila_8b, vila_13b = partial(vila, sentence=False), partial(vila, sentence=True)
qwen2, qwen25, qwen3 = (partial(qwen, kind=kind) for kind in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl"))
WRITERS: dict[str, Callable[[Path], Published]] = {
    "huatuogpt-vision-7b": huatuo_7b,
    "huatuogpt-vision-34b": huatuo_34b,
    "huatuogpt-v-bio": huatuo_bio,
    "llava-med": llava_med,
    "llava-tri": llava_tri,
    "vila-m3-8b": vila_8b,
    "vila-m3-13b": vila_13b,
    "medrega": medrega,
    "llava-1.5-7b": llava_hf,
    "llava-1.5-7b-original": llava_original,
    "qwen2.5-vl-7b": qwen25,
    "qwen2.5-vl-3b-vicrop": qwen25,
    "lingshu-7b": qwen25,
    "qwen3-vl-8b": qwen3,
    "internvl3-8b": internvl3,
    "medgemma-4b": medgemma,
    "aloe-vision-7b": qwen2,
    **dict.fromkeys(("medvlm-r1", "med-r1"), qwen2),
    **dict.fromkeys(
        ("lingshu-32b", "huatuogpt-vision-7b-qwen2.5vl", "qoq-med-7b", "qoq-med-32b", "medvlthinker-7b"), qwen25
    ),
    **dict.fromkeys(("medmo-4b", "medmo-8b", "healthgpt-pro-4b", "healthgpt-pro-8b"), qwen3),
    **dict.fromkeys(("medgemma-1.5-4b", "medgemma-27b"), medgemma),
}
"""Registry entry -> writer of a tiny checkpoint in its published layout."""

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def in_cache(cache: Path, hub: str, make: Callable[[Path], Any], kind: str = "models") -> Any:
    """Write a checkpoint (or one of the "datasets") where the Hugging Face cache would have it after a download."""
    home = cache / f"{kind}--{hub.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    return make(home / "snapshots" / COMMIT)
