"""What all benchmarks share: engines measured in turns, their inputs, and results as JSON, Markdown and a chart."""

from .chart import Chart
from .inputs import speed_family, tinyllama_train, write_inputs
from .machine import matrix_peak
from .process import Engine, EngineError, Process
from .results import Claim, Result, Table, publish, standard_arguments
from .turns import Measured, calls_in_turns, in_turns, loss_differences, ratio

__all__ = [
    "Chart",
    "Claim",
    "Engine",
    "EngineError",
    "Measured",
    "Process",
    "Result",
    "Table",
    "calls_in_turns",
    "in_turns",
    "loss_differences",
    "matrix_peak",
    "publish",
    "ratio",
    "speed_family",
    "standard_arguments",
    "tinyllama_train",
    "write_inputs",
]
