"""vgtool's own format, and files of many rows or large images."""

import io
import json
import random
import re
from pathlib import Path
from typing import Any

import layouts
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from copies import lettered, own, read
from layouts import picture, put, put_parquet
from PIL import Image

from vgtool.benchmarks import own as own_reader
from vgtool.benchmarks.load import load
from vgtool.benchmarks.sources import Files
from vgtool.errors import VgError
from vgtool.images import open_image

# ---- our own format --------------------------------------------------------------------------------------------------



def test_blank_options_at_the_end_are_no_options(tmp_path: Path) -> None:
    given = (["x", "y", " ", None], {"b": "y", "a": "x", "c": ""}, "['x', 'y', '']")
    found = own(tmp_path, *({"id": str(n), "choices": one, "answer": "B"} for n, one in enumerate(given)))
    assert [(sample.choices, sample.reference) for sample in found.samples] == [(("x", "y"), "y")] * 3


def test_own_rows_need_an_image_and_a_question_only(tmp_path: Path) -> None:
    found = own(tmp_path, {}, {"answer": "Yes"}, {"choices": ["x", "y"], "answer": "b"}, {"id": 7, "reference": "a"})
    assert [(s.question_type, s.reference) for s in found.samples] == [
        ("open", ""),
        ("closed", "Yes"),
        ("choice", "y"),
        ("open", "a"),
    ]
    assert found.samples[3].id == "7" and len({s.id for s in found.samples}) == 4


@pytest.mark.parametrize(
    "form,box", [(None, [2, 3, 5, 7]), ("xyxy", [2, 3, 5, 7]), ("xywh", [2, 3, 7, 10]), ("inclusive", [2, 3, 6, 8]),
                 ("xyxy-inclusive", [2, 3, 6, 8])]
)  # fmt: skip
def test_own_boxes_say_their_format(form: str | None, box: list[int], tmp_path: Path) -> None:
    found = own(tmp_path, {"boxes": [[2, 3, 5, 7]]} | ({"box_format": form} if form else {}))
    assert [b.as_list() for b in found.samples[0].boxes] == [box]
    forced = own(tmp_path, {"boxes": [[2, 3, 5, 7]], "box_format": form}, box_format="xywh")
    assert forced.samples[0].boxes[0].as_list() == [2, 3, 7, 10]


@pytest.mark.parametrize(
    "change,said",
    [
        ({"boxs": []}, "Did you mean 'boxes'"),
        ({"box_format": "xyhw", "boxes": [[1, 2, 3, 4]]}, "Did you mean 'xywh'"),
        ({"question": None}, "'question' is missing"),
        ({"question_type": "choice"}, "without choices"),
        ({"question_type": "opn"}, "question_type 'opn' is none of closed, choice, open"),
        ({"domain": "medial"}, "domain 'medial' is none of medical, natural"),
        ({"choices": ["x", "y"], "answer": "c"}, "no letter of 2 options"),
        ({"choices": ["x", "X!"], "answer": "x."}, "answer_ambiguous"),
        ({"choices": ["", "x", "y"], "answer": "B"}, "option A of 3 is blank"),
        ({"choices": {"A": "x", "B": None, "C": "y"}, "answer": "B"}, "option B of 3 is blank"),
        ({"choices": {"B": "x", "C": "y"}, "answer": "B"}, "lettered B, C, not from A on"),
        ({"mask": "../m.png"}, "image_outside_root"),
    ],
)
def test_a_bad_own_row_says_what_is_wrong(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    found = own(tmp_path, change, {})
    assert len(found.samples) == 1 and said in found.rejected[0].reason


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_half_a_character_costs_its_own_row(suffix: str, tmp_path: Path) -> None:
    rows = [
        {"id": "a", "image": "i.png", "question": "Is it \ud83d?"},
        {"id": "b\udfff", "image": "i.png", "question": "Is it?"},
        {"id": "c", "image": "i.png", "question": "Is it \U0001f9e0 \u00e9?", "answer": "\u2265 3"},
        ["\ud800"],
    ]
    put(tmp_path, "i.png", picture(10, 10))
    put(tmp_path, f"q.{suffix}", json.dumps(rows) if suffix == "json" else "\n".join(map(json.dumps, rows)))
    found = load(str(tmp_path / f"q.{suffix}"))
    assert [(one.question, one.reference) for one in found.samples] == [("Is it \U0001f9e0 \u00e9?", "\u2265 3")]
    assert len(found.rejected) == 3 and all("half of a surrogate pair" in row.reason for row in found.rejected)
    assert "".join(f"{row.id}{row.reason}{row.question}" for row in found.rejected).isascii()


def test_half_a_character_in_a_list_that_is_written_as_a_text_costs_its_own_row(tmp_path: Path) -> None:
    text = json.dumps(["\ud800", "x"])
    found = own(tmp_path, {"choices": text, "answer": "x"}, {"answer": text}, {"answer": "x"})
    assert len(found.samples) == 1 and ["surrogate" in row.reason for row in found.rejected] == [True, True]


def test_question_types_and_domains_are_read_in_any_case(tmp_path: Path) -> None:
    found = own(tmp_path, {"question_type": "CLOSED ", "domain": "Natural"}, {"question_type": "Open", "answer": "no"})
    assert [(s.question_type, s.domain) for s in found.samples] == [("closed", "natural"), ("open", "medical")]


def test_the_documented_own_rows_and_entry_load(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "docs" / "benchmarks.md").read_text()
    blocks = re.findall(r"(?:^    .*\n)+", text, re.M)
    rows = next(block for block in blocks if '"scans/a.png"' in block).replace(",\n", ",")
    entry = next(block for block in blocks if "ward7:" in block)
    put(tmp_path, "scans/a.png", picture(50, 60))
    put(tmp_path, "test.jsonl", rows)
    put(tmp_path, "benchmarks.yaml", entry.replace("\n    ", "\n").removeprefix("    "))
    found = load("ward7", data_root=tmp_path, registry=tmp_path, protocol="terse")
    assert [sample.prompt for sample in found.samples] == [
        "Is the heart enlarged? Yes or no?",
        lettered("Which organ is marked?", "liver", "spleen"),
    ]
    assert found.samples[1].reference == "spleen" and found.samples[1].boxes[0].as_list() == [10, 20, 40, 60]
    assert found.notes == ("2 rows, where 120 are published.",)


def test_own_parquet_holds_images_or_their_paths(tmp_path: Path) -> None:
    put(tmp_path, "b.png", picture(12, 13))
    stored = [
        {"image": {"bytes": picture(10, 11), "path": None}, "question": "A?", "boxes": [[1.0, 2.0, 3.0, 4.0]]},
        {"image": {"bytes": None, "path": "b.png"}, "question": "B?", "boxes": None},
    ]
    schema = pa.schema(
        [("image", layouts.IMAGE), ("question", pa.string()), ("boxes", pa.list_(pa.list_(pa.float64())))]
    )
    pq.write_table(pa.Table.from_pylist(stored, schema), tmp_path / "mine [1].parquet")
    samples = load(str(tmp_path / "mine [1].parquet")).samples
    assert [open_image(s.image).size for s in samples] == [(10, 11), (12, 13)]
    assert samples[0].boxes[0].as_list() == [1, 2, 3, 4] and samples[1].boxes == ()


def test_an_own_file_is_found_below_the_data_root(tmp_path: Path) -> None:
    put(tmp_path, "sets/mine.jsonl", json.dumps({"image": "a.png", "question": "A?", "answer": "yes"}))
    put(tmp_path, "sets/a.png", picture(12, 13))
    (sample,) = load("sets/mine.jsonl", data_root=tmp_path).samples
    assert open_image(sample.image).size == (12, 13)


def test_a_missing_own_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(VgError, match=r"No file 'none.jsonl'"):
        load("none.jsonl", data_root=tmp_path)


# ---- size ------------------------------------------------------------------------------------------------------------


def test_many_rows_are_loaded_without_opening_an_image_and_a_limit_looks_at_no_row_beyond_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        json.dumps(
            {"image": f"{n % 500}.png", "question": f"Is it {n}?", "choices": ["a", "b", "c", "d"], "answer": "B"}
        )
        for n in range(10_000)
    ]
    put(tmp_path, "big.jsonl", "\n".join(lines))
    monkeypatch.setattr("vgtool.images.read_bytes", lambda source: pytest.fail("opened an image"))
    looked, genuine = list[int](), own_reader.options_of
    monkeypatch.setattr(own_reader, "options_of", lambda *given, **more: looked.append(1) or genuine(*given, **more))
    found = load(str(tmp_path / "big.jsonl"))
    assert found.rows == 10_000 == len(looked) and not found.rejected
    looked.clear()
    assert load(str(tmp_path / "big.jsonl"), limit=10).rows == 10 == len(looked)


def test_a_parquet_file_of_one_large_row_group_is_walked_not_held(tmp_path: Path) -> None:
    noise = random.Random(0)
    rows = [
        {"image": {"bytes": noise.randbytes(400_000), "path": None}, "question": f"Is it {n}?", "answer": "yes"}
        for n in range(200)
    ]
    put_parquet(tmp_path, "data/test-00000-of-00001.parquet", rows, write_batch_size=4)
    assert pq.ParquetFile(tmp_path / "data/test-00000-of-00001.parquet").num_row_groups == 1
    whole = sum(len(row["image"]["bytes"]) for row in rows)
    del rows
    pa.default_memory_pool().release_unused()
    before = pa.total_allocated_bytes()
    samples = read("path-vqa", tmp_path).samples
    assert pa.total_allocated_bytes() - before < whole / 10
    peak = 0
    for n in [*range(200), 3, 150, 2]:
        assert len(samples[n].image.read()) == 400_000
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < whole / 3, (peak, whole)
    noise = random.Random(0)
    assert all(samples[n].image.read() == noise.randbytes(400_000) for n in range(40))


def test_a_palette_mask_and_a_deep_one_keep_their_values(tmp_path: Path) -> None:
    from vgtool.images import open_mask

    buffer = io.BytesIO()
    image = Image.new("P", (4, 3))
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.putpixel((1, 2), 2)
    image.save(buffer, "PNG")
    put(tmp_path, "m.png", buffer.getvalue())
    values = open_mask(Files([tmp_path]).source("m.png"))
    assert values[2, 1] == 2 and values.sum() == 2
