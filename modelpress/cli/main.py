"""The `modelpress` command: wiring only."""

import typer

from modelpress.cli import admin, keys, triggers
from modelpress.cli.compress import compress
from modelpress.cli.doctor import doctor
from modelpress.cli.exits import EXIT_CODES_HELP, ReportingGroup
from modelpress.cli.optimize import optimize
from modelpress.cli.pack import pack
from modelpress.cli.pull import pull
from modelpress.cli.resources import (
    benchmark,
    cancel,
    datasets,
    download,
    jobs,
    models,
    report,
    resume,
    show,
    techniques,
)
from modelpress.cli.up import up


def build() -> typer.Typer:
    """Assemble the commands."""
    app = typer.Typer(
        cls=ReportingGroup,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help=f"Compress neural networks into small, fast ONNX files.\n\n{EXIT_CODES_HELP}",
    )
    commands = (
        up,
        compress,
        optimize,
        pack,
        pull,
        techniques,
        jobs,
        show,
        cancel,
        resume,
        report,
        download,
        benchmark,
        models,
        datasets,
        doctor,
    )
    for command in commands:
        app.command()(command)
    app.add_typer(keys.build(), name="keys")
    app.add_typer(triggers.build(), name="triggers")
    app.add_typer(admin.build(), name="admin")
    return app


def main() -> None:
    """Run the command."""
    build()()


if __name__ == "__main__":
    main()
