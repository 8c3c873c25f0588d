"""Colours of classes that are told apart, and names in any script."""

import itertools
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from wilss import drawing
from wilss.data.taxonomy import VOID
from wilss.drawing import class_colours, font_path, words

FONTS = Path(matplotlib.get_data_path()) / "fonts/ttf"


def lab(colours: np.ndarray) -> np.ndarray:
    """sRGB [N, 3] in CIE L*a*b* under D65, by the CIE's own formulas."""
    values = colours / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.array(to_xyz).T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def distances(first: int, last: int, *, apart: int) -> list[float]:
    """Between the colours of any two ids of a range that are not more than so many apart."""
    values = lab(class_colours().astype(np.float64))
    pairs = [(a, b) for a, b in itertools.combinations(range(first, last), 2) if b - a <= apart]
    return [float(np.linalg.norm(values[a] - values[b])) for a, b in pairs]


def test_colours_are_apart_from_each_other_and_far_from_their_neighbours() -> None:
    """A difference of 2.3 can just be seen."""
    assert min(distances(0, 21, apart=20)) > 20
    assert min(distances(0, 81, apart=80)) > 7
    assert min(distances(0, 81, apart=3)) > 30
    assert min(distances(0, 255, apart=2)) > 30


def test_every_id_has_a_colour_of_its_own() -> None:
    colours = class_colours()
    assert colours.shape == (256, 3)
    assert colours.dtype == np.uint8
    assert len({tuple(colour) for colour in colours.tolist()}) == 256
    assert colours[0].tolist() == [0, 0, 0]
    assert colours[VOID].min() > 180
    assert (lab(colours[1:255].astype(np.float64))[:, 0] > 30).all(), "none is near the black of background"


def test_names_that_dejavu_has_are_drawn_in_it() -> None:
    for name in ("cat", "Öl", "собака", "γάτα"):
        assert font_path(name) == str(FONTS / "DejaVuSans.ttf")
        assert words(name, 12)[0] == name
    assert Path(str(words("cat", 12, bold=True)[1].path)).name == "DejaVuSans-Bold.ttf"
    assert words("cat", 12)[1] is words("dog", 12)[1], "a font file is opened once"


def test_another_font_is_taken_where_it_has_the_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    letters = {"own": {*map(ord, "cat")}, "a": {*map(ord, "猫")}, "b-Regular": {*map(ord, "猫犬")}, "broken": set()}
    monkeypatch.setattr(drawing, "_own_font", lambda *, bold: "own")
    monkeypatch.setattr(drawing, "_letters", lambda path: frozenset(letters[path]))
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: ["broken", "b-Regular", "a"])
    font_path.cache_clear()
    assert [font_path(name) for name in ("cat", "猫", "犬", "猫cat")] == ["own", "b-Regular", "b-Regular", "own"]
    font_path.cache_clear()


def test_letters_of_no_font_are_written_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that two names stay two names."""
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", list)
    font_path.cache_clear()
    assert [words(name, 12)[0] for name in ("猫", "犬 2")] == ["\\u732b", "\\u72ac 2"]
    font_path.cache_clear()


def test_a_font_that_cannot_be_read_has_no_letters(tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    assert drawing._letters(str(tmp_path / "broken.ttf")) == frozenset()
