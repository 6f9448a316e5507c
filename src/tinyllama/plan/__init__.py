"""Plans: a recipe compiled into what each optimizer step does."""

from tinyllama.plan.schedule import learning_rate, share_at
from tinyllama.plan.summary import MANY_EPOCHS, CorpusSummary, PlanSummary, StageSummary, summarize
from tinyllama.plan.table import Plan, compile_plan, quota_at

__all__ = [
    "MANY_EPOCHS",
    "CorpusSummary",
    "Plan",
    "PlanSummary",
    "StageSummary",
    "compile_plan",
    "learning_rate",
    "quota_at",
    "share_at",
    "summarize",
]
