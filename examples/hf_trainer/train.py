"""The Trainer of Hugging Face transformers under torchrun, with a model of one's own.

The Trainer takes any module that returns its loss, and finds rank and world size in the variables
that torchrun sets.
"""

import argparse
import os
import sys

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from transformers import Trainer, TrainingArguments


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, pixels, labels):
        logits = self.layers(pixels)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Digits(torch.utils.data.Dataset):
    def __init__(self, folder, name):
        table = np.loadtxt(os.path.join(folder, name), delimiter=",", dtype=np.float32)
        self.pixels = torch.from_numpy(table[:, 1:] / 16)
        self.labels = torch.from_numpy(table[:, 0]).long()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"pixels": self.pixels[index], "labels": self.labels[index]}


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


def train(args):
    trainer = Trainer(
        model=Classifier(),
        args=TrainingArguments(
            output_dir=args.checkpoints,
            # Without it, processes without a GPU do not know of each other.
            use_cpu=not torch.cuda.is_available(),
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            logging_strategy="epoch",
            report_to="none",
            disable_tqdm=True,
            seed=args.seed,
        ),
        train_dataset=Digits(args.train, "train.csv"),
        eval_dataset=Digits(args.test, "test.csv"),
        compute_metrics=accuracy,
    )
    saved = os.path.isdir(args.checkpoints) and any(
        name.startswith("checkpoint-") for name in os.listdir(args.checkpoints)
    )
    # A job that was interrupted, or a second one with the same S3 prefix, goes on.
    trainer.train(resume_from_checkpoint=True if saved else None)
    print(f"test_accuracy={trainer.evaluate()['eval_accuracy']:.4f};", flush=True)
    if trainer.is_world_process_zero():
        trainer.save_model(args.model_dir)
    if dist.is_initialized():
        dist.barrier()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoints", default="/opt/ml/checkpoints")
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR"))
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--test", default=os.environ.get("SM_CHANNEL_TEST"))
    train(parser.parse_args())
    # Gloo's threads outlive the group; one that wakes while the interpreter ends would abort it.
    sys.stdout.flush()
    os._exit(0)
