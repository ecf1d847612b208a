"""What the builders over files on disk have in common."""

import abc
import collections
import contextlib
import dataclasses
import os
import pathlib
import sys
import warnings

import absl.logging
import tensorflow_datasets as tfds

from sat_tf.datasets import records, schema


@contextlib.contextmanager
def quiet():
    """Keep TFDS's notes off the standard output, and those of no use away."""
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        absl.logging.set_verbosity(verbosity)


@dataclasses.dataclass
class Source(tfds.core.BuilderConfig):
    """Where a builder finds its files; named after what they hold.

    Attributes:
        path: the folder or caption file.
        notes: what was decided in the data's stead, see `records.notes`.
    """

    path: str = ""
    notes: tuple = ()


class FolderBuilder(tfds.core.GeneratorBasedBuilder, abc.ABC, skip_registration=True):
    """A data set made of image files and caption files.

    `tfds build` finds the files in TFDS's manual folder; `from_source` takes them from
    anywhere, and prepares them anew when they have changed. Where Beam is asked for
    (`tfds build --beam_pipeline_options=...`), its workers read the images.
    """

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES = {"1.0.0": "First version.", "2.0.0": "A word may have many boxes."}
    HOMEPAGE = None
    CITATION = None

    @staticmethod
    @abc.abstractmethod
    def read_records(source):
        """All `records.Record` that the files at the path `source` list."""

    @classmethod
    def from_source(cls, source, data_dir=None):
        """A builder over the files at `source`, preparing into `data_dir`."""
        source = pathlib.Path(source).resolve()
        found = cls.read_records(source)
        for complaint in records.complaints(found):
            warnings.warn(complaint, stacklevel=2)
        content = records.fingerprint(found)
        config = Source(
            name=f"{source.stem}-{content[:12]}",
            path=os.fspath(source),
            notes=tuple(records.notes(found)),
        )
        with quiet():  # TFDS warns of a configuration it does not know
            return cls(config=config, data_dir=data_dir)

    def _info(self):
        return self.dataset_info_from_configs(
            features=schema.features(),
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            description=type(self).__doc__,
        )

    def _generate_splits(self, dl_manager, download_config):
        asked = download_config.beam_options or download_config.beam_runner
        self._examples = records.examples_by_beam if asked else records.examples
        splits = super()._generate_splits(dl_manager, download_config)
        if asked:  # its workers cannot warn us
            for split in splits:
                records.warn_of_fewer(
                    split.name, split.num_examples, self._listed[split.name]
                )
        return splits

    def _split_generators(self, dl_manager):
        source = self.builder_config.path if self.builder_config else None
        found = self.read_records(pathlib.Path(source or dl_manager.manual_dir))
        records.refuse_leaks(found)
        self._listed = collections.Counter(record.split for record in found)
        return {split: self._generate_examples(found, split) for split in self._listed}

    def _generate_examples(self, found, split):
        return self._examples(found, split)
