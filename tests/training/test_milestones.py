import math

from danq_keras.training.milestones import is_replication, milestone


def test_only_danq_on_all_of_deepseas_samples_has_milestones():
    assert is_replication("danq", 4_400_000)
    assert not is_replication("danq-fitted", 4_400_000)
    assert not is_replication("danq", 4_399_998)


def test_the_tenth_epoch_and_the_end_are_told():
    rows = [
        milestone({"epoch": n, "val_loss": 0.06}, best_loss=0.053, finished=False)
        for n in range(1, 15)
    ]
    assert [n for n, line in enumerate(rows, 1) if line is not None] == [10]
    assert "0.0530 by epoch 10" in rows[9]
    assert rows[9].endswith("This run is on its way.")
    late = milestone({"epoch": 10, "val_loss": 0.06}, best_loss=0.0536, finished=False)
    assert late.endswith("This run is not on its way to the paper's figures.")
    lost = milestone({"epoch": 10, "val_loss": math.nan}, best_loss=math.inf, finished=False)
    assert "not on its way" in lost
    end = milestone({"epoch": 13, "val_loss": 0.06}, best_loss=0.04951, finished=True)
    assert "0.0495" in end
    assert "0.371" in end
