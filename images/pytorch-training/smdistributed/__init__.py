"""Stands in for AWS's proprietary package, so that scripts written for SMDDP run unchanged."""
