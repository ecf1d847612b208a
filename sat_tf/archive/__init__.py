"""Captions of whole archives of images, in parts, on one machine or on many.

The archive is cut into numbered parts once (`plan.py`). One function captions a part
and knows no engine (`work.py`); what it writes is there as a whole or not at all, so a
part is finished if its file exists. `job.py` has the missing ones done by an engine.
"""
