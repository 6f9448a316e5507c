"""Exports of a whole family in the types that each form has."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from tinyllama.errors import ExportError, UserError
from tinyllama.formats.gguf.quantizer import load_llama_cpp

if TYPE_CHECKING:
    from tests.conftest import MakeFamily


def test_a_family_is_exported_in_the_type_asked_for_or_refused(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = make_family("family", "evaluation.tasks=[]")
    family.train("base")
    with pytest.raises(UserError, match=r"'Q8_0', but Hugging Face folders are F32, F16 and BF16"):
        family.export(precision="Q8_0")
    with pytest.raises(UserError, match=r"imatrix has no effect on F16"):
        family.export("gguf", imatrix=True)
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    load_llama_cpp.cache_clear()
    with pytest.raises(ExportError, match=r"llama.cpp quantizes models, and needs an extra"):
        family.export("gguf", precision="Q4_K_M")
    assert not (family.folder / "exports").exists()

    folder = family.export(precision="bf16")["base"]
    assert folder == family.folder / "exports/base-BF16"
    stored = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert family.export(precision="BF16") == {"base": folder}
    assert (folder / "model.safetensors").stat().st_mtime_ns == written  # reused
