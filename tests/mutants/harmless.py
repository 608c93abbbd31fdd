"""Mutants that change nothing that anybody could see, by name, with the reason. They count as not noticed."""

HARMLESS: dict[str, str] = {
    "tables/caps.py: inside = sorted(t for t in at if t > now_ms - window_ms): "
    "t > now_ms - window_ms -> t >= now_ms - window_ms": "what is a whole window old makes room now, either way",
    "tables/crontab.py: return CronSim(expression, datetime(2000, 1, 1))  # noqa: DTZ001 - only whether it can be read: "
    "2000 -> 2001": "whether an expression can be read is the same on any day",
    "tables/crontab.py: return CronSim(expression, datetime(2000, 1, 1))  # noqa: DTZ001 - only whether it can be read: "
    "1 -> 2": "whether an expression can be read is the same on any day",
    "tables/insist.py: return False: return False -> return None": "whoever asks wants to know whether it is true",
    "tables/crontab.py: check(expression): check(expression) -> pass": "what is asked for times was checked at intake",
}
