"""The network of the paper: encoder, attention, decoder, recurrence, losses."""
