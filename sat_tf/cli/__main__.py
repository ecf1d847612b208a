"""`python -m sat_tf.cli`."""

import sys

from sat_tf.cli.program import main

sys.exit(main())
