"""Other libraries' programs, each in a process of the peers' own environment.

``benchmarks/peers/install.py`` makes that environment; without it nothing here is measured.
"""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np

from benchmarks.peers import install

PATIENCE = 300.0  # seconds until an answer


class Peer:
    """A process that answers as ``benchmarks/peers/serve.py`` says.

    Attributes:
        name: for the rows.
        first_seconds: of its first run, compilation included.
        failed: whether it stopped answering.
    """

    def __init__(self, name: str, script: str, case: str, arrays: Path, errors: TextIO) -> None:
        path = Path(install.__file__).parent / f"{script}.py"
        self.name, self.failed, self._errors = name, False, errors
        self._process = subprocess.Popen(
            [str(install.python(script)), str(path), case, str(arrays)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        hello = self._answer()
        self.first_seconds = hello["first_seconds"]
        if hello["device"] != jax.default_backend():
            self.close()
            raise RuntimeError(f"it runs on {hello['device']}, not on {jax.default_backend()}")

    def seconds(self) -> float:
        """Seconds of one more run, by the peer's own clock; NaN once it has failed."""
        if self.failed:
            return float("nan")
        try:
            return self._ask("run")["seconds"]
        except (RuntimeError, OSError) as error:
            print(f"{self.name} failed: {error}", file=sys.stderr, flush=True)
            self.failed = True
            return float("nan")

    def result(self) -> tuple[dict[str, np.ndarray], float]:
        """The gradients, and by how many bytes the process grew for them."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "result.npz"
            answer = self._ask(f"result {path}")
            return dict(np.load(path)), answer["peak_bytes"]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _ask(self, order: str) -> dict[str, Any]:
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        guard = threading.Timer(PATIENCE, self._process.kill)
        guard.start()
        line = self._process.stdout.readline()
        guard.cancel()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        said = [text for text in self._errors.read().splitlines() if text.strip()]
        self.close()
        raise RuntimeError(said[-1][:200] if said else f"no answer in {PATIENCE:.0f} s")


@contextmanager
def started(
    cases: Sequence[tuple[str, str, str]], arrays: dict[str, np.ndarray]
) -> Iterator[list[Peer]]:
    """Processes for ``(name, script, case)``, those that fail left out with one line each."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        np.savez(folder / "arrays.npz", **arrays)
        peers = []
        for name, script, case in cases:
            if not install.python(script).exists():
                continue
            errors = stack.enter_context(open(folder / f"{case}.txt", "w+"))
            try:
                peer = Peer(name, script, case, folder / "arrays.npz", errors)
            except RuntimeError as error:
                print(f"{name} is left out: {error}", file=sys.stderr, flush=True)
                continue
            stack.callback(peer.close)
            peers.append(peer)
        yield peers


def hint() -> str | None:
    """What to do where the environment is missing."""
    if install.python().exists():
        return None
    return f"no peers in {install.folder()}: python benchmarks/peers/install.py sets them up"


def single(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Floats in f32."""
    return {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in arrays.items()}
