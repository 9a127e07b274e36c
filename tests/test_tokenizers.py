"""Sentencepiece tokenizers of every kind, against sentencepiece itself and transformers 4's rules by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer

from tests import checkpoints
from vgtool.errors import VgError
from vgtool.models import pieces
from vgtool.models.load import load
from vgtool.registry import models

TEXTS = (
    "Is there a lesion?", " two  blanks ", "\nline", "12.5 mm", "肺健康吗", "naïve e\u0301", "a\u2581b", "\u2581", "🫁",
    "x\ty", "",
)  # fmt: skip
MARK = "<|im_end|>"
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no prefix": {"prefix": False},
    "nfkc": {"rule": "nmt_nfkc", "squeeze": True},
}


def told(folder: Path, *, prefix: bool) -> Callable[[str], list[int]]:
    """sentencepiece's own ids under the tokenizer.model of a folder, told whether to add a dummy prefix."""
    proto: Any = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString((folder / "tokenizer.model").read_bytes())
    proto.normalizer_spec.add_dummy_prefix = prefix
    return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString()).encode


@pytest.mark.parametrize("kind", KINDS)
def test_the_slow_reader_gives_sentencepieces_own_ids_stretch_by_stretch(kind: str, tmp_path: Path) -> None:
    encode, vocabulary = checkpoints.sentence_piece(tmp_path, (MARK,), ("<img>",), **KINDS[kind])
    made = pieces.Pieces(tmp_path)
    for text in TEXTS:
        assert made(text).input_ids == [1, *encode(text)]
        mixed = made(f"{text}{MARK}{text}<img>{text}", add_special_tokens=False).input_ids
        assert mixed == [*encode(text), vocabulary[MARK], *encode(text), vocabulary["<img>"], *encode(text)]


@pytest.mark.parametrize("prefix", [True, False])
def test_pieces_defined_by_the_user_are_whole_without_being_listed(prefix: bool, tmp_path: Path) -> None:
    checkpoints.sentence_piece(tmp_path, (MARK,), prefix=prefix, listed=False)
    own = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    made = pieces.Pieces(tmp_path)
    text = f"user\nIs it?{MARK} no"
    assert made(text, add_special_tokens=False).input_ids == own.encode(text)
    assert own.piece_to_id(MARK) in made(text).input_ids and own.piece_to_id(MARK) in made.all_special_ids


@pytest.mark.parametrize("prefix", [True, False])
def test_the_newer_slow_reader_puts_one_space_before_the_whole(prefix: bool, tmp_path: Path) -> None:
    _, vocabulary = checkpoints.sentence_piece(tmp_path, (), ("<img>",), prefix=prefix)
    bare, made = told(tmp_path, prefix=False), pieces.Pieces(tmp_path, legacy=False)
    image = vocabulary["<img>"]
    ids = made("Is it? no<img>Is it?", add_special_tokens=False).input_ids
    assert ids == [*bare(" Is it? no"), image, *bare("Is it?")]
    assert made("<img>no", add_special_tokens=False).input_ids == [*bare(" "), image, *bare("no")]
    assert made("</s>no", add_special_tokens=False).input_ids == [2, *bare("no")]


@pytest.mark.parametrize("prepends", [True, False])
def test_the_fast_reader_takes_tokenizer_json_as_it_is(prepends: bool, tmp_path: Path) -> None:
    checkpoints.sentence_piece(tmp_path)
    checkpoints.converted(tmp_path, prepends=prepends)
    own = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    made = pieces.fast(tmp_path)
    for text in TEXTS:
        assert made(text, add_special_tokens=False).input_ids == own.encode(text, add_special_tokens=False).ids
        assert made(text).input_ids[0] == 1
    assert made("Is it?", add_special_tokens=False).input_ids == told(tmp_path, prefix=prepends)("Is it?")


@pytest.mark.parametrize("prefix", [True, False])
def test_the_fast_reader_of_a_tokenizer_model_always_puts_a_space_in_front(prefix: bool, tmp_path: Path) -> None:
    checkpoints.sentence_piece(tmp_path, prefix=prefix)
    encode, made = told(tmp_path, prefix=True), pieces.fast(tmp_path)
    for text in ("Is there a lesion?", "\nline", "肺健康吗", "12.5 mm"):
        assert made(text).input_ids == [1, *encode(text)]


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("kind", ["plain", "no prefix"])
def test_offsets_cover_the_text_piece_by_piece(kind: str, legacy: bool, tmp_path: Path) -> None:
    checkpoints.sentence_piece(tmp_path, (MARK,), **KINDS[kind])
    made = pieces.Pieces(tmp_path, legacy=legacy)
    text = f"Is it 肺 é?{MARK} yes 12"
    encoded = made(text, add_special_tokens=False)
    seen = {place for start, stop in encoded.offset_mapping for place in range(start, stop)}
    assert seen == set(range(len(text)))
    at = encoded.input_ids.index(made.get_vocab()[MARK])
    assert text[slice(*encoded.offset_mapping[at])] == MARK
    starts = [start for start, _ in encoded.offset_mapping]
    assert starts == sorted(starts)


def test_answers_are_decoded_as_the_slow_reader_does(tmp_path: Path) -> None:
    checkpoints.sentence_piece(tmp_path, (MARK,))
    made = pieces.Pieces(tmp_path)
    ids = made("yes 肺 12").input_ids
    assert made.decode(ids, skip_special_tokens=True) == "yes 肺 12"
    assert made.decode([*ids, 2, 10**6], skip_special_tokens=True) == "yes 肺 12"  # the embeddings have rows to spare
    assert made.decode([]) == ""


def test_older_files_name_their_added_tokens_in_files_of_their_own(tmp_path: Path) -> None:
    _, vocabulary = checkpoints.sentence_piece(tmp_path, (), ("<img>",))
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del config["added_tokens_decoder"], config["bos_token"]
    checkpoints.write(tmp_path / "tokenizer_config.json", config | {"additional_special_tokens": ["<|new|>"]})
    made = pieces.Pieces(tmp_path)
    ids = made("<s>a<img><|new|>").input_ids
    assert ids[0] == ids[1] == 1 and ids[-2:] == [vocabulary["<img>"], vocabulary["<img>"] + 1]


def test_files_that_contradict_each_other_are_named_in_the_notes(tmp_path: Path) -> None:
    made = checkpoints.huatuo_34b(tmp_path / "model", prepends=False)
    assert pieces.contradiction(made.folder) == (
        "tokenizer.model puts a space before the first word, tokenizer.json puts none there"
    )
    adapter = load(models()["huatuogpt-vision-34b"], source=made.folder, device="cpu")
    assert "Its tokenizer files disagree" in adapter.spec.notes[-1]
    assert list(adapter.prompt("Is it?").tail) == told(made.folder, prefix=False)("\nIs it?\n<|assistant|>\n")
    checkpoints.converted(made.folder)
    assert pieces.contradiction(made.folder) is None


def test_medregas_prompt_follows_its_tokenizer_model(tmp_path: Path) -> None:
    made = checkpoints.medrega(tmp_path / "model", prefix=False, listed=False)
    own = sentencepiece.SentencePieceProcessor(model_file=str(made.folder / "tokenizer.model"))
    prompt = load(models()["medrega"], source=made.folder, device="cpu").prompt("Is it?")
    assert list(prompt.tail)[1:] == own.encode("\nIs it?<|im_end|><|im_start|>assistant\n")


@pytest.mark.parametrize("change,said", [
    ({"tokenizer": "quick"}, "Known: slow, fast"),
    ({"strip": "up"}, "both, left, right, none"),
])  # fmt: skip
def test_an_unknown_way_to_read_is_refused(change: dict[str, str], said: str, tmp_path: Path) -> None:
    made = checkpoints.llava_med(tmp_path / "model")
    spec = models()["llava-med"].model_copy(update={"options": change})
    with pytest.raises(VgError, match=said):
        load(spec, source=made.folder, device="cpu")


@pytest.mark.parametrize("name,content", [
    ("tokenizer.model", b"no model"),
    ("tokenizer.json", b'{"version": "9.0", "model": {"type": "Later"}}'),
    ("tokenizer_config.json", b'{"added_tokens_decoder": {"x": 1}}'),
])  # fmt: skip
def test_a_tokenizer_that_cannot_be_read_is_one_sentence(name: str, content: bytes, tmp_path: Path) -> None:
    made = checkpoints.huatuo_34b(tmp_path / "model")
    if name == "tokenizer.model":
        (made.folder / "tokenizer.json").unlink()
    (made.folder / name).write_bytes(content)
    with pytest.raises(VgError, match="cannot be read") as caught:
        load(models()["huatuogpt-vision-34b"], source=made.folder, device="cpu")
    assert "\n" not in str(caught.value)
