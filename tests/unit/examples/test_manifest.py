"""How many images are scored at once."""

import pytest

from featlight.examples.manifest import images_at_once


@pytest.mark.parametrize(
    ("size", "cpu", "gpu"),
    [
        (None, 32, 128),
        (32, 32, 128),
        (224, 32, 128),
        (320, 32, 128),
        ((160, 640), 32, 128),
        (512, 12, 50),
        (640, 8, 32),
        (1024, 3, 12),
        (8192, 1, 1),
    ],
)
def test_the_batch_size_falls_with_the_pixels_of_an_image(size, cpu, gpu):
    assert images_at_once(32, size) == cpu
    assert images_at_once(128, size) == gpu
