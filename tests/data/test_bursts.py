"""Which photographs are frames of one burst, by where they lie and when they were taken."""

from __future__ import annotations

from fieldmark.data.bursts import Taken, bursts, grouped
from fieldmark.data.shards import folder_of

SHARD = ["a.tar/512+100/wren/1.jpg", "a.tar/1536+100/wren/2.jpg", "a.tar/2560+100/robin/3.jpg"]


def test_pictures_in_shards_lie_in_the_folders_of_their_names() -> None:
    """Where in the shard its bytes are is no folder."""
    assert [folder_of(path) for path in SHARD] == ["a.tar/wren", "a.tar/wren", "a.tar/robin"]
    assert folder_of("wren/1.jpg") == "wren"
    times = [Taken(float(second), "", "") for second in range(3)]
    first, second, third = bursts(SHARD, times, gap=60)
    assert first == second == SHARD[0]
    assert third == ""
    names, groups = grouped(SHARD)
    assert names == ["a.tar/robin", "a.tar/wren"]
    assert groups.tolist() == [1, 1, 0]
