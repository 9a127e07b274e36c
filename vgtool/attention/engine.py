"""One attention function for the text model: SDPA's output, the few rows we need, edits of the few rows we change.

Registered with transformers' AttentionInterface under `NAME`, and the mask function under the same name in
AttentionMaskInterface: without the second, transformers drops every mask silently. With no `Tap` it is exactly SDPA.

A `Tap` describes one forward pass. Reading: softmax rows from chosen query rows to the image columns, in fp32, beside
SDPA's output, O(rows x keys) and never keys x keys. Editing: masks or score changes for chosen rows at chosen layers,
added to the model's OWN mask (the released code replaces that mask by a plain triangle, which also removes sliding
windows and Gemma3's bidirectional image block).
"""

import re
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vgtool.attention.tap import TAP, Call, Stop, Tap, cut_of, tapped
from vgtool.errors import VgError

NAME = "vgtool"
UNEXPLAINED = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest difference between weights @ values and a layer's output, over the largest output, that rounding explains."""

LEFT_OUT = {"softcap": "soft caps", "s_aux": "attention sinks"}
"""What layers hand over beside a mask and SDPA drops silently; newer versions of transformers refuse it themselves."""


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """AttentionInterface function: output [B, q, H, D]."""
    kwargs.pop("output_attentions", None)
    for name, what in LEFT_OUT.items():
        if kwargs.get(name) is not None:
            raise VgError(f"{type(module).__name__} has {what}, which SDPA leaves out.", "Use another model.")
    tap = TAP.get()
    if tap is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    layer: int = module.layer_idx  # type: ignore[assignment]
    if layer == tap.stop and layer not in tap.read:
        raise Stop
    if tap.pack is None and not tap.edits and layer not in tap.read:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    batch, heads, length, dim = query.shape
    rows = query.transpose(0, 1).reshape(heads, batch * length, dim)
    pack = tap.pack
    shape = (batch, length)
    if pack is not None:
        shape, device = pack.shape, query.device
        key = _gathered(key, pack.keys.to(device))
        if layer != tap.stop:  # where a pass ends, nobody asks for more than weights
            query = rows[:, pack.queries.to(device).view(-1)].view(heads, *shape, dim).transpose(0, 1)
            value = _gathered(value, pack.keys.to(device))
    call = Call(tap, rows, key, value, attention_mask, kwargs.get("scaling") or dim**-0.5, shape, layer)
    at = tuple(i for i, edit in enumerate(tap.edits) if layer in edit.layers)
    mask = _edited(call, at)
    single = {i: call.pick(i, tap.edits[i].rows) for i in at if not tap.edits[i].masks}
    changed = {i: call.weights(picked, mask, [tap.edits[i]]) for i, picked in single.items()}
    if layer in tap.read and len(tap.rows):
        tap.maps[layer] = _read(call, mask, changed)
    if layer == tap.stop:
        raise Stop
    out, _ = sdpa_attention_forward(module, query, key, value, mask, **kwargs)
    out = out.reshape(-1, heads, out.shape[-1])
    if pack is not None:
        out = out[pack.where.to(out.device)]
    for i, picked in single.items():
        out[picked.rows] = call.output(picked, changed[i]).to(out.dtype)
    if layer in tap.maps:
        if tap.traced is not None:
            out = _traced(call, tap.traced, layer, out)
        if tap.explain:
            picked = call.pick("read", tap.rows)
            own, found = out[picked.rows].float(), call.output(picked, call.weights(picked, mask, ()))
            tap.unexplained[layer] = float((found - own).abs().max() / own.abs().max().clamp(min=1e-6))
    return out.view(batch, length, heads, -1), None


def _traced(call: Call, traced: dict[int, Tensor], layer: int, out: Tensor) -> Tensor:
    """The output [R, H, D] with zeros of the read rows' weights carried along, noted in `traced`."""
    picked = call.pick("read", call.tap.rows)
    columns = call.columns(picked)[:, None].expand(-1, call.rows.shape[0], -1)
    traced[layer] = torch.zeros(columns.shape, device=out.device, requires_grad=True)
    weights = torch.zeros(*columns.shape[:2], call.key.shape[2], device=out.device).scatter(2, columns, traced[layer])
    return out.index_add(0, picked.rows, call.output(picked, weights).to(out.dtype))


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """AttentionMaskInterface function: the pack's mask when a pack is tapped, else what SDPA would get."""
    tap = TAP.get()
    if tap is None or tap.pack is None:
        return sdpa_mask(*args, **kwargs)
    return tap.pack.mask(kwargs.get("local_size"))


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)


def _gathered(states: Tensor, index: Tensor) -> Tensor:
    """Keys or values [1, Hk, L, D] by group [G, Hk, K, D]."""
    groups, keys = index.shape
    columns = states[0].transpose(0, 1).flatten(1)  # a view: the cache keeps a token's heads together
    return columns.index_select(0, index.view(-1)).view(groups, keys, states.shape[1], -1).transpose(1, 2)


def _edited(call: Call, at: tuple[int, ...]) -> Tensor | None:
    """The layer's own mask with what the edits `at` cut; made once for all layers that share both."""
    tap = call.tap
    cutting = [i for i in at if tap.edits[i].cut is not None and tap.edits[i].renormalise]
    if not cutting:
        return call.mask
    for known, own, made in tap._masked:
        if known == at and own is call.mask:
            return made
    (groups, size), keys, device = call.shape, call.key.shape[2], call.key.device
    gone = torch.zeros(groups * size, keys, dtype=torch.bool, device=device)
    for i in cutting:
        picked = call.pick(i, tap.edits[i].rows)
        wide = torch.zeros(len(picked.rows), keys, dtype=torch.bool, device=device)
        gone[picked.home] |= wide.scatter_(1, call.columns(picked), cut_of(tap.edits[i], device))
    gone = gone.view(groups, 1, size, keys)
    own = call.mask
    if own is None:
        own = torch.ones(size, keys, dtype=torch.bool, device=device).tril(keys - size)[None, None]
    own = own[..., :keys].expand(groups, -1, -1, -1)
    made = own & ~gone if own.dtype == torch.bool else own.masked_fill(gone, -torch.inf)
    tap._masked.append((at, call.mask, made))
    return made


def _read(call: Call, mask: Tensor | None, changed: dict[int, Tensor]) -> Tensor:
    """The tapped rows' attention to the image columns, edits applied, float32 [slots, H, N]."""
    tap = call.tap
    picked = call.pick("read", tap.rows)
    weights = call.weights(picked, mask, ())
    for i, theirs in changed.items():
        _, mine, other = np.intersect1d(np.asarray(tap.rows), tap.edits[i].rows, return_indices=True)
        if len(mine):
            weights[torch.from_numpy(mine).to(weights.device)] = theirs[torch.from_numpy(other).to(weights.device)]
    columns = call.columns(picked)[:, None].expand(-1, weights.shape[1], -1)
    shares = weights.gather(2, columns)
    if tap.slots is None:
        return shares
    sizes = np.bincount(tap.slots)
    if (sizes == 1).all():
        return shares
    slots, count = torch.from_numpy(tap.slots).to(shares.device), torch.from_numpy(sizes).to(shares.device)
    mean = torch.zeros(len(sizes), *shares.shape[1:], device=shares.device)
    return mean.index_add_(0, slots, shares) / count.view(-1, 1, 1)


WITHOUT = re.compile(r"linear|conv|mamba|recurrent|delta|ssm|lightning")
"""What a config calls layers that have no softmax attention."""


def attach(model: Any, text: nn.Module) -> dict[int, str]:
    """Send the text model's attention through the engine; the vision tower keeps SDPA.

    Returns the layers that have no softmax attention, by the kind their config gives them (`linear_attention`, `conv`).
    cuDNN's kernels are switched off for the process: they plan anew for every shape, and here nearly every pass has its
    own. `text`, the text model inside `model`, then reads a padded line as it did under transformers' own SDPA, bit for
    bit, and the rows read explain each layer's output. VgError where not: the mask was lost on the way
    (huggingface/transformers#46132), attention bypasses AttentionInterface or is more than softmax(q k) v, and every
    number would be wrong.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    embed = model.get_input_embeddings()
    ids = torch.arange(1, 9, device=embed.weight.device)[None] % embed.weight.shape[0]
    padding = torch.ones_like(ids)
    padding[:, :3] = 0

    def states() -> Tensor:
        return text(input_ids=ids, attention_mask=padding, use_cache=False).last_hidden_state[0, 3:]

    with torch.inference_mode():
        model.set_attn_implementation({"text_config": "sdpa"})
        expected = states()
        model.set_attn_implementation({"text_config": NAME})
        every = frozenset(range(len(text.layers)))  # type: ignore[arg-type]
        with tapped(Tap(torch.tensor([4], device=ids.device), every, [4], explain=True)) as tap:
            found = states()
    kinds = _kinds(text, len(every))
    without = {layer: kinds[layer] for layer in sorted(every - set(tap.maps))}
    if not tap.maps or any(not WITHOUT.search(kind) for kind in without.values()):
        raise VgError(
            f"'{type(model).__name__}' computes attention its own way in {len(without)} layers.",
            "vgtool reads attention through transformers' AttentionInterface; use a model class that goes through it.",
        )
    if not torch.isfinite(expected).all():
        bad = [name for name, value in model.named_parameters() if not torch.isfinite(value).all()]
        raise VgError(
            f"The model's own states are not finite: {bad[0]} holds NaN or infinity." if bad else
            f"The model's own states are not finite in {expected.dtype}.",
            "The checkpoint is damaged; fetch it again." if bad else "Try another --dtype.",
        )  # fmt: skip
    if not torch.equal(found, expected):
        raise VgError(
            "The attention mask is lost: the same text gives other states under vgtool's attention.",
            "This transformers version does not pass masks to custom attention; install a version vgtool supports.",
        )
    if bad := sorted(layer for layer, off in tap.unexplained.items() if off > UNEXPLAINED[embed.weight.dtype]):
        raise VgError(
            f"'{type(model).__name__}' does more than softmax attention in {len(bad)} layers, from layer {bad[0]} on.",
            "Sinks, soft caps and the like cannot be read yet; use another model.",
        )
    return without


def _kinds(text: nn.Module, layers: int) -> list[str]:
    """What the config calls each layer; "" where it says nothing."""
    config: Any = getattr(text, "config", None)
    for name in ("layer_types", "layers_block_type", "block_types"):
        kinds = getattr(config, name, None)
        if isinstance(kinds, (list, tuple)) and len(kinds) == layers:
            return [str(kind) for kind in kinds]
    return [""] * layers
