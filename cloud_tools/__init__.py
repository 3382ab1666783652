"""The engineer's command line: makes data sets, trains, publishes and serves. Refuses to run on a device."""
