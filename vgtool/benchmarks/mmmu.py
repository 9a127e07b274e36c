"""MMMU's Health & Medicine subjects: Parquet, options as a Python list in a string, up to seven images.

Question and options mention images as `<image 1>`; the text stays as it is, the images come before it in their order.
Test answers are not in the files ("?"): a key file (JSON, id -> answer or {"ground_truth": answer}) may lie beside
them; without one the rows have no answer.
"""

import json
from collections.abc import Iterator

from vgtool.benchmarks.options import by_letter, options_of
from vgtool.benchmarks.references import reference_of
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.rows import (
    Draft,
    Row,
    build,
    files_of,
    group_name,
    image_of,
    rows_of,
    text,
)
from vgtool.benchmarks.sources import Files
from vgtool.errors import SampleError, VgError
from vgtool.records import Rejected, Sample

IMAGES = tuple(f"image_{number}" for number in range(1, 8))
NO_ANSWER = "?"


def read(request: Request) -> Iterator[Sample | Rejected]:
    """Reader of the registry key `mmmu`. Of a folder with all subjects only those in the entry's `groups` are read."""
    files = files_of(request)
    subjects = request.spec.groups
    names = [str(name) for name in request.spec.options.get("keys", ())]
    key = _key(files, names)

    def draft(row: Row) -> Draft:
        name = text(row, "id")
        images = [image_of(row[field], files) for field in IMAGES if row.get(field) is not None]
        if not images:
            raise SampleError("image_missing", "the row holds no image")
        choices = options_of(row.get("options"))
        answer = key[name] if name in key else text(row, "answer")
        if answer == NO_ANSWER and not key and not request.notes:
            where = files.looked(*names[:1])
            request.notes.append(f"No answer key: {' or '.join(names)} is not beside the rows{where}.")
        asks_letter = text(row, "question_type") == "multiple-choice"
        reference = ""
        if answer != NO_ANSWER:
            reference = by_letter(choices, answer) if asks_letter else reference_of(answer)
        return Draft(
            image=images[0][0],
            image_id=images[0][1],
            question=text(row, "question"),
            kind="choice" if asks_letter else "open",
            reference=reference,
            choices=choices if asks_letter else None,
            group=group_name(subjects, name.partition("_")[2].rpartition("_")[0]),
            extra_images=tuple(image for image, _ in images[1:]),
        )

    rows = rows_of(request, files, IMAGES, keep=lambda path: any(subject in str(path) for subject in subjects))
    return build(request, rows, draft, own_id=lambda row: row.get("id"), prefix="")


def _key(files: Files, names: list[str]) -> dict[str, str]:
    found = next((data for name in names if (data := files.read(name)) is not None), None)
    if found is None:
        return {}
    try:
        raw = json.loads(found)
        pairs = {name: value["ground_truth"] if isinstance(value, dict) else value for name, value in raw.items()}
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise VgError(
            f"The answer key is no JSON object of id -> answer: {error!r}.", "Correct or remove it."
        ) from None
    return {name: str(value) if not isinstance(value, list) else json.dumps(value) for name, value in pairs.items()}
