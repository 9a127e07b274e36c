#!/bin/sh
# Gemma 4 does not scale its attention scores, and Gemma 3's 27B (MedGemma 27B among it) divides them by the root of 168 where
# a head has 128 values: weights made from queries and keys with the usual root of the head's size are not the model's.
set -eu
home=$(mktemp -d); trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 torch==2.13.0 numpy==2.4.6
TRANSFORMERS_VERBOSITY=error "$home/env/bin/python" - <<'PY'
import torch
import transformers
from transformers import AttentionInterface, Gemma3ForCausalLM, Gemma3TextConfig, Gemma4ForCausalLM, Gemma4TextConfig
from transformers.models.gemma3.modeling_gemma3 import eager_attention_forward

print(f"transformers {transformers.__version__}, torch {torch.__version__}")
seen = {}


def watched(module, query, key, value, attention_mask, **kwargs):
    out, weights = eager_attention_forward(module, query, key, value, attention_mask, **kwargs)
    keys = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    usual = query @ keys.transpose(-1, -2) * query.shape[-1] ** -0.5
    if attention_mask is not None:
        usual = usual + attention_mask
    seen["scaling"], seen["size"] = kwargs["scaling"], query.shape[-1]
    seen["apart"] = (usual.softmax(-1) - weights).abs().max().item()
    return out, weights


AttentionInterface.register("watched", watched)
transformers.AttentionMaskInterface.register("watched", transformers.masking_utils.eager_mask)
small = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
             num_key_value_heads=1, layer_types=["full_attention"])
models = {
    "Gemma 3, 4B's head and scale": (Gemma3ForCausalLM, Gemma3TextConfig(**small, head_dim=256, query_pre_attn_scalar=256)),
    "Gemma 3, 27B's head and scale": (Gemma3ForCausalLM, Gemma3TextConfig(**small, head_dim=128, query_pre_attn_scalar=168)),
    "Gemma 4": (Gemma4ForCausalLM, Gemma4TextConfig(**small, head_dim=128, global_head_dim=128, vocab_size_per_layer_input=64)),
}
scales = []
for name, (kind, config) in models.items():
    torch.manual_seed(0)
    config._attn_implementation = "watched"
    with torch.inference_mode():
        kind(config).eval()(torch.arange(12)[None])
    scales.append(round(seen["scaling"] ** -2, 3))
    print(f"{name}: {seen['size']} values a head, scores divided by the root of {scales[-1]:g}; "
          f"weights by the root of {seen['size']} are up to {seen['apart']:.3f} off")
assert scales == [256, 168, 1] and seen["apart"] > 0.1, "this has changed"
PY
