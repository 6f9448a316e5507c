"""The model card: what the model is, how to use it, what it was trained on, how it scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tinyllama.hub import HUB_ID
from tinyllama.layout import BASE, averaged
from tinyllama.recipe import dump_recipe
from tinyllama.recipe.quantities import format_count, format_share
from tinyllama.text import listing, markdown_table, number, percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinyllama.corpus.manifest import CorpusManifest
    from tinyllama.recipe import ModelShape, Recipe, Stage

_FLAGSHIP = "tinyllama-v1.1"
_PUBLISHED_PROMPT = (
    "The TinyLlama project aims to pretrain a 1.1B Llama model on 3 trillion tokens. With some proper "
    'optimization, we can achieve this within a span of "just" 90 days using 16 A100-40G GPUs 🚀🚀. '
    "The training has started on 2023-09-01."
)
"""Of the published card of TinyLlama v1.1."""
_NEUTRAL_PROMPT = "Once upon a time"
_MAX_LENGTH = 500
"""Tokens of the published card's example; shorter where the model's context is."""
_AVERAGE = "average"
_LLAMA2_THETA = 10000.0


def quick_start(folder: str, prompt: str, max_length: int) -> str:
    """Python code that continues a prompt with the model in `folder`: the calls of TinyLlama v1.1's card.

    Args:
        folder: of the exported model.
        prompt: to continue.
        max_length: tokens of prompt and continuation; at most the model's context.
    """
    return f"""\
import torch
import transformers
from transformers import AutoTokenizer

model = {folder!r}
tokenizer = AutoTokenizer.from_pretrained(model)
pipeline = transformers.pipeline(
    "text-generation",
    model=model,
    torch_dtype=torch.float16,
    device_map="auto",
)
sequences = pipeline(
    {prompt!r},
    do_sample=True,
    top_k=10,
    num_return_sequences=1,
    repetition_penalty=1.5,
    eos_token_id=tokenizer.eos_token_id,
    max_length={max_length},
)
for sequence in sequences:
    print(f"Result: {{sequence['generated_text']}}")
"""


def model_card(  # noqa: PLR0913  # the parts of a card
    recipe: Recipe,
    name: str,
    *,
    plan_summary: str,
    bits_per_byte: Mapping[str, Mapping[str, float]],
    tasks: Mapping[str, Mapping[str, float | None]],
    tokens: int,
    published: Mapping[str, Mapping[str, float]] | None = None,
    corpora: Mapping[str, CorpusManifest] | None = None,
) -> str:
    """The card of one model of a family, as Markdown with the hub's YAML front matter.

    Args:
        recipe: the family's.
        name: the model's: `base`, a variant or branch, or the average of its weights.
        plan_summary: Markdown below the heading "Plan".
        bits_per_byte: model → corpus → held-out bits per byte, of the whole family.
        tasks: model → task (and `average`) → the score as a fraction, None if it was not measured.
        tokens: that this model was trained on.
        published: label → task → percentage, rows of other models for comparison.
        corpora: corpus → its manifest, which says whether it holds another text than the recipe's.
    """
    sections = {
        "Quick start": _quick_start(recipe, name, tokens),
        "Family": _family(recipe, name, corpora or {}),
        "Training": _training(recipe, name, tokens),
        "Plan": plan_summary.strip(),
        "Evaluation": _evaluation(recipe, name, bits_per_byte, tasks, published or {}),
        "Recipe": _recipe(recipe),
    }
    body = "".join(f"\n## {heading}\n\n{text}\n" for heading, text in sections.items())
    return f"{_front_matter(recipe)}\n\n{_introduction(recipe, name, tokens)}\n{body}"


def _front_matter(recipe: Recipe) -> str:
    metadata = {
        "license": recipe.license,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["llama", "tinyllama", recipe.name],
    }
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---"


def _introduction(recipe: Recipe, name: str, tokens: int) -> str:
    model = recipe.shape_at(averaged(name), tokens)
    base = f"trained on {_mixture(recipe, BASE)}"
    if recipe.start is not None:
        counted = format_count(recipe.start.tokens)
        imported = f"imported from {_public_name(recipe.start.model)}, counted as {counted} tokens"
        base = imported if recipe.fork_index == 0 else f"{imported}, and {base}"
    trained = averaged(name)
    origin = (
        f"It was {base}."
        if not recipe.models[1:]
        else f"It is the family's base, which the {'variants' if recipe.variants else 'branches'} fork from, {base}."
        if trained == BASE
        else _branch(recipe, trained)
        if trained in recipe.branches
        else f"It forked from the family's base ({base}) and continued with {_mixture(recipe, trained)}."
    )
    if recipe.average is not None and trained != name:
        origin += f" Its weights are not the last ones: {recipe.average.describe()}."
    return (
        f"# {recipe.name}: {name}\n\n{recipe.description.rstrip('.')}.\n\n"
        f"A pretrained Llama 2 decoder with {model.parameters:,} parameters: {model.layers} layers, width "
        f"{model.width}, {model.heads} heads, {model.kv_heads} key-value heads, FFN {model.ffn}, vocabulary "
        f"{model.vocab_size:,}, context {model.context:,} tokens{_positions(model)}. {origin} It continues text; it "
        "was not tuned to follow instructions."
    )


def _branch(recipe: Recipe, name: str) -> str:
    """Where a branch forked, and what it continued with."""
    fork = format_count(recipe.fork_tokens(name))
    return (
        f"It forked from the family's model {recipe.parent(name)} after {fork} tokens, and continued with "
        f"{_mixture(recipe, name)}."
    )


def _positions(model: ModelShape) -> str:
    """What is not as in Llama 2: the size of a head, and scaled positions."""
    return (f", heads of size {model.head_dim}" if model.head_dim else "") + model.scaled_positions


def _public_name(model: str) -> str:
    """A model's name without folders of the machine that imported it; an id of the hub stays as it is."""
    return model if HUB_ID.fullmatch(model) and not Path(model).exists() else Path(model).name


def _quick_start(recipe: Recipe, name: str, tokens: int) -> str:
    shape = recipe.shape_at(averaged(name), tokens)
    own = next(iter(recipe.evaluation.prompts), _NEUTRAL_PROMPT)
    prompt = _PUBLISHED_PROMPT if recipe.name == _FLAGSHIP else own
    code = quick_start(f"path/to/{recipe.name}-{name}", prompt, min(_MAX_LENGTH, shape.context))
    release = _oldest_transformers(shape)
    return f"Needs `transformers` ({release} or later) and `accelerate`.\n\n```python\n{code}```"


def _oldest_transformers(model: ModelShape) -> str:
    """The first release of transformers whose Llama computes this shape; earlier ones ignore what they do not know."""
    if model.head_dim is not None:
        return "4.45"
    if model.rope_scaling is not None and model.rope_scaling.kind in {"llama3", "yarn"}:
        return "4.43"
    return "4.31" if model.rope_theta == _LLAMA2_THETA else "4.33"


def _recipe(recipe: Recipe) -> str:
    text = dump_recipe(recipe)
    return f"Also in `recipe.yaml`.\n\n<details>\n\n```yaml\n{text}```\n\n</details>"


def _mixture(recipe: Recipe, model: str) -> str:
    return ", then ".join(
        ", ".join(f"{format_share(share)} {corpus}" for corpus, share in shares.items())
        for _, shares in recipe.own_shares(model)
    )


def _family(recipe: Recipe, name: str, corpora: Mapping[str, CorpusManifest]) -> str:
    """The shares of every model after each ramp, and the licenses of the corpora."""
    rows = []
    for model in recipe.models:
        for count, (stage, shares) in enumerate(recipe.own_shares(model)):
            title = f"{model}, from stage {recipe.line(model).stages[stage].name}" if count else model
            rows.append(
                [_model(title, name), *(format_share(shares[c]) if c in shares else "" for c in recipe.corpora)]
            )
    licenses = [f"- {corpus}: {_license(recipe, corpus, corpora.get(corpus))}" for corpus in recipe.corpora]
    return markdown_table(["model", *recipe.corpora], rows) + "\n\nLicenses of the corpora:\n\n" + "\n".join(licenses)


def _license(recipe: Recipe, corpus: str, manifest: CorpusManifest | None) -> str:
    """The license of a corpus, and what it holds instead of the recipe's text."""
    if manifest is None or not manifest.replacements:
        return recipe.corpora[corpus].license
    held = [f"{text} instead of {builtin}" for builtin, text in manifest.replacements.items()]
    return f"{manifest.license}; it holds {listing(held)}, unavailable when it was prepared"


def _training(recipe: Recipe, name: str, tokens: int) -> str:
    recipe = recipe.line(averaged(name))
    stages = recipe.stages[: recipe.fork_index] if averaged(name) == BASE else recipe.stages
    rate = recipe.optimizer.learning_rate
    scaled = "; dynamic loss scaling" if recipe.precision == "fp16" else ""
    policy = [word for word, used in (("BOS", recipe.tokenizer.bos), ("EOS", recipe.tokenizer.eos)) if used]
    rows = {
        "tokens seen": f"{tokens:,}",
        **{f"stage {stage.name}": _stage(recipe, stage) for stage in stages},
        "learning rate": rate.describe(),
        "warm-up": f"{format_count(rate.warmup)} tokens",
        "optimizer": recipe.describe_optimizer(),
        "precision": f"{recipe.precision} products; fp32 weights, moments and reductions{scaled}",
        "documents": f"with {' and '.join(policy)}" if policy else "without BOS and EOS",
        "attention across documents": "no" if recipe.document_masking else "yes",
        "seed": str(recipe.seed),
    }
    return markdown_table(["", ""], rows.items())


def _stage(recipe: Recipe, stage: Stage) -> str:
    sequences = recipe.batch_sequences(stage)
    text = (
        f"until {format_count(stage.until)} tokens, batch {sequences:,} sequences = "
        f"{sequences * recipe.context(stage):,} tokens"
    )
    if (shape := stage.shape(recipe.model)) != recipe.model:
        text += f", context {shape.context:,}, RoPE base {shape.rope_theta:g}{shape.scaled_positions}"
    if stage.fork:
        text += f"; begins at the fork, shares ramp over {format_count(stage.ramp)} tokens"
    elif stage.shares:
        text += f"; shares change over {format_count(stage.ramp)} tokens"
    if stage.learning_rate_factor != 1:
        text += f"; learning rate times {stage.learning_rate_factor:g}"
    return text


def _evaluation(
    recipe: Recipe,
    name: str,
    bits_per_byte: Mapping[str, Mapping[str, float]],
    tasks: Mapping[str, Mapping[str, float | None]],
    published: Mapping[str, Mapping[str, float]],
) -> str:
    rows = [
        [_model(model, name), *(number(row.get(corpus), 3) for corpus in recipe.corpora)]
        for model, row in bits_per_byte.items()
    ]
    parts = []
    if rows:
        parts += [
            "Bits per byte of held-out text (lower is better):",
            markdown_table(["model", *recipe.corpora], rows),
        ]
    asked = list(dict.fromkeys(task for row in tasks.values() for task in row if task != _AVERAGE))
    measured = [task for task in asked if any(row.get(task) is not None for row in tasks.values())]
    if measured:
        parts += ["Scores in percent (higher is better):", _scores(name, measured, tasks, published)]
    if missing := [task for task in asked if tasks.get(name, {}).get(task) is None]:
        parts.append(f"Not measured for this model: {listing(missing)}.")
    return "\n\n".join(parts) or "Not evaluated."


def _scores(
    name: str,
    measured: list[str],
    tasks: Mapping[str, Mapping[str, float | None]],
    published: Mapping[str, Mapping[str, float]],
) -> str:
    """Ours above the published rows, with the average where any row has one."""
    averaged = bool(published) or any(row.get(_AVERAGE) is not None for row in tasks.values())
    columns = [*measured, *([_AVERAGE] if averaged else [])]
    ours = [[_model(model, name), *(percent(row.get(task)) for task in columns)] for model, row in tasks.items()]
    others = [
        [f"{label} (published)", *(number(row.get(task), 2) for task in columns)] for label, row in published.items()
    ]
    return markdown_table(["model", *columns], ours + others)


def _model(model: str, name: str) -> str:
    """A model's name, bold where it is the card's own."""
    return f"**{model}**" if model == name else model
