"""Who asks for a shared resource when: what an environment may watch (``causes``)."""

from __future__ import annotations

from typing import Protocol

import simpy


class Watch(Protocol):
    """Hears of shared resources, in the order in which things happen."""

    def asked(self, server: object, busy: bool) -> None:
        """A first-in, first-out server is asked for."""

    def freed(self, server: object) -> None:
        """A server is given back."""

    def turned(self, sets: object) -> None:
        """A set of resistors is asked for or given back: which one is had depends on the order of
        both.
        """


class WatchedEnvironment(simpy.Environment):
    """An environment whose shared resources tell ``watch``."""

    watch: Watch


def watch_of(env: simpy.Environment) -> Watch | None:
    """Who is told of the resources of an environment; nobody, unless it is a watched one."""
    return env.watch if isinstance(env, WatchedEnvironment) else None
