"""Which values of student and teacher belong together."""

from tests.workers.graph.networks import bert, cnn
from workers.compute.graph.model import Model
from workers.compute.graph.pairing import Pairs, pairs_of
from workers.compute.graph.spans import remove, spans


def kept(model: Model, *layers: int) -> Model:
    return remove(model, [span for at, span in enumerate(spans(model)) if at not in layers])


def places(pairs: Pairs) -> list[tuple[int, int]]:
    return [pair.places for pair in pairs.hidden]


def test_layers_that_kept_their_names_belong_to_those_of_the_same_name() -> None:
    teacher = bert(6)

    pairs = pairs_of(kept(teacher, 1, 3, 5), teacher, related=True)

    assert places(pairs) == [(0, 0), (1, 2), (2, 4), (3, 6)]
    assert all(pair.student == pair.teacher for pair in (*pairs.hidden, *pairs.attention))
    assert [pair.places for pair in pairs.attention] == [(0, 1), (1, 3), (2, 5)]


def test_single_layer_that_is_left_is_matched_whole() -> None:
    teacher = bert(4)

    pairs = pairs_of(kept(teacher, 2), teacher, related=True)

    assert [pair.student for pair in pairs.hidden] == ["norm.shift_out", "layer2.norm2.shift_out"]


def test_layers_of_another_model_are_spread_evenly() -> None:
    pairs = pairs_of(bert(2), bert(6), related=False)

    assert places(pairs) == [(0, 0), (1, 3), (2, 6)]
    assert [pair.places for pair in pairs.attention] == [(0, 2), (1, 5)]
    assert pairs.hidden[1].teacher == "layer2.norm2.shift_out"


def test_deeper_student_shares_the_layers_of_its_teacher() -> None:
    pairs = pairs_of(bert(6), bert(2), related=False)

    assert places(pairs) == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2)]
    assert [pair.places[1] for pair in pairs.attention] == [0, 0, 0, 0, 1, 1]


def test_blocks_of_an_image_model_have_hidden_states_alone() -> None:
    pairs = pairs_of(cnn(2), cnn(2), related=True)

    assert places(pairs) == [(0, 0), (1, 1), (2, 2)]
    assert not pairs.attention
