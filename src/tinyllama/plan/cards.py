"""GPUs by their data sheets, and the utilization that published training reached on them.

Cards without a published row have the utilization of the most similar card that has one, and say so.

Utilization is that of matrix products and attention, by causal FLOPs (`flops_formulas`), over the dense peak, while
they run: memory traffic, the update and collectives are counted beside it (`plan/step_time.py`). One published row per
card fits it, and one more how much less narrow models reach; `tests/plan/test_published_speed.py` has the rows, and
predicts the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tinyllama.errors import PlanError
from tinyllama.text import did_you_mean

RESERVED = 1.5 * 2**30
"""Bytes that the driver, the communication library and fragmentation take of a card."""
_FOUNDRY = "https://github.com/mosaicml/llm-foundry/blob/main/scripts/train/benchmarking/README.md"
_LLMQ = "https://github.com/IST-DASLab/llmq#speed"
_LLAMA_FACTORY = "https://github.com/IST-DASLab/llmq/blob/main/benchmarks/4090x4.md"
_WIDTH = 2048
"""Width of the models that `GPUS` has the utilization of."""
_HALF_WIDTH = 400
"""Width of a model whose matrix products reach half of what a very wide model's do: llm-foundry's 350M model on 8
A100-80G (width 1,024) fits it."""


@dataclass(frozen=True)
class Utilization:
    """Of matrix products in bf16 over the dense peak of the data sheet, in models of one width."""

    value: float
    """What the fitted row implies."""
    low: float
    """The least that any row of the same card implies."""
    high: float
    """The most that any row implies."""
    fitted: str
    """The row that fits it."""
    source: str
    """Where the row was published."""
    assumed_of: str | None = None
    """The other card whose rows they are, since none of this card was published; None for its own."""

    def at(self, width: int) -> Utilization:
        """That of models of another width: W / (W + a constant), relative to the width of the table."""
        scale = width / (width + _HALF_WIDTH) * (_WIDTH + _HALF_WIDTH) / _WIDTH
        return replace(self, value=scale * self.value, low=scale * self.low, high=scale * self.high)


@dataclass(frozen=True)
class Gpu:
    """A GPU by its data sheet, in a usual node."""

    flops: float
    """Dense bf16 FLOP/s with fp32 accumulation."""
    memory_gib: float
    bandwidth: float
    """Bytes per second of its memory."""
    per_node: int
    """Cards in a usual node."""
    link: float
    """Bytes per second that a card sends, and also receives, inside its node."""
    network: float
    """The same between nodes: each card's share of the node's adapters."""
    hop: float
    """Seconds of a hop inside the node."""
    utilization: Utilization
    """Of models of width 2,048."""
    sheet: str
    """Where its peak, memory and bandwidth were published."""

    @property
    def usable(self) -> int:
        """Bytes that training can use."""
        return int(self.memory_gib * 2**30 - RESERVED)


def _foundry(card: str, value: float, low: float, high: float) -> Utilization:
    return Utilization(value, low, high, f"llm-foundry's 1B model on 8 {card}", _FOUNDRY)


_HOPPER = _foundry("H100", 0.443, 0.38, 0.75)
_L40S = Utilization(0.613, 0.59, 0.65, "LLMQ's Qwen2.5-1.5B on one L40S (CUDA without PyTorch)", _LLMQ)
_RTX4090 = Utilization(0.938, 0.84, 1.17, "LLaMA-Factory's Qwen2.5-1.5B on 4 RTX 4090", _LLAMA_FACTORY)
_A100 = _foundry("A100-80G", 0.609, 0.55, 0.61)
_HDR, _NDR, _ETHERNET = 25e9, 50e9, 12.5e9
"""InfiniBand with 200 and 400 Gb/s per card; two cards that share an adapter of 200 Gb/s."""
_NVLINK, _PCIE = 3.4e-6, 5.7e-6
"""Seconds of a hop of a ring in NCCL's own model (src/graph/tuning.cc, protocol Simple)."""
_NVIDIA = "https://www.nvidia.com/en-us"
_AMPERE = f"{_NVIDIA}/data-center/a100/"
_LIKE_A100 = replace(_A100, assumed_of="a100-80g")
_LIKE_4090 = replace(_RTX4090, assumed_of="rtx4090-24g")
_GA102 = "NVIDIA's GA102 white paper, appendix A"
_APPLE = "https://www.apple.com/newsroom"

GPUS = {
    "a100-40g": Gpu(
        312e12, 40, 1555e9, 4, 300e9, _HDR, _NVLINK, _foundry("A100-40G", 0.589, 0.46, 0.65), _AMPERE
    ),
    "a100-80g": Gpu(312e12, 80, 2039e9, 8, 300e9, _HDR, _NVLINK, _A100, _AMPERE),
    "h100-80g": Gpu(989.4e12, 80, 3350e9, 8, 450e9, _NDR, _NVLINK, _HOPPER, f"{_NVIDIA}/data-center/h100/"),
    "h200-141g": Gpu(
        989.4e12, 141, 4800e9, 8, 450e9, _NDR, _NVLINK, replace(_HOPPER, assumed_of="h100-80g"),
        f"{_NVIDIA}/data-center/h200/",
    ),
    "b200-180g": Gpu(
        2250e12, 180, 8000e9, 8, 900e9, _NDR, _NVLINK, replace(_HOPPER, assumed_of="h100-80g"),
        f"{_NVIDIA}/data-center/dgx-b200/",
    ),
    "mi300x-192g": Gpu(
        1307.4e12, 192, 5300e9, 8, 448e9, _NDR, _NVLINK, replace(_HOPPER, assumed_of="h100-80g"),
        "https://www.amd.com/en/products/accelerators/instinct/mi300/mi300x.html",
    ),
    "l40s-48g": Gpu(362.05e12, 48, 864e9, 8, 32e9, _ETHERNET, _PCIE, _L40S, f"{_NVIDIA}/data-center/l40s/"),
    "a10-24g": Gpu(
        125e12, 24, 600e9, 4, 32e9, _ETHERNET, _PCIE, _LIKE_A100, f"{_NVIDIA}/data-center/products/a10-gpu/"
    ),
    "l4-24g": Gpu(
        121e12, 24, 300e9, 8, 32e9, _ETHERNET, _PCIE, replace(_L40S, assumed_of="l40s-48g"),
        f"{_NVIDIA}/data-center/l4/",
    ),
    "t4-16g": Gpu(65e12, 16, 320e9, 4, 16e9, _ETHERNET, _PCIE, _LIKE_A100, f"{_NVIDIA}/data-center/tesla-t4/"),
    "rtx3090-24g": Gpu(71e12, 24, 936e9, 4, 16e9, _ETHERNET, _PCIE, _LIKE_4090, _GA102),
    "rtx4090-24g": Gpu(
        165.2e12, 24, 1008e9, 4, 16e9, _ETHERNET, _PCIE, _RTX4090, "NVIDIA's Ada white paper, appendix A"
    ),
    "rtx5090-32g": Gpu(
        209.5e12, 32, 1792e9, 4, 32e9, _ETHERNET, _PCIE, _LIKE_4090, "NVIDIA's RTX Blackwell white paper, appendix A"
    ),
    "m1-max-64g": Gpu(
        10.4e12, 48, 400e9, 1, 5e9, 1e9, _PCIE, _LIKE_A100,
        f"{_APPLE}/2021/10/introducing-m1-pro-and-m1-max-the-most-powerful-chips-apple-has-ever-built/",
    ),
    "m2-24g": Gpu(
        3.6e12, 18, 100e9, 1, 5e9, 1e9, _PCIE, _LIKE_A100,
        f"{_APPLE}/2022/06/apple-unveils-m2-with-breakthrough-performance-and-capabilities/",
    ),
    "m2-ultra-192g": Gpu(
        27.2e12, 144, 800e9, 1, 5e9, 1e9, _PCIE, _LIKE_A100,
        f"{_APPLE}/2023/06/apple-introduces-m2-ultra/",
    ),
}  # fmt: skip
"""Data sheets: NVIDIA's SXM versions, without sparsity, in bf16 with fp32 accumulation (the T4's peak is that of fp16,
which `precision: auto` chooses there).

Links are NVLink in one direction (data sheets: 600 GB/s of the A100, 900 of the H100 and 1,800 of the B200 in both),
Infinity Fabric (seven links of 64 GB/s of the MI300X), or PCIe 4.0 with 16 lanes; without peer-to-peer access, which
GeForce cards lack, data cross it twice, through the host's memory, as over the PCIe 3.0 of the T4. Adapters are
assumptions: those of a DGX A100 and H100 (eight of 200 and of 400 Gb/s), of llm-foundry's A100s (1,600 Gb/s a node) and
of torchtitan's H100s (400 Gb/s a card). The H200 is the H100's chip with other memory, and has its utilization.

Apple's peak is that of fp32, the precision that `auto` chooses there, and memory the three quarters of the machine's
that Metal recommends. Apple publishes no peak of later chips.
"""


def find_gpu(name: str) -> Gpu:
    """A card by name, see `full_name`.

    Raises:
        PlanError: it is not in the table.
    """
    return GPUS[full_name(name)]


def full_name(name: str) -> str:
    """Name of a card in the table; its memory may be absent where one card alone has the rest: `h100`.

    Raises:
        PlanError: it is not in the table, or several cards have the name.
    """
    if name in GPUS:
        return name
    found = [known for known in GPUS if known.rpartition("-")[0] == name.lower()]
    if len(found) > 1:
        raise PlanError(f"{name!r} may be {' or '.join(found)}; write the whole name of one")
    if not found:
        raise PlanError(f"no GPU is named {name!r}{did_you_mean(name, GPUS)}; known: {', '.join(GPUS)}")
    return found[0]
