"""Resource kinds as plain data: manifests, the graph and its rules, and what a graph asks a box to run."""
