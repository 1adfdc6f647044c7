"""The root of the command line: the group, errors in one line, exit statuses (design §4)."""

import os
import sys

import click

from taut.cli.cache import clear_damaged_cache
from taut.cli.groups import GroupedCommand
from taut.errors import TautError, UsageError
from taut.logs.text import safe
from taut.version import __version__

EXIT_DATA, EXIT_USAGE, EXIT_GATE, EXIT_UNDECIDED, EXIT_INTERRUPTED = 1, 2, 3, 4, 130


def main() -> None:
    """Run the command line and turn errors into one line and an exit status (design §4)."""
    try:
        status = _run()
    except click.exceptions.Abort:
        status = EXIT_INTERRUPTED
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        status = EXIT_USAGE
    except UsageError as error:
        status = complain(str(error), EXIT_USAGE)
    except TautError as error:
        status = complain(str(error), EXIT_DATA)
    except BrokenPipeError:
        # The reader of our output has left; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except (OSError, MemoryError) as error:
        status = complain(_system_error(error), EXIT_DATA)
    sys.exit(status if isinstance(status, int) else 0)


def _run() -> object:
    """Run the command; once more for each folder of damaged compiled code that it met."""
    while True:
        try:
            return cli(standalone_mode=False)
        except (click.exceptions.Abort, click.ClickException, TautError):
            raise
        except Exception as error:
            if not clear_damaged_cache(error):
                raise


def complain(message: str, status: int) -> int:
    """Say what went wrong in one line on stderr, and return the exit status."""
    shown = "\n".join(safe(line, limit=2000) for line in message.splitlines())
    click.echo(f"taut: {shown}", err=True)
    return status


def _system_error(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "out of memory; convert the log first (taut convert) or audit a part of it."
    name = f"{error.filename}: " if getattr(error, "filename", None) else ""
    return f"{name}{error.strerror or error}"


class _Root(click.Group):
    command_class = GroupedCommand


@click.group(
    cls=_Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done; 1 the log or the data is wrong; 2 usage; 3 a --require gate "
    "failed; 4 taut watch stopped before a decision; 130 interrupted.",
)
@click.version_option(__version__, prog_name="taut")
def cli():
    """How much of the reward you measured is real?

    taut turns RLHF rollout logs into finite-sample certificates for the true objective
    E[r* - beta log(pi/pi_ref)]: rewards in reward units, log-ratios in nats.
    """
