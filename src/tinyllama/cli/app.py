"""The application: command groups, and options that several commands share.

Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from tinyllama.errors import Interrupted, UserError
from tinyllama.paths import expand_path
from tinyllama.text import listing

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.models import OptionInfo

    from tinyllama.family import Family
    from tinyllama.files import Json

GROUPS = {
    "Training": (
        "new",
        "size",
        "ladder",
        "tune",
        "recipes",
        "recipe",
        "plan",
        "rehearse",
        "train",
        "reproduce",
        "watch",
        "studio",
        "audit",
        "inspect",
    ),
    "Models": ("generate", "chat", "serve", "import", "export", "publish"),
    "Data": ("prepare", "corpus", "tokenizer"),
    "Evaluation": ("evaluate", "compare", "report", "contaminated"),
    "Cluster": ("launch",),
    "Set-up": ("doctor",),
}
"""Command groups in the help text."""
HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class _GroupedCommands(TyperGroup):
    """Lists commands by their groups, and reports Ctrl-C with our message."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  # click's, at a private path in typer
        """Run a command; typer would end Ctrl-C without a message."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted(signal.SIGINT, "interrupted; the same command resumes") from None

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401  # click's, at a private path in typer
        """Write one section per group and one line per command."""
        for group, names in GROUPS.items():
            commands = {name: self.get_command(ctx, name) for name in names}
            with formatter.section(group):
                formatter.write_dl(
                    [(name, command.get_short_help_str(limit=80)) for name, command in commands.items() if command]
                )


app = typer.Typer(
    name="tinyllama",
    cls=_GroupedCommands,
    help="One recipe file in, an evaluated family of small Llama-compatible language models out.",
    epilog="Example: tinyllama reproduce nano",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=True,
    context_settings=HELP_OPTIONS,
)

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or path of a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key, e.g. --set seed=2."),
]
RunFolder = Annotated[
    Path | None,
    typer.Option(
        "--run", metavar="FOLDER", parser=expand_path, help="The family's folder (default: runs/<recipe name>)."
    ),
]
VariantName = Annotated[
    str | None, typer.Option("--variant", metavar="NAME", help="One variant or branch, or base (default: all).")
]
RefreshCorpora = Annotated[
    bool,
    typer.Option(
        "--refresh-corpora",
        help="Prepare corpora whose sources changed anew, beside those that models were trained on.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Device = Annotated[
    str, typer.Option(metavar="DEVICE", help="What computes: auto, cpu, cuda, xpu, mps, or one of several: cuda:1.")
]
_MOST_WHOLE = 2**31 - 1
"""What every library below can count to."""
WITHOUT_HARDWARE = "without --hardware; name a GPU, e.g. --hardware a100-40g"
"""Why options of a prediction have no effect."""
EvaluationData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        parser=expand_path,
        help="Local copies of the tasks' data (default: the recipe's; else the hub).",
    ),
]


class Precision(StrEnum):
    """Number formats for loading a model."""

    FP32 = "fp32"
    BF16 = "bf16"


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,  # noqa: FBT002  # typer reads a flag's default so
) -> None:
    if version:
        from tinyllama import __version__

        typer.echo(__version__)
        raise typer.Exit


def is_recipe(name: str) -> bool:
    """Whether a name refers to a recipe, not a model."""
    from tinyllama.recipe import shipped_recipes

    return name.endswith((".yaml", ".yml")) or name in shipped_recipes() or is_pipe(name)


def is_pipe(name: str) -> bool:
    """Whether a name is neither a file nor a folder but something to read from: `<(…)`, /dev/stdin."""
    path = Path(name)
    return path.exists() and not (path.is_file() or path.is_dir())


def on_device(overrides: list[str] | None, device: str) -> list[str]:
    """Overrides with those of the option `--device`, which is short for a recipe's key."""
    return [*(overrides or ()), *([] if device == "auto" else [f"hardware.device={device}"])]


def open_family(recipe: str, overrides: list[str] | None, run: Path | None) -> Family:
    """The family of a recipe in its folder, with progress on the terminal."""
    from tinyllama.cli.progress import TerminalProgress
    from tinyllama.family import Family
    from tinyllama.recipe import load_recipe

    return Family(load_recipe(recipe, overrides or ()), run, progress=TerminalProgress())


def say_next(*command: str, overrides: list[str] | None = None, run: Path | None = None) -> None:
    """Say on stderr which command to run next, with the same changes and folder."""
    changes = [part for override in overrides or () for part in ("--set", override)]
    folder = [] if run is None else ["--run", str(run)]
    typer.echo(f"next: {shlex.join(['tinyllama', *command, *folder, *changes])}", err=True)


def refuse_options(ctx: typer.Context, parameters: set[str], why: str) -> None:
    """Reject options that would have no effect, if any was given on the command line.

    Args:
        ctx: the command's context.
        parameters: names of the parameters of these options.
        why: completes the message: when they have no effect, and what to do.

    Raises:
        UserError: one was given; the message names its option.
    """
    given = [option for parameter, option in _given(ctx) if parameter in parameters]
    if given:
        raise UserError(f"cannot use {listing(given)} {why}")


def given_options(ctx: typer.Context, *parameters: str) -> list[str]:
    """Those of some options that were given on the command line, with their values, for another command."""
    given = [(option, ctx.params[parameter]) for parameter, option in _given(ctx) if parameter in parameters]
    texts = [(option, f"{value:.15g}" if isinstance(value, float) else f"{value}") for option, value in given]
    return [word for pair in texts for word in pair]


def _given(ctx: typer.Context) -> list[tuple[str, str]]:
    """Name and option of each parameter that was given on the command line."""
    return [
        (parameter.name, parameter.opts[0])
        for parameter in ctx.command.params
        if parameter.name
        and (source := ctx.get_parameter_source(parameter.name)) is not None
        and source.name == "COMMANDLINE"
    ]


def as_text(argument: str) -> str:
    """An argument that is a text: bytes that are no UTF-8 become U+FFFD, as in corpora."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def parse_steps(option: str, text: str) -> range:
    """The steps that an option names: one, or a range such as `100..102`, its last step included.

    Raises:
        UserError: the text is neither.
    """
    first, _, last = text.partition("..")
    if not (first.isdecimal() and (last or first).isdecimal()):
        raise UserError(f"{option} {text}: is neither a step nor a range such as 100..102")
    return range(int(first), int(last or first) + 1)


def print_json(value: Json) -> None:
    """Print a JSON value to stdout; with escapes, if stdout's encoding or UTF-8 lacks one of its characters."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    typer.echo(text)


def whole(text: str, *, least: int = 1, most: int = _MOST_WHOLE, metavar: str = "N") -> OptionInfo:
    """An option that is a whole number, such as `8`, `100K` or `1e6`."""
    return _option(text, "parse_count", least, most, metavar)


def real(text: str, *, least: float = 0.0, most: float = 1e9, metavar: str = "X") -> OptionInfo:
    """An option that is a finite number."""
    return _option(text, "parse_number", least, most, metavar)


def any_seed(text: str) -> OptionInfo:
    """An option that is a seed."""
    return _option(text, "parse_seed", -(2**63), 2**64 - 1, "N")


def _option(text: str, parse: str, least: float, most: float, metavar: str) -> OptionInfo:
    option: OptionInfo = typer.Option(metavar=metavar, help=text, parser=_parser(parse, least, most))
    return option


def _parser(parse: str, least: float, most: float) -> Callable[[object], float]:
    def parsed(value: object) -> float:
        from tinyllama.recipe import quantities  # imports pydantic

        try:
            number: float = getattr(quantities, parse)(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        if not least <= number <= most:
            raise typer.BadParameter(f"{value} is not from {least} to {most}")
        return number

    return parsed
