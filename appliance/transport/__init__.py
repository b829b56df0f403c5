"""Links between front ends and workers, and the bus between the supervisor and its children."""
