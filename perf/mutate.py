"""How many small changes of the code the tests notice: python perf/mutate.py map, then run, then run --again.

`map` runs the suite once under coverage: which test runs which line, and how long it takes. `run` draws changes from
each package (seeded), makes each in a copy of the tree, and runs the tests of the changed line until one fails or their
time is up: first those whose file names the module, quickest first; with --again, further tests of those that survived,
and tests that were written since. Forked from a process that has imported torch: a change costs what its tests cost.
cosmic-ray starts Python anew for each change (torch: six seconds); mutmut 3 leaves decorated functions and constants
alone and draws no sample.
"""

import argparse
import ast
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("grounding", "attention", "methods", "scoring", "models", "benchmarks")
LEFT_OUT = "models/phantom/"
COPIED = ("vgtool", "tests", "docs", "scripts", "perf", "pyproject.toml", "README.md", "CHANGELOG.md",
          "CONTRIBUTING.md", "Makefile", "models.yaml", "benchmarks.yaml", "constraints.txt")  # fmt: skip
OTHER: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.And: ast.Or,
    ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Pow: ast.Mult,
}  # fmt: skip
TWINS = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor", "argmax": "argmin",
         "argmin": "argmax", "width": "height", "height": "width"}  # fmt: skip
TEXTS = (ast.Constant, ast.JoinedStr)
ANNOTATED = ("annotation", "returns", "decorator_list", "type_params")
SAME = {"strict", "check", "exist_ok", "dtype", "encoding", "stacklevel", "key", "newline", "ensure_ascii"}
"""Keywords whose loss says nothing about behaviour, or ends every run."""


@dataclass(frozen=True)
class Mutant:
    """One change: bytes `start` to `end` of `file` become `new`."""

    file: str
    line: int
    start: int
    end: int
    old: str
    new: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line}  {self.old}  ->  {self.new}"


def changes(node: ast.AST) -> Iterator[str]:
    """Texts that may stand where `node` does."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in OTHER:
        yield ast.unparse(ast.Compare(node.left, [OTHER[type(node.ops[0])]()], node.comparators))
    elif isinstance(node, ast.BoolOp):
        yield ast.unparse(ast.BoolOp(OTHER[type(node.op)](), node.values))
    elif isinstance(node, ast.BinOp) and type(node.op) in OTHER and not isinstance(node.left, TEXTS):
        yield f"({ast.unparse(ast.BinOp(node.left, OTHER[type(node.op)](), node.right))})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield ast.unparse(node.operand)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield str(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield repr(node.value + 1) if isinstance(node.value, int) else repr(node.value * 2 or 1.0)
    elif isinstance(node, ast.IfExp):
        yield f"({ast.unparse(node.body)})"
        yield f"({ast.unparse(node.orelse)})"
    elif isinstance(node, ast.Attribute) and node.attr in TWINS:
        yield ast.unparse(ast.Attribute(node.value, TWINS[node.attr], node.ctx))
    elif isinstance(node, ast.Name) and node.id in TWINS and node.id not in ("width", "height"):
        yield TWINS[node.id]
    elif isinstance(node, ast.Call):
        for at, given in enumerate(node.keywords):
            if given.arg and given.arg not in SAME:
                yield ast.unparse(ast.Call(node.func, node.args, node.keywords[:at] + node.keywords[at + 1 :]))


def mutants(path: Path) -> Iterator[Mutant]:
    """Every change of one file, but for those in messages of errors, annotations and docstrings."""
    text = path.read_bytes()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def walk(node: ast.AST) -> Iterator[Mutant]:
        for field, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST) or field in ANNOTATED:
                    continue
                if isinstance(child, ast.Raise | ast.JoinedStr | ast.Assert):
                    continue
                if isinstance(child, ast.expr):
                    start = starts[child.lineno - 1] + child.col_offset
                    end = starts[child.end_lineno - 1] + child.end_col_offset  # type: ignore[operator]
                    for new in changes(child):
                        yield Mutant(
                            str(path.relative_to(ROOT)), child.lineno, start, end, text[start:end].decode(), new
                        )
                yield from walk(child)

    yield from walk(ast.parse(text))


def map_lines(work: Path) -> None:
    """The suite under coverage: which test ran a line to `coverage`, times to `times.json`."""
    settings = work / "coveragerc"
    settings.write_text(f"[run]\nsource = vgtool\ndata_file = {work / 'coverage'}\nparallel = false\n")
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--cov=vgtool", "--cov-context=test",
               f"--cov-config={settings}", "--cov-report=", f"--junit-xml={work / 'junit.xml'}"]  # fmt: skip
    subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    times = {}
    for case in ET.parse(work / "junit.xml").iter("testcase"):
        file = case.attrib["classname"].split(".")
        times["/".join(file) + ".py::" + case.attrib["name"]] = float(case.attrib["time"])
    (work / "times.json").write_text(json.dumps(times))


class Tests:
    """Which tests run a line."""

    def __init__(self, work: Path) -> None:
        from coverage import CoverageData

        self.data = CoverageData(str(work / "coverage"))
        self.data.read()
        self.times: dict[str, float] = json.loads((work / "times.json").read_text())
        self.texts = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "tests").glob("test_*.py")}
        asked = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-o", "addopts="]
        listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
        self.every = [line for line in listed if "::" in line]
        self.files = {str(Path(one).resolve().relative_to(ROOT)): one for one in self.data.measured_files()}

    def of(self, mutant: Mutant) -> list[str]:
        """Ids; of a line that runs on import, its whole file's. First new tests of files that name the module, then
        what else those files hold."""
        lines = self.data.contexts_by_lineno(self.files[mutant.file]) if mutant.file in self.files else {}
        named = {context.split("|")[0] for context in lines.get(mutant.line, []) if context}
        if not named:
            named = {context.split("|")[0] for found in lines.values() for context in found if context}
        module = re.compile(rf"\b{Path(mutant.file.removesuffix('/__init__.py')).stem}\b")
        near = {file for file, text in self.texts.items() if module.search(text)}
        new = [test for test in self.every if test not in self.times and test.split("::")[0] in near]
        return new + sorted(named, key=lambda name: (name.split("::")[0] not in near, self.times.get(name, 1.0), name))

    def some(self, tests: list[str], start: int, budget: float) -> list[str]:
        """Those from `start` on that take `budget` seconds together, one at least."""
        spent = list(accumulate(self.times.get(test, 1.0) for test in tests[start:]))
        return tests[start : start + max(1, bisect(spent, budget))]


def copy(tree: Path) -> None:
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, tree / name)


def noticed(tree: Path, mutant: Mutant, tests: list[str], seconds: float) -> str:
    """"noticed", "survived" or "hung" of one change, in a forked process group of its own."""
    path = tree / mutant.file
    before = path.read_bytes()
    path.write_bytes(before[: mutant.start] + mutant.new.encode() + before[mutant.end :])
    child = os.fork()
    if child == 0:
        os.setsid()
        log = os.open(tree / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        os.environ.update(PYTHONPATH=str(tree), PYTHONDONTWRITEBYTECODE="1")
        sys.dont_write_bytecode = True
        import pytest

        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov", *tests])))
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return "survived" if os.waitstatus_to_exitcode(status) == 0 else "noticed"
            time.sleep(0.05)
        return "hung"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
        path.write_bytes(before)


def drawn(packages: list[str], count: int, seed: int) -> list[Mutant]:
    found = []
    for package in packages:
        files = sorted((ROOT / "vgtool" / package).rglob("*.py"))
        every = [one for file in files if LEFT_OUT not in file.as_posix() for one in mutants(file)]
        found += random.Random(f"{seed} {package}").sample(every, min(count, len(every)))
    return found


def run(work: Path, chosen: list[Mutant], budget: float, again: bool) -> None:
    """Each change's outcome as a line of `outcomes.jsonl`; those that have one are not run again, or with `again`
    those that survived, by the next of their tests."""
    import matplotlib.figure  # noqa: F401
    import polars  # noqa: F401
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import transformers.models.llava.modeling_llava  # noqa: F401

    known, tests, tree = latest(work), Tests(work), work / f"tree.{os.getpid()}"
    copy(tree)
    for mutant in chosen:
        before = known.get(mutant.name, {"outcome": "", "tests": 0, "seconds": 0.0})
        every = tests.of(mutant)
        if (before["outcome"] != "survived" or before["tests"] >= len(every)) if again else mutant.name in known:
            continue
        named = tests.some(every, before["tests"], budget)
        begun = time.monotonic()
        outcome = noticed(tree, mutant, named, 3 * budget + 60) if named else "no test"
        row = {"name": mutant.name, "outcome": outcome, "tests": before["tests"] + len(named), "of": len(every)}
        with (work / "outcomes.jsonl").open("a") as file:
            file.write(json.dumps(row | {"seconds": before["seconds"] + time.monotonic() - begun}) + "\n")
        print(f"{outcome:9} {mutant.name}", flush=True)
    shutil.rmtree(tree)


def latest(work: Path) -> dict[str, dict[str, Any]]:
    """The last outcome of each change, by name."""
    outcomes = work / "outcomes.jsonl"
    rows = map(json.loads, outcomes.read_text().splitlines()) if outcomes.exists() else ()
    return {row["name"]: row for row in rows}


def table(work: Path, packages: list[str]) -> None:
    rows = [*latest(work).values()]
    print("| package | changes | noticed | survived |\n|---|---|---|---|")
    for package in packages:
        some = [row for row in rows if row["name"].startswith(f"vgtool/{package}/")]
        left = sum(row["outcome"] in ("survived", "no test") for row in some)
        print(f"| {package} | {len(some)} | {len(some) - left} | {left} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=("map", "run", "list", "table"))
    parser.add_argument("--package", action="append", choices=PACKAGES, help="default: all")
    parser.add_argument("--sample", type=int, default=40, help="changes a package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60, help="of tests a change")
    parser.add_argument("--again", action="store_true", help="those that survived, by their next tests")
    parser.add_argument("--part", default="0/1", help="this process's part of the changes: 0/2, 1/2")
    parser.add_argument("--work", type=Path, default=ROOT / ".mutation")
    given = parser.parse_args()
    given.work.mkdir(exist_ok=True)
    packages = given.package or list(PACKAGES)
    rank, of = map(int, given.part.split("/"))
    chosen = drawn(packages, given.sample, given.seed)[rank::of]
    if given.do == "map":
        map_lines(given.work)
    elif given.do == "list":
        print(*(one.name for one in chosen), sep="\n")
    elif given.do == "run":
        run(given.work, chosen, given.seconds, given.again)
    else:
        table(given.work, packages)


if __name__ == "__main__":
    main()
