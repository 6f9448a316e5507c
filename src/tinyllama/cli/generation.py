"""The command `generate`: continue prompts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tinyllama.cli.app import AsJson, Device, Precision, any_seed, app, as_text, print_json, real, whole


@app.command(
    short_help="Continue prompts with a model.",
    epilog='Example: tinyllama generate runs/mini/exports/v1.1 "The people of" --stop "."',
)
def generate(  # a command's options
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A model's folder or checkpoint, a Hugging Face folder or hub id, or a GGUF file."
        ),
    ],
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="One or more texts to continue.")],
    *,
    max_new_tokens: Annotated[int, whole("Maximum number of new tokens.")] = 200,
    temperature: Annotated[float | None, real("Sampling temperature; 0 is greedy.")] = None,
    top_k: Annotated[int | None, whole("Sample from the N most likely tokens; 0 means all.", least=0)] = None,
    top_p: Annotated[
        float | None,
        real("Sample from the smallest set of tokens with this total probability.", most=1.0),
    ] = None,
    repetition_penalty: Annotated[
        float | None, real("Repetition penalty on tokens that already occurred; 1 means no penalty.", least=0.01)
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Stop before this text; may be repeated.")
    ] = None,
    seed: Annotated[int, any_seed("Random seed for sampling.")] = 0,
    precision: Annotated[
        Precision, typer.Option(help="Number format; bf16 halves memory, and also time on CPUs that support it.")
    ] = Precision.FP32,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Continue prompts; a single one streams its output.

    Sampling options default to those in the model's generation_config.json, and else to the model's own probabilities.
    """
    from tinyllama.errors import UserError
    from tinyllama.formats.open import open_model
    from tinyllama.inference import continue_prompts, default_sampling, pack
    from tinyllama.model.devices import choose_device
    from tinyllama.train.precision import DTYPES

    prompts, stops = list(map(as_text, prompts)), list(map(as_text, stop or []))
    if "" in stops:
        raise UserError("--stop is empty; give the text to stop before")
    source = open_model(model)
    settings = default_sampling(source).changed(
        temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=repetition_penalty
    )
    tokenizer, weights = source.tokenizer(), source.load(DTYPES[precision]).to(choose_device(device))
    pack(weights)
    full: list[int] = []
    pieces = continue_prompts(
        weights,
        tokenizer,
        prompts,
        settings,
        stops=stops,
        max_new_tokens=max_new_tokens,
        seed=seed,
        on_full=full.append,
    )
    if len(prompts) == 1 and not as_json:
        sys.stdout.write(prompts[0])
        for (piece,) in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
        _tell_of_full_context(full, prompts, source.shape.context)
        return
    texts = list(map("".join, zip(*pieces, strict=True)))
    if as_json:
        print_json([{"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)])
    else:
        typer.echo("\n\n".join(map("".join, zip(prompts, texts, strict=True))))
    _tell_of_full_context(full, prompts, source.shape.context)


def _tell_of_full_context(full: list[int], prompts: list[str], context: int) -> None:
    """Say on stderr which texts ended because the model can see no further."""
    for row in full:
        which = f" of prompt {row + 1}" if len(prompts) > 1 else ""
        told = f"note: the text{which} ends here because it fills the model's context of {context:,} tokens"
        typer.echo(told, err=True)
