"""Plans: a recipe compiled into what each optimizer step does."""

from tinyllama.plan.epochs import MANY_EPOCHS, effective_epochs
from tinyllama.plan.schedule import share_at
from tinyllama.plan.summary import PlanSummary, summarize
from tinyllama.plan.table import Plan, compile_plan, quota_at, sequences_at

__all__ = [
    "MANY_EPOCHS",
    "Plan",
    "PlanSummary",
    "compile_plan",
    "effective_epochs",
    "quota_at",
    "sequences_at",
    "share_at",
    "summarize",
]
