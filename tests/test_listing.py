"""Benchmarks checked, listed and fetched; entries of the registry."""

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import polars as pl
import pytest
from copies import SHORT, own, read, vgtool
from layouts import picture, put

from vgtool import registry
from vgtool.benchmarks.load import load
from vgtool.benchmarks.sources import Files
from vgtool.errors import Exit, VgError
from vgtool.images import open_image

# ---- checking, listing, fetching -------------------------------------------------------------------------------------


def test_check_counts_rows_types_groups_boxes_and_images(tmp_path: Path) -> None:
    layouts.slake(tmp_path / "slake")
    done = vgtool("benchmarks", "--check", "slake", "--data-root", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {key: found[key] for key in ("rows", "published", "usable", "rejected", "splits")} == {
        "rows": 7, "published": 1061, "usable": 7, "rejected": {}, "splits": {"test": 7}
    }  # fmt: skip
    assert found["question_types"] == {"closed": 4, "open": 3} and found["groups"] == {"X-ray": 5, "MRI": 2}
    assert found["boxes"] == {"rows": 5, "boxes": 6, "partly or wholly outside": 0}
    assert found["images"] == {"found": 2, "missing": 0}
    assert found["notes"] == ["7 rows, where 1,061 are published."]


def test_check_says_what_lies_outside_and_what_is_missing(tmp_path: Path) -> None:
    found = own(tmp_path, {"boxes": [[2, 3, 31, 7], [0, 0, 30, 20]]}, {"image": "gone.png"})
    done = vgtool("benchmarks", "--check", tmp_path / "mine.jsonl", "--rows", tmp_path / "rows.parquet")
    assert done.exit_code == 3 and "image_missing: 'gone.png'" in done.output
    assert re.search(r"partly or wholly outside +1\b", done.output) and re.search(r"images +missing +1\b", done.output)
    frame = pl.read_parquet(tmp_path / "rows.parquet")
    assert frame["id"].to_list() == [s.id for s in found.samples]
    assert frame["boxes"].to_list() == [[[2, 3, 31, 7], [0, 0, 30, 20]], []]
    assert frame["prompt"].to_list() == ["Is it?" + SHORT] * 2 and frame["error"].null_count() == 2


def test_rejected_rows_are_written_with_their_reason(tmp_path: Path) -> None:
    own(tmp_path, {}, {"boxs": []})
    vgtool("benchmarks", "--check", tmp_path / "mine.jsonl", "--rows", tmp_path / "rows.parquet")
    assert (
        pl.read_parquet(tmp_path / "rows.parquet")["error"].to_list()[1].startswith("malformed_row: unknown key 'boxs'")
    )


@pytest.mark.parametrize("number,code", [(errno.EACCES, Exit.USER), (errno.ENOSPC, Exit.BUG)])
def test_rows_that_cannot_be_written_are_one_sentence_without_a_file_that_nobody_named(
    number: int, code: Exit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(table: Any, where: Any) -> None:
        raise OSError(number, os.strerror(number), str(where))

    own(tmp_path, {})
    monkeypatch.setattr("pyarrow.parquet.write_table", refused)
    done = vgtool("benchmarks", "--check", tmp_path / "mine.jsonl", "--rows", tmp_path / "rows.parquet")
    assert isinstance(done.exception, VgError) and done.exception.exit_code == code
    said = f"Cannot write '{tmp_path / 'rows.parquet'}': {os.strerror(number)}. Choose another place for --rows."
    assert str(done.exception) == said and not [*tmp_path.glob(".rows*")]


def test_the_list_says_what_is_on_disk(tmp_path: Path) -> None:
    layouts.slake(tmp_path / "slake")
    layouts.path_vqa(tmp_path / "path-vqa")
    layouts.omnimedvqa_zip(tmp_path / "omnimedvqa")
    listed = json.loads(vgtool("benchmarks", "--data-root", tmp_path, "--json").stdout)
    on_disk = {one["benchmark"]: one["rows on disk"] for one in listed}
    assert (on_disk["slake"], on_disk["path-vqa"], on_disk["omnimedvqa"], on_disk["pmc-vqa"]) == (10, 4, 5, None)
    assert all(one["license"] and one["splits"] and one["protocols"] for one in listed)
    assert "path-vqa" in vgtool("benchmarks").stdout


def test_nothing_on_disk_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vgtool.benchmarks.fetch._cached", lambda spec: None)
    with pytest.raises(VgError, match="vgtool benchmarks --fetch slake"):
        load("slake")
    with pytest.raises(VgError, match=r"No 'train.json' .* for split 'train'"):
        read("slake", tmp_path, split="train")


class Hub:
    """Stands in for huggingface_hub.snapshot_download."""

    def __init__(self, write: Callable[[Path], None], fault: Exception | None = None) -> None:
        self.write, self.fault, self.calls = write, fault, list[dict[str, Any]]()

    def __call__(self, repo: str, **asked: Any) -> str:
        self.calls.append({"repo": repo, **asked})
        if self.fault is not None:
            raise self.fault
        self.write(asked["local_dir"])
        return str(asked["local_dir"])


def test_fetch_takes_the_files_of_the_split_only_and_then_they_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(layouts.pmc_vqa)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub)
    done = vgtool("benchmarks", "--fetch", "pmc-vqa", "--split", "test_2", "--data-root", tmp_path)
    assert done.exit_code == 0, done.output
    assert hub.calls == [
        {
            "repo": "RadGenome/PMC-VQA",
            "repo_type": "dataset",
            "revision": "main",
            "allow_patterns": ["test_2.csv", "images_2.zip"],
            "local_dir": tmp_path / "pmc-vqa",
            "local_files_only": False,
        }
    ]
    assert read("pmc-vqa", tmp_path, split="test_2").rows == 1


def test_fetch_offline_asks_the_disk_only_and_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(lambda folder: put(folder, "test_clean.csv", "x") and None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub)
    done = vgtool("benchmarks", "--fetch", "pmc-vqa", "--data-root", tmp_path, "--offline")
    assert isinstance(done.exception, VgError) and hub.calls[0]["local_files_only"] is True
    assert "'images.zip' of RadGenome/PMC-VQA is not on disk" in str(done.exception)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    vgtool("benchmarks", "--fetch", "pmc-vqa", "--data-root", tmp_path)
    assert hub.calls[1]["local_files_only"] is True


@pytest.mark.parametrize(
    "fault,said",
    [(OSError(28, "full"), "No room on disk"), (ConnectionError("no route"), "could not be fetched: no route.")],
)
def test_a_failed_fetch_is_one_sentence(
    fault: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", Hub(layouts.slake, fault))
    done = vgtool("benchmarks", "--fetch", "slake", "--data-root", tmp_path)
    assert isinstance(done.exception, VgError) and said in str(done.exception)


def test_generated_benchmarks_have_nothing_to_fetch() -> None:
    done = vgtool("benchmarks", "--fetch", "phantom")
    assert isinstance(done.exception, VgError) and "nothing to fetch" in str(done.exception)


def test_what_a_hub_snapshot_links_to_is_read(tmp_path: Path) -> None:
    blob = put(tmp_path, "datasets--x/blobs/abc", picture(5, 6))
    folder = tmp_path / "datasets--x" / "snapshots" / "main"
    folder.mkdir(parents=True)
    (folder / "a.png").symlink_to(os.path.relpath(blob, folder))
    assert open_image(Files([folder]).source("a.png")).size == (5, 6)


@pytest.mark.parametrize(
    "text,said",
    [
        ("  data: {tset: [a]}\n", "benchmarks.yaml:2: entry 'x': 'data' names split 'tset'"),
        ("  protocols: {p: {prompts: {closed: hello}}}\n", "the prompt for 'closed' has no {question}"),
        ("  protocols: {p: {rule: loose}}\n", "'protocols.p.rule' is 'loose'"),
        ("  protocols: {p: {max_new_tokens: 0}}\n", "'protocols.p.max_new_tokens' is 0"),
    ],
)
def test_a_bad_entry_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    head = "# mine\nx:\n  title: t\n  reader: own\n  domain: medical\n  splits: {all: null}\n  default_split: all\n"
    put(tmp_path, "benchmarks.yaml", head + text)
    with pytest.raises(VgError, match=re.escape(said)):
        registry.benchmarks(tmp_path)
