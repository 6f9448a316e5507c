"""Our model behind lm-eval's interface, scoring as `lm_eval --model hf` does on the same weights.

lm-eval's own `TemplateLM` splits context from continuation (both are tokenised together), so only the
arithmetic is ours. Where it differs from lm-eval's HFLM on purpose:

* text that spells a special token stays text (HFLM would drop our BOS before a literal "<s>");
* a continuation longer than the model's context is scored whole, in windows (HFLM fails an assertion).

Shapes in comments: B batch, T positions, D width, N scored positions, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from lm_eval.api.model import TemplateLM  # type: ignore[import-untyped]  # ships no types
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window  # type: ignore[import-untyped]  # as above
from torch import Tensor

from tinyllama.errors import EvaluationError
from tinyllama.model import KeyValueCache

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lm_eval.api.instance import Instance  # type: ignore[import-untyped]  # as above

    from tinyllama.corpus.tokenizer import TextTokenizer
    from tinyllama.model import Llama

Score = tuple[float, bool]
"""Log-likelihood of a continuation in nats, and whether greedy decoding would give it."""

_TOKENS_PER_BATCH = 2048  # padded; small enough for a CPU's caches
_POSITIONS_PER_HEAD = 256  # bounds the logits to 256 x V
_MAX_NEW_TOKENS = 256  # HFLM's default


class _Window(NamedTuple):
    """Ids that fit the context, and the targets of their last positions."""

    inputs: tuple[int, ...]
    targets: list[int]


class LlamaLM(TemplateLM):  # type: ignore[misc]  # an untyped base
    """A `Llama` and its tokenizer as an lm-eval model.

    Args:
        model: scored as it is, on the device its weights are on.
        tokenizer: gives ids without BOS.
        bos: begin every text with BOS, as the documents in training did.

    Raises:
        EvaluationError: the tokenizer has ids the model has no embedding for.
    """

    def __init__(self, model: Llama, tokenizer: TextTokenizer, *, bos: bool = True) -> None:
        super().__init__()
        if tokenizer.vocab_size > model.shape.vocab_size:
            raise EvaluationError(
                f"the tokenizer has {tokenizer.vocab_size} ids but the model only {model.shape.vocab_size} "
                "embeddings; evaluate the model with the tokenizer it was trained with"
            )
        self._model, self._text, self._bos = model, tokenizer, bos

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
        """What an empty context stands for: BOS, as HFLM takes it."""
        return self._text.bos_id

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:  # noqa: FBT001  # lm-eval's signature
        """Ids of a text, BOS first unless `add_special_tokens` is False."""
        bos = self._bos if add_special_tokens is None else add_special_tokens
        return [self._text.bos_id] * bos + self._text.encode([string])[0]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[Score]:  # noqa: FBT001, FBT002  # lm-eval's signature
        """Score each request's continuation given its context."""
        scores: list[Score] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return scores

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:  # noqa: ARG002, FBT001, FBT002  # lm-eval's signature
        """Log-likelihood of whole texts in disjoint windows; BOS itself is a target, as in HFLM."""
        texts = [
            [_Window(tuple(context + targets[:-1]), targets) for context, targets in self._rolling(request.args[0])]
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
        requests: Sequence[tuple[object, list[int], list[int]]],
        **_: object,
    ) -> list[Score]:
        """Score (_, context ids, continuation ids); TemplateLM calls this."""
        return self._score_whole([self._windows(context, target) for _, context, target in requests])

    def _windows(self, context: list[int], targets: list[int]) -> list[_Window]:
        """Usually one window, cut from the left like HFLM's; more where the continuation alone overflows."""
        if len(targets) <= self.max_length:
            ids = (context + targets)[-(self.max_length + 1) :]
            return [_Window(tuple(ids[:-1]), targets)]
        rolled = get_rolling_token_windows(targets, context[-1], self.max_length, context_len=1)
        return [_Window(tuple(inputs), predicted) for inputs, predicted in rolled]

    def _score_whole(self, texts: Sequence[Sequence[_Window]]) -> list[Score]:
        """Sum each text's windows."""
        scores = iter(self._score([window for windows in texts for window in windows]))
        wholes = []
        for windows in texts:
            parts = [next(scores) for _ in windows]
            wholes.append((sum(total for total, _ in parts), all(greedy for _, greedy in parts)))
        return wholes

    @torch.inference_mode()
    def _score(self, windows: Sequence[_Window]) -> list[Score]:
        """Score windows, longest first; windows with the same inputs share one forward pass."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, window in enumerate(windows):
            groups.setdefault(window.inputs, []).append(index)
        scores: list[Score] = [(0.0, True)] * len(windows)
        for batch in _batches(sorted(groups, key=len, reverse=True)):
            tokens = torch.zeros(
                len(batch), len(batch[0]), dtype=torch.long
            )  # attention is causal: any padding will do
            for row, inputs in enumerate(batch):
                tokens[row, : len(inputs)] = torch.tensor(inputs)
            states = self._model.hidden(tokens.to(self.device))  # [B, T, D]
            members = [(row, index) for row, inputs in enumerate(batch) for index in groups[inputs]]
            ends = [
                states[row, len(batch[row]) - len(windows[index].targets) : len(batch[row])] for row, index in members
            ]
            parts = self._score_states(ends, [windows[index].targets for _, index in members])
            for (_, index), score in zip(members, parts, strict=True):
                scores[index] = score
        return scores

    def _score_states(self, states: list[Tensor], targets: list[list[int]]) -> list[Score]:
        """Normed states [n, D] of each window's scored positions → its score, over the head in chunks."""
        lengths = [len(ids) for ids in targets]
        flat = torch.tensor([i for ids in targets for i in ids], device=self.device)  # [N]
        chunks = zip(
            torch.split(torch.cat(states), _POSITIONS_PER_HEAD),
            torch.split(flat, _POSITIONS_PER_HEAD),
            strict=True,
        )
        logps, hits = [], []
        for chunk, ids in chunks:
            logits = self._model.lm_head(chunk).float()  # [n, V]
            logps.append(logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(1))
            hits.append(logits.argmax(1) == ids)
        parts = zip(torch.split(torch.cat(logps), lengths), torch.split(torch.cat(hits), lengths), strict=True)
        return [(float(logp.sum()), bool(hit.all())) for logp, hit in parts]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:  # noqa: ARG002, FBT001, FBT002  # lm-eval's signature
        """Continue each request's context greedily until EOS, a stop string or the room is used up.

        Raises:
            EvaluationError: a request asks for sampling.
        """
        return [self._generate(context, settings) for context, settings in (request.args for request in requests)]

    @torch.inference_mode()
    def _generate(self, context: str, settings: dict[str, Any]) -> str:
        if settings.get("do_sample") and settings.get("temperature"):
            raise EvaluationError("this evaluation only decodes greedily; set do_sample: false in the task")
        until = settings.get("until") or []
        stops = [until] if isinstance(until, str) else list(until)
        room = min(int(settings.get("max_gen_toks", _MAX_NEW_TOKENS)), self.max_length - 1)
        ids = self.tok_encode(context)[-(self.max_length - room) :]
        cache = KeyValueCache(self._model.shape.layers)
        step, new, text = torch.tensor([ids], device=self.device), list[int](), ""
        while len(new) < room and not any(stop in text for stop in stops):
            state = self._model.hidden(step, cache=cache)[:, -1:]  # [1, 1, D]
            step = self._model.lm_head(state).argmax(-1)  # [1, 1]
            if step.item() == self.eot_token_id:
                break
            new.append(int(step.item()))
            text = self._text.decode(new)
        return min((text.split(stop)[0] for stop in stops if stop), key=len, default=text)


def _batches(inputs: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Cut a list sorted by falling length into runs whose padded size stays within the limit."""
    batch: list[tuple[int, ...]] = []
    for ids in inputs:
        if batch and (len(batch) + 1) * len(batch[0]) > _TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(ids)
    if batch:
        yield batch
