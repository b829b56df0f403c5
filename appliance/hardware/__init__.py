"""What this machine is made of: GPUs and their driver, CPU, memory, disk. Facts only; others decide."""
