"""As for scikit-learn; the data are made up: a nonlinear border through three dimensions."""

import json
import sys
from pathlib import Path

import torch

torch.manual_seed(0)
x = torch.randn(600, 3)
y = (x[:, 0] * x[:, 1] + x[:, 2] > 0).float()
model = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(150):
    optimizer.zero_grad()
    torch.nn.functional.binary_cross_entropy_with_logits(
        model(x[:400]).squeeze(1), y[:400]
    ).backward()
    optimizer.step()
torch.save(model.state_dict(), Path(sys.argv[1]) / "model.pt")
with torch.no_grad():
    expected = torch.sigmoid(model(x[400:]).squeeze(1))
print(json.dumps({"rows": x[400:].tolist(), "expected": expected.tolist()}))
