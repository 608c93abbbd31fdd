"""Web views: health, metrics, what happened to a reminder. They only read; what changes something goes by Kafka."""
