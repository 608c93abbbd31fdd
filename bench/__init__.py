"""The figures: what the service does on this machine, against references taken in the same run."""
