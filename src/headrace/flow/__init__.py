"""The six steps and what belongs to them: one file a verb. A step takes ports, returns its record, never prints."""
