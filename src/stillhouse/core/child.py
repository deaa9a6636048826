"""Steps in a process of their own: `python -m stillhouse.core.child SPEC`.

The parent writes a spec file (the step with its inputs by key, folders, options), reads events from the child's stdout,
one JSON line each, and holds its stdin open: when the parent dies, the child sees the end of it and leaves at once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import IO, Any

from . import errors
from .context import Context
from .errors import Interrupted, StillhouseError, TrainError
from .events import Bus, Event
from .options import Options
from .step import Step
from .store import disk_trouble, read_record, write_json
from .travel import packed, unpacked

CHILD_ERRORS = ("RecipeError", "StoreError", "BudgetError", "TrainError", "Interrupted")
NO_MEMORY = ("memory allocation of", "allocate memory", "bad_alloc", "MemoryError")
"""What native libraries and Python leave on stderr when memory is refused to them."""


def run_in_child(
    context: Context, work: Path, inputs: dict[str, tuple[str, str | None]], bus: Bus, lock: int = -1
) -> dict[str, Any]:
    """Run the context's step in a child process; returns its facts, raises what the child raised.

    The child holds `lock`, the open file of the parent's lock, too: where the parent is killed and the child needs a
    moment to notice, nobody begins the step anew before it is gone.
    """
    spec = work / "spec.json"
    fields = {
        "step": packed(context.step, context.book),
        "recipe_key": context.book.recipe(context.step),
        "build_key": context.build_key,
        "inputs": inputs,
        "options": context.options.model_dump(),
        "path": [entry for entry in sys.path if entry],
    }
    write_json(spec, fields)
    command = [sys.executable, "-m", "stillhouse.core.child", str(spec)]
    environment = {**os.environ, **_thread_limits(context.options)}
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
        pass_fds=() if lock < 0 else (lock,),
    )
    try:
        return _listen(child, context, bus)
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                stream.close()


def _thread_limits(options: Options) -> dict[str, str]:
    """Numerical libraries read their width when they load, so it must be set before the child starts."""
    if options.threads is None:
        return {}
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(options.threads))


def _listen(child: subprocess.Popen[bytes], context: Context, bus: Bus) -> dict[str, Any]:
    assert child.stdout is not None
    assert child.stderr is not None
    tail: deque[str] = deque(maxlen=40)
    reader = threading.Thread(target=_keep_tail, args=(child.stderr, tail), daemon=True)
    reader.start()
    stopper = threading.Thread(target=_pass_on_stop, args=(child, context), daemon=True)
    stopper.start()
    outcome: dict[str, Any] | None = None
    for line in child.stdout:
        message = json.loads(line)
        if message["kind"] in ("child.done", "child.error"):
            outcome = message
        else:
            bus.send(Event(message["kind"], message["data"], message["time"]))
    code = child.wait()
    reader.join(timeout=5)
    if outcome is not None and outcome["kind"] == "child.done":
        facts: dict[str, Any] = outcome["facts"]
        return facts
    if outcome is not None:
        kind = getattr(errors, outcome["type"])
        raise kind(outcome["message"], outcome["hint"])
    context.check_stop()
    raise _lost(context.step, code, tail)


def _lost(step: Step[Any], code: int, tail: deque[str]) -> TrainError:
    name = type(step).__name__
    smaller = (
        "Give the session a smaller `micro_batch`, the step a shorter `seq_len` or a smaller model, and run again: "
        "it goes on from the last checkpoint."
    )
    if code == -signal.SIGKILL:
        said = f"`{name}` was killed from outside (signal 9): most likely the machine ran out of memory"
        return TrainError(said, smaller)
    if any(words in line for line in tail for words in NO_MEMORY):
        return TrainError(f"memory ran out in the process of `{name}`:\n" + "\n".join(tail), smaller)
    return TrainError(
        f"the process of `{name}` ended with code {code}:\n" + "\n".join(tail), "Run again: it goes on where it stood."
    )


def _keep_tail(stream: IO[bytes], tail: deque[str]) -> None:
    for line in stream:
        tail.append(line.decode(errors="replace").rstrip())


def _pass_on_stop(child: subprocess.Popen[bytes], context: Context) -> None:
    while child.poll() is None:
        if context.stopping:
            child.terminate()
            return
        threading.Event().wait(0.1)


def main(spec_path: str) -> int:
    """The child's side: run the step of a spec file."""
    spec = json.loads(Path(spec_path).read_bytes())
    sys.path[:] = [*spec["path"], *(entry for entry in sys.path if entry not in spec["path"])]
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to stderr: stdout carries events
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    bus = Bus()
    bus.subscribe(lambda event: _say(out, kind=event.kind, data=event.data, time=event.time))
    work = Path(spec_path).parent
    try:
        _say(out, kind="child.done", facts=_run(spec, work, bus, stop))
    except StillhouseError as error:
        return _say_error(out, error)
    except MemoryError:
        hint = "Give the session a smaller `micro_batch`, or the step a shorter `seq_len`, and run again."
        return _say_error(out, TrainError("memory ran out", hint))
    except Exception as error:
        trouble = disk_trouble(error, work)
        if trouble is None:
            raise
        return _say_error(out, trouble)
    return 0


def _run(spec: dict[str, Any], work: Path, bus: Bus, stop: threading.Event) -> dict[str, Any]:
    from .artifact import KINDS

    step, book = unpacked(spec["step"])
    inputs = {}
    for key, (folder, output) in spec["inputs"].items():
        record = read_record(Path(folder))
        if record is None:
            raise errors.StoreError(f"the input in `{folder}` cannot be read")
        inputs[key] = KINDS["Rows" if output else record["kind"]](Path(folder), record, output)
    if book.recipe(step) != spec["recipe_key"]:
        raise errors.RecipeError(
            f"the code or the files that `{type(step).__name__}` is made from were changed while the run was going on",
            "Run the same command again.",
        )
    context = Context(
        step=step,
        build_key=spec["build_key"],
        work=work,
        inputs=inputs,
        options=Options(**spec["options"]),
        bus=bus,
        stop=stop,
        book=book,
    )
    if context.stopping:
        raise Interrupted("stopped before it began")
    step.run(context)
    return context.facts


def _say_error(out: IO[str], error: StillhouseError) -> int:
    known = type(error).__name__ if type(error).__name__ in CHILD_ERRORS else "TrainError"
    _say(out, kind="child.error", type=known, message=error.message, hint=error.hint)
    return 1


def _say(out: IO[str], **message: Any) -> None:
    out.write(json.dumps(message, default=str) + "\n")


def _leave_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
