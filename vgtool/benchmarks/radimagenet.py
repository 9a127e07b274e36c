"""RadImageNet-VQA's benchmark part: Parquet with image, question, choices, answer, question_type and metadata.

`question_type` is multiple_choice (the answer is a letter of `choices`), closed (yes or no) or open. Metadata, a struct
or JSON in a string, has the modality and a question_id, which is no id here: nobody says that it is unique.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from vgtool.benchmarks.options import by_either, options_of
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.rows import Draft, Row, build, files_of, group_name, image_of, optional, rows_of, text
from vgtool.errors import SampleError
from vgtool.records import QuestionType, Rejected, Sample

KINDS: dict[str, QuestionType] = {"multiple_choice": "choice", "closed": "closed", "open": "open"}
"""question_type as published -> what it is here."""


def read(request: Request) -> Iterator[Sample | Rejected]:
    """Reader of the registry key `radimagenet-vqa`."""
    files = files_of(request)
    groups = request.spec.groups

    def draft(row: Row) -> Draft:
        image, image_id = image_of(row.get("image"), files)
        written = text(row, "question_type").lower().replace("-", "_").replace(" ", "_")
        kind = KINDS.get(written)
        if kind is None:
            raise SampleError("malformed_row", f"question_type '{written[:60]}' is none of {', '.join(KINDS)}")
        answer = text(row, "answer")
        choices = options_of(row.get("choices")) if kind == "choice" else ()
        if kind == "choice" and not choices:
            raise SampleError("malformed_row", "a choice question without options")
        return Draft(
            image=image,
            image_id=image_id,
            question=text(row, "question"),
            kind=kind,
            reference=by_either(choices, answer) if choices else answer,
            choices=choices or None,
            group=group_name(groups, optional(dict(metadata(row.get("metadata"))), "modality")),
        )

    def facts(row: Row) -> dict[str, str]:
        return {"content_type": optional(dict(metadata(row.get("metadata"))), "content_type")}

    return build(request, rows_of(request, files, ("image",)), draft, facts=facts)


def metadata(value: object) -> Mapping[str, Any]:
    """A row's metadata, {} where it has none that can be read."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}
