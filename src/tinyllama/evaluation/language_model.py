"""Our model behind lm-eval's interface, scoring as `lm_eval --model hf` does on the same weights.

lm-eval's own `TemplateLM` splits context from continuation (both are tokenized together), so only the
arithmetic is ours. It differs from lm-eval's HFLM on purpose in two points:

* text that spells a special token stays text (HFLM would drop our BOS before a literal "<s>");
* a continuation longer than the model's context is scored whole, in windows (HFLM fails an assertion).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from tinyllama.errors import EvaluationError
from tinyllama.evaluation.continuation import Continuation, continue_ids
from tinyllama.evaluation.scoring import Score, Window, score_windows
from tinyllama.evaluation.vocabulary import refuse_other_vocabulary
from tinyllama.files import sha256_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from lm_eval.api.instance import Instance

    from tinyllama.evaluation.journal import Journal
    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

_MAX_NEW_TOKENS = 256  # HFLM's default
_TEXTS_AT_ONCE = 4096  # encoded together


class LlamaLM(TemplateLM):  # type: ignore[misc]  # an untyped base
    """A `Llama` and its tokenizer as an lm-eval model.

    Args:
        model: scored as it is, on the device its weights are on.
        tokenizer: gives ids without BOS.
        bos: begin every text with BOS, as the documents in training did.
        rows: rows of a forward pass; None takes as many as suit the device.
        journal: answers already known, and where new ones go.
        progress: called with (done, in all) after each pass.

    Raises:
        EvaluationError: the tokenizer has ids the model has no embedding for, or far fewer.
    """

    def __init__(  # noqa: PLR0913  # each by name
        self,
        model: Llama,
        tokenizer: Tokenizer,
        *,
        bos: bool = True,
        rows: int | None = None,
        journal: Journal | None = None,
        progress: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> None:
        super().__init__()
        refuse_other_vocabulary(tokenizer, model)
        self._model, self._text, self._bos = model, tokenizer, bos
        self._rows, self._journal, self._progress = rows, journal, progress
        self._encoded = dict[str, list[int]]()
        """Ids of the texts of requests, each of which lm-eval asks for in several places."""
        self._cut = set[tuple[str, str]]()
        """Prompts that were longer than the context allows, each with its option; "" for a generated text."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._model.embed_tokens.weight.device

    @property
    def max_length(self) -> int:
        """The model's context."""
        return self._model.shape.context

    @property
    def eot_token_id(self) -> int:
        """EOS ends a text."""
        return self._text.eos_id

    @property
    def prefix_token_id(self) -> int:
        """The token that an empty context consists of: BOS, as in HFLM."""
        return self._text.bos_id

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:  # noqa: FBT001  # lm-eval's signature
        """Ids of a text, BOS first unless `add_special_tokens` is False."""
        bos = self._bos if add_special_tokens is None else add_special_tokens
        ids = self._encoded[string] if string in self._encoded else self._text.encode([string])[0]
        return [self._text.bos_id] * bos + ids

    def was_cut(self, prompt: str, option: object) -> bool:
        """Whether a request that was answered lost the beginning of its prompt.

        Args:
            prompt: the request's context.
            option: its continuation; settings where a text was generated.
        """
        return (prompt, option if isinstance(option, str) else "") in self._cut

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[Score]:  # noqa: FBT001, FBT002  # lm-eval's signature
        """Score each request's continuation given its context."""
        pairs = [request.args for request in requests]
        texts = list({text for context, end in pairs for text in (context.rstrip(), context + end)})
        for start in range(0, len(texts), _TEXTS_AT_ONCE):  # on all cores
            some = texts[start : start + _TEXTS_AT_ONCE]
            self._encoded.update(zip(some, self._text.encode(some), strict=True))
        scores: list[Score] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return scores

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:  # noqa: ARG002, FBT001, FBT002  # lm-eval's signature
        """Log-likelihood of whole texts in disjoint windows; BOS itself is a target, as in HFLM."""
        texts = [
            [
                Window(tuple(context + targets[:-1]), tuple(targets))
                for context, targets in self._rolling(request.args[0])
            ]
            for request in requests
        ]
        return [total for total, _ in self._score_whole(texts)]

    def _rolling(self, text: str) -> Iterator[tuple[list[int], list[int]]]:
        windows = get_rolling_token_windows(
            token_list=self.tok_encode(text),
            prefix_token=self.prefix_token_id,
            max_seq_len=self.max_length,
            context_len=1,
        )
        return map(make_disjoint_window, windows)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str], list[int], list[int]]],
        **_: object,
    ) -> list[Score]:
        """Score ((context, continuation), context ids, continuation ids); TemplateLM calls this."""
        self._encoded.clear()
        self._cut.update(texts for texts, *ids in requests if sum(map(len, ids)) > self.max_length + 1)
        return self._score_whole([self._windows(context, target) for _, context, target in requests])

    def _windows(self, context: list[int], targets: list[int]) -> list[Window]:
        """Usually one window, cut from the left like HFLM's; more where the continuation alone overflows."""
        if len(targets) <= self.max_length:
            ids = (context + targets)[-(self.max_length + 1) :]
            return [Window(tuple(ids[:-1]), tuple(targets))]
        rolled = get_rolling_token_windows(targets, context[-1], self.max_length, context_len=1)
        return [Window(tuple(inputs), tuple(predicted)) for inputs, predicted in rolled]

    def _score_whole(self, texts: Sequence[Sequence[Window]]) -> list[Score]:
        """Sum each text's windows."""
        scores = iter(self._score([window for windows in texts for window in windows]))
        wholes = []
        for windows in texts:
            parts = [next(scores) for _ in windows]
            wholes.append((sum(total for total, _ in parts), all(greedy for _, greedy in parts)))
        return wholes

    def _score(self, windows: Sequence[Window]) -> list[Score]:
        """Score windows; those in the journal are not computed again."""
        if self._journal is None:
            known: dict[int, Score] = {}
        else:
            keys = [_key(window) for window in windows]
            found = enumerate(map(self._journal.get, keys))
            known = {index: (answer[0], answer[1]) for index, answer in found if answer is not None}
        unknown = [index for index in range(len(windows)) if index not in known]
        for scored in score_windows(self._model, [windows[index] for index in unknown], self._rows):
            new = {unknown[index]: score for index, score in scored}
            if self._journal is not None:
                self._journal.put({keys[index]: score for index, score in new.items()})
            known |= new
            self._progress(len(known), len(windows))
        return [known[index] for index in range(len(windows))]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:  # noqa: ARG002, FBT001, FBT002  # lm-eval's signature
        """Continue each request's context greedily until EOS, a stop string or the room is used up.

        Raises:
            EvaluationError: a request asks for sampling.
        """
        texts = []
        for number, request in enumerate(requests, 1):
            context, settings = request.args
            asked = _continuation(settings)
            if len(self.tok_encode(context)) > asked.prompt_room(self.max_length):
                self._cut.add((context, ""))
            key = sha256_json([context, settings])
            text = None if self._journal is None else self._journal.get(key)
            if text is None:
                text = continue_ids(self._model, self._text, self.tok_encode(context), asked)[0]
                if self._journal is not None:
                    self._journal.put({key: text})
                self._progress(number, len(requests))
            texts.append(text)
        return texts


def _continuation(settings: dict[str, Any]) -> Continuation:  # lm-eval's generation_kwargs
    if settings.get("do_sample") and settings.get("temperature"):
        raise EvaluationError("this evaluation only decodes greedily; set do_sample: false in the task")
    until = settings.get("until") or []
    stops = (until,) if isinstance(until, str) else tuple(until)
    return Continuation(stops, int(settings.get("max_gen_toks", _MAX_NEW_TOKENS)))


def _key(window: Window) -> str:
    """A window's name in the journal."""
    text = f"{window.inputs} {window.targets}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
