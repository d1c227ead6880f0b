"""Programs that are measured in processes of their own, and asked for one thing at a time.

The peers want other versions of packages than atomsml does, so they live in an environment of their own (`make peers`)
and answer over pipes: a line of JSON for each word. Programs that take turns like this see the same slow minutes of a
machine, and threads, memory and compiled kernels of one are not those of another. They are started as every script here
is, `python -m benchmarks...` in the root of the repository, so that both sides import the same files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PEERS, NEQUIP = (ROOT / f".venv-{name}" / "bin" / "python" for name in ("peers", "nequip"))
MARK = "answer "  # tells answers from what a program prints of its own accord
# what a user may have set to make up for a slow program is not measured
TUNING = ("OMP_WAIT_POLICY", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")


class Program:
    """A command in another process, which answers the words it is asked; see `answer_words`.

    Raises:
        OSError: the program ended instead of answering; the last line of its errors is in the message.
    """

    def __init__(self, command: Sequence[str | Path], threads: int, **environment: str) -> None:
        self.command = command
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the program)
        kept = {name: value for name, value in os.environ.items() if name not in TUNING}
        # mace-torch unpickles constants of e3nn
        kept |= {"OMP_NUM_THREADS": str(threads), "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", **environment}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=kept,
        )

    def ask(self, word: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended; what follows says why
            print(word, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        self.errors.seek(0)
        lines = self.errors.read().split("\n")
        reason = next((x for x in reversed(lines) if x), f"exit status {self.process.wait()}")
        raise OSError(f"{' '.join(map(str, self.command[:2]))} ended: {reason}")

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def answer_words(answers: Mapping[str, Callable[[], Any]]) -> None:
    """Be such a program: call the function of each word that comes in, until no more come."""
    for line in sys.stdin:
        print(MARK + json.dumps(answers[line.strip()]()), flush=True)


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def sustained(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Mean time of calls one after the other, as in a run, for half a second or one call.

    Wall time; with `time.process_time` that of the processor, for machines which have other work to do.
    """
    start, calls = clock(), 0
    while calls == 0 or clock() - start < 0.5:
        run()
        calls += 1
    return (clock() - start) / calls


def take_turns(steps: Sequence[Callable[[], float]], repeats: int, warm_up: int = 4) -> list[list[float]]:
    """What each of the steps returns, one after the other, so many times.

    The first rounds are left out: in its third, TorchScript still compiles.
    """

    def rested(step: Callable[[], float]) -> float:
        time.sleep(0.05)  # by then, threads of the program before have stopped looking for work
        return step()

    rounds = [[rested(step) for step in steps] for _ in range(warm_up + repeats)]
    return [list(values) for values in zip(*rounds[warm_up:], strict=True)]


def peer_python() -> Path:
    """The interpreter that has mace-torch; `make peers` installs it where it is missing."""
    if not PEERS.exists():
        subprocess.run(["make", "peers"], cwd=ROOT, check=True)
    return PEERS


def versions(python: Path, names: tuple[str, ...]) -> str:
    """The versions of packages in the environment of an interpreter."""
    code = "import sys, importlib.metadata as m; print(*(f'{x} {m.version(x)}' for x in sys.argv[1:]), sep=', ')"
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def has_package(python: Path, name: str) -> bool:
    code = "import sys, importlib.util as u; sys.exit(u.find_spec(sys.argv[1]) is None)"
    return subprocess.run([python, "-c", code, name]).returncode == 0


@contextmanager
def busy_core() -> Iterator[None]:
    """The last core has other work to do, which never ends by itself."""
    core = max(os.sched_getaffinity(0))
    code = f"import os\nos.sched_setaffinity(0, [{core}])\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()
