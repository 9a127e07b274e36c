"""The commands: parse, call, exit code. Everything heavy is imported by the command that needs it.

A family of commands is a file; what they share is in options.py. A mistake is one sentence, whoever finds it.
"""

import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from vgtool import console
from vgtool.commands import build, listing, look, read, run, study
from vgtool.commands.options import expanded
from vgtool.errors import Exit, VgError, did_you_mean
from vgtool.version import __version__

app = typer.Typer(
    help="Where medical multimodal LLMs look, and what happens when they are made to look again.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
PANELS = {
    "Run a model": (run.probe, run.refine, run.heads, look.look, study.study, run.plan),
    "Read results": (read.score, read.report, build.build),
    "What there is": (listing.models, listing.benchmarks, listing.methods, listing.doctor),
}
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(expanded(command))

app.command(
    rich_help_panel="Run a model",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
)(run.slurm)

UsageError: Any = typer.BadParameter.__mro__[1]
"""What the parser raises; Typer does not export it."""


def _version(wanted: bool) -> None:
    if wanted:
        console.show(f"vgtool {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: a user's mistake is one sentence and its exit code; a bug keeps its traceback."""
    words = sys.argv[1:] or ["--help"]
    try:
        refuse_twice(words)
        refuse_empty(words)
        sys.exit(app(words, prog_name="vgtool", standalone_mode=False) or Exit.DONE)
    except VgError as error:
        _end(error, error.exit_code)
    except UsageError as error:
        _end(misread(error), Exit.USER)
    except PermissionError as error:
        _end(f"This user may not open '{error.filename}'. Change its permissions, or name another place.", Exit.USER)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(128 + signal.SIGINT)


def _end(problem: object, code: int) -> None:
    console.warn(f"Error: {problem}")
    if isinstance(problem, VgError) and (cause := problem.__context__) is not None:
        console.detail(f"Because of {type(cause).__name__}: {cause}")
    sys.exit(code)


def refuse_twice(words: Sequence[str]) -> None:
    """VgError for a second --model or --benchmark where one is taken: the parser would silently keep the last."""
    for name in ("--model", "--benchmark"):
        count = sum(word == name or word.startswith(f"{name}=") for word in words)
        if count > 1 and words[0] in (commands := typer.main.get_command(app).commands):  # type: ignore[attr-defined]
            taken = [param for param in commands[words[0]].params if name in param.opts]
            if taken and not taken[0].multiple:
                raise VgError(f"`vgtool {words[0]}` takes one {name}, and {count} are given.", "Run it once for each.")


def refuse_empty(words: Sequence[str]) -> None:
    """VgError for `--out "$OUT"` whose variable is empty: as a path that is the folder one is in."""
    if not any(word == "" or word.endswith("=") for word in words):
        return
    command = typer.main.get_command(app).commands.get(words[0])  # type: ignore[attr-defined]
    for param in () if command is None else command.params:
        for name in (name for name in param.opts if name.startswith("-") and not getattr(param, "is_flag", False)):
            after = words[words.index(name) + 1 :][:1] if name in words else []
            if after == [""] or f"{name}=" in words:
                raise VgError(f"{name} is given nothing.", "Give it a value, or leave it out.")


def misread(error: Any) -> VgError:
    """What the parser did not understand, in the voice of every other mistake."""
    context = error.ctx
    path = context.command_path if context else "vgtool"
    if context and (option := getattr(error, "option_name", None)) and type(error).__name__ == "NoSuchOption":
        known = [name for param in context.command.params for name in param.opts if name.startswith("--")]
        return VgError(f"`{path}` has no option '{option}'.", did_you_mean(option, known))
    if context and "No such command" in error.message:
        name = error.message.split("'")[1]
        return VgError(f"vgtool has no command '{name}'.", did_you_mean(name, context.command.commands))
    return VgError(f"{error.format_message().strip().rstrip('.')}.", f"`{path} --help` explains it.")
