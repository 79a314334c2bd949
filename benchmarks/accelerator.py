"""Measures this library on this machine's accelerator, in one command:

python benchmarks/accelerator.py --out=DIR [--minutes=8] [--parts=machine,bank] [--page=docs/speed.md]

The parts (`PARTS`) run in order of importance, each in its own process with a time limit; parts that --minutes leaves no time for are
skipped with a message. DIR/accelerator.json gets every row as soon as it is known, and the same command continues after the last finished
part. Without an accelerator the parts run at small sizes. --page writes the table between the page's markers.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from pages import fill

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the checkout runs without being installed

from mmn_jax.store.files import whole  # noqa: E402  # importable because of the line above


class Part(NamedTuple):
    """One part of the measurements.

    name: of its function in accelerator_parts.py. limit: seconds that it may take. title: of its table.
    environment: extra environment variables of its process.
    """

    name: str
    limit: float
    title: str
    environment: tuple[tuple[str, str], ...] = ()


PARTS = (
    Part("machine", 90, "The device and its ceilings"),
    Part("agreement", 120, "Agreement with the CPU of the same machine, tolerances 1e-6 for heads and 1e-4 for banks and members"),
    Part("main_job", 300, "The README's first command"),
    Part("bank", 150, "Banks of k-shot heads, against scikit-learn on two cores"),
    Part("predictions", 60, "Predictions from features on the device, in float32, against float64"),
    Part("paper_scale", 330, "`configs/sun397_shape.py`, the paper's S and blocks as wide as the features"),
    Part("large", 400, "Large shapes", (("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95"),)),
)
LEAST = 15.0  # a part starts only if this many seconds are left

Record = dict[str, dict[str, Any]]  # part → its rows, the seconds that it took, and its state ("done" or why not)


def read(path: Path) -> Record:
    """Reads what was measured before, {} if there is no file."""
    return json.loads(path.read_text()) if path.is_file() else {}


def write(path: Path, record: Record) -> None:
    """Writes the record atomically."""
    with whole(path) as part:
        part.write_text(json.dumps(record, indent=1, ensure_ascii=False))


def on_accelerator(record: Record) -> bool:
    """Returns whether the measured machine has an accelerator."""
    return any(row.get("platform", "cpu") != "cpu" for row in record.get("machine", {}).get("rows", []))


def run(part: Part, path: Path, record: Record, seconds: float) -> None:
    """Measures a part and saves each of its rows at once.

    Args:
      part: what to measure.
      path: of accelerator.json.
      record: what is known so far; gains the part.
      seconds: left for it.
    """
    small = [] if part.name == "machine" or on_accelerator(record) else ["--small"]
    command = [sys.executable, str(ROOT / "benchmarks" / "accelerator_parts.py"), part.name, *small]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])} | dict(part.environment)
    limit, began, late = min(part.limit, seconds), time.monotonic(), threading.Event()
    rows: list[dict[str, Any]] = []
    record[part.name] = found = {"state": "interrupted", "seconds": 0.0, "rows": rows}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True) as process:

        def stop():
            late.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(limit, stop)
        timer.start()
        try:
            for line in process.stdout or ():
                rows.append(json.loads(line))
                found["seconds"] = round(time.monotonic() - began, 1)
                write(path, record)
                print(f"  {shown(rows[-1])}", flush=True)
        except BaseException:  # when interrupted, also end what the part started
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
    ended = f"stopped after {limit:.0f} s" if late.is_set() else f"failed with exit code {process.returncode}"
    found |= {"state": "done" if process.returncode == 0 else ended, "seconds": round(time.monotonic() - began, 1)}
    write(path, record)


def shown(row: dict[str, Any]) -> str:
    """Formats one row as a line."""
    return ", ".join(f"{key} {cell(value)}" for key, value in row.items())


def cell(value: Any) -> str:
    """Formats a value for the table, floats with three significant digits."""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)


def table(rows: list[dict[str, Any]]) -> str:
    """Formats rows as a Markdown table with a column for every key that any of them has."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([cell(row.get(name)) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_markdown(record: Record) -> str:
    """Formats the section of the page: the device's name and a table for each part."""
    if not record.get("machine", {}).get("rows"):
        return "not measured"
    facts, *ceilings = record["machine"]["rows"]
    head = f"{facts['device']}, {facts['cores']} CPU cores, JAX {facts['jax']}, Python {facts['python']}"
    parts = [head, table(ceilings)]
    for part in PARTS[1:]:
        found = record.get(part.name)
        if found is not None:
            note = "" if found["state"] == "done" else f" ({found['state']})"
            parts += [f"{part.title}{note}, {found['seconds']:.0f} s:", *([table(found["rows"])] if found["rows"] else [])]
    return "\n\n".join(parts)


def check_device(record: Record, out: Path) -> None:
    """Ends the process if the record was begun on another device."""
    known = record["machine"]["rows"][0]["device"]
    asked = subprocess.run([sys.executable, "-c", "import jax; print(jax.devices()[0].device_kind)"], capture_output=True, text=True)
    here = (asked.stdout.splitlines() or ["none that JAX finds"])[-1]
    if here != known:
        raise SystemExit(f"--out={out}: accelerator.json was measured on {known}, this machine has {here}; give another folder")


def measure(out: Path, names: list[str], minutes: float) -> Record:
    """Measures every part of these names that isn't done yet, as long as the minutes last."""
    path = out / "accelerator.json"
    record, end = read(path), time.monotonic() + 60 * minutes
    if minutes > 0 and record.get("machine", {}).get("rows"):
        check_device(record, out)
    for part in PARTS:
        left = end - time.monotonic()
        if record.get(part.name, {}).get("state") == "done":
            print(f"{part.name}: done before", flush=True)
        elif part.name in names and left < LEAST:
            print(f"{part.name}: skipped, the minutes are over", flush=True)
        elif part.name in names:
            print(f"{part.name}:", flush=True)
            run(part, path, record, left)
            print(f"{part.name}: {record[part.name]['state']}, {record[part.name]['seconds']:.0f} s", flush=True)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for accelerator.json")
    parser.add_argument("--minutes", type=float, default=8.0, help="time limit for all parts together")
    parser.add_argument("--parts", default=",".join(part.name for part in PARTS), help="parts to measure; machine comes first")
    parser.add_argument("--page", default="", help="page whose section <!-- accelerator --> .. <!-- end --> gets the table")
    arguments = parser.parse_args()
    unknown = set(arguments.parts.split(",")) - {part.name for part in PARTS}
    if unknown:
        parser.error(f"--parts: no part {', '.join(sorted(unknown))}; there are {', '.join(part.name for part in PARTS)}")
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    record = measure(out, arguments.parts.split(","), arguments.minutes)
    text = as_markdown(record)
    print(f"\n{text}")
    if arguments.page:
        page = Path(arguments.page)
        page.write_text(fill(page.read_text(), "accelerator", text))


if __name__ == "__main__":
    main()
