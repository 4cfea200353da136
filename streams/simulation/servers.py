"""The shop's servers: too few of them lose requests; those asked for serve after their warm-up."""

import math

from streams.settings import Service


class Servers:
    """Replicas of one service over time."""

    def __init__(self, service: Service, replicas: int) -> None:
        self.service = service
        self.replicas = min(max(replicas, service.replicas_min), service.replicas_max)
        self._warming: list[tuple[int, int]] = []  # (serves from, replicas from then on)
        self.replica_ms = 0
        self.requests = 0.0
        self.requests_lost = 0.0

    def ask(self, replicas: float, now_ms: int) -> None:
        """Scale to `replicas`: fewer at once, more after the warm-up."""
        wanted = min(max(math.ceil(replicas), self.service.replicas_min), self.service.replicas_max)
        self._warming = [(at_ms, count) for at_ms, count in self._warming if count <= wanted]
        if wanted <= self.replicas:
            self.replicas = wanted
        elif wanted > max((count for _, count in self._warming), default=self.replicas):
            self._warming.append((now_ms + self.service.warm_up_s * 1000, wanted))

    def share_lost(self, counts: tuple[int, int, int], now_ms: int, duration_ms: int) -> float:
        """The share of requests, in [0, 1), that find no server in this tick, where `counts`
        clicks, carts and orders want to be served.
        """
        for at_ms, count in self._warming:
            if at_ms <= now_ms:
                self.replicas = max(self.replicas, count)
        self._warming = [one for one in self._warming if one[0] > now_ms]
        service = self.service
        requests = (
            counts[0] * service.requests_per_click
            + counts[1] * service.requests_per_cart
            + counts[2] * service.requests_per_order
        )
        served = self.replicas * service.rps_per_replica * duration_ms / 1000.0
        lost = max(0.0, 1.0 - served / requests) if requests > 0 else 0.0
        self.replica_ms += self.replicas * duration_ms
        self.requests += requests
        self.requests_lost += requests * lost
        return lost
