"""The command `generate`: continue prompts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tinyllama.cli.app import AsJson, Device, Precision, app, print_json


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
    max_new_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Maximum number of new tokens.")] = 200,
    temperature: Annotated[float, typer.Option(min=0.0, help="Sampling temperature; 0 is greedy.")] = 1.0,
    top_k: Annotated[
        int, typer.Option(min=0, metavar="N", help="Sample from the N most likely tokens; 0 means all.")
    ] = 10,
    top_p: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Sample from the smallest set of tokens with this total probability."),
    ] = 1.0,
    repetition_penalty: Annotated[
        float, typer.Option(min=0.01, help="Repetition penalty on tokens that already occurred; 1 means no penalty.")
    ] = 1.5,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Stop before this text; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed for sampling.")] = 0,
    precision: Annotated[
        Precision, typer.Option(help="Number format; bf16 halves memory, and also time on CPUs that support it.")
    ] = Precision.FP32,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Continue prompts. The defaults are the model card's sampling options; a single prompt streams its output."""
    from tinyllama.errors import UserError
    from tinyllama.formats.open import open_model
    from tinyllama.inference import Sampling, continue_prompts, pack
    from tinyllama.model.devices import choose_device
    from tinyllama.train.precision import DTYPES

    settings = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=repetition_penalty)
    stops = stop or []
    if "" in stops:
        raise UserError("--stop is empty; give the text to stop before")
    source = open_model(model)
    tokenizer, weights = source.tokenizer(), source.load(DTYPES[precision]).to(choose_device(device))
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
