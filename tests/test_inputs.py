"""Odd boxes and YAML, control characters, attention that is not finite, a lost mask: each is told and costs little."""


import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from checkpoints import tiny_llava
from rich.console import Console

from vgtool import console
from vgtool.errors import VgError
from vgtool.grounding.geometry import Geometry
from vgtool.methods.probe import Probe
from vgtool.models.load import load, resolve
from vgtool.records import Box, Grid
from vgtool.registry import ModelSpec, read_entries

SMALL = pa.schema([("sample_id", pa.string()), ("error", pa.string())])


@pytest.mark.parametrize(
    "edges,tokens",
    [
        ((0, 0, 10, 10), [0]),
        ((0, 0, 10.1, 10), [0, 1]),
        ((9.9, 9.9, 10.1, 10.1), [0, 1, 6, 7]),
        ((12, 3, 13, 4), [1]),  # smaller than a token: the token it lies in
        ((-5, -5, 5, 5), [0]),
        ((55, 35, 90, 90), [23]),
        ((0, 0, 60, 40), list(range(24))),
        ((20, 10, 40, 20), [8, 9]),
        ((30, 30, 30.5, 40), [21]),
        ((60, 0, 70, 10), []),
        ((-10, -10, 0, 0), []),
        ((0, 39.5, 60, 40), [18, 19, 20, 21, 22, 23]),
    ],
)
def test_twelve_boxes_on_a_grid_of_four_by_six_worked_by_hand(edges: tuple[float, ...], tokens: list[int]) -> None:
    geometry = Geometry.squash(60, 40, 60, 40, Grid(4, 6))
    assert geometry.region([Box(*edges)]) == tokens


@pytest.mark.parametrize(
    "edges", [(5, 5, 5, 9), (9, 5, 5, 9), (0, 0, float("nan"), 1), (0, 0, float("inf"), 1), (0, 5, 5, 1)]
)
def test_a_box_that_is_inverted_empty_or_not_finite_is_no_box(edges: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"no area|not finite"):
        Box(*edges)


@pytest.mark.parametrize(
    "text,said",
    [
        ("a: !!python/object/apply:os.system [echo]", r"models.yaml:1: not usable as YAML"),
        ("a:\n  title: x\n  title: y\n", r"models.yaml:3: .*key 'title' appears twice"),
        ("a:\n  title: x\n  adaptr: llava\n", r"models.yaml:3: .*Did you mean 'adapter'"),
        ("a: &x [1]\nb: [*x, *x]\n", r"models.yaml:2: .*aliases are not allowed"),
        ('a:\n  title: x\n  adapter: llava\n  layers: "16"\n', r"models.yaml:4: .*'layers' is '16'"),
        ("no:\n  title: x\n", r"models.yaml:1: .*is not text; quote it"),
        ("a: [" * 50_000, r"models.yaml"),
        ("a" * 1_000_001, r"larger than 1,000,000 bytes"),
    ],
)
def test_bad_yaml_is_one_sentence_with_file_and_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    with pytest.raises(VgError, match=said):
        read_entries(path, ModelSpec)


@pytest.mark.parametrize(
    "payload", ["\x1b]52;c;ZXZpbA==\x07", "\x1b[8mhidden", "\x9b31m", "a\u202eb", "[red]x[/red]\r"]
)
def test_no_control_character_of_data_reaches_the_terminal(payload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=shown, force_terminal=True, width=200))
    console.say(f"answer {payload}")
    assert not set(shown.getvalue()) & {"\x1b", "\x9b", "\u202e", "\x07", "\r"}
    assert "[red]" in shown.getvalue() or "[red]" not in payload, "markup in data is text"


def test_attention_that_is_not_finite_is_null_with_its_layer_named_and_the_other_layers_count() -> None:
    probe = Probe.__new__(Probe)
    probe.maps, probe.adapter = "none", SimpleNamespace(without=())  # type: ignore[assignment]
    maps = np.random.default_rng(0).uniform(0.1, 1, (3, 2, 4))
    broken, masked = maps.copy(), maps.copy()
    broken[1, 0, 2] = np.nan
    masked[2] = 0.0  # a row that may attend to no image token
    whole, row, found = probe._measured(np.stack([maps, broken, masked]), np.ones((3, 3, 2, 4)), [[0]] * 3)
    assert row["warning"] == "not_finite: layers 1" and "warning" not in whole
    for name in ("layer_ratio", "layer_kl", "layer_js"):
        assert row[name][1] is None and row[name][0] == whole[name][0] and row[name][2] == whole[name][2]
    assert found["layer_kl"][2] is None and found["layer_kl"][:2] == whole["layer_kl"][:2]


def test_a_lost_attention_mask_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AttentionMaskInterface

    from vgtool.attention import engine

    tiny_llava(tmp_path / "tiny")
    spec, source = resolve(str(tmp_path / "tiny"))
    adapter = load(spec, source=source, device="cpu")
    engine.attach(adapter.model, adapter.text)
    monkeypatch.setattr(AttentionMaskInterface, "_global_mapping", dict(AttentionMaskInterface._global_mapping))
    del AttentionMaskInterface._global_mapping[engine.NAME]
    with pytest.raises(VgError, match="The attention mask is lost"):
        engine.attach(adapter.model, adapter.text)
