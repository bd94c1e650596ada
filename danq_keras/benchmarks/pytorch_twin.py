"""DanQ and DeepSEA's network once more, in PyTorch: a yardstick for speed, not a model to use."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from danq_keras.genome.dna import onehot_from_codes
from danq_keras.recipes.config import ModelConfig, Preset

_AUTOCAST = {"mixed_bfloat16": torch.bfloat16, "mixed_float16": torch.float16}


class DanQ(nn.Module):  # type: ignore[misc]
    """(N, 4, L) one-hot → (N, T) logits."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert isinstance(config.filters, int)
        self.conv = nn.Conv1d(4, config.filters, config.kernel_size)
        self.pool = nn.MaxPool1d(config.pool_size)
        self.drop_pool = nn.Dropout(0.2)
        self.lstm = nn.LSTM(
            config.filters,
            config.lstm_units,
            config.lstm_layers,
            batch_first=True,
            bidirectional=True,
        )
        self.drop_lstm = nn.Dropout(0.5)
        flat = config.pooled_length() * 2 * config.lstm_units
        self.head = _head(flat, config)

    def forward(self, onehot: torch.Tensor) -> torch.Tensor:
        """Logits of a batch."""
        hidden = self.drop_pool(self.pool(torch.relu(self.conv(onehot))))
        hidden, _ = self.lstm(hidden.transpose(1, 2))
        logits: torch.Tensor = self.head(self.drop_lstm(hidden))
        return logits


def _head(flat: int, config: ModelConfig) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(flat, config.dense_units),
        nn.ReLU(),
        nn.Linear(config.dense_units, config.n_targets),
    )


def _deepsea(config: ModelConfig) -> nn.Module:
    assert isinstance(config.filters, tuple)
    blocks: list[nn.Module] = []
    channels = 4
    for number, filters in enumerate(config.filters):
        blocks += [nn.Conv1d(channels, filters, config.kernel_size), nn.ReLU()]
        if number < len(config.filters) - 1:
            blocks += [nn.MaxPool1d(config.pool_size), nn.Dropout(0.2)]
        channels = filters
    return nn.Sequential(*blocks, nn.Dropout(0.5), _head(config.pooled_length() * channels, config))


def make_step(preset: Preset, sequence: Any, labels: Any) -> Callable[[], float]:
    """A function that takes one RMSprop step on a batch and returns its loss.

    Args:
        preset: network, precision, RMSprop's numbers.
        sequence: (B, L) uint8 codes.
        labels: (B, T) float32, 0 or 1, the labels of the windows.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = DanQ(preset.model) if isinstance(preset.model.filters, int) else _deepsea(preset.model)
    model = model.to(device)
    parameters = list(model.parameters())
    means = [torch.zeros_like(parameter) for parameter in parameters]
    onehot = torch.tensor(onehot_from_codes(sequence).transpose(0, 2, 1), dtype=torch.float32)
    onehot, target = onehot.to(device), torch.tensor(labels).to(device)
    dtype = _AUTOCAST.get(preset.train.precision)
    rho, rate = preset.train.rho or 0.9, preset.train.learning_rate
    epsilon = preset.train.epsilon or 1e-6

    def step() -> float:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            logits = model(onehot)
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), target)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():  # PyTorch's RMSprop puts epsilon outside the root
            torch._foreach_mul_(means, rho)
            torch._foreach_addcmul_(means, gradients, gradients, 1 - rho)
            roots = torch._foreach_sqrt(torch._foreach_add(means, epsilon))
            torch._foreach_addcdiv_(parameters, gradients, roots, -rate)
        return float(loss.detach())

    return step
