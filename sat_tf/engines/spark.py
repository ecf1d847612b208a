"""Apache Spark hands the parts out: on the cores of this machine, or on a cluster."""

import argparse
import os
import shutil
import sys

from pyspark import SparkConf, SparkContext


class Spark:
    """An engine with two options of `spark-submit`: `--master` and `--conf`.

    Args:
        options: words such as `--master=spark://host:7077`.
    """

    def __init__(self, options):
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--master")
        parser.add_argument("--conf", action="append", default=[])
        given, others = parser.parse_known_args(list(options))
        if others:
            raise ValueError(
                "Expected options of this command, or --master URL and --conf "
                f"NAME=VALUE for Spark. Received: {' '.join(others)}. Give what else "
                "Spark has to know as --conf."
            )
        if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
            raise ImportError(
                "Expected Java 17 or later, which Spark runs on. Received: no java on "
                "the path. Install it, say: apt-get install default-jre-headless"
            )
        self.conf = _conf(given)

    def run(self, work, parts):
        """Has `work` done for all parts; returns when it is."""
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        context = SparkContext.getOrCreate(self.conf)
        context.setLogLevel("ERROR")
        try:
            context.parallelize(parts, len(parts)).foreach(work)  # one part a task
        finally:
            context.stop()


def _conf(given):
    conf = SparkConf().setAppName("sat-tf")
    if given.master:
        conf.setMaster(given.master)
    conf.setIfMissing("spark.master", "local[*]")
    for pair in given.conf:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(
                f"Expected NAME=VALUE. Received: --conf {pair}. "
                "Write, for instance, --conf spark.executor.memory=4g."
            )
        conf.set(name, value)
    # A task computes with as many threads as Spark counts it for, and not with all
    # cores of the machine, which other tasks are at work on.
    cores = conf.get("spark.task.cpus", "1")
    conf.setIfMissing("spark.executorEnv.TF_NUM_INTRAOP_THREADS", cores)
    conf.setIfMissing("spark.executorEnv.TF_NUM_INTEROP_THREADS", cores)
    return conf.setIfMissing("spark.ui.showConsoleProgress", "false")
