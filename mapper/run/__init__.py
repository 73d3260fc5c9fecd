"""Plans, tasks, executors, and the loop that turns a plan into commits."""
