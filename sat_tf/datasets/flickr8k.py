"""Flickr8k in the layout it was published in, or with Karpathy's JSON."""

from sat_tf.datasets import entities, flickr, folder


class Flickr8k(folder.FolderBuilder):
    """8,000 photographs with five captions each (Hodosh, Young, Hockenmaier 2013)."""

    HOMEPAGE = "https://hockenmaier.cs.illinois.edu/8k-pictures.html"
    CITATION = """@article{hodosh2013framing,
  author  = {Micah Hodosh and Peter Young and Julia Hockenmaier},
  title   = {Framing image description as a ranking task: Data, models and
             evaluation metrics},
  journal = {Journal of Artificial Intelligence Research},
  volume  = {47},
  year    = {2013}
}"""
    MANUAL_DOWNLOAD_INSTRUCTIONS = """Put these into one folder: Flickr8k.token.txt,
Flickr_8k.{train,dev,test}Images.txt (those you have) and the folder of the photographs;
or dataset_flickr8k.json (Karpathy) and the photographs. With entities_*.json beside
them (see `sat_tf.datasets.entities`) words have regions. Then pass the folder as
data_dir, or as --manual_dir to `tfds build`."""

    @staticmethod
    def read_records(source):
        """Records of the folder `source`; see `MANUAL_DOWNLOAD_INSTRUCTIONS`."""
        return flickr.read_records(
            source, "Flickr8k.token.txt", "Flickr_8k", entities.tables
        )
