"""Pages tell the truth: the generated one is current, the commands of the others exist."""

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.house.events_page import PAGE, page
from tests.house.sources import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)
SHELLS = frozenset({"console", "bash", "sh", "shell"})
#: A block that names no language is the shell's where it begins with one of these.
SHELL_BEGINNINGS = ("make ", "tanda ", "curl ", "$ ")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)\s]*)?\)")
#: Programs that a reader has, or gets from where the page says; their arguments are not checked here.
KNOWN_PROGRAMS: frozenset[str] = frozenset(
    {
        "cd",
        "cp",
        "cat",
        "ls",
        "rm",
        "mkdir",
        "export",
        "git",
        "docker",
        "helm",
        "kubectl",
        "python",
        "python3",
    }
    | {
        "pip",
        "pipx",
        "uv",
        "uvx",
        "npm",
        "npx",
        "jq",
        "open",
        "sleep",
        "nats",
        "psql",
        "tail",
        "head",
        "echo",
    }
    | {"for", "do", "done", "while", "kill", "pytest", "ruff"}
    | {"printf", "grep", "true", "test", "sha256sum", "diff", "sort", "wc", "chmod", "tar", "unzip"}
)


def _commands(path: Path) -> list[str]:
    """The commands of a page's shell blocks, each whole however many lines its quotes and ``\\`` span.

    Where a block shows prompts, only what follows a ``$`` is a command; the rest is an answer.
    """
    commands: list[str] = []
    for language, block in BLOCK.findall(path.read_text(encoding="utf-8")):
        if language not in SHELLS and (language or not block.startswith(SHELL_BEGINNINGS)):
            continue
        lines = block.replace("\\\n", " ").splitlines()
        prompted = [line.strip()[2:] for line in lines if line.strip().startswith("$ ")]
        commands += _joined(prompted or lines)
    return commands


def _joined(lines: list[str]) -> list[str]:
    """Lines joined while a quote is open."""
    commands, begun = list[str](), ""
    for line in lines:
        begun = f"{begun}\n{line}" if begun else line
        try:
            words = shlex.split(begun, comments=True)
        except ValueError:
            continue
        commands += [begun] if words else []
        begun = ""
    assert not begun, f"a quote that is never closed: {begun}"
    return commands


def _parts(command: str) -> list[list[str]]:
    """The single programs of a command, those within ``$( )`` too, without assignments before them."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=";|&()")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set(";|&()"):
            found.append([])
        elif found[-1] or not re.match(r"[A-Za-z_]\w*=", word):
            found[-1].append(word)
    return [words for words in found if words]


def _make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@cache
def _tanda_help() -> str:
    asked = subprocess.run(
        [sys.executable, "-c", "import sys; from tanda.cli import main; sys.argv[1:] = ['--help']; main()"],
        capture_output=True,
        cwd=ROOT,
        check=True,
        text=True,
    )
    return asked.stdout


def _tanda_knows(subcommand: str) -> bool:
    return bool(re.search(rf"^\W*{re.escape(subcommand)}\b", _tanda_help(), re.MULTILINE))


def _problem(words: list[str]) -> str | None:
    program, arguments = Path(words[0]).name, [word for word in words[1:] if not word.startswith("-")]
    if program == "make":
        targets = [word for word in arguments if "=" not in word]
        unknown = set(targets) - _make_targets()
        return f"no such target: {unknown}" if unknown else None
    if program == "tanda":
        return f"no such command: {arguments[0]}" if arguments and not _tanda_knows(arguments[0]) else None
    if program == "curl":
        return _curl_problem(" ".join(words))
    return None if program in KNOWN_PROGRAMS else f"an unknown program: {program}"


def _curl_problem(command: str) -> str | None:
    paths = re.findall(r"https?://(?:127\.0\.0\.1|localhost)[^/\s'\"]*(/[^\s'\"?#]*)", command)
    paths += re.findall(r"\$(?:\{?TANDA_URL\}?|URL)(/[^\s'\"?#]*)", command)
    routes = _route_patterns()
    unknown = [path for path in paths if not any(route.fullmatch(path) for route in routes)]
    return f"no such route: {unknown}" if unknown else None


def _route_patterns() -> list[re.Pattern[str]]:
    """Every path that the gateway's code names in a decorator or a route, with its parameters open."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "services/gateway").rglob("*.py"))
    paths = set(re.findall(r"\"(/[\w\-./{}:]*)\"", source))
    full = paths | {f"/v1{path}" for path in paths} | {f"/v1/batches{path}" for path in paths}
    return [re.compile(re.sub(r"\\\{.*?\\\}", "[^/]+", re.escape(path)) + "/?") for path in full]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_of_a_page_exists(path: Path) -> None:
    """A command that a reader may copy names a target, a subcommand, a route or a known program."""
    problems = {
        command: problem
        for command in _commands(path)
        for words in _parts(command)
        if (problem := _problem(words))
    }
    assert not problems


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(path: Path) -> None:
    """Links within the repository name files that are in it."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = [target for target in LINK.findall(text) if not (path.parent / target).exists()]
    assert not broken


def test_the_readme_is_there() -> None:
    """The two tests above looked at something."""
    assert ROOT / "README.md" in PAGES


def test_the_events_page_is_current() -> None:
    """``docs/events.md`` says what the contracts say: else run ``make docs``."""
    assert PAGE.read_text(encoding="utf-8") == page()
