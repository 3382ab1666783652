"""Owns which file of the old folder a file of the new one is made from: its own, an equal one, or a likely one.

Refuses to read the files: names, lengths and digests must do.
"""

from bisect import bisect_left
from collections import defaultdict
from pathlib import PurePosixPath

from modelpatch.apply.tree import TreeFile


class FolderBases:
    """The files of an old folder, found by what they have in common with files of the new one.

    Everything is returned as an index in the old files, None where there is no such file.
    """

    def __init__(self, old_files: list[TreeFile], new_files: list[TreeFile]) -> None:
        self._own = {file.name: i for i, file in enumerate(old_files)}
        self._equal = {file.sha256: i for i, file in reversed(list(enumerate(old_files)))}
        self._files = old_files
        # The old files whose names are gone, as (length, index) in order, by last part of the name and by suffix.
        self._gone: dict[str, list[tuple[int, int]]] = defaultdict(list)
        kept = {file.name for file in new_files}
        for length, i in sorted((file.length, i) for i, file in enumerate(old_files) if file.name not in kept):
            for key in _keys(old_files[i]):
                self._gone[key].append((length, i))

    def own(self, file: TreeFile) -> int | None:
        """Return the old file of the same name."""
        return self._own.get(file.name)

    def equal(self, file: TreeFile) -> int | None:
        """Return an old file of the same bytes, that of the same name if it is one."""
        own = self.own(file)
        return own if own is not None and self._files[own].sha256 == file.sha256 else self._equal.get(file.sha256)

    def take_likely(self, file: TreeFile) -> int | None:
        """Return the old file that `file`, of a new name, may be a new version of; each is returned once.

        Its name is in use no more. It is called the same but for its folder, or at least has the same suffix; of
        several it is the nearest in length.
        """
        gone = next((self._gone[key] for key in _keys(file) if self._gone.get(key)), None)
        if gone is None:
            return None
        at = bisect_left(gone, (file.length, -1))
        length, index = min(gone[max(0, at - 1) : at + 1], key=lambda pair: abs(pair[0] - file.length))
        for key in _keys(self._files[index]):
            del self._gone[key][bisect_left(self._gone[key], (length, index))]
        return index


def _keys(file: TreeFile) -> tuple[str, str]:
    path = PurePosixPath(file.path)
    return "/" + path.name, path.suffix
