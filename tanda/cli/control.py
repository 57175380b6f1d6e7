"""``tanda pause``, ``resume``, ``cancel``, ``retry``, ``archive``, ``change``, ``bulk`` and ``limits``."""

import time
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from tanda.cli import show
from tanda.cli.target import Failed, Target

AsJson = Annotated[bool, Parameter(name="--json", negative="")]
Flag = Annotated[bool, Parameter(negative="")]
Files = Annotated[list[str], Parameter(name="--file", negative="")]
HERE = Target()

#: A bulk action is looked at this often while it runs.
LOOK_EVERY_S = 0.5
#: What takes a schedule or a limit away.
NONE = "none"


def pause(batch_id: str, /, *, json: AsJson = False, target: Target = HERE) -> None:
    """Release nothing more of a batch; what runs is finished."""
    _command(batch_id, "pause", json, target)


def resume(batch_id: str, /, *, json: AsJson = False, target: Target = HERE) -> None:
    """Let a paused batch go on."""
    _command(batch_id, "resume", json, target)


def cancel(batch_id: str, /, *, json: AsJson = False, target: Target = HERE) -> None:
    """Run nothing more of a batch; finished work is kept."""
    _command(batch_id, "cancel", json, target)


def retry(
    batch_id: str, /, *, file: Files = [],  # noqa: B006 - cyclopts reads it, nobody writes it
    status: Literal["failed", "cancelled", "completed"] | None = None, processor: str | None = None,
    processor_version: str | None = None, json: AsJson = False, target: Target = HERE,
) -> None:  # fmt: skip
    """Start files of a batch again: all failed ones, those named, or those of a status.

    Args:
        file: A file by its id or name; may be given several times.
        status: All files of this status instead.
        processor: Another processor than before.
        processor_version: Only this version of the processor, which a running worker must have.
    """
    with target.client() as client:
        retried = client.retry(
            batch_id, file_ids=_file_ids(client, batch_id, file) if file else None, status=status,
            processor=processor, processor_version=processor_version,
        )  # fmt: skip
    if json:
        show.as_json({"retried": retried})
    else:
        show.console.print(
            f"{retried} {'file starts' if retried == 1 else 'files start'} again", markup=False
        )


def archive(
    batch_id: str, /, *, file: Files, reason: str, json: AsJson = False, target: Target = HERE
) -> None:
    """Archive sources without waiting for their results: an override, recorded with its reason.

    Args:
        file: A file by its id or name; may be given several times.
        reason: Why.
    """
    with target.client() as client:
        batch = client.archive(batch_id, _file_ids(client, batch_id, file), reason)
    _show(batch, json)


def change(
    batch_id: str, /, *, priority: Literal["interactive", "normal", "bulk"] | None = None,
    start_at: str | None = None, expires_at: str | None = None, limit: str | None = None,
    json: AsJson = False, target: Target = HERE,
) -> None:  # fmt: skip
    """Change how a batch is scheduled; "none" takes a time or a limit away.

    Args:
        priority: Its class among the waiting batches.
        start_at: Nothing of it runs before; RFC 3339, or none.
        expires_at: What is still queued then is cancelled; RFC 3339, or none.
        limit: Files of it at once, or none.
    """
    given = {"priority": priority, "start_at": start_at, "expires_at": expires_at, "limit": limit}
    fields: dict[str, Any] = {
        name: None if value == NONE else value for name, value in given.items() if value is not None
    }
    if fields.get("limit") is not None:
        fields["limit"] = _number("limit", fields["limit"])
    with target.client() as client:
        _show(client.change(batch_id, **fields), json)


def bulk(
    action: Literal["pause", "resume", "cancel", "retry"], /, *, status: str | None = None,
    tag: str | None = None, q: str | None = None, created_after: str | None = None, dry_run: Flag = False,
    json: AsJson = False, target: Target = HERE,
) -> int:  # fmt: skip
    """Pause, resume, cancel or retry every batch that a filter names, and wait for the end.

    Args:
        status: Batches of this status; active are those not finished.
        tag: Batches with this tag.
        q: Batches with this in their name.
        created_after: RFC 3339.
        dry_run: Count them and do nothing.
    """
    wanted = {"status": status, "tag": tag, "q": q, "created_after": created_after}
    with target.client() as client:
        found = client.bulk(action, dry_run=dry_run, **wanted)
        while found["status"] == "running":
            time.sleep(LOOK_EVERY_S)
            found = client.bulk_action(found["id"])
    if json:
        show.as_json(found)
    elif dry_run:
        show.console.print(f"{found['matched']} batches match; nothing was done", markup=False)
    else:
        counts = f"{found['done']} done, {found['skipped']} skipped, {found['failed']} failed"
        show.console.print(f"{action}: {found['status']}, {counts} of {found['matched']}", markup=False)
        for error in found["errors"]:
            show.console.print(f"  {error['batch_id']}: {error['detail']}", markup=False)
    return 1 if found["failed"] else 0


def limits(
    action: Literal["show", "set"] = "show", /, *setting: str, json: AsJson = False, target: Target = HERE
) -> None:
    """Show every limit and what of it is used, or set limits while everything runs.

    Args:
        action: show or set.
        setting: provider.NAME=N, processor.NAME=N or tenant.NAME=N; none for N brings the default back.
    """
    if (action == "set") != bool(setting):
        raise Failed("It is `tanda limits` or `tanda limits set provider.NAME=N`.")
    kinds: dict[str, dict[str, int | None]] = {}
    for one in setting:
        kind, name, value = _setting(one)
        kinds.setdefault(kind, {})[name] = value
    with target.client() as client:
        _show_limits(client.set_limits(**kinds) if kinds else client.limits(), json)


def _setting(text: str) -> tuple[str, str, int | None]:
    place, equals, value = text.partition("=")
    kind, dot, name = place.partition(".")
    kinds = {"provider": "providers", "processor": "processors", "tenant": "tenants"}
    if not (equals and dot and name) or kind not in kinds:
        raise Failed(f"{text!r} is no limit; it is provider.NAME=N, processor.NAME=N or tenant.NAME=N.")
    return kinds[kind], name, None if value == NONE else _number(text, value)


def _number(what: str, text: str) -> int:
    if not text.isdecimal():
        raise Failed(f"{what}: {text!r} is neither a number nor none.")
    return int(text)


def _show_limits(limits: dict[str, Any], json: bool) -> None:
    if json:
        show.as_json(limits)
        return
    lines = [
        _limit_line(kind[:-1], one) for kind in ("providers", "processors", "tenants") for one in limits[kind]
    ]
    for line in lines or ["no limits are set, and no outside provider is configured"]:
        show.console.print(line, markup=False)


def _limit_line(kind: str, one: dict[str, Any]) -> str:
    line = f"{kind}.{one['name']}={one['limit']}  {one['in_flight']} in flight"
    if brake := one.get("brake"):
        until = f" until {brake['until']}" if brake["until"] else ""
        line += f", braked to {one['allowed_now']}{until} ({brake['code']})"
    return line


def _file_ids(client: Any, batch_id: str, names: list[str]) -> list[str]:
    """Files as a person names them: by id, or by name where that is one file's."""
    known = list(client.files(batch_id))
    found: list[str] = []
    for name in names:
        matching = [file["id"] for file in known if name in (file["id"], file["name"])]
        if len(matching) != 1:
            raise Failed(
                f"{name}: {'no file' if not matching else 'more than one file'} of this batch has it."
            )
        found += matching
    return found


def _command(batch_id: str, verb: str, json: bool, target: Target) -> None:
    with target.client() as client:
        _show(client.command(batch_id, verb), json)


def _show(batch: dict[str, Any], json: bool) -> None:
    if json:
        show.as_json(batch)
    else:
        show.summary(batch)
