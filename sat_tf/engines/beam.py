"""Apache Beam hands the parts out: on this machine, or on Dataflow, Flink or Spark."""

import difflib
import logging

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

# What Beam calls DirectRunner first tries another one, for which it fetches a program
# from the network. This is the one that it falls back to.
_DIRECT = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


class Beam:
    """An engine whose options are those of Beam's pipelines.

    Args:
        options: words such as `--runner=FlinkRunner`.
    """

    def __init__(self, options):
        self.options = _checked(list(options))
        FileSystems.set_options(self.options)
        standard = self.options.view_as(StandardOptions)
        if standard.runner in (None, "DirectRunner"):
            standard.runner = _DIRECT
            # What it logs, traceback and all, it raises too, and is told once.
            logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)

    def run(self, work, parts):
        """Has `work` done for all parts; returns when it is."""
        with beam.Pipeline(options=self.options) as pipeline:
            (
                pipeline
                | "Parts" >> beam.Create(parts)
                | "Spread" >> beam.Reshuffle()
                | "Work" >> beam.ParDo(_Work(work))
            )


class _Work(beam.DoFn):
    """Does the work, and counts."""

    def __init__(self, work):
        self.work = work

    def process(self, part):
        counts = self.work(part)
        for name, count in counts._asdict().items():
            Metrics.counter("sat_tf", name).inc(count)
        Metrics.counter("sat_tf", "parts").inc()


def _checked(words):
    """`PipelineOptions`, of which Beam knows every one: it would drop the others."""
    options = PipelineOptions(words)
    known = options.get_all_options()
    given = options.get_all_options(retain_unknown_options=True)
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"Did you mean --{near[0]}?" if near else "Check its name."
        raise ValueError(
            "Expected options of this command or of Apache Beam. "
            f"Received: --{unknown[0]}. {hint}"
        )
    return options
