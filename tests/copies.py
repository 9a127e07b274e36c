"""What the small copies of the published benchmarks (layouts.py) should become, and how tests read them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from layouts import COPIES, picture, put, put_lines
from typer.testing import CliRunner

from vgtool.benchmarks.load import Benchmark, load
from vgtool.commands import app
from vgtool.errors import SampleError
from vgtool.images import open_image
from vgtool.records import Sample

SHORT = " Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
CONTENT_ID = "[0-9a-f]{16}"


def lettered(question: str, *options: str) -> str:
    lines = [f"{letter}. {text}" for letter, text in zip("ABCDEFGHI", options, strict=False)]
    return "\n".join([question, *lines, LETTER])


def row(id: str, size: tuple[int, int], question: str, kind: str, **fields: Any) -> dict[str, Any]:
    """What a row should become; fields that are not named are empty, the prompt is the short one."""
    empty: dict[str, Any] = {"reference": "", "choices": None, "boxes": [], "group": "", "more": [], "mask": None}
    prompt = lettered(question, *fields.get("choices", ())) if kind == "choice" else question + SHORT
    return empty | {"id": id, "size": size, "question": question, "kind": kind, "prompt": prompt} | fields


def _marked(mask: Callable[[], object]) -> int | str:
    try:
        return int(np.asarray(mask()).sum())
    except SampleError as error:
        return error.code


def told(sample: Sample) -> dict[str, Any]:
    """Every field of a sample, images as their decoded size."""
    return {
        "id": sample.id,
        "size": open_image(sample.image).size,
        "question": sample.question,
        "kind": sample.question_type,
        "prompt": sample.prompt,
        "reference": sample.reference,
        "choices": sample.choices,
        "boxes": [box.as_list() for box in sample.boxes],
        "group": sample.group,
        "more": [open_image(image).size for image in sample.extra_images],
        "mask": None if sample.mask is None else _marked(sample.mask),
    }


LIVER = row(
    "localization-#", (96, 48), "Is there a liver tumor in the image?", "closed", group="CT", boxes=[[10, 8, 30, 28]],
    mask=400,
)  # fmt: skip
LUNG = row(
    "localization-#", (60, 100), "Can a Lung be found in this image?", "closed", group="X-ray",
    boxes=[[10.5, 4, 30.5, 20]],
)  # fmt: skip
POLYP = row(
    "localization-#", (64, 40), "Do you see a polyp in the picture?", "closed", group="Endoscopy",
    boxes=[[0, 0, 1, 1], [20, 10, 40, 20]], mask="mask_missing",
)  # fmt: skip
SWOLLEN = {"id": "attribute-#", "question": "Is it swollen?", "prompt": "Is it swollen?" + SHORT, "kind": "open"}
DOG = row(
    "localization-#", (80, 64), "Is there a dog in the image?", "closed", group="dog",
    boxes=[[10.25, 20.5, 40.25, 60.5], [0, 0, 5.5, 6.5]],
)  # fmt: skip
LEFT, RIGHT, HEART = [10, 10, 30, 50], [60, 10, 90, 50], [40, 40, 60, 60]
MODALITY = "What imaging modality is used?"
YES_NO = {"prompt": lettered("Is it big?", "Yes", "No"), "choices": ("Yes", "No")}
CLOSED = {"prompt": "Is it big? Please choose from the following two options: [yes, no]"}
RAD_7 = row("test-7", (50, 60), "Is there a pleural effusion?", "closed", reference="No", group="Chest")
RAD_9 = row("test-9", (50, 60), "Is this PA or AP?", "closed", reference="PA", group="Chest")
OMNI: list[dict[str, Any]] = [
    row("open-access-ACRIMA/ACRIMA_0000", (33, 34), MODALITY, "choice", choices=("CT.", "ct", "Fundus", "OCT"),
        reference="ct", group="Fundus"),
    row("open-access-Chest CT Scan/Chest CT Scan_0001", (35, 36), MODALITY, "choice", choices=("Yes", "No"),
        reference="No", group="CT"),
    row("open-access-Chest CT Scan/Chest CT Scan_0002", (35, 36), MODALITY, "choice", reference="Mass", group="CT",
        choices=("Cyst", "Mass", "none")),
    row("open-access-Chest CT Scan/Chest CT Scan_0003", (37, 38), MODALITY, "choice", choices=("a", "b"),
        reference="b", group="MRI"),
    row("open-access-Chest CT Scan/Chest CT Scan_0004", (37, 38), MODALITY, "choice", choices=("a", "b"),
        reference="a", group="OCT"),
]  # fmt: skip
NINE = tuple(str(number) for number in range(9))
EXPECTED: dict[str, list[dict[str, Any]]] = {
    "vgmed": [LIVER, POLYP, LUNG],
    "vgmed-attribute": [LIVER | SWOLLEN, POLYP | SWOLLEN, LUNG | SWOLLEN],
    "vgmed-early": [row("localization-#", (30, 40), "Is there a Liver?", "closed", boxes=[[4, 6, 14, 18]])],
    "coco": [DOG],
    "coco-early": [row("localization-#", (31, 41), "Is there a cat?", "closed", boxes=[[1, 2, 4, 6]])],
    "vqa-rad": [
        RAD_7,
        row("test-8", (51, 61), "Is the heart big?", "closed", reference="yes", group="Head"),
        RAD_9,
        row("test-10", (51, 61), "How many lesions are there?", "open", reference="3", group="Head"),
    ],
    "vqa-rad-paper": [
        row("train-11", (51, 61), "Is the colon normal?", "closed", reference="Yes", group="Abdomen"),
        RAD_7,
        RAD_9,
    ],
    "vqa-rad-parquet": [
        row("test-#", (50, 60), "Is it big?", "closed", reference="yes", **YES_NO),
        row("test-#", (52, 62), "Is it big?", "closed", reference="No", **YES_NO),
        row("test-#-2", (52, 62), "Is it big?", "closed", reference="No", **YES_NO),
    ],
    "slake": [
        row("test-100", (100, 80), "Is the left lung healthy?", "closed", reference="Yes", group="X-ray", boxes=[LEFT],
            mask=800),
        row("test-101", (100, 80), "Are the lungs healthy?", "closed", reference="No", group="X-ray", mask=2000,
            boxes=[LEFT, RIGHT]),
        row("test-102", (100, 80), "Which is bigger, liver or heart?", "closed", reference="Heart", group="X-ray",
            boxes=[HEART], mask=0),
        row("test-103", (100, 80), "Which organ is on the left?", "open", reference="Left Lung", group="X-ray",
            boxes=[LEFT], mask=800),
        row("test-104", (100, 80), "What plane is it?", "open", reference="Coronal", group="X-ray"),
        row("test-106", (90, 70), "Is this a T1 weighted MRI image?", "closed", reference="T2", group="MRI"),
        row("test-107", (90, 70), "Where is the brain tumor?", "open", reference="Upper left", group="MRI",
            boxes=[[5, 6, 15, 26]], mask=200),
    ],
    "path-vqa": [
        row("test-#", (50, 60), "Is it big?", "closed", reference="yes", **CLOSED),
        row("test-#", (50, 60), "where is it?", "open", reference="left lobe", prompt="where is it?"),
        row("test-#", (52, 62), "Is it big?", "closed", reference="No", **CLOSED),
        row("test-#-2", (52, 62), "Is it big?", "closed", reference="No", **CLOSED),
    ],
    "pmc-vqa": [
        row("test_clean-#", (40, 41), "Which artery, in\nthe figure, is shown?", "choice",
            choices=("Right Coronary Artery", "Left, anterior", "B: type", "D: none"),
            reference="Right Coronary Artery"),
        row("test_clean-#", (42, 43), "What is it?", "choice", choices=("MRI", "CT", "PET", "X-ray"), reference="CT"),
    ],
    "pmc-vqa-2": [
        row("test_2-#", (44, 45), "What is it?", "choice", choices=("MRI", "CT", "PET", "X-ray"), reference="X-ray")
    ],
    "omnimedvqa": OMNI,
    "omnimedvqa-zip": OMNI,
    "omnimedvqa-regrouped": [
        row("regrouped-test-#", (33, 34), "What is shown in (A) and B?", "choice", reference="None of A, B",
            choices=("Cyst, simple", "Mass", "A) mark", "None of A, B"), group="CT"),
        row("regrouped-test-#", (35, 36), "Is it?", "choice", choices=("Yes", "No"), reference="Yes", group="CT"),
    ],
    "mmmu-med": [
        row("validation_Clinical_Medicine_3", (26, 27), "Which of <image 1> is abnormal?", "choice", choices=NINE,
            reference="8", group="Clinical Medicine"),
        row("validation_Pharmacy_1", (20, 21), "Which of <image 1> is abnormal?", "choice", more=[(22, 23)],
            choices=("a", "b's", "<image 2>"), reference="<image 2>", group="Pharmacy"),
        row("validation_Pharmacy_2", (24, 25), "Which of <image 1> is abnormal?", "open", reference='["3.5", "3,5"]',
            group="Pharmacy"),
    ],
    "med-eval": [
        row("#", (70, 71), "What is it?", "choice", choices=("yes", "no"), reference="no", group="VQA-RAD_test"),
        row("#", (70, 71), "What is it?", "choice", choices=("CT", "MRI", "X-ray", "PET"), reference="MRI",
            group="OmniMedVQA / MRI"),
        row("#", (72, 73), "What is it?", "choice", choices=("1", "2"), reference="2",
            group="MMMU_Medical_Validation / Public Health"),
    ],
}  # fmt: skip


def read(name: str, root: Path, **settings: Any) -> Benchmark:
    return load(name, data_root=root, **settings)


def read_copy(copy: str, root: Path) -> Benchmark:
    name, write, extra = COPIES[copy]
    write(root)
    return read(name, root, **{key[2:]: value for key, value in zip(extra[::2], extra[1::2], strict=True)})


def vgtool(*args: str | Path) -> Any:
    return CliRunner().invoke(app, list(map(str, args)))


def own(root: Path, *rows: dict[str, Any], **settings: Any) -> Benchmark:
    put(root, "a.png", picture(30, 20))
    put_lines(root, "mine.jsonl", [{"image": "a.png", "question": "Is it?"} | row for row in rows])
    return load(str(root / "mine.jsonl"), **settings)
