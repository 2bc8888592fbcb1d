"""Functions for other processes, some of which end them."""

import os
import threading


def square(h):
    return h["x"] ** 2


def deadly(h):
    if h["x"] < -0.5:
        os._exit(1)
    return square(h)


class LockedError(Exception):
    """One that cannot be sent between processes."""

    def __init__(self):
        super().__init__("locked")
        self.lock = threading.Lock()


def locked(h):
    if h["x"] < -0.5:
        raise LockedError
    return square(h)
