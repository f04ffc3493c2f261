"""The process in front: it accepts connections, serves S3, and passes all else to the emulator."""
