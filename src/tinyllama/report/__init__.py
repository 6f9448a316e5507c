"""The report: one self-contained page about a family."""

from tinyllama.report.page import write_report

__all__ = ["write_report"]
