"""A second opinion: what the input topics imply, and whether the output topics say so.

Shares no code with flashcast, so that neither can be wrong in the way of the other. It knows the
documented contract (README), reads with kafka-python and judges with json and dictionaries.
"""
