"""The text of a designed recipe: each number with the rule that gave it, and the rule's source, in a comment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tinyllama.design import rules
from tinyllama.design.compose import GENERAL, TEXT, family_source
from tinyllama.design.sizing import VOCABULARIES
from tinyllama.design.vocabulary import LLAMA2
from tinyllama.recipe.quantities import format_count, format_share

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinyllama.design.compose import Design, DesignedCorpus
    from tinyllama.design.texts import TextSurvey
    from tinyllama.design.vocabulary import Candidate

_WIDE = 118
"""Characters of a comment line."""
_BLOCK = 16
"""The default of `held_out.block`."""


def recipe_text(design: Design) -> str:
    """The whole recipe, as YAML."""
    parts = [_head(design), _model(design), _tokenizer(design), _corpora(design), _optimizer(design)]
    parts += [_stages(design), _rest(design)]
    return "\n".join(parts)


def describe_text(survey: TextSurvey, bytes_per_token: float | None = None) -> str:
    """One line about a text."""
    scripts = _percents(survey.script_shares()) or "no letters"
    spoken = survey.language_shares()
    languages = "" if spoken is None else f"; languages of samples: {_percents(spoken)}"
    suffixes = ", ".join(f"{suffix or 'no suffix'} {count:,}" for suffix, count in survey.suffixes.most_common(4))
    files = f"{survey.files:,} files ({suffixes}), " if survey.files else ""
    size = f"{'' if survey.is_complete else 'about '}{survey.expected / 1e6:,.1f} MB of text"
    read = "" if survey.is_complete else f", of which {survey.read / 1e6:,.1f} MB were read"
    repeated = survey.duplicate_bytes / survey.read
    equal = f"exact duplicates: {survey.duplicates:,} ({repeated:.1%} of the bytes)"
    lost = f"; not read: {survey.rejected:,}, the first {survey.first_rejected}" if survey.rejected else ""
    token = "" if bytes_per_token is None else f"; {bytes_per_token:.2f} bytes per token"
    return (
        f"{survey.name}: {files}{size}{read}, {survey.documents:,} documents read, {equal}{lost}; letters: "
        f"{scripts}{languages}{token}"
    )


def _percents(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())


def describe_tokenizer(candidate: Candidate) -> str:
    """One line about a tokenizer."""
    kind = "Llama 2's" if candidate.kind == LLAMA2 else "one of its own"
    texts = ", ".join(f"{name} {value:.2f}" for name, value in candidate.bytes_per_token.items())
    return f"{kind}, {candidate.vocab_size:,} ids: {candidate.overall:.2f} bytes per token ({texts})"


def describe_bound(design: Design) -> str:
    """What the text does to the tokens where it, and not what was asked for, decides them."""
    wishes, times = design.wishes, f"it is read {design.wishes.epochs} times at most (Muennighoff et al. 2023)"
    if wishes.tokens is None:
        return (
            f"The text, not the time, decides: {times}. More text, or --epochs, makes a better model of the same time."
        )
    return (
        f"The text, not --tokens, decides: {times}, which gives {design.total:,} of {wishes.tokens:,} tokens. More "
        "text, or --epochs, gives more."
    )


def _head(design: Design) -> str:
    wishes, size = design.wishes, design.size
    asked = f"{wishes.tokens:,} tokens" if wishes.hours is None else f"{wishes.hours:g} hours"
    if wishes.tokens is not None and design.is_bounded_by_text:
        asked = f"the {design.total:,} tokens that the text gives ({asked} were asked for)"
    lines = [f"Designed by `tinyllama new` for {asked} on {design.machine}. Each number follows from a rule."]
    lines += [describe_text(corpus.survey, design.tokenizer.bytes_per_token[name])
              for name, corpus in design.corpora.items()]  # fmt: skip
    speed = "" if size.tokens_per_second is None else f" at {size.tokens_per_second:,.0f} tokens/s"
    time = "" if design.training_seconds is None else f", {_duration(design.training_seconds)} for all models"
    lines.append(f"Training: {design.total:,} tokens for each model{speed}{time}.")
    if design.overhead:
        lines.append(f"Besides: about {_duration(design.overhead)} for tokenizing, evaluation and exports.")
    if design.is_bounded_by_text:
        lines.append(describe_bound(design))
    return _comment(*lines) + "\n\n" + "\n".join([
        f"name: {json.dumps(wishes.name)}",
        f"description: {json.dumps(_description(design), ensure_ascii=False)}",
        _noted("license: other", "of the trained models: choose one, e.g. apache-2.0"),
        "",
    ])  # fmt: skip


def _description(design: Design) -> str:
    domains = f"; with {', '.join(design.wishes.domains)}" if design.wishes.domains else ""
    return f"{format_count(design.size.parameters, 3)} parameters, {format_count(design.total, 3)} tokens{domains}"


def _model(design: Design) -> str:
    shape, size = design.size.shape, design.size
    reason = _comment(
        f"{shape.parameters:,} parameters: proportions of {family_source(size)}. {size.tokens_per_parameter:.1f} "
        f"tokens per parameter, of {rules.TOKENS_PER_PARAMETER * design.wishes.over_training:g} wanted: 20 are "
        "compute-optimal (Hoffmann et al. 2022, table 3); more give a better model of this size for more "
        "compute (--over-training).",
        "Context: the longest of 256 to 2,048 with which a batch has 16 sequences. Vocabulary: the nearest size to "
        f"3.1M · (N/33M)^0.835 vocabulary parameters for N others (Tao et al. 2024), at least {VOCABULARIES[0]:,} ids "
        "unless the text is too small.",
    )
    keys = [f"  {key}: {getattr(shape, key)}" for key in ("layers", "width", "ffn", "heads", "kv_heads", "context")]
    tied = ["  tied_embeddings: true"] if shape.tied_embeddings else []
    return "\n".join([reason, "model:", *keys, f"  vocab_size: {shape.vocab_size}", *tied, ""])


def _tokenizer(design: Design) -> str:
    chosen = design.tokenizer
    lines = [f"Taken: {describe_tokenizer(chosen)}, on text that it was not trained on."]
    lines += [f"Not taken: {describe_tokenizer(other)}." for other in design.others]
    if chosen.kind == LLAMA2:
        lines.append("Llama 2's is preferred within 5%, since every tool knows it.")
        return _comment(*lines) + "\ntokenizer: {builtin: llama2}\n"
    return _comment(*lines) + f"\ntokenizer: {{train: {{vocab_size: {chosen.vocab_size}}}}}\n"


def _corpora(design: Design) -> str:
    lines = [
        _comment(
            "Held out: the smallest share that gives about 200,000 tokens, a twentieth of a model's, or a tenth of a "
            "small text; by document, or by blocks of pieces where there are few documents."
        ),
        "corpora:",
    ]
    for name, corpus in design.corpora.items():
        lines += [f"  {name}:", *(f"    {line}" for line in _corpus(corpus))]
    return "\n".join([*lines, ""])


def _corpus(corpus: DesignedCorpus) -> list[str]:
    rule, cut = corpus.part.rule, corpus.part.cut
    by = "" if rule.by == "document" else ", by: block" + (f", block: {rule.block}" if rule.block != _BLOCK else "")
    sources = []
    for source in corpus.survey.corpus.sources:
        kind, value = ("builtin", source.builtin) if source.builtin is not None else ("files", source.files)
        sources.append(f"  - {kind}: {json.dumps(str(value), ensure_ascii=False)}")
        if source.text_field != "text":
            sources.append(f"    text_field: {json.dumps(source.text_field, ensure_ascii=False)}")
    return [
        _noted(f"size: {_count(corpus.tokens)}", "tokens to train on, until it is prepared"),
        _noted("license: unknown", "of the text; appears in model cards"),
        "sources:",
        *sources,
        *(
            [_noted("deduplicate: {method: exact, across: false}", "no document twice, nor in the held-out part")]
            if corpus.survey.duplicates
            else []
        ),
        *([_noted(f"cut: {cut}", "characters of a piece, where documents are few")] if cut else []),
        _noted(f"held_out: {{share: {format_share(rule.share)}{by}}}", f"about {corpus.part.bytes:,} bytes"),
    ]


def _optimizer(design: Design) -> str:
    flops = design.size.flops
    reason = _comment(
        "Muon for the blocks' matrices, AdamW for the rest: 2% to 4% fewer bits per byte than AdamW alone in models of "
        "minutes, and half the compute for the same loss in large ones (Liu et al. 2025).",
        f"C = {flops:.3g} FLOPs of one model without embeddings. Peak 0.3118 · C^-0.1250 (Bi et al. 2024, DeepSeek "
        "LLM, equation 1), falling in one cosine over all tokens to a tenth (Hoffmann et al. 2022).",
        "Warm-up: 2,000 steps (Touvron et al. 2023), at most 5% of the tokens.",
    )
    return "\n".join([
        reason,
        "optimizer:",
        f"  kind: {rules.OPTIMIZER}",
        "  learning_rate:",
        f"    peak: {design.peak:.3g}",
        f"    minimum: {design.peak / 10:.3g}",
        f"    warmup: {_count(design.warmup)}",
        f"    horizon: {_count(design.total)}",
        "",
    ])  # fmt: skip


def _stages(design: Design) -> str:
    size, wanted = design.size, rules.batch_tokens(design.size.flops)
    batch = f"batch: {size.sequences} sequences"
    part = design.fork / design.total
    ramp = f", ramp: {_count(design.ramp)}" if design.wishes.domains else ""
    lines = [
        _comment(
            f"Batch: {design.batch:,} tokens; 0.2920 · C^0.3271 = {wanted:,.0f} (DeepSeek LLM, equation 1), in "
            f"multiples of 8 sequences. The text of the base is read {design.epochs:.2f} times; up to 4 times is "
            "nearly as good as new text (Muennighoff et al. 2023).",
            f"Variants fork after {part:.0%} of the tokens (TinyLlama v1.1: 75% with domains), so that another one can "
            "be added later without training the base again.",
        ),
        f"base: {{{TEXT}: 100%}}",
        "",
        "stages:",
        f"  - {{name: base, until: {_count(design.fork)}, {batch}}}",
        f"  - {{name: domain, until: {_count(design.total)}, {batch}, fork: true{ramp}}}",
        "",
    ]
    if design.domain_shares:
        lines.append(
            _comment(
                "A domain has half of the tokens after the fork, as Chinese in TinyLlama v1.1, or less, so that its "
                f"text is read {design.wishes.epochs} times at most."
            )
        )
    lines += ["variants:", f"  {GENERAL}: {{{TEXT}: 100%}}"]
    for name, percent in design.domain_shares.items():
        lines.append(f"  {name}: {{{TEXT}: {100 - percent}%, {name}: {percent}%}}")
    return "\n".join([*lines, ""])


def _rest(design: Design) -> str:
    prompts = [corpus.prompt for corpus in design.corpora.values() if corpus.prompt]
    shown = [f"    - {json.dumps(prompt, ensure_ascii=False)}" for prompt in dict.fromkeys(prompts)]
    tasks = (
        "  tasks: [commonsense]"
        if design.measures_tasks
        else _noted("  tasks: []", "below about 1e19 FLOPs, scores are close to chance")
    )
    return "\n".join([
        _comment(
            "Held-out losses twenty times, or as often as takes a twentieth of the time; bits per byte of all held-out "
            "text at the end."
        ),
        "evaluation:",
        f"  every: {_count(design.evaluation_every)}",
        tasks,
        *(["  prompts:", *shown] if shown else []),
        "",
        _comment("Checkpoints every 30 minutes, at least five."),
        "checkpoints:",
        f"  every: {_count(design.checkpoint_every)}",
        "",
        _noted("precision: auto", "bf16 where the device multiplies in it"),
        *([] if design.compiles else [_noted("hardware: {compile: false}", "compiling pays from half an hour on")]),
        "",
    ])  # fmt: skip


def _comment(*paragraphs: str) -> str:
    """Lines that begin with #, each paragraph on lines of its own."""
    from textwrap import wrap

    return "\n".join(f"# {line}" for text in paragraphs for line in wrap(text, _WIDE, break_on_hyphens=False))


def _noted(line: str, note: str) -> str:
    """A line and its comment, in a column."""
    return f"{line:<30}  # {note}"


def _count(number: int) -> str:
    """A whole number with separators that a recipe reads."""
    return f"{number:_}"


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes:.1f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
