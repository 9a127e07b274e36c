"""One attention function for the text model: SDPA's output, the few rows we need, edits of the few rows we change.

Registered with transformers' AttentionInterface under `NAME`, and the mask function under the same name in
AttentionMaskInterface: without the second, transformers drops every mask silently. With no `Tap` it is exactly SDPA.

A `Tap` describes one forward pass. Reading: softmax rows from chosen query rows to the image columns, in fp32, beside
SDPA's output, O(rows x keys) and never keys x keys. Editing: masks or score changes for chosen rows at chosen layers,
added to the model's OWN mask (the released code replaces that mask by a plain triangle, which also removes sliding
windows and Gemma3's bidirectional image block).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vgtool.errors import VgError

NAME = "vgtool"
UNEXPLAINED = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest difference between weights @ values and a layer's output, over the largest output, that rounding explains."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of some query rows of one pass at some layers."""

    layers: frozenset[int]
    rows: Tensor
    """Query rows of this pass [r]."""
    cut: Tensor | None = None
    """True where a row may not attend to an image column, bool [1 or B, r, N]; added to the model's mask, so that
    the kept weights renormalise."""
    rescore: Callable[[Tensor], Tensor] | None = None
    """New scaled scores of the rows' image columns from the old, float32 [B, H, r, N] (PAI, AdaptVis)."""
    renormalise: bool = True
    """False: the cut zeroes weights after softmax (the paper's elementwise product), so a row no longer sums to 1."""


@dataclass(slots=True)
class Pack:
    """Several continuations of one prefix in one row: who owns each column, and its place in its own sequence."""

    query_owner: Tensor
    query_index: Tensor
    query_blind: Tensor
    """True for a query row that may not see the image columns at all (a prompt without its image)."""
    key_owner: Tensor
    """Owner of each key column; -1 is the shared prefix."""
    key_index: Tensor
    key_image: Tensor

    def mask(self, window: int | None) -> Tensor:
        """bool [1, 1, q, k]: the prefix and one's own past, within `window` places when the layer has one."""
        distance = self.query_index[:, None] - self.key_index[None, :]
        mine = (self.key_owner[None, :] == -1) | (self.key_owner[None, :] == self.query_owner[:, None])
        allowed = mine & (distance >= 0) & ~(self.query_blind[:, None] & self.key_image[None, :])
        if window is not None:
            allowed &= distance < window
        return allowed[None, None]


@dataclass(slots=True)
class Tap:
    """What one forward pass reads and edits."""

    columns: Tensor
    """Image columns in image-space order, long [1 or B, N]."""
    read: frozenset[int] = frozenset()
    """Layers to read."""
    rows: Tensor | None = None
    """Query rows to read [R]."""
    slots: Tensor | None = None
    """Output slot of each row to read [R]; rows of one slot are averaged. None: a slot a row."""
    sizes: Tensor | None = None
    """Rows of each slot; given with `slots`, so that no layer has to wait for the device to count them."""
    edits: Sequence[Edit] = ()
    pack: Pack | None = None
    explain: bool = False
    """Whether to note how far each read row's weights are from explaining the layer's own output."""
    unexplained: dict[int, float] = field(default_factory=dict)
    """Result: layer -> largest difference between weights @ values and the output, over the largest output."""
    maps: dict[int, Tensor] = field(default_factory=dict)
    """Result: layer -> float32 [B, slots, H, N] on the layer's device, rows normalised over all keys they may see."""
    _edited: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def edits_at(self, layer: int) -> tuple[list[Edit], Tensor | None]:
        """The edits of a layer and their rows, sorted, each once; worked out once for all layers that share them."""
        at = tuple(i for i, edit in enumerate(self.edits) if layer in edit.layers)
        if not at:
            return [], None
        if at not in self._edited:
            self._edited[at] = torch.unique(torch.cat([self.edits[i].rows for i in at]))
        return [self.edits[i] for i in at], self._edited[at]


_TAP: ContextVar[Tap | None] = ContextVar("vgtool_tap", default=None)


@contextmanager
def tapped(tap: Tap) -> Iterator[Tap]:
    """Apply `tap` to the forward pass run inside."""
    token = _TAP.set(tap)
    try:
        yield tap
    finally:
        _TAP.reset(token)


@dataclass(frozen=True, slots=True)
class _Call:
    """One attention call: query [B, H, q, D], key and value [B, Hk, k, D], the layer's own mask, the score scale."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scaling: float

    def scores(self, rows: Tensor) -> Tensor:
        """Scaled scores of some query rows against every key, float32 [B, H, R, k]. Grouped heads share their keys."""
        batch, heads, _, dim = self.query.shape
        shared = self.key.shape[1]
        picked = self.query[:, :, rows].float().reshape(batch, shared, heads // shared * len(rows), dim)
        return (picked @ self.key.float().transpose(-1, -2) * self.scaling).view(batch, heads, len(rows), -1)

    def allowed(self, rows: Tensor) -> Tensor:
        """The layer's own mask of some rows: bool (True = may attend), or additive float, [1 or B, 1, R, k]."""
        queries, keys = self.query.shape[2], self.key.shape[2]
        if self.mask is None:
            return (torch.arange(keys, device=rows.device)[None, :] <= (rows + keys - queries)[:, None])[None, None]
        return self.mask[:, :, rows, :keys]

    def mixed(self, weights: Tensor) -> Tensor:
        """Attention weights [B, H, R, k] times the values, float32 [B, R, H, D]."""
        batch, heads, rows, keys = weights.shape
        out = weights.reshape(batch, self.key.shape[1], -1, keys) @ self.value.float()
        return out.view(batch, heads, rows, -1).transpose(1, 2)

    def at(self, columns: Tensor, rows: int, heads: int) -> Tensor:
        """Gather index of the image columns, [B, heads, rows, N]."""
        columns = columns.to(self.query.device).expand(self.query.shape[0], -1)
        return columns[:, None, None].expand(-1, heads, rows, -1)


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """AttentionInterface function: output [B, q, H, D]."""
    kwargs.pop("output_attentions", None)
    tap = _TAP.get()
    if tap is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    layer: int = module.layer_idx  # type: ignore[assignment]
    call = _Call(query, key, value, attention_mask, kwargs.get("scaling") or query.shape[-1] ** -0.5)
    edits, rows = tap.edits_at(layer)
    rows = None if rows is None else rows.to(query.device)
    mask = None if rows is None else _edited_mask(call, edits, rows, tap.columns)
    if rows is not None and len(rows) == query.shape[2]:
        out, _ = sdpa_attention_forward(module, query, key, value, mask, **kwargs)
    else:
        out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        if rows is not None:
            out[:, rows], _ = sdpa_attention_forward(module, query[:, :, rows], key, value, mask, **kwargs)
    for edit in edits:
        if edit.cut is not None and not edit.renormalise:
            out[:, edit.rows] = _multiplied(call, edit, tap.columns).to(out.dtype)
    if layer in tap.read and tap.rows is not None:
        tap.maps[layer] = _read(call, tap, rows, mask)
        if tap.explain:
            at = tap.rows.to(query.device)
            own = out[:, at].float()
            found = call.mixed(_masked(call.scores(at), call.allowed(at)).softmax(-1))
            tap.unexplained[layer] = float((found - own).abs().max() / own.abs().max().clamp(min=1e-6))
    return out, None


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """AttentionMaskInterface function: the pack's mask when a pack is tapped, else what SDPA would get."""
    tap = _TAP.get()
    if tap is None or tap.pack is None:
        return sdpa_mask(*args, **kwargs)
    return tap.pack.mask(kwargs.get("local_size"))


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.float()


def _edited_mask(call: _Call, edits: Sequence[Edit], rows: Tensor, columns: Tensor) -> Tensor:
    """The mask of the edited rows: bool [B, 1, R, k], or additive float [B, H, R, k] where scores change."""
    batch, heads = call.query.shape[:2]
    keys, device = call.key.shape[2], call.query.device
    own = call.allowed(rows)
    allowed = (own if own.dtype == torch.bool else own > torch.finfo(own.dtype).min / 2).expand(batch, 1, -1, -1)
    allowed = allowed.clone()
    bias = None if own.dtype == torch.bool else own.float().expand(batch, heads, -1, -1).clone()
    for edit in edits:
        edit_rows = edit.rows.to(device)
        at = torch.searchsorted(rows, edit_rows)
        if edit.cut is not None and edit.renormalise:
            wide = torch.zeros(batch, len(at), keys, dtype=torch.bool, device=device)
            cut = edit.cut.to(device).expand(batch, len(at), -1)
            wide.scatter_(2, call.at(columns, len(at), 1)[:, 0], cut)
            allowed[:, 0, at] &= ~wide
        if edit.rescore is not None:
            index = call.at(columns, len(at), heads)
            old = call.scores(edit_rows).gather(3, index)
            if bias is None:
                bias = torch.zeros(batch, heads, len(rows), keys, device=device)
            bias[:, :, at] = bias[:, :, at].scatter_add(3, index, edit.rescore(old) - old)
    return allowed if bias is None else bias.masked_fill(~allowed, -torch.inf).to(call.query.dtype)


def _multiplied(call: _Call, edit: Edit, columns: Tensor) -> Tensor:
    """Output of rows whose cut weights are zeroed after softmax and not renormalised, [B, r, H, D]."""
    rows = edit.rows.to(call.query.device)
    batch, heads = call.query.shape[:2]
    weights = _masked(call.scores(rows), call.allowed(rows)).softmax(-1)
    index = call.at(columns, len(rows), heads)
    assert edit.cut is not None
    kept = weights.gather(3, index) * ~edit.cut.to(weights.device)[:, None].expand(batch, heads, len(rows), -1)
    return call.mixed(weights.scatter(3, index, kept))


def _read(call: _Call, tap: Tap, edited_rows: Tensor | None, edited_mask: Tensor | None) -> Tensor:
    """The tapped rows' attention to the image columns under the mask the layer used, float32 [B, slots, H, N]."""
    assert tap.rows is not None
    rows = tap.rows.to(call.query.device)
    scores = call.scores(rows)
    masked = _masked(scores, call.allowed(rows))
    if edited_rows is not None and edited_mask is not None:
        both = torch.isin(rows, edited_rows)
        at = torch.searchsorted(edited_rows, rows[both])
        masked[:, :, both] = _masked(scores[:, :, both], edited_mask[:, :, at])
    index = call.at(tap.columns, len(rows), call.query.shape[1])
    weights = masked.softmax(-1).gather(3, index).transpose(1, 2)
    if tap.slots is None or tap.sizes is None:
        return weights
    sizes = tap.sizes.to(weights.device)
    mean = torch.zeros(weights.shape[0], len(sizes), *weights.shape[2:], device=weights.device)
    return mean.index_add_(1, tap.slots.to(weights.device), weights) / sizes.view(1, -1, 1, 1)


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
    rows = torch.tensor([4], device=ids.device)

    def states() -> Tensor:
        return text(input_ids=ids, attention_mask=padding, use_cache=False).last_hidden_state[0, 3:]

    with torch.inference_mode():
        model.set_attn_implementation({"text_config": "sdpa"})
        expected = states()
        model.set_attn_implementation({"text_config": NAME})
        every = frozenset(range(len(text.layers)))  # type: ignore[arg-type]
        with tapped(Tap(rows[None], every, rows, explain=True)) as tap:
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
