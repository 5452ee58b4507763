"""Figures as files."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from PIL import Image

from evonas import plots
from evonas.errors import RunError
from evonas.result import Result

NAMES = ("front", "genes", "hypervolume", "network")


def test_each_figure_is_a_png_and_an_svg_and_nothing_else_is_left(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == sorted(f"{n}.{s}" for n in NAMES for s in ("png", "svg"))


@pytest.mark.parametrize("name", NAMES)
def test_png_has_the_resolution_of_print(saved: Path, name: str) -> None:
    with Image.open(saved / f"{name}.png") as image:
        image.verify()
        assert image.info["dpi"][0] >= 149.9
        assert min(image.size) > 300


@pytest.mark.parametrize("name", NAMES)
def test_svg_is_xml_whose_text_is_text(saved: Path, name: str) -> None:
    root = ElementTree.parse(saved / f"{name}.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = " ".join(piece.strip() for piece in root.itertext())
    assert "digits-ptq" in text
    assert "accuracy" in text


def test_the_same_result_gives_the_same_bytes(widths: Result, saved: Path, tmp_path: Path) -> None:
    widths.plot(tmp_path)
    for path in saved.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_users_settings_do_not_show(widths: Result, saved: Path, tmp_path: Path) -> None:
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.fonttype": "path", "savefig.dpi": 20}):
        plots.save({"front": plots.front(widths)}, tmp_path)
    for name in ("front.png", "front.svg"):
        assert (tmp_path / name).read_bytes() == (saved / name).read_bytes()


def test_files_are_replaced(widths: Result, tmp_path: Path) -> None:
    (tmp_path / "front.svg").write_text("old")
    plots.save({"front": plots.front(widths)}, tmp_path)
    assert (tmp_path / "front.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_a_directory_that_cannot_be_is_one_clear_error(widths: Result, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="figures cannot be written into"):
        plots.figures(widths, tmp_path / "file")
