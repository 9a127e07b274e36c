"""The head file of a probe run: its heads ranked, its most sensitive layer, and what they were chosen on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from vgtool.errors import VgError
from vgtool.grounding.heads import HeadFile, digest, fingerprint, rank, sensitive_layer
from vgtool.scoring.inputs import kind_of, read_run


def rank_run(run: Path, k: int, metric: str, partial: bool, say: Callable[[str], None]) -> HeadFile:
    """The `k` best heads of a probe run by mean `metric` (kl, js, ratio). VgError for a run that has none."""
    column = f"head_{metric}"
    if (kind := kind_of(run)) != "probe":
        raise VgError(f"'{run}' is a {kind} run.", "Heads are ranked on a probe run.")
    found = read_run(run, ["sample_id", "image_id", "domain", "layer_kl", column], partial)
    good = found.rows.filter(pl.col(column).is_not_null())
    if not good.height:
        raise VgError(f"'{run}' has no sample with a grounding metric.", "Probe a benchmark with boxes.")
    if "medical" in good["domain"].to_list():
        say("Note: these heads are ranked on medical images; the paper ranks on natural ones.")
    layer_kl = np.array(good["layer_kl"].to_list(), dtype=np.float64)
    layers = layer_kl.shape[1]
    values = np.array(good[column].to_list(), dtype=np.float64).reshape(good.height, layers, -1)
    identity = found.identity
    selected = {
        "metric": f"mean {column}",
        "benchmark": f"{identity['benchmark']}/{identity['split']}",
        "samples": good.height,
        "sample_ids": digest(good["sample_id"].to_list()),
        "image_ids": sorted({fingerprint(image) for image in good["image_id"].to_list()}),
    }
    ranked = rank(values, higher=metric == "ratio")[:k]
    knockout = [sensitive_layer(layer_kl)]
    return HeadFile(identity["model"], identity["revision"], layers, values.shape[2], selected, ranked, knockout)
