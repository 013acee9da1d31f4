from pathlib import Path

import torch


def load_model():
    model = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    model.load_state_dict(torch.load(Path(__file__).with_name("model.pt")))
    return model.eval()


def predict(data, model=load_model()):
    with torch.no_grad():
        return {"prediction": torch.sigmoid(model(torch.tensor(data["rows"])).squeeze(1))}
