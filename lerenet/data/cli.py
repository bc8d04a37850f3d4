"""Data commands."""

import typer

app = typer.Typer()


@app.callback()
def main() -> None:
    """Data."""
