"""A sandbox server whose jobs sleep for as long as they say; with ``SLEEPING_ALONE`` set it has no namespaces."""

from __future__ import annotations

import os
import time
from unittest import mock

from drt.backend import fork_server, jail
from drt.backend.sandbox import Frame


def handle(request: Frame, channel: fork_server.Channel) -> None:
    """Say so, and sleep."""
    channel.send("sleeping")
    time.sleep(request.header["s"])


def _none(self: jail.Namespaces) -> None:
    raise OSError(1, "none")


def main() -> None:
    """The server's program."""
    if os.environ.get("SLEEPING_ALONE"):
        mock.patch.object(jail.Namespaces, "__init__", _none).start()
    fork_server.serve(handle)
