"""``python -m bench.cli.commands_page docs/commands.md``: the page of all commands and options, from the app.

Without a file it prints the page.
"""

import sys
from pathlib import Path
from typing import Any

import typer

import bench.cli  # noqa: F401  (adds the commands)
from bench.cli.app import app

HEAD = """# Commands

Made by `python -m bench.cli.commands_page docs/commands.md`; `-h` after a command prints the same.
"""


def commands() -> dict[str, Any]:
    """Return all commands by name, in the order of ``lethe --help``."""
    group: Any = typer.main.get_command(app)
    return {name: group.commands[name] for name in group.list_commands(None)}


def page() -> str:
    """Return the page in Markdown."""
    group: Any = typer.main.get_command(app)
    own = [p for p in group.params if p.name != "help"]
    parts = [HEAD, "\n## lethe\n", "\n".join([*map(_row, own)])]
    for name, command in commands().items():
        usage = " ".join(
            ["lethe", name, *(_argument(p) for p in command.params if _is_argument(p)), "[OPTIONS]"]
        )
        parts += [f"\n## {name}\n", f"```text\n{usage}\n```\n", _plain(command.help.strip()) + "\n"]
        if rows := [_row(p) for p in command.params if p.name != "help"]:
            parts.append("\n".join(rows))
        examples = command.epilog.split(": ", 1)[1].split(" | ") if command.epilog else []
        if examples:
            parts += ["", "```sh", *(" ".join(line.split()) for line in examples), "```"]
    return "\n".join(parts) + "\n"


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _argument(parameter: Any) -> Any:
    return parameter.metavar or f"{parameter.name.upper()}{'...' if parameter.nargs == -1 else ''}"


def _row(parameter: Any) -> str:
    """Return a line of a list: names, value, help and default of an argument or option."""
    if _is_argument(parameter):
        return f"- `{_argument(parameter)}`: {_plain(parameter.help or '')}"
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    value = "" if parameter.is_flag else f" `{parameter.metavar or parameter.name.upper()}`"
    default = parameter.default
    shown = parameter.show_default and not parameter.is_flag and default not in (None, "", [], ())
    said = f" Default: `{default}`." if shown else ""
    needed = " Required." if parameter.required else ""
    return f"- {names}{value}: {_plain(parameter.help or '')}{said}{needed}"


def _plain(text: str) -> str:
    """Escape what Markdown would read as markup."""
    return text.replace("*", "\\*").replace("<", "&lt;")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page(), encoding="utf-8")
    else:
        print(page())
