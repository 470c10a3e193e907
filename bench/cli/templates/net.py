"""A network of yours: any nn.Module that maps a batch of images to features or logits."""

from torch import Tensor, nn


class Net(nn.Module):
    """Two convolutions with batch normalisation, then a dense layer with dropout."""

    def __init__(self, width: int = 16, dropout: float = 0.1) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
        )
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(8 * width, 64), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of a batch of images (B, 1, H, W)."""
        out: Tensor = self.head(self.hidden(self.convolutions(x)))
        return out
