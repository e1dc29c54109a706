"""The command line: the local platform of the project around the working directory, and what flows on it."""

import typer

from churnstream.certificate.command import certificate
from churnstream.cli import candidates, events, platform, shows
from churnstream.cli.deadletters import letters
from churnstream.cli.models import models
from churnstream.cli.outcomes import outcomes

app = typer.Typer(help="Scores every customer's risk of leaving while their events still arrive.", no_args_is_help=True)
for command in (platform.up, platform.down, platform.status, platform.logs, platform.drain, platform.scale, platform.address):
    app.command()(command)
for command in (platform.token, shows.demo, certificate, events.reset, events.account, events.check):
    app.command()(command)
app.command(hidden=True)(shows.pictures)
app.add_typer(letters, name="deadletters")
models.command()(candidates.withdraw)
models.command()(candidates.readmit)
models.command()(outcomes)
app.add_typer(models, name="models")
