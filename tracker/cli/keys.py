"""`trackerd keys`: who may reach the daemon's sockets."""

from pathlib import Path

import click

from tracker.protocol import keys as files

DIR = click.option(
    "--dir", "folder", required=True, type=click.Path(file_okay=False, path_type=Path), help="As keys.dir."
)
FOR = click.option(
    "--for",
    "which",
    type=click.Choice(["both", *files.SOCKETS]),
    default="both",
    show_default=True,
    help="The socket: control asks and changes, publish only listens.",
)


@click.group()
def keys() -> None:
    """CURVE keys: made, shown, allowed and revoked. A running daemon follows within a second."""


@keys.command()
@click.argument("name")
@DIR
def new(name: str, folder: Path) -> None:
    """Make a key file NAME.key, mode 0600, and print its public key.

    "daemon" is the daemon's own. A client's file also holds the daemon's public key: hand it over, and name it with
    TRACKER_KEY.
    """
    server = None if name == "daemon" else files.daemon_pair(folder).public
    pair = files.new_pair(server)
    path = files.key_path(folder, name)
    files.write_pair(path, pair)
    click.echo(pair.public)
    click.echo(f"{path}: keep it secret", err=True)


@keys.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def show(file: Path) -> None:
    """Print the public key of a key file."""
    click.echo(files.read_pair(file).public)


class _TakesKey(click.Command):
    """A public key may begin with a minus, and hold any letter: -h is an option only by itself."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--help" if word == "-h" else word for word in args])


@keys.command(cls=_TakesKey, context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("name")
@click.argument("public")
@DIR
@FOR
def allow(name: str, public: str, folder: Path, which: str) -> None:
    """Let the owner of a public key in, under a name."""
    files.allow(folder, name, public, _sockets(which))


@keys.command()
@click.argument("name")
@DIR
@FOR
def revoke(name: str, folder: Path, which: str) -> None:
    """Let a name in no longer; its connections are shut."""
    if not files.revoke(folder, name, _sockets(which)):
        raise click.ClickException(f"nobody of the name {name!r} is allowed in {folder}")


def _sockets(which: str) -> tuple[files.Socket, ...]:
    return tuple(socket for socket in files.SOCKETS if which in ("both", socket))
