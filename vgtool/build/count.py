"""The sheet of counts: what a build asks, about what, and what it left out and skipped."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from vgtool.build.facts import Facts
from vgtool.build.questions import KINDS, Question
from vgtool.build.settings import Settings
from vgtool.scoring.views import Table

SHARES = (0.01, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Upper ends of the box share bins."""


def kind_of(question: Question) -> str:
    """The kind as it is asked for: larger and smaller are size."""
    return "size" if question.kind in ("larger", "smaller") else question.kind


def counts(
    rows: Sequence[Question],
    facts: Sequence[Facts],
    skipped: Sequence[tuple[str, str, str]],
    left_out: Mapping[str, int],
    splits: Mapping[str, str],
    settings: Settings,
) -> dict[str, Any]:
    """Everything that counts.json says."""
    about = {one.image_id: one for one in facts}
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        answers[kind_of(row)][row.answer if row.kind not in ("larger", "smaller") else row.kind] += 1
    shares = [share for one in facts for share in one.shares.values()]
    binned = Counter(next(f"up to {end:g}" for end in SHARES if share <= end) for share in shares)
    return {
        "name": settings.name,
        "rows": len(rows),
        "images": len({row.image_id for row in rows}),
        "masks": sum(one.masks for one in facts),
        "split_by": dict(Counter("patient" if len(one.units) > 1 else "image" for one in facts)),
        "splits": _sorted(Counter(splits[row.image_id] for row in rows)),
        "modalities": _sorted(Counter(about[row.image_id].modality for row in rows)),
        "classes": _sorted(Counter(label for row in rows for label in row.labels)),
        "kinds": {
            kind: {
                "rows": sum(answers[kind].values()),
                "answers": _sorted(answers[kind]),
                "most_common_answer": round(max(answers[kind].values()) / sum(answers[kind].values()), 4),
            }
            for kind in KINDS
            if kind in answers
        },
        "box_share": {f"up to {end:g}": binned[f"up to {end:g}"] for end in SHARES},
        "windows": _sorted(Counter(one.window for one in facts if one.window)),
        "left_out": _sorted(left_out),
        "skipped": _sorted(Counter(code for code, _, _ in set(skipped))),
        "settings": {
            "seed": settings.seed,
            "max_share": settings.max_share,
            "min_pixels": settings.min_pixels,
            "grid": settings.grid,
            "negatives": settings.negatives,
            "kinds": list(settings.kinds),
            "splits": dict(settings.splits),
        },
    }


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: counts[name] for name in sorted(counts)}


def tables(found: Mapping[str, Any]) -> list[Table]:
    """The sheet of counts."""
    kinds = [[kind, one["rows"], f"{one['most_common_answer']:.1%}"] for kind, one in found["kinds"].items()]
    listed = [
        Table(
            f"{found['name']}: {found['rows']:,} questions on {found['images']:,} images, {found['masks']:,} masks",
            ["kind", "questions", "most common answer"],
            kinds,
        )
    ]
    titles = {
        "splits": "split",
        "modalities": "modality",
        "classes": "class",
        "box_share": "share of the grid under a class's boxes",
        "left_out": "left out",
        "skipped": "skipped input",
    }
    for key, title in titles.items():
        if found[key]:
            listed.append(Table("", [title, "count"], [[name, number] for name, number in found[key].items()]))
    return listed
