import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from churnstream import topology
from churnstream.errors import UnknownFunction
from churnstream.pictures.pipeline import PLACES, draw, pictures
from churnstream.pictures.shapes import RIVER

SVG = "{http://www.w3.org/2000/svg}"


def words(svg: str) -> list[str]:
    """Every piece of text in the picture, in the order in which it is drawn."""
    return ["".join(each.itertext()) for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def faded_words(svg: str) -> list[str]:
    groups = [each for each in ElementTree.fromstring(svg).iter(f"{SVG}g") if each.get("opacity")]
    return ["".join(each.itertext()) for group in groups for each in group.iter(f"{SVG}text")]


def test_the_committed_pictures_are_what_the_topology_draws(root: Path) -> None:
    committed = {path.name: path.read_text() for path in (root / "assets" / "images").glob("pipeline*.svg")}
    assert committed == pictures(), "the topology or the drawing has changed: run `.venv/bin/churnstream pictures`"


def test_every_function_has_a_place_and_no_place_is_left_over() -> None:
    assert PLACES.keys() == {each.name for each in topology.FUNCTIONS}
    assert len(set(PLACES.values())) == len(PLACES)


def test_every_function_stream_and_table_is_named_with_its_notebooks_number() -> None:
    drawn = words(draw())
    for each in topology.FUNCTIONS:
        assert each.name in drawn
        assert each.notebook.split("-")[0] in drawn
        assert all(table in drawn for table in each.keeps)
    assert all(any(stream in line for line in drawn) for stream in topology.streams())


@pytest.mark.parametrize("name", [each.name for each in topology.FUNCTIONS])
def test_a_lit_function_is_bright_and_functions_beside_it_are_faded(name: str) -> None:
    faded = faded_words(draw(name))
    assert name not in faded
    assert {each.name for each in topology.FUNCTIONS} - {name} <= set(faded)
    mine = topology.function(name)
    assert not {*mine.reads, *mine.writes, *mine.keeps} & set(faded)


def test_with_nothing_lit_nothing_is_faded() -> None:
    assert faded_words(draw()) == []


def test_a_function_that_is_not_there_cannot_be_lit() -> None:
    with pytest.raises(UnknownFunction, match="no function 'nobody'"):
        draw("nobody")


def test_a_picture_needs_nothing_from_elsewhere() -> None:
    svg = draw("serving")
    assert "href" not in svg
    assert svg.count("http") == svg.count("http://www.w3.org/2000/svg")
    assert f"url(#head-{RIVER[1:]})" in svg
    heads = {each.get("id") for each in ElementTree.fromstring(svg).iter(f"{SVG}marker")}
    used = {each.split(")")[0] for each in svg.split("url(#")[1:]}
    assert used <= heads
