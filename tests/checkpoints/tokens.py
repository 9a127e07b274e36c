"""Tokenizer files of the published kinds, each with an encoder that is not transformers' own."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import transformers as tf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from .files import write

QWEN_MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA3_MARKS = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
]  # fmt: skip


def byte_tokenizer(special: list[str], **settings: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer without merges: 256 byte tokens, then the special ones."""
    vocabulary = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings)
    fast.add_special_tokens({"additional_special_tokens": [s for s in special if s not in settings.values()]})
    return fast


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
