"""How a location is chosen and how its gradient is estimated (4.1, 4.2)."""

from sat_tf.estimators.base import Estimator, Trace
from sat_tf.estimators.gumbel_softmax import GumbelSoftmax
from sat_tf.estimators.reinforce import Reinforce
from sat_tf.estimators.research.rebar import Rebar
from sat_tf.estimators.research.reinmax import Reinmax
from sat_tf.estimators.research.step_marginal import StepMarginal
from sat_tf.estimators.research.variational import Variational
from sat_tf.estimators.research.vimco import Vimco
from sat_tf.estimators.research.ws_ram import WsRam
from sat_tf.estimators.rloo import Rloo
from sat_tf.estimators.soft import Soft
from sat_tf.estimators.straight_through import StraightThrough
from sat_tf.runtime.registry import Registry

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "GumbelSoftmax",
    "Rebar",
    "Reinforce",
    "Reinmax",
    "Rloo",
    "Soft",
    "StepMarginal",
    "StraightThrough",
    "Trace",
    "Variational",
    "Vimco",
    "WsRam",
]

ESTIMATORS = Registry(
    "estimator",
    soft=Soft,
    reinforce=Reinforce,
    rloo=Rloo,
    vimco=Vimco,
    ws_ram=WsRam,
    gumbel_softmax=GumbelSoftmax,
    straight_through=StraightThrough,
    reinmax=Reinmax,
    rebar=Rebar,
    step_marginal=StepMarginal,
    variational=Variational,
)
