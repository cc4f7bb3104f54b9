"""A page each: what it shows, in the order shown. What is computed for them stands in the modules above."""

from __future__ import annotations
