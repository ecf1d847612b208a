"""Finds images by the names that caption files give them, whoever wrote those."""

import collections
import os
import pathlib
import unicodedata


def plain(name):
    """A name as it is compared: composed letters (macOS decomposes), `/` in paths."""
    return unicodedata.normalize("NFC", name.strip()).replace("\\", "/")


class ImageIndex:
    """The files under a folder.

    Args:
        root: the folder.
    """

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self._by_name = collections.defaultdict(list)
        seen = set()
        for folder, subfolders, files in os.walk(self.root, followlinks=True):
            if (real := os.path.realpath(folder)) in seen:  # a link leads back, say
                subfolders.clear()
                continue
            seen.add(real)
            # Hidden ones hold thumbnails and copies, of the same names.
            subfolders[:] = sorted(s for s in subfolders if not s.startswith("."))
            for file in sorted(files):
                self._by_name[plain(file).casefold()].append(pathlib.Path(folder, file))

    def find(self, name):
        """The files that `name` may mean: one if it is found, several if ambiguous.

        A path that is there is taken; else the file of this name in whatever folder,
        as files are moved about. Of several, one in a folder of the same name, and one
        written in the same case, go before the others.
        """
        if os.path.isfile(path := self.root / name):
            return [path]
        base = os.path.basename(plain(name))
        alike = self._by_name.get(base.casefold(), [])
        scored = [(self._likeness(name, path), path) for path in alike]
        best = max((score for score, _ in scored), default=None)
        return [path for score, path in scored if score == best]

    def folders(self, path):
        """The folders between the root and a file, outermost first."""
        inside = path.is_relative_to(self.root)
        return path.relative_to(self.root).parts[:-1] if inside else ()

    def is_in_folder(self, name, path):
        """Whether a file that was found lies in the folder that `name` says."""
        return os.path.isfile(self.root / name) or self._likeness(name, path)[0] > 1

    def _likeness(self, name, path):
        """How many parts of two paths agree from the end, by letters and by case."""
        # The root counts as a part: a bare name means the file beside the captions.
        ours = ["", *plain(str(path.relative_to(self.root))).split("/")]
        theirs = ["", *os.path.normpath(plain(name)).split("/")]
        return (
            _common(*([part.casefold() for part in way] for way in (ours, theirs))),
            _common(ours, theirs),
        )


def _common(ours, theirs):
    pairs = zip(reversed(ours), reversed(theirs), strict=False)
    different = (i for i, (a, b) in enumerate(pairs) if a != b)
    return next(different, min(len(ours), len(theirs)))
