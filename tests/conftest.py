"""What all tests share: programs compiled fast rather than well, and what every file costs."""

import gc
import os
from collections import defaultdict
from pathlib import Path

import jax
import pytest
import xla

os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *xla.FLAGS]).strip()

if not hasattr(jax, "enable_x64"):  # before JAX 0.8
    from jax.experimental import enable_x64

    jax.enable_x64 = enable_x64

CPU = "cpu seconds"
# Of the whole suite, the largest share of a file that is none too long where all of it is slow: the
# same test takes up to twice as many seconds of a processor that others use as well.
SHARE = 20
# A compiled program holds some mappings of memory, and Linux lets a process have 65,530.
MAPPINGS = 30_000
# Folders whose tests try out whole programs.
PROGRAMS = ("benchmarks", "experiments")
# Of the tables of strategies, the rows that compile longest: models, and restarts.
COSTLY = {"gaussian_process", "tpe", "pb2", "ipop_cma_es", "bipop_cma_es"}


def pytest_addoption(parser):
    parser.addoption(
        "--cpu-limit",
        type=float,
        metavar="SECONDS",
        help=f"fail if a file takes more CPU seconds, and more than 1 / {SHARE} of all of them",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name in PROGRAMS or (
            item.path.parent.name == "strategies" and COSTLY & _rows(item)
        ):
            item.add_marker("slow")


def _rows(item) -> set[str]:
    """Names that the identifier of a parametrised test is made of."""
    return set(item.callspec.id.split("-")) if hasattr(item, "callspec") else set()


def _cpu() -> float:
    """CPU seconds of this process, its threads, and the processes that it waited for."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    item.stash[_START] = _cpu()
    xla.optimise(well=item.get_closest_marker("optimised") is not None)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    now = _cpu()
    # The properties travel from the workers of pytest-xdist to the process that sums them up.
    report.user_properties = [(CPU, now - item.stash.get(_START, now))]
    item.stash[_START] = now
    return report


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Let go of the compiled programs before a process has too many, which would end it.

    What is left after a file is mostly JAX's caches, millions of objects: each full collection of
    garbage would walk them all again, a tenth of all the time.
    """
    if nextitem is None or nextitem.path == item.path:
        return
    if _mappings() > MAPPINGS:
        gc.unfreeze()
        jax.clear_caches()
    gc.collect()
    gc.freeze()


def _mappings() -> int:
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:  # not on Linux
        return 0


_START = pytest.StashKey[float]()


def _seconds(terminalreporter) -> dict[str, float]:
    """CPU seconds by file."""
    total: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == CPU:
                    total[report.nodeid.split("::")[0]] += value
    return total


def pytest_terminal_summary(terminalreporter, config):
    total = _seconds(terminalreporter)
    if len(total) < 2:
        return
    terminalreporter.section(f"CPU seconds by file, {sum(total.values()):.0f} in all")
    for name, seconds in sorted(total.items(), key=lambda pair: -pair[1])[:15]:
        terminalreporter.line(f"{seconds:7.1f}  {name}")
    limit = config.getoption("--cpu-limit")
    if above := _above(limit, total):
        terminalreporter.line(f"above {limit:g} CPU seconds: {', '.join(above)}", red=True)


def _above(limit: float | None, total: dict[str, float]) -> list[str]:
    """The files that take too long."""
    longest = max(limit, sum(total.values()) / SHARE) if limit else float("inf")
    return [name for name, seconds in total.items() if seconds > longest]


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    limit = session.config.getoption("--cpu-limit")
    if reporter and _above(limit, _seconds(reporter)):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
