"""The parts of ``time_to_accuracy.py``: the data, the contestants, each a process of its own, and the scorer."""
