"""Prometheus's text from a daemon's own counters.

The counters are read on the event loop, which is quick; the text is made from that in a thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from s3posixfs.core.measuring import BOUNDS, Latency, Meter

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name without the suffix of its kind, what it says, and its samples, each with
    the values of ``labels``."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: tuple[str, ...] = ()
    samples: list[tuple[tuple[str, ...], float]] = field(default_factory=list)
    histograms: list[tuple[tuple[str, ...], Latency]] = field(default_factory=list)


def counter(name: str, text: str, value: float) -> Family:
    """Something that only grows; its name gets the suffix ``_total``."""
    return Family("counter", name, text, (), [((), value)])


def gauge(name: str, text: str, value: float) -> Family:
    """Something that goes up and down."""
    return Family("gauge", name, text, (), [((), value)])


def labelled(
    kind: Literal["counter", "gauge"],
    name: str,
    text: str,
    label: str,
    values: Mapping[str, float],
) -> Family:
    """One value for each value of one label."""
    return Family(kind, name, text, (label,), [((key,), value) for key, value in values.items()])


def of_meter(meter: Meter, prefix: str, what: str, label: str) -> tuple[Family, Family]:
    """A meter's counts (by ``label`` and result) and times (by ``label``)."""
    counts = Family("counter", prefix, f"{what}, by result.", (label, "result"))
    counts.samples.extend(((name, result), number) for name, result, number in meter.counts())
    times = Family("histogram", f"{prefix}_duration_seconds", f"Time of {what}.", (label,))
    times.histograms.extend(((name,), latency) for name, latency in meter.latencies())
    return counts, times


class _Collector:
    """What prometheus_client asks a registry's collectors for."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[object]:
        """The families in that library's form."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        for family in self._families:
            if family.kind == "histogram":
                histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
                for labels, latency in family.histograms:
                    histogram.add_metric(labels, _buckets(latency), latency.seconds)
                yield histogram
                continue
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            plain = kind(family.name, family.help, labels=family.labels)
            for labels, value in family.samples:
                plain.add_metric(labels, value)
            yield plain


def _buckets(latency: Latency) -> list[tuple[str, float]]:
    bounds = [*(repr(bound) for bound in BOUNDS), "+Inf"]
    return list(zip(bounds, map(float, latency.counts), strict=True))


def render(families: Iterable[Family]) -> bytes:
    """The text that Prometheus scrapes. May run in any thread."""
    # Imported late: a daemon that is not scraped has no use for it.
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(list(families)))  # type: ignore[arg-type]
    return generate_latest(registry)
