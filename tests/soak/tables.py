"""What a soak prints."""

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

out = Console(width=None if sys.stdout.isatty() else 120)


def table(title: str, lines: Mapping[str, object]) -> None:
    made = Table(title=title, title_justify="left", box=None, show_header=False, min_width=60)
    for name, value in lines.items():
        made.add_row(name, str(value))
    out.print(made)
    out.print()
