"""The estimator bench: which gradient for hard attention, measured.

Two questions, each put to every estimator alike:

- What does a gradient cost? `gradients` holds one captioner and one batch still and
  draws the gradient again and again: bias, variance, time and memory.
- What does a minute of training buy? `learning` trains from the same start for the same
  time and scores the captioner as it goes, over several seeds.

`run` plans both, `units` works the plan off and can be stopped at any moment, `report`
makes tables and figures of what is there.
"""
