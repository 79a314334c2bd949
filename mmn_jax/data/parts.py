"""Recognises the parts of a data set (train, val and test) in the names of folders and files, in every usual spelling, and hidden files.

Every source uses it: image folders, lists, TFDS, Parquet, npy folders and npz files.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from mmn_jax.errors import BadInput

SPELLINGS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
PART_OF = {spelling: part for part, spellings in SPELLINGS.items() for spelling in spellings}
UNLABELLED = "unlabelled"  # examples without labels, which features may have beside the parts
SYSTEM = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "icon\r"}  # left in folders by Windows, macOS or a NAS


def part_of(name: str) -> str | None:
    """Returns the part that a name spells, in upper or lower case; None for any other name."""
    return PART_OF.get(name.strip().casefold())


def part_or_pool(name: str) -> str | None:
    """Returns the part that a name spells, or UNLABELLED if it spells that, in upper or lower case; None for any other name."""
    return UNLABELLED if name.strip().casefold() in (UNLABELLED, "unlabeled") else part_of(name)


def hidden(path: Path) -> bool:
    """Returns whether a file or folder is ignored: its name begins with a dot (.DS_Store, ._train.parquet), or a system left it there."""
    return path.name.startswith(".") or path.name.casefold() in SYSTEM


def visible(folder: Path) -> list[Path]:
    """Returns the files and folders in a folder that aren't hidden, sorted.

    Raises:
      BadInput: the folder can't be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not hidden(path))
    except OSError as error:
        raise BadInput(f"{folder}: cannot be read ({error.strerror})") from error


def parts_in(name: str, part: Callable[[str], str | None] = part_of) -> list[tuple[str, str]]:
    """Returns (part, spelling) for each word of a file's name that spells a part, such as [("val", "dev")] for mnist-dev-00000-of-00002."""
    return [(found, word) for word in re.split(r"[^A-Za-z]+", name) if (found := part(word))]


def by_part(found: Iterable[tuple[str, str]], where: str | Path) -> dict[str, str]:
    """Returns the name of each part.

    Args:
      found: pairs (part, name), which may be repeated.
      where: the file or folder, for messages.

    Raises:
      BadInput: a part has two names, such as val and valid.
    """
    called: dict[str, str] = {}
    for part, name in found:
        if called.setdefault(part, name) != name:
            raise BadInput(f"{where}: {called[part]} and {name} are both there, and either could be {part}; keep one of them")
    return called


def is_data(path: Path) -> bool:
    """Returns whether a file or folder that isn't used may hold data, so that this is reported."""
    return path.is_dir() or path.suffix.lower() in (".npy", ".npz", ".parquet")


def unused(names: Iterable[str]) -> str:
    """Returns a few of these names, for the message that reports what isn't used."""
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
