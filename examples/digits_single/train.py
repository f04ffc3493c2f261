"""One instance, plain script mode: how the SageMaker SDK's documentation writes a script."""

import argparse
import os

import numpy as np
import torch
from sklearn.metrics import classification_report
from torch import nn


def load(folder, name):
    table = np.loadtxt(os.path.join(folder, name), delimiter=",", dtype=np.float32)
    return torch.from_numpy(table[:, 1:] / 16), torch.from_numpy(table[:, 0]).long()


def train(args):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    images, labels = load(args.train, "train.csv")
    test_images, test_labels = load(args.test, "test.csv")
    model = nn.Sequential(nn.Linear(64, args.hidden), nn.ReLU(), nn.Linear(args.hidden, 10))
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate)

    for epoch in range(1, args.epochs + 1):
        model.train()
        for batch in torch.randperm(len(images)).split(args.batch_size):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(
                model(images[batch].to(device)), labels[batch].to(device)
            )
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            predicted = model(test_images.to(device)).argmax(1).cpu()
        accuracy = (predicted == test_labels).float().mean().item()
        print(f"epoch={epoch} loss={loss.item():.4f} test_accuracy={accuracy:.4f};", flush=True)

    with open(os.path.join(args.output_data_dir, "report.txt"), "w") as report:
        report.write(classification_report(test_labels, predicted))
    with open(os.path.join(args.model_dir, "model.pth"), "wb") as file:
        torch.save(model.cpu().state_dict(), file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.005)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model-dir", type=str, default=os.environ.get("SM_MODEL_DIR"))
    parser.add_argument("--output-data-dir", type=str, default=os.environ.get("SM_OUTPUT_DATA_DIR"))
    parser.add_argument("--train", type=str, default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--test", type=str, default=os.environ.get("SM_CHANNEL_TEST"))
    train(parser.parse_args())
