"""The models in a folder: numbered versions are loaded, swapped and drained.

The folder is TensorFlow Serving's: `<root>/<name>/<version>/saved_model.pb`. The newest
version is served; a newer one is loaded beside it, warmed, and put in its place in one
assignment. The old one ends with its last request.
"""

import contextlib
import gc
import logging
import pathlib
import threading

from sat_tf.serving.protocol import RequestError
from sat_tf.serving.servable import Servable

MAX_VERSION = 2**63 - 1  # TensorFlow Serving has them as int64
_log = logging.getLogger(__name__)


class Repository:
    """The models under a folder, their newest versions loaded, kept up to date."""

    def __init__(self, root, at_once=1):
        """Look at `root`: a folder of models, or one model's folder of versions.

        Up to `at_once` batches of a signature run at once.
        """
        self.root, self._at_once = pathlib.Path(root).absolute(), at_once
        self._models = {}  # name -> Servable; a request takes it in one look-up
        self._states = {}  # (name, version) -> (state, error message)
        self._failed = {}  # (name, version) -> what the folder looked like
        self._stop = threading.Event()
        self._watcher = None

    def folders(self):
        """Find the version folders of every model, newest first: {name: [path]}."""
        singles = [self.root] if _versions(self.root) else []
        candidates = singles or (p for p in self.root.glob("*") if p.is_dir())
        found = sorted((path.name, _versions(path)) for path in candidates)
        return {name: versions for name, versions in found if versions}

    def refresh(self):
        """Bring what is served in line with what lies in the folder."""
        folders, before = self.folders(), self._served()
        for name, paths in folders.items():
            current = self._models.get(name)
            for path in paths:  # the newest that can be loaded
                if current and current.version == int(path.name):
                    break
                if self._load(name, path):
                    break
        for name in self._models.keys() - folders.keys():
            self._retire(self._models.pop(name))
        if before != self._served():
            gc.collect()  # a loaded model is full of reference cycles

    def _load(self, name, path):
        """Load, warm and swap in a version, drain the one before; False if broken."""
        key, look = (name, int(path.name)), None
        try:
            look = _look(path)
            if self._failed.get(key) == look:
                return False  # nothing has changed since it failed
            self._states[key] = ("LOADING", "")
            _check_name(name)
            servable = Servable(name, path, self._at_once)
            servable.warm()
        except Exception as error:  # a broken version must not end the good one
            self._failed[key] = look
            if self._states.get(key) != (ended := ("END", str(error))):
                self._states[key] = ended
                _log.error("could not load %s: %s", _shown(path), error)
            return False
        old, self._models[name] = self._models.get(name), servable
        self._failed.pop(key, None)
        self._states[key] = ("AVAILABLE", "")
        _log.info("serving %s version %d from %s", name, servable.version, path)
        if old:
            self._retire(old)
        return True

    def _retire(self, servable):
        """Wait for a version's last request, then let go of it."""
        key = servable.name, servable.version
        self._states[key] = ("UNLOADING", "")
        servable.wait_until_idle()
        self._states[key] = ("END", "")
        _log.info("unloaded %s version %d", *key)

    def watch(self, seconds):
        """Refresh every so many seconds in a thread of its own, until `close`."""

        def loop():
            while not self._stop.wait(seconds):
                try:
                    self.refresh()
                except OSError as error:  # say, a folder removed while it is listed
                    _log.warning("could not read %s: %s", self.root, error)

        self._watcher = threading.Thread(target=loop, name="versions", daemon=True)
        self._watcher.start()

    def close(self):
        """Stop watching, and wait for the version that is being loaded."""
        if thread := self.stop():
            thread.join()

    def stop(self):
        """Stop watching; returns the thread, which may be loading a version still."""
        self._stop.set()
        return self._watcher

    @contextlib.contextmanager
    def use(self, name, version=None):
        """Lend the served `Servable` of a name, and of a version if one is given."""
        servable = self._models.get(name)
        if servable is None or version not in (None, servable.version):
            wanted = f"Latest({name})" if version is None else f"{name}, {version}"
            raise RequestError(
                f"Servable not found for request: {wanted}. "
                f"Expected one of: {self._served()}. "
                "GET /v1/models/<name> lists the versions of a model.",
                status=404,
            )
        with servable.in_use():
            yield servable

    def loaded(self):
        """List what is served now, by name."""
        models = self._models.copy()
        return [models[name] for name in sorted(models)]

    def failures(self):
        """Say which versions could not be loaded, and why."""
        errors = {key: error for key, (_, error) in self._states.items() if error}
        return "; ".join(
            f"{_shown(name)}/{version}: {error}"
            for (name, version), error in errors.items()
        )

    def _served(self):
        return ", ".join(f"{s.name}/{s.version}" for s in self.loaded()) or "none"

    def ready(self):
        """Tell whether every model in the folder has a version to answer with."""
        return bool(self._models) and self.folders().keys() <= self._models.keys()

    def status(self, name, version=None):
        """Give the states of a model's versions, newest first, as the status API."""
        states = {
            number: state
            for (model, number), state in self._states.copy().items()
            if model == name and version in (None, number)
        }
        if not states:
            wanted = name if version is None else f"{name}, version {version}"
            raise RequestError(
                f"Could not find any versions of model {wanted}. "
                f"Expected one of: {self._served()}.",
                status=404,
            )
        return [
            {
                "version": str(number),
                "state": state,
                "status": {
                    "error_code": "UNKNOWN" if message else "OK",
                    "error_message": message,
                },
            }
            for number, (state, message) in sorted(states.items(), reverse=True)
        ]


def _shown(name):
    """Give a name or a path as text that every log can hold."""
    return str(name) if str(name).isprintable() else ascii(str(name))


def _check_name(name):
    """Raise ValueError where no address could hold a model's name."""
    if ":" in name or not name.isprintable():  # nor are bytes that are no UTF-8
        raise ValueError(
            "Expected the name of a model's folder to be text without a colon. "
            f"Received: {name!a}. Rename the folder."
        )


def _versions(path):
    """List the version folders in a model's folder, newest first."""
    folders = (p for p in path.glob("*") if p.name.isdecimal())
    return sorted(
        (p for p in folders if int(p.name) <= MAX_VERSION and _has_model(p)),
        key=lambda p: int(p.name),
        reverse=True,
    )


def _has_model(folder):
    """Tell whether a version is there; loading says why one cannot be looked into."""
    try:
        return (folder / "saved_model.pb").is_file()
    except OSError:
        return True


def _look(folder):
    """Describe what lies in a folder, so that a change shows."""
    return sorted(
        # Of a link that leads nowhere, the link.
        (str(p), p.stat(follow_symlinks=p.exists()).st_mtime_ns)
        for p in folder.rglob("*")
    )
