"""What README and docs tell a user to type: README's vgtool commands are run, everything else is checked."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from forked import FEW, vgtool

from vgtool.commands import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
INSTEAD = {"llava-med": "phantom-vlm", "vqa-rad": "phantom", "coco": "scenes"}
"""What needs no download, for what README shows."""


def typed(text: str) -> Iterator[str]:
    """Commands in indented or fenced lines and in backticks; a backslash goes on in the next line."""
    text = re.sub(r"\\\n\s*", "", text)
    for line in text.splitlines():
        if line.startswith(("    ", "$ ")):
            shown = line.strip().removeprefix("$ ")
            shown = re.sub(r"^((export )?[A-Z_]+=\S+ )+", "", shown)
            if shown.startswith(("vgtool ", "make ", "pip ", "python ")):
                yield from (part.strip() for part in re.sub(r"\s+#.*", "", shown).split(";"))
    for quoted in re.findall(r"`([^`]+)`", text):
        flat = " ".join(quoted.split())
        if re.match(r"(vgtool (?!-)|make [a-z]|python perf/)", flat):
            yield flat


def test_readmes_vgtool_commands_run_in_order(tmp_path: Path) -> None:
    ran = []
    for command in typed(README):
        words = [INSTEAD.get(word, word) for word in shlex.split(command)]
        if words[0] != "vgtool" or {"FILE", "FILE.yaml", "scan.png", "build", "--fetch"} & {*words}:
            continue  # their own pages follow them; what is fetched needs the network
        if "--data-root" in words:
            del words[words.index("--data-root") : words.index("--data-root") + 2]
        if words[1] in ("probe", "refine"):
            words += ["--limit", "4"]
        done = vgtool(*words[1:], cwd=tmp_path, pretend=FEW)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        ran.append(words[1])
    assert {"doctor", "plan", "probe", "heads", "refine", "score", "report", "models", "benchmarks", "methods"} <= {
        *ran
    }
    assert (tmp_path / "report" / "index.html").is_file() and (tmp_path / "heads.json").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_shown_exists_with_its_options(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for command in typed(page.read_text()):
        words = command.split()
        if words[0] == "make":
            assert {word for word in words[1:] if word.isalpha()} <= targets, command
        elif words[:1] == ["python"] and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), command
        elif words[0] == "vgtool" and words[1].isalpha() and words[1].islower():
            if page.name == "errors.md":
                continue  # mistakes on purpose; tests/test_errors.py makes them
            assert words[1] in COMMANDS, command
            known = {name for param in COMMANDS[words[1]].params for name in (*param.opts, *param.secondary_opts)}
            given = {word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
            assert given <= {*known, "--help"}, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", re.sub(r"\s+", " ", page.read_text()).replace("] (", "](")):
        assert "://" in target or (page.parent / target).exists(), target
