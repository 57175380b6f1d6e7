"""The commands' table and what they share: exit codes, one-line errors, the language of failures.

0 is done, 1 is failed (the reason on stderr, in one line), 2 is wrong usage.
"""

import logging
import sys
from importlib.metadata import version

import structlog
from cyclopts import App, CycloptsError

from tanda.cli import batches, doctor, log, replay, run
from tanda.cli.target import Failed
from tanda.client import TandaProblem, TandaUnreachable

EXIT_FAILED = 1
EXIT_USAGE = 2

app = App(
    name="tanda",
    help="Process batches of files in the background; nothing is ever lost.",
    version=lambda: version("tanda"),
    help_format="plaintext",
)
for room in (run, batches, replay, log, doctor):
    room.register(app)


def main() -> None:
    """Runs one command and exits."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: list[str]) -> int:
    """Runs one command; its exit code. What the libraries log goes to stderr, data alone to stdout."""
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    try:
        answer = app(arguments, exit_on_error=False, print_error=True, result_action="return_value")
    except CycloptsError:
        return EXIT_USAGE
    except (Failed, TandaProblem, TandaUnreachable, FileNotFoundError) as error:
        print(f"tanda: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130
    return answer if isinstance(answer, int) else 0
