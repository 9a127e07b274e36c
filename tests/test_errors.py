"""docs/errors.md is what a new user's mistakes really print: each is made, looked at, and held against the page.

VGTOOL_WRITE_DOCS=1 python -m pytest tests/test_errors.py        writes the page anew
"""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from forked import vgtool

PAGE = Path(__file__).parent.parent / "docs" / "errors.md"
P = "vgtool probe --model phantom-vlm --benchmark scenes --limit 3"
R = "vgtool refine --model phantom-vlm --benchmark phantom --limit 3"
SMALL_DISK = """import shutil
full = shutil._ntuple_diskusage(10**9, 10**9 - 10**5, 10**5)
shutil.disk_usage = lambda path: full"""
DELETED = """import shutil
from vgtool.runs.store import Store
mark = Store.mark
def late(store, shard):
    shutil.rmtree(store.root)
    mark(store, shard)
Store.mark = late"""
GATED = """import huggingface_hub
from huggingface_hub.errors import GatedRepoError
def refused(*args, **kwargs):
    raise GatedRepoError.__new__(GatedRepoError)
huggingface_hub.snapshot_download = refused"""
NO_ROUTE = """import huggingface_hub
def lost(*args, **kwargs):
    try:
        raise ConnectionError("no route to host")
    except ConnectionError as error:
        raise OSError("An error happened, see above") from error
huggingface_hub.snapshot_download = lost"""
HEAD = """# What goes wrong, and what is said

Every mistake below was made by `tests/test_errors.py`, which fails when this page and the program differ. Each is one
sentence that quotes the bad value, then what to do, on stderr, with exit code 2 and no traceback, before any result is
written. A traceback is a bug: please report it. Rows and images that cannot be used are no errors: the run goes on,
counts them and ends with exit code 3. A disk that is full or fails ends a run with exit code 1; what is written stays.
"""


@dataclass(frozen=True)
class Case:
    """A command as a user types it, what its complaint must quote, what the machine pretends (Python, run before)."""

    command: str
    quotes: str
    pretend: str = ""
    said: str = ""
    env: dict[str, str] = field(default_factory=dict)
    code: int = 2


CASES: dict[str, list[Case]] = {
    "A name that is not known": [
        Case("vgtool probe --model phantom-vl --benchmark scenes", "phantom-vl"),
        Case("vgtool probe --model phantom-vlm --benchmark scene", "scene"),
        Case(f"{P} --split calibraton", "calibraton"),
        Case(f"{P} --protocol papr", "papr"),
        Case(f"{R} --method vgrefin", "vgrefin"),
        Case(f"{R} --method vgrefine:percentil=20", "percentil"),
        Case(f"{R} --method vgrefine:percentile=half", "half"),
        Case(f"{P} --dtype float23", "float23"),
        Case("vgtool plan --model llava-med --benchmark phantom --card h2000", "h2000"),
        Case("vgtool score answers.jsonl --rule strikt", "strikt"),
        Case("vgtool score answers.jsonl --by modalty", "modalty"),
        Case("vgtool score answers.jsonl --format markdwn", "markdwn"),
        Case("vgtool score answers.jsonl --table acuracy", "acuracy"),
        Case("vgtool score answers.jsonl --column gian", "gian"),
        Case("vgtool score answers.jsonl --against basline", "basline"),
    ],
    "What the command line does not know": [
        Case("vgtool prob", "'prob'"),
        Case("vgtool probe --modle llava-med", "--modle"),
        Case(f"{P} --maps layer", "'layer'"),
        Case(f"{P} --row lst", "'lst'"),
        Case(f"{P} --ask boxes", "'boxes'"),
        Case("vgtool heads runs/half -o heads.json --metric rato", "'rato'"),
        Case("vgtool build --masks scans --out bench --group modalty", "'modalty'"),
        Case("vgtool build --masks scans --out bench --format nifty", "'nifty'"),
        Case("vgtool probe --limit many", "'many'"),
        Case("vgtool build --masks scans --out bench --grid 300", "'300'"),
        Case("vgtool build --masks scans --out bench --max-share 2", "--max-share"),
        Case("vgtool heads -o heads.json", "'run'"),
        Case("vgtool score runs/half --by", "--by"),
        Case("vgtool benchmarks --rows rows.parquet", "rows.parquet"),
        Case("vgtool score runs/half -q -v", "-q and -v"),
        Case(f"{P} --out ''", "--out"),
        Case("vgtool plan --model phantom-vlm --model llava-med", "2 are given"),
    ],
    "A value that cannot be": [
        Case(f"{P} --shard 3/2", "3/2"),
        Case("vgtool score answers.jsonl -o tables.xlsx", "tables.xlsx"),
        Case(f"{P} --batch-size many", "many"),
        Case(f"{P} --device tpu9", "tpu9"),
        Case(f"{P} --reliance --window 7", "7"),
        Case(f"{P} --ask box", "phantom-vlm"),
        Case(f"{P} --device meta", "meta"),
        Case(f"{P} --device-map balancd", "balancd"),
        Case(f"{P} --box-format corners", "corners"),
        Case("vgtool benchmarks --check boxes.jsonl --box-format xywhh", "xywhh"),
        Case("vgtool build --masks scans --out bench --splits train=0.8,test=0.5", "train=0.8,test=0.5"),
    ],
    "models.yaml and benchmarks.yaml": [
        Case("vgtool models --registry unknown-key", "adaptr"),
        Case("vgtool models --registry wrong-type", "'16'"),
        Case("vgtool benchmarks --registry wrong-rows", "many"),
        Case("vgtool benchmarks --registry wrong-rule", "lenient"),
        Case("vgtool models --registry broken", "broken/models.yaml:3"),
        Case("vgtool models --registry nowhere", "nowhere"),
    ],
    "Files that are not there, or not what they should be": [
        Case("vgtool probe --model phantom-vlm --benchmark vqa-rad", "vqa-rad"),
        Case("vgtool probe --model phantom-vlm --benchmark vqa-rad --data-root nowhere", "nowhere"),
        Case("vgtool probe --model phantom-vlm --benchmark mine.jsonl", "mine.jsonl"),
        Case("vgtool probe --model phantom-vlm --benchmark mine.xlsx", "mine.xlsx"),
        Case("vgtool probe --model empty --benchmark scenes", "empty"),
        Case("vgtool probe --model llama-3 --benchmark scenes", "llama-3"),
        Case("vgtool probe --model healthgpt --benchmark scenes", "healthgpt"),
        Case(f"{R} --heads none.json", "none.json"),
        Case(f"{R} --heads answers.jsonl", "answers.jsonl"),
        Case(R, "vgrefine"),
        Case("vgtool refine --model phantom-vlm --benchmark no-boxes.jsonl --method oracle", "no-boxes.jsonl"),
        Case("vgtool build --masks empty --out bench --format pairs", "empty"),
        Case("vgtool score nowhere", "nowhere"),
        Case("vgtool score", "vgtool score RUN"),
        Case("vgtool score no-columns.csv", "no-columns.csv"),
        Case("vgtool score mine.xlsx", "mine.xlsx"),
        Case("vgtool report empty", "empty"),
    ],
    "A run folder": [
        Case(f"{P} --out runs/probe --row text", '"text"', said="after the same command without `--row text`"),
        Case(f"{P[:-1]}2 --out runs/probe", "rows = 3", said="after the same command with `--limit 3`"),
        Case(f"{P} --out runs/probe --split test", '"calibration"', said="after the same on the split `calibration`"),
        Case("vgtool score runs/half", "runs/half", said="after `--shard 1/2` only"),
        Case("vgtool heads runs/half -o heads.json", "runs/half"),
        Case("vgtool look runs/probe scenes-0001", "scenes-0001"),
        Case("vgtool look runs/probe scenes-calibration-0000-tone --layer 9", "layer=9"),
        Case("vgtool look runs/probe scenes-calibration-0000-tone --model phantom-vlm", "--model"),
        Case(f"{P} --out /proc/nothing", "/proc/nothing"),
        Case(
            "vgtool probe --model phantom-vlm --benchmark scenes --out runs/full",
            "runs/full",
            SMALL_DISK,
            "on a disk with 0.1 MB left",
            code=1,
        ),
        Case(f"{P} --out runs/deleted", "No such file", DELETED, "its folder deleted meanwhile", code=1),
    ],
    "No GPU, no network, no license": [
        Case(f"{P} --device cuda", "cuda", env={"CUDA_VISIBLE_DEVICES": ""}, said="on a machine without a GPU"),
        Case("vgtool probe --model llava-med --benchmark scenes --offline", "llava-med"),
        Case(
            "vgtool probe --model llava-med --benchmark scenes",
            "llava-med",
            env={"HF_HUB_OFFLINE": "1"},
            said="with HF_HUB_OFFLINE=1",
        ),
        Case(
            "vgtool probe --model medgemma-4b --benchmark scenes",
            "medgemma",
            GATED,
            "before its terms are accepted",
        ),
        Case("vgtool benchmarks --fetch vqa-rad --offline", "vqa-rad"),
        Case("vgtool benchmarks --fetch vqa-rad", "no route to host", NO_ROUTE, "without a network"),
    ],
}


def call(case: Case, home: Path) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it in `home`, with an empty Hugging Face cache."""
    env = {"COLUMNS": "200", **case.env}
    if any(name.startswith("HF_") for name in case.env) or "llava-med" in case.command or case.pretend:
        env["HF_HOME"] = str(home / "cache")
    return vgtool(*shlex.split(case.command)[1:], cwd=home, env=env, pretend=case.pretend)


def furnish(home: Path) -> None:
    """The files that the commands name."""
    entry = "mine:\n  title: Mine\n  adapter: llava\n"
    bench = "mine:\n  title: Mine\n  reader: own\n  domain: medical\n  default_split: test\n  splits: {test: %s}\n%s"
    texts = {
        "unknown-key/models.yaml": "mine:\n  title: Mine\n  adaptr: llava\n",
        "wrong-type/models.yaml": entry + "  layers: '16'\n",
        "wrong-rows/benchmarks.yaml": bench % ("many", ""),
        "wrong-rule/benchmarks.yaml": bench % ("5", "  protocols:\n    default: {rule: lenient}\n"),
        "broken/models.yaml": "mine:\n  title: [Mine\n",
        "answers.jsonl": json.dumps({"question_type": "closed", "reference": "yes", "answer": "no"}) + "\n",
        "boxes.jsonl": json.dumps({"image": "a.png", "question": "?", "boxes": [[1, 2, 3, 4]]}) + "\n",
        "no-boxes.jsonl": json.dumps({"image": "a.png", "question": "?"}) + "\n",
        "no-columns.csv": "a,b\n1,2\n",
        "mine.xlsx": "a sheet",
        "empty/readme.txt": "",
        "llama-3/config.json": json.dumps({"model_type": "llava_llama", "vocab_size": 128256}),
        "healthgpt/com_hlora_weights.bin": "weights",
    }
    for name, text in texts.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text)
    for more in ("--out runs/probe", "--out runs/half --shard 1/2 --limit 40"):
        done = call(Case(f"{P} {more}", ""), home)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.CompletedProcess[str]]]:
    """Command (and what was pretended) -> what it printed."""
    home = tmp_path_factory.mktemp("user")
    furnish(home)
    cases = [case for several in CASES.values() for case in several]
    with ThreadPoolExecutor(2) as pool:
        yield dict(zip(map(repr, cases), pool.map(lambda case: call(case, home), cases), strict=True))


@pytest.mark.parametrize(
    "case", [case for several in CASES.values() for case in several], ids=lambda case: case.command
)
def test_a_mistake_is_one_line_that_quotes_the_bad_value_and_says_what_to_do(
    case: Case, printed: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    done = printed[repr(case)]
    lines = done.stderr.strip().splitlines()
    assert done.returncode == case.code, done.stderr
    assert len(lines) == 1 and lines[0].startswith("Error: "), done.stderr
    assert case.quotes in lines[0]
    _, _, advice = lines[0].removeprefix("Error: ").partition(". ")
    assert advice.endswith((".", "?")), "what is wrong, then what to do"


def test_the_page_holds_exactly_what_is_printed(printed: dict[str, subprocess.CompletedProcess[str]]) -> None:
    text = HEAD
    for title, cases in CASES.items():
        text += f"\n## {title}\n"
        for case in cases:
            note = f"  # {case.said}" if case.said else ""
            text += f"\n    $ {case.command}{note}\n    {printed[repr(case)].stderr.strip()}\n"
    if os.environ.get("VGTOOL_WRITE_DOCS"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text
