import numpy as np
import onnx_ir as ir

from tests.workers.autograd import graphs
from workers.compute.autograd.batching import epoch_rows, sequence_inputs, trimmed


def tokens(*lengths: int) -> dict[str, np.ndarray]:
    mask = (np.arange(8) < np.array(lengths)[:, None]).astype(np.int64)
    return {"input_ids": np.arange(8 * len(lengths)).reshape(-1, 8), "attention_mask": mask}


def test_text_inputs_share_the_masks_axis() -> None:
    assert sequence_inputs(graphs.model(graphs.encoder(13))) == ("input_ids", "attention_mask")


def test_text_inputs_with_axes_of_other_names_are_not_cut() -> None:
    model = graphs.model(graphs.encoder(13))
    model.graph.inputs[0].shape = ir.Shape(["rows", "another"])
    assert sequence_inputs(model) == ()


def test_images_have_no_sequence_axis() -> None:
    assert sequence_inputs(graphs.model(graphs.cnn())) == ()


def test_right_padded_batch_is_cut_to_its_longest_row() -> None:
    found = trimmed(tokens(3, 5), ("input_ids", "attention_mask"))
    assert found["input_ids"].shape == found["attention_mask"].shape == (2, 5)


def test_left_padded_batch_stays() -> None:
    batch = tokens(3, 5)
    batch["attention_mask"] = batch["attention_mask"][:, ::-1]
    assert trimmed(batch, ("input_ids", "attention_mask"))["input_ids"].shape == (2, 8)


def test_batch_of_padding_keeps_one_position() -> None:
    assert trimmed(tokens(0, 0), ("input_ids", "attention_mask"))["input_ids"].shape == (2, 1)


def test_epochs_are_shuffled_differently_but_repeatably() -> None:
    first, again, second = (epoch_rows(20, 8, 3, epoch) for epoch in (0, 0, 1))
    assert [rows.tolist() for rows in first] == [rows.tolist() for rows in again]
    assert np.concatenate(first).tolist() != np.concatenate(second).tolist()
    assert sorted(np.concatenate(first).tolist()) == list(range(20))


def test_last_batch_of_one_row_is_left_out() -> None:
    assert [len(rows) for rows in epoch_rows(17, 8, 0, 0)] == [8, 8]
