# For fingers that type make: every chore is a command of ./dev, and `./dev help` lists them.
.PHONY: help demo test check bench lock
.DEFAULT_GOAL := help
help demo test check bench lock:
	@./dev $@
