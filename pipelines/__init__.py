"""Ray programs, one per verb, each runnable alone and with `ray job submit`."""
