"""Sentencepiece tokenizers as the repositories of their models read them, by transformers 4.

transformers 4 had two readers, and which one a repository used is part of its model: the slow one runs sentencepiece on
tokenizer.model, under that file's own settings; the fast one takes tokenizer.json as it is, or converts tokenizer.model
and then always puts a space in front. transformers 5 rebuilds every Llama tokenizer by a recipe of its own, which gives
other ids for models without a dummy prefix, with pieces defined by the user, or with another normalizer.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from vgtool.errors import VgError
from vgtool.models.files import read_json

SPACE = "\u2581"
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
TAG = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
DEFAULTS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
"""Llama's, where the files name none."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Ids of one text, and the characters [start, stop) that each covers."""

    input_ids: list[int]
    offset_mapping: list[tuple[int, int]]


class Pieces:
    """transformers 4's slow Llama tokenizer: added tokens are cut out of the text, sentencepiece reads what is between.

    `legacy` (the files' own setting where None): every stretch of text is read as a text of its own, dummy prefix and
    all. Otherwise one space goes before the whole, and none after an added token.
    """

    def __init__(self, folder: Path, *, legacy: bool | None = None) -> None:
        self._model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        config, written = _settings(folder)
        asked = config.get("legacy") if legacy is None else legacy
        self._legacy = asked is not False
        if not self._legacy:
            self._model = _without_prefix(self._model)
        added = _added(config, folder)
        named = {name: _content(written[name]) for name in NAMED if written.get(name) is not None}
        extra = [_content(token) for token in config.get("additional_special_tokens") or []]
        self._special = frozenset([*named.values(), *extra])
        vocabulary = {self._model.id_to_piece(i): i for i in range(self._model.get_piece_size())}
        known = {token.content: index for index, token in added.items()}
        for content in dict.fromkeys([*named.values(), *extra]):
            if content not in known:
                index = vocabulary.get(content, max([len(vocabulary) - 1, *known.values()]) + 1)
                added[index] = AddedToken(content, special=True, normalized=False)
                known[content] = index
        if alone := [token.content for token in added.values() if token.single_word]:
            raise VgError(f"The tokenizer in '{folder}' has '{alone[0]}' as a whole word only.", "It is not read here.")
        self._added, self._ids = added, known
        self._vocabulary = vocabulary | known
        marks = sorted((re.escape(content) for content in known if content), key=len, reverse=True)
        self._cut = re.compile(f"({'|'.join(marks)})")
        self._add_bos, self._add_eos = bool(config.get("add_bos_token", True)), bool(config.get("add_eos_token", False))
        self.bos_token, self.eos_token = named.get("bos_token"), named.get("eos_token")
        self._unk_token = named["unk_token"]
        self.bos_token_id, self.eos_token_id = known.get(self.bos_token or ""), known.get(self.eos_token or "")
        self.chat_template = config.get("chat_template")

    @property
    def all_special_ids(self) -> list[int]:
        """Ids that `decode` leaves out, every other added token that calls itself special, and the model's own marks
        (pieces its makers defined that are written like tags)."""
        own = [index for piece, index in self._vocabulary.items() if TAG.fullmatch(piece) and not BYTE.fullmatch(piece)]
        return [*own, *(index for index, token in self._added.items() if token.special)]

    def get_vocab(self) -> dict[str, int]:
        return dict(self._vocabulary)

    def convert_ids_to_tokens(self, ids: int | Sequence[int]) -> Any:
        if not isinstance(ids, int):
            return [self.convert_ids_to_tokens(one) for one in ids]
        token = self._added.get(ids)
        return self._model.id_to_piece(ids) if token is None else token.content

    def __call__(self, text: str, *, add_special_tokens: bool = True, return_offsets_mapping: bool = False) -> Encoded:
        """`return_offsets_mapping`: taken for the sake of transformers' signature; the offsets are always there."""
        ids, spans = self._tokens(text)
        if add_special_tokens and self._add_bos and self.bos_token_id is not None:
            ids, spans = [self.bos_token_id, *ids], [(0, 0), *spans]
        if add_special_tokens and self._add_eos and self.eos_token_id is not None:
            ids, spans = [*ids, self.eos_token_id], [*spans, (0, 0)]
        return Encoded(ids, spans)

    def _tokens(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        if self._legacy or not text:
            return self._stretches(text, 0)
        ids, spans = self._stretches(SPACE + text.replace(SPACE, " "), 1)
        opens = len(ids) > 1 and self._model.id_to_piece(ids[0]) == SPACE and ids[0] not in self._added
        if opens and self.convert_ids_to_tokens(ids[1]) in self._special:
            ids, spans = ids[1:], spans[1:]
        return ids, spans

    def _stretches(self, text: str, lead: int) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and spans of a text whose first `lead` characters are not the caller's."""
        parts, at = self._cut.split(text), 0
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for index, part in enumerate(parts):
            start, at = at, at + len(part)
            if index % 2:
                ids.append(self._ids[part])
                spans.append((max(start - lead, 0), at - lead))
                continue
            if index and self._added[self._ids[parts[index - 1]]].rstrip:
                start += len(part) - len(part.lstrip())
                part = part.lstrip()
            if index + 1 < len(parts) and self._added[self._ids[parts[index + 1]]].lstrip:
                part = part.rstrip()
            if part:
                found = self._read(part)
                ids += found
                spans += [(max(a - lead, 0), max(b - lead, 0)) for a, b in self._spans(found, part, start)]
        return ids, spans

    def _read(self, text: str) -> list[int]:
        if self._legacy or not text.startswith((SPACE, " ")):
            return list(self._model.encode(text))
        # sentencepiece drops a leading space where no dummy prefix is asked for; behind another token it does not
        unknown = self._unk_token
        return list(self._model.encode(unknown + text))[len(self._model.encode(unknown)) :]

    def _spans(self, ids: Sequence[int], text: str, start: int) -> list[tuple[int, int]]:
        """The characters of each piece: exact where sentencepiece leaves characters alone; else the whole stretch."""
        spans, at, inside = [], 0, 0
        plain = text.replace(" ", SPACE)
        for place, index in enumerate(ids):
            piece = self._model.id_to_piece(index)
            if BYTE.fullmatch(piece) and at < len(plain):
                inside += 1
                spans.append((start + at, start + at + 1))
                if inside == len(plain[at].encode()):
                    at, inside = at + 1, 0
                continue
            if place == 0 and piece.startswith(SPACE) and not plain.startswith(piece):
                piece = piece.removeprefix(SPACE)  # the dummy prefix
            if not plain.startswith(piece, at):
                return [(start, start + len(text))] * len(ids)
            spans.append((start + at, start + at + len(piece)))
            at += len(piece)
        return spans

    def decode(self, ids: int | Sequence[int], skip_special_tokens: bool = False) -> str:
        out: list[str] = []
        run: list[int] = []
        for index in [ids] if isinstance(ids, int) else ids:
            token = self._added.get(index)
            if token is None:
                run += [index] if index < self._model.get_piece_size() else []  # embeddings may have rows to spare
                continue
            if token.content in self._special and skip_special_tokens:
                continue
            out += [*([self._text(run)] if run else []), token.content]
            run = []
        out += [self._text(run)] if run else []
        return " ".join(part for part in out if part)

    def _text(self, ids: Sequence[int]) -> str:
        return self._model.decode(list(ids)).removeprefix(" " if self._model.id_to_piece(ids[0])[:1] == SPACE else "")


def fast(folder: Path) -> PreTrainedTokenizerFast:
    """transformers 4's fast Llama tokenizer: tokenizer.json as it stands, or else tokenizer.model converted."""
    config, _ = _settings(folder)
    llama = str(config.get("tokenizer_class", "")).startswith("Llama")
    ends = {"add_bos_token": config.get("add_bos_token", True), "add_eos_token": config.get("add_eos_token", False)}
    if (folder / "tokenizer.json").exists():
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, **(ends if llama else {}))
    named = {name: _content(value) for name, value in (DEFAULTS | config).items() if name in NAMED and value}
    extra = [_content(token) for token in config.get("additional_special_tokens") or []]
    made = PreTrainedTokenizerFast(
        tokenizer_object=_converted(folder),
        **named,
        **ends,
        added_tokens_decoder=_added(config, folder),
        extra_special_tokens=extra,
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = config.get("chat_template")
    return made


def _converted(folder: Path) -> Tokenizer:
    """A tokenizer.model as transformers 4's LlamaConverter makes it; its own normalizer settings are not asked."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    if _proto(model).trainer_spec.model_type != 2:
        raise VgError(f"'{folder}/tokenizer.model' is no BPE model.", "Add the tokenizer.json of the checkpoint.")
    pieces = [*DEFAULTS.values()]
    pieces = [pieces[2], pieces[0], pieces[1], *(model.id_to_piece(i) for i in range(3, model.get_piece_size()))]
    ids = {piece: index for index, piece in enumerate(pieces)}
    scores = {piece: model.get_score(index) if index > 2 else 0.0 for piece, index in ids.items()}
    merges: list[tuple[str, str, float]] = []
    for piece, score in scores.items():
        halves = [(piece[:at], piece[at:], score) for at in range(1, len(piece))]
        found = [half for half in halves if half[0] in ids and half[1] in ids]
        merges += sorted(found, key=lambda half: (ids[half[0]], ids[half[1]]))
    merges.sort(key=lambda half: half[2], reverse=True)
    pairs = [(left, right) for left, right, _ in merges]
    made = Tokenizer(BPE(ids, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in pieces[:3]])
    made.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    made.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made


def _settings(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tokenizer_config.json, the named tokens of all files). What the older special_tokens_map.json says counts only
    beside files without added_tokens_decoder, and only for tokens that tokenizer_config.json leaves out."""
    config = read_json(folder / "tokenizer_config.json")
    older = {} if "added_tokens_decoder" in config else read_json(folder / "special_tokens_map.json")
    return {**older, **config}, {**DEFAULTS, **older, **config}


def _added(config: Mapping[str, Any], folder: Path) -> dict[int, AddedToken]:
    """Tokens beside the model's own, by id."""
    try:
        listed = config.get("added_tokens_decoder")
        if listed is None:
            older = read_json(folder / "added_tokens.json")
            return {int(index): AddedToken(content, normalized=False) for content, index in older.items()}
        return {int(index): _token(fields) for index, fields in listed.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise VgError(f"The added tokens in '{folder}' cannot be read: {error}.", "Fetch it again.") from None


def _token(fields: Mapping[str, Any]) -> AddedToken:
    flags = {name: bool(fields[name]) for name in ("lstrip", "rstrip", "single_word", "normalized") if name in fields}
    return AddedToken(str(fields["content"]), special=bool(fields.get("special", False)), **flags)


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _proto(model: sentencepiece.SentencePieceProcessor) -> Any:
    from transformers.convert_slow_tokenizer import import_protobuf

    return import_protobuf().ModelProto.FromString(model.serialized_model_proto())


def _without_prefix(model: sentencepiece.SentencePieceProcessor) -> sentencepiece.SentencePieceProcessor:
    proto = _proto(model)
    proto.normalizer_spec.add_dummy_prefix = False
    return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())


def contradiction(folder: Path) -> str | None:
    """What tokenizer.json and tokenizer.model say against each other about a space before the first word, or None."""
    if not ((folder / "tokenizer.json").exists() and (folder / "tokenizer.model").exists()):
        return None
    try:
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    except RuntimeError:
        return None  # tokenizer.model of another library
    tokenizer = read_json(folder / "tokenizer.json")
    written = json.dumps([tokenizer.get(part) for part in ("normalizer", "pre_tokenizer")])
    prepends = re.search(r'"Prepend"|"prepend_scheme": "(always|first)"', written) is not None
    own = bool(_proto(model).normalizer_spec.add_dummy_prefix)
    if own == prepends:
        return None
    says = {True: "puts a space before the first word", False: "puts none there"}
    return f"tokenizer.model {says[own]}, tokenizer.json {says[prepends]}"
