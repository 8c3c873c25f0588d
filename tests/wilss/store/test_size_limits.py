import numpy as np
import pytest
from numcodecs.zstd import Zstd

from wilss.store.size_limits import content_size, unpacked


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_791, 65_792, 1 << 20])
@pytest.mark.parametrize("level", [1, 3, 19])
def test_a_frame_says_what_it_becomes(size: int, level: int) -> None:
    for content in (bytes(size), np.random.default_rng(0).bytes(size)):
        assert content_size(Zstd(level=level).encode(content)) == size
        assert content_size(Zstd(level=level).encode(content)[:18]) == size, "its header is enough"


@pytest.mark.parametrize(
    "frame", [b"", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\xe0\1\2\3", b"\x50\x2a\x4d\x18" + bytes(9)]
)
def test_what_does_not_say_is_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match="no zstd frame|does not say how large"):
        content_size(frame)


def test_no_more_is_unpacked_than_there_can_be() -> None:
    frame = Zstd().encode(bytes(80))
    assert unpacked(frame, 10, 8) == bytes(80)
    with pytest.raises(ValueError, match="a chunk would become 80 bytes"):
        unpacked(frame, 10, 4)
    with pytest.raises(ValueError, match="its texts would become 40000 bytes"):
        unpacked(Zstd().encode(bytes(40_000)), 2, None)
