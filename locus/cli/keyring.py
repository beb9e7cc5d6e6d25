"""The commands about keys: whose signatures a user trusts. They load nothing heavy until they are used."""

from typing import Annotated

import typer
from typer import Argument

from locus.boundary import terminal
from locus.boundary.terminal import Text

app = typer.Typer(help="List, add, name and remove the public keys whose receipts you trust.")
Name = Annotated[str, Argument(help="What you call the key's owner.")]
console = terminal.console()


@app.callback(invoke_without_command=True)
def keys(context: typer.Context) -> None:
    """List, add, name and remove the public keys whose receipts you trust."""
    if context.invoked_subcommand is None:
        listing()


@app.command("list")
def listing() -> None:
    """Print the trusted keys with their names, your own first."""
    from locus.report import keys, trusted

    own = keys.own_public_key()
    lines = [f"{own}  {trusted.OWN}" if own else "You have no key of your own yet: one is made when a first receipt is signed."]
    lines += [f"{key}  {name}" for name, key in trusted.listed().items()]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


@app.command()
def add(name: Name, key: Annotated[str, Argument(help="64 hexadecimal digits, as locus verify prints them.")]) -> None:
    """Trust a public key, under a name. Take it from its owner, never from the folder that it signed."""
    from locus.report import trusted

    trusted.add(name, key)


@app.command()
def rename(name: Name, new: Annotated[str, Argument(help="What you call them from now on.")]) -> None:
    """Give a trusted key another name."""
    from locus.report import trusted

    trusted.rename(name, new)


@app.command()
def remove(name: Name) -> None:
    """Trust a key no longer."""
    from locus.report import trusted

    trusted.remove(name)
