"""What caches lie on disk: found, locked and removed without TensorFlow.

A cache is a folder of shards, see `datasets.shards`, or of arrays, see
`datasets.arrays`, and a manifest. Its name ends in a fingerprint of all that its
content depends on: other content has another folder, and no cache is ever stale.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil

from sat_tf.runtime.files import on_disk

MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Found:
    """One cache.

    Attributes:
        name: of its folder.
        path: of its folder.
        images: as many records as it has when it is complete.
        complete: whether all shards are there.
        bytes: on disk.
        last_used: when it was last opened or written to, in local time.
    """

    name: str
    path: pathlib.Path
    images: int
    complete: bool
    bytes: int
    last_used: datetime.datetime

    def to_dict(self):
        """The attributes for JSON."""
        return {
            **dataclasses.asdict(self),
            "path": str(self.path),
            "last_used": self.last_used.isoformat(),
        }


def default_cache():
    """`$SAT_TF_CACHE`, or `sat_tf` in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(os.environ.get("SAT_TF_CACHE") or pathlib.Path(home) / "sat_tf")


def folder(cache_dir, content, name):
    """The folder of a cache, be it there or not.

    Args:
        cache_dir: that it is in. There, a folder of the same content is taken whatever
            it is called.
        content: JSON values; all that it depends on.
        name: what people call it: the folder's name begins with it.

    Raises:
        ValueError: `cache_dir` is in a bucket.
    """
    cache_dir = on_disk(cache_dir, "a folder for caches")
    content = json.dumps(content, sort_keys=True).encode()
    fingerprint = hashlib.sha256(content).hexdigest()[:16]
    name = re.sub(r"[^\w.+-]+", "_", name)[:80]
    there = sorted(cache_dir.glob(f"*-{fingerprint}"))
    return there[0] if there else cache_dir / f"{name}-{fingerprint}"


def note_use(folder):
    """Notes that a cache is used now, for `Found.last_used`."""
    with contextlib.suppress(OSError):  # where it may only be read
        os.utime(folder / MANIFEST)


def find(cache_dir):
    """The caches in a folder, a list of `Found`, those not used for longest first."""
    found = []
    for path in pathlib.Path(cache_dir).glob(f"*/{MANIFEST}"):
        manifest = read_manifest(path.parent)
        if manifest is not None and {"records_per_shard", "arrays"} & manifest.keys():
            found.append(_found(path.parent, manifest))
    return sorted(found, key=lambda cache: (cache.last_used, cache.name))


def _found(folder, manifest):
    used = (folder / MANIFEST).stat().st_mtime
    return Found(
        name=folder.name,
        path=folder.absolute(),
        images=manifest["n_records"],
        complete=not missing_shards(folder, manifest),
        bytes=sum(path.stat().st_size for path in folder.iterdir()),
        last_used=datetime.datetime.fromtimestamp(round(used)).astimezone(),
    )


def remove(cache_dir, name):
    """Removes a cache. A process that reads it goes on doing so.

    Args:
        cache_dir: the folder that holds it.
        name: of the cache, as `find` has it.

    Raises:
        ValueError: there is no cache of that name, or a process is writing it.
    """
    folder = next((c.path for c in find(cache_dir) if c.name == name), None)
    if folder is None:
        raise ValueError(
            f"Expected the name of a cache in {cache_dir}. Received: {name!r}. "
            "`sat-tf caches` lists them."
        )
    with _opened(folder) as descriptor:
        if not _is_ours_alone(descriptor):
            raise ValueError(
                "Expected a cache that no process is writing. "
                f"Received: {name!r}. Wait for that process, or stop it."
            )
        shutil.rmtree(folder)


@contextlib.contextmanager
def writing(folder):
    """While inside, other processes leave alone what this one has half written.

    Several may write one cache. What a process left that was killed is removed, when
    there is nobody else who may have it in hand. Locks say so, not numbers of
    processes, which mean nothing to another container; and they end with their owner.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _opened(folder) as descriptor:
        if _is_ours_alone(descriptor):
            for left in folder.glob(".*.tmp"):
                with contextlib.suppress(OSError):  # where we may only read
                    left.unlink()
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        try:
            yield
        finally:
            if _is_ours_alone(descriptor):
                with contextlib.suppress(OSError):  # there is something in it
                    folder.rmdir()


@contextlib.contextmanager
def _opened(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_ours_alone(descriptor):
    """Takes the lock if nobody has it; never, where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def read_manifest(folder):
    """What a cache says of itself, a dict; None if its manifest is torn or missing."""
    path = folder / MANIFEST
    if path.is_file():
        with contextlib.suppress(ValueError, TypeError):
            return dict(json.loads(path.read_bytes()))
    return None


def shard(folder, i):
    """The path of shard `i` of a cache."""
    return folder / f"shard-{i:05d}.bin"


def complaint(folder, i, command):
    """The path of what kept a worker from making shard `i`, where something did.

    Args:
        command: name of the one it works for. Others at once have theirs.
    """
    return shard(folder, i).with_suffix(f".{command}.bad")


def n_shards(manifest):
    """How many shards make a cache complete."""
    if "arrays" in manifest:  # written last, when they were there
        return 0
    return -(-manifest["n_records"] // manifest["records_per_shard"])


def missing_shards(folder, manifest):
    """Numbers of the shards that are not there."""
    return [i for i in range(n_shards(manifest)) if not shard(folder, i).is_file()]
