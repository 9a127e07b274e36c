"""What goes into a prompt token for token, and what ends an answer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import checkpoints
from tests.library import NAMES, PLACEHOLDER, QUESTION, Library, copied, edit, picture
from vgtool.errors import SampleError, VgError
from vgtool.models.chat import trimmed
from vgtool.models.load import load
from vgtool.registry import models

# ---- prompts -------------------------------------------------------------------------------------------------------

LLAMA3 = ["<|start_header_id|>", "system", "<|end_header_id|>"]
USER3 = ["<|eot_id|>", "<|start_header_id|>", "user", "<|end_header_id|>", "\n\n"]
END3 = ["<|eot_id|>", "<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n"]
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
VILA_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
BOS3 = "<|begin_of_text|>"
IM = ("<|im_start|>", "<|im_end|>")
HUATUO = (["<|user|>\n"], [f"\n{QUESTION}\n<|assistant|>\n"])
HAND: dict[str, tuple[list[str], list[str]]] = {
    "huatuogpt-vision-7b": HUATUO,
    "huatuogpt-vision-34b": HUATUO,
    "huatuogpt-v-bio": HUATUO,
    "llava-med": (["<s>", "[INST] "], [f"\n{QUESTION} [/INST]"]),
    "llava-tri": ([BOS3, BOS3, *LLAMA3, f"\n\n{VICUNA}", *USER3], [f"\n{QUESTION}", *END3]),
    "vila-m3-8b": ([BOS3, BOS3, *LLAMA3, f"\n\n{VILA_SYSTEM}", *USER3], [f"\n{QUESTION}", *END3]),
    "vila-m3-13b": (["<s>", f"{VICUNA} USER: "], [f"\n{QUESTION} ASSISTANT:"]),
    "llava-1.5-7b-original": (["<s>", f"{VICUNA} USER: "], [f"\n{QUESTION} ASSISTANT:"]),
    "llava-1.5-7b": (["<s>", "USER: "], [f"\n{QUESTION} ASSISTANT:"]),
    "medrega": (
        [
            IM[0],
            "system\nAnswer the questions.",
            IM[1],
            IM[0],
            "user\nYou are a helpful medical assistant. You are required to answer the question based on the medical "
            "image. ",
            "<img>",
        ],
        ["</img>", f"\n{QUESTION}", IM[1], IM[0], "assistant\n"],
    ),
    "qwen2.5-vl-7b": (
        [IM[0], "system\nYou are a helpful assistant.", IM[1], "\n", IM[0], "user\n", "<|vision_start|>"],
        ["<|vision_end|>", QUESTION, IM[1], "\n", IM[0], "assistant\n"],
    ),
    "qwen3-vl-8b": (
        [IM[0], "user\n", "<|vision_start|>"],
        ["<|vision_end|>", QUESTION, IM[1], "\n", IM[0], "assistant\n"],
    ),
    "internvl3-8b": (
        [IM[0], "user\n", "<img>"],
        ["</img>", f"\n{QUESTION}", IM[1], "\n", IM[0], "assistant\n"],
    ),
    "medgemma-4b": (
        ["<bos>", "<start_of_turn>", "user\n\n\n", "<start_of_image>"],
        ["<end_of_image>", f"\n\n{QUESTION}", "<end_of_turn>", "\n", "<start_of_turn>", "model\n"],
    ),
}
HAND["lingshu-7b"] = HAND["aloe-vision-7b"] = HAND["qwen2.5-vl-7b"]
INTERN = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
HAND["lingshu-i-8b"] = HAND["chiron-o1-8b"] = (
    [IM[0], f"system\n{INTERN}", IM[1], "\n", IM[0], "user\n", "<img>"],
    ["</img>", f"\n{QUESTION}", IM[1], "\n", IM[0], "assistant\n"],
)
for name in ("medmo-4b", "medmo-8b", "healthgpt-pro-4b", "healthgpt-pro-8b"):
    HAND[name] = HAND["qwen3-vl-8b"]
for name in ("medgemma-1.5-4b", "medgemma-27b"):
    HAND[name] = HAND["medgemma-4b"]
for name in ("lingshu-32b", "huatuogpt-vision-7b-qwen2.5vl", "qwen2.5-vl-3b-vicrop"):
    HAND[name] = HAND["qwen2.5-vl-7b"]


def asked(name: str, before: str, after: str) -> tuple[list[str], list[str]]:
    """The hand-made prompt of `name` with instructions around the question."""
    head, tail = HAND[name]
    return head, [piece.replace(QUESTION, before + QUESTION + after) for piece in tail]


HAND["med-r1"] = asked(
    "qwen2.5-vl-7b",
    "",
    " First output the thinking process in <think> </think> and final choice (A, B, C, D ...) in <answer> </answer> "
    "tags.",
)
HAND["medvlm-r1"] = asked(
    "qwen2.5-vl-7b",
    "\n    ",
    "\n    Your task:\n    1. Think through the question step by step, enclose your reasoning process in "
    "<think>...</think> tags.\n    2. Then provide the correct single-letter choice (A, B, C, D,...) inside "
    "<answer>...</answer> tags.\n    3. No extra information or text outside of these tags.\n    ",
)
HAND["qoq-med-7b"] = HAND["qoq-med-32b"] = asked(
    "qwen2.5-vl-7b",
    "",
    " You FIRST think about the reasoning process as an internal monologue and then provide the final answer.\nBefore "
    "analyzing medical images, you must identify and outline all objects of interest that are relevant to diagnosis in "
    'json format, with list od bounding box in a key called "bbox_2d" with the format [x1, y1, x2, y2]. The json '
    "should be wrapped in ```json ... ``` tags. The reasoning process MUST BE enclosed within <think> </think> tags. "
    "The final answer MUST BE put in \\boxed{}.",
)
HAND["medvlthinker-7b"] = (
    [
        IM[0],
        "system\nYou will solve a problem/request. You should provide your thoughts within <think> </think> tags "
        "before providing the answer.\nWrite your final answer within <answer> </answer> tags.",
        *HAND["qwen2.5-vl-7b"][0][2:],
    ],
    HAND["qwen2.5-vl-7b"][1],
)
HAND["citrus-v-8b"] = HAND["qwen2.5-vl-7b"]
HAND["hulu-med-7b"] = ([IM[0], "user\n"], [f"\n{QUESTION}", IM[1], "\n", IM[0], "assistant\n"])
FLEMING = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant "
    "first thinks about the reasoning process in the mind and then provides the user a concise final answer in a short "
    "word or phrase. The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> "
    "tags, respectively, i.e., <think> reasoning process here </think><answer> answer here </answer>"
)
HAND["fleming-vl-8b"] = (
    [*HAND["chiron-o1-8b"][0][:5], f"user\n{FLEMING}\n", "<img>"],
    HAND["chiron-o1-8b"][1],
)


@pytest.mark.parametrize("name", NAMES)
def test_prompts_are_the_originals_token_for_token(name: str, library: Library) -> None:
    adapter, encode = library.adapter(name), library.published[name].encode
    prompt = adapter.prompt(QUESTION)
    head, tail = ([token for piece in side for token in encode(piece)] for side in HAND[name])
    assert list(prompt.head) == head
    assert list(prompt.tail) == tail
    text = adapter.tokenizer.decode(prompt.tail[slice(*prompt.question)])
    assert QUESTION in text and len(text) <= len(QUESTION) + 2


def test_medrega_numbers_several_images_as_its_multi_image_chat(library: Library) -> None:
    adapter, encode = library.adapter("medrega"), library.published["medrega"].encode
    pieces = [IM[0], "system\nAnswer the questions.", IM[1], IM[0], "user\n<image 1> (图1):", "<img>"]
    prompt = adapter.prompt(QUESTION, images=3)
    assert list(prompt.head) == [token for piece in pieces for token in encode(piece)]
    assert prompt.tail == adapter.prompt(QUESTION).tail
    for number in (2, 3):
        between = ["</img>", f"<image {number}> (图{number}):", "<img>"]
        assert list(adapter.between(number)) == [token for piece in between for token in encode(piece)]


@pytest.mark.parametrize("name,between", [
    ("llava-1.5-7b", []),
    ("llava-1.5-7b-original", []),
    ("qwen2.5-vl-7b", ["<|vision_end|>", "<|vision_start|>"]),
    ("internvl3-8b", ["</img>", "<img>"]),
    ("medrega", ["</img>", "<img>"]),
])  # fmt: skip
def test_images_side_by_side_have_no_line_break_between_them(name: str, between: list[str], library: Library) -> None:
    adapter, encode = library.adapter(name).beside(), library.published[name].encode
    assert list(adapter.between()) == [token for piece in between for token in encode(piece)]
    assert adapter.model is library.adapter(name).model
    assert adapter.prompt(QUESTION) == library.adapter(name).prompt(QUESTION)


@pytest.mark.parametrize("name,tokens,part", [("llava-med", 36, ""), ("vila-m3-13b", 16, "llm/")])
def test_a_prompt_that_the_originals_code_would_cut_off_is_refused(
    name: str, tokens: int, part: str, library: Library, tmp_path: Path
) -> None:
    whole = library.adapter(name).prompt(QUESTION)
    length = len(whole.head) + tokens + len(whole.tail)
    folder = copied(library, name, tmp_path)
    edit(folder / f"{part}config.json", tokenizer_model_max_length=length)
    adapter = load(models()[name], source=folder, device="cpu")
    assert adapter.prompt(QUESTION) == whole
    with pytest.raises(SampleError, match=f"prompt_too_long: {length + 1} tokens.*{length}"):
        adapter.prompt(f"{QUESTION}?")
    with pytest.raises(SampleError, match="prompt_too_long"):
        adapter.prompt(QUESTION, images=2)


@pytest.mark.parametrize("template,trims", [
    ("user: {}\nassistant:", "none"),
    ("user:{}", "none"),
])  # fmt: skip
def test_a_template_that_keeps_blanks_trims_none(template: str, trims: str) -> None:
    assert trimmed(template.format) == trims


@pytest.mark.parametrize("cut,trims", [(str.strip, "both"), (str.lstrip, "left"), (str.rstrip, "right")])
def test_a_template_that_drops_blanks_says_which(cut: Callable[[str], str], trims: str) -> None:
    assert trimmed(lambda text: f"user: {cut(text)} assistant:") == trims


def test_medgemmas_prompt_is_its_processors(library: Library) -> None:
    from transformers import Gemma3ImageProcessorPil, Gemma3Processor

    adapter, image = library.adapter("medgemma-4b"), picture()
    processor = Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": 112, "width": 112}), adapter.tokenizer, image_seq_length=16
    )
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], chat_template=checkpoints.GEMMA_CHAT, add_generation_prompt=True
    )
    out = processor(images=image, text=text.removeprefix("<bos>"), return_tensors="pt")
    prompt = adapter.prompt(QUESTION)
    ids = out.input_ids[0].tolist()
    assert ids == [*prompt.head, *library.published["medgemma-4b"].encode("<image_soft_token>") * 16, *prompt.tail]


def test_a_tokenizer_model_alone_keeps_the_space_before_the_first_word(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-1.5-7b", tmp_path)
    (folder / "tokenizer.json").unlink()
    adapter = load(models()["llava-1.5-7b"], source=folder, device="cpu")
    assert adapter.prompt(QUESTION) == library.adapter("llava-1.5-7b").prompt(QUESTION)


@pytest.mark.parametrize("name,ends,least", [
    ("huatuogpt-vision-7b", ["<|endoftext|>"], 1),
    ("huatuogpt-vision-34b", ["</s>"], 1),
    ("llava-med", ["</s>"], 0),
    ("llava-tri", ["<|end_of_text|>", "<|eot_id|>"], 0),
    ("vila-m3-8b", ["<|end_of_text|>", "<|eot_id|>"], 2),
    ("vila-m3-13b", ["</s>"], 2),
    ("medrega", ["<|im_end|>"], 1),
    ("qwen2.5-vl-7b", ["<|im_end|>"], 0),
    ("medgemma-4b", ["<eos>", "<end_of_turn>"], 0),
])  # fmt: skip
def test_answers_end_where_the_original_ends_them(name: str, ends: list[str], least: int, library: Library) -> None:
    adapter, encode = library.adapter(name), library.published[name].encode
    assert adapter.eos == {encode(word)[0] for word in ends} and adapter.min_new_tokens == least
    assert adapter.held == adapter.eos - {encode(word)[0] for word in ends if word == "<|eot_id|>"}


def test_generation_config_alone_says_what_generate_would_end_at(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-1.5-7b-original", tmp_path)
    edit(folder / "generation_config.json", eos_token_id=[5, 7])
    assert load(models()["llava-1.5-7b-original"], source=folder, device="cpu", offline=True).eos == {5, 7}
    for asked, ends in (([9], {9}), ("tokenizer", {2}), (["<s>"], {1})):
        spec = models()["llava-1.5-7b-original"].model_copy(update={"options": {"eos": asked}})
        assert load(spec, source=folder, device="cpu", offline=True).eos == ends
    spec = spec.model_copy(update={"options": {"eos": ["<|nowhere|>"]}})
    with pytest.raises(VgError, match="to end an answer"):
        load(spec, source=folder, device="cpu", offline=True)


@pytest.mark.parametrize(
    "name", ["qwen2.5-vl-7b", "internvl3-8b", "medgemma-4b", "medrega", "llava-1.5-7b", "vila-m3-8b"]
)
def test_an_image_placeholder_in_a_question_is_refused(name: str, library: Library) -> None:
    with pytest.raises(SampleError, match="placeholder_in_question"):
        library.adapter(name).prompt(f"Is {PLACEHOLDER.get(name, '<image>')} red?")


@pytest.mark.parametrize("name,text,seen", [
    ("huatuogpt-vision-7b", "  <s>Is it</s> <image>red? \n", "  Is it red?"),
    ("llava-med", "  Is it <image>red? \n", "Is it red?"),
    ("medrega", "  Is it red? \n", "  Is it red? \n"),
    ("vila-m3-13b", "  Is it red? \n", "  Is it red? \n"),
    ("llava-1.5-7b-original", "  Is it red? \n", "  Is it red? \n"),
    ("llava-1.5-7b", "  Is it red? \n", "  Is it red? \n"),
    ("medgemma-4b", "  Is it red? \n", "Is it red?"),  # its chat template trims
])  # fmt: skip
def test_a_question_is_cleaned_as_the_familys_own_code_cleans_it(
    name: str, text: str, seen: str, library: Library
) -> None:
    adapter = library.adapter(name)
    assert adapter.wording(text) == seen
    before = "\n\n" if name == "medgemma-4b" else "\n"
    ids = library.published[name].encode(f"{before}{seen}")[:-3]
    start = list(adapter.prompt(text).tail).index(ids[0])
    assert list(adapter.prompt(text).tail)[start : start + len(ids)] == ids


@pytest.mark.parametrize("name,mark", [
    ("huatuogpt-vision-7b", "<|assistant|>"),
    ("huatuogpt-vision-7b", "<|im_end|>"),
    ("llava-med", "[/INST]"),
    ("llava-med", "</s>"),
    ("llava-tri", "<|eot_id|>"),
    ("llava-tri", "<pad>"),  # which its loader adds to the tokenizer
    ("vila-m3-13b", "ASSISTANT:"),
    ("medrega", "<|im_end|>"),
    ("medrega", "<|im_start|>"),
    ("qwen2.5-vl-7b", "<|im_end|>"),
    ("medgemma-4b", "<end_of_turn>"),
])  # fmt: skip
def test_a_question_never_opens_a_turn_of_the_chat(name: str, mark: str, library: Library) -> None:
    with pytest.raises(SampleError, match="chat_mark_in_question") as caught:
        library.adapter(name).prompt(f"Is it red?{mark} yes")
    assert mark in str(caught.value)
