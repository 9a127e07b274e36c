"""The words around an image: one template per model, and where its answers end.

The registry's prompt wins; a model without one speaks its checkpoint's own chat template, rendered once with
`<image>` and `{question}` in the places of the image and the user's text.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vgtool.errors import VgError, one_line
from vgtool.models.checkpoint import Checkpoint
from vgtool.models.pieces import contradiction
from vgtool.models.prompts import IMAGE, QUESTION
from vgtool.models.wording import marks, wording
from vgtool.registry import ModelSpec, asks

SET = "Give its entry a prompt in models.yaml (see docs/models.md)."
"""What to do about a chat template that is of no use."""
IDS = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "transformers_version",
    "_from_model_config",
)


def conversation(
    checkpoint: Checkpoint,
    tokenizer: Any,
    image_token: int | None,
    *eos: int | Iterable[int] | None,
    wrap: tuple[str, str] = ("", ""),
    written: str | None = None,
    sub: str = "",
    prompt: str | None = None,
    strip: str | None = None,
    template: tuple[str, str, str] | None = None,
) -> dict[str, Any]:
    """The fields of an Adapter that concern text.

    `image_token`: the id that the chat template writes for an image (`written` when its text is another);
    `wrap`: what the model's processor writes around it. `eos`: ids from the config. `sub`: the language model's folder.
    `prompt`: the words of a layout that names them otherwise than by a chat template; the entry's win over them.
    `strip`: which blanks around a question the family's own code takes away; None: those that its chat template does.
    `template`: what `_template` gives, where it is known already.
    """
    generation = checkpoint.json(f"{sub}generation_config.json")
    options = checkpoint.spec.options
    stops = options.get("stop", [])
    ending = _ends(checkpoint, tokenizer, generation, eos)
    stopping = {index for word in stops if (index := _single(tokenizer, word)) is not None}
    own = None if image_token is None else token(checkpoint, tokenizer, image_token)
    mark = written or own
    words, separator, trims = template or _template(checkpoint, tokenizer, mark, wrap, prompt)
    words = words.replace(QUESTION, checkpoint.spec.question)
    return {
        "spec": _told(checkpoint, sub),
        "revision": checkpoint.revision,
        "tokenizer": tokenizer,
        "template": words,
        "separator": separator,
        "eos": frozenset(ending | stopping),
        "held": frozenset(ending),
        "bos": bool(options.get("bos", True)),
        "wording": wording(options, strip or trims, words),
        **_several(checkpoint.spec, wrap),
        "marks": marks(tokenizer),
        "min_new_tokens": int(options.get("min_new_tokens", 0)),
        "stop": tuple(word for word in stops if _single(tokenizer, word) is None),
        "generation": {key: value for key, value in generation.items() if key not in IDS},
    }


def token(checkpoint: Checkpoint, tokenizer: Any, index: Any) -> str:
    """The token of an id that a config names for an image. VgError where the tokenizer has none."""
    try:
        found = tokenizer.convert_ids_to_tokens(index)
    except (OverflowError, TypeError, IndexError):
        found = None
    if not isinstance(found, str):
        raise VgError(
            f"The tokenizer of '{checkpoint.spec.name}' has no token {index!r}, which config.json names for an image.",
            "They are of two models; take the tokenizer's files from the one that was trained.",
        )
    return found


def ends(config: Any) -> list[Any]:
    """What a config and its text part name as ids that end an answer; older and smaller ones name none."""
    return [getattr(part, "eos_token_id", None) for part in (config, config.get_text_config())]


def _ends(
    checkpoint: Checkpoint,
    tokenizer: Any,
    generation: Mapping[str, Any],
    configured: Iterable[int | Iterable[int] | None],
) -> set[int]:
    """Ids that end an answer: the entry's alone where it names them (its original passes them to `generate`), else
    those of generation_config.json alone, which is what `generate` takes, else the config's and the tokenizer's."""
    asked = checkpoint.spec.options.get("eos")
    if asked is None:
        of_config = {index for group in configured for index in _ids(group)}
        return _ids(generation.get("eos_token_id")) or of_config | _ids(tokenizer.eos_token_id)
    found: set[int] = set()
    for one in asked if isinstance(asked, list) else [asked]:
        index = _single(tokenizer, one) if isinstance(one, str) else one
        index = tokenizer.eos_token_id if one == "tokenizer" else index
        if index is None:
            raise VgError(f"The tokenizer of '{checkpoint.spec.name}' has no '{one}' to end an answer.", "Correct eos.")
        found.add(index)
    return found


def _told(checkpoint: Checkpoint, sub: str) -> ModelSpec:
    """The entry, with a note where files contradict each other."""
    said = contradiction(checkpoint.folder / sub)
    notes = [f"Its tokenizer files disagree: {said}."] if said else []
    jinja, named = checkpoint.folder / "chat_template.jinja", checkpoint.json("chat_template.json").get("chat_template")
    if checkpoint.spec.prompt is None and named and jinja.exists() and jinja.read_text("utf-8") != named:
        notes.append("chat_template.json and chat_template.jinja differ; the first counts, as for its processor.")
    return checkpoint.spec.model_copy(update={"notes": [*checkpoint.spec.notes, *notes]}) if notes else checkpoint.spec


def _ids(value: int | Iterable[int] | None) -> set[int]:
    return set() if value is None else {value} if isinstance(value, int) else set(value)


def _single(tokenizer: Any, word: str) -> int | None:
    """The id of a word that is one token of the vocabulary, or None."""
    return tokenizer.get_vocab().get(word)


def _template(
    checkpoint: Checkpoint, tokenizer: Any, mark: str | None, wrap: tuple[str, str], prompt: str | None
) -> tuple[str, str, str]:
    """(template with <image> and {question}, text between two images, which blanks around a question it drops)."""
    spec = checkpoint.spec
    prompt = spec.prompt if spec.prompt is not None else prompt
    if prompt is not None:
        separator = spec.options.get("separator", wrap[1] + "\n" + wrap[0])
        return prompt.replace(IMAGE, wrap[0] + IMAGE + wrap[1]), separator, "none"
    source = chosen(checkpoint, checkpoint.chat_template() or tokenizer.chat_template)
    if source is None or mark is None:
        raise VgError(f"'{spec.name}' has no chat template.", SET)
    try:
        one, two = (rendered(tokenizer, source, images, spec.system) for images in (1, 2))
        trims = trimmed(lambda text: rendered(tokenizer, source, 1, spec.system, text))
    except Exception as error:  # whatever a template's own code raises: its syntax, its types, raise_exception
        raise VgError(
            f"The chat template of '{spec.name}' does not take an image and a text: {one_line(error)}.", SET
        ) from None
    if one.count(mark) != 1 or two.count(mark) != 2:
        raise VgError(f"The chat template of '{spec.name}' does not write one {mark} per image.", SET)
    in_order(spec.name, one.replace(mark, IMAGE))
    return one.replace(mark, wrap[0] + IMAGE + wrap[1]), wrap[1] + two.split(mark)[1] + wrap[0], trims


def in_order(name: str, template: str) -> None:
    """VgError unless a checkpoint's own chat template, rendered, holds the image and then the question, each once."""
    try:
        asks(template)
    except ValueError:
        said = f"The chat template of '{name}' does not write an image and then the question, each once."
        raise VgError(said, SET) from None


def _several(spec: ModelSpec, wrap: tuple[str, str]) -> dict[str, str]:
    """The words of a prompt with more than one image, of an entry that numbers them."""
    several, numbered = str(spec.options.get("several", "")), str(spec.options.get("numbered", ""))
    if not several:
        return {}
    try:
        asks(several)
    except ValueError as error:
        raise VgError(f"Option several of '{spec.name}': {error}.", "Correct models.yaml.") from None
    first = numbered.replace("{number}", "1") + wrap[0] + IMAGE + wrap[1]
    return {"several": several.replace(IMAGE, first), "numbered": wrap[1] + numbered + wrap[0]}


def chosen(checkpoint: Checkpoint, source: Any) -> str | None:
    """Of several named templates the default, as transformers takes it."""
    if isinstance(source, list):  # as tokenizer_config.json lists them
        source = {one.get("name"): one.get("template") for one in source if isinstance(one, dict)}
    if not isinstance(source, dict):
        return source
    if not isinstance(source.get("default"), str):
        names = ", ".join(map(repr, source))
        raise VgError(
            f"'{checkpoint.spec.name}' has chat templates {names} and none called default.", SET
        )
    return source["default"]


def rendered(tokenizer: Any, source: str, images: int, system: str | None, text: str = QUESTION) -> str:
    """A chat template's prompt of a user's turn with some images and a text."""
    content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": text}]
    first = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system is not None else []
    turns = [*first, {"role": "user", "content": content}]
    return tokenizer.apply_chat_template(turns, chat_template=source, tokenize=False, add_generation_prompt=True)


def trimmed(render: Callable[[str], str]) -> str:
    """Which blanks around a question a chat template drops: both, left, right or none. `render`: its prompt of a
    text."""
    plain, dressed = render(QUESTION), render(f" {QUESTION} ")
    head, _, tail = plain.partition(QUESTION)
    left, right = (not dressed.startswith(f"{head} {QUESTION}"), not dressed.endswith(f"{QUESTION} {tail}"))
    return {(True, True): "both", (True, False): "left", (False, True): "right", (False, False): "none"}[left, right]
