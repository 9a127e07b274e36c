"""Greedy answers of many questions at once, one token a step, with the model's own way of ending an answer.

The same tokens as `model.generate(do_sample=False)` on each prompt alone. A checkpoint's repetition penalty is applied
as `generate` applies it, over prompt and answer. Guidance steers a row by a partner that saw no image (PAI):
    gamma * (log p - log p_partner) + log p_partner, among tokens with log p >= max log p + log(floor).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

TOP = 5
"""First tokens an answer remembers."""


@dataclass(frozen=True, slots=True)
class Guide:
    """Guidance of one row by another of the same decoding."""

    partner: int
    """Row that takes the same tokens without the image."""
    gamma: float
    floor: float = 0.1
    """Tokens less likely than `floor` times the likeliest are out."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One decoded answer."""

    tokens: tuple[int, ...]
    """Without the token that ended it."""
    text: str
    confidence: float
    """Largest first-token probability of the model's own distribution, before penalty or guidance."""
    first: tuple[tuple[int, float], ...] = ()
    """The likeliest first tokens of that distribution, with their probabilities."""
    likelihood: float | None = None
    """Log-probability of the tokens in nats, in that distribution, 0 of an empty answer; where it was asked for."""


class Steps(Protocol):
    """What is decoded from: `session.Decoding` and `whole.Decoding`."""

    logits: Tensor

    def step(self, rows: Sequence[int], tokens: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Ending:
    """When an answer ends, and what it is made of."""

    tokenizer: Any
    eos: frozenset[int]
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    penalty: float = 1.0
    """Repetition penalty; 1 is none."""
    min_new_tokens: int = 0
    held: frozenset[int] = frozenset()
    """Ids that no answer takes before it has `min_new_tokens`: what `generate` was told ends one."""

    def text(self, tokens: Sequence[int]) -> str:
        """The answer up to the first stop string."""
        text = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        for stop in self.stop:
            text = text.split(stop, 1)[0]
        return text.strip()

    def stopped(self, tokens: Sequence[int]) -> bool:
        """True once a stop string has appeared."""
        if not self.stop:
            return False
        text = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return any(stop in text for stop in self.stop)


def decode(
    steps: Steps,
    ending: Ending,
    prompts: Mapping[int, Sequence[int]],
    guides: Mapping[int, Guide] | None = None,
    likely: bool = False,
) -> dict[int, Answer]:
    """The answers of the rows in `prompts`, by row; other rows are partners, or not wanted.

    `prompts`: row -> its full prompt ids, which only the repetition penalty reads. `likely`: say how likely they are.
    """
    guides = guides or {}
    leaders = {guide.partner: row for row, guide in guides.items()}
    logits = steps.logits
    answers: dict[int, list[int]] = {row: [] for row in prompts}
    chances = dict.fromkeys(prompts, 0.0)
    seen = None if ending.penalty == 1.0 else _seen(prompts, logits)
    top = logits.softmax(-1).topk(min(TOP, logits.shape[-1]), -1)
    likeliest = [tuple(zip(*pair, strict=True)) for pair in zip(top.indices.tolist(), top.values.tolist(), strict=True)]
    open_rows = list(prompts)
    current, place = logits, {row: row for row in range(len(logits))}
    for length in range(1, ending.max_new_tokens + 1):
        scores = current[[place[row] for row in open_rows]]
        own = scores.double().log_softmax(-1) if likely else None
        if seen is not None:
            scores = torch.where(seen[open_rows], _penalised(scores, ending.penalty), scores)
        if length <= ending.min_new_tokens:
            scores[:, sorted(ending.held)] = -torch.inf
        for guide in {replace(guides[row], partner=0) for row in open_rows if row in guides}:
            led = [at for at, row in enumerate(open_rows) if row in guides and _alike(guides[row], guide)]
            partners = [place[guides[open_rows[at]].partner] for at in led]
            scores[led] = guided(scores[led], current[partners], guide)
        tokens = scores.argmax(-1)
        if seen is not None:
            seen[open_rows, tokens] = True
        each = [0.0] * len(open_rows) if own is None else own.gather(1, tokens[:, None])[:, 0].tolist()
        still = []
        for row, token, chance in zip(open_rows, tokens.tolist(), each, strict=True):  # the one wait for the device
            if token in ending.eos:
                continue
            answers[row].append(token)
            chances[row] += chance
            if not ending.stopped(answers[row]):
                still.append(row)
        open_rows = still
        if not open_rows or length == ending.max_new_tokens:
            break
        fed = sorted(open_rows + [guides[row].partner for row in open_rows if row in guides])
        following = torch.tensor([answers[leaders.get(row, row)][-1] for row in fed], device=logits.device)
        current, place = steps.step(fed, following), {row: at for at, row in enumerate(fed)}
    texts = {ids: ending.text(ids) for ids in map(tuple, answers.values())}  # many answer alike
    known = chances if likely else dict.fromkeys(prompts)
    return {
        row: Answer(tuple(ids), texts[tuple(ids)], likeliest[row][0][1], likeliest[row], known[row])
        for row, ids in answers.items()
    }


def guided(scores: Tensor, partner: Tensor, guide: Guide) -> Tensor:
    """Guided log scores [..., vocabulary] from rows' and their partners' logits (PAI)."""
    own, other = scores.log_softmax(-1), partner.log_softmax(-1)
    mixed = guide.gamma * (own - other) + other
    return mixed.masked_fill(own < own.amax(-1, keepdim=True) + math.log(guide.floor), -torch.inf)


def _alike(one: Guide, other: Guide) -> bool:
    return (one.gamma, one.floor) == (other.gamma, other.floor)


def _seen(prompts: Mapping[int, Sequence[int]], logits: Tensor) -> Tensor:
    """bool [rows, vocabulary]: the tokens of each row's prompt."""
    seen = torch.zeros(logits.shape, dtype=torch.bool)
    for row, ids in prompts.items():
        seen[row, list(ids)] = True
    return seen.to(logits.device)


def _penalised(scores: Tensor, penalty: float) -> Tensor:
    """Scores as transformers' RepetitionPenaltyLogitsProcessor leaves those of tokens that were there before."""
    return torch.where(scores < 0, scores * penalty, scores / penalty)
