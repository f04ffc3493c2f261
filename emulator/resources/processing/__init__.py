"""Processing jobs: what a CreateProcessingJob request asks the engine for."""

from emulator.resources.processing.job import PROCESSING, job_id, processing_job

__all__ = ["PROCESSING", "job_id", "processing_job"]
