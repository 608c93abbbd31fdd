"""The console: pages for operators, made on the server, on every core worker. It is a client of the interface: what a
token may not do by HTTP it cannot do here."""
