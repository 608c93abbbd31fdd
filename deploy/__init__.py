"""What runs the service: the development environment and the files for operators."""
