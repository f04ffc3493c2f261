"""The docker runtime: one container an instance, one bridge network a workload."""
