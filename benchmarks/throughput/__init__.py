"""Events a second of one and the same job on flashcast and on other programs."""
