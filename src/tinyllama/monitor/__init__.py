"""What the models of a family are doing, read from the files that training writes; training is not asked."""

from tinyllama.monitor.status import FamilyMonitor, FamilyStatus, ModelStatus, open_monitor

__all__ = ["FamilyMonitor", "FamilyStatus", "ModelStatus", "open_monitor"]
