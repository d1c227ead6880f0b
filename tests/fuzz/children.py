"""Run a command line in a forked child, under limits of memory and time; say what came of it."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from atomsml.cli.main import main

MEMORY = 2**30  # bytes above what this process has before it forks
CPU_SECONDS, WALL_SECONDS = 20, 90  # a machine that is busy with other things takes its time
FILE_SIZE = 256 * 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")
TRACEBACK = 99  # exit status of a child whose command ended in another exception than SystemExit


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    status: int  # exit status, or minus the signal
    out: str
    err: str
    memory: int  # bytes at the peak, above those of its parent
    seconds: float  # of CPU


def run(words: list[str], folder: Path) -> Ended:
    """`atomsml words` in `folder`. This process must have no threads: a child would inherit what they have locked.

    Raises:
        RuntimeError: there are threads.
    """
    threads = os.listdir("/proc/self/task")
    if len(threads) != 1:
        raise RuntimeError(f"cannot fork a process of {len(threads)} threads")
    streams = [folder / "stdout", folder / "stderr"]
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _child(words, folder, streams)
    # its own, at once: a child does not have the mapped files of its parent in memory until it asks for them
    status, memory, usage = _watch(pid, _resident(pid))
    out, err = (stream.read_text(errors="replace") for stream in streams)
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return Ended(code, out, err, memory, usage.ru_utime + usage.ru_stime)


def _child(words: list[str], folder: Path, streams: list[Path]) -> NoReturn:
    status = TRACEBACK
    try:
        os.chdir(folder)
        for number, stream in enumerate(streams, 1):
            os.dup2(os.open(stream, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        virtual = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
        resource.setrlimit(resource.RLIMIT_AS, (virtual + 3 * MEMORY,) * 2)  # where watching comes too late
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        torch.manual_seed(0)
        main(words)
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        status = 1 if isinstance(stop.code, str) else int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _watch(pid: int, base: int) -> tuple[int, int, resource.struct_rusage]:
    """Wait for a child, and kill it when it takes too much: (wait status, peak memory above `base`, resources)."""
    started, peak = time.monotonic(), 0
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return status, max(peak, usage.ru_maxrss * 1024 - base), usage
        peak = max(peak, _resident(pid) - base)
        if peak > MEMORY or time.monotonic() - started > WALL_SECONDS:
            os.kill(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            return status, peak, usage
        time.sleep(0.003)


def _resident(pid: int) -> int:
    """Bytes in memory; 0 of a process that has just ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0
