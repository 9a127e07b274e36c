"""Files that are bad in hundreds of ways cost their rows, by name; never a traceback, never another row."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from vgtool.commands import app
from vgtool.errors import SampleError
from vgtool.images import Names, image_size, open_binary, open_image, open_labels, open_region
from vgtool.records import ImageSource, View

pytest.importorskip("pydicom")
pytest.importorskip("nibabel")

from damaged import kinds

KINDS = kinds()
LEAST = 300
WORDS = ("mask_", "image_", "dicom_", "lfs_")


def source(kind: str) -> ImageSource:
    name, data = KINDS[kind]
    return ImageSource(name, lambda: data, view=View(slice=0) if name.endswith(".nii.gz") else View())


@pytest.fixture(scope="module")
def bad() -> dict[str, str]:
    """Kind -> code, of every file that holds no picture. One that still does gives RGB."""
    found = {}
    for kind in KINDS:
        try:
            image = open_image(source(kind))
        except SampleError as error:
            found[kind] = error.code
            assert KINDS[kind][0] in error.detail and "\n" not in error.detail, kind
        else:
            assert image.mode == "RGB" and image.size == image_size(source(kind)), kind
    return found


def test_hundreds_of_kinds_fail_by_name(bad: dict[str, str]) -> None:
    assert len(bad) >= LEAST and len(Counter(bad.values())) >= 8, Counter(bad.values())


def test_masks_fail_by_name_or_are_masks(bad: dict[str, str]) -> None:
    for kind in KINDS:
        for look in (open_binary, open_region, lambda one: open_labels(one, Names({1: "a"}))):
            try:
                assert np.asarray(look(source(kind))).ndim == 2, kind
            except SampleError as error:
                assert error.code.startswith(WORDS), kind


def test_a_run_over_a_folder_of_bad_files_ends_with_a_row_for_each(bad: dict[str, str], tmp_path: Path) -> None:
    lines = []
    for kind in bad:
        name, data = KINDS[kind]
        (tmp_path / name).write_bytes(data)
        row = {"id": kind, "image": name, "question": "Is it there?", "answer": "yes", "boxes": [[0, 0, 2, 2]]}
        lines.append(row | ({"slice": 0} if name.endswith(".nii.gz") else {}))
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
    benchmark = ["--benchmark", str(tmp_path / "q.jsonl")]
    run = ["probe", "--model", "phantom-vlm", *benchmark, "--out", str(tmp_path / "run"), "--offline"]
    done = CliRunner().invoke(app, run)
    assert done.exit_code == 3, done.output
    table = pl.concat([pl.read_parquet(part) for part in (tmp_path / "run" / "parts").glob("*.parquet")])
    found = dict(table.select("sample_id", "error").iter_rows())
    named = {kind.strip(): code for kind, code in bad.items()}  # ids are stripped
    assert {kind: error.split(":")[0] for kind, error in found.items()} == named
    checked = CliRunner().invoke(app, ["benchmarks", "--check", str(tmp_path / "q.jsonl"), "--json"])
    assert checked.exit_code == 3, checked.output
