"""Many processes: shards from accelerate and Slurm, signals and requeues, plans, progress, a model over devices."""

import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

import at_hand
import numpy as np
import polars as pl
import pytest
import torch
from checkpoints import tiny_llava
from faults import benchmark
from forked import HANGS, end, start, until, vgtool
from PIL import Image
from rich.console import Console

from vgtool import console
from vgtool.errors import VgError
from vgtool.runs import cluster, memory, plan, progress
from vgtool.runs.cluster import Place, place
from vgtool.runs.store import Shard, Store

ROOT = Path(__file__).resolve().parent.parent
PROBE = ["probe", "--model", "phantom-vlm", "--benchmark", "scenes", "--limit", "120"]
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def table(run: Path) -> pl.DataFrame:
    """The rows as they lie there; a row written twice is there twice."""
    return pl.concat([pl.read_parquet(part) for part in (run / "parts").glob("*.parquet")]).sort("sample_id")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The table of one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    done = vgtool(*PROBE, "--out", out)
    assert done.returncode == 0, done.stderr
    return table(out)


# ---- whose share -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text,env,expected",
    [
        ("auto", {}, Place(Shard(1, 1))),
        ("auto", {"WORLD_SIZE": "8"}, Place(Shard(1, 1))),
        ("auto", {"RANK": "0", "WORLD_SIZE": "1"}, Place(Shard(1, 1))),
        ("auto", {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Place(Shard(6, 8), 1, True)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}, Place(Shard(1, 1))),
        (
            "auto",
            {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "2", "TORCHELASTIC_RUN_ID": "none"},
            Place(Shard(3, 4), 2, True),
        ),
        (
            "auto",
            {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
            Place(Shard(4, 4), 1, True),
        ),
        ("auto", {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1"}, Place(Shard(2, 2), 1, True)),
        ("auto", {"PMI_RANK": "0", "PMI_SIZE": "1"}, Place(Shard(1, 1))),
        ("auto", {"JOB_COMPLETION_INDEX": "7", "JOB_COMPLETIONS": "8"}, Place(Shard(8, 8))),
        ("lsf", {"LSB_JOBINDEX": "1", "LSB_JOBINDEX_END": "8", "LSB_JOBINDEX_STEP": "1"}, Place(Shard(1, 8))),
        ("lsf", {"LSB_JOBINDEX": "8", "LSB_JOBINDEX_END": "8"}, Place(Shard(8, 8))),
        ("2/4", {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Place(Shard(2, 4), 1)),
        ("slurm", {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "8"}, Place(Shard(1, 8))),
        (
            "slurm",
            {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1",
             "SLURM_ARRAY_TASK_STEP": "2"},
            Place(Shard(4, 4)),
        ),
        (
            "slurm",
            {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_PROCID": "3",
             "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1"},
            Place(Shard(8, 8), 1),
        ),
    ],
)  # fmt: skip
def test_a_process_finds_its_share_in_its_environment(text: str, env: Mapping[str, str], expected: Place) -> None:
    assert place(text, env) == expected


GAPS = {"SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "7"}
"""--array=0,3,7, as Slurm 22.05 tells its tasks."""


@pytest.mark.parametrize(
    "text,env,said",
    [
        ("slurm", {}, "SLURM_ARRAY_TASK_ID is not set"),
        ("slurm", {"SLURM_ARRAY_TASK_ID": "x"}, "SLURM_ARRAY_TASK_ID='x' in the environment is no number"),
        ("slurm", {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "2"}, "is none of 2 tasks"),
        ("slurm", GAPS | {"SLURM_ARRAY_TASK_ID": "0"}, "Array task 0 is none of 3 tasks from 0 in steps of 1"),
        ("auto", {"RANK": "8", "WORLD_SIZE": "8"}, "RANK=8 is not below WORLD_SIZE=8"),
        ("auto", {"JOB_COMPLETION_INDEX": "7"}, "JOB_COMPLETION_INDEX=7, but JOB_COMPLETIONS is not set"),
        ("lsf", {"LSB_JOBINDEX": "0"}, "--shard lsf, but LSB_JOBINDEX is not set"),
        ("lsf", {"LSB_JOBINDEX": "4", "LSB_JOBINDEX_END": "8", "LSB_JOBINDEX_STEP": "3"}, "in steps of 3 has no share"),
        ("0/4", {}, "--shard '0/4' is not I/N"),
        ("²/4", {}, "is not I/N"),
    ],
)
def test_an_impossible_share_is_one_sentence(text: str, env: Mapping[str, str], said: str) -> None:
    with pytest.raises(VgError, match=said):
        place(text, env)


def test_every_array_task_of_a_sparse_array_has_its_own_shard() -> None:
    names = {"SLURM_ARRAY_TASK_COUNT": "5", "SLURM_ARRAY_TASK_MIN": "2", "SLURM_ARRAY_TASK_STEP": "3"}
    found = [place("slurm", {**names, "SLURM_ARRAY_TASK_ID": str(task)}).shard for task in range(2, 17, 3)]
    assert found == [Shard(i, 5) for i in range(1, 6)]


def test_each_rank_of_a_node_takes_its_own_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    env = {"RANK": "6", "WORLD_SIZE": "8", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "4"}
    assert cluster.device(None, None, env) == "cuda:2" == cluster.device("cuda", None, env)
    srun = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "6", "SLURM_LOCALID": "2"}
    assert cluster.device(None, None, srun) == "cuda:2" and cluster.device(None, None, {"SLURM_LOCALID": "2"}) is None
    assert cluster.device("cpu", None, env) == "cpu" and cluster.device("cuda:0", None, env) == "cuda:0"
    assert cluster.device(None, None, {}) is None
    with pytest.raises(VgError, match="4 processes were started on it"):
        cluster.device(None, "auto", env)


def test_rank_0_waits_for_every_mark_and_names_the_shards_that_never_came(tmp_path: Path) -> None:
    store, now = Store(tmp_path), [0.0]
    store.open("probe", {}, [])
    store.mark(Shard(1, 3))
    store.mark(Shard(2, 2))  # of an earlier launch with two processes

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] == 20:
            store.mark(Shard(3, 3))

    settings = {"every": 10.0, "quiet": 100.0, "clock": lambda: now[0], "sleep": sleep}
    assert cluster.wait(store, 3, lambda: False, **settings) == [Shard(2, 3)]  # type: ignore[arg-type]
    assert now[0] > 120, "something new appeared at 20 and started the count again"
    assert cluster.wait(store, 3, lambda: True, **settings) == [Shard(2, 3)]  # type: ignore[arg-type]
    store.mark(Shard(2, 3))
    assert cluster.wait(store, 3, lambda: False, **settings) == []  # type: ignore[arg-type]


# ---- accelerate --------------------------------------------------------------------------------------------------


@pytest.fixture
def bin(tmp_path: Path) -> Iterator[Path]:
    """A folder with a vgtool that starts at once."""
    folder = tmp_path / "bin"
    folder.mkdir()
    with at_hand.vgtool(folder / "vgtool"):
        yield folder


LAUNCH = """import sys
from accelerate.commands.launch import main
sys.argv = ["accelerate", *{words!r}]
main()
sys.exit()"""


def launch(processes: int, bin: Path, out: Path, err: Path) -> BaseProcess:
    words = ["--multi_gpu", "--num_machines", "1", "--num_processes", str(processes), "--mixed_precision", "no"]
    words += ["--dynamo_backend", "no", "--main_process_port", "0", "--no_python", str(bin / "vgtool"), *PROBE]
    return start(pretend=LAUNCH.format(words=[*words, "--out", str(out)]), out=err.with_suffix(".out"), err=err)


def test_a_killed_rank_costs_its_open_part_and_another_number_of_ranks_finishes(
    tmp_path: Path, bin: Path, alone: pl.DataFrame
) -> None:
    out, notes, err, found = tmp_path / "run", tmp_path / "run" / "open", tmp_path / "err", list[str]()
    first = launch(2, bin, out, err)

    def noted() -> list[str]:
        found.extend(path.name for path in (notes.iterdir() if notes.is_dir() else ()))
        return found

    until(noted, first)
    os.kill(int(found[0].split("-")[3]), signal.SIGKILL)
    assert end(first) != 0
    assert len(list((out / "done").glob("*of2"))) < 2
    assert end(launch(3, bin, out, err)) == 0, err.read_text()
    assert "All 3 shards are done" in err.read_text() and err.with_suffix(".out").read_text() == ""
    assert table(out).equals(alone)


# ---- Slurm -------------------------------------------------------------------------------------------------------


@pytest.fixture
def slurm(tmp_path: Path, bin: Path) -> Path:
    """A folder of commands that write down how they were called; sbatch answers with job numbers."""
    log = tmp_path / "calls"
    log.touch()
    commands = {
        "scontrol": f'[[ $2 == show ]] && echo "JobState=RUNNING TimeLimit=01:00:00" || echo "scontrol $*" >> {log}',
        "srun": 'while [[ $1 == -* ]]; do shift; done; exec "$@"',
        "sbatch": f'echo "$*" >> {log}; wc -l < {log}',
    }
    for name, text in commands.items():
        (bin / name).write_text(f"#!/bin/bash\n{text}\n")
        (bin / name).chmod(0o755)
    return bin


def task(slurm: Path, index: int, out: Path) -> "subprocess.Popen[str]":
    """One task of an array of two, as Slurm starts it."""
    env = {**ENV, "PATH": f"{slurm}:{os.environ['PATH']}", "SLURM_ARRAY_JOB_ID": "77", "SLURM_JOB_ID": f"{77 + index}"}
    env |= {"SLURM_ARRAY_TASK_ID": str(index), "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "0"}
    env["SLURM_ARRAY_TASK_MAX"] = "1"
    command = ["bash", ROOT / "scripts" / "array.sbatch", *PROBE, "--out", out]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


def test_an_array_task_warned_of_its_time_limit_is_requeued_and_goes_on(
    tmp_path: Path, slurm: Path, alone: pl.DataFrame
) -> None:
    out, calls = tmp_path / "run", tmp_path / "calls"
    first = task(slurm, 0, out)
    until(lambda: first.poll() is not None or ((out / "open").is_dir() and list((out / "open").iterdir())))
    first.send_signal(signal.SIGUSR1)  # what --signal=B:USR1@300 sends to the script
    _, said = first.communicate(timeout=HANGS)
    assert first.returncode == 0 and "Stopped; the same command goes on from here" in said
    assert calls.read_text() == "scontrol requeue 77_0\n"
    assert not (out / "done" / "1of2").exists()
    running = [task(slurm, index, out) for index in (0, 1)]
    assert [one.wait(HANGS) for one in running] == [0, 0]
    assert calls.read_text() == "scontrol requeue 77_0\n" and len(list((out / "done").iterdir())) == 2
    assert table(out).equals(alone)


def study(slurm: Path, where: Path, text: str, **names: str) -> "subprocess.CompletedProcess[str]":
    """scripts/study.sh over a study file of that text."""
    (where / "study.yaml").write_text(text)
    env = {**ENV, "PATH": f"{slurm}:{os.environ['PATH']}", **names}
    command = ["bash", ROOT / "scripts" / "study.sh", "study.yaml"]
    return subprocess.run(command, env=env, cwd=where, capture_output=True, text=True)


def test_the_study_is_submitted_with_its_dependencies(tmp_path: Path, slurm: Path) -> None:
    text = "models: [a, {model: b, cards: 2}]\nbenchmarks: [x, y]\nheads: coco\nprobe: [vgmed]\n"
    done = study(slurm, tmp_path, text, SHARDS="4")
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 2 * (3 + 2) + 2
    assert "--array=0-3" in calls[0] and "probe --model a" in calls[0] and "--dependency" not in calls[0]
    assert "afterok:1 " in calls[2] and "study study.yaml --step heads-a" in calls[2]
    assert all("afterok:3 " in call and "--heads runs/heads-a.json" in call for call in calls[3:5])
    for last, name in zip(calls[-2:], ("score", "report"), strict=True):
        assert "afterok:1:2:3:4:5:6:7:8:9:10 " in last and f"--step {name}" in last
    large = [("--gpus-per-task=2" in call, "--device-map auto" in call) for call in calls if "array.sbatch" in call]
    assert large == [(False, False)] * 4 + [(True, True)] * 4, "two cards for what asks for two, one for the rest"


def test_the_study_names_every_model_that_has_a_checkpoint_and_every_benchmark_with_answers() -> None:
    from vgtool.registry import benchmarks, models
    from vgtool.runs.study import read

    named = read(ROOT / "scripts" / "study.yaml")
    paper = {"huatuogpt-vision-7b", "huatuogpt-vision-34b", "llava-med", "llava-tri", "vila-m3-8b", "vila-m3-13b"}
    assert {one.model for one in named.models} == {*paper, "medrega"} <= models().keys()
    later = {"med-eval", "medxpertqa", "medframeqa", "mmmu-pro-med", "medbookvqa", "radimagenet-vqa", "medthinkvqa"}
    answered = {n for n, one in benchmarks().items() if one.has_answers and one.hub} - later  # the paper's
    assert {one.benchmark for one in named.benchmarks} == answered


def test_the_study_runs_from_its_submission_to_its_tables_and_page(tmp_path: Path, slurm: Path) -> None:
    """sbatch runs each job at once, array tasks one after the other: every dependency is met by then, or it fails."""
    (slurm / "sbatch").write_text(
        f"""#!/bin/bash
echo "$*" >> {tmp_path}/calls
while [[ $1 == -* ]]; do
    case $1 in
        --array=0-*) last=${{1#--array=0-}} ;;
        --wrap) bash -c "$2" >&2 || exit 1; wc -l < {tmp_path}/calls; exit ;;
    esac
    shift
done
for ((task = 0; task <= last; task++)); do
    export SLURM_JOB_ID=9 SLURM_ARRAY_JOB_ID=9 SLURM_ARRAY_TASK_MAX=$last
    SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=$((last + 1)) SLURM_ARRAY_TASK_MIN=0 bash "$@" >&2 || exit 1
done
wc -l < {tmp_path}/calls
"""
    )
    text = "models: [phantom-vlm]\nbenchmarks: [phantom]\nmethods: [vgrefine, random-keep]\nlimit: 6\n"
    done = study(slurm, tmp_path, text + "heads: {benchmark: scenes, k: 4}\nprobe: [phantom]\n", SHARDS="2")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "report" / "index.html").is_file()
    assert "| random-keep | 6 |" in (tmp_path / "runs" / "tables.md").read_text()
    assert [len(list((run / "done").iterdir())) for run in (tmp_path / "runs").glob("*-phantom-vlm-*")] == [2, 2, 2]


def test_the_scripts_are_shellcheck_clean() -> None:
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert shellcheck is not None, "it comes with the dev extra"
    scripts = [path for path in (ROOT / "scripts").iterdir() if path.suffix in (".sbatch", ".sh", ".lsf")]
    assert len(scripts) == 5
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_script_is_valid_bash() -> None:
    for script in (path for kind in ("*.sbatch", "*.sh", "*.lsf") for path in (ROOT / "scripts").glob(kind)):
        assert subprocess.run(["bash", "-n", script]).returncode == 0


# ---- plan --------------------------------------------------------------------------------------------------------


def test_a_plan_of_one_image_is_worked_by_hand() -> None:
    rows = benchmark(images=1, per=1, rejected=1)
    shape = memory.Shape(1e9, 2.0, 10, 8, 256, 100, 1024)
    found = plan.estimate(rows.samples, rows.rejected, shape, plan.Card(1e12, 1e11, 8e9, 0.5, 0.001), methods=1)
    assert (found.samples, found.rejected, found.images, found.image_tokens) == (1, 1, 1, 100)
    question, general = 40 + 1, 40 + 23  # "? " and the 92 characters of the general prompt, four to a token
    assert found.prompt_tokens == 100 + general + 3 * question, (
        "for the baseline, the method, and the method's deletion"
    )
    assert found.answer_tokens == 2 * plan.ANSWER_TOKENS
    assert found.flops == (found.prompt_tokens + 16) * (2e9 + 4 * 10 * 256 * 100)
    assert found.seconds == pytest.approx(found.flops / 0.5e12 + 8 * 2e9 / 1e11)
    slow = plan.estimate(rows.samples, rows.rejected, shape, plan.Card(1e12, 1e11, 8e9, 0.5, 0.1), methods=1)
    assert slow.seconds == pytest.approx(3 * 10 * 0.1 + 16 * (2e9 + 4 * 10 * 256 * 100) / 0.5e12 + 8 * 10 * 0.1)
    assert found.shards == [(1, 1, found.prompt_tokens)]


def test_plan_speaks_before_any_model_is_loaded() -> None:
    code = "import sys; from vgtool.commands import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'transformers'} & set(sys.modules)"
    args = ["plan", "--model", "phantom-vlm", "--benchmark", "phantom", "--shards", "3", "--json"]
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["samples"], found["images"], found["answer_tokens"]) == (2000, 400, 0)
    assert sum(samples for samples, _, _ in found["shards"]) == 2000 and len(found["shards"]) == 3
    assert sum(tokens for _, _, tokens in found["shards"]) == found["prompt_tokens"]


@pytest.mark.parametrize(
    "seconds,text", [(0.2, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (180000, "2 d 2 h")]
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert plan.duration(seconds) == text


def test_an_unknown_card_is_explained() -> None:
    with pytest.raises(VgError, match="Did you mean 'h200'"):
        plan.card("h20")


# ---- progress ----------------------------------------------------------------------------------------------------


def test_a_log_gets_a_line_at_growing_intervals_with_what_is_left() -> None:
    now, lines = [0.0], list[str]()
    log = progress.Log("probe 1of2", lines.append, lambda: now[0])
    for second in range(1, 301):
        now[0] = float(second)
        log(2 * second, second // 100, 400, 1400)
    assert len(lines) == 6, lines  # 10, 30, 70, 130, 190, 250 s
    assert lines[0] == "probe 1of2: 420 of 1400 done, 0 failed, 2.0/s, 8 min 10 s left"
    assert lines[-1] == "probe 1of2: 900 of 1400 done, 2 failed, 2.0/s, 4 min 10 s left"


def test_slow_work_is_told_by_the_minute_and_nothing_done_has_no_rate() -> None:
    assert progress.line("refine", 3, 0, 0, 9, 90.0).endswith("2.0/min, 3 min 0 s left")
    assert progress.line("refine", 0, 0, 5, 9, 90.0).endswith("0.0/min, unknown left")


def test_a_terminal_gets_a_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=shown, force_terminal=True, width=120))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.reporting("probe") as report:
        report(3, 1, 4, 10)
        until(lambda: "7 of 10 done, 1 failed" in shown.getvalue())
    assert "\x1b[" in shown.getvalue()


SHOWN = """from vgtool import console
console.err.is_interactive = True  # rich looks when a console is made, which the server has done without a terminal
from rich.progress import Progress
update = Progress.update
def shown(self, *given, **more):
    update(self, *given, **more)
    self.refresh()
Progress.update = shown"""
"""Every update is drawn, not those alone that stand for a quarter of a second."""


def test_progress_goes_to_the_terminal_and_nothing_to_stdout(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    printed = tmp_path / "out"
    terminal = Path(os.ttyname(theirs))
    child = start(*PROBE[:-1], "10", "--out", tmp_path / "run", pretend=SHOWN, out=printed, err=terminal)
    until(printed.exists, child)
    os.close(theirs)
    shown = b""
    while True:
        try:
            some = os.read(ours, 4096)
        except OSError:  # the other side has closed
            break
        if not some:
            break
        shown += some
    os.close(ours)
    assert end(child) == 0 and printed.read_bytes() == b""
    assert b"of 10 done" in shown and b"10 samples run" in shown


# ---- a model over devices ----------------------------------------------------------------------------------------


def test_a_model_split_over_memory_and_disk_gives_the_same_rows_and_answers(tmp_path: Path) -> None:
    from accelerate import dispatch_model

    from vgtool.attention.sharing import sessions
    from vgtool.methods.base import Facts
    from vgtool.methods.parse import parse
    from vgtool.methods.probe import Probe
    from vgtool.methods.refine import Refine
    from vgtool.methods.task import ImageGroup
    from vgtool.models.load import load, resolve
    from vgtool.records import Decoding

    from vgtool.benchmarks.load import load as load_rows  # isort: skip
    from vgtool.images import open_image  # isort: skip

    tiny_llava(tmp_path / "tiny")
    spec, source = resolve(str(tmp_path / "tiny"))
    found = []
    for split in (False, True):
        adapter = load(spec, source=source, device="cpu")
        if split:
            language = "model.language_model"
            places: dict[str, object] = {name: "cpu" for name in ("model.vision_tower", "model.multi_modal_projector")}
            places |= {f"{language}.embed_tokens": "cpu", f"{language}.norm": "disk", "lm_head": "disk"}
            places |= {f"{language}.rotary_emb": "cpu"}
            places |= {f"{language}.layers.{i}": "cpu" if i < 2 else "disk" for i in range(4)}
            adapter.model = dispatch_model(adapter.model, places, main_device="cpu", offload_dir=tmp_path / "off")
            assert adapter.text.layers[3].self_attn.q_proj.weight.device.type == "meta"  # type: ignore[index,union-attr]
        opened = sessions(adapter)
        rows = load_rows("scenes", limit=5)
        picture = open_image(rows.samples[0].image)
        group = ImageGroup(tuple(rows.samples), (picture,), (adapter.prepare(picture),))
        facts = Facts(adapter.layers, adapter.heads, ((1, 0), (2, 1)), (2,), 0)
        method = {"vgrefine": parse("vgrefine")}
        refine = Refine(opened, method, facts, Decoding(4), mapping="exact", partner=never)
        found.append(
            (Probe(opened, maps="layers", row="last", mapping="exact").run([group], None), refine.run([group], None))
        )
    for whole, parted in zip(*found, strict=True):
        assert len(whole) == len(parted) > 0
        for one, other in zip(whole, parted, strict=True):
            assert one["error"] is None and one.keys() == other.keys()
            for name, value in one.items():
                if isinstance(value, (float, np.ndarray)) or (name.endswith(("_ratio", "_kl", "_js")) and value):
                    assert other[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name  # kernels round by alignment
                elif name != "first":
                    assert other[name] == value, name


def never(sample: object) -> Image.Image:
    raise AssertionError("no method here asks for another image")
