"""PyTorch Lightning on several instances.

Under torchrun Lightning finds rank and world size by itself; it must only be told how many nodes
and devices there are.
"""

import argparse
import json
import os
import sys

import lightning
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Digits(lightning.LightningModule):
    def __init__(self, learning_rate):
        super().__init__()
        self.learning_rate = learning_rate
        self.model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def training_step(self, batch, _):
        images, labels = batch
        return nn.functional.cross_entropy(self.model(images), labels)

    def validation_step(self, batch, _):
        images, labels = batch
        accuracy = (self.model(images).argmax(1) == labels).float().mean()
        self.log("accuracy", accuracy, sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


class PrintAccuracy(lightning.Callback):
    """One line an epoch, for the metric definitions of the job."""

    def on_validation_epoch_end(self, trainer, _):
        if trainer.is_global_zero and not trainer.sanity_checking:
            accuracy = trainer.callback_metrics["accuracy"].item()
            print(f"epoch={trainer.current_epoch} test_accuracy={accuracy:.4f};", flush=True)


def load(folder, name, batch_size, shuffle):
    table = np.loadtxt(os.path.join(folder, name), delimiter=",", dtype=np.float32)
    data = TensorDataset(torch.from_numpy(table[:, 1:] / 16), torch.from_numpy(table[:, 0]).long())
    return DataLoader(data, batch_size=batch_size, shuffle=shuffle)


def train(args):
    lightning.seed_everything(args.seed)
    trainer = lightning.Trainer(
        max_epochs=args.epochs,
        num_nodes=len(args.hosts),
        devices=max(1, args.num_gpus),
        accelerator="gpu" if args.num_gpus else "cpu",
        strategy="ddp",
        callbacks=[PrintAccuracy()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=args.output_data_dir,
    )
    trainer.fit(
        Digits(args.learning_rate),
        load(args.train, "train.csv", args.batch_size, shuffle=True),
        load(args.test, "test.csv", args.batch_size, shuffle=False),
    )
    print(f"rank {trainer.global_rank} of {trainer.world_size}", flush=True)
    if trainer.is_global_zero:
        model = trainer.lightning_module.model
        torch.save(model.state_dict(), os.path.join(args.model_dir, "model.pth"))
    trainer.strategy.barrier()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hosts", type=json.loads, default=os.environ.get("SM_HOSTS"))
    parser.add_argument("--num-gpus", type=int, default=os.environ.get("SM_NUM_GPUS", 0))
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR"))
    parser.add_argument("--output-data-dir", default=os.environ.get("SM_OUTPUT_DATA_DIR"))
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--test", default=os.environ.get("SM_CHANNEL_TEST"))
    train(parser.parse_args())
    # Gloo's threads outlive the group; one that wakes while the interpreter ends would abort it.
    sys.stdout.flush()
    os._exit(0)
