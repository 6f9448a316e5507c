"""States of checkpoints that hold made-up tensors."""

from typing import Any

from tinyllama.checkpoint.fingerprint import FingerprintInputs
from tinyllama.checkpoint.state import CheckpointState


def made_up_state(step: int, **values: Any) -> CheckpointState:  # noqa: ANN401  # the fields of CheckpointState
    """The state after some steps of 10 tokens."""
    inputs = FingerprintInputs({"seed": 1})
    fields = {
        "recipe": "family",
        "run": "base",
        "step": step,
        "tokens": 10 * step,
        "fingerprint": inputs.fingerprint(),
        "fingerprint_inputs": inputs,
        "torch_version": "2.13.0",
    }
    return CheckpointState(**(fields | values))
