"""The wheel and the source archive: what is in them, and that the wheel alone runs the whole pipeline elsewhere."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from forked import HANGS

ROOT = Path(__file__).parent.parent
INSIDE = [
    "vgtool/models.yaml",
    "vgtool/benchmarks.yaml",
    "vgtool/models/phantom/weights/model.safetensors",
    "vgtool/models/phantom/weights/config.json",
    "vgtool/models/phantom/README.md",
    "vgtool/reporting/templates/browser.js",
    "vgtool/reporting/templates/picture.js",
    "vgtool/reporting/templates/tables.js",
    "vgtool/scoring/published.csv",
]
BESIDE = ["README.md", "LICENSE", "CITATION.cff", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "constraints.txt"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(wheel, source archive), the wheel made from the source archive as pip would make it."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def test_the_wheel_holds_the_registries_the_model_and_the_templates_and_no_tests(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = wheel.namelist()
    assert set(INSIDE) <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    outside = [name for name in names if not name.startswith("vgtool/") and ".dist-info/" not in name]
    assert not outside and not any("__pycache__" in name or "tests" in name for name in names)


def test_the_source_archive_holds_all_that_tests_and_docs_need(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        *BESIDE,
        "models.yaml",
        "tests/test_package.py",
        "docs/method.md",
        "scripts/study.sh",
        "perf/scale.py",
    } <= names
    assert not [
        name for name in names if name.startswith((".venv", ".demo", ".git/", "runs/")) or "__pycache__" in name
    ]


def test_the_wheel_alone_runs_the_pipeline_in_a_new_environment(built: tuple[Path, Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    install = ["install", "--quiet", "--no-deps", "--no-index", str(built[0])]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    # The dependencies (gigabytes) are lent by this environment; a path in a .pth file brings no .pth files of its own,
    # so this checkout is not lent along.
    inside = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
    ).stdout.strip()
    (Path(inside) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (tmp_path / "home").mkdir()
    env = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}

    def run(*args: str) -> str:
        done = subprocess.run([*args], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=HANGS)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run(str(python), "-c", "import vgtool; print(vgtool.__file__)").startswith(str(tmp_path / "env"))
    vgtool = str(tmp_path / "env" / "bin" / "vgtool")
    assert run(vgtool, "--version").startswith("vgtool ")
    assert "llava-med" in run(vgtool, "models", "--json") and "vqa-rad" in run(vgtool, "benchmarks", "--json")
    run(vgtool, "probe", "--model", "phantom-vlm", "--benchmark", "scenes", "--limit", "5", "--out", "run", "--offline")
    assert "phantom-vlm on scenes" in run(vgtool, "score", "run")
    run(vgtool, "report", "run", "--out", "report")
    assert (tmp_path / "report" / "index.html").is_file()
