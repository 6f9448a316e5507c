"""Plans: a recipe compiled into what each optimizer step does."""

from tinyllama.plan.schedule import share_at
from tinyllama.plan.summary import MANY_EPOCHS, PlanSummary, summarize
from tinyllama.plan.table import Plan, compile_plan, quota_at, sequences_at

__all__ = [
    "MANY_EPOCHS",
    "Plan",
    "PlanSummary",
    "compile_plan",
    "quota_at",
    "sequences_at",
    "share_at",
    "summarize",
]
