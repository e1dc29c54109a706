"""`python -m churnstream.certificate`."""

import typer

from churnstream.certificate.command import certificate

if __name__ == "__main__":
    typer.run(certificate)
