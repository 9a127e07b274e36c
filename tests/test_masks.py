"""A mask means what was drawn, however it is stored; what could mean two things is refused by name."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vgtool.errors import SampleError
from vgtool.images import Names, open_binary, open_labels, open_mask, open_region
from vgtool.images.masks import UNKNOWN_COLOUR
from vgtool.records import ImageSource

DRAWN = np.zeros((6, 8), bool)
DRAWN[1:4, 2:7] = True
LABELS = np.array([[0, 0, 1, 1], [0, 2, 2, 0]])
NAMES = Names({1: "lesion", 2: "organ"})


def stored(image: Image.Image, form: str = "PNG", **settings: Any) -> ImageSource:
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return ImageSource("m", buffer.getvalue)


def channels(mode: str, *planes: Any) -> ImageSource:
    """An image of these channels, each an array or one value."""
    whole = [np.broadcast_to(np.asarray(plane, np.uint8), DRAWN.shape) for plane in planes]
    return stored(Image.merge(mode, [Image.fromarray(np.ascontiguousarray(plane)) for plane in whole]))


def palette(indices: np.ndarray, colours: list[tuple[int, int, int]], **settings: Any) -> ImageSource:
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette([level for colour in colours for level in colour])
    return stored(image, **settings)


WHITE, BLACK, RED, BLUE = (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255)
ON = DRAWN * 255


@pytest.mark.parametrize(
    "source",
    [
        stored(Image.fromarray(DRAWN)),
        stored(Image.fromarray(DRAWN.astype(np.uint8))),
        stored(Image.fromarray((DRAWN * 40000).astype(np.uint16))),
        stored(Image.fromarray(DRAWN * np.float32(1)), "TIFF"),
        stored(Image.fromarray(np.repeat(ON[..., None], 3, 2).astype(np.uint8))),
        channels("LA", ON, 255),
        channels("LA", ON, 0),
        channels("LA", 255, ON),
        channels("LA", 0, ON),
        channels("LA", ON, ON),
        channels("LA", ON, DRAWN * 90),
        channels("RGBA", 0, 0, 0, ON),
        channels("RGBA", 255, 0, 0, DRAWN * 128),
        channels("RGBA", ON, 0, 0, 255),
        channels("RGB", 0, ON, 0),
        palette(~DRAWN, [WHITE, BLACK]),
        palette(DRAWN, [BLACK, RED]),
        palette(DRAWN, [BLACK, BLACK]),
        palette(DRAWN, [RED, RED], transparency=0),
        palette(DRAWN * 3, [BLACK, RED, BLUE, WHITE]),
    ],
)
def test_a_mask_of_one_class_is_what_was_drawn_however_it_is_stored(source: ImageSource) -> None:
    assert np.array_equal(open_binary(source), DRAWN)
    assert np.array_equal(open_region(source), DRAWN)


def test_a_mask_on_an_opaque_ground_that_does_not_fill_the_picture_is_the_drawing() -> None:
    ground = np.zeros_like(DRAWN)
    ground[:, 1:] = True
    assert np.array_equal(open_binary(channels("LA", ON, ground * 255)), DRAWN)


HALF = np.zeros(DRAWN.shape, np.uint8)
HALF[:, 4:] = 255


@pytest.mark.parametrize(
    "source,code",
    [
        (palette(DRAWN, [RED, BLUE]), "mask_ambiguous"),
        (channels("RGB", 255, ON, 0), "mask_ambiguous"),
        (stored(Image.fromarray((DRAWN * 100 + 7).astype(np.uint8))), "mask_ambiguous"),
        (channels("LA", ON, HALF), "mask_ambiguous"),
        (channels("LA", 200, DRAWN * 100 + 50), "mask_ambiguous"),
        (channels("RGB", ON * (HALF > 0), 0, ON * (HALF == 0)), "mask_not_binary"),
        (channels("RGBA", 255, 0, 0, ON // (1 + (HALF > 0))), "mask_not_binary"),
        (stored(Image.fromarray((ON // (1 + (HALF > 0))).astype(np.uint8))), "mask_not_binary"),
    ],
)
def test_a_mask_that_could_mean_two_things_is_refused(source: ImageSource, code: str) -> None:
    with pytest.raises(SampleError) as caught:
        open_binary(source)
    assert caught.value.code == code


def test_a_mask_all_over_is_whole_and_an_empty_one_empty() -> None:
    assert open_binary(stored(Image.new("L", (4, 3), 255))).all()
    assert not open_binary(stored(Image.new("L", (4, 3)))).any()
    assert not open_binary(channels("RGBA", 0, 0, 0, 0)).any()


def test_two_colours_are_two_classes_by_their_names_and_refused_without() -> None:
    colours = np.array([BLACK, RED, BLUE], np.uint8)[LABELS]
    source = stored(Image.fromarray(colours))
    names = Names({1: "lesion", 2: "organ"}, {0xFF0000: 1, 0x0000FF: 2})
    assert np.array_equal(open_labels(source, names), LABELS)
    only = Names({1: "lesion"}, {0xFF0000: 1})
    assert np.array_equal(open_labels(source, only), np.where(LABELS == 2, UNKNOWN_COLOUR + 0x0000FF, LABELS))
    for look in (open_mask, lambda one: open_labels(one, NAMES)):
        with pytest.raises(SampleError, match="mask_in_colours"):
            look(source)
    photo = np.random.default_rng(0).integers(0, 255, (30, 30, 3)).astype(np.uint8)
    with pytest.raises(SampleError, match=r"mask_not_labels.*too many"):
        open_labels(stored(Image.fromarray(photo)), names)


def test_label_maps_keep_grey_values_palette_indices_and_sixteen_bits() -> None:
    deep = np.array([[0, 4000]], np.uint16)
    assert open_mask(stored(Image.fromarray(deep))).tolist() == [[0, 4000]]
    assert open_mask(stored(Image.fromarray(np.array([[0, 70000]], np.int32)), "TIFF")).tolist() == [[0, 70000]]
    for colours in ([BLACK, RED, BLUE], [BLACK, BLACK, BLACK], [(1, 1, 1), (9, 9, 9), RED]):
        source = palette(LABELS, colours)
        assert np.array_equal(open_mask(source), LABELS) and np.array_equal(open_labels(source, NAMES), LABELS)
    grey = stored(Image.fromarray(np.repeat(LABELS[..., None], 3, 2).astype(np.uint8)))
    assert np.array_equal(open_labels(grey, NAMES), LABELS)


def test_a_palette_that_a_tool_has_sorted_is_read_by_its_grey_levels_or_colours_or_refused() -> None:
    order = np.array([2, 0, 1])  # value -> place in the palette
    sorted_greys = palette(order[LABELS], [(1, 1, 1), (2, 2, 2), BLACK])
    assert np.array_equal(open_labels(sorted_greys, NAMES), LABELS)
    sorted_colours = palette(order[LABELS], [RED, BLUE, BLACK])
    names = Names(NAMES.classes, {0xFF0000: 1, 0x0000FF: 2})
    assert np.array_equal(open_labels(sorted_colours, names), LABELS)
    with pytest.raises(SampleError, match=r"mask_ambiguous.*black is not 0"):
        open_labels(sorted_colours, NAMES)
    levels = palette(LABELS > 0, [BLACK, (7, 7, 7)])
    assert np.array_equal(open_labels(levels, Names({7: "lesion"})), (LABELS > 0) * 7)


def test_transparent_pixels_of_a_label_map_are_background_and_alpha_alone_is_no_class() -> None:
    alpha = np.where(LABELS == 2, 0, 255).astype(np.uint8)
    both = Image.merge("LA", [Image.fromarray(LABELS.astype(np.uint8)), Image.fromarray(alpha)])
    assert np.array_equal(open_labels(stored(both), NAMES), np.where(LABELS == 2, 0, LABELS))
    with pytest.raises(SampleError, match=r"mask_ambiguous.*of which class"):
        open_labels(channels("LA", 0, ON), NAMES)


def test_values_that_are_no_whole_numbers_are_no_labels() -> None:
    for values in ([[0.0, 0.5]], [[0.0, np.nan]]):
        with pytest.raises(SampleError, match="mask_not_labels"):
            open_mask(stored(Image.fromarray(np.array(values, np.float32)), "TIFF"))


def test_a_dicom_label_map_gives_its_stored_values_whatever_its_window() -> None:
    pytest.importorskip("pydicom")
    from scans import dataset, encoded

    data = encoded(dataset(LABELS.astype(np.uint16), WindowCenter=1, WindowWidth=1, RescaleSlope=7, RescaleIntercept=3))
    assert np.array_equal(open_labels(ImageSource("m.dcm", lambda: data), NAMES), LABELS)
