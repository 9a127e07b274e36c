"""vgtool doctor: what it finds on this machine, and what it says of machines that lack something."""

import json
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from forked import vgtool

from vgtool import doctor
from vgtool.doctor import Device, Finding
from vgtool.registry import ModelSpec

BIG = ModelSpec(name="big", title="big", adapter="llava", hub="who/big", parameters=8.0, size_gb=16.0)
CPU, CARD, CARDS = Device("cpu", 64e9), Device("cuda", 12e9, 1), Device("cuda", 12e9, 4)


def run(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return vgtool("doctor", *args, cwd=cwd, env=env)


def worst(found: list[Finding], topic: str) -> Finding:
    return max((one for one in found if one.topic == topic), key=lambda one: ("ok", "note", "stop").index(one.level))


def test_nothing_stops_the_embedded_model_and_benchmark(tmp_path: Path) -> None:
    done = run("--model", "phantom-vlm", "--benchmark", "phantom", "--json", cwd=tmp_path, HF_TOKEN="hf_secret")
    assert done.returncode == 0, done.stderr
    found = {one["topic"]: one for one in json.loads(done.stdout)}
    assert {"versions", "extras", "devices", "cache", "offline", "token", "output", "model", "memory"} <= set(found)
    assert f"torch {metadata.version('torch')}" in done.stdout and "hf_secret" not in done.stdout
    assert found["benchmark"]["level"] == "ok" and not (tmp_path / "runs").exists()


def test_what_would_stop_a_run_is_exit_code_2_with_its_fix(tmp_path: Path) -> None:
    args = ("--model", "llava-med", "--benchmark", "vqa-rad")
    done = run(*args, cwd=tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "cache"))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("stop  model"))
    assert "llava-med" in lines[at] and "hf download microsoft/llava-med" in lines[at + 1]
    assert any(line.startswith("stop  benchmark") and "vqa-rad" in line for line in lines)
    assert lines[-1].endswith("would stop a run.") and lines[-1][0].isdigit()


def test_a_mistyped_model_is_a_stop_with_the_nearest_name(tmp_path: Path) -> None:
    found = doctor.examine("phantom-vl", None, out=tmp_path)
    assert worst(found, "model") == Finding(
        "model", "stop", "No model 'phantom-vl' in models.yaml, and no such folder.", "Did you mean 'phantom-vlm'?"
    )


def test_a_version_outside_the_range_stops_and_a_missing_extra_is_a_note() -> None:
    needs = ["torch>=2.6", "numpy>=1.26", 'pydicom>=3; extra == "dicom"', 'scipy>=9; python_version < "3"']
    found = doctor.versions(needs, {"torch": "2.1.0", "pydicom": "2.4"})
    assert [(one.level, one.what, one.fix) for one in found[1:]] == [
        ("stop", "torch 2.1.0 is installed, >=2.6 is needed", "pip install 'torch>=2.6'"),
        ("stop", "numpy is not installed", "pip install 'numpy>=1.26'"),
        ("note", "dicom: pydicom 2.4 is installed, >=3 is needed", "pip install 'vgtool[dicom]' where it is needed"),
    ]


@pytest.mark.parametrize(
    "changes,offline,token,free,level,said",
    [
        ({}, True, True, 99e9, "stop", "not on disk, and offline"),
        ({"gated": True}, False, False, 99e9, "stop", "gated, and there is no token"),
        ({"gated": True}, False, True, 99e9, "note", "will be fetched: 16 GB"),
        ({}, False, False, 15e9, "stop", "is 16 GB, and 15.0 GB are free"),
        ({}, False, False, 17e9, "note", "will be fetched"),
        ({"hub": None}, False, False, 99e9, "stop", "is not on disk"),
    ],
)
def test_a_model_that_cannot_be_had_says_why(
    changes: dict[str, object], offline: bool, token: bool, free: float, level: str, said: str
) -> None:
    found = doctor.model(BIG.model_copy(update=changes), None, CPU, free, offline=offline, token=token)
    one = worst(found, "model")
    assert one.level == level and said in one.what and one.fix


@pytest.mark.parametrize(
    "on,level,said",
    [
        (CPU, "ok", "32.0 GB of weights in float32, 64 GB on cpu"),
        (Device("cpu", 24e9), "stop", "--dtype bfloat16 halves it"),
        (CARD, "stop", "16.0 GB of weights in bfloat16, 12 GB on cuda"),
        (CARDS, "note", "--device-map auto spreads it over 4 cards."),
    ],
)
def test_memory_is_weights_in_their_dtype_against_the_device(on: Device, level: str, said: str) -> None:
    one = worst(doctor.model(BIG, None, on, 99e9, offline=False, token=False), "memory")
    assert one.level == level and said in f"{one.what} {one.fix}"


def test_a_file_where_the_output_should_go_stops_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert doctor.folder("output", tmp_path / "file" / "run", "fix").level == "stop"
    assert doctor.folder("output", tmp_path / "new" / "run", "fix").level in ("ok", "note")
    assert not (tmp_path / "new").exists()


def test_a_first_row_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"image": "gone.png"}\n')
    one = doctor.benchmark(str(tmp_path / "mine.jsonl"), None, "default", None, None)
    assert one.level == "note" and "question" in one.what
