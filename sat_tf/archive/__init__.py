"""Captions of whole archives of images, in parts, on one machine or on many.

The archive is cut into numbered parts once (`plan.py`). One function captions a part
and knows no engine (`work.py`); what it writes is there as a whole or not at all, so a
part is finished if its file exists. An engine only hands the missing parts to its
workers, and each is one small file (`beam.py`, `spark.py`). `job.py` brings them
together.
"""

from sat_tf.runtime.registry import Registry

ENGINES = Registry(
    "engine",
    beam="sat_tf.archive.beam:Beam",
    spark="sat_tf.archive.spark:Spark",
)
