"""Checkpoints of a training, by Orbax's CheckpointManager: the last one of a folder, written whole or not at all.

The manager keeps one checkpoint and removes what an interrupted save left. Added here are checksums, since Orbax restores a flipped
bit of an array or of its metadata without an error, and folders of any name. Every process of a run makes the same calls.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from mmn_jax.devices import agreed, first_process
from mmn_jax.store.artifacts import arrays_sha256, disk_errors, quiet
from mmn_jax.store.files import plainly_named
from mmn_jax.store.terminal import warn

OPTIONS = ocp.CheckpointManagerOptions(
    preservation_policy=ocp.checkpoint_managers.LatestN(1),
    cleanup_tmp_directories=True,
    enable_async_checkpointing=False,
    lightweight_initialize=True,  # else damaged metadata of a checkpoint would keep the folder from being opened
)
CHECKSUM = "arrays_sha256"


class Checkpoints:
    """The checkpoints in `folder`, a tree of arrays for each step at which one was saved."""

    def __init__(self, folder: Path, manager: ocp.CheckpointManager) -> None:
        self._folder, self._manager = folder, manager

    def latest(self, like: Any) -> Any | None:
        """Returns the tree of the last intact checkpoint as numpy arrays, or None; damaged ones are deleted, with a warning.

        Args:
          like: a tree of the same structure, with arrays of the same shapes and dtypes.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            found = self._read(step, like)
            if agreed(found is not None):
                return self._read(step, like) if found is None else found
            if first_process():
                warn(f"{self._folder / str(step)}: damaged checkpoint, not used; training resumes from an earlier one or from the start")
            with quiet():
                self._manager.delete(step)
        return None

    def _read(self, step, like):
        target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        try:
            with quiet():
                tree = self._manager.restore(step, args=ocp.args.StandardRestore(target))
                checksum = self._manager.metadata(step).custom_metadata[CHECKSUM]
        except (MemoryError, jax.errors.JaxRuntimeError):  # the latter where another process is gone while all read together
            raise
        except Exception:  # a flipped bit shows in as many ways as there are readers below
            return None
        return tree if checksum == arrays_sha256(tree) else None

    def save(self, step: int, tree: Any) -> None:
        """Saves the tree and deletes the checkpoint before it; done when it returns.

        Raises:
          OSError: the disk is full, or cannot be written to.
        """
        arrays = jax.device_get(tree)
        with disk_errors(self._folder), quiet():
            self._manager.save(step, args=ocp.args.StandardSave(arrays), custom_metadata={CHECKSUM: arrays_sha256(arrays)})


@contextlib.contextmanager
def open_checkpoints(folder: Path) -> Iterator[Checkpoints]:
    """Opens the checkpoints in a folder, which is made where it is missing and which its owner removes when the training is done.

    Raises:
      OSError: the folder cannot be made.
    """
    with contextlib.ExitStack() as stack:
        with disk_errors(folder), quiet():
            plain = stack.enter_context(plainly_named(folder))
            manager = stack.enter_context(ocp.CheckpointManager(plain, options=OPTIONS))
        yield Checkpoints(folder, manager)
