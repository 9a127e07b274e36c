"""What a batch takes of memory, counted beside what is reckoned with before it is read."""

import pytest
from peak import Peak, measured, narrow
from torch import empty, zeros

from vgtool.runs.memory import Shape, batch_bytes, images_that_fit


def test_the_counter_sees_what_lives_at_once() -> None:
    with Peak() as peak:
        one = zeros(1000)
        view = one.view(10, 100)[3:]
        del one
        assert peak.bytes == 4000, "a view keeps its storage"
        del view
        assert peak.bytes == 0
        held = [empty(500) for _ in range(3)]
        held[0] += 1.0
    assert peak.most == 6000


@pytest.mark.parametrize("kv_heads", [0, 2])
@pytest.mark.parametrize("images,questions,methods", [(1, 4, 0), (6, 1, 0), (6, 4, 0), (1, 4, 2), (6, 1, 2), (6, 4, 2)])
def test_a_batch_takes_what_plan_says(images: int, questions: int, methods: int, kv_heads: int) -> None:
    """At most a tenth more; and no batch is refused that half the memory would hold."""
    found, reckoned = measured(narrow(8, kv_heads, 20, 128), images, questions, methods)
    assert 0.5 <= found / reckoned <= 1.1


def test_more_memory_holds_more_images_and_little_holds_one() -> None:
    shape = Shape(7e9, 2.0, 28, 28, 512, 576, 3584)
    fit = [images_that_fit(shape, free, 2) for free in (0.0, 1e9, 4e9, 1e10, 1e12)]
    assert fit[0] == 1 and fit[-1] == 16 and fit == sorted(fit)
    for images, free in zip(fit[1:], (1e9, 4e9, 1e10, 1e12), strict=True):
        assert images == 1 or batch_bytes(shape, images, 4, 280, 2) <= free / 2
