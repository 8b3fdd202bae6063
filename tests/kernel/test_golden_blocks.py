"""The block format is fixed: the same world gives the same bytes, and every build reads them alike."""

from tests.kernel import golden


def test_the_golden_world_encodes_to_the_golden_bytes() -> None:
    assert golden.make() == golden.read()


def test_a_replica_of_the_golden_blocks_has_the_golden_digests() -> None:
    replica = golden.new_store(golden.schema())
    replica.release_baton()
    for entry in golden.read()["blocks"]:
        replica.apply([bytes.fromhex(entry["block"])], entry["base"], entry["version"], 0)
        assert replica.acquire().digest().hex() == entry["digest"]
