"""Models as folders that other tools load, each checked against another library before it appears."""

from tinyllama.export.card import model_card
from tinyllama.export.folder import export_model
from tinyllama.export.gguf_folder import GGUF_TYPES, convert_to_gguf, export_gguf
from tinyllama.export.parity import ParityResult, check_parity
from tinyllama.export.publishing import files_to_send, publish
from tinyllama.export.quantized import HeldOutText, QuantizationRecord
from tinyllama.formats.gguf.quantizer import QUANTIZED
from tinyllama.formats.gguf.writer import ModelInfo

__all__ = [
    "GGUF_TYPES",
    "QUANTIZED",
    "HeldOutText",
    "ModelInfo",
    "ParityResult",
    "QuantizationRecord",
    "check_parity",
    "convert_to_gguf",
    "export_gguf",
    "export_model",
    "files_to_send",
    "model_card",
    "publish",
]
