"""YAML files as data, read safely: `SafeLoader`, no aliases, no duplicate keys, keys are texts, a size limit."""

from pathlib import Path
from typing import Any

import yaml

from vgtool.errors import VgError

MAX_BYTES = 1_000_000


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses aliases and duplicate keys, and remembers the line of every key."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="aliases are not allowed here", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} is not text; quote it", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key '{key}' appears twice", problem_mark=key_node.start_mark)
            seen[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> tuple[dict[str, Any], yaml.Node | None]:
    """The mapping in a YAML file and its node tree (for line numbers). VgError for anything else."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise VgError(f"Cannot read '{path}': {error.strerror}.", "Check the path and its permissions.") from None
    if len(data) > MAX_BYTES:
        raise VgError(f"'{path}' is larger than {MAX_BYTES:,} bytes.", "A registry holds entries, not data.")
    try:
        text = data.decode("utf-8")
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            value = loader.construct_document(node) if node is not None else {}
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise VgError(f"'{path}' is not UTF-8 text: byte {error.start}.", "Save it as UTF-8.") from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else f"{path}"
        problem = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise VgError(f"{where}: not usable as YAML: {problem}.", "Fix that line.") from None
    if not isinstance(value, dict):
        raise VgError(f"'{path}' does not hold named entries.", "Start each entry with its name and a colon.")
    return value, node


def line_of(node: yaml.Node | None, keys: tuple[Any, ...]) -> int:
    """The line of the deepest part of `keys` that exists in the tree."""
    line = 1
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == str(key)]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        else:
            break
    return line
