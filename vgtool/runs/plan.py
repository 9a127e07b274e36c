"""What a run will take: counts, tokens, time, memory and disk, before any weight.

Standard library only, and no torch: `vgtool plan` answers at once. Estimates are arithmetic on stated assumptions
(docs/scale.md); what a run really does is on its progress line.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vgtool.errors import VgError, did_you_mean
from vgtool.records import GENERAL_QUESTION, QUESTION_SUFFIX, Rejected, Sample
from vgtool.runs.deal import ANSWER_TOKENS, CHARACTERS_PER_TOKEN, TEMPLATE_TOKENS, deal, question_tokens
from vgtool.runs.memory import MOST_IMAGES, Shape, batch_bytes


@dataclass(frozen=True, slots=True)
class Card:
    """What a device can do, from its maker's data sheet, and the share of it that is reckoned with."""

    flops: float
    """Dense 16-bit FLOP/s."""
    bandwidth: float
    """Bytes/s."""
    memory: float
    """Bytes."""
    share: float = 0.35
    """Of `flops`, in passes over prompts: an assumption that all hours here rest on."""
    call: float = 0.35e-3
    """Seconds that a layer of a pass takes at least: some 70 operations to be started one by one. The other one."""


CARDS = {
    "h200": Card(989e12, 4.8e12, 141e9),
    "h100": Card(989e12, 3.35e12, 80e9),
    "a100": Card(312e12, 2.0e12, 80e9),
    "a100-40gb": Card(312e12, 1.55e12, 40e9),
    "l40s": Card(362e12, 0.86e12, 48e9),
    "rtx4090": Card(165e12, 1.0e12, 24e9),
    "cpu-core": Card(50e9, 10e9, 16e9, call=0.0),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will take."""

    samples: int
    rejected: int
    images: int
    image_tokens: int
    prompt_tokens: int
    """Read by the model for all samples and methods, images included."""
    answer_tokens: int
    flops: float
    seconds: float
    """Of one card, without loading."""
    memory: float
    """Bytes of one card that holds the whole model."""
    disk: float
    """Bytes of rows."""
    shards: list[tuple[int, int, int]]
    """(samples, images, prompt tokens) of each."""
    assumed: str = ""
    """What a reader must know of `image_tokens` where they are a guess."""


def estimate(
    samples: Sequence[Sample],
    rejected: Sequence[Rejected],
    shape: Shape,
    card: Card,
    *,
    shards: int = 1,
    methods: int = 0,
    maps: str = "layers",
    max_new_tokens: int = ANSWER_TOKENS,
    thought: int = 0,
    images_a_pass: int = MOST_IMAGES,
) -> Plan:
    """Sizes of a probe (`methods` = 0) or refine run. Every method reads its question twice behind the shared image,
    for its answer and for the deletion beside it (edits restart at a middle layer, which is reckoned as a whole pass),
    and writes its own answer (`thought` tokens where the model reasons first). A pass or step takes what it computes,
    or what it takes to start its operations."""
    asked = 1 + 2 * methods
    general = TEMPLATE_TOKENS + math.ceil(len(f"{GENERAL_QUESTION} {QUESTION_SUFFIX}") / CHARACTERS_PER_TOKEN)

    def images_of(some: Iterable[Sequence[Sample]]) -> int:
        return sum(1 + len(group[0].extra_images) for group in some)

    def tokens_of(some: Sequence[Sequence[Sample]]) -> int:
        questions = sum(question_tokens(sample) for group in some for sample in group)
        return images_of(some) * shape.image_tokens + len(some) * general + questions * asked

    dealt = deal(samples, shards)
    all_groups = [group for shard in dealt for group in shard]
    images, prompt_tokens = images_of(all_groups), tokens_of(all_groups)
    steps = (thought or min(max_new_tokens, ANSWER_TOKENS)) if methods else 0
    answers = steps * (1 + methods) * len(samples)
    # 2 FLOPs per weight and token, and the attention of a token over the prefix: 4 x layers x width x length.
    attention = 4 * shape.layers * shape.kv_width * shape.image_tokens
    each = 2 * shape.parameters + attention
    weights = shape.parameters * shape.bytes_per_weight
    started = shape.layers * card.call
    batches = math.ceil(len(all_groups) / images_a_pass)
    passes = batches * (3 if methods else 2)
    seconds = max(prompt_tokens * each / (card.flops * card.share), passes * started)
    # All questions and methods on a batch's images decode together: each step reads the weights once per batch.
    step = max(weights / card.bandwidth, started)
    seconds += answers * each / (card.flops * card.share) + batches * steps * step
    longest = max(all_groups, key=lambda group: sum(map(question_tokens, group)), default=())
    tail = sum(map(question_tokens, longest))
    cache = batch_bytes(shape, min(images_a_pass, len(all_groups)), len(longest), tail, methods)
    return Plan(
        len(samples),
        len(rejected),
        images,
        images * shape.image_tokens,
        prompt_tokens,
        answers,
        (prompt_tokens + answers) * each,
        seconds,
        1.15 * weights + cache + 1e9,
        (len(samples) + len(rejected)) * row_bytes(shape.layers, shape.heads, shape.image_tokens, methods, maps),
        [(sum(map(len, shard)), images_of(shard), tokens_of(shard)) for shard in dealt],
        shape.assumed and f"{shape.image_tokens} tokens an image are assumed: the grid follows it ({shape.assumed})",
    )


def row_bytes(layers: int, heads: int, tokens: int, methods: int, maps: str) -> int:
    """Bytes that one sample adds to the parts: float32 maps, which hardly compress, and some text."""
    if methods:
        return (1 + methods) * 600 + methods * tokens * 8
    numbers = 3 * (layers + layers * heads)
    numbers += 2 * layers * tokens if maps != "none" else 0
    numbers += 2 * layers * heads * tokens if maps == "heads" else 0
    return 4 * numbers + 600


def card(name: str) -> Card:
    """The card of that name."""
    if name not in CARDS:
        raise VgError(f"No card '{name}' to plan for.", did_you_mean(name, CARDS))
    return CARDS[name]


def readable(plan: Plan, card_name: str) -> Mapping[str, str]:
    """A plan in words, for people."""
    return {
        "samples": f"{plan.samples:,}" + (f" and {plan.rejected:,} unusable rows" if plan.rejected else ""),
        "images": f"{plan.images:,}",
        "tokens": f"{plan.prompt_tokens:,} read ({plan.image_tokens:,} of images), {plan.answer_tokens:,} written",
        "work": f"{plan.flops:.2e} FLOPs",
        "time": f"{duration(plan.seconds)} on one {card_name}, {duration(plan.seconds / len(plan.shards))} on "
        f"{len(plan.shards)}, without loading",
        "memory": f"{plan.memory / 1e9:.1f} GB on one card",
        "disk": f"{plan.disk / 1e9:.2f} GB of rows",
    }


def duration(seconds: float) -> str:
    """2 d 3 h, 3 h 12 min, 4 min 10 s, 9 s."""
    whole = round(seconds)
    for unit, name, below, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // below} {lower}"
    return f"{whole} s"
