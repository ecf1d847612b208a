"""How a location is chosen and how its gradient is estimated (4.1, 4.2)."""

from sat_tf.estimators.base import Estimator, Trace
from sat_tf.estimators.reinforce import Reinforce
from sat_tf.estimators.soft import Soft

__all__ = ["ESTIMATORS", "Estimator", "Reinforce", "Soft", "Trace"]

ESTIMATORS = {
    "soft": Soft,
    "reinforce": Reinforce,
}
