"""Training jobs: what a CreateTrainingJob request asks the engine for."""

from emulator.resources.training.job import TRAINING, job_id, training_job

__all__ = ["TRAINING", "job_id", "training_job"]
