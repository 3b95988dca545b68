from xml.etree import ElementTree

from mira.distillation.model_card import loss_curve

SVG = "{http://www.w3.org/2000/svg}"


def points(svg):
    line = ElementTree.fromstring(svg).find(f"{SVG}polyline")
    return [tuple(map(float, p.split(","))) for p in line.get("points").split()]


def test_the_curve_goes_down_on_the_page_as_the_loss_does():
    drawn = points(loss_curve([(1, 4.0), (2, 2.0), (3, 1.0)]))
    assert [x for x, _ in drawn] == sorted(x for x, _ in drawn)
    assert drawn[0][1] < drawn[1][1] < drawn[2][1], "y grows downwards in SVG"
    assert drawn[-1][0] == 720 - 16
    first, second = drawn[1][1] - drawn[0][1], drawn[2][1] - drawn[1][1]
    assert abs(first / second - 2) < 0.01, "to scale"


def test_one_step_or_none_is_drawn_too():
    assert ElementTree.fromstring(loss_curve([(1, 2.0)])).find(f"{SVG}circle") is not None
    assert ElementTree.fromstring(loss_curve([])).find(f"{SVG}polyline") is not None
