"""Every key is classified beside its definition; a key that nobody classified decides."""

from typing import Annotated

from pydantic import BaseModel

from tinyllama.recipe import load_recipe
from tinyllama.recipe.classification import DECIDES_NOTHING, Absent, RepresentedBy, absent_value, without_absent


class Inner(BaseModel):
    plain: int = 1
    late: Annotated[int | None, Absent(None)] = None
    changed: Annotated[bool, Absent(value=False)] = True


class Outer(BaseModel):
    title: Annotated[str, DECIDES_NOTHING] = "x"
    file: Annotated[str, RepresentedBy("its hash")] = "y"
    one: Inner = Inner()
    many: list[Inner] = [Inner(late=3)]
    named: dict[str, Inner] = {"a": Inner(changed=False)}


def test_unclassified_keys_are_in_and_classified_ones_follow_their_markers() -> None:
    assert without_absent(Outer()) == {
        "one": {"plain": 1, "changed": True},
        "many": [{"plain": 1, "late": 3, "changed": True}],
        "named": {"a": {"plain": 1}},
    }


def test_a_default_that_differs_from_what_absence_means_is_written() -> None:
    assert without_absent(Inner()) == {"plain": 1, "changed": True}
    assert without_absent(Inner(changed=False)) == {"plain": 1}


def test_what_an_absent_key_means_is_found_by_its_dotted_name() -> None:
    assert absent_value(Outer, "one.changed") is False
    assert absent_value(Outer, "many.0.changed") is False
    assert absent_value(Outer, "named.a.changed") is False
    assert absent_value(Outer, "one.plain") is None


def test_a_corpus_request_holds_what_4bd9be0_wrote() -> None:
    corpus = load_recipe("nano").corpora["prose"]
    assert without_absent(corpus) == {
        "sources": [source.model_dump(mode="json") for source in corpus.sources],
        "cut": corpus.cut,
        "held_out": corpus.held_out.model_dump(mode="json"),
    }
