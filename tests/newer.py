"""Small copies of the sets published since 2024, of VQA-Med, and of VQA-RAD as MEVF keeps it: fields and file names."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from layouts import IMAGE, picture, put, put_json, put_lines, put_parquet, put_zip

TEN = [f"option {n}" for n in range(10)]


def stored(width: int, height: int) -> dict[str, Any]:
    """A picture inside a Parquet file."""
    return {"bytes": picture(width, height), "path": "x.png"}


def mevf(root: Path, test: int = 2, train: int = 3) -> None:
    """data_RAD of MEVF's repository: trainset.json, testset.json, images/."""
    for name, count, kind in (("testset", test, "freeform"), ("trainset", train, "para")):
        rows = [
            {"qid": f"{name}{n}", "phrase_type": kind, "image_name": "synpic1.jpg", "image_organ": "CHEST",
             "question": f"Is it {n}?", "question_type": "PRES", "answer": "Yes" if n % 2 else "left", "answer_type":
             "CLOSED" if n % 2 else "OPEN"}
            for n in range(count)
        ]  # fmt: skip
        put_json(root, f"{name}.json", rows)
    put(root, "images/synpic1.jpg", picture(50, 60, "JPEG"))


def medxpertqa(root: Path) -> None:
    rows = [
        {"id": "MM-26", "question": "Which is it? Answer Choices: (A) a (B) b",
         "options": {"A": "a", "B": "b", "C": "c", "D": "d", "E": "e"}, "label": "D",
         "images": ["MM-26-a.jpeg", "MM-26-b.png"], "medical_task": "Diagnosis", "body_system":
         "Cardiovascular", "question_type": "Reasoning"},
        {"id": "MM-27", "question": "Which?", "options": {"A": "a", "B": "b"}, "label": "E",
         "images": ["MM-26-a.jpeg"]},
    ]  # fmt: skip
    put_lines(root, "MM/test.jsonl", rows)
    put_zip(root, "images.zip", {"images/MM-26-a.jpeg": picture(20, 21, "JPEG"), "images/MM-26-b.png": picture(22, 23)})


def medframeqa(root: Path) -> None:
    frames = {f"image_{n}": None for n in range(1, 6)}
    rows = [
        frames | {"image_1": stored(20, 21), "image_2": stored(22, 23), "question_id": "q1"}
        | {"question": "What changes?", "options": "['a', 'b']", "correct_answer": "B", "modality": "CT"}
    ]  # fmt: skip
    put_parquet(root, "data/test-00000-of-00001.parquet", rows, tuple(frames))


def mmmu_pro(root: Path) -> None:
    shared = {"image_1": stored(20, 21), "image_2": stored(22, 23)}
    shared |= {"question": "Which of <image 1>?", "options": str(TEN)}
    rows = [
        shared | {"id": f"test_{subject}_{n}", "answer": "J", "subject": subject}
        for n, subject in enumerate(("Pharmacy", "Art", "Public_Health"))
    ]
    put_parquet(root, "standard (10 options)/test-00000-of-00001.parquet", rows, ("image_1", "image_2"))


def radimagenet(root: Path, metadata: Any = None) -> None:
    """`metadata`: what becomes of each row's (a struct unless said otherwise)."""
    about = {"content_type": "anatomy", "correct_text": "hip", "is_abnormal": False, "location": "hip"}
    about |= {"modality": "MR", "pathology": "normal", "question_id": "1"}
    rows = [
        {"question": "Which region is shown?", "choices": ["brain", "spine", "hip", "knee"], "answer": "C"}
        | {"question_type": "multiple_choice"},
        {"question": "Is it abnormal?", "choices": None, "answer": "No", "question_type": "closed"},
        {"question": "Which pathology is it?", "choices": None, "answer": "arthritis", "question_type": "open"},
        {"question": "Which region?", "choices": ["brain", "hip"], "answer": "D", "question_type": "multiple_choice"},
    ]
    kinds = [("question", pa.string()), ("choices", pa.list_(pa.string())), ("answer", pa.string())]
    made = metadata or (lambda one: one)
    table = pa.Table.from_pylist(
        [{"image": stored(20 + n // 2, 21), **row} for n, row in enumerate(rows)],
        pa.schema([("image", IMAGE), *kinds, ("question_type", pa.string())]),
    ).append_column("metadata", pa.array([made(about)] * len(rows)))
    (root / "benchmark").mkdir(parents=True)
    pq.write_table(table, root / "benchmark" / "test-00000-of-00001.parquet")


def medthinkvqa(root: Path) -> None:
    case = {"title": "Case number 7", "CLINICAL_HISTORY": "A man of 39 has pain. ", "IMAGING_FINDINGS": "It is b."}
    case |= {"discussion": "b", "options": {letter: letter.lower() for letter in "ABCDE"}, "correct_answer": "B"}
    case |= {"correct_answer_text": "b", "ICD Chapter": "Chapter XIII", "is_longitudinal": False, "image_count": 2}
    for n, name in enumerate(("aQ", "b-7"), 1):
        case |= {f"image_{n:02d}_id": name, f"image_{n:02d}_path": f"images/case00007/{name}.jpg"}
        case |= {f"image_{n:02d}_caption": "It shows b.", f"image_{n:02d}_modality": "MRI"}
    without = {key: value for key, value in case.items() if "_path" not in key}
    put_lines(root, "test.jsonl", [case, without])
    pictures = {f"images/case00007/{name}.jpg": size for name, size in (("aQ", (20, 21)), ("b-7", (22, 23)))}
    put_zip(root, "images.zip", {name: picture(*size, "JPEG") for name, size in pictures.items()})


def medbookvqa(root: Path) -> None:
    row = {"_id": "q1", "QAtype": "Modality Recognition", "Question": "Which modality is it?", "Answer": "CT"}
    row |= {"Distractors": ["MRI", "X-ray", "PET"], "correct_choice": "C", "other_choices": ["A", "B", "D"]}
    row |= {"image_path": "../figures/book 1/fig_2.png", "LABEL": {"Modality": ["Radiology", "CT"]}}
    put_json(root, "data.json", [row, row | {"_id": "q2", "other_choices": ["A", "B", "C"]}])
    put_zip(root, "figures.zip", {"figures/book 1/fig_2.png": picture(20, 21)})


def vqa_med(root: Path) -> None:
    lines = [
        "synpic1|modality|is this a t1 weighted image?|no",
        "synpic1|abnormality|what is abnormal?|(fungal infection with) septic emboli#cystic mass",
        "synpic1|no question",
    ]
    put(root, "VQAMed2019Test/VQAMed2019_Test_Questions_w_Ref_Answers.txt", "\r\n".join(lines) + "\r\n")
    put_zip(root, "VQAMed2019Test/VQAMed2019_Test_Images.zip", {"VQAMed2019_Test_Images/synpic1.jpg": picture(20, 21)})
    put(root, "All_QA_Pairs_train.txt", "synpic2|which plane?|axial\n")
    put(root, "Train_images/synpic2.jpg", picture(24, 25))


def as_text(value: Any) -> str:
    return json.dumps(value)
