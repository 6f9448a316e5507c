"""The OpenAPI description of a server, of the models that validate its requests and write its responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import JsonSchemaMode, models_json_schema

from tinyllama.serve.asgi import EVENTS, JSON
from tinyllama.serve.guard import CHAT, COMPLETIONS, DESCRIPTION, HEALTH, METHODS, MODELS
from tinyllama.serve.schemas.requests import ChatRequest, CompletionRequest
from tinyllama.serve.schemas.responses import ChatChunk, ChatCompletion, Completion, ErrorBody, Health, Model, ModelList

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import BaseModel

    from tinyllama.serve.engine import ServedModel
    from tinyllama.serve.guard import Limits

_AS_READ: JsonSchemaMode = "validation"
_AS_WRITTEN: JsonSchemaMode = "serialization"
Schema = dict[str, Any]  # JSON Schema has no types of its own
_REFUSALS = {
    400: "The request is not JSON, has an unknown parameter, or a value that is invalid or not supported: a prompt "
    "longer than the context, a token id outside the vocabulary, more answers than one request may ask for, a "
    "conversation that the chat template refuses or a model without one, `echo` with `logprobs` of an engine that "
    "does not score prompts. `code` and `param` tell which.",
    401: "The API key is missing or wrong.",
    404: "The path or the model is not served.",
    405: "The path takes another method, which the header `Allow` names.",
    413: "The request is larger than the server allows.",
    415: "The request's content type is not JSON.",
    429: "Too many requests are waiting.",
    500: "The engine failed.",
}
_REQUESTS: dict[str, type[BaseModel]] = {COMPLETIONS: CompletionRequest, CHAT: ChatRequest}
_RESPONSES: dict[str, type[BaseModel]] = {
    COMPLETIONS: Completion,
    CHAT: ChatCompletion,
    MODELS: ModelList,
    f"{MODELS}/{{model}}": Model,
    HEALTH: Health,
}
_EVENTS: dict[str, type[BaseModel]] = {COMPLETIONS: Completion, CHAT: ChatChunk}
_SUMMARIES = {
    COMPLETIONS: "Continue prompts, or score them: with `echo`, `logprobs` and `max_tokens` 0 or 1.",
    CHAT: "Answer a conversation with a model that has a chat template.",
    MODELS: "List the models.",
    f"{MODELS}/{{model}}": "One model.",
    HEALTH: "Whether the server accepts requests; needs no API key.",
    DESCRIPTION: "This description; needs no API key.",
}


def describe(models: Mapping[str, ServedModel], limits: Limits) -> Schema:
    """The description of a server with these models and limits, in OpenAPI 3.1."""
    requests = [(model, _AS_READ) for model in _REQUESTS.values()]
    written: list[type[BaseModel]] = [*_RESPONSES.values(), ChatChunk, ErrorBody]
    responses = [(model, _AS_WRITTEN) for model in written]
    _, schemas = models_json_schema(
        [*requests, *responses],
        ref_template="#/components/schemas/{model}",
    )
    definitions: Schema = schemas["$defs"]
    for definition in definitions.values():
        _admit_nulls(definition)
    for request in _REQUESTS.values():
        _state_limits(definitions[request.__name__], models, limits)
    components: Schema = {"schemas": definitions}
    document: Schema = {
        "openapi": "3.1.0",
        "info": {"title": "TinyLlama", "version": "1", "description": "The OpenAI API over models in GGUF files."},
        "paths": {path: {METHODS.get(path, "GET").lower(): _operation(path, models)} for path in _SUMMARIES},
        "components": components,
    }
    if limits.api_key is not None:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            if path not in {HEALTH, DESCRIPTION}:
                for operation in operations.values():
                    operation["security"] = [{"key": []}]
    return document


def _admit_nulls(definition: Schema) -> None:
    """State that an optional parameter of a request may be null."""
    if definition.get("additionalProperties") is not False:
        return
    for name, schema in definition.get("properties", {}).items():
        if name not in definition.get("required", ()) and "default" in schema:
            default = schema.pop("default")
            if {"type": "null"} not in schema.get("anyOf", ()):
                definition["properties"][name] = {"anyOf": [schema, {"type": "null"}]}
            definition["properties"][name]["default"] = default


def _state_limits(request: Schema, models: Mapping[str, ServedModel], limits: Limits) -> None:
    request["properties"]["model"]["enum"] = list(models)
    for name in {"max_tokens", "max_completion_tokens"} & set(request["properties"]):
        for choice in request["properties"][name]["anyOf"]:
            if choice["type"] == "integer":
                choice["maximum"] = limits.max_tokens


def _operation(path: str, models: Mapping[str, ServedModel]) -> Schema:
    responses: Schema = {"200": {"description": "The answer.", "content": {JSON: {"schema": _schema(path)}}}}
    operation: Schema = {"summary": _SUMMARIES[path], "operationId": _identifier(path), "responses": responses}
    statuses: Iterable[int] = (401, 405) if path.startswith(MODELS) else (405,)
    if path in _REQUESTS:
        statuses = _REFUSALS
        reference = {"$ref": f"#/components/schemas/{_REQUESTS[path].__name__}"}
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": reference}}}
        responses["200"]["content"][EVENTS] = {"schema": _event(_EVENTS[path])}
    elif "{" in path:
        statuses = (401, 404, 405)
        schema = {"type": "string", "enum": list(models)}
        operation["parameters"] = [{"name": "model", "in": "path", "required": True, "schema": schema}]
    for status in statuses:
        content = {JSON: {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
        responses[str(status)] = {"description": _REFUSALS[status], "content": content}
    return operation


def _event(model: type[BaseModel]) -> Schema:
    """One server-sent event of a stream."""
    contents: list[Schema] = [
        {"type": "string", "contentMediaType": JSON, "contentSchema": {"$ref": f"#/components/schemas/{name}"}}
        for name in (model.__name__, ErrorBody.__name__)
    ]
    data = {"anyOf": [{"const": "[DONE]"}, *contents]}
    text = "An event of a request with `stream`. The last one is `[DONE]`, or an error."
    return {"type": "object", "description": text, "properties": {"data": data}, "required": ["data"]}


def _schema(path: str) -> Schema:
    """What a path answers; the description itself is any object."""
    response = _RESPONSES.get(path)
    return {"type": "object"} if response is None else {"$ref": f"#/components/schemas/{response.__name__}"}


def _identifier(path: str) -> str:
    return "_".join(part.strip("{}") for part in path.replace(".", "/").split("/") if part)
