"""Token ids of requests: text, ids and conversations, checked against the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.errors import UserError
from tinyllama.serve.refusal import Code, Refusal, invalid
from tinyllama.tokenizer.chat_template import render_conversation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyllama.serve.engine import Engine, ServedModel
    from tinyllama.serve.schemas.requests import ChatMessage, GenerationRequest
    from tinyllama.tokenizer.base import Tokenizer


def encode_prompts(prompt: str | list[str] | list[int] | list[list[int]], model: ServedModel) -> list[list[int]]:
    """Ids of the prompts of a request, one list each.

    Raises:
        Refusal: an id is not in the vocabulary, or a prompt is longer than the context.
    """
    prompts = [_encode(entry, model.tokenizer) for entry in _separate(prompt)]
    for ids in prompts:
        if (largest := max(ids)) >= model.vocab_size:
            raise invalid("prompt", f"the token id {largest} is not in the vocabulary of {model.vocab_size} tokens")
        check_length(ids, model)
    return prompts


def _separate(prompt: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [prompt]
    return prompt  # type: ignore[return-value]  # of one type, by the schema


def _encode(prompt: str | list[int], tokenizer: Tokenizer) -> list[int]:
    """A prompt of no tokens becomes BOS: a model needs something to continue."""
    ids = tokenizer.encode_prompt(prompt) if isinstance(prompt, str) else prompt
    return ids or [tokenizer.bos_id]


def check_length(ids: Sequence[int], model: ServedModel) -> None:
    """Refuse a prompt that is longer than the model's context.

    Raises:
        Refusal: it is.
    """
    if len(ids) > model.context:
        text = f"the prompt has {len(ids):,} tokens; the model's context is {model.context:,}"
        raise Refusal(400, Code.CONTEXT_LENGTH, text, param="prompt")


def encode_conversation(messages: Sequence[ChatMessage], model: ServedModel, engine: Engine) -> list[int]:
    """Ids of a conversation by the model's chat template, up to where the answer begins.

    Raises:
        Refusal: the template refuses the conversation, or it is longer than the context.
    """
    tokenizer = model.tokenizer
    given = [{"role": message.role, "content": message.text} | _named(message) for message in messages]
    try:
        text = render_conversation(tokenizer.chat_template or "", given, tokenizer.special_tokens)
    except UserError as error:
        raise invalid("messages", str(error)) from error
    ids = engine.encode_special(text) or [tokenizer.bos_id]
    check_length(ids, model)
    return ids


def _named(message: ChatMessage) -> dict[str, str]:
    return {"name": message.name} if message.name else {}


def biases(request: GenerationRequest, model: ServedModel) -> dict[int, float]:
    """`logit_bias` by token id.

    Raises:
        Refusal: a key is not an id of the vocabulary.
    """
    known = {str(token) for token in range(model.vocab_size)} if request.logit_bias else set()
    for key in request.logit_bias:
        if key not in known:
            raise invalid("logit_bias", f"{key!r} is not an id of the vocabulary of {model.vocab_size} tokens")
    return {int(key): bias for key, bias in request.logit_bias.items()}
