"""Engines hand parts of a large work to workers, on this machine or on many.

One function does the work of a part and knows no engine; what it writes is there as a
whole or not at all, so that what is missing can be seen in the files. An engine only
hands the missing parts out, and each is one small file (`beam.py`, `spark.py`).
`running.py` has them done.
"""

from sat_tf.runtime.registry import Registry

ENGINES = Registry(
    "engine",
    beam="sat_tf.engines.beam:Beam",
    spark="sat_tf.engines.spark:Spark",
)
BEAM = "pip install 'sat_tf[beam]'"
