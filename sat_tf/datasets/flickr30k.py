"""Flickr30k in the layout it was published in, or with Karpathy's JSON."""

from sat_tf.datasets import entities, flickr, folder


class Flickr30k(folder.FolderBuilder):
    """31,783 photographs with five captions each (Young et al. 2014)."""

    HOMEPAGE = "https://shannon.cs.illinois.edu/DenotationGraph/"
    CITATION = """@article{young2014image,
  author  = {Peter Young and Alice Lai and Micah Hodosh and Julia Hockenmaier},
  title   = {From image descriptions to visual denotations: New similarity metrics
             for semantic inference over event descriptions},
  journal = {Transactions of the Association for Computational Linguistics},
  volume  = {2},
  year    = {2014}
}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = """Put these into one folder: results_20130124.token
and the folder of the photographs, with Flickr_30k.{train,dev,test}Images.txt where you
have them; or dataset_flickr30k.json (Karpathy), whose splits the literature uses, and
the photographs. Then pass the folder as data_dir, or as --manual_dir to `tfds build`.
Without a list of splits, images are split 90/5/5 by a hash of their names.
With the folders Annotations and Sentences of Flickr30k Entities beside them, words have
regions."""

    @staticmethod
    def read_records(source):
        """Records of the folder `source`; see `MANUAL_DOWNLOAD_INSTRUCTIONS`."""
        return flickr.read_records(
            source,
            "results_20130124.token",
            "Flickr_30k",
            entities.published,
            need_lists=False,
        )
