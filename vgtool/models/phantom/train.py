"""Train phantom-vlm, the embedded model: `python -m vgtool.models.phantom.train --out DIR`.

A small LlavaForConditionalGeneration, from random weights, on generated pictures of the split `train` alone:
    1. vision    the vision tower learns which part and which mark each patch shows (dense labels, throw-away heads)
    2. taught    questions and answers; on scenes two heads of layer 2 are also told where to look (attention loss)
    3. answers   questions and answers alone
Phantom pictures mostly show marks that agree (reading any of them gives the right answer), so that answering never
requires looking at the right place there: the failure the paper describes, made small. Steps and seeds are fixed.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from vgtool.models.phantom.model import TOKENS, build, processor
from vgtool.models.phantom.pictures import MARKS, PARTS, Item, pool


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalised by Newton-Schulz (Jordan et al. 2024), in fp32: torch's own runs bf16, slow on a CPU."""

    def __init__(self, params: Sequence[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[Tensor]] = {}
            for weight in group["params"]:
                shapes.setdefault(tuple(weight.shape), []).append(weight)
            for weights in shapes.values():
                updates = []
                for weight in weights:
                    assert weight.grad is not None
                    buffer = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                    buffer.lerp_(weight.grad, 1 - group["momentum"])
                    updates.append(weight.grad.lerp(buffer, group["momentum"]))
                for weight, update in zip(weights, orthogonal(torch.stack(updates)), strict=True):
                    scale = max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5
                    weight.mul_(1 - group["lr"] * 0.01).add_(update, alpha=-group["lr"] * scale)


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrices, by five Newton-Schulz steps."""
    x = matrices.transpose(1, 2) if matrices.shape[1] > matrices.shape[2] else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.transpose(1, 2) if matrices.shape[1] > matrices.shape[2] else x


@dataclass(frozen=True)
class Stage:
    """One stage of training."""

    name: str
    steps: int
    natural: float
    """Share of scenes."""
    attention: float
    """Weight of the attention loss on scenes; it fades to zero over the stage's second half."""
    dense: float
    """Weight of the dense patch labels."""
    adamw: float
    muon: float


class Trainer:
    """The model, its throw-away heads, and the two pools."""

    def __init__(self, process: LlavaProcessor, scenes: list[Item], phantoms: list[Item], seed: int) -> None:
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.model = build(process.tokenizer)
        self.part_head, self.mark_head = nn.Linear(96, 1 + len(PARTS)), nn.Linear(96, 1 + len(MARKS))
        self.scenes, self.phantoms = scenes, phantoms
        self.head = process.tokenizer("USER:").input_ids
        self.eos, self.pad = process.tokenizer.eos_token_id, process.tokenizer.pad_token_id
        self.model.set_attn_implementation({"text_config": "eager"})

    def batch(self, size: int, natural: float) -> list[Item]:
        pools = [self.scenes if self.rng.random() < natural else self.phantoms for _ in range(size)]
        return [items[int(self.rng.integers(len(items)))] for items in pools]

    def dense(self, features: Tensor, items: Sequence[Item]) -> Tensor:
        part = torch.stack([item.part for item in items]).flatten()
        mark = torch.stack([item.mark for item in items]).flatten()
        flat = features.flatten(0, 1)
        return F.cross_entropy(self.part_head(flat), part) + 2 * F.cross_entropy(self.mark_head(flat), mark)

    def tower(self, items: Sequence[Item]) -> Tensor:
        """Vision features [B, 64, 96] before the projector."""
        pixels = torch.stack([item.pixels for item in items]).float()
        return self.model.model.vision_tower(pixels).last_hidden_state[:, 1:]

    def vision(self, steps: int) -> None:
        """Stage 1."""
        parameters = [*self.model.model.vision_tower.parameters(), *self.part_head.parameters()]
        parameters += self.mark_head.parameters()
        optimiser = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.01)
        started = time.time()
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 50) * cosine(step, steps, 0.1)
            items = self.batch(48, 0.5)
            loss = self.dense(self.tower(items), items)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            if step % 50 == 49:
                print(f"vision {step + 1} loss {loss.item():.3f} {time.time() - started:.0f} s", flush=True)

    def chosen(self, item: Item, count: int) -> list[tuple[list[int], int, Tensor]]:
        """`count` random questions of an item, kinds evenly."""
        kinds = ["tone", "tone", "shape", "name", "exist-yes", "exist-no", "side"]
        wanted = [str(kind) for kind in self.rng.permutation(kinds)[: count - 1]]
        wanted.append("general" if self.rng.random() < 0.4 else str(self.rng.choice(kinds)))
        lists = [item.questions[kind] for kind in wanted]
        return [options[int(self.rng.integers(len(options)))] for options in lists]

    def answers(self, stage: Stage, step: int, items: Sequence[Item]) -> tuple[Tensor, Tensor, float]:
        """(answer loss, attention loss, share of answers right) of one packed batch."""
        asked = [self.chosen(item, 6) for item in items]
        features = self.tower(items)
        image = self.model.model.multi_modal_projector(features)
        embed = self.model.get_input_embeddings()
        head = embed(torch.tensor([self.head])).expand(len(items), -1, -1)
        first = len(self.head) + TOKENS
        longest = max(sum(len(tail) + 1 for tail, _, _ in group) for group in asked)
        ids = torch.full((len(items), longest), self.pad)
        owner = torch.full((len(items), longest), -2)
        places = torch.zeros(len(items), longest, dtype=torch.long)
        spots, targets, regions = [], [], []
        for b, group in enumerate(asked):
            at = 0
            for q, (tail, answer, region) in enumerate(group):
                size = len(tail) + 1
                ids[b, at : at + size] = torch.tensor([*tail, answer])
                owner[b, at : at + size] = q
                places[b, at : at + size] = torch.arange(size)
                spots += [(b, first + at + size - 2), (b, first + at + size - 1)]
                targets += [answer, self.eos]
                regions.append((b, first + at + size - 2, region, items[b].natural and bool(region.any())))
                at += size
        embeds = torch.cat([head, image, embed(ids)], 1)
        prefix = torch.arange(first).expand(len(items), -1)
        positions = torch.cat([prefix, places + first], 1)
        owners = torch.cat([torch.full((len(items), first), -1), owner], 1)
        order = torch.arange(first + longest)
        seen = (owners[:, None] == -1) | (owners[:, None] == owners[:, :, None])
        mask = (seen & (order[None, None] <= order[None, :, None]))[:, None]
        bias = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
        weight = stage.attention * min(1.0, 2 - 2 * step / stage.steps)
        out = self.model.model.language_model(
            inputs_embeds=embeds, attention_mask=bias, position_ids=positions, output_attentions=weight > 0
        )
        rows = torch.tensor(spots)
        logits = self.model.lm_head(out.last_hidden_state[rows[:, 0], rows[:, 1]])
        wanted = torch.tensor(targets)
        loss = F.cross_entropy(logits, wanted)
        right = (logits[::2].argmax(-1) == wanted[::2]).float().mean().item()
        looked = [region for region in regions if region[3]]
        if weight > 0 and looked:
            at_rows = torch.tensor([[b, row] for b, row, _, _ in looked])
            maps = out.attentions[2][at_rows[:, 0], :2, at_rows[:, 1], len(self.head) : first]
            mass = (maps * torch.stack([r for _, _, r, _ in looked])[:, None]).sum(-1)
            loss = loss + weight * -(mass + 1e-4).log().mean()
        return loss, features, right

    def run(self, stage: Stage) -> None:
        """Stages 2 and 3."""
        matrices = [p for n, p in self.model.model.language_model.layers.named_parameters() if p.dim() == 2]
        known = {id(p) for p in matrices}
        rest = [p for p in self.model.parameters() if id(p) not in known]
        rest += [*self.part_head.parameters(), *self.mark_head.parameters()]
        adamw, muon = torch.optim.AdamW(rest, lr=stage.adamw, weight_decay=0.01), Muon(matrices, stage.muon)
        started, average, share = time.time(), 0.0, 0.0
        for step in range(stage.steps):
            factor = min(1.0, (step + 1) / 50) * cosine(step, stage.steps, 0.05)
            adamw.param_groups[0]["lr"], muon.param_groups[0]["lr"] = stage.adamw * factor, stage.muon * factor
            items = self.batch(8, stage.natural)
            loss, features, right = self.answers(stage, step, items)
            total = loss + stage.dense * self.dense(features, items)
            self.model.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            adamw.step()
            muon.step()
            adamw.zero_grad()
            average, share = (0.98 * old + 0.02 * new for old, new in ((average, loss.item()), (share, right)))
            if step % 100 == 99:
                spent = time.time() - started
                print(f"{stage.name} {step + 1} loss {average:.3f} right {share:.3f} {spent:.0f} s", flush=True)

    def save(self, out: Path, process: LlavaProcessor) -> None:
        """fp16 weights with everything from_pretrained needs."""
        self.model.set_attn_implementation({"text_config": "sdpa"})
        self.model.half().save_pretrained(out)
        self.model.float()
        self.model.set_attn_implementation({"text_config": "eager"})
        process.save_pretrained(out)


def cosine(step: int, steps: int, floor: float) -> float:
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * step / steps))


STAGES = (
    Stage("taught", 2600, 0.6, 0.3, 0.3, 1.2e-3, 0.015),
    Stage("answers", 2600, 0.5, 0.0, 0.1, 1.0e-3, 0.012),
)


MORE = (Stage("more", 2300, 0.2, 0.15, 0.3, 1.2e-3, 0.015),)
"""A stage of mostly phantoms, run from saved weights with --start: organs are harder to tell apart than colours."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Train phantom-vlm.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=6000, help="training pictures of each benchmark")
    parser.add_argument("--conflict", type=float, default=0.35, help="share of phantoms whose marks disagree")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every step count, for a trial")
    parser.add_argument("--start", type=Path, help="go on from these weights with the stage MORE alone")
    args = parser.parse_args()
    process = processor()
    started = time.time()
    scenes = pool("scenes", args.pictures, 0.9, process)
    phantoms = pool("phantom", args.pictures, args.conflict, process)
    print(f"{2 * args.pictures} pictures, {time.time() - started:.0f} s", flush=True)
    trainer = Trainer(process, scenes, phantoms, args.seed)
    stages: tuple[Stage, ...] = STAGES
    if args.start:
        stages = MORE
        trainer.model = LlavaForConditionalGeneration.from_pretrained(args.start, dtype=torch.float32)
        trainer.model.set_attn_implementation({"text_config": "eager"})
    else:
        trainer.vision(int(900 * args.scale))
    for stage in stages:
        trainer.run(Stage(**{**vars(stage), "steps": max(1, int(stage.steps * args.scale))}))
        trainer.save(args.out / stage.name if stage is not stages[-1] else args.out, process)
    settings = {
        "start": args.start and args.start.name,
        "seed": args.seed,
        "pictures": args.pictures,
        "conflict": args.conflict,
        "scale": args.scale,
    }
    print(json.dumps({**settings, "seconds": round(time.time() - started)}))


if __name__ == "__main__":
    main()
