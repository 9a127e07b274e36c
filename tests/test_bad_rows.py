"""What is broken in a published file costs its own row, or is one sentence."""

import json
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import pytest
from copies import read, read_copy, vgtool
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import picture, put, put_csv, put_json, put_zip

from vgtool import registry
from vgtool.benchmarks.load import reader
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.sources import Archive, Files, safe_name
from vgtool.errors import SampleError, VgError
from vgtool.images import open_image
from vgtool.records import Rejected, Sample

# ---- bad input -------------------------------------------------------------------------------------------------------


def _bomb(side: int = 50_000) -> bytes:
    """A PNG of a few kB that declares side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10_000))
        + chunk(b"IEND", b"")
    )


def test_bad_rows_and_images_cost_only_themselves_and_are_counted_in_the_table(tmp_path: Path) -> None:
    home = tmp_path / "data"
    data = home / "omnimedvqa"
    put(tmp_path, "secret.png", picture(10, 10))
    good = picture(64, 64)
    put(data, "Images/good.png", good)
    put(data, "Images/cut.png", picture(640, 640)[:-300])
    put(data, "Images/bomb.png", _bomb())
    put(data, "Images/text.png", "not a picture")
    put(data, "Images/pointer.png", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (data / "Images" / "link.png").symlink_to(tmp_path / "secret.png")

    def asked(number: int, image: str = "Images/good.png", **changed: Any) -> dict[str, Any]:
        made = layouts._omni("X", number, image, ["yes", "no"], "no", "X-Ray")
        return {key: value for key, value in (made | changed).items() if value is not None}

    rows: list[Any] = [
        asked(0),
        asked(1, "Images/gone.png"),
        asked(2, "Images/cut.png"),
        asked(3, "Images/bomb.png"),
        asked(4, "Images/text.png"),
        asked(5, "Images/pointer.png"),
        asked(6, "../secret.png"),
        asked(7, str(tmp_path / "secret.png")),
        asked(8, "Images/link.png"),
        asked(9, gt_answer="maybe"),
        asked(10, gt_answer="NO!", option_C="No."),
        asked(11, question=None),
        asked(0),
        "no row",
    ]
    put_json(data, "QA_information/Open-access/X.json", rows)
    common = ["--benchmark", "omnimedvqa", "--data-root", home, "--model", "phantom-vlm"]
    done = vgtool("refine", *common, "--method", "no-image", "--out", tmp_path / "run", "--json")
    assert done.exit_code == 3, done.output
    assert json.loads(done.stdout)["failed"] == {
        "image_missing": 1,
        "image_truncated": 1,
        "image_too_large": 1,
        "image_unreadable": 1,
        "lfs_pointer": 1,
        "image_outside_root": 3,
        "answer_not_an_option": 1,
        "answer_ambiguous": 1,
        "malformed_row": 2,
        "duplicate_id": 1,
    }
    scored = json.loads(vgtool("score", tmp_path / "run", "--json").stdout)
    first = {row["metric"]: row for row in scored if row["table"] == "accuracy" and row["method"] == "baseline"}
    assert first["failed"]["value"] == 13 and first["accuracy"]["n"] == 1
    checked = vgtool("benchmarks", "--check", "omnimedvqa", "--data-root", home, "--json")
    found = json.loads(checked.stdout)
    assert checked.exit_code == 3
    assert found["rejected"] == {
        "image_outside_root": 2,
        "malformed_row": 2,
        "answer_not_an_option": 1,
        "answer_ambiguous": 1,
        "duplicate_id": 1,
    }
    assert found["images"] == {"found": 6, "missing": 1}


@pytest.mark.parametrize(
    "name",
    ["../a.png", "a/../../b.png", "/etc/passwd", "~/a.png", "C:/a.png", "http://x/a.png", "file:///a", "a\0.png",
     "..\\a", "data:image/png;base64,AAAA", "", None, 5],
)  # fmt: skip
def test_hostile_image_paths_are_refused_before_anything_is_opened(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("opened"))
    with pytest.raises(SampleError, match=r"image_outside_root|image_missing"):
        safe_name(name)


@pytest.mark.parametrize("name", ["a b (1) [x] 50%.png", "ü/é.png", "a..b.png", "2:1.png"])
def test_odd_but_honest_paths_work_in_folders_and_archives(name: str, tmp_path: Path) -> None:
    put(tmp_path / "folder", unicodedata.normalize("NFD", name), picture(9, 8))
    assert open_image(Files([tmp_path / "folder"]).source(name)).size == (9, 8)
    put_zip(tmp_path / "zip", "images.zip", {f"images/{unicodedata.normalize('NFD', name)}": picture(9, 8)})
    files = Files([tmp_path / "zip"], ["", "images"], ["*.zip"])
    assert open_image(files.source(f"images/{name}")).size == open_image(files.source(name)).size == (9, 8)


def test_archives_are_read_without_their_traps(tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (
            "../out.png",
            "/abs.png",
            "a/../../b.png",
            "C:/d.png",
            "fine.png",
            "__MACOSX/._fine.png",
            "._fine.png",
        ):
            archive.writestr(name, b"x")
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bomb.png", b"\0" * 30_000_000)
    archive_read = Archive(path)
    assert set(archive_read.names()) == {"fine.png", "bomb.png"}
    with pytest.raises(SampleError, match="archive_member_refused"):
        archive_read.read("bomb.png")
    data = bytearray(path.read_bytes())
    at = data.index(b"fine.png") + len("fine.png")
    data[at : at + 3] = b"\xff\xff\xff"
    path.write_bytes(data)
    with pytest.raises(SampleError, match="archive_member_unreadable"):
        Archive(path).read("fine.png")


BROKEN: list[tuple[str, str | bytes, str]] = [
    ("test.json", '[{"qid": 1', "is not JSON"),
    ("test.json", '{"qid": 1}', "does not hold a list"),
    ("test.json", "version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ("test.json", "", "is empty"),
    ("test.json", b"\xff\xfe[", "is not UTF-8"),
    ("test.json", "[" * 100_000, "nested too deeply|is not JSON"),
    ("imgs.zip", "version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ("imgs.zip", "PK\x03\x04 cut", "cannot be read as a zip archive"),
]


@pytest.mark.parametrize("name,content,said", BROKEN)
def test_a_broken_file_is_one_sentence(name: str, content: str | bytes, said: str, tmp_path: Path) -> None:
    layouts.slake(tmp_path)
    put(tmp_path, name, content)
    with pytest.raises(VgError, match=said):
        read("slake", tmp_path)


@pytest.mark.parametrize("name", ["vgmed", "coco"])
def test_an_unreadable_archive_that_a_pattern_finds_is_skipped_and_named(name: str, tmp_path: Path) -> None:
    whole = read_copy(name, tmp_path)
    put(tmp_path, "PolypDB.zip", b"PK\x03\x04 cut short")
    put(tmp_path, "SA-Med2D-20M.zip", b"the last part")
    put(tmp_path, "SA-Med2D-20M.z01", b"the first part")
    found = read(name, tmp_path, split="attribute+localization")
    assert read(name, tmp_path).digest == whole.digest and not found.rejected
    skipped = [note for note in found.notes if note.startswith("Skipped: ")]
    assert len(skipped) == 2 and skipped[0].startswith("Skipped: 'PolypDB.zip' cannot be read as a zip archive")
    assert "'SA-Med2D-20M.zip'" in skipped[1] and "zip -s 0 SA-Med2D-20M.zip --out full.zip" in skipped[1]
    checked = vgtool("benchmarks", "--check", name, "--data-root", tmp_path)
    assert checked.exit_code == 0 and "'PolypDB.zip'" in checked.output


def test_a_broken_parquet_file_is_one_sentence(tmp_path: Path) -> None:
    layouts.path_vqa(tmp_path)
    path = tmp_path / "data" / "test-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(VgError, match=r"'test-00001-of-00002\.parquet' is not readable as Parquet"):
        read("path-vqa", tmp_path)


def test_a_csv_row_with_too_few_or_too_many_fields_fails_alone(tmp_path: Path) -> None:
    layouts.pmc_vqa(tmp_path)
    with (tmp_path / "test_clean.csv").open("a") as file:
        file.write("PMC1_Fig1.jpg,short\r\nPMC1_Fig1.jpg,Q,CT,A,B,C,D,A,one,too,many\r\n")
    found = read("pmc-vqa", tmp_path)
    assert len(found.samples) == 2
    assert [row.reason.split(" (")[0] for row in found.rejected] == [
        "malformed_row: not as many fields as the header names"
    ] * 2


@pytest.mark.parametrize(
    "change,code",
    [
        ({"Answer_label": "E"}, "answer_not_an_option"),
        ({"Answer_label": "A", "Answer": "PET"}, "answer_ambiguous"),
        ({"Choice D": " "}, "malformed_row"),
        ({"Question": ""}, "malformed_row"),
        ({"Figure_path": "../x.jpg"}, "image_outside_root"),
    ],
)
def test_a_pmc_row_without_one_right_option_fails(change: dict[str, str], code: str, tmp_path: Path) -> None:
    put_csv(tmp_path, "test_clean.csv", [layouts.PMC_1[1] | change, layouts.PMC_1[0]])
    found = read("pmc-vqa", tmp_path)
    assert [row.reason.split(":")[0] for row in found.rejected] == [code] and len(found.samples) == 1


def test_options_are_literals_and_never_evaluated(tmp_path: Path) -> None:
    target = tmp_path / "made"
    attack = f"[__import__('pathlib').Path({str(target)!r}).touch()]"
    put_json(tmp_path, "medical_multimodel_evaluation_data.json", [layouts._combined("OmniMedVQA", "", attack, "x")])
    found = read("med-eval", tmp_path)
    assert [row.reason.split(":")[0] for row in found.rejected] == ["malformed_row"] and not target.exists()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["A", "[1]", "{"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
FUZZED: dict[str, tuple[str, str, Callable[[Path], None], dict[str, Any]]] = {
    "vgmed": ("VGMED_localization.jsonl", "localization", layouts.vgmed, layouts.VGMED_ROWS[0]),
    "vqa-rad": ("VQA_RAD Dataset Public.json", "test", layouts.vqa_rad, layouts.RAD_ROWS[0]),
    "slake": ("test.json", "test", layouts.slake, layouts.SLAKE_ROWS[0]),
    "omnimedvqa": ("t_test.json", "regrouped-test", layouts.omnimedvqa_regrouped, layouts.REGROUPED[0]),
    "med-eval": ("medical_multimodel_evaluation_data.json", "all", layouts.med_eval, layouts.MED_EVAL_ROWS[1]),
}


@pytest.mark.parametrize("name", FUZZED)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(changes=st.data())
def test_whatever_a_row_holds_it_is_a_sample_or_a_reason(
    name: str, changes: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file, split, write, whole = FUZZED[name]
    root = tmp_path_factory.mktemp("fuzz")
    write(root)
    field = changes.draw(st.sampled_from(sorted(whole)))
    broken = {**whole, field: changes.draw(VALUES)}
    # A file of both splits holds rows of both, whatever becomes of the broken one.
    beside = [{**whole, "phrase_type": kind} for kind in ("freeform", "test_freeform")] if name == "vqa-rad" else []
    put(root, file, json.dumps(broken) if file.endswith("l") else json.dumps([broken, *beside]))
    spec = registry.benchmarks()[name]
    rows = list(reader(spec.reader)(Request(spec, split, spec.protocols["default"], root)))
    assert all(isinstance(one, Sample | Rejected) and one.id for one in rows)
