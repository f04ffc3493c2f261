-- Which instance wrote a value that was found in a job's output; NULL for all other values.
ALTER TABLE sample ADD COLUMN source TEXT;
