"""The commands' table and what they share: exit codes, one-line errors, the language of failures.

0 is done, 1 is failed (the reason on stderr, in one line), 2 is wrong usage.
"""

import tanda.lean  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split

import logging
import sys
from importlib.metadata import version

import structlog
from cyclopts import App, CycloptsError

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
#: Each command's room is only loaded for its command: the servers' clients take half a second.
COMMANDS = {
    "up": ("run:up", "Start the servers and the services, and keep them running."),
    "demo": ("run:demo", "Start everything and process the sample batch, or your own files."),
    "upload": ("batches:upload", "Upload files and folders as one batch."),
    "batches": ("batches:list_batches", "List batches, newest first."),
    "show": ("batches:show_batch", "Show one batch and what became of its files."),
    "watch": ("batches:watch", "Follow a batch live to its end."),
    "results": ("batches:results", "Download a batch's results."),
    "pause": ("control:pause", "Release nothing more of a batch; what runs is finished."),
    "resume": ("control:resume", "Let a paused batch go on."),
    "cancel": ("control:cancel", "Run nothing more of a batch; finished work is kept."),
    "retry": ("control:retry", "Start files of a batch again."),
    "archive": ("control:archive", "Archive sources without waiting for their results."),
    "change": ("control:change", "Change a batch's priority, times or limit while it waits."),
    "bulk": ("control:bulk", "Pause, resume, cancel or retry every batch that a filter names."),
    "limits": ("control:limits", "Show and set how many files run at once."),
    "watch-folder": ("watch_folder:watch_folder", "Process what is dropped into a folder."),
    "replay": ("replay:replay", "Rebuild views from the log, or prove them equal to it."),
    "log": ("log:log", "Print the events of the log as NDJSON CloudEvents."),
    "doctor": ("doctor:doctor", "Look at the servers, the log and the views, and say what is wrong."),
}
for name, (place, summary) in COMMANDS.items():
    app.command(f"tanda.cli.{place}", name=name, help=summary)


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
