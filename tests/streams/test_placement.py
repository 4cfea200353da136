from streams.placement import Placement


def test_murmur2_is_javas() -> None:
    # vectors of Apache Kafka's UtilsTest
    vectors = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    placement = Placement("murmur2", 1_000)
    for key, code in vectors.items():
        assert placement.of(key) == (code & 0x7FFF_FFFF) % 1_000


def test_crc32_is_librdkafkas() -> None:
    assert Placement("crc32", 1_000).of(b"123456789") == 0xCBF4_3926 % 1_000


def test_a_key_stays_where_it_is() -> None:
    placement = Placement("none", 7)
    assert placement.of(b"a") == placement.of(b"a") == Placement("murmur2", 7).of(b"a")
