"""From a verified request to an entry in a stream: appends, the spool, back-pressure, replays."""
