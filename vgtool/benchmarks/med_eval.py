"""The combined evaluation set of HuatuoGPT-Vision: one JSON, six benchmarks, the answer as an option's text.

`--split` names one of its datasets, or `all`. A row without options (five of MMMU) is an open question. Groups are
dataset / modality for OmniMedVQA, dataset / subject for MMMU, else the dataset.
"""

from collections.abc import Iterator

from vgtool.benchmarks.options import by_text, options_of
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.rows import (
    Draft,
    Row,
    build,
    files_of,
    group_name,
    image_of,
    optional,
    rows_of,
    text,
)
from vgtool.errors import SampleError
from vgtool.records import Rejected, Sample


def read(request: Request) -> Iterator[Sample | Rejected]:
    """Reader of the registry key `med-eval`."""
    files = files_of(request)

    def draft(row: Row) -> Draft:
        names = row.get("image")
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list) or not names:
            raise SampleError("image_missing", "the row names no image")
        images = [image_of(name, files) for name in names]
        choices = options_of(row.get("options"))
        answer = text(row, "answer")
        dataset, subset = text(row, "dataset"), optional(row, "subset")
        shown = group_name(request.spec.groups, subset.removeprefix("validation_"))
        return Draft(
            image=images[0][0],
            image_id=images[0][1],
            question=text(row, "question"),
            kind="choice" if choices else "open",
            reference=by_text(choices, answer) if choices else answer,
            choices=choices or None,
            group=f"{dataset} / {shown}" if shown else dataset,
            extra_images=tuple(image for image, _ in images[1:]),
        )

    def facts(row: Row) -> dict[str, str]:
        return {"has_options": "yes" if row.get("options") not in (None, "", [], "[]") else "no"}

    def wanted(row: object) -> bool:
        return request.split == "all" or not isinstance(row, dict) or optional(row, "dataset") == request.split

    rows = (row for row in rows_of(request, files) if wanted(row))
    return build(request, rows, draft, own_id=lambda row: optional(row, "id") or None, facts=facts, prefix="")
