"""A benchmark's samples held small are the samples that were read, and grow by their ids only."""

import dataclasses
import hashlib
import json
import random
import tracemalloc
from pathlib import Path

import pytest

from vgtool.benchmarks import digest as digests
from vgtool.benchmarks.load import load
from vgtool.benchmarks.packed import Packed
from vgtool.records import Box, ImageSource, Rejected, Sample, View
from vgtool.runs import deal
from vgtool.runs.shard import Shard


def sample(number: int) -> Sample:
    """Samples of every kind, five on an image."""
    name = f"i{number // 5}"
    source = ImageSource(f"{name}.png", lambda: name.encode(), view=View(slice=number // 5))
    extra = tuple(ImageSource(f"{name}-{at}.png", lambda: b"") for at in range(number // 5 % 3))
    return Sample(
        id=f"q{number}é\ud83d",
        image_id=name,
        image=source,
        question=f"a\n\t{number} ☃ \U0001f600",
        prompt=f"{'?' * (number % 7)} prompt {number}",
        domain=("medical", "natural")[number % 2],  # type: ignore[arg-type]
        group="" if number % 3 else "CT",
        question_type="choice" if number % 2 else "open",
        reference="" if number % 4 else "yes",
        choices=("a", 'b"c') if number % 2 else None,
        boxes=tuple(Box(0.1, 1 / 3, 5 + at, 1e9) for at in range(number % 3)),
        extra_images=extra,
        mask=(lambda: number) if number % 5 == 1 else None,
    )


@pytest.fixture(scope="module")
def given() -> list[Sample]:
    return [sample(number) for number in range(1500)]


@pytest.fixture(scope="module")
def packed(given: list[Sample]) -> Packed:
    found = Packed()
    for one in given:
        found.append(one)
    return found


def plain(one: Sample) -> dict[str, object]:
    """What can be compared: of an image its name and view."""
    fields = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    del fields["image"], fields["mask"]
    fields["extra_images"] = [source.name for source in one.extra_images]
    read = (one.image.name, one.image.view, one.image.read(), one.mask and one.mask())
    return fields | {"read": read}


def test_packed_samples_come_back_as_they_were_given_in_any_order(packed: Packed, given: list[Sample]) -> None:
    assert [plain(one) for one in packed] == [plain(one) for one in given] and len(packed) == 1500
    for place in random.Random(0).sample(range(1500), 200):
        assert plain(packed[place]) == plain(given[place])
    assert plain(packed[-1]) == plain(given[-1]) and [s.id for s in packed[250:260]] == [s.id for s in given[250:260]]
    with pytest.raises(IndexError, match="sample 1500 of 1500"):
        packed[1500]


def test_questions_on_an_image_share_its_source(packed: Packed) -> None:
    assert packed[0].image is packed[4].image is not packed[5].image


def test_packed_samples_are_dealt_as_a_list_of_them_is(packed: Packed, given: list[Sample]) -> None:
    for count in (1, 3):
        ours, theirs = deal.deal(packed, count), deal.deal(given, count)
        assert [[(g.ids, g.work) for g in shard] for shard in ours] == [[(g.ids, g.work) for g in s] for s in theirs]
        assert [[one.id for one in group] for shard in ours for group in shard] == [
            list(group.ids) for shard in theirs for group in shard
        ]


def test_a_group_holds_the_questions_on_its_images_wherever_they_stand() -> None:
    mixed = random.Random(1).sample([sample(number) for number in range(60)], 60)
    wanted: dict[tuple[str, ...], list[str]] = {}
    for one in mixed:
        wanted.setdefault((one.image_id, *(source.name for source in one.extra_images)), []).append(one.id)
    found = deal.mine(mixed, [Rejected("bad", "malformed_row")], Shard())
    assert [list(group.ids) for group in found.groups] == list(wanted.values())
    assert found.ids == {one.id for one in mixed} | {"bad"}
    work = sum(40 + -(-len(one.prompt) // 4) + 8 for one in found.groups[0]) + 576 * (1 + len(mixed[0].extra_images))
    assert found.groups[0].work == work


def test_the_digest_is_of_all_lines_in_order_whatever_their_order(
    given: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [Rejected("q3", "malformed_row: x"), Rejected("a", "duplicate_id")]
    lines = [[s.id, s.image_id, s.prompt, s.reference, s.choices, [b.as_list() for b in s.boxes]] for s in given]
    text = "\n".join(sorted(json.dumps(line) for line in [*lines, *([one.id, one.reason] for one in bad)]))
    wanted = hashlib.sha256(text.encode()).hexdigest()
    monkeypatch.setattr(digests, "SORTED", 400)
    mixed = random.Random(2).sample(given, len(given))
    assert digests.digest(given, bad) == digests.digest(mixed, bad[::-1]) == wanted
    assert digests.digest([]) == hashlib.sha256(b"").hexdigest()


def test_a_row_more_takes_a_few_hundred_bytes(tmp_path: Path) -> None:
    """As objects it takes about 1,750. Of the rows both files have nothing is counted."""
    sizes = []
    for count in (1_000, 3_000):
        path = tmp_path / f"{count}.jsonl"
        image = "i{}.png".format
        rows = ({"id": f"q{n:06}", "image": image(n // 10), "question": f"Is finding {n} seen?"} for n in range(count))
        path.write_text("\n".join(json.dumps({**row, "boxes": [[1, 2, 30, 40]]}) for row in rows))
        load(str(path), limit=10)
        tracemalloc.start()
        held = load(str(path))
        share = deal.mine(held.samples, held.rejected, Shard())
        sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert len(share.ids) == count
    assert (sizes[1] - sizes[0]) / 2_000 < 500


def test_image_ids_are_those_of_the_samples_each_once() -> None:
    some = [sample(number) for number in (*range(40), *range(12))]
    packed = Packed()
    for one in some:
        packed.append(one)
    assert packed.image_ids() == list(dict.fromkeys(one.image_id for one in some))
