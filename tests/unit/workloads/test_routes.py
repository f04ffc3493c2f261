"""Which variant and which instance a request goes to."""

from __future__ import annotations

import socket

from emulator.model.hosting import VariantSpec
from emulator.workloads.serving.routes import RoutedVariant, Target, pick_target, pick_variant


def _dial(_: int) -> socket.socket:
    raise OSError


def _variant(name: str, weight: float = 1.0, busy: tuple[int, ...] = (), **more: bool):
    spec = VariantSpec(name, (), "ml.m5.large", len(busy), weight, **more)
    targets = tuple(Target(f"i-{number}", _dial, open=open_) for number, open_ in enumerate(busy))
    return RoutedVariant(spec, targets)


def test_a_variant_gets_its_share_of_the_requests():
    variants = [_variant("a", 3.0), _variant("b", 1.0)]
    drawn = [pick_variant(variants, lambda n=n: n / 100).spec.name for n in range(100)]
    assert drawn.count("a") == 75
    assert drawn.count("b") == 25


def test_a_variant_without_weight_gets_nothing():
    variants = [_variant("a", 0.0), _variant("b", 2.0), _variant("c", 0.0)]
    assert {pick_variant(variants, lambda n=n: n / 10).spec.name for n in range(10)} == {"b"}
    assert pick_variant([_variant("a", 0.0)]) is None


def test_the_instance_with_the_fewest_open_requests_is_next():
    variant = _variant("a", busy=(2, 1, 3))
    assert pick_target(variant).id == "i-1"


def test_random_routing_does_not_look_at_open_requests():
    variant = _variant("a", busy=(9, 0, 9), random=True)
    assert {pick_target(variant, lambda n=n: n / 9).id for n in range(9)} == {"i-0", "i-1", "i-2"}


def test_a_variant_without_instances_has_no_target():
    assert pick_target(_variant("a")) is None
