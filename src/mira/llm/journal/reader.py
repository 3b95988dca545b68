"""Reading a journal folder: an index of its files, and the replies by key."""

import os
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import orjson

from mira.llm.journal.frames import KEY_BYTES, Damage, Group, read_group, scan
from mira.llm.journal.index import Index
from mira.llm.journal.segments import SUFFIX, unsealed
from mira.llm.responses.finish import Ending, ending
from mira.llm.responses.reply import Reply
from mira.run_folder.stored import StoredPath
from mira.run_folder.working_copy import fetch, refresh

__all__ = ["OFFSET_BITS", "SUFFIX", "JournalReader"]

OFFSET_BITS = 40  # a terabyte per file, and 16 million files
_CACHED_FRAMES = 64


class JournalReader:
    """Replies of a journal folder by request key, read only: another process may be writing there.

    Opening indexes all files: 16 bytes per reply in memory and nothing decompressed, so 50 million replies take 0.8 GB.
    The journal of a run at a URL is what is sealed there and what processes of this machine have not sealed yet.

    Args:
        folder: The journal folder; it may be missing.
        segmented: Whether it is written in segments; by default, if it is at a URL.

    Attributes:
        damaged: Damaged stretches; the replies in them are requested again.
    """

    def __init__(self, folder: Path, *, segmented: bool | None = None) -> None:
        self.folder = folder
        self.damaged = 0
        self._guard = threading.Lock()
        self._files: list[Path] = []
        self._ends: list[int] = []  # where the last whole group of each file ends
        self._index = Index()
        self._frames: OrderedDict[tuple[int, int], dict[bytes, bytes]] = OrderedDict()
        self._segmented = isinstance(folder, StoredPath) if segmented is None else segmented
        self._read_all(self._paths())

    def _paths(self) -> list[Path]:
        """Return all files. What is not sealed is listed first: what is sealed meanwhile is then listed twice."""
        here = unsealed(self.folder) if self._segmented else []
        refresh(self.folder)
        sealed = sorted(self.folder.glob(f"*{SUFFIX}"))
        fetch(sealed)
        known = {path.name for path in sealed}
        return [*sealed, *(path for path in here if path.name not in known)]

    def _read_all(self, paths: Collection[Path]) -> None:
        """Index files that are not indexed yet."""
        keys, locations = [], []
        for path in paths:
            try:
                found = self._read_file(path)
            except FileNotFoundError:  # sealed since it was listed
                if not self._segmented:
                    raise
                refresh(self.folder)
                found = self._read_file(self.folder / path.name)
            keys.append(found[0])
            locations.append(found[1])
        if keys:
            self._index.extend(b"".join(keys), np.concatenate(locations))

    def _read_file(self, path: Path) -> tuple[bytes, npt.NDArray[np.uint64]]:
        number = len(self._files)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            parts = list(scan(file, size))
        groups = [part for part in parts if isinstance(part, Group)]
        counts = [len(group.keys) // KEY_BYTES for group in groups]
        offsets = np.array([number << OFFSET_BITS | group.offset for group in groups], np.uint64)
        torn = [part.start for part in parts[-1:] if isinstance(part, Damage)]
        self.damaged += len(parts) - len(groups) - len(torn)
        self._files.append(path)
        self._ends.append(torn[0] if torn else size)
        return b"".join(group.keys for group in groups), np.repeat(offsets, counts)

    def __len__(self) -> int:
        """Number of replies, in all files of the folder, failed generations of older versions included."""
        return len(self._index)

    def count(self, keys: Collection[bytes]) -> int:
        """Return how many of the keys `find` would return."""
        return sum(1 for _ in self._lines(keys))

    def find(self, keys: Collection[bytes]) -> dict[bytes, Reply]:
        """Return the replies by key; if a key occurs twice, the last one.

        Failed generations, which older versions kept as replies, are left out. Cheap when neighbouring keys were
        written together: frames are decompressed once.
        """
        return {key: Reply.from_line(line) for key, line in self._lines(keys)}

    def _lines(self, keys: Collection[bytes]) -> Iterator[tuple[bytes, dict[str, object]]]:
        with self._guard:
            located = self._index.find(keys)
        for location, key in sorted((location, key) for key, location in located.items()):
            data = self._frame(location >> OFFSET_BITS, location & ((1 << OFFSET_BITS) - 1)).get(key)
            if data is None:
                continue
            line = orjson.loads(data)
            if ending(line["finish"]) is not Ending.FAILED:
                yield key, line

    def _frame(self, number: int, offset: int) -> dict[bytes, bytes]:
        place = (number, offset)
        if place in self._frames:
            self._frames.move_to_end(place)
            return self._frames[place]
        try:
            with self._open_file(number) as file:
                frame = read_group(file, offset, os.fstat(file.fileno()).st_size)
        except ValueError:
            frame = {}
            self.damaged += 1
        self._frames[place] = frame
        if len(self._frames) > _CACHED_FRAMES:
            self._frames.popitem(last=False)
        return frame

    def _open_file(self, number: int) -> BinaryIO:
        path = self._files[number]
        try:
            return path.open("rb")
        except FileNotFoundError:
            if not self._segmented or path.parent == self.folder:
                raise
        refresh(self.folder)  # sealed meanwhile
        self._files[number] = self.folder / path.name
        return self._files[number].open("rb")
