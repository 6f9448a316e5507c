import re
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.ladder.library import JOINT, made_up
from tinyllama.ladder.page import check_text, doubt_text, prediction_text, write_page


def test_the_figure_shows_every_point_and_the_prediction_inside_its_edges(tmp_path: Path) -> None:
    record = made_up(measured=4.0)
    write_page(record, tmp_path / "ladder.svg", tmp_path / "ladder.html")
    root = ET.parse(tmp_path / "ladder.svg").getroot()  # noqa: S314  # the figure is ours
    circles = root.findall("{*}circle")
    assert len([circle for circle in circles if circle.get("r") == "4"]) == 16 + 4  # points, and the legend's
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for circle in circles:
        assert 0 < float(circle.get("cx", 0)) < width
        assert 0 < float(circle.get("cy", 0)) < height
    texts = "".join(root.itertext())
    assert "measured 4.000" in texts
    assert f"predicted {record.prediction.loss:.3f}" in texts if record.prediction else False
    assert len(root.findall("{*}polyline")) == 5  # a curve for each rung, and the recipe's


def test_the_page_is_whole_and_asks_for_nothing(tmp_path: Path) -> None:
    write_page(made_up(), tmp_path / "ladder.svg", tmp_path / "ladder.html")
    page = (tmp_path / "ladder.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<tr>") == 1 + 6 + 1 + 16
    assert not re.search(r'(?:src|href)="http', page)


def test_the_page_names_the_law_that_was_taken_and_its_unknowns(tmp_path: Path) -> None:
    names = {}
    for form, record in {"sum": made_up(), "joint": made_up(law=JOINT)}.items():
        write_page(record, tmp_path / "ladder.svg", tmp_path / "ladder.html")
        page = (tmp_path / "ladder.html").read_text()
        names[form] = re.findall(r'<th scope="row">(E, nats a token|A|B|alpha|beta|gamma)</th>', page)
        assert f"loss = {'(A/N^alpha + B/D)^gamma' if form == 'joint' else 'E + A/N^alpha'}" in page
    assert names == {"sum": ["E, nats a token", "A", "B", "alpha", "beta"], "joint": ["A", "B", "alpha", "gamma"]}


def test_texts_say_how_far_off_a_prediction_was() -> None:
    assert prediction_text(made_up()).endswith("it is not trained yet")
    record = made_up(measured=4.0)
    assert record.prediction is not None
    assert f"off by {record.prediction.loss / 4.0 - 1:+.2%}, outside the interval" in prediction_text(record)
    assert "off by +0.00%" in check_text(made_up()) or "off by -0.00%" in check_text(made_up())
    assert "too few rungs" in check_text(made_up(rungs=3))


def test_a_law_whose_form_is_unsure_is_doubted() -> None:
    law = made_up(law=JOINT).law
    assert law is not None
    assert doubt_text(law) == ""
    assert "gamma from 0.01 to 0.4" in doubt_text(law.model_copy(update={"gamma_interval": (0.01, 0.4)}))
    assert "30% of the replicas have the other one" in doubt_text(law.model_copy(update={"form_share": 0.7}))


def test_a_law_whose_exponents_the_rungs_do_not_tell_is_doubted(tmp_path: Path) -> None:
    record = made_up()
    assert record.law is not None
    assert doubt_text(record.law) == ""
    vague = record.law.model_copy(update={"alpha_interval": (0.2, 1.8)})
    assert doubt_text(vague).startswith("the rungs do not determine the exponents (alpha from 0.2 to 1.8, beta from ")
    write_page(record.model_copy(update={"law": vague}), tmp_path / "ladder.svg", tmp_path / "ladder.html")
    assert "do not determine the exponents" in (tmp_path / "ladder.html").read_text()
