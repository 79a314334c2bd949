"""What folders and files call the parts of a data set (train, val and test), in every usual spelling, and which files are hidden.

It is asked by every source: image folders, lists, TFDS, Parquet, npy folders and npz files.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from mmn_jax.errors import BadInput

SPELLINGS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
PART_OF = {spelling: part for part, spellings in SPELLINGS.items() for spelling in spellings}
SYSTEM = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "icon\r"}  # what Windows, macOS and a NAS leave in folders


def part_of(name: str) -> str | None:
    """The part that a name spells, in any case; None for any other name."""
    return PART_OF.get(name.strip().casefold())


def hidden(path: Path) -> bool:
    """Whether a file or folder is passed over: its name begins with a dot (.DS_Store, ._train.parquet), or a system left it there."""
    return path.name.startswith(".") or path.name.casefold() in SYSTEM


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, but for what is hidden.

    Raises:
      BadInput: the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not hidden(path))
    except OSError as error:
        raise BadInput(f"{folder}: cannot be read ({error.strerror})") from error


def parts_in(name: str) -> list[tuple[str, str]]:
    """(part, spelling) of every word of a file's name that spells a part, such as [("val", "dev")] of mnist-dev-00000-of-00002."""
    words = [word for word in re.split(r"[^A-Za-z]+", name) if part_of(word)]
    return [(PART_OF[word.casefold()], word) for word in words]


def by_part(found: Iterable[tuple[str, str]], where: str | Path) -> dict[str, str]:
    """part → what it is called; found: (part, what it is called), which may come several times.

    Raises:
      BadInput: a part is called by two names, such as val and valid.
    """
    called: dict[str, str] = {}
    for part, name in found:
        if called.setdefault(part, name) != name:
            raise BadInput(f"{where}: {called[part]} and {name} are both there, and either could be {part}; keep one of them")
    return called


def is_data(path: Path) -> bool:
    """Whether a file or folder beside those that are read may hold data, and is named where it isn't used."""
    return path.is_dir() or path.suffix.lower() in (".npy", ".npz", ".parquet")


def unused(names: Iterable[str]) -> str:
    """A few of these names, for the line that says what lies there and isn't used."""
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
