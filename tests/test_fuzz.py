"""Whatever comes in, out comes a value or one of the errors that are meant: nothing else, and no crash."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vgtool.benchmarks.load import load
from vgtool.errors import VgError
from vgtool.grounding import heads
from vgtool.methods.parse import parse
from vgtool.records import Rejected, Sample
from vgtool.registry import BenchmarkSpec, ModelSpec, read_entries
from vgtool.runs.cluster import place
from vgtool.runs.store import Shard, Store
from vgtool.scoring.answers import RULES, judge

MANY = settings(
    max_examples=200,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["id", "image", "image_id", "question", "reference", "question_type", "group", "domain", "choices", "boxes", "mask"]
)
BOXES = st.lists(st.lists(st.floats() | st.integers(-9, 9), min_size=3, max_size=5), max_size=3)
GOOD = st.fixed_dictionaries(
    {"id": st.text(max_size=5), "image": st.sampled_from(["a.png", "../a", "/etc/passwd", "a\0b", "http://x/a.png"])},
    optional={
        "question": st.text(max_size=20),
        "question_type": st.sampled_from(["closed", "choice", "open", "other"]),
        "choices": st.lists(st.text(max_size=5), max_size=30) | SCALARS,
        "boxes": BOXES | SCALARS,
        "reference": SCALARS,
        "domain": st.sampled_from(["medical", "natural", 3]),
    },
)
ROWS = st.lists(
    (GOOD | st.dictionaries(KEYS, JSON, max_size=6) | JSON).map(json.dumps) | st.text(max_size=30), max_size=6
)


@MANY
@given(lines=ROWS)
def test_any_rows_file_is_samples_rejected_rows_or_one_sentence(lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes("\n".join(lines).encode("utf-8", errors="surrogatepass"))
    try:
        found = load(str(path))
    except VgError as error:
        assert str(error)
        return
    assert all(isinstance(one, Sample) for one in found.samples)
    assert all(isinstance(one, Rejected) and ":" in one.reason for one in found.rejected)
    names = [one.id for one in (*found.samples, *found.rejected)]
    assert len(set(names)) == len(names), "every row has an id of its own"


YAML_WORDS = st.sampled_from(
    ["a:", "  title: x", "  adapter: llava", "  layers: 4", '  layers: "4"', "- x", "&a [1]", "*a",
     "!!python/name:os.x",
     "  notes: [a, b]", "  prompt: |", "? {}", "  <<: *a", "{", "\t", "1: 2", "a: 1e3", "---", "...", "%YAML 9.9"]
)  # fmt: skip


@MANY
@given(
    data=st.binary(max_size=60) | st.lists(YAML_WORDS | st.text(max_size=10), max_size=8).map("\n".join).map(str.encode)
)
def test_any_registry_file_is_entries_or_one_sentence_with_the_file(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_bytes(data)
    for kind in (ModelSpec, BenchmarkSpec):
        try:
            assert all(isinstance(one, kind) for one in read_entries(path, kind).values())
        except VgError as error:
            assert "models.yaml" in str(error)


ANSWER = st.text(max_size=30) | st.lists(
    st.sampled_from(["yes", "no", "A", "(B)", "the answer is", "not", "normal", "是", "没有", ".", "\n", "\u202e"]),
    max_size=5,
).map(" ".join)


@settings(MANY, max_examples=500)
@given(
    answer=ANSWER,
    reference=ANSWER,
    kind=st.sampled_from(["closed", "choice", "open"]),
    choices=st.none() | st.lists(ANSWER, max_size=5),
    rule=st.sampled_from(RULES),
)
def test_any_answer_has_one_of_three_outcomes(
    answer: str, reference: str, kind: str, choices: list[str] | None, rule: str
) -> None:
    assert judge(answer, reference, kind, choices, rule) in ("right", "wrong", "undecided")


HEADS = st.fixed_dictionaries(
    {
        "model": SCALARS,
        "revision": SCALARS,
        "layers": st.integers(-2, 40) | JSON,
        "heads": st.integers(-2, 40) | JSON,
        "selected_by": st.dictionaries(st.text(max_size=5), JSON, max_size=2) | JSON,
        "ranked": st.lists(st.tuples(st.integers(-2, 40), st.integers(), st.floats()), max_size=3) | JSON,
        "knockout_layers": st.lists(st.integers(-3, 40), max_size=2) | JSON,
    }
)


@MANY
@given(data=(HEADS | JSON).map(json.dumps).map(str.encode) | st.binary(max_size=40))
def test_any_head_file_is_heads_of_its_model_or_one_sentence(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "heads.json"
    path.write_bytes(data)
    try:
        found = heads.read(path)
    except VgError as error:
        assert str(error)
        return
    assert all(0 <= layer < found.layers and 0 <= head < found.heads for layer, head, _ in found.ranked)
    heads.refuse_overlap(found, ["an image"])


@MANY
@given(data=JSON.map(json.dumps).map(str.encode) | st.binary(max_size=40))
def test_any_run_json_is_a_record_or_one_sentence(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(data)
    try:
        found = Store(tmp_path).read()
    except VgError as error:
        assert str(error)
        return
    assert set(found) == {"kind", "identity", "notes"}


@pytest.mark.parametrize("reader", [place, Shard.parse, parse])
@settings(MANY, max_examples=100)
@given(text=st.text(max_size=12) | st.from_regex(r"(vgrefine|pai|[0-9]{1,3}/)(:[a-z_]{1,9}=[0-9.+-]{1,5},?)*[0-9]*"))
def test_any_shard_or_method_is_understood_or_refused(reader: Any, text: str) -> None:
    try:
        assert reader(text) is not None
    except VgError as error:
        assert str(error)
