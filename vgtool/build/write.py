"""The benchmark's files: rows by split, the registry entry, counts, and what was skipped."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vgtool.benchmarks.sources import safe_name
from vgtool.build import questions
from vgtool.build.count import kind_of
from vgtool.build.facts import Facts
from vgtool.build.questions import Question
from vgtool.build.settings import Settings


def _row(question: Question, fact: Facts, settings: Settings) -> dict[str, Any]:
    choices = questions.options(question, settings.seed)
    groups = {"modality": fact.modality, "class": " + ".join(question.labels), "kind": kind_of(question)}
    row: dict[str, Any] = {
        "id": f"{kind_of(question)}-{question.id}",
        "image": question.image_id,
        "image_id": question.image_id,
        "question": questions.worded(question, settings.seed),
        "reference": question.answer,
        "question_type": "closed" if choices is None else "choice",
    }
    if choices is not None:
        row["choices"] = choices
    row |= {"boxes": [box.as_list() for box in question.boxes], "group": groups[settings.group]}
    row["domain"] = settings.domain
    if question.mask:
        row["mask"] = question.mask
    return row


def write(
    rows: Sequence[Question],
    facts: Sequence[Facts],
    splits: Mapping[str, str],
    skipped: Sequence[tuple[str, str, str]],
    counts: dict[str, Any],
    out: Path,
    settings: Settings,
    form: str,
) -> None:
    """Write all but images and masks, which are there."""
    about = {one.image_id: one for one in facts}
    lines: dict[str, list[str]] = {name: [] for name in settings.splits}
    for question in rows:
        safe_name(question.image_id)
        row = _row(question, about[question.image_id], settings)
        lines[splits[question.image_id]].append(json.dumps(row, ensure_ascii=False))
    written = {name: texts for name, texts in lines.items() if texts}
    for name, texts in written.items():
        (out / f"{name}.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
    default = "test" if "test" in written else next(iter(written))
    entry = {
        "title": f"{settings.name} (built from {form} masks)",
        "reader": "own",
        "domain": settings.domain,
        "data": {name: [f"{name}.jsonl"] for name in written},
        "splits": {name: len(texts) for name, texts in written.items()},
        "default_split": default,
        "box_format": "xyxy",
        "notes": ["Questions and answers come from masks and pixels by rule; nobody has checked them clinically."],
    }
    text = yaml.safe_dump({settings.name: entry}, sort_keys=False, allow_unicode=True)
    (out / "benchmarks.yaml").write_text(text, encoding="utf-8")
    (out / "counts.json").write_text(json.dumps(counts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    listed = [json.dumps({"code": c, "file": f, "detail": d}, ensure_ascii=False) for c, f, d in skipped]
    (out / "skipped.jsonl").write_text("".join(f"{line}\n" for line in listed), encoding="utf-8")
