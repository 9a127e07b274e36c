"""Rows of large files are kept as they were read, and only where they follow from the file alone."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
from PIL import Image

from vgtool.benchmarks import kept, own
from vgtool.benchmarks.load import Benchmark, load
from vgtool.records import Sample


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kept, "LEAST", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "vgtool" / "rows").glob("*"))


def written(folder: Path, rows: list[dict[str, Any]], more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(3):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(folder / f"{number}.png")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + more)
    return folder / "rows.jsonl"


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"q{n}", "image": f"{n % 3}.png", "question": f"Is finding {n} there? é", "answer": ("yes", "no")[n % 2]}
        | {"group": "CT", "boxes": [[1, 2, 3 + n % 30, 9.5]]}
        for n in range(count)
    ]


def refuse_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(request: object) -> NoReturn:
        raise AssertionError("the file was read again")

    monkeypatch.setattr(own, "read", read)


def told(one: Sample) -> tuple[object, ...]:
    values = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    return (values.pop("image").name, values.pop("mask") is None, *values.values())


def same(one: Benchmark, other: Benchmark) -> bool:
    names = [field.name for field in dataclasses.fields(one) if field.name != "samples"]
    assert [*map(told, one.samples)] == [*map(told, other.samples)]
    assert one.image_ids == other.image_ids
    return all(getattr(one, name) == getattr(other, name) for name in names)


@pytest.mark.parametrize("count", [1, 255, 256, 600])
def test_a_second_reading_gives_the_same_rows_without_reading_the_file(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "data", rows(count), 'not json\n{"id": "q0", "image": "0.png", "question": "again"}\n')
    first = load(str(path))
    assert len(first.samples) == count and len(first.rejected) == 2
    refuse_to_read(monkeypatch)
    second = load(str(path))
    assert same(first, second)
    assert second.samples[0].image.read() == (tmp_path / "data" / "0.png").read_bytes()


def test_another_file_limit_box_format_or_folder_is_read_anew(tmp_path: Path) -> None:
    path = written(tmp_path / "data", rows(9))
    assert len(load(str(path)).samples) == 9
    assert len(load(str(path), limit=4).samples) == 4
    assert load(str(path), box_format="xywh").samples[0].boxes[0].as_list() == [1, 2, 4, 11.5]
    assert load(str(path)).samples[0].boxes[0].as_list() == [1, 2, 3, 9.5]
    written(tmp_path / "data", rows(7))
    assert len(load(str(path)).samples) == 7
    assert len(files(tmp_path)) == 4


def test_at_most_four_are_kept_and_the_one_just_read_is_among_them(tmp_path: Path) -> None:
    for count in range(1, 7):
        written(tmp_path / "data", rows(count))
        load(str(tmp_path / "data" / "rows.jsonl"))
    assert len(files(tmp_path)) == 4


def test_a_damaged_one_is_read_anew_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "data", rows(300))
    first = load(str(path))
    for damage in (b"", b"PAR1", files(tmp_path)[0].read_bytes()[:-9]):
        files(tmp_path)[0].write_bytes(damage)
        assert same(first, load(str(path)))
    whole = files(tmp_path)[0].read_bytes()
    for at in (0, 40, len(whole) // 2, len(whole) - 300, len(whole) - 1):
        files(tmp_path)[0].write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert same(first, load(str(path)))
    refuse_to_read(monkeypatch)
    assert same(first, load(str(path)))


@pytest.mark.parametrize(
    "more",
    [
        {"mask": "1.png"},
        {"mask": "no such file.png"},
        {"slice": 0},
        {"window": "full"},
        {"boxes": [[0.1, 0.1, 0.5, 0.5]], "box_format": "normalised"},
        {"image": ""},
    ],
    ids=str,
)
def test_rows_that_need_a_look_at_other_files_are_never_kept(more: dict[str, Any], tmp_path: Path) -> None:
    path = written(tmp_path / "data", [*rows(3), rows(4)[3] | more])
    first = load(str(path))
    assert not files(tmp_path)
    assert same(first, load(str(path)))


def test_a_file_without_a_usable_row_or_with_half_a_sign_reads_as_it_did(tmp_path: Path) -> None:
    path = written(tmp_path / "data", [{"id": "a", "img": "0.png", "question": "Is it?"}])
    assert [len(load(str(path)).rejected) for _ in range(2)] == [1, 1]
    path = written(tmp_path / "data", [rows(1)[0] | {"id": "q\ud800"}])
    assert [len(load(str(path)).rejected) for _ in range(2)] == [1, 1]
    assert not files(tmp_path)


def test_a_disk_that_fills_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*paths: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vgtool.cached.os.replace", full)
    path = written(tmp_path / "data", rows(3))
    assert len(load(str(path)).samples) == 3
    assert not files(tmp_path)


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = written(tmp_path / "data", rows(3)), own.read

    def changing(request: Any) -> Any:
        written(tmp_path / "data", rows(5))
        return read(request)

    monkeypatch.setattr(own, "read", changing)
    assert len(load(str(path)).samples) == 5
    assert not files(tmp_path)


def test_a_user_without_a_home_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> NoReturn:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    path = written(tmp_path / "data", rows(3))
    assert same(load(str(path)), load(str(path)))


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file, where a folder would be")
    path = written(tmp_path / "data", rows(3))
    assert len(load(str(path)).samples) == 3
