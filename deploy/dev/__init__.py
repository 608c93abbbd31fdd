"""The development environment: bootstrap, broker, supervisor and the commands behind make."""
