"""The local cloud: the service's own template deployed into an AWS emulator on this machine, without an account."""
