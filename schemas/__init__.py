"""The wire contract: Avro schemas, closed names, frozen records, identifiers and the codec. Imports none of our
packages."""
