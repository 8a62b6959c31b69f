"""How many threads PyTorch works with."""

from __future__ import annotations

from threading import Lock

import torch


class one_thread:
    """Run small tensor work in one thread: at these sizes waking the others takes longer than the work.

    The setting is the process's: the last of several to leave restores it.
    """

    _lock, _n_inside, _saved = Lock(), 0, 1

    def __enter__(self) -> None:
        cls = type(self)
        with cls._lock:
            if not cls._n_inside:
                cls._saved = torch.get_num_threads()
                torch.set_num_threads(1)
            cls._n_inside += 1

    def __exit__(self, *error: object) -> None:
        cls = type(self)
        with cls._lock:
            cls._n_inside -= 1
            if not cls._n_inside:
                torch.set_num_threads(cls._saved)
