-- The runtime that a training job was accepted for: chosen once, before anything of it starts.
ALTER TABLE training_job ADD COLUMN runtime TEXT;         -- its name; NULL in jobs of earlier versions
ALTER TABLE training_job ADD COLUMN runtime_reason TEXT;  -- why that one, for the job's log
