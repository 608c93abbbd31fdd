"""The application: configuration, composition, command line, web views. Nothing imports it."""

import zoneinfo

# The tzdata package is pinned and current; the system's zone files may be years old, and Python would look there first.
zoneinfo.reset_tzpath(to=())
