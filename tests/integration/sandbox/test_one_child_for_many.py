"""Small files of one batch that follow one another in one child: fewer forks, and each fails alone."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.worker.sandbox.sandbox import SHARED_FILES_MAX, Job, Limits, Outcome, Sandbox
from tanda.contracts.results import Failure, Result, SourceFile
from tests.integration.sandbox import probes

_HERE = Path(__file__).parent


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    started = Sandbox(sys_path=[str(_HERE)])
    await started.start({"follow": f"probes:{probes.Follow.__name__}"})
    yield started
    await started.close()


def texts(folder: Path, *contents: str, limits: Limits | None = None) -> list[Job]:
    jobs: list[Job] = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.txt"
        path.write_text(content)
        digest = hashlib.sha256(content.encode()).hexdigest()
        source = SourceFile(
            path=path, name=path.name, content_type="text/plain", bytes=len(content), sha256=digest
        )
        jobs.append(Job(processor="follow", source=source, limits=limits))
    return jobs


def before(outcomes: list[Outcome]) -> list[int]:
    return [one.data["before"] for one in outcomes if isinstance(one, Result)]


async def test_files_follow_one_another_in_one_process(sandbox: Sandbox, tmp_path: Path) -> None:
    """Three files, one child, and the answers in the order of the files."""
    outcomes = await sandbox.run_shared(texts(tmp_path, "uno", "dos", "tres"))
    assert [one.data["text"] for one in outcomes if isinstance(one, Result)] == ["uno", "dos", "tres"]
    assert before(outcomes) == [0, 1, 2]


@pytest.mark.parametrize(
    ("poison", "code"),
    [
        ("segfault", "worker_lost"),
        ("os_exit", "processor_error"),
        ("allocate", "memory"),
        ("burn", "cpu_time"),
        ("nonsense", "processor_error"),
        ("assertion", "processor_error"),
    ],
)
async def test_a_poisonous_file_fails_alone(sandbox: Sandbox, tmp_path: Path, poison: str, code: str) -> None:
    """Whatever a file does to its process, those before and after it get their results, each in its own."""
    limits = Limits(cpu_s=1, wall_s=20.0, memory_bytes=512 * 1024**2)
    outcomes = await sandbox.run_shared(texts(tmp_path, "uno", poison, "tres", limits=limits))
    first, second, third = outcomes
    assert isinstance(second, Failure)
    assert second.code == code
    assert before([first, third]) == [0, 0]


async def test_a_failure_of_its_own_leaves_the_others_in_their_child(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """A refusal is an answer like any other: nobody is run again."""
    outcomes = await sandbox.run_shared(texts(tmp_path, "uno", "failure", "tres"))
    assert isinstance(outcomes[1], Failure)
    assert outcomes[1].code == "not_an_invoice"
    assert before(outcomes) == [0, 1]


async def test_a_file_that_is_gone_fails_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    """The others are not told that they were missing."""
    jobs = texts(tmp_path, "uno", "dos", "tres")
    jobs[1].source.path.unlink()
    outcomes = await sandbox.run_shared(jobs)
    assert [isinstance(one, Result) for one in outcomes] == [True, False, True]
    assert isinstance(outcomes[1], Failure)
    assert outcomes[1].code == "source_missing"


async def test_what_nobody_has_seen_goes_alone_and_what_is_cheap_together(tmp_path: Path) -> None:
    """The sandbox learns what a kind of file takes, and never puts more than the limit together."""
    sandbox = Sandbox(sys_path=[str(_HERE)])
    await sandbox.start({"follow": f"probes:{probes.Follow.__name__}"})
    try:
        assert sandbox.together("follow", "text/plain") == 1
        for _ in range(4):
            await sandbox.run_shared(texts(tmp_path, *(str(n) for n in range(SHARED_FILES_MAX))))
        assert 1 < sandbox.together("follow", "text/plain") <= SHARED_FILES_MAX
        assert sandbox.together("follow", "text/csv") == 1
        assert sandbox.together("unheard", "text/plain") == 1
    finally:
        await sandbox.close()
