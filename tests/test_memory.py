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
def test_a_batch_takes_what_plan_says(kv_heads: int) -> None:
    """At most a tenth more; and half of what is reckoned with is really taken."""
    opened = narrow(4, kv_heads, 16, 128)
    for images, questions, methods in ((4, 1, 0), (4, 4, 0), (4, 1, 2), (4, 4, 2), (4, 1, 5)):
        found, reckoned = measured(opened, images, questions, methods, 3)
        assert 0.4 <= found / reckoned <= 1.1, (images, questions, methods, found, reckoned)


def test_more_memory_holds_more_images_and_little_holds_one() -> None:
    shape = Shape(7e9, 2.0, 28, 28, 512, 576, 3584)
    fit = [images_that_fit(shape, free, 2) for free in (0.0, 1e9, 4e9, 1e10, 1e12)]
    assert fit[0] == 1 and fit[-1] == 16 and fit == sorted(fit)
    for images, free in zip(fit[1:], (1e9, 4e9, 1e10, 1e12), strict=True):
        assert images == 1 or batch_bytes(shape, images, 4, 280, 2) <= free / 2
