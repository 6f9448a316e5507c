"""The list of checks."""

from tinyllama.family.preflight.evaluation_checks import check_packages, check_samples, check_task_data, check_tasks
from tinyllama.family.preflight.findings import Check
from tinyllama.family.preflight.machine_checks import check_checkpoint_url, check_device, check_disk, check_receiver
from tinyllama.family.preflight.model_checks import check_plan, check_prompts, check_start, check_tokenizer
from tinyllama.family.preflight.text_checks import check_rows, check_sources

_SOURCES, _ROWS = Check("sources", check_sources), Check("rows", check_rows)
_TOKENIZER, _PROMPTS = Check("tokenizer", check_tokenizer), Check("prompts", check_prompts)

CHECKS = (
    Check("plan", check_plan),
    _SOURCES,
    _ROWS,
    _TOKENIZER,
    Check("start", check_start),
    Check("tasks", check_tasks),
    Check("task data", check_task_data),
    _PROMPTS,
    Check("samples", check_samples),
    Check("packages", check_packages),
    Check("checkpoint storage", check_checkpoint_url),
    Check("notifications", check_receiver),
    Check("disk", check_disk),
    Check("device", check_device),
)
"""All checks, in the order in which they are shown."""
CHECKS_OF_TEXT = (_SOURCES, _ROWS, _TOKENIZER, _PROMPTS)
"""Those to run again once tokenizer and corpora exist, before training."""
