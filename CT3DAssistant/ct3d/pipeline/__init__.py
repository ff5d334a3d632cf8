"""One file per task; each has run(params, job) → result, found by name in protocol.tasks.TASKS."""
