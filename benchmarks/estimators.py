"""Which gradient for hard attention: bias, variance, time, memory, learning.

    python benchmarks/estimators.py --data scenes --preset scenes --out DIR

The same as `sat-tf bench-estimators`, whose `--help` has the options.
"""

import sys

from sat_tf.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["bench-estimators", *sys.argv[1:]]))
