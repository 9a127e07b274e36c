"""Small faithful copies of the published benchmarks: their field names, their quirks, pictures of distinct sizes."""

import csv
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(width: int, height: int, form: str = "PNG", mode: str = "RGB") -> bytes:
    """An encoded picture; its size says which one it is."""
    buffer = io.BytesIO()
    colour = {"RGB": (90, 120, 60), "L": 80, "CMYK": (10, 80, 30, 5)}[mode]
    Image.new(mode, (width, height), colour).save(buffer, form)
    return buffer.getvalue()


def put(root: Path, name: str, data: bytes | str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def put_json(root: Path, name: str, rows: Any) -> Path:
    return put(root, name, json.dumps(rows, ensure_ascii=False))


def put_lines(root: Path, name: str, rows: Sequence[Any]) -> Path:
    return put(root, name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def put_csv(root: Path, name: str, rows: Sequence[Mapping[str, str]]) -> Path:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return put(root, name, buffer.getvalue())


def put_parquet(
    root: Path, name: str, rows: Sequence[Mapping[str, Any]], images: Sequence[str] = ("image",), **settings: Any
) -> Path:
    fields = [(key, IMAGE if key in images else pa.string()) for key in rows[0]]
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), pa.schema(fields)), path, **settings)
    return path


def put_zip(root: Path, name: str, members: Mapping[str, bytes], mac: bool = True) -> Path:
    """An archive, with what a Mac adds to it."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
            if mac:
                folder, _, file = member.rpartition("/")
                archive.writestr(f"__MACOSX/{folder}/._{file}", b"\x00\x05\x16\x07")
        if mac:
            archive.writestr(".DS_Store", b"\x00")
    return path


# ---- VGMED and COCO --------------------------------------------------------------------------------------------------

VGMED_ROWS = [
    {
        "image": "SAMed2D_v1/ct/ct_00--Demo--case1--x_0010.png",
        "mask": "SAMed2D_v1/ct/ct_00--Demo--case1--x_0010_mask.png",
        "modality": "ct",
        "original_bboxes": [[10, 8, 29, 27]],
        "gt_tokens_huatuo": [[5, 4], [6, 4]],
        "label": "liver tumor",
        "ratio": 0.01,
        "question": "Is there a liver tumor in the image?",
    },
    {
        "image": "endoscopy_polydb/set (1)/50% off é.png",
        "mask": "endoscopy_polydb/none.png",
        "modality": "endoscopy",
        "original_bboxes": [[0, 0, 0, 0], [20, 10, 39, 19]],
        "gt_tokens_huatuo": [[1, 1]],
        "label": "polyp",
        "ratio": 0.2,
        "question": " Do you see a polyp in the picture? ",
    },
    {
        "image": "Slake1.0/imgs/xmlab7/source.jpg",
        "label": "Lung",
        "location": "Chest",
        "modality": "X-Ray",
        "question": "Can a Lung be found in this image?",
        "gt_tokens": [[7, 0]],
        "bbox": [[10.5, 4.0, 20.0, 16.0]],
        "gt_tokens_vila": [[3, 0]],
    },
]
COCO_ROWS = [
    {
        "image": "COCO_val2014_000000000042.jpg",
        "original_bboxes": [[10.25, 20.5, 30.0, 40.0], [0.0, 0.0, 5.5, 6.5]],
        "label": "dog",
        "ratio": 0.1,
        "question": "Is there a dog in the image?",
        "gt_tokens": [[2, 5]],
    }
]
EARLY_ROWS = [{"image": "xmlab462", "bbox": [[4, 6, 10, 12]], "gt_tokens": [[1, 1]], "question": "Is there a Liver?"}]
EARLY_COCO_ROWS = [{"image": 7, "bbox": [[1, 2, 3, 4]], "gt_tokens": [[1, 1]], "question": "Is there a cat?"}]


def vgmed(root: Path) -> None:
    put_lines(root, "VGMED_attribute.jsonl", [{**row, "question": "Is it swollen?"} for row in VGMED_ROWS])
    put_lines(root, "VGMED_localization.jsonl", VGMED_ROWS)
    put(root, VGMED_ROWS[0]["image"], picture(96, 48))  # type: ignore[arg-type]
    mask = Image.new("L", (96, 48))
    mask.paste(255, (10, 8, 30, 28))
    path = put(root, VGMED_ROWS[0]["mask"], b"")  # type: ignore[arg-type]
    mask.save(path, "PNG")
    put(root, VGMED_ROWS[1]["image"], picture(64, 40))  # type: ignore[arg-type]
    put(root, "imgs/xmlab7/source.jpg", picture(60, 100, "JPEG"))


def coco(root: Path) -> None:
    put_lines(root, "COCO_attribute.jsonl", COCO_ROWS)
    put_lines(root, "COCO_localization.jsonl", COCO_ROWS)
    put_zip(root, "val2014.zip", {"val2014/COCO_val2014_000000000042.jpg": picture(80, 64, "JPEG")})


def early(root: Path) -> None:
    put_lines(root, "attribute_questions.jsonl", EARLY_ROWS)
    put_lines(root, "localization_questions.jsonl", EARLY_ROWS)
    put(root, "imgs/xmlab462/source.jpg", picture(30, 40, "JPEG"))


def early_coco(root: Path) -> None:
    put_lines(root, "coco_attribute_questions.jsonl", EARLY_COCO_ROWS)
    put_lines(root, "coco_localization_questions.jsonl", EARLY_COCO_ROWS)
    put(root, "val2014/COCO_val2014_000000000007.jpg", picture(31, 41, "JPEG"))


# ---- VQA-RAD ---------------------------------------------------------------------------------------------------------


def _rad(qid: Any, kind: str, answer_type: str, question: str, answer: Any, organ: str = "CHEST") -> dict[str, Any]:
    return {
        "qid": qid,
        "phrase_type": kind,
        "qid_linked_id": "NULL",
        "image_case_url": "https://example.org/case",
        "image_name": "synpic1.jpg" if organ == "CHEST" else "synpic2.jpg",
        "image_organ": organ,
        "evaluation": "not evaluated",
        "question": question,
        "question_rephrase": "NULL",
        "question_relation": "NULL",
        "question_frame": "NULL",
        "question_type": "PRES",
        "answer": answer,
        "answer_type": answer_type,
    }


RAD_ROWS = [
    _rad("7", "test_freeform", "CLOSED", "Is there a pleural effusion?", "No"),
    _rad(8, "test_para", "CLOSED ", "Is the heart big? ", "\tyes", "HEAD"),
    _rad(9, "test_freeform", "CLOSED", "Is this PA or AP?", "PA"),
    _rad(10, "test_para", "OPEN", "How many lesions are there?", 3, "HEAD"),
    _rad(11, "freeform", "CLOSED", "Is the colon normal?", "Yes", "ABD"),
    _rad(12, "para", "OPEN", "Where is it?", "left lobe", "ABD"),
]
del RAD_ROWS[5]["question_rephrase"]


def vqa_rad(root: Path) -> None:
    put_json(root, "VQA_RAD Dataset Public.json", RAD_ROWS)
    put(root, "VQA_RAD Image Folder/synpic1.jpg", picture(50, 60, "JPEG"))
    put(root, "VQA_RAD Image Folder/synpic2.jpg", picture(51, 61, "JPEG"))


PAIR_ROWS = [
    {"image": {"bytes": picture(50, 60, "JPEG"), "path": None}, "question": "Is it big?", "answer": "yes"},
    {"image": {"bytes": picture(50, 60, "JPEG"), "path": None}, "question": "where is it? ", "answer": " left lobe"},
    {"image": {"bytes": picture(52, 62, "JPEG", "CMYK"), "path": "a.jpg"}, "question": "Is it big?", "answer": "No"},
    {"image": {"bytes": picture(52, 62, "JPEG", "CMYK"), "path": "a.jpg"}, "question": "Is it big?", "answer": "No"},
]


def vqa_rad_parquet(root: Path) -> None:
    put_parquet(root, "data/train-00000-of-00001-eb8844602202be60.parquet", PAIR_ROWS[:1])
    put_parquet(root, "data/test-00000-of-00001-e5bc3d208bb4deeb.parquet", PAIR_ROWS)


def path_vqa(root: Path) -> None:
    put_parquet(root, "data/test-00000-of-00002.parquet", PAIR_ROWS[:2])
    put_parquet(root, "data/test-00001-of-00002.parquet", PAIR_ROWS[2:])


# ---- SLAKE -----------------------------------------------------------------------------------------------------------


def _slake(qid: int, image: str, question: str, answer: str, answer_type: str, lang: str = "en") -> dict[str, Any]:
    return {
        "img_id": int(image.removeprefix("xmlab")),
        "img_name": f"{image}/source.jpg",
        "question": question,
        "answer": answer,
        "q_lang": lang,
        "location": "Lung",
        "modality": "X-Ray" if image == "xmlab1" else "MRI",
        "answer_type": answer_type,
        "base_type": "vqa",
        "content_type": "Organ",
        "triple": ["vhead", "_", "_"],
        "qid": qid,
    }


SLAKE_ROWS = [
    _slake(100, "xmlab1", "Is the left lung healthy?", "Yes", "CLOSED"),
    _slake(101, "xmlab1", "Are the lungs healthy?", "No", "CLOSED"),
    _slake(102, "xmlab1", "Which is bigger, liver or heart?", "Heart", "CLOSED"),
    _slake(103, "xmlab1", "Which organ is on the left?", "Left Lung", "OPEN"),
    _slake(104, "xmlab1", "What plane is it?", "Coronal", "OPEN"),
    _slake(105, "xmlab1", "肺健康吗?", "健康", "CLOSED", "zh"),
    _slake(106, "xmlab2", "Is this a T1 weighted MRI image?", "T2", "CLOSED"),
    _slake(107, "xmlab2", "Where is the brain tumor?", "Upper left", "OPEN"),
]
SLAKE_TRAIN = [_slake(1, "xmlab1", "Is the heart big?", "No", "CLOSED")]
SLAKE_VALIDATION = [_slake(2, "xmlab2", "Is this a CT?", "No", "CLOSED")]
SLAKE_MASK = "1: Left Lung\n2: Right Lung\n3:Heart\n20 Brain Tumor\n"


def slake_images() -> dict[str, bytes]:
    mask = Image.new("L", (100, 80))
    mask.paste(1, (10, 10, 30, 50))
    mask.paste(2, (60, 10, 90, 50))
    buffer, other = io.BytesIO(), io.BytesIO()
    mask.save(buffer, "PNG")
    second = Image.new("L", (90, 70))
    second.paste(20, (5, 6, 15, 26))
    second.save(other, "PNG")
    boxes = [{"Left Lung": [10, 10, 20, 40]}, {"Right Lung": [60.0, 10.0, 30.0, 40.0]}, {"Heart": [40, 40, 20, 20]}]
    return {
        "imgs/xmlab1/source.jpg": picture(100, 80, "JPEG"),
        "imgs/xmlab1/mask.png": buffer.getvalue(),
        "imgs/xmlab1/detection.json": json.dumps(boxes).encode(),
        "imgs/xmlab1/question.json": b"[]",
        "imgs/xmlab2/source.jpg": picture(90, 70, "JPEG"),
        "imgs/xmlab2/mask.png": other.getvalue(),
    }


def slake(root: Path) -> None:
    put_json(root, "train.json", SLAKE_TRAIN)
    put_json(root, "validate.json", SLAKE_VALIDATION)
    put_json(root, "test.json", SLAKE_ROWS)
    put(root, "mask.txt", SLAKE_MASK)
    put_zip(root, "imgs.zip", slake_images())


# ---- PMC-VQA ---------------------------------------------------------------------------------------------------------

PMC_1 = [
    {
        "Figure_path": "PMC1_Fig1.jpg",
        "Question": "Which artery, in\nthe figure, is shown? ",
        "Answer": " Right Coronary Artery ",
        "Choice A": " A: Right Coronary Artery ",
        "Choice B": " B:Left, anterior",
        "Choice C": " C: B: type ",
        "Choice D": "D: D: none",
        "Answer_label": "A",
    },
    {
        "Figure_path": "PMC2_Fig1.jpg",
        "Question": "What is it?",
        "Answer": "CT",
        "Choice A": " A:MRI ",
        "Choice B": " B:CT ",
        "Choice C": " C:PET ",
        "Choice D": " D:X-ray ",
        "Answer_label": "B",
    },
]
PMC_2 = [
    {
        "index": "0",
        "Figure_path": "PMC3_Fig1.jpg",
        "Caption": "A caption, with a comma.",
        "Question": " What is it?",
        "Choice A": " A:MRI ",
        "Choice B": " B:CT ",
        "Choice C": " C:PET ",
        "Choice D": " D:X-ray ",
        "Answer": "D",
        "split": "test",
    }
]


def pmc_vqa(root: Path) -> None:
    put_csv(root, "test_clean.csv", PMC_1)
    put_csv(root, "train.csv", PMC_1[:1])
    put_csv(root, "test_2.csv", PMC_2)
    sizes = {"PMC1_Fig1.jpg": (40, 41), "PMC2_Fig1.jpg": (42, 43)}
    put_zip(root, "images.zip", {f"images/{name}": picture(*size, "JPEG") for name, size in sizes.items()})
    put_zip(root, "images_2.zip", {"figures/PMC3_Fig1.jpg": picture(44, 45, "JPEG")})


# ---- OmniMedVQA ------------------------------------------------------------------------------------------------------


def _omni(dataset: str, number: int, image: str, options: Sequence[str], answer: str, modality: str) -> dict[str, str]:
    named = {f"option_{letter}": text for letter, text in zip("ABCD", options, strict=False)}
    return {
        "dataset": dataset,
        "question_id": f"{dataset}_{number:04d}",
        "question_type": "Modality Recognition",
        "question": "What imaging modality is used? ",
        "gt_answer": answer,
        "image_path": image,
        **named,
        "modality_type": modality,
    }


OMNI_ROWS = {
    "ACRIMA": [
        _omni("ACRIMA", 0, "Images/ACRIMA/Im (1) 50%.png", ["CT.", "ct", "Fundus", "OCT"], "ct", "Fundus Photography")
    ],
    "Chest CT Scan": [
        _omni("Chest CT Scan", 1, "Images/Chest CT Scan/a.png", ["Yes", "No"], "No", "CT(Computed Tomography)"),
        _omni("Chest CT Scan", 2, "Images/Chest CT Scan/a.png", ["Cyst", "Mass", "none"], "Mass", "CT"),
        _omni("Chest CT Scan", 3, "Images/Chest CT Scan/b.png", ["a", "b"], "b", "MR (Mag-netic Resonance Imaging)"),
        _omni("Chest CT Scan", 4, "Images/Chest CT Scan/b.png", ["a", "b"], "a", "OCT (Optical Coherence Tomography"),
    ],
}
OMNI_ROWS["Chest CT Scan"][1]["modality"] = OMNI_ROWS["Chest CT Scan"][1].pop("modality_type") + "(Computed Tomography)"
REGROUPED = [
    {
        "image": "Images/ACRIMA/Im (1) 50%.png",
        "problem": "What is shown in (A) and B? A)Cyst, simple, B)Mass, C)A) mark, D)None of A, B",
        "solution": "<answer> D </answer>",
    },
    {"image": "Images/Chest CT Scan/a.png", "problem": "Is it? A)Yes, B)No", "solution": "<answer> A </answer>"},
]


def omni_images() -> dict[str, bytes]:
    return {
        "Images/ACRIMA/Im (1) 50%.png": picture(33, 34),
        "Images/Chest CT Scan/a.png": picture(35, 36),
        "Images/Chest CT Scan/b.png": picture(37, 38),
    }


def omnimedvqa(root: Path) -> None:
    for name, rows in OMNI_ROWS.items():
        put_json(root, f"OmniMedVQA/QA_information/Open-access/{name}.json", rows)
    asked = {key: value for key, value in OMNI_ROWS["ACRIMA"][0].items() if key != "gt_answer"}
    put_json(root, "OmniMedVQA/QA_information/Restricted-access/X.json", [asked])
    for name, data in omni_images().items():
        put(root, f"OmniMedVQA/{name}", data)


def omnimedvqa_zip(root: Path) -> None:
    members = {f"OmniMedVQA/{name}": data for name, data in omni_images().items()}
    for name, rows in OMNI_ROWS.items():
        members[f"OmniMedVQA/QA_information/Open-access/{name}.json"] = json.dumps(rows).encode()
    put_zip(root, "OmniMedVQA.zip", members)


def omnimedvqa_regrouped(root: Path) -> None:
    put_json(root, "CT(Computed Tomography)_test.json", REGROUPED)
    put_json(root, "Fundus Photography_train.json", REGROUPED[:1])
    for name, data in omni_images().items():
        put(root, name, data)


# ---- MMMU ------------------------------------------------------------------------------------------------------------


def _mmmu(name: str, options: str, answer: str, kind: str, images: Sequence[bytes]) -> dict[str, Any]:
    cells = {f"image_{n}": None for n in range(1, 8)} | {
        f"image_{n}": {"bytes": data, "path": f"{name}_{n}.png"} for n, data in enumerate(images, 1)
    }
    return {
        "id": name,
        "question": "Which of <image 1> is abnormal?",
        "options": options,
        "explanation": "",
        **cells,
        "img_type": "['Photographs']",
        "answer": answer,
        "topic_difficulty": "Easy",
        "question_type": kind,
        "subfield": "Anatomy",
    }


MMMU_OPTIONS = "['a', \"b's\", '<image 2>']"
MMMU_PHARMACY = [
    _mmmu("validation_Pharmacy_1", MMMU_OPTIONS, "C", "multiple-choice", [picture(20, 21), picture(22, 23)]),
    _mmmu("validation_Pharmacy_2", "[]", "['3.5', '3,5']", "open", [picture(24, 25)]),
]
MMMU_CLINICAL = [
    _mmmu("validation_Clinical_Medicine_3", str([str(n) for n in range(9)]), "I", "multiple-choice", [picture(26, 27)])
]
MMMU_TEST = [_mmmu("test_Pharmacy_4", "['x', 'y']", "?", "multiple-choice", [picture(28, 29)])]


def mmmu_med(root: Path) -> None:
    columns = [f"image_{n}" for n in range(1, 8)]
    put_parquet(root, "Pharmacy/validation-00000-of-00001.parquet", MMMU_PHARMACY, columns)
    put_parquet(root, "Clinical_Medicine/validation-00000-of-00001.parquet", MMMU_CLINICAL, columns)
    put_parquet(root, "Pharmacy/test-00000-of-00001.parquet", MMMU_TEST, columns)
    art = [{**MMMU_CLINICAL[0], "id": "validation_Art_1"}]
    put_parquet(root, "Art/validation-00000-of-00001.parquet", art, columns)


# ---- combined set ----------------------------------------------------------------------------------------------------


def _combined(dataset: str, subset: str, options: Any, answer: str, image: str = "images/a b.png") -> dict[str, Any]:
    return {
        "question": " What is it? ",
        "image": [image],
        "options": options,
        "answer": answer,
        "dataset": dataset,
        "subset": subset,
    }


MED_EVAL_ROWS = [
    _combined("VQA-RAD_test", "", ["yes", "no"], "no"),
    _combined("OmniMedVQA", "MR (Mag-netic Resonance Imaging)", "['CT', 'MRI', 'X-ray', 'PET']", "MRI"),
    _combined("MMMU_Medical_Validation", "validation_Public_Health", ["1", "2"], "2", "images/b.png"),
    _combined("MMMU_Medical_Validation", "validation_Pharmacy", [], "3.5", "images/b.png"),
]


def med_eval(root: Path) -> None:
    put_json(root, "medical_multimodel_evaluation_data.json", MED_EVAL_ROWS)
    put_zip(root, "images.zip", {"images/a b.png": picture(70, 71), "images/b.png": picture(72, 73)})


COPIES: dict[str, tuple[str, Callable[[Path], None], tuple[str, ...]]] = {
    "vgmed": ("vgmed", vgmed, ()),
    "vgmed-attribute": ("vgmed", vgmed, ("--split", "attribute")),
    "vgmed-early": ("vgmed", early, ()),
    "coco": ("coco", coco, ()),
    "coco-early": ("coco", early_coco, ()),
    "vqa-rad": ("vqa-rad", vqa_rad, ()),
    "vqa-rad-paper": ("vqa-rad", vqa_rad, ("--protocol", "paper")),
    "vqa-rad-parquet": ("vqa-rad", vqa_rad_parquet, ("--protocol", "huatuo")),
    "slake": ("slake", slake, ()),
    "path-vqa": ("path-vqa", path_vqa, ("--protocol", "llava-med")),
    "pmc-vqa": ("pmc-vqa", pmc_vqa, ()),
    "pmc-vqa-2": ("pmc-vqa", pmc_vqa, ("--split", "test_2")),
    "omnimedvqa": ("omnimedvqa", omnimedvqa, ()),
    "omnimedvqa-zip": ("omnimedvqa", omnimedvqa_zip, ()),
    "omnimedvqa-regrouped": ("omnimedvqa", omnimedvqa_regrouped, ("--split", "regrouped-test")),
    "mmmu-med": ("mmmu-med", mmmu_med, ()),
    "med-eval": ("med-eval", med_eval, ("--protocol", "huatuo")),
}
"""Copy -> benchmark, writer, and further arguments of the commands."""
