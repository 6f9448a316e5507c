"""The playground: answers with their probabilities, from a process of their own; its errors, its end, who may ask."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import torch

from tests.studio.process import studio
from tinyllama import generate
from tinyllama.checkpoint.format import MANIFEST, steps_saved
from tinyllama.errors import ModelError, TinyLlamaError, UserError
from tinyllama.formats.open import open_model
from tinyllama.inference import CARD_SAMPLING
from tinyllama.layout import FamilyLayout
from tinyllama.model.devices import is_out_of_memory
from tinyllama.studio.playground import Ask, Order, Playground, Question, Reply
from tinyllama.studio.playground_worker import Models, Worker

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

PROMPT = '</p><script>alert(1)</script>\n\ndata: {"end": "end"}\n\n人 & \u202e'
SETTINGS = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.2, "max_new_tokens": 12, "seed": 3}
linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def trained(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a family of which the base and variants are trained."""
    return Path(shutil.copytree(trained, tmp_path_factory.mktemp("played") / "small")).parent


@pytest.fixture(scope="module")
def served(trained: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with studio(str(trained)) as (address, process):
        yield f"{address}api/families/small/playground", process


def newest(trained: Path, *models: str) -> dict[str, int]:
    return {model: max(steps_saved(FamilyLayout(trained / "small").checkpoints(model))) for model in models}


def checkpoint(trained: Path, model: str) -> Path:
    return FamilyLayout(trained / "small").checkpoints(model) / f"step-{newest(trained, model)[model]}"


def ask(address: str, models: dict[str, int], prompt: str = PROMPT, **settings: float) -> list[dict[str, Any]]:
    """What the server's events hold."""
    body = {"prompt": prompt, "models": models, **SETTINGS, **settings}
    answer = httpx2.post(address, json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return parsed(answer.text)


def parsed(text: str) -> list[dict[str, Any]]:
    events = [event.split("\n") for event in text.removesuffix("\n\n").split("\n\n")]
    assert all(len(lines) == 2 and lines[0] in {"event: reply", "event: failed"} for lines in events)
    return [json.loads(lines[1].removeprefix("data: ")) for lines in events]


def text_of(replies: list[dict[str, Any]], model: str) -> str:
    return "".join(reply["text"] for reply in replies if reply["model"] == model)


def worker_of(process: subprocess.Popen[str]) -> int:
    """The process that the studio's models are in."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(") ")[2].split()[1])
            is_worker = b"playground_worker" in (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == process.pid and is_worker:
            found.append(int(stat.parent.name))
    (pid,) = found
    return pid


def test_answers_of_all_models_are_those_of_generate_and_come_side_by_side(
    served: tuple[str, object], trained: Path
) -> None:
    models = newest(trained, "base", "math_code")
    replies = ask(served[0], models)
    for model in models:
        assert text_of(replies, model) == generate(checkpoint(trained, model), PROMPT, **SETTINGS)
        assert [reply["end"] for reply in replies if reply["model"] == model][-1] in {"length", "end", "context"}
    order = [reply["model"] for reply in replies]
    assert order.index("math_code") < len(order) - 1 - order[::-1].index("base")


def test_probabilities_are_those_of_a_direct_forward_pass(served: tuple[str, object], trained: Path) -> None:
    source = open_model(checkpoint(trained, "math_code"))
    tokenizer, model = source.tokenizer(), source.load()
    ids = {tokenizer.piece(token): token for token in range(tokenizer.vocab_size)}
    replies = ask(served[0], newest(trained, "math_code"))
    tokens = [token for reply in replies for token in reply["tokens"]]
    prompt = tokenizer.encode_prompt(PROMPT)
    logits = model(torch.tensor([prompt + [ids[token["piece"]] for token in tokens]]))[0].double()
    assert len(tokens) > 3
    for place, token in enumerate(tokens, len(prompt) - 1):
        expected = logits[place].log_softmax(-1)
        likeliest = expected.topk(5)
        assert token["logprob"] == pytest.approx(float(expected[ids[token["piece"]]]), abs=1e-4)
        assert [value for _, value in token["likeliest"]] == pytest.approx(likeliest.values.tolist(), abs=1e-4)
        assert {ids[piece] for piece, _ in token["likeliest"]} == set(likeliest.indices.tolist())
        assert sum(math.exp(value) for _, value in token["likeliest"]) <= 1


def test_earlier_checkpoints_answer_otherwise(served: tuple[str, object], trained: Path) -> None:
    steps = steps_saved(FamilyLayout(trained / "small").checkpoints("math_code"))
    replies = [ask(served[0], {"math_code": step}, "The", temperature=0)[0] for step in steps]
    assert len({reply["tokens"][0]["logprob"] for reply in replies}) == len(steps) > 1


@linux
def test_two_prompts_at_once_are_answered_as_alone(served: tuple[str, Any], trained: Path) -> None:
    models = newest(trained, "base", "math_code")
    prompts = ["The cat", "def f(x):"]
    alone = [[text_of(ask(served[0], models, prompt), model) for model in models] for prompt in prompts]
    pid = worker_of(served[1])
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor() as pool:
        together = [pool.submit(ask, served[0], models, prompt) for prompt in prompts]
        time.sleep(0.5)
        assert not any(found.done() for found in together)
        os.kill(pid, signal.SIGCONT)
        found = [[text_of(each.result(60), model) for model in models] for each in together]
    assert found == alone
    assert worker_of(served[1]) == pid


@linux
def test_a_killed_process_is_a_sentence_and_the_next_prompt_starts_another(
    served: tuple[str, Any], trained: Path
) -> None:
    models = newest(trained, "base")
    before = ask(served[0], models)
    pid = worker_of(served[1])
    os.kill(pid, signal.SIGSTOP)
    with httpx2.stream("POST", served[0], json={"prompt": PROMPT, "models": models}, timeout=120) as answer:
        time.sleep(0.5)
        os.kill(pid, signal.SIGKILL)
        (failed,) = parsed(answer.read().decode())
    assert failed["error"].startswith("the playground's process was killed")
    assert "model" not in failed
    assert ask(served[0], models) == before
    assert worker_of(served[1]) != pid
    assert b"torch" not in Path(f"/proc/{served[1].pid}/maps").read_bytes()


def test_damaged_and_missing_weights_are_sentences(served: tuple[str, object], trained: Path) -> None:
    good = checkpoint(trained, "base")
    damaged = good.with_name("step-77")
    shutil.copytree(good, damaged)
    try:
        weights = next(damaged.glob("*.distcp"))
        weights.write_bytes(weights.read_bytes()[:-1])
        replies = ask(served[0], {"base": 77, **newest(trained, "math_code")})
    finally:
        shutil.rmtree(damaged)
    (problem,) = [reply["problem"] for reply in replies if reply["model"] == "base"]
    assert "differs from its manifest" in problem
    assert text_of(replies, "math_code")
    gone = httpx2.post(served[0], json={"prompt": "a", "models": {"base": 77}}, timeout=60)
    assert gone.status_code == 400
    assert gone.json()["error"].startswith("base has no checkpoint at step 77 on this machine")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"top_p": 0}, "top_p"),
        ({"temperature": -1}, "temperature"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"models": {}}, "models"),
        ({"models": {"../base": 6}}, "../base has no checkpoint"),
        ({"path": "/etc"}, "path"),
    ],
)
def test_odd_questions_are_refused(served: tuple[str, object], body: dict[str, Any], named: str) -> None:
    answer = httpx2.post(served[0], json={"prompt": "a", "models": {"base": 6}, **body}, timeout=60)
    assert answer.status_code == 400
    assert named in answer.json()["error"]


def test_a_prompt_that_fills_the_context_is_a_sentence(served: tuple[str, object], trained: Path) -> None:
    (reply,) = ask(served[0], newest(trained, "base"), "word " * 500)
    assert "shorten the prompt" in reply["problem"]


def test_pages_of_other_sites_cannot_ask(served: tuple[str, object]) -> None:
    body = {"prompt": "a", "models": {"base": 6}}
    for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert httpx2.post(served[0], json=body, headers=headers, timeout=60).status_code == 403
    assert httpx2.get(served[0]).status_code == 405


@linux
def test_the_process_ends_with_a_studio_that_is_killed(trained: Path) -> None:
    with studio(str(trained)) as (address, process):
        ask(f"{address}api/families/small/playground", newest(trained, "base"))
        pid = worker_of(process)
        process.kill()
        for _ in range(200):
            try:
                state = Path(f"/proc/{pid}/stat").read_text()
            except OSError:
                return
            if ") Z " in state:
                return
            time.sleep(0.05)
    pytest.fail("it is still there")


@pytest.mark.parametrize(
    "written", ['{"number": 1, "tokens": [{"piece": "a", "logprob": null, "likeliest": []}]}', "a warning", "a" * 10**7]
)
def test_a_process_that_writes_no_reply_ends_and_is_a_sentence(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_worker.py").write_text(f"for _ in open(0):\n    print({written!r}, flush=True)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("tinyllama.studio.playground._WORKER", "odd_worker")

    async def asked() -> None:
        playground = Playground()
        question = Question(prompt="a", models={"base": 1})
        for _ in range(2):
            with pytest.raises(TinyLlamaError, match="the playground's process was killed"):
                async with asyncio.timeout(20):
                    await anext(playground.answers(question, {"base": tmp_path}))
            assert playground.ended
        await playground.close()

    asyncio.run(asked())


def test_the_process_ends_when_nobody_asks(trained: Path) -> None:
    question = Question(prompt="a", models={"base": 1}, max_new_tokens=2)

    async def asked() -> None:
        playground = Playground(idle=0.2)
        replies = [reply async for _, reply in playground.answers(question, {"base": checkpoint(trained, "base")})]
        assert replies[-1].end == "length"
        began = time.monotonic()
        while not playground.ended:
            assert time.monotonic() - began < 20
            await asyncio.sleep(0.05)
        await playground.close()

    asyncio.run(asked())


def test_files_of_the_folder_where_the_studio_was_started_are_not_imported(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('the own program was run')\n")
    monkeypatch.chdir(tmp_path)
    question = Question(prompt="a", models={"base": 1}, max_new_tokens=2)

    async def asked() -> None:
        playground = Playground()
        replies = [reply async for _, reply in playground.answers(question, {"base": checkpoint(trained, "base")})]
        assert replies[-1].end
        await playground.close()

    asyncio.run(asked())


def test_a_device_that_is_not_there_is_refused_when_a_model_is_asked(trained: Path) -> None:
    with pytest.raises(UserError, match="device cuda:9"):
        Models("cuda:9").make_room(open_model(checkpoint(trained, "base")))


def test_an_answer_that_nobody_waits_for_any_more_is_not_written(trained: Path) -> None:
    folder, orders, replies = checkpoint(trained, "base"), SimpleQueue[Order](), list[Reply]()
    for number in (1, 2):
        orders.put(Order(ask=Ask(number=number, checkpoint=folder, prompt="a", max_new_tokens=3)))
    orders.put(Order(cancel=1))

    def send(reply: Reply) -> None:
        replies.append(reply)
        if reply.is_last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Worker(Models("cpu"), send).run(orders)
    assert {reply.number for reply in replies} == {2}
    assert [len(reply.tokens) for reply in replies] == [1, 1, 1, 0]


def answers_of(models: Models, *asks: Ask) -> dict[int, list[Reply]]:
    """The replies to prompts by their numbers, once all are answered."""
    orders, replies = SimpleQueue[Order](), {ask.number: list[Reply]() for ask in asks}
    for ask in asks:
        orders.put(Order(ask=ask))

    def send(reply: Reply) -> None:
        replies[reply.number].append(reply)
        if all(found and found[-1].is_last for found in replies.values()):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Worker(models, send).run(orders)
    return replies


@pytest.mark.parametrize(
    ("temperature", "value", "problem"),
    [
        (0, math.nan, "no finite probabilities"),
        (0, 3e38, "no finite probabilities"),
        (1, math.nan, "this answer failed (RuntimeError)"),
    ],
)
def test_a_model_without_finite_probabilities_ends_only_its_own_answer(
    temperature: float, value: float, problem: str, trained: Path
) -> None:
    good, bad, models = checkpoint(trained, "math_code"), checkpoint(trained, "base"), Models("cpu")
    key = bad, (bad / MANIFEST).stat().st_mtime_ns
    models.load(key, open_model(bad))
    with models.use(key) as loaded:
        loaded.model.norm.weight.data[:] = value
    asks = [Ask(number=i, checkpoint=each, prompt="a", temperature=temperature) for i, each in enumerate((bad, good))]
    refused, answered = answers_of(models, *asks).values()
    assert problem in refused[-1].problem
    assert answered[-1].end
    assert len(answered) > 1


def test_weights_that_are_not_finite_are_refused_before_they_are_asked(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, models = open_model(checkpoint(trained, "base")), Models("cpu")
    model = source.load()
    model.lm_head.weight.data[3, 3] = math.inf
    monkeypatch.setattr(source, "load", lambda: model)
    with pytest.raises(ModelError, match="no finite probabilities"):
        models.load((source.path, 0), source)
    assert (source.path, 0) not in models


def test_models_that_nobody_uses_make_room_and_those_in_use_are_waited_for(trained: Path) -> None:
    models, key = Models("cpu"), (checkpoint(trained, "base"), 0)
    huge = open_model(checkpoint(trained, "math_code"))
    huge.shape = huge.shape.model_copy(update={"layers": 10**12})
    models.load(key, open_model(key[0]))
    with models.use(key):
        assert not models.make_room(huge)
        assert key in models
    with pytest.raises(ModelError, match=r"needs [\d.]+ GiB of memory"):
        models.make_room(huge)
    assert key not in models


def test_a_full_memory_is_recognized() -> None:
    with pytest.raises(RuntimeError) as full:
        torch.empty(1 << 60, dtype=torch.int8)
    assert is_out_of_memory(full.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(TinyLlamaError("out of memory"))


def test_the_pages_first_settings_are_the_model_cards() -> None:
    script = (files("tinyllama.studio") / "web" / "playground.js").read_text(encoding="utf-8")
    (card,) = re.findall(r"card: \{ (.*) \}", script)
    settings = dict(pair.split(": ") for pair in card.split(", "))
    assert {name: float(value) for name, value in settings.items()} == {
        name: float(getattr(CARD_SAMPLING, name)) for name in ("temperature", "top_k", "top_p", "repetition_penalty")
    }
