"""The command `doctor`: what works on this machine."""

from __future__ import annotations

import typer

from tinyllama.cli.app import AsJson, app, print_json


@app.command(short_help="Show what works on this machine, with remedies.", epilog="Example: tinyllama doctor")
def doctor(*, as_json: AsJson = False) -> None:
    """Show what works on this machine, and the remedy for what does not.

    Examines the installation, the device, bf16, torch.compile, memory, disks, the clients of package registries, the
    sandbox, the hub and the extras. Exits with 1 if training does not work here; what is limited is optional.
    """
    from tinyllama.doctor import examine

    typer.echo("examining this machine; the compiler alone takes some seconds", err=True)
    found = list(examine())
    is_broken = any(item.state == "broken" for item in found)
    if as_json:
        print_json([item._asdict() for item in found])
    else:
        from tinyllama.cli.tables import output, print_examined

        print_examined(output(), found)
        verdict = (
            "cannot train before what is broken is mended" if is_broken else "can train; what is limited is optional"
        )
        typer.echo(f"this machine {verdict}")
    if is_broken:
        raise typer.Exit(1)
