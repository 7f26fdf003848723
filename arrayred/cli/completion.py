"""``arrayred completion SHELL``: what makes a shell complete commands, options and choices.

The script asks `arrayred` itself on each tab, so it knows the options of the version that is
installed; an answer takes 0.1 s, since no command imports numpy before it runs.
"""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

_SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_ARRAYRED_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands in a shell.

    \b
    bash   arrayred completion bash > ~/.local/share/bash-completion/completions/arrayred
    zsh    arrayred completion zsh > ~/.zfunc/_arrayred      (a folder of your $fpath)
    fish   arrayred completion fish > ~/.config/fish/completions/arrayred.fish

    A new shell then knows it. To try it in this one: eval "$(arrayred completion bash)"
    """
    from arrayred.cli import cli

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, "arrayred", _VARIABLE).source())


def folders(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete folders."""
    return [CompletionItem(incomplete, type="dir")]


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete files."""
    return [CompletionItem(incomplete, type="file")]


def instruments(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the names of instruments; where none begins so, files."""
    from arrayred.config.instrument import builtin_instruments

    names = [name for name in builtin_instruments() if name.startswith(incomplete)]
    return [CompletionItem(name) for name in names] or files(ctx, param, incomplete)
