"""Twenty of lm-eval's tasks, of every type of request, with rows in the layout of their data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.evaluation.conftest import any_random, sentence

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

Row = dict[str, object]


class NamedSet(NamedTuple):
    """A task's data set: where it is on the hub, and its rows."""

    repository: str
    config: str
    row: Callable[[random.Random, int], Row]
    splits: tuple[str, ...] = ("train", "validation", "test")


def _sciq(rng: random.Random, index: int) -> Row:
    distractors = {f"distractor{i}": sentence(rng, 1 + i) for i in (1, 2, 3)}
    return (
        {"support": f" {sentence(rng, 8)}", "question": sentence(rng, 5 + 6 * index)}
        | distractors
        | {"correct_answer": sentence(rng, 2)}
    )


def _trivia(rng: random.Random, _index: int) -> Row:
    return {"question": sentence(rng, 7), "answer": {"aliases": [sentence(rng, 1), "cat"], "value": "cat"}}


def _mgsm(rng: random.Random, index: int) -> Row:
    return {"question": sentence(rng, 9), "answer": None, "answer_number": index, "equation_solution": None}


def _belebele(rng: random.Random, index: int) -> Row:
    answers = {f"mc_answer{i}": sentence(rng, i) for i in (1, 2, 3, 4)}
    about = {"flores_passage": sentence(rng, 12), "question": sentence(rng, 5)}
    return about | answers | {"correct_answer_num": str(1 + index % 4)}


def _copa(rng: random.Random, index: int) -> Row:
    about = {"premise": f"{sentence(rng, 4)}.", "question": ("cause", "effect")[index % 2]}
    return about | {"choice1": "The cat sat.", "choice2": "Dogs ran.", "label": index % 2}


def _commonsense(rng: random.Random, index: int) -> Row:
    choices = {"label": list("ABCDE"), "text": [sentence(rng, 1 + i % 2) for i in range(5)]}
    return {"question": sentence(rng, 7), "choices": choices, "answerKey": "ABCDE"[index % 5]}


def _wsc(rng: random.Random, index: int) -> Row:
    text = f"{sentence(rng, 3)} it {sentence(rng, 3)}"
    return {
        "text": text, "pronoun": "it", "pronoun_loc": text.index(" it ") + 1, "options": ["the cat", "Dogs"],
        "label": index % 2, "quote": "", "quote_loc": 0, "source": "",
    }  # fmt: skip


def _truthful(rng: random.Random, _index: int) -> Row:
    choices = {"choices": [sentence(rng, 2 + i) for i in range(3)], "labels": [1, 0, 0]}
    return {"question": sentence(rng, 5), "mc1_targets": choices, "mc2_targets": choices}


def _pair(*names: str, options: int = 2) -> Callable[[random.Random, int], Row]:
    """Sentences of some names, and a label."""
    return lambda rng, index: {name: sentence(rng, 6) for name in names} | {"label": index % options}


NAMED = {
    "sciq": NamedSet("allenai/sciq", "default", _sciq),
    "lambada_openai": NamedSet(
        "EleutherAI/lambada_openai", "default", lambda rng, index: {"text": sentence(rng, 4 + 16 * index)}, ("test",)
    ),
    "lambada_openai_cloze_yaml": NamedSet(
        "EleutherAI/lambada_openai", "default", lambda rng, index: {"text": sentence(rng, 4 + 16 * index)}, ("test",)
    ),
    "wikitext": NamedSet(
        "EleutherAI/wikitext_document_level", "wikitext-2-raw-v1",
        lambda rng, index: {"page": f" = {sentence(rng, 2)} = \n\n {sentence(rng, 8 + 30 * index)} . \n"},
    ),
    "triviaqa": NamedSet("mandarjoshi/trivia_qa", "rc.nocontext", _trivia),
    "nq_open": NamedSet(
        "google-research-datasets/nq_open", "nq_open",
        lambda rng, _: {"question": sentence(rng, 8), "answer": [sentence(rng, 1), sentence(rng, 2)]},
    ),
    "babi": NamedSet(
        "Muennighoff/babi", "default",
        lambda rng, _: {"passage": f"{sentence(rng, 9)}\n", "question": sentence(rng, 4), "answer": "cat", "task": 1},
        ("train", "valid", "test"),
    ),
    "mgsm_direct_zh": NamedSet("juletxara/mgsm", "zh", _mgsm, ("train", "test")),
    "belebele_zho_Hans": NamedSet("facebook/belebele", "zho_Hans", _belebele, ("test",)),
    "copa": NamedSet("aps/super_glue", "copa", _copa),
    "rte": NamedSet("nyu-mll/glue", "rte", _pair("sentence1", "sentence2")),
    "sst2": NamedSet("nyu-mll/glue", "sst2", _pair("sentence")),
    "cola": NamedSet("nyu-mll/glue", "cola", _pair("sentence")),
    "anli_r1": NamedSet(
        "facebook/anli", "plain_text", _pair("premise", "hypothesis", options=3), ("train_r1", "dev_r1", "test_r1")
    ),
    "commonsense_qa": NamedSet("tau/commonsense_qa", "default", _commonsense),
    "mmlu_anatomy": NamedSet(
        "cais/mmlu", "anatomy",
        lambda rng, index: {
            "question": sentence(rng, 9), "choices": [sentence(rng, 2) for _ in range(4)], "answer": index % 4,
        },
        ("dev", "validation", "test"),
    ),
    "swag": NamedSet(
        "allenai/swag", "regular",
        lambda rng, index: {"startphrase": sentence(rng, 5), "label": index % 4}
        | {f"ending{i}": sentence(rng, 2 + i) for i in range(4)},
    ),
    "blimp_adjunct_island": NamedSet(
        "nyu-mll/blimp", "adjunct_island",
        lambda rng, _: {"sentence_good": sentence(rng, 5), "sentence_bad": sentence(rng, 5)}, ("train",),
    ),
    "wsc273": NamedSet("lighteval/winograd_wsc", "wsc273", _wsc, ("test",)),
    "asdiv": NamedSet(
        "EleutherAI/asdiv", "default",
        lambda rng, _: {"body": sentence(rng, 9), "question": sentence(rng, 5), "answer": "the cat (apples)"},
        ("validation",),
    ),
    "truthfulqa_mc2": NamedSet("truthfulqa/truthful_qa", "multiple_choice", _truthful, ("validation",)),
}  # fmt: skip


def rows_of(name: str, questions: int = 4) -> dict[str, list[Row]]:
    """Split → rows."""
    task = NAMED[name]
    rng = any_random(task.repository + task.config)
    return {split: [task.row(rng, index) for index in range(questions)] for split in task.splits}
