"""Episodes: what they are made of, and that their names alone decide."""

from collections import Counter

import pytest

from tests.wilss_train.data.episodes.pictures import episodes
from wilss.errors import ParameterError
from wilss_train.data.episodes.draw import Episode, draw_episode, require_enough, sorted_index

INDEX = {
    7: tuple(f"a{i}" for i in range(9)),
    2: (*(f"b{i}" for i in range(7)), "a1"),
    5: tuple(f"c{i}" for i in range(30)),
}


def drawn(count: int = 400, *, ways: int = 1, shots: int = 1, seed: int = 0, run: int = 0) -> list[Episode]:
    return list(episodes(INDEX, ways=ways, shots=shots, count=count, seed=seed, run=run))


def test_the_first_episodes_of_a_seed_are_these_on_any_machine() -> None:
    """Drawn by twenty lines of hashlib and json, without wilss."""
    assert drawn(3, ways=2, shots=2) == [
        Episode(ways=(7, 5), supports=(("a2", "a4"), ("c25", "c19")), query="a1"),
        Episode(ways=(7, 5), supports=(("a8", "a4"), ("c9", "c11")), query="a1"),
        Episode(ways=(2, 5), supports=(("b1", "b5"), ("c28", "c16")), query="b6"),
    ]


@pytest.mark.parametrize(("ways", "shots"), [(1, 1), (1, 5), (2, 3), (3, 7)])
def test_what_an_episode_holds(ways: int, shots: int) -> None:
    for episode in drawn(100, ways=ways, shots=shots):
        assert len(set(episode.ways)) == ways
        assert episode.query in INDEX[episode.ways[0]]
        for way, supports in zip(episode.ways, episode.supports, strict=True):
            assert len(set(supports)) == shots
            assert set(supports) <= set(INDEX[way]) - {episode.query}
        assert episode.image_ids[-1] == episode.query
        assert len(episode.image_ids) == ways * shots + 1


def test_neither_order_nor_number_of_episodes_matters() -> None:
    turned = {identity: INDEX[identity][::-1] for identity in (5, 7, 2)}
    assert list(episodes(turned, ways=2, shots=2, count=20, seed=0)) == drawn(20, ways=2, shots=2)
    assert drawn(400)[:20] == drawn(20)
    alone = draw_episode(sorted_index(INDEX), ways=1, shots=1, seed=0, names=("episode", 0, 17))
    assert alone == drawn(20)[17]


def test_runs_and_seeds_are_different_episodes() -> None:
    assert drawn(20) != drawn(20, run=1)
    assert drawn(20) != drawn(20, seed=1)


def test_classes_and_images_come_up_evenly() -> None:
    found = drawn(3000)
    classes = Counter(episode.ways[0] for episode in found)
    assert all(abs(count - 1000) < 130 for count in classes.values())
    queries = Counter(episode.query for episode in found if episode.ways == (5,))
    assert len(queries) == 30
    assert max(queries.values()) < 60


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ParameterError, match="class 2 is in 8 images, and 8 shots and a query need 9; lower --shots"):
        require_enough(INDEX, ways=1, shots=8)
    with pytest.raises(ParameterError, match="a cat is in 8 images"):
        require_enough(INDEX, ways=1, shots=8, names={2: "a cat"})
    with pytest.raises(ParameterError, match="4 ways need 4 classes, and there are 3"):
        require_enough(INDEX, ways=4, shots=1)
