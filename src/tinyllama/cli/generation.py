"""The command that continues prompts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tinyllama.cli.app import AsJson, Precision, app, print_json


@app.command(epilog='Example: tinyllama generate runs/mini/exports/v1.1 "The people of" --stop "."')
def generate(  # noqa: PLR0913  # a command's options
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model folder, checkpoint, GGUF file or hub id.")],
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="Several are continued side by side.")],
    *,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 200,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="0 is all.")] = 10,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0)] = 1.0,
    repetition_penalty: Annotated[float, typer.Option(min=0.01)] = 1.5,
    stop: Annotated[list[str] | None, typer.Option(help="The text ends before it; may be given several times.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    precision: Annotated[
        Precision, typer.Option(help="bf16 needs half the memory and, on a CPU that has it, half the time.")
    ] = Precision.FP32,
    as_json: AsJson = False,
) -> None:
    """Continue prompts, with the model card's sampling options as defaults; a single one as it is made."""
    from tinyllama.errors import UserError
    from tinyllama.formats.open import open_model
    from tinyllama.inference import Sampling, continue_prompts, pack
    from tinyllama.train.precision import DTYPES

    settings = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=repetition_penalty)
    stops = stop or []
    if "" in stops:
        raise UserError("--stop is empty; give the text to stop before")
    source = open_model(model)
    tokenizer, weights = source.tokenizer(), source.load(DTYPES[precision])
    pack(weights)
    pieces = continue_prompts(
        weights, tokenizer, prompts, settings, stops=stops, max_new_tokens=max_new_tokens, seed=seed
    )
    if len(prompts) == 1 and not as_json:
        sys.stdout.write(prompts[0])
        for (piece,) in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
        return
    texts = list(map("".join, zip(*pieces, strict=True)))
    if as_json:
        print_json([{"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)])
    else:
        typer.echo("\n\n".join(map("".join, zip(prompts, texts, strict=True))))
