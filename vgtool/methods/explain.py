"""One sample in full: what every method saw, kept and answered (`vgtool refine --explain ID`)."""

from collections.abc import Sequence

from vgtool.errors import VgError, did_you_mean
from vgtool.images import open_image
from vgtool.methods.refine import Refine
from vgtool.methods.task import ImageGroup, Row
from vgtool.records import Sample

SHADES = " .:-=+*#%@"
"""From the least to the greatest value of a map."""


def explain(task: Refine, samples: Sequence[Sample], wanted: str) -> str:
    """The answers, first-token probabilities, triage map and kept tokens of one sample, as text."""
    found = {sample.id: sample for sample in samples}
    if wanted not in found:
        raise VgError(f"No sample '{wanted}' in this benchmark, split and limit.", did_you_mean(wanted, list(found)))
    sample = found[wanted]
    images = tuple(open_image(source) for source in (sample.image, *sample.extra_images))
    rows = task.run([ImageGroup((sample,), images, tuple(map(task.adapter.prepare, images)))], None)
    lines = [f"{sample.id}: {sample.question}", f"reference: {sample.reference or 'none'}"]
    if sample.choices:
        lines.append(f"choices: {' | '.join(sample.choices)}")
    for row in rows:
        lines += ["", *_method(task, row)]
    return "\n".join(lines)


def _method(task: Refine, row: Row) -> list[str]:
    if row["error"]:
        return [f"{row['method']}: {row['error']}"]
    words = [f"{task.adapter.tokenizer.decode([token])!r} {share:.3f}" for token, share in row["first"]]
    lines = [f"{row['method']}: {row['answer']}", f"  first token: {', '.join(words)}"]
    for name in ("insertion", "deletion"):
        if row.get(name) is not None:
            lines.append(f"  {name}: {row[name]:+.3f} in the baseline's first-token probability")
    rows, cols = row["grid_rows"], row["grid_cols"]
    pictures = []
    if row["triage"] is not None and len(row["triage"]) >= rows * cols:
        pictures.append(("map", _shaded(row["triage"][: rows * cols])))
    if row["kept"] is not None:
        kept, region = set(row["kept"]), set(row["region"])
        marks = {(True, True): "#", (True, False): "o", (False, True): "x", (False, False): "."}
        pictures.append(("kept", [marks[token in kept, token in region] for token in range(rows * cols)]))
        lines.append(f"  kept: {len(kept)} tokens (# kept in the box, x hidden in it, o kept, . hidden)")
    for line in range(rows):
        if pictures:
            cells = ["".join(cell * 2 for cell in drawn[line * cols : (line + 1) * cols]) for _, drawn in pictures]
            lines.append("    " + "   ".join(cells))
    return lines


def _shaded(values: Sequence[float]) -> list[str]:
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return [SHADES[min(int((value - low) / span * len(SHADES)), len(SHADES) - 1)] for value in values]
