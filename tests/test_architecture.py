"""The house's own rules: what may import what, what stays light, and what every command and option must say."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vgtool.commands import app

ROOT = Path(__file__).parent.parent
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_imports_go_down_only_and_results_are_read_without_torch() -> None:
    script = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    done = subprocess.run(
        [sys.executable, "-c", script, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kept, 0 broken" in done.stdout


def test_every_source_file_is_below_300_lines_and_every_function_at_most_60() -> None:
    """But for the training of the embedded model."""
    for path in sorted((ROOT / "vgtool").rglob("*.py")):
        if path.name == "train.py":
            continue
        text = path.read_text()
        assert text.count("\n") < 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path}: {node.name}"


def test_every_mistake_says_what_to_do() -> None:
    bare = []
    for path in sorted((ROOT / "vgtool").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("VgError", "StorageError"):
                *_, hint = node.args
                if len(node.args) < 2 or (isinstance(hint, ast.Constant) and not hint.value):
                    bare.append(f"{path}:{node.lineno}")
    assert bare == []


def test_help_of_every_command_imports_neither_torch_nor_polars() -> None:
    code = """import sys
from vgtool.commands import main
for command in %r:
    sys.argv = ["vgtool", *command, "--help"]
    try:
        main()
    except SystemExit as end:
        assert not end.code, command
assert not {"torch", "transformers", "polars", "numpy", "matplotlib"} & set(sys.modules), sorted(sys.modules)
""" % [[], *([name] for name in COMMANDS)]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_commands_help_has_an_example_and_every_option_says_what_it_does(name: str) -> None:
    command = COMMANDS[name]
    assert f"Example: vgtool {name} " in f"{command.help} ", "an example of this command"
    for param in command.params:
        assert param.name == "help" or getattr(param, "help", None), f"{name} {param.name}"


def test_help_groups_the_commands() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    assert text.index("Run a model") < text.index("probe") < text.index("Read results") < text.index("score")
    assert all(name in text for name in COMMANDS)


def completed(words: str) -> set[str]:
    """What a bash user is offered after these words; no torch may be imported on the way."""
    code = "import sys\nfrom vgtool.commands import main\n"
    code += "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    env = {**os.environ, "_VGTOOL_COMPLETE": "complete_bash", "COMP_WORDS": words}
    env["COMP_CWORD"] = str(len(words.split(" ")) - 1)
    script = f"import sys\nsys.argv = ['vgtool']\n{code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
    assert "AssertionError" not in done.stderr, done.stderr
    return set(done.stdout.split())


def test_the_shell_completes_commands_options_and_names() -> None:
    assert {"probe", "plan"} <= completed("vgtool p")
    assert "--benchmark" in completed("vgtool probe --ben")
    assert completed("vgtool probe --model phan") == {"phantom-vlm"}
    assert completed("vgtool refine --benchmark vqa-r") == {"vqa-rad"}
    assert {"random-keep", "random-heads"} == completed("vgtool refine --method rand")


def test_the_names_that_are_completed_are_the_methods_there_are() -> None:
    from vgtool.methods.names import NAMES
    from vgtool.methods.parse import BUILT_IN

    assert tuple(kind.name for kind in BUILT_IN) == NAMES


def test_every_pin_lies_in_the_declared_ranges() -> None:
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = [
        *project["dependencies"],
        *(one for several in project["optional-dependencies"].values() for one in several),
    ]
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    checked = 0
    for need in map(Requirement, needs):
        if (pin := pins.get(need.name.lower().replace("_", "-"))) is not None:
            assert need.specifier.contains(pin), f"{need} but {pin} is pinned"
            checked += 1
    assert checked > 20
