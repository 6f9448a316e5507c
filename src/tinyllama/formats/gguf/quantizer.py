"""llama.cpp's own quantizer, through llama-cpp-python."""

from __future__ import annotations

import ctypes
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any

from tinyllama.errors import ExportError
from tinyllama.installation import install_hint
from tinyllama.processors import available_cores
from tinyllama.record_files import FileRecord

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray

    from tinyllama.formats.gguf.file import GgufFile

QUANTIZED = {"Q4_0": 2, "IQ4_NL": 25, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18}
"""Types that llama.cpp's quantizer writes → its number for such a file."""


class TypeShare(FileRecord):
    """What a GGUF file stores in one tensor type."""

    tensors: int
    weights: int


_MESSAGES = deque[str](maxlen=1)
"""llama.cpp's latest."""
_KEPT: list[object] = []


@cache
def load_llama_cpp() -> ModuleType:
    """llama-cpp-python; llama.cpp's messages are kept for errors instead of printed.

    Raises:
        ExportError: it is not installed.
    """
    try:
        import llama_cpp  # an extra
    except ImportError:
        raise ExportError(f"llama.cpp quantizes models, and needs an extra: {install_hint('serve')}") from None
    callback = llama_cpp.llama_log_callback(lambda _level, text, _data: _MESSAGES.append(text.decode(errors="replace")))
    llama_cpp.llama_log_set(callback, None)
    _KEPT.append(callback)  # C holds no reference to it
    module: ModuleType = llama_cpp
    return module


def quantize_file(source: Path, target: Path, kind: str, importance: Mapping[str, NDArray[np.float32]]) -> None:
    """Quantize a GGUF file.

    llama.cpp chooses each tensor's type: Q4_K_M stores some tensors as Q6_K, and a matrix whose rows are not whole
    blocks of its type gets another one.

    Args:
        source: the file, best in F32.
        target: the new file.
        kind: a key of `QUANTIZED`.
        importance: llama.cpp's name of a matrix → importance of each of its columns; empty for none.

    Raises:
        ExportError: llama-cpp-python is not installed or too old for `importance`, or llama.cpp failed.
    """
    llama_cpp = load_llama_cpp()
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = QUANTIZED[kind], available_cores()
    if importance:
        params.imatrix = _importance_array(llama_cpp, importance)
    if llama_cpp.llama_model_quantize(bytes(source), bytes(target), ctypes.byref(params)):
        raise ExportError(f"{target.name}: llama.cpp could not quantize it: {''.join(_MESSAGES).strip()}")


def _importance_array(llama_cpp: ModuleType, importance: Mapping[str, NDArray[np.float32]]) -> ctypes.Array[Any]:
    """The entries of `llama_model_imatrix_data` in llama.h; one without a name ends them."""
    if not hasattr(llama_cpp, "llama_model_imatrix_data"):
        raise ExportError(
            f"llama-cpp-python {llama_cpp.__version__} takes no importance matrix; install a newer one, or leave out "
            "--imatrix"
        )
    entries: ctypes.Array[Any] = (llama_cpp.llama_model_imatrix_data * (len(importance) + 1))()
    for entry, (name, columns) in zip(entries, importance.items(), strict=False):
        entry.name, entry.size = name.encode(), columns.size
        entry.data = columns.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    return entries


def type_shares(file: GgufFile) -> dict[str, TypeShare]:
    """Tensor type → how much of a file it stores, the type of the most weights first."""
    found: dict[str, list[int]] = {}
    for tensor in file.tensors.values():
        found.setdefault(tensor.tensor_type.name, []).append(int(tensor.n_elements))
    shares = {kind: TypeShare(tensors=len(sizes), weights=sum(sizes)) for kind, sizes in found.items()}
    return dict(sorted(shares.items(), key=lambda item: -item[1].weights))
