"""The requests, which are not checked."""


class CreateCompletionRequest:
    """A request of completions."""

    model_validate = dict


class CreateChatCompletionRequest:
    """A request of conversations."""

    model_validate = dict
