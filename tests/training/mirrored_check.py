"""Two replicas share a batch and take the same steps as one device.

Clipping, the scores of restudy and a frozen convolution included.
"""

import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
import tiny

from danq_keras.training.pipeline import Order, epoch_batches
from danq_keras.training.step import TrainingStep


def main() -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    with tempfile.TemporaryDirectory() as folder:
        data = tiny.make_dataset(Path(folder) / "tiny", ignore=True)
        results = [steps_and_weights(data, distribute) for distribute in ("none", "mirrored")]
        masks_differ()
    (one, one_weights), (two, two_weights) = results
    assert [len(result) for result in two] == [14] * 8 + [10]  # four figures, a score a sample
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5)
    assert any(result[3] for result in one)
    for a, b in zip(one_weights, two_weights, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5)


def masks_differ():
    """Each replica drops other units, as many; replica 0 those of one device."""
    masks = {}
    for distribute in ("none", "mirrored"):
        config = tiny.preset(distribute=distribute, dropout_pool=0.3)
        step = TrainingStep(config.model, config.train)
        dropout = next(layer for layer in step.model.layers if hasattr(layer, "seed_generator"))
        ones = tf.ones((200, *dropout.input.shape[1:]))
        drawn = step.strategy.run(lambda dropout=dropout, ones=ones: dropout(ones, training=True))
        masks[distribute] = [
            each.numpy() > 0 for each in step.strategy.experimental_local_results(drawn)
        ]
    first, second = masks["mirrored"]
    np.testing.assert_array_equal(first, masks["none"][0])
    assert 0.3 < (first != second).mean() < 0.54  # 2 · 0.3 · 0.7 of independent masks
    np.testing.assert_allclose([first.mean(), second.mean()], 0.7, atol=0.03)


def steps_and_weights(data, distribute):
    config = tiny.preset(
        distribute=distribute,
        dropout_pool=0.0,
        dropout_lstm=0.0,
        global_clipnorm=0.3,
        restudy=0.2,
    )
    step = TrainingStep(config.model, config.train)
    print("replicas:", step.replicas)
    order = Order.of(data.train, seed=0)
    batches = epoch_batches(data.train, order, 0, batch_size=10, replicas=step.replicas)
    if step.replicas > 1:
        local = batches
        batches = step.strategy.distribute_datasets_from_function(lambda _: local)
    start = step.model.get_layer("conv").get_weights()[0]
    results = []
    for number, batch in enumerate(batches):
        step.freeze_convolutions(number < 3)
        results.append(step(batch).numpy())
        moved = not np.array_equal(start, step.model.get_layer("conv").get_weights()[0])
        assert moved == (number >= 3)
    return results, step.model.get_weights()


if __name__ == "__main__":
    main()
