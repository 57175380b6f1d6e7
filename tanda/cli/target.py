"""Which gateway, and which servers, a command talks to."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tanda.client import Client
from tanda.settings import Settings, from_environment

DATA_DEFAULT = ".tanda"


class Failed(Exception):
    """A command failed; the message is the line that says why."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the running Tanda is."""

    url: Annotated[str | None, Parameter(env_var="TANDA_URL")] = None
    "The gateway's address; without it that of the stack in --data."
    key: Annotated[str | None, Parameter(env_var="TANDA_API_KEY")] = None
    "An API key."
    data: Annotated[Path, Parameter(env_var="TANDA_DATA")] = Path(DATA_DEFAULT)
    "The folder of an embedded stack."

    def client(self) -> Client:
        """A client for the gateway; Failed where none is known to run."""
        url = self.url or self.run_facts()["url"]
        return Client(url, key=self.key, memory=self.data / "uploads")

    def run_facts(self) -> dict[str, Any]:
        """What ``tanda up`` wrote of itself; Failed where it does not run."""
        path = self.data / "run.json"
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            raise Failed(f"nothing runs in {self.data}: start it with `tanda up`, or give --url") from None
        except PermissionError:
            raise Failed(f"{path} belongs to another user") from None

    def environment(self) -> dict[str, str]:
        """The servers' addresses as the services take them: of the stack in --data, or of the environment."""
        if "TANDA_NATS_URL" in os.environ:
            return {name: value for name, value in os.environ.items() if name.startswith("TANDA_")}
        facts = self.run_facts()
        store = facts["s3"]
        bound = {"TANDA_EVENTS_BYTES_MAX": limit} if (limit := facts["events_bytes_max"]) else {}
        return {
            **bound,
            "TANDA_NATS_URL": facts["nats_url"],
            "TANDA_POSTGRES_DSN": facts["postgres_dsn"],
            "TANDA_S3_ENDPOINT": store["endpoint"].removeprefix("http://"),
            "TANDA_S3_ACCESS_KEY": store["access_key"],
            "TANDA_S3_SECRET_KEY": store["secret_key"],
            "TANDA_S3_BUCKET": store["bucket"],
            "TANDA_DATA": str(self.data),
        }

    def settings(self) -> Settings:
        """Settings to reach the servers themselves."""
        return from_environment(self.environment())
