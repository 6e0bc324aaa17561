"""The `erp` command. Each of its subcommands is a module that is loaded only when that subcommand is called."""

import importlib
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from erp_service.commands.terminal import FAULT, INTERRUPTED, PIPE_CLOSED, WholeSentences, exit_with, silence_stdout
from erp_service.observability.exception_text import print_uncaught

COMMANDS = {
    "create-user": ("create_user", "Create a user."),
    "export": ("export", "Export a dataset of a running service: submit, follow, download, check the digest."),
    "import": (
        "import_",
        "Load a file of CSV or JSON Lines, all of it or nothing; `-` is standard input; .xz, .gz, .zst are unpacked.",
    ),
    "migrate": (
        "migrate",
        "Bring the database to the schema of this version; does nothing if it has that already.",
    ),
    "openapi": ("openapi", "Print the OpenAPI 3.1 document, for client generators and contract tests."),
    "queue": ("queue", "Show the queue: its workers, and the jobs that run, wait, stall or failed."),
    "serve": ("serve", "Run one instance of the API."),
    "settings": (
        "settings",
        "List every setting with its meaning, default and current value; secrets are masked.",
    ),
    "up": ("up", "Run everything on this machine, in the foreground, in development mode."),
    "verify": ("verify", "Check that the books hold; if they do not, print the rows at fault and exit with status 1."),
    "worker": ("worker", "Run one worker: exports and housekeeping."),
}
"""The one registry of commands: each with its module in `erp_service.commands`, and the first sentence of its help."""


class LazyGroup(WholeSentences):
    """Loads only the command that is called, so that `erp export` does not load what only a service needs.

    The help and a shell's completion list placeholders, which have a name and a sentence. Every command ends here:
    whatever happens, with one message and a documented status, and not with a stack trace."""

    def invoke(self, ctx: click.Context) -> Any:
        """Click calls this to run the command."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()  # a closed pipe shows here, and not when Python exits
        except BrokenPipeError:
            silence_stdout()
            exit_with(PIPE_CLOSED, "the reader of the pipe went away.")
        except (KeyboardInterrupt, click.Abort):
            exit_with(INTERRUPTED, "interrupted.")
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Exception as exc:
            if os.environ.get("ERP_LOG_LEVEL") == "debug":
                raise
            # not the error's own text, which may hold a statement with its parameters
            place = traceback.extract_tb(exc.__traceback__)[-1]
            exit_with(
                FAULT,
                f"a fault of this program: {type(exc).__name__} in {Path(place.filename).name}, line {place.lineno}."
                " Please report it. ERP_LOG_LEVEL=debug shows all of it.",
            )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Click calls this whenever it needs the command's own options: to run it, for its help, for completion."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load_command(name), rest


def load_command(name: str) -> click.Command:
    module, _ = COMMANDS[name]
    command: click.Command = importlib.import_module(f"erp_service.commands.{module}").command
    return command


@click.group(
    cls=LazyGroup,
    commands=[click.Command(name, help=sentence) for name, (_, sentence) in COMMANDS.items()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="erp-service")
def main() -> None:
    """The ERP back end that a small business can run itself: one Postgres, any number of identical instances.

    \b
    On one machine:      erp up
    In containers:       erp migrate, then any number of erp serve and erp worker
    As a client:         erp export stock_movements -o movements.csv

    What concerns processes is set by variables ERP_..., what concerns the company in the database: `erp settings` lists
    both, with their meaning.

    \b
    Exit status of every command; those that have more say so in their help:
      0    done
      1    refused, or something that is needed cannot be used; the message says
           what
      2    the command line is wrong
      70   a fault of this program
      130  interrupted
      141  the reader of the pipe went away
    """
    print_uncaught()
    if os.getpid() == 1:
        # the first process of a container: the kernel delivers it no signal that has no handler
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
